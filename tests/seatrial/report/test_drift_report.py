"""The drift page, merged snapshots and labels, from sidecars that run as real processes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from seatrial.cli import cli
from seatrial.labels import read_table
from seatrial.report.drift import merge_snapshots, read_status, render
from seatrial.report.drift.figures import grouped, span
from seatrial.report.drift.reading import direction, read_pod
from serving.bundle import Bundle
from serving.errors import DataError, FileError
from tests.serving.drift.stream import (
    CONFIG,
    REFERENCE,
    Columns,
    Sidecar,
    columns,
    rows_event,
    wait_until,
)
from tests.support.tiny import tiny_bundle

ROWS = 2_000
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
METRICS = {
    "rows": {"test": 1000},
    "confusion": {"review": [[600.0, 50.0], [50.0, 300.0]]},
    "curves": {"calibration": [[0.2, 0.2, 500], [0.7, 0.7, 500]]},
    "metrics": {"average_precision": 0.8},
}


@dataclass(frozen=True)
class Watched:
    """A replica that saw clean rows, shifted rows and labels, and is gone."""

    bundle: Bundle
    status: dict[str, Any]
    file: Path
    snapshot: Path
    labels: Any
    """What `seatrial labels` printed as JSON."""


def send(sidecar: Sidecar, rows: Columns, name: str, digest: str, start: datetime) -> None:
    for first in range(0, len(rows["score"]), 100):
        part = {key: values[first : first + 100] for key, values in rows.items()}
        when = (start + timedelta(seconds=first / 10)).isoformat()
        event = rows_event(part, f"{name}-{first}", digest, when)
        assert sidecar.request("POST", "/events", event) == (202, b"")


def has_seen(sidecar: Sidecar, rows: int) -> bool:
    taken = sidecar.status()["input"]
    return bool(taken["rows"] >= rows and taken["waiting"] == 0)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("watched")
    files: dict[str, Any] = {
        "drift/reference.npz": REFERENCE,
        "drift/config.json": json.dumps(CONFIG).encode(),
        "metrics.json": json.dumps(METRICS).encode(),
    }
    bundle = tiny_bundle(folder, **files)
    python, state = Path(sys.executable), folder / "state"
    flags = ("--state_dir", str(state), "--average_run_length", "100000")
    sidecar = Sidecar(python, folder / "log", *flags, "--snapshot_seconds", "0.2")
    try:
        sidecar.introduce(digest=bundle.digest, metrics=METRICS, config=CONFIG)
        send(sidecar, columns(ROWS, 5), "clean", bundle.digest, START)
        shifted = columns(ROWS, 6)
        shifted["amount"] = shifted["amount"] * 1.4
        send(sidecar, shifted, "shifted", bundle.digest, START + timedelta(minutes=5))
        wait_until(lambda: has_seen(sidecar, 2 * ROWS), "all rows")
        table = folder / "labels.csv"
        ids = [f"clean-{first}-{row}" for first in range(0, ROWS, 100) for row in range(100)]
        outcome = np.random.default_rng(1).random(ROWS) < 0.3
        pd.DataFrame({"id": [*ids, "nobody"], "outcome": [*outcome.astype(int), 1]}).to_csv(table)
        url = f"http://127.0.0.1:{sidecar.port}"
        sent = CliRunner().invoke(cli, ["labels", str(table), "--url", url, "--json", "--quiet"])
        assert sent.exit_code == 0, sent.output
        file = folder / "status.json"
        file.write_text(json.dumps(dict(read_status(url))))
    finally:
        assert sidecar.stop() == 0
    status = json.loads(file.read_text())
    return Watched(bundle, status, file, state / "snapshot.npz", json.loads(sent.output))


def test_the_page_names_what_moved_first_before_all_else(watched: Watched) -> None:
    pod = read_pod(watched.status)
    assert pod.state == "open"
    assert pod.headline.startswith("amount moved first (higher, major)")
    assert pod.features[0]["name"] == "amount"
    html = render([watched.status])
    order = [
        "What moved first, and how much",
        "Reference and window, feature by feature",
        "Evidence over time",
        "Data quality",
        "Performance with labels",
        "What to do next",
    ]
    assert [html.index(title) for title in order] == sorted(html.index(t) for t in order)
    assert "amount moved" in html[html.index("What to do next") :]


def test_the_page_is_one_file_without_scripts_or_references(watched: Watched) -> None:
    html = render([watched.status])
    assert not re.search(r"<script|<link|<img|@import|url\(|https?://|\son\w+=", html)
    assert "default-src 'none'" in html


def test_figures_are_well_formed_and_one_shows_each_feature(watched: Watched) -> None:
    figures = re.findall(r"<svg.*?</svg>", render([watched.status]), flags=re.DOTALL)
    labels = [ElementTree.fromstring(f).attrib["aria-label"] for f in figures]  # noqa: S314
    for feature in watched.status["features"]:
        assert f"{feature['name']}: share of rows by value, reference and window" in labels
    assert labels[-1] == "Evidence for drift over time, against the threshold"


def test_bars_hold_all_rows_however_many_cells_a_feature_has(watched: Watched) -> None:
    for feature in watched.status["features"]:
        bars = grouped(feature)
        assert len(bars) <= 12
        assert sum(bar[1] for bar in bars) == pytest.approx(1.0)
        assert sum(bar[2] for bar in bars) == pytest.approx(1.0)
    assert [span(s) for s in (5, 119, 300, 7200, 200_000)] == [
        "5 s",
        "119 s",
        "5 min",
        "2 h",
        "2.31 d",
    ]


def test_directions_are_read_off_the_bins() -> None:
    def number(*window: float) -> dict[str, Any]:
        bins = [{"label": str(i), "reference": 0.25, "window": w} for i, w in enumerate(window)]
        return {"kind": "number", "bins": bins}

    assert direction(number(0.1, 0.2, 0.3, 0.4), "location") == "higher"
    assert direction(number(0.4, 0.3, 0.2, 0.1), "range") == "lower"
    assert direction(number(0.4, 0.1, 0.1, 0.4), "scale") == "wider"
    assert direction(number(0.1, 0.4, 0.4, 0.1), "scale") == "narrower"
    mix = {"kind": "category", "bins": number(0.1, 0.2, 0.3, 0.4)["bins"]}
    assert direction(mix, "category") in ("fewer 0", "more 3")
    missing = {"bins": [], "missing_ratio": 0.2, "reference_missing_ratio": 0.1}
    assert direction(missing, "missing") == "more missing"


def test_the_page_escapes_names_from_the_stream(watched: Watched) -> None:
    status, evil = deepcopy(watched.status), "<script>alert('x')</script>"
    status["features"][0]["name"] = evil
    status["features"][0]["bins"][1]["label"] = evil
    status["problems"] = [evil]
    status["bundle"]["model"] = evil
    assert "<script" not in render([status])


def test_a_quiet_a_blind_and_a_resolved_sidecar_have_their_page_too(watched: Watched) -> None:
    quiet = {**watched.status, "open": False, "episode": None}
    assert read_pod(quiet).headline == "No drift in 4,000 rows."
    ended = {**watched.status["episode"], "resolved": "2026-03-01T13:00:00.000Z"}
    resolved = {**watched.status, "open": False, "episode": ended}
    assert read_pod(resolved).headline.endswith("resolved at 13:00:00 UTC on 1 March.")
    keys = ("format", "time", "replica", "input", "problems", "open", "events", "state")
    blind = {**{key: watched.status[key] for key in keys}, "bundle": None}
    pages = render([quiet, blind, watched.status, resolved])
    assert pages.index("amount moved first") < pages.index("introduced a bundle")
    assert "This page shows 4 sidecars." in pages


def test_data_quality_comes_first_in_what_to_do(watched: Watched) -> None:
    raised = {"feature": "age", "kind": "missing", "rows": 50, "share": 0.25, "since": "now"}
    advice = read_pod({**watched.status, "quality": {"raised": [raised]}}).advice
    assert advice[0].startswith("Begin upstream: age has 'missing' in 25.00 % of rows.")


def test_labels_reach_the_sidecar_and_say_how_many_joined(watched: Watched) -> None:
    (told,) = watched.labels["sidecars"]
    assert (watched.labels["labels"], told["joined"]) == (ROWS + 1, ROWS)
    # The tiny stream approves every row, and 30 % of them were positive.
    assert told["accuracy"] == pytest.approx(0.7, abs=0.05)
    assert "average precision" in render([watched.status])


def test_snapshots_of_replicas_add_up(watched: Watched, tmp_path: Path) -> None:
    other = tmp_path / "other.npz"
    other.write_bytes(watched.snapshot.read_bytes())
    one = merge_snapshots(watched.bundle, [watched.snapshot])
    both = merge_snapshots(watched.bundle, [watched.snapshot, other])
    assert (one["input"]["rows"], both["input"]["rows"]) == (2 * ROWS, 4 * ROWS)
    psi = {f["name"]: f["psi"] for f in watched.status["features"]}
    for feature in both["features"]:
        assert feature["psi"] == pytest.approx(psi[feature["name"]], rel=0.3, abs=0.02)
    page = tmp_path / "pages" / "merged.html"
    arguments = ["drift", "merge", str(watched.snapshot), str(other), "--out", str(page)]
    done = CliRunner().invoke(cli, [*arguments, "--bundle", str(watched.bundle.path)])
    assert done.exit_code == 0, done.output
    assert "2 replicas merged, 8,000 rows" in done.output
    assert "2 replicas merged" in page.read_text()


def test_snapshots_that_do_not_belong_together_are_refused(
    watched: Watched, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="given twice"):
        merge_snapshots(watched.bundle, [watched.snapshot, watched.snapshot])
    with pytest.raises(DataError, match="give theirs"):
        merge_snapshots(tiny_bundle(tmp_path, bias=1.0), [watched.snapshot])
    (tmp_path / "none.npz").write_bytes(b"PK")
    with pytest.raises(FileError, match="not a snapshot"):
        merge_snapshots(watched.bundle, [tmp_path / "none.npz"])


def test_command_writes_the_page_and_says_the_headline(watched: Watched, tmp_path: Path) -> None:
    page = tmp_path / "drift.html"
    done = CliRunner().invoke(cli, ["drift", "report", str(watched.file), "--out", str(page)])
    assert done.exit_code == 0, done.output
    assert "amount moved first" in done.output
    assert page.exists()
    shown = CliRunner().invoke(cli, ["drift", "report", str(watched.file), "--json"])
    assert json.loads(shown.output) == [watched.status]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{}", "not a status of format"), ("{", "not a status"), (None, "give a URL or a saved")],
)
def test_what_is_no_status_is_named(tmp_path: Path, text: str | None, sentence: str) -> None:
    file = tmp_path / "status.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises((DataError, FileError), match=sentence):
        read_status(str(file))


def test_label_tables_of_every_kind_read_the_same(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "id": ["1", "2", "3"],
            "outcome": [1, 0, 1],
            "time": pd.to_datetime(pd.Series(["2026-01-01", "2026-01-02", None]), utc=True),
        }
    )
    frame.to_parquet(tmp_path / "l.parquet")
    frame.to_csv(tmp_path / "l.csv")
    lines = ['{"id": "1", "outcome": 1, "time": "2026-01-01"}', '{"id": "2", "outcome": false}']
    (tmp_path / "l.jsonl").write_text("\n".join(lines))
    parquet, csv = read_table(tmp_path / "l.parquet"), read_table(tmp_path / "l.csv")
    assert parquet.ids == csv.ids == ["1", "2", "3"]
    assert parquet.times[:2] == csv.times[:2] == [1_767_225_600, 1_767_312_000]
    jsonl = read_table(tmp_path / "l.jsonl")
    assert (jsonl.ids, jsonl.outcomes, jsonl.times[0]) == (["1", "2"], [True, False], 1_767_225_600)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("l.csv", "id,truth\n1,1\n", "column 'outcome' is missing"),
        ("l.csv", "id,outcome\n1,maybe\n", "l.csv: label 1 .'1'.: outcome 'maybe'"),
        ("l.jsonl", '{"id": "1"}\n{', "l.jsonl: labels, line 2"),
        ("l.parquet", "no", "not a CSV or Parquet table"),
    ],
)
def test_label_tables_that_cannot_be_read_are_named(
    tmp_path: Path, name: str, text: str, sentence: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises((DataError, FileError), match=sentence):
        read_table(tmp_path / name)


def test_chromium_renders_the_page_without_a_complaint(
    watched: Watched, chromium: str, tmp_path: Path
) -> None:
    page, picture = tmp_path / "drift.html", tmp_path / "page.png"
    page.write_text(render([watched.status]))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    flags += ["--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += [f"--screenshot={picture}", "--window-size=1280,2600"]
    done = subprocess.run(
        [chromium, *flags, page.as_uri()], capture_output=True, text=True, check=True, timeout=60
    )
    assert "CONSOLE" not in done.stderr
    assert picture.stat().st_size > 80_000
