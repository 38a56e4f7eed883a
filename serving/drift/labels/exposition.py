"""What /metrics shows of the label book."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

MEASURES = {
    "accuracy": "Share of recent labelled rows whose decision was right",
    "miss_rate": "Share of recent positives that were not flagged",
    "false_alarm_rate": "Share of recent negatives that were flagged",
    "precision": "Share of recent flagged rows that were positive",
    "average_precision": "Average precision of the score over recent labelled rows",
    "calibration_error": "Distance of mean score and rate of positives, by deciles of the score",
}


def label_metrics(told: Mapping[str, Any], arm: str) -> Iterator[Metric]:
    """`told` is what the book's status says.

    seatrial_labels_total{arm,age_days,outcome} is what the gate compares arms by.
    """
    labels = CounterMetricFamily(
        "seatrial_labels",
        "Labels by age of their prediction in days, and whether its decision was right",
        labels=["arm", "age_days", "outcome"],
    )
    for age, outcome, number in told["counts"]:
        labels.add_metric([arm, str(age), outcome], number)
    yield labels
    for name, text in MEASURES.items():
        if told["measured"][name] is not None:
            gauge = GaugeMetricFamily(f"seatrial_performance_{name}", text, labels=["arm"])
            gauge.add_metric([arm], told["measured"][name])
            yield gauge
    yield GaugeMetricFamily(
        "seatrial_labels_waiting_predictions", "Predictions without a label", told["waiting"]
    )
    yield CounterMetricFamily(
        "seatrial_labels_unknown", "Labels that found no prediction", told["unknown"]
    )
    yield GaugeMetricFamily(
        "seatrial_performance_degraded", "1 while labels say so", float(told["degraded"])
    )
    if told["evidence"] is not None:
        yield GaugeMetricFamily(
            "seatrial_performance_evidence",
            "Log evidence that performance is below the bundle's own",
            told["evidence"],
        )
