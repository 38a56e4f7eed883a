"""What a status means: which features moved first, how much, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from seatrial.report.text import NOTHING, count, percent, plural

Status = Mapping[str, Any]
MODERATE, MAJOR = 0.1, 0.25
"""Population stability index from which a shift is called moderate, and major."""
MISSING = "(missing)"
"""Label of the cell of missing values."""


@dataclass(frozen=True)
class Moved:
    """One column that moved, in the order in which columns did."""

    name: str
    aspect: str
    direction: str
    time: str | None
    psi: float
    effect: float | None
    evidence: float | None
    """Its largest so far, in nats: what stands now began anew when the episode opened."""
    role: str


@dataclass(frozen=True)
class Pod:
    """One sidecar's page."""

    status: Status
    title: str
    headline: str
    state: str
    """open, resolved, quiet or unknown."""
    moved: Sequence[Moved]
    features: Sequence[Status]
    """Those that moved first, then by population stability index."""
    advice: Sequence[str]


def read_pod(status: Status) -> Pod:
    bundle = status.get("bundle") or {}
    title = " ".join(str(bundle[k]) for k in ("model", "arm") if bundle.get(k)) or "no bundle yet"
    moved = moved_columns(status)
    order = {m.name: i for i, m in reversed(list(enumerate(moved)))}
    features = sorted(
        status.get("features") or (), key=lambda f: (order.get(f["name"], len(order)), -f["psi"])
    )
    return Pod(
        status=status,
        title=title,
        headline=_headline(status, moved),
        state=_state(status),
        moved=moved,
        features=features,
        advice=_advice(status, moved),
    )


def moved_columns(status: Status) -> list[Moved]:
    """What the episode says moved, the first one first; empty when nothing did."""
    episode = status.get("episode") or {}
    by_name = {f["name"]: f for f in status.get("features") or ()}
    found: dict[str, Moved] = {}
    for moved in episode.get("first") or ():
        feature = by_name.get(moved["name"])
        if feature is None or moved["name"] in found:
            continue
        aspect = moved["aspect"]
        found[moved["name"]] = Moved(
            name=moved["name"],
            aspect=aspect,
            direction=direction(feature, aspect),
            time=moved.get("time"),
            psi=feature["psi"],
            effect=feature.get("effect"),
            evidence=_peak(status, moved["name"]),
            role=feature["role"],
        )
    return list(found.values())


def direction(feature: Status, aspect: str) -> str:
    """Which way the newest rows lie from the reference, in a word or two."""
    bins = feature["bins"]
    if aspect == "missing":
        more = feature["missing_ratio"] > feature["reference_missing_ratio"]
        return "more missing" if more else "fewer missing"
    if feature["kind"] == "category":
        most = max(bins, key=lambda b: abs(b["window"] - b["reference"]), default=None)
        if most is None:
            return ""
        return f"{'more' if most['window'] > most['reference'] else 'fewer'} {most['label']}"
    # Ranks in the reference: uniform on 0..1 for rows like it, with mean 1/2 and variance 1/12.
    below, mean, square, total = 0.0, 0.0, 0.0, 0.0
    for cell in (b for b in bins if b["label"] != MISSING):
        rank = below + cell["reference"] / 2
        below += cell["reference"]
        mean += cell["window"] * rank
        square += cell["window"] * rank * rank
        total += cell["window"]
    if not total or not below:
        return ""
    middle = mean / total / below
    if aspect == "scale":
        spread = square / total / below**2 - middle**2
        return "wider" if spread > 1 / 12 else "narrower"
    return "higher" if middle > 0.5 else "lower"


def _peak(status: Status, name: str) -> float | None:
    known = [
        top["evidence"]
        for entry in status.get("timeline") or ()
        for top in entry["top"]
        if top["name"] == name and top["evidence"] is not None
    ]
    return max(known, default=None)


def size(psi: float) -> str:
    """A population stability index in words."""
    return "major" if psi >= MAJOR else "moderate" if psi >= MODERATE else "slight"


def _state(status: Status) -> str:
    if not status.get("bundle"):
        return "unknown"
    if status["open"]:
        return "open"
    episode = status.get("episode")
    return "resolved" if episode and episode.get("resolved") else "quiet"


def _headline(status: Status, moved: Sequence[Moved]) -> str:
    if not status.get("bundle"):
        return "No predictor has introduced a bundle: nothing is compared."
    state, episode = _state(status), status.get("episode")
    if state == "quiet" or episode is None:
        return f"No drift in {plural(status['input']['rows'], 'row')}."
    first = next((m for m in moved if m.role == "feature"), moved[0] if moved else None)
    what = f"{first.name} moved first{_how(first)}" if first else "the stream moved"
    others = len(moved) - 1
    also = f", then {plural(others, 'more column')}" if others > 0 else ""
    tail = (
        f"open since {clock(episode['opened'])}"
        if state == "open"
        else f"resolved at {clock(episode['resolved'])}"
    )
    return f"{what}{also}; {tail}."


def _how(moved: Moved) -> str:
    return f" ({', '.join(word for word in (moved.direction, size(moved.psi)) if word)})"


def clock(text: str | None) -> str:
    """14:15:03 UTC on 12 March; what is no time stays as it is."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text) if text else NOTHING
    zone = f" {moment.tzname()}" if moment.tzname() else ""
    return f"{moment:%H:%M:%S}{zone} on {moment.day} {moment:%B}"


def _advice(status: Status, moved: Sequence[Moved]) -> list[str]:
    """Sentences, the most urgent first."""
    found = []
    if not status.get("bundle"):
        return ["Look at the predictor's log: it introduces its bundle to the sidecar at start."]
    raised = (status.get("quality") or {}).get("raised") or []
    if raised:
        worst = max(raised, key=lambda v: v["share"])
        found.append(
            f"Begin upstream: {worst['feature']} has '{worst['kind']}' in {percent(worst['share'])}"
            " of rows. Broken data looks like drift, and no retraining mends it."
        )
    labels = status.get("labels") or {}
    if labels.get("degraded"):
        found.append(
            "Labels say that the model is worse than its bundle measured: retrain on rows since the"
            " change, or put the decline threshold where people can follow."
        )
    if status["open"] and moved:
        names = ", ".join(m.name for m in moved[:3])
        scores = [m for m in moved if m.role != "feature"]
        if scores:
            found.append(
                f"Scores or decisions moved with {names}: check the decision mix and the review"
                " queue now, then retrain on the window since the onset."
            )
        else:
            found.append(
                f"{names} moved, scores did not: find out whether the change upstream is meant. If"
                " it stays, retrain on the window since the onset."
            )
    if status["open"] and not labels.get("labelled"):
        found.append(
            "No labels have come: 'seatrial labels FILE' tells whether the model is worse, and not"
            " only its inputs different."
        )
    found += [f"The sidecar itself: {problem}" for problem in status.get("problems") or ()]
    events = status.get("events") or {}
    if events.get("pending"):
        found.append(
            f"{count(events['pending'])} events wait for the sink: look at it, nothing is lost."
        )
    return found or ["Nothing."]
