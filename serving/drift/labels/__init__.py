"""What predictions turned out to be: labels joined by inference id, performance, concept drift."""

from serving.drift.labels.baseline import Baseline
from serving.drift.labels.book import Degraded, LabelBook, LabelSettings
from serving.drift.labels.exposition import label_metrics
from serving.drift.labels.reading import LABELS, Labels, labels_of, read_labels

__all__ = [
    "LABELS",
    "Baseline",
    "Degraded",
    "LabelBook",
    "LabelSettings",
    "Labels",
    "label_metrics",
    "labels_of",
    "read_labels",
]
