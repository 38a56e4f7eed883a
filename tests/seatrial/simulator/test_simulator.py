from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from seatrial.simulator import Drift, SchemaFault, SimulatorSettings, contract, simulate, write
from seatrial.simulator.settings import DAY
from serving.bundle import canonical_columns, check_columns, load_contract
from serving.errors import DataError, UsageError

SMALL = SimulatorSettings(customers=300, terminals=400, days=20)
AT = 12


@pytest.fixture(scope="module")
def small() -> pd.DataFrame:
    return simulate(SMALL)


@pytest.fixture(scope="module")
def full() -> tuple[pd.DataFrame, float]:
    started = time.perf_counter()
    return simulate(), time.perf_counter() - started


def injected(*injections: Drift | SchemaFault) -> pd.DataFrame:
    return simulate(SimulatorSettings(customers=300, terminals=400, days=20, injections=injections))


def split(table: pd.DataFrame, at: int = AT) -> tuple[pd.DataFrame, pd.DataFrame]:
    after = table["time"] >= SMALL.start + at * DAY
    return table[~after], table[after]


def problems(table: pd.DataFrame) -> list[str]:
    rules = contract()
    columns = {name: table[name].to_numpy() for name in rules.feature_names if name in table}
    return [v.sentence() for v in check_columns(rules, canonical_columns(rules, columns))]


def test_default_table_has_200_000_rows_rare_fraud_and_is_made_in_15_seconds(
    full: tuple[pd.DataFrame, float],
) -> None:
    table, seconds = full
    assert len(table) >= 200_000
    assert 0.005 <= table["fraud"].mean() <= 0.01
    assert seconds < 15
    assert set(table["scenario"]) == {"none", "amount", "terminal", "card", "other"}


def test_default_table_satisfies_its_contract_and_has_no_other_columns(
    full: tuple[pd.DataFrame, float],
) -> None:
    table, _ = full
    rules = contract()
    roles = {rules.label.column, rules.label.available_at, rules.time, *rules.ignore}
    assert problems(table) == []
    assert set(table.columns) == roles | set(rules.feature_names)
    assert set(rules.example) == set(rules.feature_names)


def test_fraud_can_be_learned_but_not_perfectly(full: tuple[pd.DataFrame, float]) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415

    table, _ = full
    features = table[list(contract().feature_names)].copy()
    texts = features.select_dtypes("object").columns
    features[texts] = features[texts].astype("category")
    cut = int(0.7 * len(table))
    model = HistGradientBoostingClassifier(
        categorical_features="from_dtype",
        max_iter=80,
        max_leaf_nodes=15,
        min_samples_leaf=100,
        random_state=0,
    )
    model.fit(features[:cut], table["fraud"][:cut])
    auc = roc_auc_score(table["fraud"][cut:], model.predict_proba(features[cut:])[:, 1])
    assert 0.86 < auc < 0.97


def test_equal_seeds_give_equal_tables_and_others_do_not(small: pd.DataFrame) -> None:
    assert_frame_equal(small, simulate(SMALL))
    other = simulate(SimulatorSettings(seed=8, customers=300, terminals=400, days=20))
    assert not other["amount"].equals(small["amount"])


def test_rows_are_in_time_order_and_labels_come_one_to_seven_days_later(
    small: pd.DataFrame,
) -> None:
    delay = (small["label_time"] - small["time"]) / DAY
    assert small["time"].is_monotonic_increasing
    assert small["time"].between(SMALL.start, SMALL.start + SMALL.days * DAY - 1).all()
    assert delay.between(1, 7).all()
    assert list(small["transaction_id"]) == list(range(len(small)))


def test_windows_equal_a_direct_count_over_the_past(small: pd.DataFrame) -> None:
    table = simulate(SimulatorSettings(customers=60, terminals=60, days=40, warm_up_days=0))
    rng = np.random.default_rng(0)
    for index in rng.choice(len(table), 150, replace=False):
        row = table.iloc[index]
        for days in (1, 7, 30):
            since = row["time"] - days * DAY
            mine = table[
                (table["customer_id"] == row["customer_id"])
                & (table["time"] > since)
                & (table["time"] <= row["time"])
            ]
            known = table[
                (table["terminal_id"] == row["terminal_id"])
                & (table["label_time"] > since)
                & (table["label_time"] <= row["time"])
            ]
            assert row[f"customer_count_{days}d"] == len(mine)
            assert row[f"customer_mean_amount_{days}d"] == pytest.approx(
                mine["amount"].mean(), rel=1e-5
            )
            assert row[f"terminal_labels_{days}d"] == len(known)
            assert row[f"terminal_risk_{days}d"] == pytest.approx(
                known["fraud"].mean(), rel=1e-5, nan_ok=True
            )


def test_values_are_missing_where_they_cannot_exist(small: pd.DataFrame) -> None:
    online = small["channel"] == "online"
    assert (small["device_age_days"].notna() == online).all()
    assert (small["distance_km"].isna() == online).all()
    assert (small["terminal_risk_7d"].isna() == (small["terminal_labels_7d"] == 0)).all()


@pytest.mark.parametrize(
    "drift",
    [
        Drift(AT, "amount_scale", 2.0),
        Drift(AT, "new_category_mix", 0.4),
        Drift(AT, "fraud_pattern", 0.9),
        Drift(AT, "missing", 0.5),
    ],
    ids=lambda drift: drift.kind,
)
def test_drift_leaves_earlier_rows_alone_and_keeps_the_contract(
    small: pd.DataFrame, drift: Drift
) -> None:
    drifted = injected(drift)
    assert_frame_equal(split(small)[0], split(drifted)[0])
    assert not split(small)[1].equals(split(drifted)[1])
    assert problems(drifted) == []


def test_amount_drift_multiplies_amounts(small: pd.DataFrame) -> None:
    before, after = split(small)[1], split(injected(Drift(AT, "amount_scale", 3.0)))[1]
    assert after["amount"].mean() / before["amount"].mean() == pytest.approx(3, rel=0.02)


def test_category_drift_moves_its_share_to_digital_goods(small: pd.DataFrame) -> None:
    def share(table: pd.DataFrame) -> float:
        return float((table["merchant_category"] == "digital_goods").mean())

    before, after = split(small)[1], split(injected(Drift(AT, "new_category_mix", 0.4)))[1]
    assert share(after) - share(before) == pytest.approx(0.4 * (1 - share(before)), abs=0.03)


def test_fraud_drift_makes_card_fraud_small(small: pd.DataFrame) -> None:
    def typical(table: pd.DataFrame) -> float:
        return float(table.loc[table["scenario"] == "card", "amount"].median())

    after = split(injected(Drift(AT, "fraud_pattern", 1.0)))[1]
    assert typical(after) < 0.2 * typical(split(small)[1])


def test_missing_drift_loses_its_share(small: pd.DataFrame) -> None:
    after = split(injected(Drift(AT, "missing", 0.5)))[1]
    online = after[after["channel"] == "online"]
    assert online["device_age_days"].isna().mean() == pytest.approx(0.5, abs=0.05)


def test_missing_column_fault_is_seen_from_its_day_on() -> None:
    before, after = split(injected(SchemaFault(AT, "missing_column")))
    assert problems(before) == []
    assert problems(after)[0].startswith("feature 'merchant_category': a missing value")
    assert "amount" not in injected(SchemaFault(0, "missing_column", "amount"))


def test_wrong_type_fault_makes_numbers_text() -> None:
    table = injected(SchemaFault(AT, "wrong_type"))
    assert split(table)[1]["amount"].str.endswith(" EUR").all()
    assert not split(table)[0]["amount"].str.endswith(" EUR").any()
    with pytest.raises(DataError, match="amount"):
        problems(table)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [("unknown_category", "feature 'channel': 'unheard_of'"), ("nan", "feature 'amount': a miss")],
)
def test_value_faults_hit_their_share_after_their_day(kind: str, sentence: str) -> None:
    fault = SchemaFault(AT, kind, share=0.2)  # type: ignore[arg-type]
    before, after = split(injected(fault))
    column = after[fault.target]
    hit = (column == "unheard_of") | column.isna()
    assert problems(before) == []
    assert problems(after)[0].startswith(sentence)
    assert hit.mean() == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Drift(1, "tides", 1), "drift kind 'tides' is unknown"),  # type: ignore[arg-type]
        (lambda: Drift(1, "missing", 1.5), r"size 1.5 must be a share in \(0, 1\]"),
        (lambda: Drift(1, "amount_scale", 0), "size 0 must be above 0"),
        (lambda: SchemaFault(1, "nan", share=0), "share 0 must be in"),
        (lambda: SimulatorSettings(days=0), "days is 0; give at least 1"),
        (lambda: injected(Drift(20, "missing", 0.5)), "day 20 is outside the table's days 0 to 20"),
        (lambda: injected(SchemaFault(1, "nan", "shoe_size")), "no column 'shoe_size'"),
        (lambda: injected(SchemaFault(1, "nan", "channel")), "'channel' holds text, not numbers"),
    ],
)
def test_impossible_requests_are_refused_in_one_sentence(make: object, sentence: str) -> None:
    assert callable(make)
    with pytest.raises(UsageError, match=sentence):
        make()


def test_writes_a_table_and_a_contract_that_read_back(tmp_path: Path, small: pd.DataFrame) -> None:
    table, rules = write(tmp_path / "new" / "data", SMALL)
    assert_frame_equal(pd.read_parquet(table), small)
    assert load_contract(rules) == contract()
    assert sorted(p.name for p in table.parent.iterdir()) == sorted([table.name, rules.name])
