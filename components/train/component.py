"""The pipeline component; the work is in core.py, which the image has installed."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="seatrial/pipelines:0.1.0", install_kfp_package=False)  # type: ignore[untyped-decorator]
def train(
    *,
    checked: Input[Dataset],
    network: Output[Model],
    curves: Output[HTML],
    learning: Output[Metrics],
    family: str = "auto",
    epochs: int = 10,
    patience: int = 3,
    learning_rate: float = 0.004,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    calibration: str = "auto",
    refit_all: bool = True,
    checkpoints: str = "",
    trials: int = 0,
    folds: int = 3,
    tuned: list[str] = [],  # noqa: B006 - kfp reads the default, no one changes it
) -> None:
    """Trains network, trees and logistic regression and keeps the best.

    Args:
        checked: folder that the validate step wrote.
        network: folder that gets the model of whichever family was best, and the plain ones.
        curves: the learning curve and the candidates, for the user interface.
        learning: where training stopped and what each candidate reached, for the user interface.
        family: auto compares all; network, tree or logistic trains that one only.
        epochs: most passes of the network over the training rows.
        patience: passes without a better validation loss after which training stops.
        learning_rate: the network's largest step size; it falls to zero along a cosine.
        seed: seed of the weights and of the order of rows.
        device: auto, cpu or cuda; auto is CUDA where there is one.
        precision: auto, float32 or bfloat16; auto is bfloat16 on CUDA.
        calibration: auto, platt or isotonic; auto takes isotonic where there are enough positives.
        refit_all: fit the best once more, on all rows before the test slice.
        checkpoints: folder or s3:// URI for a checkpoint after every epoch; empty for none.
        trials: settings to try over time folds before training; 0 for none.
        folds: time folds that each trial is judged on.
        tuned: what trial steps returned, each as JSON; empty for the default settings.
    """
    from pathlib import Path

    from components.train.core import run

    training = run(
        checked=Path(checked.path),
        network=Path(network.path),
        curves=Path(curves.path),
        family=family,
        epochs=epochs,
        patience=patience,
        learning_rate=learning_rate,
        seed=seed,
        device=device,
        precision=precision,
        calibration=calibration,
        refit_all=refit_all,
        checkpoints=checkpoints,
        trials=trials,
        folds=folds,
        tuned=f"[{','.join(tuned)}]" if tuned else "",
    )
    network.metadata["family"] = training["family"]
    for name in ("best_epoch", "validation_loss"):
        if training[name] is not None:
            learning.log_metric(name, training[name])
    for candidate in training["candidates"]:
        for name in ("average_precision", "roc_auc"):
            learning.log_metric(f"{candidate['family']}_{name}", candidate[name])
