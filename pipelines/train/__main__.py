"""python -m pipelines.train: compiles the pipeline into train.yaml."""

from pipelines.train.pipeline import COMPILED, compile_to

compile_to(COMPILED)
