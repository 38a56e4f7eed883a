from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.train.core import run as train
from components.trial.core import run
from serving.errors import UsageError


def test_train_takes_the_better_of_two_trials(checked: Path, tmp_path: Path) -> None:
    found = [run(checked=checked, number=n, family="tree", folds=2, seed=3) for n in range(2)]
    assert found[0]["settings"] != found[1]["settings"]
    assert all(len(one["folds"]) == 2 for one in found)
    best = max(found, key=lambda one: float(one["average_precision"]))
    facts = train(checked=checked, network=tmp_path, family="tree", tuned=json.dumps(found))
    assert facts["settings"]["tree"]["leaves"] == best["settings"]["leaves"]


def test_a_trial_is_the_same_again(checked: Path) -> None:
    first, again = (run(checked=checked, number=1, family="tree", folds=1) for _ in range(2))
    assert first == again


def test_refuses_a_number_below_nought(checked: Path) -> None:
    with pytest.raises(UsageError, match="number -1 is too small; give 0 or more"):
        run(checked=checked, number=-1)
