"""The pipeline component; the work is in core.py, which the image has installed."""

from kfp import dsl
from kfp.dsl import HTML, Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output


@dsl.component(base_image="seatrial/pipelines:0.1.0", install_kfp_package=False)  # type: ignore[untyped-decorator]
def evaluate(
    *,
    checked: Input[Dataset],
    model: Input[Model],
    evaluation: Output[Artifact],
    scored: Output[Dataset],
    quality: Output[Metrics],
    roc: Output[ClassificationMetrics],
    at_review: Output[ClassificationMetrics],
    at_decline: Output[ClassificationMetrics],
    report: Output[HTML],
    champion: str = "",
    draws: int = 200,
    seed: int = 0,
) -> None:
    """Measures the ONNX model on the test slice and holds it against the contract's gates.

    Args:
        checked: folder that the validate step wrote.
        model: folder that the export step wrote.
        evaluation: folder that gets metrics.json and report.html.
        scored: .npz of the held-out rows with their score, for the drift step.
        quality: the measures, for the user interface.
        roc: the ROC curve, for the user interface.
        at_review: the confusion matrix of what is reviewed or declined.
        at_decline: the confusion matrix of what is declined.
        report: all measures, curves and what each feature contributes, on one page.
        champion: bundle in production to compare with, a path or s3://…; empty for none.
        draws: bootstrap resamples behind each interval.
        seed: seed of the resamples.
    """
    import shutil
    from pathlib import Path

    from components.evaluate.core import run

    metrics = run(
        checked=Path(checked.path),
        model=Path(model.path),
        evaluation=Path(evaluation.path),
        scored=Path(scored.path),
        champion=champion,
        draws=draws,
        seed=seed,
    )
    shutil.copyfile(Path(evaluation.path) / "report.html", report.path)
    for name, value in metrics["metrics"].items():
        if value is not None:
            quality.log_metric(name, value)
    for rival in metrics["baselines"]:
        for name in ("roc_auc", "average_precision"):
            quality.log_metric(f"{rival['model'].replace(' ', '_')}_{name}", rival["metrics"][name])
    if metrics["champion"] is not None:
        for name, gain in metrics["champion"]["gains"].items():
            if gain["gain"] is not None:
                quality.log_metric(f"{name}_gain_over_champion", gain["gain"])
    false_positive_rates, true_positive_rates = zip(*metrics["curves"]["roc"], strict=True)
    roc.log_roc_curve(
        list(false_positive_rates), list(true_positive_rates), metrics["roc_thresholds"]
    )
    at_review.log_confusion_matrix(
        ["negative or approved", "positive or flagged"], metrics["confusion"]["review"]
    )
    at_decline.log_confusion_matrix(
        ["negative or let through", "positive or declined"], metrics["confusion"]["decline"]
    )
