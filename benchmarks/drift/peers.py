"""Other projects' detectors. River's needs an environment of its own: there
`python -m benchmarks.drift.peers river` writes what it played as JSON to stdout."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.drift.comparison import CLEAN_STREAMS, REPEATS, Detector, Played, play
from benchmarks.drift.streams import CODES, NAMES, NUMBERS, Rows


class Windowed:
    """A statistic of tumbling windows, larger for more drift; alarms where it passes a setting."""

    window: int
    settings: Sequence[float]

    def statistic(self, window: Rows) -> float:
        raise NotImplementedError

    def alarms(self, stream: Rows) -> list[list[int]]:
        ends = range(self.window, len(stream) + 1, self.window)
        found = [(end, self.statistic(stream[end - self.window : end])) for end in ends]
        return [[end for end, value in found if value > setting] for setting in self.settings]


class AlibiTabular(Windowed):
    """TabularDrift of Alibi Detect on all columns, any feature below the p-value, uncorrected.

    Its p-values are computed by serving.drift.ks, which tests show equal to Alibi's, and by the
    function of SciPy's that Alibi calls.
    """

    name = "Alibi Detect TabularDrift, windows of 500, any feature"
    window = 500
    settings = tuple(-np.log10(np.concatenate([[0.05], np.geomspace(0.01, 1e-8, 40)])))
    default = 0

    def fit(self, reference: Rows) -> None:
        from serving.drift.ks import SortedReference  # noqa: PLC0415

        self._numbers = [SortedReference(reference[:, i]) for i in range(NUMBERS)]
        self._counts = [_counts(reference[:, i]) for i in range(NUMBERS, len(NAMES))]

    def statistic(self, window: Rows) -> float:
        from scipy.stats import (  # noqa: PLC0415
            chi2_contingency,
        )

        p_values = []
        for i, number in enumerate(self._numbers):
            # Alibi's p-value of a column with a NaN is NaN, which it takes for no drift.
            if not np.isnan(window[:, i]).any():
                p_values.append(number.test(window[:, i])[0])
        for i, counts in enumerate(self._counts, NUMBERS):
            table = np.vstack([counts, _counts(window[:, i])])
            p_values.append(float(chi2_contingency(table[:, table.any(axis=0)])[1]))
        return float(-np.log10(max(min(p_values), 1e-300)))


def _counts(codes: Rows) -> NDArray[np.int64]:
    """The unseen category first."""
    return np.bincount((codes + 1).astype(np.int64), minlength=CODES + 1).astype(np.int64)


class Evidently(Windowed):
    """The DataDriftPreset of Evidently 0.7 against more than 1,000 reference rows.

    Numbers: Wasserstein distance over the reference's standard deviation; categories:
    Jensen-Shannon distance; both drift from 0.1 on, and the whole from half of the columns on. The
    distances are computed as it does, by SciPy: its report takes seconds a window.
    """

    window = 1000
    default = 0

    def __init__(self, *, share: bool) -> None:
        self._share = share
        self.name = "Evidently's preset, windows of 1,000, " + (
            "half of the columns" if share else "any column"
        )
        self.settings = (0.4999,) if share else (0.1, *np.linspace(0.06, 0.3, 49))

    def fit(self, reference: Rows) -> None:
        self._reference = reference
        self._shares = [_counts(reference[:, i]) for i in range(NUMBERS, len(NAMES))]

    def statistic(self, window: Rows) -> float:
        from scipy.spatial.distance import (  # noqa: PLC0415
            jensenshannon,
        )
        from scipy.stats import wasserstein_distance  # noqa: PLC0415

        found = []
        for i in range(NUMBERS):
            reference, column = self._reference[:, i], window[:, i]
            # It drops missing values.
            distance = wasserstein_distance(reference, column[~np.isnan(column)])
            found.append(distance / reference.std())
        for i, shares in enumerate(self._shares, NUMBERS):
            found.append(jensenshannon(shares, _counts(window[:, i]), base=2))
        return float(np.mean(np.array(found) >= 0.1)) if self._share else float(max(found))


class Adwin:
    """River's ADWIN on every column, any of them; it has no reference and adapts to what comes."""

    name = "River ADWIN on every column"
    settings = (0.002, 3e-4, 1e-4, 3e-5, 1e-5, 1e-6)
    default = 0

    def fit(self, reference: Rows) -> None:
        self._warm = reference[-2000:]

    def alarms(self, stream: Rows) -> list[list[int]]:
        return [self._play(stream, delta) for delta in self.settings]

    def _play(self, stream: Rows, delta: float) -> list[int]:
        from river.drift import ADWIN  # type: ignore[import-not-found]  # noqa: PLC0415

        detectors = [ADWIN(delta=delta) for _ in NAMES]
        found: list[int] = []
        # ADWIN cannot take a NaN.
        rows = np.nan_to_num(np.concatenate([self._warm, stream]))
        for number, row in enumerate(rows.tolist(), 1 - len(self._warm)):
            moved = False
            for detector, value in zip(detectors, row, strict=True):
                detector.update(value)
                moved |= detector.drift_detected
            if moved and number > 0:
                found.append(number)
        return found


PEERS: dict[str, tuple[Callable[[], Detector], int, int]] = {
    "tabular": (AlibiTabular, CLEAN_STREAMS, REPEATS),
    "evidently-share": (lambda: Evidently(share=True), CLEAN_STREAMS // 4, REPEATS // 4),
    "evidently-any": (lambda: Evidently(share=False), CLEAN_STREAMS, REPEATS // 2),
    "river": (Adwin, CLEAN_STREAMS // 2, REPEATS // 2),
}
"""How each is built, how many clean streams it plays and how many of each kind of drift: as many as
its speed allows."""


def played(name: str, seed: int) -> Played:
    build, clean, repeats = PEERS[name]
    detector = build()
    result = play(detector, seed, repeats=repeats, clean=clean)
    result.default = getattr(detector, "default", None)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.drift.peers", description=__doc__)
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    sys.stdout.write(played(args.name, args.seed).to_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
