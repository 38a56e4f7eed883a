"""Turns a table of any size into typed Parquet in time order."""
