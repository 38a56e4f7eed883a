"""python -m pipelines.train: compiles the pipeline into train.yaml."""

from pipelines.compile import ROOT, compile_to

compile_to(ROOT / "train", "train")
