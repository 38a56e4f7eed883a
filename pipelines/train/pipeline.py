"""validate -> train -> export -> evaluate -> fit_drift -> bundle."""

from pathlib import Path

from kfp import compiler, dsl

from components.bundle.component import bundle
from components.evaluate.component import evaluate
from components.export.component import export
from components.fit_drift.component import fit_drift
from components.train.component import train
from components.validate.component import validate

COMPILED = Path(__file__).with_name("train.yaml")


@dsl.pipeline(name="train", display_name="Train")  # type: ignore[untyped-decorator]
def train_pipeline(  # noqa: PLR0917 - kfp wants them plain
    table: str,
    contract: str,
    out: str,
    parent: str = "",
    seed: int = 0,
    window_from: str = "",
    window_to: str = "",
    test_from: str = "",
    validation_fraction: float = 0.15,
    test_fraction: float = 0.2,
    epochs: int = 10,
    patience: int = 3,
    learning_rate: float = 0.004,
    drift_rows: int = 5000,
    drift_window: int = 500,
) -> str:
    """Trains a model on a table and writes its bundle.

    Args:
        table: CSV or Parquet file, as a path that the first step can read.
        contract: the contract's JSON text.
        out: folder that gets the bundle as a folder of its own.
        parent: digest of the bundle that the new one succeeds; empty for the first.
        seed: seed of every random choice.
        window_from: rows earlier than this time are left out; empty for none.
        window_to: rows from this time on, and labels known only then, are left out; empty for none.
        test_from: time at which the test slice begins; empty for the last test_fraction of rows.
        validation_fraction: share of the rows before the test slice that training stops by.
        test_fraction: share of the rows that the model is judged on.
        epochs: most passes over the training rows.
        patience: passes without a better validation loss after which training stops.
        learning_rate: largest step size; it falls to zero along a cosine.
        drift_rows: rows of the drift reference.
        drift_window: rows in a window that the drift detector tests.

    Returns:
        The path of the bundle's folder.
    """
    checking = validate(
        table=table,
        contract=contract,
        window_from=window_from,
        window_to=window_to,
        test_from=test_from,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
    )
    # The table's path says nothing about its content, so only what follows may come from a cache:
    # it is keyed by the checked rows.
    checking.set_caching_options(False)
    checking.set_display_name("Check the table")
    checked = checking.outputs["checked"]
    training = train(
        checked=checked, epochs=epochs, patience=patience, learning_rate=learning_rate, seed=seed
    )
    training.set_display_name("Train the network")
    exporting = export(checked=checked, network=training.outputs["network"])
    exporting.set_display_name("Export to ONNX")
    model = exporting.outputs["model"]
    evaluating = evaluate(checked=checked, model=model, seed=seed)
    evaluating.set_display_name("Measure the model")
    drift = fit_drift(
        data=evaluating.outputs["scored"],
        contract=contract,
        rows=drift_rows,
        window=drift_window,
        seed=seed,
    )
    drift.set_display_name("Fit the drift reference")
    bundling = bundle(
        checked=checked,
        network=training.outputs["network"],
        model=model,
        evaluation=evaluating.outputs["evaluation"],
        drift=drift.outputs["drift"],
        out=out,
        parent=parent,
        run_id=dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
    )
    bundling.set_caching_options(False)
    bundling.set_display_name("Write the bundle")
    path: str = bundling.outputs["Output"]
    return path


def compile_to(path: Path) -> None:
    """Writes the pipeline's IR, which a cluster runs."""
    compiler.Compiler().compile(train_pipeline, str(path))
