"""The story, stage by stage: each method is one stage and returns its one-line result."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.local import run_train
from seatrial import simulator
from seatrial.demo import checks
from seatrial.demo.child import run_in_child
from seatrial.demo.facts import Facts
from seatrial.demo.fault_choice import choose_trigger
from seatrial.demo.faulty_bundle import write_faulty_bundle
from seatrial.demo.repository import commit_all, create_repository
from seatrial.demo.settings import DemoSettings
from seatrial.demo.traffic import Traffic
from seatrial.demo.windows import Cut, Window, cut
from seatrial.deployment import arm, create_deployment
from seatrial.replay import Requests, measure, read_rows, traffic_facts
from serving.bundle import Bundle, load_contract, open_bundle
from serving.errors import StageError
from serving.local import LocalPlayer, Status
from serving.rollout import (
    RolloutState,
    promoted,
    rolled_back,
    with_canary,
    with_weight,
    without_canary,
    write_rollout,
)

BASELINE_SECONDS = 4.0
BAD_ANSWERS = 10
"""Failed answers of the bad canary that are enough for a person to roll it back."""
BAD_SECONDS = 60.0
Progress = Callable[[str], None]


class Story:
    """One run in one folder; `close` ends whatever it started, at any moment."""

    def __init__(
        self, settings: DemoSettings, folder: Path, facts: Facts, player: LocalPlayer
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.deploy = folder / "deploy"
        self._example = folder / "example.json"
        self.facts = facts
        self.player = player
        self.progress: Progress = lambda line: None
        self.traffic: Traffic | None = None
        self._played = False
        self._cut: Cut
        self._contract: Path
        self._bundles: dict[str, Bundle] = {}
        self._state: RolloutState

    def close(self) -> None:
        """Ends the replay and the player."""
        if self.traffic is not None:
            self.traffic.kill()
        if self._played:
            self.player.down()

    def curl(self) -> str:
        """A prediction worth pasting."""
        url = f"http://127.0.0.1:{self.settings.port}/v2/models/{self._state.service}/infer"
        return f"curl -s {url} -d @{self._example}"

    def data(self) -> str:
        folder = self.folder / "data"
        folder.mkdir()
        if self.settings.data is None:
            wanted = simulator.SimulatorSettings(
                seed=self.settings.seed,
                customers=self.settings.customers,
                days=self.settings.days,
            )
            self.progress(f"simulating {wanted.customers:,} customers for {wanted.days} days")
            table, self._contract = self._in_child(
                _simulate, {"folder": folder, "settings": wanted}
            )
        else:
            table, self._contract = self.settings.data, self.settings.contract or Path()
        self.progress("cutting the training windows and the held-out rows")
        self._cut = self._in_child(
            _cut, {"table": table, "contract_file": self._contract, "folder": folder}
        )
        summary = self.facts.data["data"] = self._cut.summary
        return f"{summary['rows']:,} rows, {summary['positives']:,} positive, from {table}"

    def pipeline(self) -> str:
        bundle = self._train("v1", self._cut.first, parent=None)
        return f"bundle {bundle.path.name}, {_quality(bundle)}"

    def serve(self) -> str:
        contract = load_contract(self._contract)
        self._state = create_deployment(self.deploy, self._bundles["v1"], port=self.settings.port)
        create_repository(self.deploy)
        commit = commit_all(self.deploy, "Deploy v1")
        self._played = True
        status = self.player.up(
            self.deploy, owner_pid=os.getpid(), wait_seconds=60, progress=self.progress
        )
        self.progress("asking both wires for the golden rows")
        checks.golden_rows(status, self._bundles["v1"])
        checks.sidecars_know(status)
        rows = read_rows(self._cut.held_out, contract)
        self._example.write_bytes(Requests(rows, contract, status.service).http_body(0))
        self.progress("measuring latency through the gateway")
        gateway = self.facts.data["gateway"] = self._in_child(
            _measure,
            {
                "gateway": status.gateway,
                "table": self._cut.held_out,
                "contract": self._contract,
                "model": status.service,
                "connections": self.settings.connections,
            },
        )
        if gateway["errors"]:
            raise StageError(f"{gateway['errors']} of {gateway['requests']} requests failed")
        self._note("v1 serves", commit, status, at=0.0)
        return (
            f"{status.gateway}: p50 {gateway['p50_ms']:.1f} ms, p99 {gateway['p99_ms']:.1f} ms, "
            f"{100 * gateway['under_100ms']:.2f} % under 100 ms at {gateway['connections']}"
            " connections"
        )

    def canary(self) -> str:
        bundle = self._train("v2", self._cut.later, parent=self._bundles["v1"].digest)
        self._start_traffic()
        self._hold(BASELINE_SECONDS, "v1 alone")
        before = self._step("Canary v2 at 10 %", with_canary(self._state, arm("v2", bundle), 10))
        self._hold(self.settings.step_seconds, "canary v2 at 10 %")
        self._step("Canary v2 at 50 %", with_weight(self._state, "v2", 50))
        self._hold(self.settings.step_seconds, "canary v2 at 50 %")
        after = self._step("Promote v2", promoted(self._state, "v2"))
        pids = before.arm("v2").pids, after.arm("v2").pids
        if pids[0] != pids[1]:
            raise StageError(f"promotion restarted v2: its pids were {pids[0]}, now {pids[1]}")
        self._hold(self.settings.step_seconds / 2, "v2 promoted, v1 warm")
        status = self._step("Remove v1", without_canary(self._state, "v1"))
        checks.nothing_restarted(status)
        checks.sidecars_saw_rows(status)
        self._count()
        return f"{bundle.path.name} promoted with its processes unchanged, {_quality(bundle)}"

    def bad_canary(self) -> str:
        good = self._bundles["v2"]
        trigger = choose_trigger(good, read_rows(self._cut.held_out, good.contract))
        bad = self._bundles["v3"] = write_faulty_bundle(good, trigger, run=self.folder.name)
        self._describe("v3", bad)
        self._step("Canary v3 at 10 %", with_canary(self._state, arm("v3", bad), 10))
        self._hold(BAD_SECONDS, "bad canary v3 at 10 %", until=self._bad_enough)
        errors = self._errors_of("v3")
        if errors < BAD_ANSWERS:
            raise StageError(f"v3 failed {errors} times in {BAD_SECONDS:g} s; expected more")
        status = self._step("Roll back v3", rolled_back(self._state))
        rolled = time.time()
        if status.weights["v3"] != 0:
            raise StageError(f"v3 still has {status.weights['v3']} % after the rollback")
        self._hold(self.settings.step_seconds / 2, "rolled back, v3 dark")
        answers = self._traffic().answers_so_far()
        late = answers[(answers["t"] > rolled) & (answers["arm"] == "v3")]
        if len(late):
            raise StageError(f"v3 answered {len(late)} requests sent after its rollback")
        status = self._step("Remove v3", without_canary(self._state, "v3"))
        self._hold(2.0, "v2 alone")
        self._traffic().stop()
        self._count()
        self._gather_events()
        checks.nothing_restarted(status)
        return (
            f"v3 failed {errors} requests where {trigger.feature} > {trigger.above:g}; "
            "rolled back, not asked again"
        )

    def _start_traffic(self) -> None:
        status = self.player.status()
        self.traffic = Traffic(
            table=self._cut.held_out,
            contract=self._contract,
            model=status.service,
            gateway=status.gateway,
            rate=self.settings.rate,
            connections=self.settings.connections,
            answers=self.folder / "answers.jsonl",
            log=self.folder / "logs" / "replay.log",
        )
        self.progress("starting the replay")
        self.traffic.start()

    def _traffic(self) -> Traffic:
        if self.traffic is None:
            raise StageError("the replay was never started")
        return self.traffic

    def _step(self, message: str, state: RolloutState) -> Status:
        """One edit of rollout.yaml, one commit, one apply."""
        self.progress(message)
        write_rollout(self.deploy, state)
        self._state = state
        commit = commit_all(self.deploy, message)
        status = self.player.apply(self.deploy, wait_seconds=60, progress=self.progress)
        for name, weight in state.weights.items():
            arm = status.arm(name)
            if not arm.ready or arm.weight != weight:
                raise StageError(
                    f"{message}: '{name}' has {arm.weight} % and not {weight} %: {arm.why}"
                )
        self._note(message, commit, status, at=self._traffic().seconds())
        return status

    def _note(self, step: str, commit: str, status: Status, at: float) -> None:
        self.facts.data["timeline"].append(
            {
                "t": at,
                "step": step,
                "commit": commit,
                "weights": status.weights,
                "pids": {arm.name: arm.pids.get("kserve-container") for arm in status.arms},
            }
        )
        self.facts.save()

    def _hold(self, seconds: float, what: str, until: Callable[[], bool] = lambda: False) -> None:
        traffic, end = self._traffic(), time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not until():
            traffic.check()
            answers = traffic.answers_so_far()
            failed = int((answers["kind"] != "ok").sum())
            self.progress(f"{what}: {len(answers):,} answers, {failed} failed, {left:.0f} s left")
            time.sleep(min(0.5, left))

    def _bad_enough(self) -> bool:
        return self._errors_of("v3") >= BAD_ANSWERS

    def _errors_of(self, arm: str) -> int:
        answers = self._traffic().answers_so_far()
        return int(((answers["arm"] == arm) & (answers["kind"] == "model_error")).sum())

    def _count(self) -> None:
        """Every answer so far into the facts. Raises StageError for one that a move failed."""
        traffic = self._traffic()
        counted = traffic_facts(traffic.answers_so_far(), traffic.started)
        self.facts.data["traffic"] = counted
        if counted["failed_by_move"]:
            raise StageError(
                f"{counted['failed_by_move']} of {counted['answers']} answers failed that no"
                f" model failed; see {traffic.answers}"
            )
        slow = 0.95 * self.settings.rate
        if counted["rate"] is None or counted["rate"] < slow:
            raise StageError(
                f"the replay reached {counted['rate']} requests/s of {self.settings.rate:g}; "
                "end what else uses this machine's cores"
            )

    def _train(self, role: str, window: Window, parent: str | None) -> Bundle:
        path = run_train(
            self._cut.table,
            self._contract,
            self.folder / "bundles",
            work=self.folder / "work" / role,
            parent=parent,
            seed=self.settings.seed,
            window=window,
            on_progress=lambda stage, state: self.progress(f"training {role}: {stage} {state}"),
        )
        bundle = self._bundles[role] = open_bundle(path, contract=load_contract(self._contract))
        self._describe(role, bundle)
        return bundle

    def _describe(self, role: str, bundle: Bundle) -> None:
        lineage, metrics = bundle.read_json("lineage.json"), bundle.read_json("metrics.json")
        self.facts.data["bundles"].append(
            {
                "role": role,
                "name": bundle.path.name,
                "digest": bundle.digest,
                **{key: lineage.get(key) for key in ("parent", "data", "code")},
                **{key: metrics[key] for key in ("rows", "metrics", "curves")},
            }
        )

    def _gather_events(self) -> None:
        """The player's file outlives runs; this run's events are those of its bundles."""
        digests = {bundle.digest for bundle in self._bundles.values()}
        file, since = self.player.events_file, self.facts.data["started"]
        events = map(json.loads, file.read_text().splitlines()) if file.exists() else ()
        self.facts.data["drift_events"] = [
            event
            for event in events
            if event["data"].get("bundle") in digests and event["time"] >= since
        ]

    def _in_child(self, work: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        log = self.folder / "logs" / "demo.log"
        return run_in_child(work, arguments, log=log, progress=self.progress)


def _simulate(
    folder: Path, settings: simulator.SimulatorSettings, progress: Progress
) -> tuple[Path, Path]:
    del progress
    return simulator.write(folder, settings)


def _cut(progress: Progress, **arguments: Any) -> Cut:
    del progress
    return cut(**arguments)


def _measure(progress: Progress, **arguments: Any) -> dict[str, Any]:
    del progress
    return measure(**arguments, seconds=6)


def _quality(bundle: Bundle) -> str:
    metrics = bundle.read_json("metrics.json")["metrics"]
    return f"ROC AUC {metrics['roc_auc']:.3f}, average precision {metrics['average_precision']:.3f}"
