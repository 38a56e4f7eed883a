"""ingest -> validate -> trials side by side -> train with the best settings -> … -> bundle."""

from kfp import dsl

from pipelines.cluster import CLAIM, GPU, GPU_NODES, GPU_TOLERATIONS, SECRET, Pool, Storage
from pipelines.train.steps import Given, Trials, bundle_steps

NUMBERS = list(range(12))


@dsl.pipeline(name="tune", display_name="Tune and train")  # type: ignore[untyped-decorator]
def tune_pipeline(  # noqa: PLR0917 - kfp wants them plain
    table: str,
    contract: str,
    out: str,
    trials: list[int] = NUMBERS,
    folds: int = 3,
    trial_epochs: int = 10,
    parent: str = "",
    champion: str = "",
    seed: int = 0,
    window_from: str = "",
    window_to: str = "",
    test_fraction: float = 0.2,
    family: str = "auto",
    epochs: int = 10,
    checkpoints: str = "",
    claim: str = CLAIM,
    secret: str = SECRET,
    gpu: str = GPU,
    gpu_count: str = "1",
    gpu_nodes: dict[str, str] = GPU_NODES,
    gpu_tolerations: list[dict[str, str]] = GPU_TOLERATIONS,
    train_cpu: str = "4",
    train_memory: str = "16Gi",
) -> str:
    """Tries settings side by side and trains with the best ones.

    Args:
        table: CSV or Parquet file, as a path that the first step can read.
        contract: the contract's JSON text.
        out: folder, or s3://BUCKET/PREFIX, that gets the bundle as a folder of its own.
        trials: numbers of the trials, at least one; each draws settings of its own.
        folds: time folds that each trial is judged on.
        trial_epochs: most passes of a trial's network over the rows of a fold.
        parent: digest of the bundle that the new one succeeds; empty for the first.
        champion: bundle in production to compare rows and model with, a path or s3://…; empty for
            none.
        seed: seed of every random choice.
        window_from: rows earlier than this time are left out; empty for none.
        window_to: rows from this time on, and labels known only then, are left out; empty for none.
        test_fraction: share of the rows that the model is judged on.
        family: auto tries and compares all; network or tree that one only.
        epochs: most passes over the training rows.
        checkpoints: folder or s3:// URI that a retry on another node goes on from; empty for none.
        claim: PersistentVolumeClaim that steps find at /mnt/seatrial.
        secret: Secret with S3's credentials, AWS_ACCESS_KEY_ID and so on; it may be missing.
        gpu: resource name of the training step's accelerator.
        gpu_count: how many of them; 0 for none.
        gpu_nodes: labels of the accelerator's node pool; {} for any node.
        gpu_tolerations: the pool's taints, as tolerations.
        train_cpu: cores that the training step asks for.
        train_memory: memory that the training step asks for.

    Returns:
        The path of the bundle's folder.
    """
    bundling = bundle_steps(
        Given(table, contract, out, parent, champion, seed, dsl.PIPELINE_JOB_NAME_PLACEHOLDER),
        split={
            "window_from": window_from,
            "window_to": window_to,
            "test_fraction": test_fraction,
        },
        training={"family": family, "epochs": epochs, "checkpoints": checkpoints},
        drift={},
        pool=Pool(gpu, gpu_count, gpu_nodes, gpu_tolerations, train_cpu, train_memory),
        storage=Storage(claim, secret),
        trials=Trials(trials, {"family": family, "epochs": trial_epochs, "folds": folds}),
    )
    path: str = bundling.outputs["Output"]
    return path


PIPELINE = tune_pipeline
