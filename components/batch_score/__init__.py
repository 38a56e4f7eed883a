"""Scores a Parquet table with a bundle, shard by shard, as the predictor would."""
