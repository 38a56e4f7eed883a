"""Scores asked of a gateway over HTTP, many rows a request."""

from __future__ import annotations

import json
import math
import urllib.request

import numpy as np
from numpy.typing import NDArray

from seatrial.replay.rows import DATATYPES
from serving.bundle import Contract
from serving.bundle.rows import Columns


def scores_over_http(
    gateway: str, model: str, contract: Contract, columns: Columns, rows_a_request: int = 500
) -> NDArray[np.float64]:
    """V2 JSON, one tensor per column, null for a missing number. [rows]"""
    total = len(next(iter(columns.values())))
    found: list[float] = []
    for start in range(0, total, rows_a_request):
        inputs = []
        for feature in contract.features:
            part = columns[feature.name][start : start + rows_a_request].tolist()
            data = [None if isinstance(v, float) and math.isnan(v) else v for v in part]
            datatype = DATATYPES[feature.dtype]
            inputs.append(
                {"name": feature.name, "datatype": datatype, "shape": [len(data)], "data": data}
            )
        request = urllib.request.Request(
            f"http://{gateway}/v2/models/{model}/infer",
            json.dumps({"inputs": inputs}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            outputs = json.load(answer)["outputs"]
        found += next(output["data"] for output in outputs if output["name"] == "score")
    return np.asarray(found)
