"""The pipeline component; the work is in core.py, which the image has installed."""

from kfp import dsl
from kfp.dsl import Metrics, Output


@dsl.component(base_image="seatrial/pipelines:0.1.0", install_kfp_package=False)  # type: ignore[untyped-decorator]
def batch_score(
    *,
    table: str,
    bundle: str,
    out: str,
    counts: Output[Metrics],
    keep: str = "",
    shard_rows: int = 500_000,
    worker: int = 0,
    workers: int = 1,
) -> str:
    """Scores every row of a Parquet table and returns the folder of the answers.

    Args:
        table: Parquet file, or a folder of them in the order of their names.
        bundle: the bundle's folder, or s3://BUCKET/PREFIX/NAME.
        out: folder that gets the shards.
        counts: rows, rejected rows and decisions, for the user interface.
        keep: columns to carry over, such as an id, separated by commas.
        shard_rows: rows of a shard.
        worker: which of the workers this is, from 0; it takes every workers-th shard.
        workers: how many share the work.
    """
    from pathlib import Path

    from components.batch_score.core import run

    done = run(
        table=Path(table),
        bundle=bundle,
        out=Path(out),
        keep=keep,
        shard_rows=shard_rows,
        worker=worker,
        workers=workers,
    )
    for name, count in (done["summary"] or {}).items():
        counts.log_metric(name, count)
    return out
