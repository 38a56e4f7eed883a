"""Window detectors in the drift environment, beside Alibi Detect's own answers."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.drift.detector import build_detector
from serving.drift.encoding import Column
from serving.drift.mmd import tail_probability
from serving.errors import DataError
from tests.serving.drift import alibi_answers

NAMES = ("tabular", "ks", "chi2", "mmd")


@pytest.fixture(scope="module")
def answers(drift_python: Path) -> dict[str, Any]:
    torch = importlib.util.find_spec("torch")
    assert torch is not None
    assert torch.origin is not None
    ended = subprocess.run(
        [str(drift_python), alibi_answers.__file__, str(Path(torch.origin).parents[1])],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout.splitlines()[-1]))


def results(answers: dict[str, Any], name: str, window: str) -> dict[tuple[str, str], float]:
    return {(r[0], r[1]): r[3] for r in answers["detectors"][name][window]}


def test_a_sorted_reference_gives_alibis_kolmogorov_smirnov(answers: dict[str, Any]) -> None:
    for p_value, distance, theirs, their_distance in answers["ks"]:
        assert p_value == pytest.approx(theirs, rel=1e-5, abs=1e-37)
        assert distance == pytest.approx(their_distance, rel=1e-6)
    assert answers["ks"][0][0] > 0.05 > answers["ks"][2][0]


def test_one_matrix_product_gives_alibis_permutation_p_values(answers: dict[str, Any]) -> None:
    for p_value, mmd2, theirs, their_mmd2 in answers["mmd"]:
        # Alibi's are float32.
        assert p_value == pytest.approx(theirs, abs=1e-6)
        assert mmd2 == pytest.approx(their_mmd2, abs=1e-6)
    assert answers["mmd"][0][0] > answers["mmd"][1][0] > 0


@pytest.mark.parametrize("name", NAMES)
def test_each_detector_takes_clean_rows_for_clean_and_finds_each_shift(
    answers: dict[str, Any], name: str
) -> None:
    assert min(results(answers, name, "clean").values()) > 1e-3
    assert results(answers, name, "gaps")["b", "missing"] < 1e-9
    assert results(answers, name, "far")["c", "rare"] < 1e-9
    whole = "*" if name == "mmd" else None
    assert results(answers, name, "a")[whole or "a", "values"] < 1e-6
    assert results(answers, name, "c")[whole or "c", "values"] < 1e-3


def test_each_detector_has_its_tests(answers: dict[str, Any]) -> None:
    methods = {
        name: {r[0]: r[2] for r in answers["detectors"][name]["clean"] if r[1] == "values"}
        for name in NAMES
    }
    assert methods == {
        "tabular": {"a": "ks", "b": "ks", "c": "chi2"},
        "ks": {"a": "ks", "b": "ks", "c": "ks"},
        "chi2": {"a": "chi2", "b": "chi2", "c": "chi2"},
        "mmd": {"*": "mmd"},
    }


def test_large_windows_against_a_small_reference_alarm_no_more_than_they_should(
    answers: dict[str, Any],
) -> None:
    # 12 deployments of 20 windows each at 5 %; without thinning, one of them alarms at 60 %.
    assert max(answers["large"]) <= 0.4
    assert np.mean(answers["large"]) <= 0.1


def test_few_permutations_give_small_p_values_and_never_zero() -> None:
    permuted = np.random.default_rng(0).normal(size=500)
    assert tail_probability(0.0, permuted) == pytest.approx(0.5, abs=0.05)
    assert 0 < tail_probability(6.0, permuted) < 1e-6
    assert tail_probability(1.0, np.zeros(500)) == 1.0


def test_importing_the_sidecars_modules_imports_no_alibi_and_no_torch(drift_python: Path) -> None:
    script = (
        "import sys, serving.drift.detector, serving.drift.watch, serving.drift.sketch,"
        " serving.drift.alibi\n"
        "print({'alibi_detect', 'torch', 'transformers', 'scipy', 'sklearn'} & set(sys.modules))"
    )
    ended = subprocess.run(
        [str(drift_python), "-c", script], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "set()"


def test_without_alibi_detect_a_window_detector_says_what_is_missing() -> None:
    assert importlib.util.find_spec("alibi_detect") is None, sys.prefix
    with pytest.raises(ImportError, match="alibi_detect"):
        build_detector("tabular", (Column("a", "number"),), np.zeros((50, 1)), 20)


def test_names_an_unknown_detector_and_a_reference_that_is_too_small() -> None:
    with pytest.raises(DataError, match="'best' is unknown; give tabular, ks, chi2 or mmd"):
        build_detector("best", (Column("a", "number"),), np.zeros((50, 1)), 20)
    with pytest.raises(DataError, match="has 50 rows, too few for windows of 60"):
        build_detector("tabular", (Column("a", "number"),), np.zeros((50, 1)), 60)
