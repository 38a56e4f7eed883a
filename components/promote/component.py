"""The pipeline component; the work is in core.py, which the image has installed."""

from kfp import dsl


@dsl.component(base_image="seatrial/pipelines:0.1.0", install_kfp_package=False)  # type: ignore[untyped-decorator]
def promote(
    *,
    folder: str,
    canary: str = "",
    actuator: str = "git",
    traffic: str = "cluster",
    push: bool = False,
    source: str = "predictors",
    prometheus_url: str = "",
    recorded: str = "",
    state_dir: str = "",
    runs_dir: str = "",
    context: str = "",
) -> str:
    """Leads the canary of a deploy folder and returns promoted, rolled_back or held.

    Args:
        folder: deploy folder with manifest.yaml, rollout.yaml and plan.yaml.
        canary: the predictor to lead; empty for the plan's.
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
    """
    from pathlib import Path

    from components.promote.core import run

    def path(text: str) -> Path | None:
        return Path(text) if text else None

    ended = run(
        folder=Path(folder),
        canary=canary,
        actuator=actuator,
        traffic=traffic,
        push=push,
        source=source,
        prometheus_url=prometheus_url,
        recorded=path(recorded),
        state_dir=path(state_dir),
        runs_dir=path(runs_dir),
        context=context,
    )
    outcome: str = ended["outcome"]
    return outcome
