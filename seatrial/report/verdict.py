"""What happened, in one sentence: the same on the page and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seatrial.report.text import count, plural

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    ok: bool
    headline: str
    detail: str


def verdict(facts: Facts) -> Verdict:
    """A run is fine when its facts say so and no request failed because of a move."""
    traffic = facts.get("traffic") or {}
    failed = int(traffic.get("failed_by_move") or 0)
    broken = next((s for s in facts.get("stages", ()) if not s["ok"]), None)
    ok = bool(facts.get("ok")) and failed == 0
    if broken is not None:
        return Verdict(False, f"The run failed in stage “{broken['name']}”.", broken["detail"])
    moves = _moves(facts.get("timeline") or ())
    answers = traffic.get("answers")
    if not answers:
        said = "Every stage ended as it must." if ok else "The run did not end as it must."
        return Verdict(ok, said, "")
    if failed:
        told = f"{plural(failed, 'request')} of {count(answers)} failed because of a move"
    else:
        told = f"none of {plural(answers, 'request')} failed because of a move"
    parts = [*moves, told]
    sentence = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}, and {parts[-1]}"
    headline = sentence[0].upper() + sentence[1:] if not moves else sentence
    return Verdict(ok, f"{headline}.", _blame(traffic))


def _moves(timeline: Sequence[Facts]) -> list[str]:
    """Promotions and rollbacks, read off the weights."""
    weights = [{arm: w for arm, w in step["weights"].items() if w > 0} for step in timeline]
    weights = [step for step in weights if step]
    if not weights:
        return []
    first, last = (max(step, key=lambda arm: step[arm]) for step in (weights[0], weights[-1]))
    stables = {arm for step in weights for arm, w in step.items() if len(step) == 1 and w > 0}
    tried = {arm for step in weights for arm in step} - stables - set(weights[-1])
    moves = [f"{last} took over from {first}"] if last != first else [f"{last} kept serving"]
    return moves + [f"{arm} was rolled back" for arm in sorted(tried)]


def _blame(traffic: Facts) -> str:
    errors = int(traffic.get("model_errors") or 0)
    if not errors:
        return "No model failed on any row."
    arms = sorted({r["arm"] for r in traffic.get("by_arm", ()) if r["errors"]})
    return (
        f"{plural(errors, 'answer')} {'was an error' if errors == 1 else 'were errors'} of a model"
        f" itself (answered by {', '.join(arms)})."
    )
