"""Label-only concept drift: `python -m benchmarks.drift.concept --write`.

How many labelled rows until it is found, and how often falsely. Scores keep their distribution;
only what becomes of the rows changes, so nothing but labels can tell. Reference seeds (the bundle's
test rows) and stream seeds never meet.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from serving.drift.labels.baseline import Baseline, log_odds
from serving.drift.labels.evidence import Evidence

Floats = NDArray[np.float64]
Truth = Callable[[Floats], Floats]
REVIEW = 0.1
"""Flags 1.7 % of the rows, one in five of them rightly."""
RUN_LENGTH = 1_000_000
TEST_ROWS = 40_000
BEFORE, AFTER = 20_000, 40_000
KEPT = 1.2162
"""By which the positives among rows that are not flagged grow when half of the flagged ones are
none and their number stays."""
REFERENCE_SEEDS = 1_000_000
"""Added to a stream's seed for its reference."""
BLOCK = 256


@dataclass(frozen=True)
class Concept:
    """What changes: the probability of a positive, given the score."""

    name: str
    truth: Truth


CONCEPTS: Sequence[Concept] = (
    Concept("odds of a positive x 2 at every score", lambda s: _tilted(s, 2.0)),
    Concept("odds of a positive x 4 at every score", lambda s: _tilted(s, 4.0)),
    Concept("3 % of what looks harmless is positive", lambda s: np.where(s < 0.05, s + 0.03, s)),
    Concept("half of the flagged positives are none", lambda s: np.where(s >= REVIEW, s / 2, s)),
    Concept(
        "the same, and as many positives in all",
        lambda s: np.where(s >= REVIEW, s / 2, s * KEPT),
    ),
)


@dataclass(frozen=True)
class Delays:
    """Of one concept over all streams."""

    concept: str
    streams: int
    delays: tuple[int, ...]
    """Labelled rows from the change to its finding, of the streams where it was found."""
    missed: int
    false: int
    """Streams with a finding before the change."""


def concept_delays(
    streams: int,
    *,
    average_run_length: float = RUN_LENGTH,
    test_rows: int = TEST_ROWS,
    before: int = BEFORE,
    after: int = AFTER,
    concepts: Sequence[Concept] = CONCEPTS,
) -> list[Delays]:
    """Plays every concept on `streams` streams: `before` clean labelled rows, then `after`."""
    bar = float(np.log(average_run_length))
    found = []
    for concept in concepts:
        delays: list[int] = []
        missed = false = 0
        for seed in range(streams):
            evidence = Evidence(_baseline(REFERENCE_SEEDS + seed, test_rows))
            random = np.random.default_rng(seed)
            if _play(evidence, random, before, lambda s: s, bar) is not None:
                false += 1
                evidence.restart()
            delay = _play(evidence, random, after, concept.truth, bar)
            if delay is None:
                missed += 1
            else:
                delays.append(delay)
        found.append(Delays(concept.name, streams, tuple(delays), missed, false))
    return found


def _play(
    evidence: Evidence, random: np.random.Generator, rows: int, truth: Truth, bar: float
) -> int | None:
    for start in range(0, rows, BLOCK):
        score = _scores(random, min(BLOCK, rows - start))
        positive = random.random(len(score)) < truth(score)
        crossed = evidence.observe(score, score >= REVIEW, positive, bar)
        if crossed is not None:
            return start + crossed + 1
    return None


def _baseline(seed: int, rows: int) -> Baseline:
    """What a bundle would have measured of such a model on its test rows."""
    random = np.random.default_rng(seed)
    score = _scores(random, rows)
    positive, flagged = random.random(rows) < score, score >= REVIEW
    groups = np.array_split(np.argsort(score, kind="stable"), 10)
    return Baseline(
        missed=(float((positive & ~flagged).sum()), float(positive.sum())),
        false_alarms=(float((~positive & flagged).sum()), float((~positive).sum())),
        calibration=tuple(
            (float(score[g].mean()), float(positive[g].mean()), float(len(g))) for g in groups
        ),
    )


def _scores(random: np.random.Generator, rows: int) -> Floats:
    """A calibrated score with about 1.5 % positives."""
    return np.asarray(1 / (1 + np.exp(-random.normal(-6.0, 1.8, rows))))


def _tilted(score: Floats, odds: float) -> Floats:
    return np.asarray(1 / (1 + np.exp(-(log_odds(score) + np.log(odds)))))


def _line(found: Delays) -> str:
    ranked = sorted(found.delays)
    middle, late = (f"{median(ranked):,.0f}", f"{ranked[-1]:,}") if ranked else ("", "")
    return (
        f"| {found.concept} | {middle} | {late} | {found.missed} of {found.streams} |"
        f" {found.false} of {found.streams} |"
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift.concept", description=__doc__)
    parser.add_argument("--streams", type=int, default=40, help="streams of each concept")
    parser.add_argument("--write", action="store_true", help="write benchmarks/drift/concept.md")
    given = parser.parse_args(arguments)
    lines = [
        "# Concept drift that only labels show",
        "",
        (
            f"`python -m benchmarks.drift.concept {' '.join(arguments)}`: 1.1 % positives, the"
            f" baseline from {TEST_ROWS:,} test rows; {BEFORE:,} labelled rows as they were, then"
            f" up to {AFTER:,} of the concept. Labelled rows from the change to the finding, at an"
            f" average run length of {RUN_LENGTH:,} labelled rows."
        ),
        "",
        "| what changes | median | longest | missed | found before it changed |",
        "|---|---|---|---|---|",
        *map(_line, concept_delays(given.streams)),
    ]
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if given.write:
        Path(__file__).with_name("concept.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
