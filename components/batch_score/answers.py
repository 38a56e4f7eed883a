"""Answers to a chunk of rows: one each, whatever is wrong with the row.

The same check, graph and policy as online serving; where a request would be refused, the row is
answered with the reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.scoring import model_scores, open_model
from serving.bundle import Bundle, Contract, canonical_columns, check_columns
from serving.bundle.rows import Columns
from serving.errors import BundleError, DataError, InferenceFailed
from serving.policy import UNDECIDED, Decider

GOLDEN_TOLERANCE = 1e-5
REJECTED = -2
"""In outcomes: the row breaks the contract."""
_ROW = re.compile(r"(:)? ?(?:in )?row 0\b")


@dataclass(frozen=True)
class Answers:
    """One entry a row."""

    scores: NDArray[np.float32]
    """NaN where the model was not asked."""
    outcomes: NDArray[np.intp]
    """Positions in the decider's decisions and reasons; REJECTED for rows that are refused."""
    refused: dict[int, str] = field(default_factory=dict)
    """By row: why."""


class Scorer:
    """Scores rows with one bundle. Raises BundleError when it does not give its golden answers."""

    def __init__(self, bundle: Bundle) -> None:
        self.contract = bundle.contract
        self.decider = Decider(bundle.contract)
        self._session = open_model(bundle.read("model.onnx"))
        self._alone: dict[str, Contract] = {}
        golden = bundle.read_json("golden.json")
        scores = self._scores(canonical_columns(self.contract, golden["columns"]))
        if not np.allclose(scores, golden["score"], rtol=0, atol=GOLDEN_TOLERANCE):
            raise BundleError(
                f"{bundle.path}/golden.json: the model does not give the stored answers here; do"
                " not use it, retrain"
            )

    def answer(self, batch: pa.RecordBatch) -> Answers:
        """Raises InferenceFailed when the model gives no probability."""
        raw, refused = self._raw(batch)
        columns, positions = self._typed(raw, np.arange(batch.num_rows), refused)
        scores = np.full(batch.num_rows, np.nan, dtype=np.float32)
        outcomes = np.full(batch.num_rows, REJECTED, dtype=np.intp)
        if len(positions):
            self._check(columns, positions, refused)
            if refused:
                sound = np.fromiter((at not in refused for at in positions.tolist()), dtype=bool)
                positions = positions[sound]
                columns = {name: column[sound] for name, column in columns.items()}
        if len(positions):
            given, decided = self._decide(columns, len(positions))
            scores[positions], outcomes[positions] = given, decided
        return Answers(scores, outcomes, refused)

    def _raw(self, batch: pa.RecordBatch) -> tuple[Columns, dict[int, str]]:
        """Columns of the features; a missing integer is refused and stands as 0."""
        raw: Columns = {}
        refused: dict[int, str] = {}
        for feature in self.contract.features:
            column = batch.column(batch.schema.get_field_index(feature.name))
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            if feature.dtype == "int64" and column.null_count:
                # As a float, which a missing value would make it, a large integer is another one.
                absent = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
                for at in absent.tolist():
                    refused.setdefault(
                        at, f"feature '{feature.name}': a missing value; it is not nullable"
                    )
                column = column.cast(pa.int64()) if pa.types.is_null(column.type) else column
                column = column.fill_null(0)
            raw[feature.name] = column.to_numpy(zero_copy_only=False)
        return raw, refused

    def _typed(
        self, raw: Columns, positions: NDArray[np.intp], refused: dict[int, str]
    ) -> tuple[Columns, NDArray[np.intp]]:
        """The rows of the declared types; others are found by halving and noted in `refused`."""
        try:
            return canonical_columns(self.contract, raw), positions
        except DataError as error:
            if len(positions) == 1:
                refused.setdefault(int(positions[0]), _ROW.sub("", str(error)))
                return canonical_columns(self.contract, {n: c[:0] for n, c in raw.items()}), (
                    positions[:0]
                )
        half = len(positions) // 2
        sides = [
            self._typed({n: c[side] for n, c in raw.items()}, positions[side], refused)
            for side in (slice(None, half), slice(half, None))
        ]
        columns = {n: np.concatenate([side[0][n] for side in sides]) for n in raw}
        return columns, np.concatenate([side[1] for side in sides])

    def _check(
        self, columns: Columns, positions: NDArray[np.intp], refused: dict[int, str]
    ) -> None:
        for violation in check_columns(self.contract, columns):
            name = violation.feature
            alone = self._alone.setdefault(
                name, self.contract.model_copy(update={"features": (self.contract.feature(name),)})
            )
            for row in violation.rows.tolist():
                if int(positions[row]) not in refused:
                    one = check_columns(alone, {name: columns[name][row : row + 1]})[0]
                    refused[int(positions[row])] = f"feature '{name}': {one.value}; {one.expected}"

    def _decide(self, columns: Columns, rows: int) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Rules first; the model is asked only about the rows that they leave."""
        ruled = self.decider.rules(columns) if self.decider.features else None
        if ruled is None:
            scores = self._scores(columns)
            return scores, self.decider.bands(scores)
        scores, outcomes = np.full(rows, np.nan, dtype=np.float32), ruled.copy()
        left = ruled == UNDECIDED
        if left.any():
            scores[left] = self._scores({n: c[left] for n, c in columns.items()})
            outcomes[left] = self.decider.bands(scores[left])
        return scores, outcomes

    def _scores(self, columns: Columns) -> NDArray[np.float32]:
        try:
            scores = model_scores(self._session, columns)
        except Exception as error:  # onnxruntime's errors share no base of their own
            said = " ".join(str(error).split())[:300]
            raise InferenceFailed(f"the model failed: {said}") from None
        if not ((scores >= 0) & (scores <= 1)).all():
            raise InferenceFailed("the model gave a score that is no probability in 0..1")
        return scores


def to_arrow(answers: Answers, decider: Decider) -> dict[str, Any]:
    """Arrow arrays: score (null where the model was not asked), decision (null where the row is
    refused), reason, rejected."""
    known = len(decider.decisions)
    texts = list(dict.fromkeys(answers.refused.values()))
    codes = {text: known + at for at, text in enumerate(texts)}
    reasons = answers.outcomes.astype(np.int32)
    for row, text in answers.refused.items():
        reasons[row] = codes[text]
    rejected = answers.outcomes == REJECTED
    names = list(dict.fromkeys(decider.decisions))
    decisions = np.array([names.index(name) for name in decider.decisions], dtype=np.int32)
    chosen = decisions[np.where(rejected, 0, answers.outcomes)]
    return {
        "score": pa.array(answers.scores, mask=np.isnan(answers.scores)),
        "decision": pa.DictionaryArray.from_arrays(pa.array(chosen, mask=rejected), names).cast(
            pa.string()
        ),
        "reason": pa.DictionaryArray.from_arrays(
            pa.array(reasons), [*decider.reasons, *texts]
        ).cast(pa.string()),
        "rejected": pa.array(rejected),
    }
