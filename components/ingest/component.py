"""The pipeline component; the work is in core.py, which the image has installed."""

from kfp import dsl
from kfp.dsl import Dataset, Output


@dsl.component(base_image="seatrial/pipelines:0.1.0", install_kfp_package=False)  # type: ignore[untyped-decorator]
def ingest(*, source: str, contract: str, table: Output[Dataset]) -> None:
    """Writes the columns that the contract uses as typed Parquet in time order.

    Args:
        source: CSV or Parquet file, as a path that the step can read.
        contract: the contract's JSON text.
        table: folder that gets table.parquet and facts.json.
    """
    from pathlib import Path

    from components.ingest.core import run
    from serving.bundle.contract import parse_contract

    facts = run(
        source=Path(source),
        contract=parse_contract(contract, "contract"),
        table=Path(table.path),
    )
    table.metadata["data"] = facts["data"]
    table.metadata["rows"] = facts["rows"]
