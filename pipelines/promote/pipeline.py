"""deploy -> promote."""

from kfp import dsl

from components.deploy.component import deploy
from components.promote.component import promote
from pipelines.cluster import CLAIM, SECRET, Storage, on_cpu, with_storage

DAYS = 3


@dsl.pipeline(name="promote", display_name="Promote")  # type: ignore[untyped-decorator]
def promote_pipeline(  # noqa: PLR0917 - kfp wants them plain
    folder: str,
    uri: str,
    mode: str = "git",
    actuator: str = "git",
    traffic: str = "cluster",
    push: bool = False,
    source: str = "predictors",
    prometheus_url: str = "",
    recorded: str = "",
    state_dir: str = "",
    runs_dir: str = "",
    context: str = "",
    claim: str = CLAIM,
    secret: str = SECRET,
) -> str:
    """Lists a bundle as canary and leads it to promotion or back.

    Args:
        folder: deploy folder with manifest.yaml, rollout.yaml and plan.yaml.
        uri: storageUri of the bundle.
        mode: folder (write rollout.yaml), git (and commit it), push (and push), cluster (apply it).
        actuator: who makes a move: git (a commit), kubernetes (the gate itself), local (the
            player).
        traffic: where a commit takes effect: cluster or local; for actuator git.
        push: push every commit; for actuator git.
        source: who counts: predictors, prometheus, or file.
        prometheus_url: its address, for source prometheus.
        recorded: the file of intervals, for source file.
        state_dir: the player's state, for what is local.
        runs_dir: where runs are kept; in the deploy folder otherwise.
        context: kubeconfig's context; empty for the current one.
        claim: PersistentVolumeClaim that steps find at /mnt/seatrial.
        secret: Secret with S3's credentials, AWS_ACCESS_KEY_ID and so on; it may be missing.

    Returns:
        promoted, rolled_back or held.
    """
    files = Storage(claim, secret)
    deploying = deploy(folder=folder, uri=uri, mode=mode, context=context)
    deploying.set_display_name("List the canary")
    leading = promote(
        folder=folder,
        canary=deploying.outputs["Output"],
        actuator=actuator,
        traffic=traffic,
        push=push,
        source=source,
        prometheus_url=prometheus_url,
        recorded=recorded,
        state_dir=state_dir,
        runs_dir=runs_dir,
        context=context,
    )
    leading.set_display_name("Lead the canary")
    for task, hours in ((deploying, 1), (leading, DAYS * 24)):
        task.set_caching_options(False)
        on_cpu(task, hours=hours, memory="2Gi")
        with_storage(task, files)
    outcome: str = leading.outputs["Output"]
    return outcome


PIPELINE = promote_pipeline
