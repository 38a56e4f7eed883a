"""The pipeline component; the work is in core.py, which the image has installed."""

from kfp import dsl


@dsl.component(base_image="seatrial/pipelines:0.1.0", install_kfp_package=False)  # type: ignore[untyped-decorator]
def deploy(
    *,
    folder: str,
    uri: str,
    name: str = "",
    percent: int = 0,
    become: str = "canary",
    mode: str = "folder",
    context: str = "",
) -> str:
    """Writes a bundle into the rollout of a deploy folder and returns its predictor's name.

    Args:
        folder: deploy folder with manifest.yaml and rollout.yaml.
        uri: storageUri of the bundle.
        name: the predictor's name; made from the bundle's digest when empty.
        percent: traffic of a new canary; 0 leaves its steps to the gate.
        become: canary, or stable to go back at once; today's stable then stays warm at 0 %.
        mode: folder (write rollout.yaml), git (and commit it), push (and push), cluster (apply it).
        context: kubeconfig's context, for mode cluster; empty for the current one.
    """
    from pathlib import Path

    from components.deploy.core import run

    written = run(
        folder=Path(folder),
        uri=uri,
        name=name,
        percent=percent,
        become=become,
        mode=mode,
        context=context,
    )
    predictor: str = written["name"]
    return predictor
