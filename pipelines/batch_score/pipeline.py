"""Workers that share a table's shards -> a last look that writes what one of them left."""

from kfp import dsl

from components.batch_score.component import batch_score
from pipelines.cluster import CLAIM, SECRET, Storage, on_cpu, with_storage

WORKERS = 4
"""A number of the code: kfp.local plays no loop whose outcome a later step waits for."""


@dsl.pipeline(name="batch-score", display_name="Batch score")  # type: ignore[untyped-decorator]
def batch_score_pipeline(  # noqa: PLR0917 - kfp wants them plain
    table: str,
    bundle: str,
    out: str,
    keep: str = "",
    shard_rows: int = 500_000,
    claim: str = CLAIM,
    secret: str = SECRET,
) -> str:
    """Scores every row of a Parquet table with a bundle, its policy and its contract.

    Args:
        table: Parquet file, or a folder of them in the order of their names.
        bundle: the bundle's folder, or s3://BUCKET/PREFIX/NAME.
        out: folder that gets the shards.
        keep: columns to carry over, such as an id, separated by commas.
        shard_rows: rows of a shard.
        claim: PersistentVolumeClaim that steps find at /mnt/seatrial.
        secret: Secret with S3's credentials, AWS_ACCESS_KEY_ID and so on; it may be missing.

    Returns:
        The folder of the answers.
    """

    def score(worker: int, workers: int) -> dsl.PipelineTask:
        task = batch_score(
            table=table,
            bundle=bundle,
            out=out,
            keep=keep,
            shard_rows=shard_rows,
            worker=worker,
            workers=workers,
        )
        task.set_caching_options(False)
        task.set_retry(3, backoff_duration="30s")  # it goes on with the shards that are missing
        on_cpu(task, hours=12)
        with_storage(task, Storage(claim, secret))
        return task

    tasks = [score(worker, WORKERS) for worker in range(WORKERS)]
    for number, task in enumerate(tasks, 1):
        task.set_display_name(f"Score, worker {number} of {WORKERS}")
    last = score(0, 1).after(*tasks)
    last.set_display_name("Add it all up")
    folder: str = last.outputs["Output"]
    return folder


PIPELINE = batch_score_pipeline
