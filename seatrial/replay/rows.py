"""Rows of a table as V2 inference requests of one row each."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pandas as pd

from serving.bundle import Contract, canonical_columns
from serving.bundle.rows import Columns
from serving.errors import DataError, FileError

DATATYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "string": "BYTES"}
_CONTENTS = {
    "float32": "fp32_contents",
    "float64": "fp64_contents",
    "int64": "int64_contents",
    "string": "bytes_contents",
}
_BLOCK = 512


def read_rows(table: Path, contract: Contract) -> Columns:
    """The contract's feature columns of a Parquet or CSV table, canonical, [n] each.

    Raises FileError when the table cannot be read or has no rows, DataError when its columns are
    not the contract's.
    """
    names = list(contract.feature_names)
    try:
        if table.suffix == ".csv":
            text: dict[Hashable, type[str]] = {
                f.name: str for f in contract.features if f.dtype == "string"
            }
            frame = pd.read_csv(
                table,
                dtype=text,
                keep_default_na=False,
                na_values=[""],
                float_precision="round_trip",
            )
        else:
            frame = pd.read_parquet(table)
    except FileNotFoundError:
        raise FileError(f"{table}: no such table; give a Parquet or CSV file") from None
    except (OSError, ValueError) as error:
        raise FileError(f"{table}: cannot read the table: {error}") from None
    if frame.empty:
        raise FileError(f"{table}: the table has no rows; there is nothing to replay")
    for name in names:
        if name not in frame:
            raise DataError(f"{table}: column '{name}' is missing; the contract needs it")
    try:
        return canonical_columns(contract, {name: frame[name].to_numpy() for name in names})
    except DataError as error:
        raise DataError(f"{table}: {error}") from None


class Requests:
    """Encodes rows for either wire; `index` wraps around at the end of the table."""

    def __init__(self, columns: Columns, contract: Contract, model: str) -> None:
        self.count = len(next(iter(columns.values())))
        self._columns = columns
        self._features = [(f.name, f.dtype) for f in contract.features]
        self._model = model
        self._block: list[tuple[Any, ...]] = []
        self._block_start = -1

    def http_body(self, index: int) -> bytes:
        """A V2 JSON request: one tensor a column, null for a missing number."""
        inputs = [
            {"name": name, "shape": [1], "datatype": DATATYPES[dtype], "data": [value]}
            for name, dtype, value in self._values(index)
        ]
        return orjson.dumps({"id": f"row-{index % self.count}", "inputs": inputs})

    def grpc_message(self, index: int) -> bytes:
        """A serialised ModelInferRequest: one tensor a column, NaN for a missing number."""
        # kserve imports its whole server with its messages: only who speaks gRPC pays for it.
        from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb  # noqa: PLC0415

        tensor, contents = pb.ModelInferRequest.InferInputTensor, pb.InferTensorContents
        request = pb.ModelInferRequest(
            model_name=self._model,
            id=f"row-{index % self.count}",
            inputs=[
                tensor(
                    name=name,
                    datatype=DATATYPES[dtype],
                    shape=[1],
                    contents=contents(
                        **{_CONTENTS[dtype]: [value.encode() if dtype == "string" else value]}
                    ),
                )
                for name, dtype, value in self._values(index)
            ],
        )
        return bytes(request.SerializeToString())

    def _values(self, index: int) -> Iterator[tuple[str, str, Any]]:
        row = index % self.count
        start = row - row % _BLOCK
        if start != self._block_start:
            # Python values of a block at a time: fast to encode, and small whatever the table.
            columns = (self._columns[name][start : start + _BLOCK] for name, _ in self._features)
            self._block = list(zip(*(c.tolist() for c in columns), strict=True))
            self._block_start = start
        for (name, dtype), value in zip(self._features, self._block[row - start], strict=True):
            yield name, dtype, value
