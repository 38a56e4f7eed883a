"""The pipeline component; the work is in core.py, which the image has installed."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output


@dsl.component(base_image="seatrial/drift:0.1.0", install_kfp_package=False)  # type: ignore[untyped-decorator]
def fit_drift(
    *,
    data: Input[Dataset],
    contract: str,
    drift: Output[Artifact],
    rows: int = 5000,
    p_value: float = 0.05,
    window: int = 500,
    seed: int = 0,
    detector: str = "tabular",
    watch: bool = True,
) -> None:
    """Draws the drift reference and tries the detectors on it.

    Args:
        data: an .npz of the training window in time order, one array per feature and `score`.
        contract: the contract's JSON text.
        drift: folder that gets reference.npz and config.json.
        rows: rows of the reference, at most half of the data.
        p_value: probability of a false opened event over the life of the reference.
        window: rows in a test window.
        seed: seed of the sample.
        detector: test of windows: tabular, ks, chi2, mmd, or none.
        watch: whether the always-on watch is on.
    """
    from pathlib import Path

    from components.fit_drift.core import fit_drift as run
    from serving.bundle.contract import parse_contract

    fitted = run(
        Path(data.path),
        parse_contract(contract, "contract"),
        Path(drift.path),
        rows=rows,
        p_value=p_value,
        window=window,
        seed=seed,
        detector=detector,
        watch=watch,
    )
    drift.metadata.update(fitted.figures())
