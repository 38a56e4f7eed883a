"""Rules and dashboards ask for what our processes export, and alerts fire when they should."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from serving.predictor.metrics import SECONDS
from serving.rollout.sources.counters import GRPC_ERRORS
from tests.serving.drift.stream import Sidecar, columns, wait_until
from tests.serving.predictor.servers import ROW, free_port, grpc_request, serve, wait_for
from tests.serving.retrain.receivers import Receiver, event, eventually
from tests.support.cluster_set import MANIFESTS, ROOT, ClusterSet, Document, combined
from tests.support.promql import Selector, grouping_labels, selectors
from tests.support.tiny import tiny_bundle

RULES = Path(__file__).parent / "rules"
DASHBOARDS = {"service", "rollout", "drift", "business"}
# Not ours: Prometheus itself, the kubelet with cAdvisor, and kube-state-metrics.
FOREIGN = {
    "up": set(),
    "container_memory_working_set_bytes": set(),
    "container_cpu_cfs_periods_total": set(),
    "container_cpu_cfs_throttled_periods_total": set(),
    "kubelet_volume_stats_available_bytes": {"persistentvolumeclaim"},
    "kubelet_volume_stats_capacity_bytes": {"persistentvolumeclaim"},
    "kube_pod_container_resource_limits": {"resource"},
    "kube_pod_container_status_restarts_total": set(),
    "kube_cronjob_status_last_successful_time": {"cronjob"},
}
# Of families that show no sample, and so no label, before their first count.
UNCOUNTED = {
    "seatrial_gate_runs_total": {"phase"},
    "seatrial_drift_violations": {"column", "kind"},
    "seatrial_drift_rows_dropped_total": {"reason"},
}
# What a scrape adds; app is the PodMonitor's.
TARGET = {"namespace", "pod", "container", "job", "instance", "app"}
Exported = dict[str, set[str]]
"""Sample names with the labels they have."""


@pytest.fixture(scope="module")
def monitored(kubectl: str, tmp_path_factory: pytest.TempPathFactory) -> ClusterSet:
    assert kubectl
    return combined(tmp_path_factory.mktemp("monitored"), "overlays/cpu", ["monitoring"])


def groups() -> list[Document]:
    files = (MANIFESTS / "components" / "monitoring").glob("prometheusrule-*.yaml")
    return [
        group
        for file in sorted(files)
        for group in yaml.safe_load(file.read_text("utf-8"))["spec"]["groups"]
    ]


def rules(kind: str) -> list[Document]:
    return [rule for group in groups() for rule in group["rules"] if kind in rule]


ALERTS = {rule["alert"]: rule for rule in rules("alert")}
RECORDS = {rule["record"] for rule in rules("record")}


def dashboards() -> dict[str, Document]:
    folder = MANIFESTS / "components" / "monitoring" / "dashboards"
    return {file.stem: json.loads(file.read_text("utf-8")) for file in folder.glob("*.json")}


def queries() -> Iterator[tuple[str, str]]:
    """(where, expression) of everything that asks Prometheus."""
    for rule in (*rules("alert"), *rules("record")):
        yield rule.get("alert") or rule["record"], str(rule["expr"])
    for name, board in dashboards().items():
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"]
        for variable in board["templating"]["list"]:
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
            if found:
                yield f"{name}: ${variable['name']}", f"count by ({found[2]}) ({found[1]})"


def metrics_of(port: int) -> Exported:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found: Exported = {}
    for family in text_string_to_metric_families(text):
        # A counter of several labels has no sample before its first count.
        suffix = "_total" if family.type == "counter" else ""
        found.setdefault(family.name + suffix, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """What predictor, sidecar, receiver and gate say on /metrics, as processes that have worked."""
    folder = tmp_path_factory.mktemp("exporters")
    found: Exported = {}
    for metrics in (predictor(folder), sidecar(folder), receiver(folder), gate(folder)):
        for name, labels in metrics.items():
            found.setdefault(name, set()).update(labels, UNCOUNTED.get(name, set()))
    return found


def predictor(folder: Path) -> Exported:
    bundle = tiny_bundle(folder)
    with serve(bundle.path, folder / "predictor", env={"SEATRIAL_ARM": "v1"}) as server:
        assert server.v1(ROW).code == 200
        assert (
            server.grpc(grpc_request({name: [value] for name, value in ROW.items()})).code == "OK"
        )
        return metrics_of(server.http_port)


def sidecar(folder: Path) -> Exported:
    """With a label of each kind, so that every measure of performance has a value."""
    ours = Sidecar(Path(sys.executable), folder / "sidecar")
    try:
        ours.introduce(config={"watch": {}})
        wait_until(lambda: bool(ours.status()["watch"]), "the watch")
        ours.send(columns(100, seed=1), "x")
        labels = [{"id": f"x-0-{row}", "outcome": row % 2} for row in range(100)]
        assert ours.request("POST", "/labels", json.dumps(labels).encode())[0] == 202
        wait_until(lambda: ours.status()["labels"]["labelled"] == 100, "the labels")
        return metrics_of(ours.port)
    finally:
        ours.kill()


def receiver(folder: Path) -> Exported:
    with Receiver(folder, launcher="command", command='["true"]') as ours:
        assert ours.send(event())[0] == 202
        eventually(lambda: ours.told().get("state") == "succeeded")
        return metrics_of(ours.port)


def gate(folder: Path) -> Exported:
    """The standing gate in a folder where there is nothing to lead, and then a failed look."""
    port = free_port()
    command = [sys.executable, "-m", "serving.rollout.standing", f"--port={port}"]
    command += ["--actuator=kubernetes", f"--folder={folder}", f"--plan={folder}/plan.yaml"]
    command += [f"--runs={folder}/runs", "--every_seconds=1"]
    with (folder / "gate").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "SEATRIAL_HOST": "127.0.0.1"}
        )
    try:
        wait_for(lambda: listens(port) or process.poll() is not None, 30)
        assert process.poll() is None, (folder / "gate").read_text()
        return metrics_of(port)
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    try:
        return bool(metrics_of(port))
    except OSError:
        return False


def unknown(expression: str, exported: Mapping[str, set[str]]) -> list[str]:
    """Series and labels that nobody exports."""
    known = {**exported, **FOREIGN}
    found = list(selectors(expression))
    assert found, expression
    wrong = []
    labels = set(TARGET)
    for selector in found:
        if selector.name in RECORDS:
            labels |= {"model"}
            continue
        if selector.name not in known:
            wrong.append(selector.name)
            continue
        own = known[selector.name] | TARGET
        labels |= own
        wrong += [f"{selector.name}: {name}" for name, *_ in selector.matchers if name not in own]
    return wrong + sorted(grouping_labels(expression) - labels)


def test_every_query_asks_for_what_is_exported(exported: Exported) -> None:
    wrong = {where: found for where, text in queries() if (found := unknown(text, exported))}
    assert wrong == {}
    assert {rule["record"] for rule in rules("record")} >= RECORDS


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("rate(seatrial_request_total[5m])", ["seatrial_request_total"]),
        ('sum(seatrial_rows_total{verb="x"})', ["seatrial_rows_total: verb"]),
        ("sum by (arms) (seatrial_ready)", ["arms"]),
        ("seatrial_ready and on (pod) seatrial_reddy", ["seatrial_reddy"]),
        ("seatrial:request_errors:ratio_rate7m > 0", ["seatrial:request_errors:ratio_rate7m"]),
    ],
)
def test_a_query_for_what_nobody_exports_is_found(expression: str, wrong: list[str]) -> None:
    exported = {"seatrial_rows_total": {"arm"}, "seatrial_ready": {"arm"}}
    assert unknown(expression, exported) == wrong


def test_names_are_found_in_all_that_surrounds_them() -> None:
    text = """
        histogram_quantile(0.99, sum by (le, arm) (rate(a_bucket{x="sum(b)",y=~"c|d"}[5m])))
        / on (arm) group_left (e) (max without (f) (g:h:rate5m offset 1h30m) unless absent(i)) > 1e3
    """
    names = [selector.name for selector in selectors(text)]
    assert names == ["a_bucket", "g:h:rate5m", "i"]
    assert next(selectors(text)).matchers == (("x", "=", "sum(b)"), ("y", "=~", "c|d"))
    assert Selector("i") in set(selectors(text))


def test_failures_are_what_the_gate_calls_failures() -> None:
    wanted = {"5..", *GRPC_ERRORS}
    asked = [
        matcher
        for _, text in queries()
        for selector in selectors(text)
        for matcher in selector.matchers
        if matcher[0] == "code"
    ]
    assert asked
    for _, operator, value in asked:
        assert (operator, set(value.split("|"))) == ("=~", wanted)


def test_the_latency_objective_is_an_edge_of_the_histogram() -> None:
    edges = {
        float(value)
        for _, text in queries()
        for selector in selectors(text)
        for label, _, value in selector.matchers
        if label == "le"
    }
    assert edges == {0.1}
    assert edges <= set(SECONDS)


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules of every PrometheusRule in one file of Prometheus' own form."""
    file = tmp_path_factory.mktemp("rules") / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": groups()}))
    return file


def test_promtool_takes_the_rules(promtool: str, extracted: Path) -> None:
    done = run(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(extracted))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", sorted(RULES.glob("*.yaml")), ids=lambda file: str(file.stem))
def test_alerts_fire_when_they_should_and_only_then(
    promtool: str, file: Path, tmp_path: Path
) -> None:
    # What people read about an alert is looked at elsewhere; the file's evaluation_interval is the
    # pace, where the groups' own would look at days every 30 s.
    plain = [
        {
            "name": group["name"],
            "rules": [{k: v for k, v in r.items() if k != "annotations"} for r in group["rules"]],
        }
        for group in groups()
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": plain}))
    tests = yaml.safe_load(file.read_text("utf-8"))
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump({**tests, "rule_files": ["rules.yaml"]}))
    done = run(promtool, "test", "rules", str(tmp_path / "tests.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_firing_and_seen_silent() -> None:
    firing: set[str] = set()
    silent: set[str] = set()
    for file in RULES.glob("*.yaml"):
        for test in yaml.safe_load(file.read_text("utf-8"))["tests"]:
            for asked in test["alert_rule_test"]:
                (firing if asked.get("exp_alerts") else silent).add(asked["alertname"])
    assert firing == silent == ALERTS.keys()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_is_wrong_and_leads_to_its_page(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert len(alert["annotations"]["summary"]) > 20
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    text = (ROOT / page).read_text("utf-8")
    headings = {line[3:].strip().lower() for line in text.splitlines() if line.startswith("## ")}
    assert anchor in headings
    section = text.lower().partition(f"## {anchor}\n")[2].partition("\n## ")[0]
    for part in ("**means**", "**look**", "**mend**"):
        assert part in section


def test_the_runbook_has_no_section_of_an_alert_that_is_gone() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    found = set(re.findall(r"^## (Seatrial\w+)$", text, re.MULTILINE))
    assert found == ALERTS.keys()


def test_every_pod_monitor_finds_its_pods_and_their_ports(monitored: ClusterSet) -> None:
    found = {}
    for monitor in monitored.of("PodMonitor"):
        selector = monitor["spec"]["selector"]
        exists = {e["key"] for e in selector.get("matchExpressions", [])}
        pods = [
            pod
            for pod in monitored.pods
            if selector["matchLabels"].items() <= pod.labels.items() and exists <= pod.labels.keys()
        ]
        for pod in pods:
            for endpoint in monitor["spec"]["podMetricsEndpoints"]:
                found[pod.owner, pod.ports()[endpoint["port"]]] = monitor["metadata"]["name"]
    assert found == {
        ("InferenceService/fraud", 8080): "seatrial-predictor",
        ("InferenceService/fraud", 9095): "seatrial-predictor",
        ("Deployment/seatrial-gate", 8080): "seatrial-gate",
        ("Deployment/seatrial-retrain", 8080): "seatrial-retrain",
    }


def test_dashboards_are_config_maps_that_grafana_finds(monitored: ClusterSet) -> None:
    found: dict[str, Any] = {}
    for config in monitored.of("ConfigMap"):
        if config["metadata"].get("labels", {}).get("grafana_dashboard") == "1":
            ((name, text),) = config["data"].items()
            found[name.removesuffix(".json")] = json.loads(text)
    assert found.keys() == DASHBOARDS
    assert len({board["uid"] for board in found.values()}) == len(found)
    for board in found.values():
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        assert all(panel["description"] for panel in board["panels"])
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"])))
        there = {variable["name"] for variable in board["templating"]["list"]}
        assert used - {"__rate_interval"} == there


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
