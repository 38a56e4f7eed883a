from __future__ import annotations

import copy
import io
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from seatrial.report import print_summary, write_report
from seatrial.report.page import render
from seatrial.report.text import metric, milliseconds, percent, seconds
from seatrial.report.verdict import verdict
from tests.support.sample_run import sample_run

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Page(HTMLParser):
    """The page's text, attributes and unclosed elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def summary(facts: dict[str, Any]) -> str:
    out = io.StringIO()
    print_summary(facts, Console(file=out, width=120))
    return out.getvalue()


def test_page_is_one_file_without_scripts_or_references_to_anything_else(tmp_path: Path) -> None:
    target = write_report(sample_run(), tmp_path / "run")
    html = target.read_text(encoding="utf-8")
    page = Page(html)
    assert [p.name for p in target.parent.iterdir()] == ["report.html"]
    assert page.open == []
    assert not {"src", "href", "action", "srcset", "data"} & {
        name for _, name, _ in page.attributes
    }
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    assert not re.search(r"<script|<link|<img|@import|url\(|https?://", html)
    assert "default-src 'none'" in html


def test_page_shows_every_fact() -> None:
    facts = sample_run()
    text = Page(render(facts)).text
    for stage in facts["stages"]:
        assert stage["name"] in text
        assert stage["detail"] in text
    for step in facts["timeline"]:
        assert step["step"] in text
        assert step["commit"][:12] in text
        for arm, weight in step["weights"].items():
            assert f"{arm} {weight} %" in text
        for arm, pid in step["pids"].items():
            assert f"{arm} pid {pid}" in text
    for row in facts["traffic"]["by_arm"]:
        assert f"{row['requests']:,}" in text
        assert milliseconds(row["p50_ms"]) in text
    for bundle in facts["bundles"]:
        for digest in ("digest", "data", "code"):
            assert bundle[digest][:12] in text
        for name, value in bundle["metrics"].items():
            assert name in text
            assert metric(value) in text
        for count in bundle["rows"].values():
            assert f"{count:,}" in text
    gateway, event = facts["gateway"], facts["drift_events"][0]
    for shown in (
        facts["run"],
        facts["command"],
        facts["data"]["source"],
        f"{facts['data']['rows']:,} rows, {facts['data']['positives']:,} positive",
        f"{facts['traffic']['answers']:,}",
        milliseconds(gateway["p50_ms"]),
        milliseconds(gateway["p99_ms"]),
        "99.97 %",
        f"{gateway['requests']:,}",
        event["type"],
        event["id"],
        event["source"],
        '"merchant_category": 0.0011',
    ):
        assert shown in text


def test_figures_are_well_formed_and_described_to_screen_readers() -> None:
    html = render(sample_run())
    figures = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert len(figures) == 4
    labels = [ElementTree.fromstring(f).attrib["aria-label"] for f in figures]  # noqa: S314
    assert labels[0].startswith("Share of traffic, requests, errors and latency by arm")
    assert labels[1] == "ROC of v1, v2, v3: true positive rate against false positive rate"
    assert "nan" not in "".join(figures).lower()


def test_rollout_figure_marks_every_step_and_draws_every_arm() -> None:
    facts = sample_run()
    figure = re.findall(r"<svg.*?</svg>", render(facts), flags=re.DOTALL)[0]
    root = ElementTree.fromstring(figure)  # noqa: S314
    classes = [element.attrib.get("class", "") for element in root.iter()]
    assert classes.count("step") == classes.count("badge") == len(facts["timeline"])
    for arm in range(3):
        assert f"area arm-{arm}" in classes
        assert f"line thin arm-{arm}" in classes
    failing = [r for r in facts["traffic"]["by_second"] if r["errors"]]
    assert classes.count("bar arm-2") == len(failing)


def test_page_escapes_what_others_wrote(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>&\"'"
    facts = sample_run()
    facts["run"] = facts["command"] = evil
    facts["stages"][0].update(name=evil, detail=evil)
    facts["timeline"][1].update(step=evil, commit=evil)
    facts["timeline"][1]["weights"][evil] = 10
    facts["traffic"]["by_arm"][0]["arm"] = evil
    facts["traffic"]["by_second"][0]["arm"] = evil
    facts["bundles"][0].update(role=evil, name=evil, digest=evil, data=evil)
    facts["bundles"][0]["metrics"][evil] = evil
    facts["drift_events"][0].update(type=evil, id=evil, data={evil: evil}, time=evil)
    facts["data"]["source"] = evil
    html = write_report(facts, tmp_path).read_text(encoding="utf-8")
    page = Page(html)
    assert "<script" not in html
    assert page.open == []
    assert evil in page.text


def test_verdict_tells_what_became_of_the_arms() -> None:
    said = verdict(sample_run())
    assert said.ok
    assert said.headline.startswith("v2 took over from v1, v3 was rolled back, and none of ")
    assert said.headline.endswith(" requests failed because of a move.")
    assert said.detail.endswith("answers were errors of a model itself (answered by v3).")


def test_verdict_is_no_pass_when_one_request_failed_because_of_a_move() -> None:
    facts = sample_run()
    facts["traffic"]["failed_by_move"] = 1
    said = verdict(facts)
    assert not said.ok
    assert "1 request of " in said.headline
    assert 'class="tile bad"' in render(facts)


def test_failed_run_names_its_stage_and_why() -> None:
    facts = sample_run()
    facts["ok"] = False
    facts["stages"][3].update(ok=False, detail="v2 never became ready")
    page = Page(render(facts)).text
    assert "Failed The run failed in stage “Canary”." in page
    assert "✗ failed" in page
    assert "FAILED" in summary(facts)
    assert "v2 never became ready" in summary(facts)


@pytest.mark.parametrize("kept", [1, 2, 3, 4])
def test_run_that_ended_early_still_gives_a_page_and_a_summary(kept: int) -> None:
    facts = sample_run()
    later = ["data", "bundles", "timeline", "traffic", "gateway", "drift_events"]
    early = {k: v for k, v in facts.items() if k not in later[kept - 1 :]}
    early.update(ok=False, stages=[{**facts["stages"][0], "ok": False, "detail": "no disk"}])
    assert "no disk" in Page(render(early)).text
    assert "no disk" in summary(early)
    assert Page(render({**facts, **dict.fromkeys(later[kept:])})).open == []


def test_page_survives_traffic_without_latency_or_a_single_answer() -> None:
    facts = sample_run()
    for row in [*facts["traffic"]["by_second"], *facts["traffic"]["by_arm"]]:
        row.update(p50_ms=None, p99_ms=None)
    assert "–" in Page(render(facts)).text
    lone = facts["traffic"]["by_second"][:1]
    none: dict[str, Any] = {"answers": 0, "seconds": 0, "rate": None, "by_arm": [], "by_second": []}
    for part in ({"by_second": lone}, none):
        changed = copy.deepcopy(facts)
        changed["traffic"].update(part)
        assert Page(render(changed)).open == []
        assert summary(changed)


def test_terminal_summary_has_stages_answers_latency_and_bundles() -> None:
    facts = sample_run()
    shown = summary(facts)
    for text in (
        "PASSED",
        "v3 was rolled back",
        "1 min 01 s",
        "0 failed because of a move",
        "p99 41.7 ms",
        "99.97 % under 100 ms",
        facts["bundles"][1]["name"],
        "0.9213",
        "io.seatrial.drift.opened",
    ):
        assert text in " ".join(shown.split())


def test_terminal_summary_takes_brackets_as_text() -> None:
    facts = sample_run()
    facts["stages"][0]["detail"] = "[red]no markup[/red]"
    assert "[red]no markup[/red]" in summary(facts)


def test_shares_are_never_rounded_up_to_all() -> None:
    assert [percent(s) for s in (0, 0.00001, 0.5, 0.99999, 1.0)] == [
        "0 %",
        "0.01 %",
        "50.00 %",
        "99.99 %",
        "100 %",
    ]
    assert [seconds(s) for s in (None, 4.21, 59.99, 61)] == ["–", "4.2 s", "60.0 s", "1 min 01 s"]


def test_chromium_renders_the_page_without_a_complaint(chromium: str, tmp_path: Path) -> None:
    page = write_report(sample_run(), tmp_path / "run")
    picture = tmp_path / "page.png"
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--enable-logging=stderr",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--screenshot={picture}",
        "--window-size=1280,3200",
    ]
    done = subprocess.run(
        [chromium, *flags, page.as_uri()], capture_output=True, text=True, check=True, timeout=60
    )
    assert "CONSOLE" not in done.stderr
    # A blank page of that size is about 15 kB.
    assert picture.stat().st_size > 100_000
