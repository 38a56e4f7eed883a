"""What the contract asks of a model before it becomes a bundle."""

from __future__ import annotations

from typing import Any

from serving.bundle.contract import Gate
from serving.errors import StageError


def judge_gates(gates: tuple[Gate, ...], metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """One verdict a gate: what was asked, whether it is passed, and a sentence."""
    found = []
    for gate in gates:
        passed, asked = _verdict(gate, metrics)
        value = metrics["metrics"].get(gate.measure)
        shown = "cannot be measured" if value is None else f"is {value:.6g}"
        found.append(
            {
                "measure": gate.measure,
                "passed": passed,
                "on_failure": gate.on_failure,
                "sentence": f"{gate.measure} {shown} and {asked}",
            }
        )
    return found


def refuse(where: object, verdicts: list[dict[str, Any]]) -> None:
    """Raises StageError when a gate that must be passed is not."""
    failed = [v["sentence"] for v in verdicts if not v["passed"] and v["on_failure"] == "fail"]
    if failed:
        raise StageError(
            f"{where}: the model does not pass the contract's gates: {'; '.join(failed)}; train a"
            " better one, or change 'evaluation.gates' in the contract"
        )


def _verdict(gate: Gate, metrics: dict[str, Any]) -> tuple[bool, str]:
    value = metrics["metrics"].get(gate.measure)
    if gate.min is not None:
        return value is not None and value >= gate.min, f"must be {gate.min:g} or more"
    if gate.max is not None:
        return value is not None and value <= gate.max, f"must be {gate.max:g} or less"
    allowed = f" by more than {gate.margin:g}" if gate.margin else ""
    asked = f"must not be proven worse than the {gate.not_worse_than}'s{allowed}"
    rivals = metrics["baselines"] if gate.not_worse_than == "baseline" else []
    if gate.not_worse_than == "champion":
        if metrics["champion"] is None:
            return True, f"{asked}: there is no champion"
        rivals = [metrics["champion"]]
    for rival in rivals:
        # Only when the whole interval lies below is it proven: noise fails nobody.
        bounds = rival["gains"][gate.measure]["interval"]
        if bounds is None or bounds[1] < -gate.margin:
            name = rival.get("model") or f"bundle {rival['digest'][:12]}"
            theirs = rival["metrics"][gate.measure]
            has = "is not measured" if theirs is None else f"has {theirs:.6g}"
            by = "" if bounds is None else f", better by {-bounds[1]:.4g} or more"
            return False, f"{asked}; {name} {has}{by}"
    return True, asked
