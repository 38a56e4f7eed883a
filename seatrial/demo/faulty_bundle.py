"""The bad canary: the good bundle's files with a fault planted in the graph."""

from __future__ import annotations

import json

from seatrial.demo.fault import plant_fault
from seatrial.demo.fault_choice import Trigger
from serving.bundle import Bundle, write_bundle


def write_faulty_bundle(good: Bundle, trigger: Trigger, *, run: str) -> Bundle:
    """Writes it beside the good one: same golden rows and answers, so only traffic can tell."""
    files = {name: good.read(name) for name in good.files}
    files["model.onnx"] = plant_fault(
        files["model.onnx"], trigger.feature, trigger.above, kind="fail"
    )
    lineage = {**json.loads(files["lineage.json"]), "parent": good.digest}
    files["lineage.json"] = (json.dumps(lineage, indent=2, sort_keys=True) + "\n").encode()
    return write_bundle(good.path.parent, files, attestation={"run": run, "planted": "fault"})
