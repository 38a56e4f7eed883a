"""Preflight of a pipeline against an API server that serves recorded documents."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipelines.parameters import read_ir, with_defaults
from seatrial.doctor import Level
from seatrial.doctor.finding import Finding
from seatrial.doctor.preflight import preflight
from serving.errors import UsageError
from serving.rollout.actuators.cluster import Cluster
from tests.support.api_documents import serving

RECORDED = Path(__file__).with_name("recorded")
TEAM = "/api/v1/namespaces/team"
CLAIM = f"{TEAM}/persistentvolumeclaims/seatrial-bundles"
SECRET = f"{TEAM}/secrets/seatrial-s3"
ACCOUNT = f"{TEAM}/serviceaccounts/trainer"
QUOTAS = f"{TEAM}/resourcequotas"

Change = Callable[[dict[str, Any]], object]
Ask = Callable[..., list[Finding]]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Preflight of the train pipeline in namespace team of the recorded cluster, changed."""

    def asked(
        change: Change = lambda _: None,
        forbidden: frozenset[str] = frozenset(),
        name: str = "train",
        **parameters: Any,
    ) -> list[Finding]:
        documents = copy.deepcopy(json.loads((RECORDED / "objects.json").read_text()))
        documents |= {CLAIM: {"status": {"phase": "Bound"}}, SECRET: {}, ACCOUNT: {}}
        documents[QUOTAS] = {"kind": "ResourceQuotaList", "items": []}
        change(documents)
        spec, platform = read_ir(name)
        values = with_defaults(spec, parameters)
        with serving(documents, tmp_path, forbidden=forbidden) as kubeconfig:
            monkeypatch.setattr(
                "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig)
            )
            cluster = Cluster.connect("test")
            return preflight(cluster, spec, platform, values, "team", service_account="trainer")

    return asked


def said(found: Sequence[Finding], level: Level) -> list[str]:
    return [f"{one.topic}: {one.says}" for one in found if one.level is level]


def test_a_cluster_with_everything_passes(ask: Ask) -> None:
    found = ask()
    assert {finding.level for finding in found} == {Level.FINE}
    topics = {finding.topic for finding in found}
    assert topics == {"GPU nodes", "volumes", "secrets", "service account", "quota"}


def _drop(path: str) -> Change:
    return lambda documents: documents.pop(path)


def _quota(resource: str, hard: str) -> Change:
    def change(documents: dict[str, Any]) -> None:
        documents[QUOTAS]["items"] = [
            {"metadata": {"name": "small"}, "status": {"hard": {resource: hard}}}
        ]

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_drop(CLAIM), "volumes: namespace team has no claim seatrial-bundles"),
        (_drop(ACCOUNT), "service account: namespace team has no service account trainer"),
        (_quota("requests.memory", "12Gi"), "quota: ResourceQuota small: requests.memory allows"),
        (_quota("requests.nvidia.com/gpu", "0"), "quota: ResourceQuota small: requests.nvidia"),
    ],
)
def test_names_what_a_step_would_wait_for(ask: Ask, change: Change, expected: str) -> None:
    stopped = said(ask(change), Level.BROKEN)
    assert len(stopped) == 1
    assert stopped[0].startswith(expected)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"gpu_nodes": {"pool": "a100"}}, "train: no GPU node has the labels pool=a100"),
        ({"gpu_tolerations": []}, "train: every GPU node is tainted, as gpu-1"),
        ({"gpu_count": "8"}, "train asks for 8 GPUs, the largest node has 4"),
    ],
)
def test_reads_the_node_pool_from_the_parameters(
    ask: Ask, parameters: dict[str, Any], expected: str
) -> None:
    stopped = said(ask(**parameters), Level.BROKEN)
    assert len(stopped) == 1
    assert expected in stopped[0]


def test_a_run_without_gpus_needs_no_gpu_node(ask: Ask) -> None:
    found = ask(_drop("/api/v1/nodes"), gpu_count="0", gpu_nodes={}, gpu_tolerations=[])
    assert {finding.level for finding in found} == {Level.FINE}


def test_a_missing_secret_limits_the_run_to_paths(ask: Ask) -> None:
    found = ask(_drop(SECRET))
    assert said(found, Level.BROKEN) == []
    assert said(found, Level.LIMITED) == [
        "secrets: namespace team has no secret seatrial-s3: s3:// needs it"
    ]


def test_what_may_not_be_read_is_unknown_and_not_absent(ask: Ask) -> None:
    found = ask(forbidden=frozenset({SECRET, CLAIM, "/api/v1/nodes"}))
    assert said(found, Level.BROKEN) == []
    assert len(said(found, Level.UNKNOWN)) >= 4


def test_a_count_that_is_none_is_a_usage_error(ask: Ask) -> None:
    with pytest.raises(UsageError, match="gpu_count 'two' is no count"):
        ask(gpu_count="two")
