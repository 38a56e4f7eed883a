"""The pipeline component; the work is in core.py, which the image has installed."""

from kfp import dsl


@dsl.component(base_image="seatrial/pipelines:0.1.0", install_kfp_package=False)  # type: ignore[untyped-decorator]
def register(
    *,
    bundle: str,
    registry: str = "sqlite:///registry.db",
    storage: str = "pvc://seatrial-bundles",
    alias: str = "challenger",
) -> str:
    """Registers a bundle, points an alias to it and returns its storageUri.

    Args:
        bundle: the bundle's folder, or s3://BUCKET/PREFIX/NAME.
        registry: sqlite:///FILE, or the URL of an MLflow server.
        storage: storageUri under which a path's folder is CONTRACT/FOLDER; s3:// has its own.
        alias: champion, challenger or another name; empty for none.
    """
    from components.register.core import run

    uri: str = run(bundle=bundle, registry=registry, storage=storage, alias=alias)["uri"]
    return uri
