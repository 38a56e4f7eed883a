"""Bad canaries: the good bundle's files with its graph spoilt, and nothing to see in them."""

from __future__ import annotations

import json

from components.scoring import model_scores, open_model
from seatrial.demo.fault import plant_fault, shift_scores
from seatrial.demo.fault_choice import Trigger
from serving.bundle import Bundle, canonical_columns, write_bundle


def write_failing_bundle(good: Bundle, trigger: Trigger, *, run: str) -> Bundle:
    """Fails where the trigger is met; its golden rows, the good bundle's, never do."""
    model = plant_fault(good.read("model.onnx"), trigger.feature, trigger.above, kind="fail")
    return _write(good, model, good.read("golden.json"), run=run, planted="fault")


def write_shifted_bundle(good: Bundle, by: float, *, run: str) -> Bundle:
    """Answers as fast as the good one, every score's logit moved by `by`; its golden rows agree."""
    model = shift_scores(good.read("model.onnx"), by)
    golden = good.read_json("golden.json")
    columns = canonical_columns(good.contract, golden["columns"])
    golden["score"] = model_scores(open_model(model), columns).tolist()
    return _write(good, model, json.dumps(golden).encode(), run=run, planted="shift")


def _write(good: Bundle, model: bytes, golden: bytes, *, run: str, planted: str) -> Bundle:
    files = {name: good.read(name) for name in good.files}
    lineage = {**json.loads(files["lineage.json"]), "parent": good.digest}
    files |= {
        "model.onnx": model,
        "golden.json": golden,
        "lineage.json": (json.dumps(lineage, indent=2, sort_keys=True) + "\n").encode(),
    }
    return write_bundle(good.path.parent, files, attestation={"run": run, "planted": planted})
