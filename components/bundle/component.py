"""The pipeline component; the work is in core.py, which the image has installed."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output


@dsl.component(base_image="seatrial/pipelines:0.1.0", install_kfp_package=False)  # type: ignore[untyped-decorator]
def bundle(
    *,
    checked: Input[Dataset],
    network: Input[Model],
    model: Input[Model],
    evaluation: Input[Artifact],
    drift: Input[Artifact],
    card: Output[dsl.Markdown],
    out: str,
    parent: str = "",
    run_id: str = "",
) -> str:
    """Writes the bundle folder and returns its path or URI.

    Args:
        checked: folder that the validate step wrote.
        network: folder that the train step wrote.
        model: folder that the export step wrote.
        evaluation: folder that the evaluate step wrote.
        drift: folder that the fit_drift step wrote.
        card: the model card, for the user interface.
        out: folder (a path, a volume's mount) or s3://BUCKET/PREFIX that gets the bundle's folder.
        parent: digest of the bundle that this one succeeds; empty for the first.
        run_id: name of the run, kept beside the bundle and not in it.
    """
    from pathlib import Path

    from components.bundle.core import run

    written = run(
        checked=Path(checked.path),
        network=Path(network.path),
        model=Path(model.path),
        evaluation=Path(evaluation.path),
        drift=Path(drift.path),
        out=out,
        card=Path(card.path),
        parent=parent,
        run_id=run_id,
    )
    path: str = written["path"]
    return path
