"""The pipeline component; the work is in core.py, which the image has installed."""

from kfp import dsl
from kfp.dsl import HTML, Dataset, Input, Output


@dsl.component(base_image="seatrial/pipelines:0.1.0", install_kfp_package=False)  # type: ignore[untyped-decorator]
def validate(
    *,
    table: Input[Dataset],
    contract: str,
    checked: Output[Dataset],
    findings: Output[HTML],
    parent: str = "",
    window_from: str = "",
    window_to: str = "",
    test_from: str = "",
    validation_fraction: float = 0.15,
    test_fraction: float = 0.2,
    newest: float = 0.0,
) -> None:
    """Checks a table against its contract and splits it by time.

    Args:
        table: folder that the ingest step wrote.
        contract: the contract's JSON text.
        checked: folder that gets the checked rows.
        findings: what was checked and found, for the user interface.
        parent: bundle whose drift reference the rows are compared with, a path or s3://…; empty
            for none.
        window_from: rows earlier than this time are left out; empty for none.
        window_to: rows from this time on, and labels known only then, are left out; empty for none.
        test_from: time at which the test slice begins; empty for the last test_fraction of rows.
        validation_fraction: share of the rows before the test slice that training stops by.
        test_fraction: share of the rows that the model is judged on.
        newest: only rows of this much time before the window's end; 0 for all.
    """
    import tempfile
    from pathlib import Path

    from components.storage import fetch
    from components.validate.core import moment, run
    from serving.bundle.contract import parse_contract

    with tempfile.TemporaryDirectory() as scratch:
        facts = run(
            table=Path(table.path),
            contract=parse_contract(contract, "contract"),
            checked=Path(checked.path),
            findings=Path(findings.path),
            parent=fetch(parent, Path(scratch)).path if parent else None,
            window_from=moment("window_from", window_from),
            window_to=moment("window_to", window_to),
            test_from=moment("test_from", test_from),
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            newest=newest,
        )
    checked.metadata["data"] = facts["data"]
    checked.metadata["rows"] = sum(facts["rows"].values())
