"""The pipeline component; the work is in core.py, which the image has installed."""

from kfp import dsl
from kfp.dsl import Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="seatrial/pipelines:0.1.0", install_kfp_package=False)  # type: ignore[untyped-decorator]
def evaluate(
    *,
    checked: Input[Dataset],
    model: Input[Model],
    evaluation: Output[Artifact],
    scored: Output[Dataset],
    quality: Output[Metrics],
    roc: Output[ClassificationMetrics],
    draws: int = 200,
    seed: int = 0,
) -> None:
    """Measures the ONNX model on the test slice.

    Args:
        checked: folder that the validate step wrote.
        model: folder that the export step wrote.
        evaluation: folder that gets metrics.json.
        scored: .npz of the held-out rows with their score, for the drift step.
        quality: the measures, for the user interface.
        roc: the ROC curve, for the user interface.
        draws: bootstrap resamples behind each interval.
        seed: seed of the resamples.
    """
    from pathlib import Path

    from components.evaluate.core import run

    metrics = run(
        checked=Path(checked.path),
        model=Path(model.path),
        evaluation=Path(evaluation.path),
        scored=Path(scored.path),
        draws=draws,
        seed=seed,
    )
    for name, value in metrics["metrics"].items():
        quality.log_metric(name, value)
    for name in ("roc_auc", "average_precision"):
        quality.log_metric(f"baseline_{name}", metrics["baseline"][name])
    false_positive_rates, true_positive_rates = zip(*metrics["curves"]["roc"], strict=True)
    roc.log_roc_curve(
        list(false_positive_rates), list(true_positive_rates), metrics["roc_thresholds"]
    )
