"""What the standing gate exports: whether it leads, whom, and when it last looked."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge

from serving.rollout.gate.state import GateState
from serving.rollout.run.runner import Step


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._leading = Gauge(
            "seatrial_gate_leading", "1 while a run is being led", registry=self.registry
        )
        self._look = Gauge(
            "seatrial_gate_last_look_timestamp_seconds",
            "Unix time of the last look, at a run or for a canary",
            registry=self.registry,
        )
        self._weight = Gauge(
            "seatrial_gate_canary_weight_percent",
            "Share of the traffic that the canary was last seen to have",
            registry=self.registry,
        )
        self._runs = Counter(
            "seatrial_gate_runs", "Runs that ended, by phase", ["phase"], registry=self.registry
        )
        self._errors = Counter(
            "seatrial_gate_errors", "Looks that failed; the log says why", registry=self.registry
        )

    def waiting(self, now: float) -> None:
        self._leading.set(0)
        self._weight.set(0)
        self._look.set(now)

    def looked(self, step: Step, now: float) -> None:
        self._leading.set(1)
        self._weight.set(step.observation.weight or 0)
        self._look.set(now)

    def ended(self, state: GateState) -> None:
        self._runs.labels(state.phase.value).inc()

    def failed(self) -> None:
        self._errors.inc()
