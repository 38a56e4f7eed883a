"""The pipeline component; the work is in core.py, which the image has installed."""

from kfp import dsl
from kfp.dsl import Dataset, Input


@dsl.component(base_image="seatrial/pipelines:0.1.0", install_kfp_package=False)  # type: ignore[untyped-decorator]
def trial(
    *,
    checked: Input[Dataset],
    number: int,
    family: str = "auto",
    epochs: int = 10,
    folds: int = 3,
    seed: int = 0,
) -> str:
    """Draws the settings of one trial and judges them on time folds; its JSON is for train's tuned.

    Args:
        checked: folder that the validate step wrote.
        number: which trial of the search this is; each draws settings of its own.
        family: auto draws one too; network or tree tries that one only.
        epochs: most passes of the network over the rows of a fold.
        folds: time folds that the trial is judged on.
        seed: seed of the search; equal seeds and numbers try equal settings.
    """
    import json
    from pathlib import Path

    from components.trial.core import run

    result = run(
        checked=Path(checked.path),
        number=number,
        family=family,
        epochs=epochs,
        folds=folds,
        seed=seed,
    )
    return json.dumps(result)
