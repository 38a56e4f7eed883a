"""kubectl for tests, as a program: applies a rollout, and its route follows a moment later.

What it keeps lies in the file that KUBECTL_STATE names. It ends with an error on any other use.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml


def main(words: list[str]) -> None:
    kept = Path(os.environ["KUBECTL_STATE"])
    state = json.loads(kept.read_text()) if kept.exists() else {"route": {"v1": None}, "asked": {}}
    if words[:2] != ["--namespace", "seatrial"]:
        sys.exit(f"another namespace: {words}")
    match words[2:]:
        case ["apply", "--kustomize", folder]:
            state["asked"] = _asked(yaml.safe_load((Path(folder) / "rollout.yaml").read_text()))
        case ["get", "httproute", "fraud", "--output=json"]:
            rule = {"backendRefs": [_ref(*share) for share in state["route"].items()]}
            sys.stdout.write(json.dumps({"spec": {"hostnames": ["fraud.test"], "rules": [rule]}}))
            # The next look finds what was asked for before this one.
            state["route"] = state["asked"] or state["route"]
        case ["get", "deployment", name, "--output=json"]:
            there = name.split("-")[1] in state["route"]
            sys.stdout.write(json.dumps({"status": {"readyReplicas": 1} if there else {}}))
        case _:
            sys.exit(f"unknown: {words}")
    kept.write_text(json.dumps(state))


def _asked(rollout: Any) -> dict[str, int | None]:
    """Weight by arm; none for a stable without canaries, as KServe writes its route."""
    spec = rollout["spec"]
    shares = {one["predictor"]["name"]: one["trafficPercent"] for one in spec["canary"]}
    return {spec["predictor"]["name"]: 100 - sum(shares.values()) if shares else None, **shares}


def _ref(name: str, weight: int | None) -> dict[str, Any]:
    ref: dict[str, Any] = {"name": f"fraud-{name}-predictor"}
    return ref if weight is None else {**ref, "weight": weight}


if __name__ == "__main__":
    main(sys.argv[1:])
