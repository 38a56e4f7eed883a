"""The benchmark's gate, vectorised over runs, decides as the gate does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.rollout import kayenta, speed
from benchmarks.rollout.gate import PLAN, SETTLED, Gate
from benchmarks.rollout.observations import observed
from benchmarks.rollout.tools import Verdict
from benchmarks.rollout.traffic import SCENARIOS, Traffic
from benchmarks.rollout.waiting import fixed_absolute, fixed_relative
from serving.rollout.gate import ActionKind, begin, decide, finished, share_of
from serving.rollout.gate.state import GateState, Model

RUNS = 3
LOOKS = 90


def _fresh() -> GateState:
    stable, canary = Model("v1", "pvc://b/1", "1" * 64), Model("v2", "pvc://b/2", "2" * 64)
    return begin(PLAN, run="twin", service="fraud", stable=stable, canary=canary)


@pytest.mark.parametrize(
    "name",
    [
        "healthy",
        "no errors at all in either arm",
        "bursty errors (5 at once), healthy",
        "errors 4× worse",
        "score shift only (a decile at 20 %)",
        "traffic stops, errors 4× worse",
    ],
)
def test_decides_look_by_look_as_the_gate_does(name: str) -> None:
    kind = next(kind for kind in SCENARIOS if kind.name == name)
    traffic = Traffic(kind, 20, RUNS, seed=5)
    twin, states, going = Gate(RUNS, traffic), [_fresh()] * RUNS, np.arange(RUNS)
    for look in range(LOOKS):
        weights = twin.weights()
        shares = [share_of(PLAN, states[run]) for run in going]
        assert np.round(100 * weights).astype(int).tolist() == shares
        counts = traffic.look(look, weights, going)
        verdicts = twin.look(counts)
        for row, run in enumerate(going.tolist()):
            seen = replace(observed(counts, traffic, run, look, row), weight=shares[row])
            states[run], action, reason = decide(PLAN, finished(states[run]), seen)
            expected = {
                ActionKind.PROMOTE: Verdict.PROMOTED,
                ActionKind.ROLL_BACK: Verdict.ROLLED_BACK,
            }.get(action.kind, Verdict.RUNNING)
            if verdicts[row] == Verdict.HELD:
                shift = states[run].proofs.shifts[0]
                assert "past the tolerance" in reason
                assert shift.log_beyond >= SETTLED
            else:
                assert verdicts[row] == expected, f"run {run}, look {look}: {reason}"
        over = verdicts != Verdict.RUNNING
        twin.keep(~over)
        going = going[~over]
        if len(going) == 0:
            break
    for row, run in enumerate(going.tolist()):
        proof, ours = states[run].proofs.rates[0], twin.rates[0]
        phi = ours.bursts.phi
        assert ours.log_bad(phi)[row] == pytest.approx(proof.log_bad(len(PLAN.steps)), abs=1e-8)
        for last in (False, True):
            good = ours.log_good(phi, np.full(len(going), last))[row]
            assert good == pytest.approx(proof.log_good(10, last), abs=1e-8)
        beyond, within = twin.scores.verdicts()
        assert beyond[row] == pytest.approx(states[run].proofs.shifts[0].log_beyond, abs=1e-8)
        assert within[row] == pytest.approx(states[run].proofs.shifts[0].log_good, abs=1e-8)


def test_mann_whitney_equals_scipys_with_ties() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.poisson(3, (4, 3, 50)) / 120, rng.poisson(2, (4, 3, 50)) / 1080
    found = kayenta.judged(kayenta.Points(a, b), tolerance=0.0)
    for run in range(4):
        for metric in range(3):
            expected = stats.mannwhitneyu(a[run, metric], b[run, metric], method="asymptotic")
            ours = 2 * stats.norm.sf(abs(found.above[run, metric]))
            assert ours == pytest.approx(expected.pvalue, rel=1e-6)


def test_the_fixed_samples_are_the_textbooks() -> None:
    # Nothing fails: (1 - 0.01)^n <= 0.05.
    assert fixed_absolute(0.0) == 299
    # Normal approximation: (1.645 sd_0 + 0.842 sd_1)^2 / difference^2, about 2,000 and 2,350.
    assert fixed_absolute(0.005) == pytest.approx(1990, rel=0.05)
    assert fixed_relative(0.005) == pytest.approx(2352, rel=0.08)


def test_a_replayed_run_decides_as_it_did(tmp_path: Path) -> None:
    found = speed.replayed(speed.recorded(40_000, tmp_path))
    assert found.requests >= 40_000
    assert found.different == 0
