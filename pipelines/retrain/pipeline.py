"""The steps of train on the newest rows -> register -> deploy, as a canary."""

from kfp import dsl

from components.deploy.component import deploy
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


@dsl.pipeline(name="retrain", display_name="Retrain")  # type: ignore[untyped-decorator]
def retrain_pipeline(  # noqa: PLR0917 - kfp wants them plain
    event_id: str,
    table: str,
    contract: str,
    out: str,
    registry: str,
    folder: str,
    parent: str = "",
    champion: str = "",
    newest: float = 0.0,
    window_from: str = "",
    window_to: str = "",
    test_fraction: float = 0.2,
    seed: int = 0,
    family: str = "auto",
    epochs: int = 10,
    checkpoints: str = "",
    storage: str = "pvc://seatrial-bundles",
    percent: int = 0,
    mode: str = "folder",
    claim: str = CLAIM,
    secret: str = SECRET,
    gpu: str = GPU,
    gpu_count: str = "1",
    gpu_nodes: dict[str, str] = GPU_NODES,
    gpu_tolerations: list[dict[str, str]] = GPU_TOLERATIONS,
    train_cpu: str = "4",
    train_memory: str = "16Gi",
) -> str:
    """Trains on the newest rows, registers the bundle and makes it the canary of a deploy folder.

    Args:
        event_id: the drift event, or the schedule's time: kept with the bundle as its run.
        table: CSV or Parquet file, as a path that the first step can read.
        contract: the contract's JSON text.
        out: folder, or s3://BUCKET/PREFIX, that gets the bundle as a folder of its own.
        registry: sqlite:///FILE or the URL of an MLflow server.
        folder: deploy folder with manifest.yaml and rollout.yaml.
        parent: digest of the bundle that the new one succeeds; empty for none.
        champion: bundle in production to compare rows and model with, a path or s3://…; empty for
            none.
        newest: train on rows of this much time before the window's end; 0 for all.
        window_from: rows earlier than this time are left out; empty for none.
        window_to: rows from this time on, and labels known only then, are left out; empty for none.
        test_fraction: share of the rows that the model is judged on.
        seed: seed of every random choice.
        family: auto compares all; network, tree or logistic trains that one only.
        epochs: most passes over the training rows.
        checkpoints: folder or s3:// URI that a retry on another node goes on from; empty for none.
        storage: storageUri under which a registered path's folder is CONTRACT/FOLDER.
        percent: traffic of the new canary; 0 leaves its steps to the gate.
        mode: folder (write rollout.yaml), git (and commit it), push (and push), cluster (apply it).
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
        Given(table, contract, out, parent, champion, seed, event_id),
        split={
            "newest": newest,
            "window_from": window_from,
            "window_to": window_to,
            "test_fraction": test_fraction,
        },
        training={"family": family, "epochs": epochs, "checkpoints": checkpoints},
        drift={},
        pool=Pool(gpu, gpu_count, gpu_nodes, gpu_tolerations, train_cpu, train_memory),
        storage=files,
        cached=False,
    )
    path: str = bundling.outputs["Output"]
    registering = register(bundle=path, registry=registry, storage=storage)
    registering.set_display_name("Register the bundle")
    deploying = deploy(folder=folder, uri=registering.outputs["Output"], percent=percent, mode=mode)
    deploying.set_display_name("List the canary")
    for task in (registering, deploying):
        task.set_caching_options(False)
        on_cpu(task)
        with_storage(task, files)
    return path


PIPELINE = retrain_pipeline
