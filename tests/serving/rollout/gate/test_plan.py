from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.errors import ManifestError, UsageError
from serving.rollout.gate import check_actuator, check_latency_edge, parse_plan, read_plan
from serving.rollout.gate.plan import Plan
from tests.serving.rollout.gate.looks import ERRORS, plan_of

TEXT = """\
format: seatrial.rollout/1
canary: v2
steps: [10, 25, 50, 100]
min_seconds: 300
min_requests: 100
look_seconds: 60
alpha: 0.05
beta: 0.05
psi_max: 2
time_cap_seconds: 86400
approvals: [50]
metrics:
  - kind: errors
    max_rate: 0.01
    alpha_share: 0.5
  - kind: latency
    slo_seconds: 0.25
    max_rate: 0.01
  - kind: scores
    tolerance: 1.5
"""


def test_reads_a_plan_beside_the_rollout(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(TEXT)
    plan = read_plan(tmp_path)
    assert plan.steps == (10, 25, 50, 100)
    assert plan.slo_seconds == 0.25
    assert [plan.alpha_of(m.kind) for m in plan.metrics] == pytest.approx([0.025, 0.0125, 0.0125])
    assert read_plan(tmp_path / "plan.yaml") == plan
    assert parse_plan(plan.to_json(), "again") == plan


def test_the_defaults_are_those_of_production() -> None:
    plan = Plan.model_validate({"canary": "v2", "metrics": [ERRORS]})
    assert (plan.alpha, plan.beta, plan.psi_max, plan.look_seconds) == (0.05, 0.05, 2.0, 60.0)


def test_the_digest_is_that_of_what_the_plan_means(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(TEXT)
    (tmp_path / "b.yaml").write_text("# reviewed\n" + TEXT.replace("psi_max: 2\n", ""))
    (tmp_path / "c.yaml").write_text(TEXT.replace("psi_max: 2\n", "psi_max: 3\n"))
    a, b, c = (read_plan(tmp_path / f"{name}.yaml").digest for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"steps": [10, 50, 25]}, r"steps: \[10, 50, 25\] do not rise"),
        ({"steps": [0, 10]}, r"field 'steps\[0\]' is 0"),
        ({"steps": []}, "field 'steps' is"),
        ({"approvals": [30]}, r"approvals: 30 is no step; name one of \[10, 25, 50, 100\]"),
        ({"alpha": 0}, "field 'alpha' is 0"),
        ({"alpha": "low"}, "field 'alpha' is 'low'"),
        ({"beta": 0.5}, "field 'beta' is 0.5"),
        ({"psi_max": 1}, "field 'psi_max' is 1"),
        ({"canary": "V2"}, "field 'canary' is 'V2'"),
        ({"min_seconds": 30_000}, "time_cap_seconds: 86400 is not above the 120000"),
        (
            {"look_seconds": 600, "time_cap_seconds": 60, "min_seconds": 0},
            "look_seconds: 600 is longer",
        ),
        ({"pause": True}, "field 'pause' is unknown"),
        ({"dispersion": "guess"}, "field 'dispersion"),
        ({"dispersion": 0.5}, "field 'dispersion"),
        ({"sticky": {"header": "X User"}}, "field 'sticky.header' is 'X User'"),
        ({"metrics": []}, "field 'metrics' is"),
        ({"metrics": [{"kind": "luck"}]}, r"field 'metrics\[0\].kind' is 'luck'; write one of"),
        ({"metrics": [{"max_rate": 0.1}]}, r"field 'metrics\[0\].kind' is missing"),
        ({"metrics": [{"kind": "errors"}]}, r"field 'metrics\[0\].max_rate' is missing"),
        (
            {"metrics": [{"kind": "latency", "max_rate": 0.01, "slo_seconds": -1}]},
            r"field 'metrics\[0\].slo_seconds' is -1",
        ),
        ({"metrics": [ERRORS, ERRORS]}, "'errors' is listed 2 times"),
        (
            {
                "metrics": [
                    {**ERRORS, "alpha_share": 0.7},
                    {"kind": "scores", "tolerance": 1.5, "alpha_share": 0.7},
                ]
            },
            "alpha_share sums to 1.4",
        ),
        (
            {"metrics": [{**ERRORS, "alpha_share": 1}, {"kind": "scores", "tolerance": 1.5}]},
            "leaves 'scores' nothing",
        ),
        (
            {"steps": [100], "metrics": [ERRORS, {"kind": "scores", "tolerance": 1.5}]},
            "leaves stable no traffic to compare 'scores' with",
        ),
    ],
)
def test_a_contradiction_is_one_sentence_with_file_field_and_value(
    fields: dict[str, Any], said: str
) -> None:
    found = {"canary": "v2", "metrics": [ERRORS], **fields}
    with pytest.raises(ManifestError, match=f"^deploy/plan.yaml: .*{said}") as caught:
        parse_plan(found, "deploy/plan.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("found", [None, [], "text", {}])
def test_what_is_no_plan_is_refused(found: object) -> None:
    with pytest.raises(ManifestError, match="plan.yaml"):
        parse_plan(found, "plan.yaml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("format: [", "not YAML"),
        ("format: seatrial.rollout/9\n", "format is 'seatrial.rollout/9'"),
        ("canary: v2\n", "format is None"),
        (TEXT + "---\n" + TEXT, "2 documents"),
        (TEXT + "alpha: 0.01\n", "written twice"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "plan.yaml").write_text(text)
    with pytest.raises(ManifestError, match=said):
        read_plan(tmp_path)


def test_sticky_users_are_refused_where_the_data_plane_cannot_keep_them() -> None:
    plan = plan_of(sticky={"header": "x-user"})
    check_actuator(plan, "local")
    for actuator in ("git", "kubernetes"):
        with pytest.raises(UsageError, match=f"x-user.*{actuator}"):
            check_actuator(plan, actuator)
    check_actuator(plan_of(), "git")


def test_a_latency_bound_between_two_buckets_is_refused() -> None:
    plan = plan_of({"kind": "latency", "slo_seconds": 0.3, "max_rate": 0.01})
    with pytest.raises(ManifestError, match="0.3 is no edge.*0.25, 0.5"):
        check_latency_edge(plan, (0.25, 0.5))
    check_latency_edge(plan, (0.1, 0.3))
