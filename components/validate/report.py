"""What was checked, what was found and where: one HTML page without any file beside it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.validate.rules import Finding
from serving.bundle import Contract
from serving.bundle.rows import Columns

SHOWN = 5
"""Rows shown of each finding."""
MASK = "•••"
STYLE = """body{font:14px/1.5 system-ui,sans-serif;color:#1c2733;max-width:960px;margin:2em auto;
padding:0 1em}table{border-collapse:collapse;margin:.5em 0 1.5em;display:block;overflow-x:auto}
th,td{padding:.25em .8em .25em 0;text-align:left;border-bottom:1px solid #e4e8ec;vertical-align:top}
.pass{color:#1a7f37}.warn{color:#9a6700}.fail{color:#cf222e}b{font-weight:600}"""
ALWAYS = {
    "schema": "types, ranges, categories and missing values are as the contract says",
    "duplicates": "no row repeats another",
    "time_order": "rows lie in time order",
    "label_rate": "the share of positives is alike in all slices",
    "leakage": "no feature alone gives the label away",
    "shift": "features are distributed as in the parent's reference",
}


def page(
    source: str,
    contract: Contract,
    findings: Sequence[Finding],
    *,
    columns: Columns | None = None,
    in_file: NDArray[np.intp] | None = None,
    facts: dict[str, Any] | None = None,
) -> str:
    """HTML. `in_file` gives the row of the file for each position in `columns`."""
    lines = "".join(
        f'<tr><td class="{f.result}"><b>{f.result}</b></td><td>{escape(f.rule)}</td>'
        f"<td>{escape(f.sentence or ALWAYS.get(f.rule, ''))}</td></tr>"
        for f in findings
    )
    samples = ""
    if columns is not None and in_file is not None:
        samples = "".join(
            _sample(finding, contract, columns, in_file)
            for finding in findings
            if finding.rows is not None and len(finding.rows)
        )
    slices = ""
    if facts:
        counts = "".join(f"<td>{facts['rows'][p]:,}</td>" for p in facts["rows"])
        names = "".join(f"<th>{escape(p)}</th>" for p in facts["rows"])
        slices = f"<h2>Rows</h2><table><tr>{names}</tr><tr>{counts}</tr></table>"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Data checks</title>'
        f"<style>{STYLE}</style><h1>Data checks: {escape(source)}</h1>"
        f"<p>Contract <b>{escape(contract.name)}</b></p>"
        f"<table><tr><th>result</th><th>rule</th><th>found</th></tr>{lines}</table>"
        f"{slices}{samples}</html>\n"
    )


def _sample(
    finding: Finding, contract: Contract, columns: Columns, in_file: NDArray[np.intp]
) -> str:
    """The first rows a finding concerns; features that the contract calls sensitive are masked."""
    assert finding.rows is not None  # noqa: S101 - the caller's filter
    rows = finding.rows[:SHOWN]
    names = [feature.name for feature in contract.features]
    masked = {feature.name for feature in contract.features if feature.sensitive}
    head = "".join(f"<th>{escape(name)}</th>" for name in ("row", *names))
    body = "".join(
        f"<tr><td>{int(in_file[row])}</td>"
        + "".join(
            f"<td>{MASK if name in masked else escape(str(columns[name][row])[:40])}</td>"
            for name in names
        )
        + "</tr>"
        for row in rows
    )
    return (
        f"<h2>{escape(finding.rule)}: {len(rows)} of {len(finding.rows)} rows</h2>"
        f"<table><tr>{head}</tr>{body}</table>"
    )
