"""A bundle's label book: how its settings and its baseline are found."""

from __future__ import annotations

import logging

from serving.drift.introduction import Introduction
from serving.drift.labels import Baseline, LabelBook, LabelSettings
from serving.drift.settings import Settings
from serving.errors import DataError

logger = logging.getLogger("seatrial.drift")

DAY = 86_400.0


def label_book(known: Introduction, settings: Settings) -> LabelBook | None:
    """None where labels are off. Without metrics labels are joined, and nothing is judged."""
    if not settings.label_rows:
        return None
    baseline = None
    if known.metrics:
        try:
            baseline = Baseline.of(known.metrics)
        except DataError as error:
            logger.info("%s", error)
    return LabelBook(
        LabelSettings(
            rows=settings.label_rows,
            ttl=settings.label_days * DAY,
            complete=settings.label_classes == "all",
            review=known.contract.decision.review,
        ),
        baseline,
    )
