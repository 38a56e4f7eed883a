"""The pipeline component; the work is in core.py, which the image has installed."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output


@dsl.component(base_image="seatrial/pipelines:0.1.0", install_kfp_package=False)  # type: ignore[untyped-decorator]
def export(*, checked: Input[Dataset], network: Input[Model], model: Output[Model]) -> None:
    """Exports the network to ONNX and compares the two on held-out rows.

    Args:
        checked: folder that the validate step wrote.
        network: folder that the train step wrote.
        model: folder that gets model.onnx and its golden rows.
    """
    from pathlib import Path

    from components.export.core import run

    parity = run(checked=Path(checked.path), network=Path(network.path), model=Path(model.path))
    model.framework = "onnx"
    model.metadata["largest_difference"] = parity["largest_difference"]
