"""kubectl for tests, as a program: applies a rollout, and its route follows a moment later; runs
the pod that puts a bundle on a claim.

What it keeps lies in the file that KUBECTL_STATE names, the claim in the folder beside it. It ends
with an error on any other use.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import yaml


def installed(folder: Path) -> dict[str, str]:
    """Puts it into `folder` as kubectl; returns the environment that finds it there."""
    binary = folder / "bin" / "kubectl"
    binary.parent.mkdir()
    binary.write_text(f"#!{sys.executable}\n{Path(__file__).read_text('utf-8')}")
    binary.chmod(0o755)
    path = f"{binary.parent}:/usr/bin:/bin"
    return {"KUBECTL_STATE": str(folder / "kept.json"), "PATH": path}


def main(words: list[str]) -> None:
    kept = Path(os.environ["KUBECTL_STATE"])
    state: dict[str, Any] = {"route": {"v1": None}, "asked": {}}
    if kept.exists():
        state = json.loads(kept.read_text())
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
        case ["get", "deployments", "--output", _]:
            sys.stdout.write(os.environ.get("KUBECTL_IMAGES", ""))
        case ["apply", "--filename", "-"]:
            state["pod"] = yaml.safe_load(sys.stdin)
        case ["wait", "--for=condition=Ready", "pod/put-bundle", _]:
            assert state["pod"]["metadata"]["name"] == "put-bundle"
        case ["exec", "--stdin", "put-bundle", "--", "sh", "-c", script, path]:
            claim = kept.with_name("claim")
            sent = sys.stdin.buffer.read()
            with tarfile.open(fileobj=io.BytesIO(sent)) as archive:
                # The kubelet has made the folder, as root: tar fails to set its mode.
                assert "." not in archive.getnames(), "an entry for the folder itself"
            script = script.replace("/bundles", str(claim))
            subprocess.run(["sh", "-c", script, path], input=sent, check=True)
        case ["delete", "pod", "put-bundle", "--ignore-not-found", "--wait=false"]:
            state["deleted"] = True
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
