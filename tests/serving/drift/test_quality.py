"""What breaks the contract is found, counted and told once; it never stops the rest."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from serving.drift.encoding import Encoder
from serving.drift.gather import Gathered, Gatherer
from serving.drift.quality import ContractCheck, QualityBook
from serving.drift.rows import Block
from tests.serving.drift.stream import columns
from tests.support import tiny

ENCODER = Encoder(tiny.contract(), tiny.contract().feature_names, score=True)
CHECK = ContractCheck(tiny.contract(), ENCODER.columns)


def block(count: int = 4, **changes: Any) -> Block:
    rows = columns(count, seed=1)
    scores = rows.pop("score").tolist()
    given = {name: values.tolist() for name, values in rows.items()} | changes
    given = {name: values for name, values in given.items() if values is not None}
    return Block(given, count, 0.0, [str(n) for n in range(count)], scores)


def gathered(*blocks: Block) -> Gathered:
    (found,) = Gatherer(tiny.contract(), ENCODER).gather(blocks)
    return found


def broken(**changes: Any) -> dict[tuple[str, str], int]:
    found = gathered(block(**changes))
    return dict(CHECK.count(found.rows, found.violations))


def test_clean_rows_break_nothing() -> None:
    assert broken() == {}


def test_every_way_to_break_the_contract_is_found_by_row() -> None:
    assert broken(amount=[-1, 20_000, None, float("inf")]) == {
        ("amount", "below"): 1,
        ("amount", "above"): 1,
        ("amount", "missing"): 1,
        ("amount", "infinite"): 1,
    }
    assert broken(visits=[1.5, 1, 2, 3]) == {("visits", "fraction"): 1}
    assert broken(channel=["fax", "web", "", None]) == {("channel", "unseen"): 1}
    assert broken(amount=["12", True, 3.0, 4]) == {("amount", "type"): 2}
    assert broken(channel=[1, "web", ["x"], {}]) == {("channel", "type"): 3}
    assert broken(age=None) == {("age", "absent"): 4}
    assert broken(amount=None) == {("amount", "absent"): 4}
    assert broken(color=["red"] * 4) == {("color", "extra"): 4}


def test_columns_of_the_contract_that_are_no_features_are_no_news() -> None:
    assert broken(when=[1] * 4, fraud=[0] * 4) == {}


def test_what_is_not_of_its_type_is_missing_and_the_rest_is_kept() -> None:
    rows = gathered(block(amount=["x", 2.0, 10**400, 4])).rows
    assert np.isnan(rows[0, 0])
    assert rows[1, 0] == 2
    assert np.isinf(rows[2, 0])
    assert np.isfinite(rows[:, 1:]).sum() > 8


def test_any_json_at_all_is_encoded() -> None:
    odd: list[Any] = [None, True, "", "NaN", [], {}, -0.0, 1e308, 10**30, [[[]]]]
    changes = dict.fromkeys(tiny.contract().feature_names, odd)
    found = gathered(block(len(odd), **changes))
    assert found.rows.shape == (len(odd), 5)
    assert sum(CHECK.count(found.rows, found.violations).values()) > 10


def test_names_of_unknown_columns_are_bounded() -> None:
    gatherer = Gatherer(tiny.contract(), ENCODER)
    seen: Counter[tuple[str, str]] = Counter()
    for number in range(100):
        (found,) = gatherer.gather([block(1, **{f"column-{number}": [1]})])
        seen.update(found.violations)
    assert len(seen) == 21
    assert seen["(other)", "extra"] == 80


def test_many_small_blocks_are_encoded_as_one_in_their_order() -> None:
    blocks = [block(1, amount=[float(n)]) for n in range(50)]
    found = gathered(*blocks)
    assert found.rows[:, 0].tolist() == list(range(50))
    assert len(found.block.ids) == 50


def book(usual: dict[tuple[str, str], int] | None = None) -> QualityBook:
    return QualityBook(Counter(usual or {}), 1000, 0.01)


def told(quality: QualityBook, rows: int, bad: int) -> list[tuple[str, str, int]]:
    found = Counter({("age", "missing"): bad}) if bad else Counter[tuple[str, str]]()
    return [(f.feature, f.kind, f.rows) for f in quality.add(rows, found, "now")]


def test_a_violation_is_told_once_until_it_has_settled() -> None:
    quality = book()
    assert told(quality, 100, 2) == []
    assert told(quality, 100, 2) == [("age", "missing", 4)]
    assert told(quality, 100, 50) == []
    assert quality.end_window() == []
    told(quality, 1000, 6)
    assert quality.end_window() == []
    told(quality, 1000, 2)
    assert quality.end_window() == [("age", "missing")]
    told(quality, 500, 0)
    quality.end_window()
    assert told(quality, 100, 30) == [("age", "missing", 30)]


def test_a_few_rows_among_many_are_counted_and_not_told() -> None:
    quality = book()
    assert told(quality, 10_000, 50) == []
    assert quality.total["age", "missing"] == 50


def test_what_the_reference_breaks_too_is_not_told() -> None:
    quality = book({("age", "missing"): 200})
    assert told(quality, 1000, 200) == []
    assert told(quality, 1000, 240) == [("age", "missing", 440)]


def test_it_goes_on_from_its_state() -> None:
    quality, again = book(), book()
    told(quality, 100, 30)
    again.load(quality.to_json())
    assert again.to_json() == quality.to_json()
    assert told(again, 100, 30) == []
