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
from seatrial.demo import checks, work
from seatrial.demo.child import run_in_child
from seatrial.demo.facts import Facts
from seatrial.demo.fault_choice import choose_trigger
from seatrial.demo.faulty_bundle import write_failing_bundle, write_shifted_bundle
from seatrial.demo.guard import Guard, demo_plan, write_plan
from seatrial.demo.repository import commit_all, create_repository, head
from seatrial.demo.retraining import Event, Retraining, train_command
from seatrial.demo.settings import DemoSettings
from seatrial.demo.shift import SHIFTED, injection, write_traffic
from seatrial.demo.traffic import Traffic
from seatrial.demo.windows import PLAIN, Cut, Window
from seatrial.demo.windows import SHIFTED as SHIFTED_SHARES
from seatrial.deployment import arm, create_deployment
from seatrial.replay import Requests, read_rows, traffic_facts
from serving.bundle import Bundle, load_contract, open_bundle
from serving.errors import StageError
from serving.local import LocalPlayer, Status
from serving.rollout import read_rollout, with_canary, write_rollout
from serving.rollout.gate import Phase, Plan

BASELINE_SECONDS = 4.0
OPENED_WITHIN, RETRAINED_WITHIN, RESOLVED_WITHIN = 60.0, 240.0, 20.0
"""Seconds; a sidecar needs a few hundred rows for this shift, a run half a minute on two cores."""
SHIFT = 1.5
"""Added to the logit of every score of the bundle that answers fast and wrongly."""
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
        self.retraining: Retraining | None = None
        self._played = False
        self._cut: Cut
        self._contract: Path
        self._bundles: dict[str, Bundle] = {}

    def close(self) -> None:
        """Ends the replay, the receiver and the player."""
        if self.traffic is not None:
            self.traffic.kill()
        if self.retraining is not None:
            self.retraining.kill()
        if self._played:
            self.player.down()

    def curl(self) -> str:
        """A prediction worth pasting."""
        model = self._bundles["v1"].contract.name
        url = f"http://127.0.0.1:{self.settings.port}/v2/models/{model}/infer"
        return f"curl -s {url} -d @{self._example}"

    def data(self) -> str:
        folder = self.folder / "data"
        folder.mkdir()
        if self.settings.data is None:
            wanted = simulator.SimulatorSettings(
                seed=self.settings.seed,
                customers=self.settings.customers,
                days=self.settings.days,
                injections=(injection(self.settings.days),),
            )
            self.progress(f"simulating {wanted.customers:,} customers for {wanted.days} days")
            table, self._contract = self._in_child(
                work.simulate, {"folder": folder, "settings": wanted}
            )
        else:
            table, self._contract = self.settings.data, self.settings.contract or Path()
        self.progress("cutting the training windows and the held-out rows")
        self._cut = self._in_child(
            work.cut_table,
            {
                "table": table,
                "contract_file": self._contract,
                "folder": folder,
                "shares": SHIFTED_SHARES if self.settings.data is None else PLAIN,
            },
        )
        summary = self.facts.data["data"] = self._cut.summary
        return f"{summary['rows']:,} rows, {summary['positives']:,} positive, from {table}"

    def pipeline(self) -> str:
        bundle = self._train("v1", self._cut.first, parent=None)
        return f"bundle {bundle.path.name}, {_quality(bundle)}"

    def serve(self) -> str:
        contract = load_contract(self._contract)
        bundle = self._bundles["v1"]
        create_deployment(self.deploy, bundle, port=self.settings.port)
        create_repository(self.deploy)
        commit = commit_all(self.deploy, "Deploy v1")
        self._played = True
        status = self.player.up(
            self.deploy, owner_pid=os.getpid(), wait_seconds=60, progress=self.progress
        )
        self.progress("asking both wires for the golden rows")
        checks.golden_rows(status, bundle)
        checks.sidecars_know(status)
        rows = read_rows(self._cut.calm, contract)
        self._example.write_bytes(Requests(rows, contract, status.service).http_body(0))
        self.progress("measuring latency through the gateway")
        gateway = self.facts.data["gateway"] = self._in_child(
            work.measure_gateway,
            {
                "gateway": status.gateway,
                "table": self._cut.calm,
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

    def drift(self) -> str:
        """The simulator has shifted: an event, the receiver, a run whose bundle enters next."""
        loop, old = self._start_retraining(), self._bundles["v1"]
        table = self.folder / "data" / "traffic.parquet"
        write_traffic(self._cut.calm, self._cut.held_out, table, self.settings.rate)
        self._start_traffic(table)
        opened = loop.await_event("opened", old.digest, OPENED_WITHIN, self._watch("v1"))
        names = [feature["name"] for feature in opened["data"]["features"]]
        if not names or names[0] not in SHIFTED:
            raise StageError(f"the amounts shifted, and event {opened['id']} names {names} first")
        status = checks.sidecar_status(self.player.status(), "v1")
        bundle = open_bundle(
            loop.await_run(opened, RETRAINED_WITHIN, self._watch("retraining")),
            contract=load_contract(self._contract),
        )
        checks.nothing_restarted(self.player.status())
        if bundle.read_json("lineage.json")["parent"] != old.digest:
            raise StageError(f"{bundle.path} was not made from the bundle of event {opened['id']}")
        self._describe("v2", bundle)
        self.facts.data["drift"] = {"opened": opened, "resolved": None, "status": status}
        return (
            f"{names[0]} named first after {opened['data']['episode']['rows']:,} rows, receiver"
            f" retrained on the new window: bundle {bundle.path.name}"
        )

    def canary(self) -> str:
        if "v2" not in self._bundles:
            self._train("v2", self._cut.later, parent=self._bundles["v1"].digest)
            self._start_traffic(self._cut.held_out)
        bundle = self._bundles["v2"]
        self._hold(BASELINE_SECONDS, "v1 alone")
        before = self._enter("v2", bundle)
        guard = self._guard("v2")
        if guard.outcome is not Phase.DONE:
            raise StageError(f"the gate did not promote v2: {guard.last_reason}")
        status = self.player.status()
        if before.arm("v2").pids != status.arm("v2").pids:
            raise StageError(
                f"promotion restarted v2: its pids were {before.arm('v2').pids},"
                f" now {status.arm('v2').pids}"
            )
        checks.nothing_restarted(status)
        checks.sidecars_saw_rows(status)
        self._count()
        self._resolve()
        return f"{bundle.path.name} promoted by the gate, processes unchanged, {_quality(bundle)}"

    def failing_canary(self) -> str:
        good = self._bundles["v2"]
        trigger = choose_trigger(good, read_rows(self._cut.held_out, good.contract))
        self._describe("v3", write_failing_bundle(good, trigger, run=self.folder.name))
        reason = self._refused("v3", "errors")
        return f"v3 fails where {trigger.feature} > {trigger.above:g}; {reason}"

    def shifted_canary(self) -> str:
        good = self._bundles["v2"]
        self._describe("v4", write_shifted_bundle(good, SHIFT, run=self.folder.name))
        reason = self._refused("v4", "scores")
        self._hold(BASELINE_SECONDS / 2, "v2 alone")
        self._traffic().stop()
        self._count()
        self._gather_events()
        if self.retraining is not None:
            self.retraining.deliver()
            self.facts.data["drift"]["receiver"] = self.retraining.status()
            self.retraining.stop()
        checks.nothing_restarted(self.player.status())
        return f"v4 answers fast and wrongly; {reason}"

    def _refused(self, role: str, kind: str) -> str:
        """Lets a bad canary in; returns why the gate kept it out, which must be by this metric."""
        self._enter(role, self._bundles[role])
        guard = self._guard(role)
        gone = time.time()
        if guard.outcome is not Phase.ROLLED_BACK or guard.stopped_by != kind:
            raise StageError(f"the gate did not stop {role} by its {kind}: {guard.last_reason}")
        self._hold(BASELINE_SECONDS / 2, f"{role} is gone")
        answers = self._traffic().answers_so_far()
        late = int(((answers["t"] > gone) & (answers["arm"] == role)).sum())
        if late:
            raise StageError(f"{role} answered {late} requests sent after its rollback")
        checks.nothing_restarted(self.player.status())
        self._count()
        return guard.verdict

    def _enter(self, role: str, bundle: Bundle) -> Status:
        """A person's part: the canary is listed at 0 %, with its plan; the gate does the rest."""
        write_plan(self.deploy, self._plan(role))
        state = with_canary(read_rollout(self.deploy), arm(role, bundle), 0)
        write_rollout(self.deploy, state)
        commit = commit_all(self.deploy, f"{role} enters at 0 %")
        status = self.player.apply(self.deploy, wait_seconds=60, progress=self.progress)
        if not status.arm(role).ready:
            raise StageError(f"'{role}' did not become ready: {status.arm(role).why}")
        self._note(f"{role} enters", commit, status, at=self._traffic().seconds())
        return status

    def _guard(self, role: str) -> Guard:
        guard = Guard(
            self.deploy,
            self.player,
            self._plan(role),
            clock=self._traffic().seconds,
            looked=self._traffic().check,
            moved=self._moved,
            progress=self.progress,
        )
        self.facts.data.setdefault("gate", []).append(guard.facts)
        guard.lead()
        return guard

    def _plan(self, role: str) -> Plan:
        """How far a retrain may move scores is for a table's owner to say, who may prefer a model
        of another family: only the canaries made from v2 are held to v2's scores."""
        return demo_plan(role, scores=role != "v2")

    def _moved(self, title: str) -> None:
        status = self.player.status()
        self._note(title, head(self.deploy), status, at=self._traffic().seconds())

    def _start_retraining(self) -> Retraining:
        command = train_command(
            self._cut.table,
            self._contract,
            self.folder / "bundles",
            work=self.folder / "work" / "v2",
            seed=self.settings.seed,
            window=self._cut.later,
        )
        self.retraining = Retraining(
            self.folder / "retrain",
            self.player.events_file,
            self.facts.data["started"],
            command,
            self.folder / "logs" / "retrain.log",
        )
        self.progress("starting the retrain receiver")
        self.retraining.start()
        return self.retraining

    def _watch(self, what: str) -> Callable[[], None]:
        """What happens between two looks at the loop."""
        return lambda: self._hold(0.5, what)

    def _resolve(self) -> None:
        """The old bundle is gone: its sidecar has said that the episode is over."""
        if self.retraining is not None:
            found: Event = self.retraining.await_event(
                "resolved", self._bundles["v1"].digest, RESOLVED_WITHIN, self._watch("v2")
            )
            self.facts.data["drift"]["resolved"] = found

    def _start_traffic(self, table: Path) -> None:
        status = self.player.status()
        self.traffic = Traffic(
            table=table,
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

    def _hold(self, seconds: float, what: str) -> None:
        traffic, end = self._traffic(), time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            traffic.check()
            self.progress(f"{what}: {len(traffic.answers_so_far()):,} answers, {left:.0f} s left")
            time.sleep(min(0.5, left))

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
        bundle = open_bundle(path, contract=load_contract(self._contract))
        self._describe(role, bundle)
        return bundle

    def _describe(self, role: str, bundle: Bundle) -> None:
        self._bundles[role] = bundle
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


def _quality(bundle: Bundle) -> str:
    metrics = bundle.read_json("metrics.json")["metrics"]
    return f"ROC AUC {metrics['roc_auc']:.3f}, average precision {metrics['average_precision']:.3f}"
