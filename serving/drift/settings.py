"""Every setting of the sidecar, declared once: flag, environment variable, default and help."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from serving import flags
from serving.errors import UsageError
from serving.flags import flag, only_env

PREFIX = "SEATRIAL_DRIFT_"
CHOICES = {
    "watch": ("config", "on", "off"),
    "windows": ("config", "off"),
    "input": ("auto", "tee", "kserve"),
    "logger_mode": ("all", "request"),
    "label_classes": ("all", "some"),
}
_POSITIVE = (
    "ring_rows",
    "snapshot_seconds",
    "pair_seconds",
    "outbox_events",
    "sink_rate",
    "false_alarm_days",
    "metric_features",
    "label_days",
)
_NOT_NEGATIVE = (
    "window_rows",
    "window_seconds",
    "average_run_length",
    "heartbeat_seconds",
    "label_rows",
)


@dataclass(frozen=True)
class Settings:
    """A flag wins over its environment variable, that one over the default."""

    port: int = flag(9095, "port of the HTTP receiver")
    """TCP port of PUT /bundle, POST /events, POST /labels, /healthz, /status and /metrics."""
    sink: str = flag("", "URL that takes the events; empty: events go to the log only", "K_SINK")
    """An http or https URL; Knative sets K_SINK where a SinkBinding names the sidecar's pod."""
    state_dir: str = flag(
        "", "folder of snapshots and undelivered events; empty: a restart begins from nothing"
    )
    """One process at a time may use it; on a cluster an emptyDir outlives the container."""
    snapshot_seconds: float = flag(5.0, "seconds between snapshots: what a kill can lose")
    """A transition is written at once, whatever this says."""
    input: str = flag(
        "auto", "where rows come from: tee, kserve, or auto: kserve with --bundle, else tee"
    )
    """Rows of the other kind are refused: the same rows counted twice would look like drift."""
    pair_seconds: float = flag(
        30.0, "seconds that a KServe request waits for its response; without one it is dropped"
    )
    """A request event has the features, the response event with its id the score."""
    logger_mode: str = flag("all", "what the KServe logger sends, its field mode: all or request")
    """In mode request no scores come, so none are compared."""
    inference_service: str = flag(
        "", "InferenceService whose logged payloads are taken; empty: any"
    )
    """Compared with the attribute ce-inferenceservicename."""
    bundle: str = flag(
        "", "bundle folder, file: or http(s): URI of its .tar.gz, for a predictor of another make"
    )
    """Our own predictor introduces its bundle itself; then leave this empty."""
    model: str = flag("", "model's name with --bundle; empty: the contract's name")
    """Part of each event's source."""
    arm: str = flag("", "arm's name with --bundle; empty: 'default'", "SEATRIAL_ARM")
    """Tells stable from canary in events; part of each event's source."""
    watch: str = flag("config", "the built-in watch: on, off, or config: as the bundle says")
    """`off` leaves the window tests alone to open events."""
    windows: str = flag("config", "window tests: off, or config: as the bundle says")
    """`off` never imports Alibi Detect."""
    window_rows: int = flag(0, "rows in a test window; 0: what the bundle's drift config says")
    """Replaces size and seconds of the bundle's config."""
    window_seconds: float = flag(
        0.0, "seconds of rows in a test window; 0: what the bundle's drift config says"
    )
    """Replaces size and seconds of the bundle's config; not together with window_rows."""
    false_alarm_days: float = flag(
        30.0, "the watch opens at most one false event in so many days of the observed traffic"
    )
    """The average run length in rows is this many days at the observed rate."""
    average_run_length: float = flag(
        0.0, "rows between two false opened events of the watch; 0: from the observed traffic"
    )
    """A fixed number, for traffic that is known or for tests."""
    quality_share: float = flag(
        0.01, "share of a window's rows that must break the contract to raise a quality event"
    )
    """On top of the reference's own share. It is settled again below half of it."""
    label_rows: int = flag(250_000, "predictions that wait for their label; 0: labels are off")
    """About 30 bytes each, in memory and in every snapshot."""
    label_days: float = flag(30.0, "days that a prediction waits for its label")
    """Labels that come later are counted as unknown."""
    label_classes: str = flag(
        "all", "some: one class is labelled sooner or more often, as where only frauds are reported"
    )
    """With `some` only rates within a class are judged."""
    ring_rows: int = flag(100_000, "rows kept while detection is behind; older ones are dropped")
    """Bounds memory: 100,000 rows of 33 numbers as JSON values are about 150 MB."""
    outbox_events: int = flag(10_000, "undelivered events that are kept; more are refused")
    """On disk with a state_dir, else in memory."""
    sink_rate: float = flag(10.0, "events a second that the sink is sent at most")
    """Keeps a sink that comes back from being flooded with what waited for it."""
    heartbeat_seconds: float = flag(300.0, "seconds between heartbeat events; 0: none")
    """A heartbeat that cannot be delivered at once is forgotten."""
    metric_features: int = flag(200, "features that /metrics names; those after them are left out")
    """Bounds the number of series: about twenty a feature."""
    host: str = only_env("0.0.0.0", "SEATRIAL_HOST")  # noqa: S104
    """Address to listen on."""

    def __post_init__(self) -> None:
        """Raises UsageError naming the setting and its value."""
        if not 0 < self.port < 65536:
            raise UsageError(f"port {self.port} is not a port; give 1 to 65535")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                listed = ", ".join(choices)
                raise UsageError(f"{name} '{getattr(self, name)}' is none of {listed}")
        for name in (*_POSITIVE, *_NOT_NEGATIVE):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0 or (value == 0 and name in _POSITIVE):
                wanted = "above 0" if name in _POSITIVE else "0 or more"
                raise UsageError(f"{name} {value} is out of range; give {wanted}")
        if not 0 < self.quality_share <= 1:
            raise UsageError(f"quality_share {self.quality_share} is no share; give above 0 to 1")
        if self.window_rows and self.window_rows < 20:
            raise UsageError(f"window_rows {self.window_rows} is too small; give 20 or more rows")
        if self.window_rows and self.window_seconds:
            raise UsageError("window_rows and window_seconds are both given; give one of them")
        if self.bundle and self.input == "tee":
            raise UsageError("bundle is given with input 'tee'; the tee introduces its own bundle")
        if self.sink:
            check_url("sink", self.sink)


def check_url(name: str, url: str) -> None:
    """Raises UsageError unless it is an http or https URL with a host."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        good = False
    if not good:
        raise UsageError(
            f"{name} '{url}' is not an http or https URL; give http://HOST[:PORT]/PATH"
        )


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Settings from the command line and the environment. Raises UsageError."""
    return flags.read_settings(
        Settings,
        arguments,
        environment,
        program="python -m serving.drift",
        description="Watches the rows beside one predictor and reports drift as CloudEvents.",
        prefix=PREFIX,
        choices=CHOICES,
    )
