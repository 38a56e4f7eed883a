"""A gate that falls silent: its canary goes to 0 %."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from serving.rollout.gate import Phase
from serving.rollout.run.deadman import check
from tests.serving.rollout.run.test_runner import Site
from tests.support.gates import plan

SILENCE = 100.0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, plan())


def silent(site: Site, seconds: float) -> str | None:
    """What the dead-man does that long after the last heartbeat."""
    beat = (site.run.path / "heartbeat").stat().st_mtime
    return check(site.run, site.road, SILENCE, beat + seconds)


def test_a_silent_gates_canary_goes_dark(site: Site) -> None:
    site.until(Phase.STEP)
    assert site.road.read().weights["v2"] == 10
    said = silent(site, SILENCE + 1)
    assert said is not None
    assert "silent for 101 s: canary 'v2' is set to 0 %" in said
    assert site.road.read().weights == {"v1": 100, "v2": 0}
    assert [move["message"].splitlines()[0] for move in site.road.moves()][-1] == "roll back v2"


def test_a_gate_that_beats_is_left_alone(site: Site) -> None:
    site.until(Phase.STEP)
    assert silent(site, SILENCE - 1) is None
    assert site.road.read().weights["v2"] == 10


def test_checking_again_changes_nothing(site: Site) -> None:
    site.until(Phase.STEP)
    silent(site, SILENCE + 1)
    assert silent(site, SILENCE + 50) is None
    assert len(site.run.asked()) == 1


def test_a_gate_that_comes_back_aborts_its_run(site: Site) -> None:
    site.until(Phase.STEP)
    silent(site, SILENCE + 1)
    site.until(Phase.ROLLED_BACK, looks=3)
    assert site.road.read().weights == {"v1": 100, "v2": 0}


def test_a_promoted_canary_is_stable_and_stays(site: Site) -> None:
    site.until(Phase.PROMOTED)
    assert silent(site, SILENCE + 1) is None
    assert site.road.read().stable.name == "v2"


def test_a_run_whose_gate_never_beat_counts_as_silent(site: Site) -> None:
    site.until(Phase.STEP)
    os.unlink(site.run.path / "heartbeat")
    assert check(site.run, site.road, SILENCE, 0.0) is not None
