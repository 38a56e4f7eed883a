from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import ManifestError
from serving.rollout import (
    Arm,
    Dialect,
    RolloutState,
    read_rollout,
    with_weight,
    write_rollout,
)
from serving.rollout.dialects import to_patch
from serving.rollout.documents import parse_documents
from serving.rollout.overlay import render_rollout
from tests.serving.rollout.states import knative_story, stable, story, uri

STATES = {**story(), **{f"knative {name}": state for name, state in knative_story().items()}}
CANARY = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: fraud
  namespace: seatrial
spec:
  predictor:
    name: v1
    minReplicas: 2
    model:
      storageUri: pvc://seatrial-bundles/fraud/v1
  canary:
    - trafficPercent: 10
      predictor:
        name: v2
        minReplicas: 1
        model:
          modelFormat:
            name: onnx
          name: ''
          resources: {}
          storageUri: pvc://seatrial-bundles/fraud/v2
"""
BY_HAND = CANARY.replace("          name: ''\n          resources: {}\n", "")


def diff(tmp_path: Path, before: str, after: str) -> list[str]:
    """The lines of `git diff` after its file header."""
    for name, text in (("before", before), ("after", after)):
        (tmp_path / name).write_text(text)
    shown = subprocess.run(
        ["git", "diff", "--no-index", "before", "after"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    return shown.stdout.splitlines()[4:]


def test_writes_the_state_as_kserves_webhook_leaves_it() -> None:
    assert render_rollout(story()["10 %"]) == CANARY


def test_writes_an_empty_canary_list_where_none_is_listed() -> None:
    assert render_rollout(stable()).endswith("fraud/v1\n  canary: []\n")


@pytest.mark.parametrize("name", STATES)
def test_reads_back_what_it_wrote(name: str, tmp_path: Path) -> None:
    file = tmp_path / "rollout.yaml"
    assert write_rollout(file, STATES[name])
    found = read_rollout(file)
    assert to_patch(found) == to_patch(STATES[name])
    if STATES[name].dialect is Dialect.STANDARD:
        assert found == STATES[name]


@pytest.mark.parametrize("before", [CANARY, BY_HAND], ids=["ours", "by hand"])
def test_a_weight_change_is_a_one_line_diff(before: str, tmp_path: Path) -> None:
    lines = diff(tmp_path, before, render_rollout(story()["50 %"], before))
    assert [line for line in lines if line[0] in "+-"] == [
        "-    - trafficPercent: 10",
        "+    - trafficPercent: 50",
    ]


def test_a_promotion_is_one_hunk(tmp_path: Path) -> None:
    before = render_rollout(story()["50 %"])
    lines = diff(tmp_path, before, render_rollout(story()["promoted"], before))
    assert sum(line.startswith("@@") for line in lines) == 1
    assert sum(line.startswith("+") for line in lines) == 5


def test_a_weight_change_keeps_a_persons_layout_and_comments() -> None:
    text = (
        "# one\n\n"
        + CANARY.replace("10", "10  # asked for by risk").replace(
            "metadata:\n  name: fraud\n  namespace: seatrial\n",
            "metadata: {namespace: seatrial, name: 'fraud'}\n",
        )
        + "# end\n"
    )
    assert render_rollout(story()["50 %"], text) == text.replace("10  #", "50  #")


def test_adding_a_canary_keeps_the_comments_at_the_top(tmp_path: Path) -> None:
    file = tmp_path / "rollout.yaml"
    file.write_text("# why\n# and how\n" + render_rollout(stable()))
    write_rollout(file, story()["10 %"])
    assert file.read_text() == "# why\n# and how\n" + CANARY


def test_what_the_webhook_adds_may_be_left_out(tmp_path: Path) -> None:
    file = tmp_path / "rollout.yaml"
    file.write_text(BY_HAND)
    assert read_rollout(file) == story()["10 %"]
    assert not write_rollout(file, story()["10 %"])


def test_a_canary_has_no_resources_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "rollout.yaml"
    file.write_text(CANARY.replace("{}", "{limits: {cpu: 2}}"))
    with pytest.raises(ManifestError, match=r"canary\[0\]\.predictor\.model\.resources' must be"):
        read_rollout(file)


def test_writing_the_same_state_again_touches_nothing(tmp_path: Path) -> None:
    file = tmp_path / "rollout.yaml"
    file.write_text("# a note\n" + CANARY)
    before = file.stat()
    assert not write_rollout(file, story()["10 %"])
    assert file.stat().st_ino == before.st_ino


def test_leaves_no_other_file_and_keeps_the_files_mode(tmp_path: Path) -> None:
    file = tmp_path / "rollout.yaml"
    file.write_text(CANARY)
    file.chmod(0o664)
    write_rollout(tmp_path, story()["50 %"])
    assert [path.name for path in tmp_path.iterdir()] == ["rollout.yaml"]
    assert file.stat().st_mode & 0o777 == 0o664


def test_knative_weight_change_is_one_line_and_promotion_removes_it(tmp_path: Path) -> None:
    states = knative_story()
    texts = {name: render_rollout(state) for name, state in states.items()}
    changed = diff(tmp_path, texts["10 %"], render_rollout(states["50 %"], texts["10 %"]))
    assert [line for line in changed if line[0] in "+-"] == [
        "-    canaryTrafficPercent: 10",
        "+    canaryTrafficPercent: 50",
    ]
    gone = diff(tmp_path, texts["10 %"], render_rollout(states["promoted"], texts["10 %"]))
    assert [line for line in gone if line[0] in "+-"] == ["-    canaryTrafficPercent: 10"]


def test_a_knative_file_during_a_canary_names_the_previous_arm_without_its_bundle(
    tmp_path: Path,
) -> None:
    write_rollout(tmp_path / "rollout.yaml", knative_story()["10 %"])
    assert read_rollout(tmp_path).stable == Arm("prev", "")


@given(
    name=st.from_regex(r"[a-z]([-a-z0-9]{0,9}[a-z0-9])?", fullmatch=True),
    path=st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1),
)
def test_any_name_and_uri_survive_both_ways_of_writing(name: str, path: str) -> None:
    state = RolloutState("fraud", "seatrial", Arm(name, path))
    for text in (render_rollout(state), render_rollout(state, render_rollout(stable()))):
        assert parse_documents(text, Path("rollout.yaml")) == (to_patch(state),)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("trafficPercent: 10", "trafficPercent: ten", r"canary\[0\].trafficPercent' must be"),
        ("trafficPercent: 10", "trafficPercent: 1e1", r"canary\[0\].trafficPercent' must be"),
        ("trafficPercent: 10", "trafficPercent: 110", "trafficPercent of 'v2' is 110"),
        ("trafficPercent: 10", "trafficPercentage: 10", r"canary\[0\].trafficPercentage' is none"),
        ("minReplicas: 1", "maxReplicas: 1", r"canary\[0\].predictor.maxReplicas' is none"),
        ("minReplicas: 1", "minReplicas: 3", "minReplicas of canary 'v2' is 3, above stable's 2"),
        ("minReplicas: 1", "minReplicas: 0", "minReplicas of 'v2' is 0"),
        ("        name: v2\n", "", r"canary\[0\].predictor.name' is missing"),
        ("name: v2", "name: v1", "predictor name 'v1' is used twice"),
        ("    name: v1\n", "", "spec.predictor.name' is missing"),
        ("    name: v1\n", "    name: v1\n    canaryTrafficPercent: 5\n", "ignored in Standard"),
        ("kind: InferenceService", "kind: Deployment", "must be InferenceService"),
        ("  canary:", "  canaries:", "spec.canaries' is none"),
        ("  name: fraud\n", "", "metadata.name' is missing"),
    ],
)
def test_refuses_a_rollout_file_naming_the_field(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "rollout.yaml"
    assert old in CANARY
    file.write_text(CANARY.replace(old, new, 1))
    with pytest.raises(ManifestError, match=message) as refused:
        read_rollout(file)
    assert str(refused.value).startswith(f"{file}: ")


def test_refuses_two_documents_in_a_rollout(tmp_path: Path) -> None:
    (tmp_path / "rollout.yaml").write_text(CANARY + "---\n" + CANARY)
    with pytest.raises(ManifestError, match="2 documents"):
        read_rollout(tmp_path)


def test_refuses_to_write_over_a_file_that_is_no_yaml(tmp_path: Path) -> None:
    file = tmp_path / "rollout.yaml"
    file.write_text("a: [")
    with pytest.raises(ManifestError, match="not YAML"):
        write_rollout(file, with_weight(story()["10 %"], "v2", 20))
    assert file.read_text() == "a: ["


def test_the_uri_of_an_arm_can_be_anything_yaml_would_misread() -> None:
    state = RolloutState("fraud", "seatrial", Arm("v1", uri("a: #b")))
    text = render_rollout(state, render_rollout(stable()))
    assert "storageUri: 'pvc://seatrial-bundles/fraud/a: #b'" in text
