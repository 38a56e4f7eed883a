"""The pipeline component; the work is in core.py, which the image has installed."""

from kfp import dsl
from kfp.dsl import Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="seatrial/pipelines:0.1.0", install_kfp_package=False)  # type: ignore[untyped-decorator]
def train(
    *,
    checked: Input[Dataset],
    network: Output[Model],
    learning: Output[Metrics],
    epochs: int = 10,
    patience: int = 3,
    learning_rate: float = 0.004,
    seed: int = 0,
) -> None:
    """Trains the network on a checked table.

    Args:
        checked: folder that the validate step wrote.
        network: folder that gets the network and its learning curve.
        learning: where training stopped, for the user interface.
        epochs: most passes over the training rows.
        patience: passes without a better validation loss after which training stops.
        learning_rate: largest step size; it falls to zero along a cosine.
        seed: seed of the weights and of the order of rows.
    """
    from pathlib import Path

    from components.train.core import run

    training = run(
        checked=Path(checked.path),
        network=Path(network.path),
        epochs=epochs,
        patience=patience,
        learning_rate=learning_rate,
        seed=seed,
    )
    network.framework = "pytorch"
    learning.log_metric("best_epoch", training["best_epoch"])
    learning.log_metric("validation_loss", training["validation_loss"])
