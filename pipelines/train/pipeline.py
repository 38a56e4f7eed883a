"""ingest -> validate -> train -> export -> evaluate -> fit_drift -> bundle (-> register)."""

from kfp import dsl

from components.register.component import register
from pipelines.cluster import (
    CLAIM,
    GPU,
    GPU_NODES,
    GPU_TOLERATIONS,
    SECRET,
    Pool,
    Storage,
    on_cpu,
    with_storage,
)
from pipelines.train.steps import Given, bundle_steps


@dsl.pipeline(name="train", display_name="Train")  # type: ignore[untyped-decorator]
def train_pipeline(  # noqa: PLR0917 - kfp wants them plain
    table: str,
    contract: str,
    out: str,
    parent: str = "",
    champion: str = "",
    seed: int = 0,
    window_from: str = "",
    window_to: str = "",
    test_from: str = "",
    validation_fraction: float = 0.15,
    test_fraction: float = 0.2,
    family: str = "auto",
    epochs: int = 10,
    patience: int = 3,
    learning_rate: float = 0.004,
    trials: int = 0,
    folds: int = 3,
    checkpoints: str = "",
    drift_rows: int = 5000,
    drift_window: int = 500,
    registry: str = "",
    storage: str = "pvc://seatrial-bundles",
    claim: str = CLAIM,
    secret: str = SECRET,
    gpu: str = GPU,
    gpu_count: str = "1",
    gpu_nodes: dict[str, str] = GPU_NODES,
    gpu_tolerations: list[dict[str, str]] = GPU_TOLERATIONS,
    train_cpu: str = "4",
    train_memory: str = "16Gi",
) -> str:
    """Trains a model on a table and writes its bundle.

    Args:
        table: CSV or Parquet file, as a path that the first step can read.
        contract: the contract's JSON text.
        out: folder, or s3://BUCKET/PREFIX, that gets the bundle as a folder of its own.
        parent: digest of the bundle that the new one succeeds; empty for the first.
        champion: bundle in production to compare rows and model with, a path or s3://…; empty for
            none.
        seed: seed of every random choice.
        window_from: rows earlier than this time are left out; empty for none.
        window_to: rows from this time on, and labels known only then, are left out; empty for none.
        test_from: time at which the test slice begins; empty for the last test_fraction of rows.
        validation_fraction: share of the rows before the test slice that training stops by.
        test_fraction: share of the rows that the model is judged on.
        family: auto compares all; network, tree or logistic trains that one only.
        epochs: most passes over the training rows.
        patience: passes without a better validation loss after which training stops.
        learning_rate: largest step size; it falls to zero along a cosine.
        trials: settings to try over time folds before training; 0 for none.
        folds: time folds that each trial is judged on.
        checkpoints: folder or s3:// URI that a retry on another node goes on from; empty for none.
        drift_rows: rows of the drift reference.
        drift_window: rows in a window that the drift detector tests.
        registry: sqlite:///FILE or the URL of an MLflow server; empty registers nothing.
        storage: storageUri under which a registered path's folder is CONTRACT/FOLDER.
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
    files = Storage(claim, secret)
    bundling = bundle_steps(
        Given(table, contract, out, parent, champion, seed, dsl.PIPELINE_JOB_NAME_PLACEHOLDER),
        split={
            "window_from": window_from,
            "window_to": window_to,
            "test_from": test_from,
            "validation_fraction": validation_fraction,
            "test_fraction": test_fraction,
        },
        training={
            "family": family,
            "epochs": epochs,
            "patience": patience,
            "learning_rate": learning_rate,
            "trials": trials,
            "folds": folds,
            "checkpoints": checkpoints,
        },
        drift={"rows": drift_rows, "window": drift_window},
        pool=Pool(gpu, gpu_count, gpu_nodes, gpu_tolerations, train_cpu, train_memory),
        storage=files,
    )
    path: str = bundling.outputs["Output"]
    # On a parameter of the pipeline: on a step's named output kfp.local skips it without a word.
    with dsl.If(registry != "", name="Registered, if asked"):
        registering = register(bundle=path, registry=registry, storage=storage)
        registering.set_display_name("Register the bundle")
        registering.set_caching_options(False)
        on_cpu(registering)
        with_storage(registering, files)
    return path


PIPELINE = train_pipeline
