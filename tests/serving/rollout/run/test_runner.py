"""The gate at work, look by look, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.errors import GateError, ManifestError
from serving.rollout import RolloutState, read_rollout, with_weight, write_rollout
from serving.rollout.actuators import Health
from serving.rollout.gate import GateState, Phase, Plan
from serving.rollout.gate.audit import Entry, verify
from serving.rollout.gate.replay import replay
from serving.rollout.run.lead import first_record, lead
from serving.rollout.run.lease import FileLease, held
from serving.rollout.run.memory import Memory
from serving.rollout.run.runner import Runner
from serving.rollout.run.store import Run, Runs
from serving.rollout.sources.source import Arms, Look, Snapshot
from tests.support.gates import DARK, STABLE, Road, Traffic, plan

BEGAN = 1_000_000.0


class Site:
    """One run, its traffic and its road; `look` is one look of the gate a second later."""

    def __init__(self, folder: Path, plan: Plan, traffic: Traffic | None = None) -> None:
        self.now = BEGAN
        self.traffic = traffic or Traffic(BEGAN - 100)
        self.road = Road(folder / "deploy").lay()
        self.runs = Runs(folder / "runs")
        state = first_record(self.road.read(), plan, lambda name: f"digest of {name}")
        settings = {"namespace": "seatrial"}
        self.run: Run = self.runs.create(state.run, plan, settings, state)
        self.start()

    def start(self) -> None:
        """A gate, as after a restart."""
        self.lease = FileLease(self.runs.lease_file)
        self.lease.take()
        self.gate = Runner(
            self.run,
            self.traffic,
            self.road,
            self.lease,
            clock=lambda: self.now,
            sleep=self._sleep,
        )
        self.state = self.gate.recover()

    def look(self, seconds: float = 1.0) -> GateState:
        self.now += seconds
        self.state, _ = self.gate.look(self.state)
        return self.state

    def until(self, phase: Phase, looks: int = 40) -> GateState:
        for _ in range(looks):
            if self.look().phase is phase:
                return self.state
        raise AssertionError(f"still {self.state.phase} after {looks} looks")

    @property
    def problem(self) -> str:
        return Memory.of(self.state).problem

    @property
    def reason(self) -> str:
        return str(Entry.from_line(self.state.tail).body["decision"]["reason"])

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


def refuses(arms: Arms, since: Snapshot | None, now: float) -> Look:
    raise GateError("no such counter")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, plan())


def test_leads_a_healthy_canary_from_dark_to_stable(site: Site) -> None:
    site.until(Phase.DONE)
    assert site.road.weights() == [
        {"v1": 90, "v2": 10},
        {"v1": 50, "v2": 50},
        {"v1": 0, "v2": 100},
        {"v2": 100, "v1": 0},
        {"v2": 100},
    ]
    assert replay(verify(site.run.audit_file)).different == ()


def test_rolls_a_failing_canary_back_through_the_dark_state_and_removes_it(tmp_path: Path) -> None:
    traffic = Traffic(BEGAN - 100, errors={"stable": 0.002, "canary": 0.05})
    site = Site(tmp_path, plan(remove_after_rollback=True), traffic)
    site.until(Phase.ROLLED_BACK)
    assert site.road.weights()[-2:] == [{"v1": 100, "v2": 0}, {"v1": 100}]


def test_no_data_neither_promotes_nor_rolls_back(tmp_path: Path) -> None:
    site = Site(tmp_path, plan(), Traffic(BEGAN - 100, rate=0.0))
    for _ in range(30):
        site.look(60)
    assert site.state.phase is Phase.STEP
    assert site.road.weights() == [{"v1": 90, "v2": 10}]


def test_a_canary_that_is_down_is_rolled_back_at_the_next_look(site: Site) -> None:
    site.until(Phase.STEP)
    site.road.ready = False
    site.look()
    assert site.road.read().weights == {"v1": 100, "v2": 0}


def test_a_canary_that_goes_down_as_it_gets_its_share_is_not_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def goes_down(_: RolloutState) -> bool:
        site.road.ready = False
        return False

    site.look()
    began = site.now
    with monkeypatch.context() as patch:
        patch.setattr(site.road, "settled", goes_down)
        site.look()
    assert site.road.read().weights == {"v1": 90, "v2": 10}
    assert site.now - began < 2
    site.look()
    assert site.road.read().weights == {"v1": 100, "v2": 0}


def test_only_restarts_of_this_run_make_a_crash_loop(site: Site) -> None:
    site.road.restarts = {"old": 7}
    site.until(Phase.STEP)
    assert Memory.of(site.state).restarted == 0
    site.road.restarts = {"old": 8, "new": 2}
    site.look()
    assert site.road.read().weights == {"v1": 100, "v2": 0}
    assert "restarted 3 times" in site.reason


def test_a_source_that_fails_holds_and_its_interval_is_counted_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.until(Phase.STEP)
    counted = site.state.last_end
    assert counted is not None

    def fails(arms: Arms, since: Snapshot | None, now: float) -> Look:
        raise GateError("Prometheus does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(site.traffic, "look", fails)
        for _ in range(3):
            site.look()
        assert site.problem == "Prometheus does not answer"
        assert site.state.last_end == counted
    site.look()
    assert site.problem == ""
    body = Entry.from_line(site.state.tail).body["observation"]
    assert (body["start"], body["end"]) == (counted, site.now)


def test_a_data_plane_that_cannot_be_asked_moves_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.until(Phase.STEP)
    before = site.road.weights()

    def fails(stable: str, canary: str) -> Health:
        raise GateError("the API server does not answer")

    monkeypatch.setattr(site.road, "health", fails)
    for _ in range(20):
        site.look()
    assert site.road.weights() == before
    assert "API server" in site.problem


def test_a_move_that_is_refused_is_tried_again_with_its_own_evidence(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.until(Phase.DARK)

    def refuses(state: RolloutState, message: str, trailers: Mapping[str, str]) -> str:
        raise GateError("InferenceService tiny has another owner (argocd-controller)")

    with monkeypatch.context() as patch:
        patch.setattr(site.road, "write", refuses)
        site.look()
        decided = Entry.from_line(site.state.tail).hash
        site.look()
        assert "argocd-controller" in site.problem
        assert site.road.weights() == []
    site.look()
    assert site.road.weights()[0] == {"v1": 90, "v2": 10}
    assert site.road.moves()[0]["Evidence-SHA256"] == decided
    assert site.problem == ""


class TestRequests:
    def test_pause_stays_and_resume_goes_on(self, site: Site) -> None:
        site.until(Phase.STEP)
        site.run.ask("pause", "anna")
        for _ in range(10):
            site.look()
        assert site.road.weights() == [{"v1": 90, "v2": 10}]
        site.run.ask("resume", "anna")
        site.until(Phase.DONE)

    def test_a_paused_canary_that_is_proven_bad_is_rolled_back(self, tmp_path: Path) -> None:
        traffic = Traffic(BEGAN - 100, rate=30.0, errors={"stable": 0.002, "canary": 0.2})
        site = Site(tmp_path, plan(), traffic)
        site.until(Phase.STEP)
        site.run.ask("pause", "anna")
        site.until(Phase.ROLLED_BACK)

    def test_a_step_waits_for_its_approval(self, tmp_path: Path) -> None:
        site = Site(tmp_path, plan(approvals=[50]))
        site.until(Phase.WAITING_APPROVAL)
        for _ in range(5):
            site.look()
        assert site.road.weights()[-1] == {"v1": 90, "v2": 10}
        site.run.ask("approve", "anna", 50)
        site.until(Phase.DONE)

    def test_promote_does_not_wait_for_evidence(self, tmp_path: Path) -> None:
        site = Site(tmp_path, plan(), Traffic(BEGAN - 100, rate=0.0))
        site.until(Phase.STEP)
        site.run.ask("promote", "anna")
        site.until(Phase.PROMOTED)
        assert site.road.read().stable.name == "v2"

    def test_abort_goes_dark(self, site: Site) -> None:
        site.until(Phase.STEP)
        site.run.ask("abort", "anna")
        site.until(Phase.ROLLED_BACK)
        assert site.road.read().weights == {"v1": 100, "v2": 0}

    def test_what_cannot_be_done_is_said_and_dropped(self, site: Site) -> None:
        site.until(Phase.STEP)
        site.run.ask("approve", "anna", 77)
        site.look()
        assert "'approve' by anna was refused" in site.problem
        assert site.run.asked() == []

    def test_a_request_left_by_a_killed_gate_is_not_obeyed_twice(self, site: Site) -> None:
        site.until(Phase.STEP)
        file = site.run.ask("pause", "anna")
        text = file.read_text()
        site.look()
        site.run.ask("resume", "anna")
        site.look()
        file.write_text(text)  # as if the gate had been killed before it removed the file
        site.lease.release()
        site.start()
        site.look()
        assert not site.state.orders.paused
        assert site.run.asked() == []


class TestOthers:
    def test_a_hand_on_the_weights_pauses_the_gate(self, site: Site) -> None:
        site.until(Phase.STEP)
        write_rollout(site.road.folder, with_weight(site.road.read(), "v2", 3))
        site.look()
        assert site.state.orders.paused
        assert "weights are v1 97 %, v2 3 % and the gate wrote v1 90 %, v2 10 %" in site.problem
        for _ in range(5):
            site.look()
        assert site.road.read().weights == {"v1": 97, "v2": 3}

    def test_resume_sets_the_gates_weights_again(self, site: Site) -> None:
        site.until(Phase.STEP)
        write_rollout(site.road.folder, with_weight(site.road.read(), "v2", 3))
        site.look()
        site.run.ask("resume", "anna")
        site.look()
        assert site.road.read().weights == {"v1": 90, "v2": 10}
        site.until(Phase.DONE)

    def test_another_model_under_the_canarys_name_begins_anew(self, site: Site) -> None:
        site.until(Phase.STEP)
        site.look()
        assert site.state.proofs.rates[0].canary != (0, 0)
        found = site.road.read()
        canary = found.canaries[0]
        other = replace(canary, arm=replace(canary.arm, storage_uri="pvc://b/v2-other"))
        write_rollout(site.road.folder, replace(found, canaries=(other,)))
        site.look()
        assert site.road.read().weights == {"v1": 100, "v2": 0}
        assert site.state.canary.storage_uri == "pvc://b/v2-other"
        assert site.state.proofs.rates[0].canary == (0, 0)
        assert replay(verify(site.run.audit_file)).different == ()

    def test_a_canary_that_someone_removed_ends_the_run(self, site: Site) -> None:
        site.until(Phase.STEP)
        write_rollout(site.road.folder, STABLE)
        site.until(Phase.ROLLED_BACK, looks=3)
        assert site.road.read() == STABLE

    def test_another_plan_begins_anew_from_the_dark_state(self, site: Site) -> None:
        site.until(Phase.STEP)
        site.lease.release()
        site.run.set_plan(plan(psi_max=1.5))
        site.start()
        site.look()
        assert site.road.read().weights == {"v1": 100, "v2": 0}
        site.until(Phase.DONE)
        assert replay(verify(site.run.audit_file)).different == ()


class TestLease:
    def test_a_second_gate_is_refused_and_told_who_acts(self, site: Site) -> None:
        with pytest.raises(GateError, match=r"held by \S+ process \d+"):
            lead(site.runs, plan(), site.traffic, site.road, FileLease(site.runs.lease_file))

    def test_a_gate_whose_lease_was_removed_acts_no_more(self, site: Site) -> None:
        site.until(Phase.STEP)
        site.runs.lease_file.unlink()
        with pytest.raises(GateError, match="lease is lost"):
            site.look(10)

    def test_a_released_lease_is_free(self, site: Site) -> None:
        assert held(site.runs.lease_file)
        site.lease.release()
        assert not held(site.runs.lease_file)

    def test_a_record_that_another_gate_wrote_is_not_overwritten(self, site: Site) -> None:
        site.run.save(site.state)
        with pytest.raises(GateError, match="another gate has written it"):
            site.look()


class TestStart:
    def lead(self, site: Site, **changed: Any) -> GateState:
        found = plan(**changed)
        return lead(site.runs, found, site.traffic, site.road, FileLease(site.runs.lease_file))

    def test_refuses_a_canary_that_the_rollout_does_not_list(self, tmp_path: Path) -> None:
        road = Road(tmp_path / "deploy").lay(STABLE)
        with pytest.raises(ManifestError, match="canary 'v2' and listed are none"):
            lead(
                Runs(tmp_path / "runs"),
                plan(),
                Traffic(BEGAN),
                road,
                FileLease(tmp_path / "runs" / "lease"),
            )

    def test_refuses_another_canary_while_a_run_has_not_ended(self, site: Site) -> None:
        site.lease.release()
        with pytest.raises(GateError, match="has not ended and the plan is for 'v3'"):
            self.lead(site, canary="v3")

    def test_a_new_plan_that_the_source_cannot_answer_is_refused_before_it_counts(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site.until(Phase.STEP)
        site.lease.release()
        monkeypatch.setattr(site.traffic, "look", refuses)
        with pytest.raises(GateError, match="no such counter"):
            self.lead(site, psi_max=1.5)
        assert site.run.plan() == plan()
        assert site.run.load().phase is Phase.STEP

    def test_a_run_goes_on_without_its_source_so_that_an_abort_is_heard(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site.until(Phase.STEP)
        site.lease.release()
        monkeypatch.setattr(site.traffic, "look", refuses)
        site.run.ask("abort", "a person")
        assert self.lead(site).phase is Phase.ROLLED_BACK
        assert site.road.read().weights == {"v1": 100, "v2": 0}

    def test_knows_what_the_arms_serve(self, site: Site) -> None:
        assert site.state.stable.storage_uri == "pvc://b/v1"
        assert site.state.canary.bundle == "digest of v2"
        assert read_rollout(site.road.folder) == DARK
