from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import ManifestError
from serving.rollout import (
    Arm,
    RolloutState,
    promoted,
    rolled_back,
    with_canary,
    with_replicas,
    with_weight,
    without_canary,
)
from tests.serving.rollout.states import arm, knative_story, stable, story, uri


def test_adding_a_canary_raises_stable_by_the_canarys_replicas() -> None:
    state = with_canary(stable(3), arm("v2", 2), 10)
    assert state.stable.min_replicas == 5
    assert state.floor == 3
    assert state.weights == {"v1": 90, "v2": 10}


def test_promotion_swaps_the_arms_and_keeps_the_old_one_warm_at_zero() -> None:
    state = promoted(with_canary(stable(2), arm("v2", 2), 50), "v2")
    assert state.weights == {"v2": 100, "v1": 0}
    assert state.stable == Arm("v2", uri("v2"), 4)
    assert state.canary("v1").arm == Arm("v1", uri("v1"), 2)


def test_promotion_leaves_other_canaries_their_place_and_weight() -> None:
    state = with_canary(with_canary(stable(), arm("v2"), 10), arm("v3"), 5)
    assert list(promoted(state, "v2").weights.items()) == [("v2", 95), ("v1", 0), ("v3", 5)]


def test_refuses_to_promote_a_canary_with_fewer_pods_than_stable() -> None:
    state = with_canary(stable(3), arm("v2", 1), 50)
    with pytest.raises(ManifestError, match="runs 1 pods and stable 'v1' 3; raise"):
        promoted(state, "v2")
    assert promoted(with_replicas(state, "v2", 3), "v2").floor == 3


def test_cleanup_gives_stable_its_own_replicas_back() -> None:
    state = promoted(with_canary(stable(2), arm("v2", 2), 50), "v2")
    assert without_canary(state, "v1") == RolloutState("fraud", "seatrial", arm("v2", 2))


def test_refuses_to_remove_a_canary_that_has_traffic() -> None:
    state = with_canary(stable(), arm("v2"), 50)
    with pytest.raises(ManifestError, match="has 50 % of the traffic; set it to 0"):
        without_canary(state, "v2")


def test_returning_after_cleanup_lists_todays_stable_so_that_it_serves_meanwhile() -> None:
    cleaned = story()["cleaned up"]
    assert cleaned.weights == {"v2": 100}
    back = rolled_back(cleaned, arm("v1"))
    assert back.weights == {"v1": 100, "v2": 0}
    assert back.floor == 1


def test_refuses_to_return_to_a_listed_name_with_another_bundle() -> None:
    with pytest.raises(ManifestError, match="'v1' is listed with storageUri"):
        rolled_back(story()["promoted"], Arm("v1", uri("other")))


def test_refuses_a_canary_on_stables_bundle() -> None:
    with pytest.raises(ManifestError, match="could never be promoted"):
        with_canary(stable(), Arm("v2", uri("v1")), 10)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: with_canary(stable(), arm("v2"), 101), "trafficPercent of 'v2' is 101"),
        (lambda: with_canary(stable(), arm("v2"), -1), "trafficPercent of 'v2' is -1"),
        (lambda: with_canary(story()["100 %"], arm("v3"), 1), "trafficPercent sums to 101"),
        (lambda: with_canary(stable(), Arm("v1", uri("v2"))), "name 'v1' is used twice"),
        (lambda: with_canary(stable(), arm("v2", 0), 10), "minReplicas of 'v2' is 0"),
        (lambda: with_canary(stable(), arm("V2"), 10), "'V2' is not a lower-case DNS label"),
        (lambda: with_canary(stable(), Arm("v2", ""), 10), "storageUri of 'v2' is empty"),
        (lambda: with_weight(stable(), "v2", 10), r"no canary 'v2' is listed \(listed: none\)"),
        (lambda: replace(story()["10 %"], stable=arm("v1", 0)), "minReplicas of 'v1' is 0"),
    ],
)
def test_refuses_an_impossible_state(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(ManifestError, match=message):
        build()


def test_knative_promotion_leaves_the_new_model_alone() -> None:
    assert knative_story()["promoted"].arms == (Arm("latest", uri("v2")),)


def test_knative_rollback_gives_the_previous_revision_everything() -> None:
    assert knative_story()["rolled back"].weights == {"prev": 100, "latest": 0}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: with_canary(knative_story()["10 %"], Arm("latest", uri("v3"))),
            "holds one canary",
        ),
        (lambda: with_canary(knative_story()["stable"], arm("v2")), "has the arm 'latest'"),
        (
            lambda: rolled_back(knative_story()["promoted"], Arm("v1", uri("v1"))),
            "can return to 'prev' only",
        ),
        (lambda: with_replicas(knative_story()["10 %"], "prev", 2), "can size only 'latest'"),
    ],
)
def test_says_what_the_knative_dialect_cannot_express(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(ManifestError, match=message):
        build()


NAMES = ("v1", "v2", "v3", "v4")


@st.composite
def histories(draw: st.DrawFn) -> list[RolloutState]:
    """Up to twelve edits from a fresh stable; edits that are refused are left out."""
    states = [stable(draw(st.integers(1, 4)))]
    for _ in range(draw(st.integers(1, 12))):
        state, name = states[-1], draw(st.sampled_from(NAMES))
        weight, replicas = draw(st.integers(0, 100)), draw(st.integers(1, 4))
        edits = (
            lambda s=state, n=name, w=weight, r=replicas: with_canary(s, arm(n, r), w),
            lambda s=state, n=name, w=weight: with_weight(s, n, w),
            lambda s=state, n=name: promoted(s, n),
            lambda s=state: rolled_back(s),
            lambda s=state, n=name: rolled_back(s, arm(n)),
            lambda s=state, n=name: without_canary(s, n),
        )
        try:
            states.append(draw(st.sampled_from(edits))())
        except ManifestError:
            continue
    return states


@settings(max_examples=200, deadline=None)
@given(histories())
def test_no_edit_lowers_stables_floor_or_leaves_an_arm_without_pods(
    states: list[RolloutState],
) -> None:
    for before, after in itertools.pairwise(states):
        assert after.floor == before.floor
        assert after.stable.min_replicas == after.floor + sum(
            canary.arm.min_replicas for canary in after.canaries
        )
        assert len({a.name for a in after.arms}) == len(after.arms)
        assert all(a.min_replicas >= 1 for a in after.arms)
        assert sum(after.weights.values()) == 100


@settings(max_examples=200, deadline=None)
@given(histories())
def test_an_arm_leaves_only_at_zero_percent_and_stable_is_never_dropped(
    states: list[RolloutState],
) -> None:
    for before, after in itertools.pairwise(states):
        assert before.stable.name in after.weights
        gone = before.weights.keys() - after.weights.keys()
        assert all(before.weights[name] == 0 for name in gone)


@settings(max_examples=100, deadline=None)
@given(histories())
def test_the_dark_state_is_one_edit_away_from_any_state(states: list[RolloutState]) -> None:
    for state in states:
        dark = rolled_back(state)
        assert dark.stable == state.stable
        assert dark.weights[state.stable.name] == 100
        assert dark.weights.keys() == state.weights.keys()
        assert rolled_back(dark) == dark


@settings(max_examples=100, deadline=None)
@given(histories())
def test_undoing_a_promotion_gives_the_old_stable_all_traffic_again(
    states: list[RolloutState],
) -> None:
    for before, after in itertools.pairwise(states):
        if after.stable.name != before.stable.name:
            back = rolled_back(after, after.canary(before.stable.name).arm)
            assert back.stable.name == before.stable.name
            assert back.weights[before.stable.name] == 100
