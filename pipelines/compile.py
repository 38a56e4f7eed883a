"""python -m pipelines.compile: writes the IR of every pipeline, which a cluster runs."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from kfp import compiler

ROOT = Path(__file__).resolve().parent


def names() -> list[str]:
    """The packages that hold a pipeline."""
    return sorted(file.parent.name for file in ROOT.glob("*/pipeline.py"))


def compile_to(folder: Path, package: str) -> Path:
    """Writes one pipeline's IR into `folder`, named as the pipeline is."""
    pipeline = import_module(f"pipelines.{package}.pipeline").PIPELINE
    file = folder / f"{pipeline.name}.yaml"
    compiler.Compiler().compile(pipeline, str(file))
    return file


def main(arguments: list[str] | None = None) -> int:
    argparse.ArgumentParser(prog="python -m pipelines.compile", description=__doc__).parse_args(
        arguments
    )
    for package in names():
        file = compile_to(ROOT / package, package)
        sys.stdout.write(f"{file.relative_to(ROOT.parent)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
