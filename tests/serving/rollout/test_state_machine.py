"""Every order of edits, pods that come and go, and a controller that acts as KServe's was seen to.

A window is a moment in which a share of the traffic has no backend. No order of edits opens one;
the writes that do are shown below, each with the fact about KServe that it runs into, and are
refused by the edits or by the state itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from serving.errors import ManifestError
from serving.rollout import (
    Arm,
    Canary,
    RolloutState,
    promoted,
    rolled_back,
    with_canary,
    with_replicas,
    with_weight,
    without_canary,
)
from tests.serving.rollout.states import arm, stable, uri
from tests.support.cluster_set import RENDERED, committed
from tests.support.kserve_controller import Controller, Refused, Strategy

NAMES = st.sampled_from(("v1", "v2", "v3", "v4"))
WEIGHTS = st.sampled_from((0, 1, 10, 50, 99, 100))
PODS = st.integers(1, 4)


class Rollout(RuleBasedStateMachine):
    """Edits may follow each other at once; only a removal waits for the route, as the gate does."""

    cluster: Controller

    @initialize(replicas=PODS)
    def deployed(self, replicas: int) -> None:
        self.cluster = Controller(stable(replicas))

    def write(self, edit: Callable[[RolloutState], RolloutState]) -> bool:
        """False where the edit is refused."""
        with contextlib.suppress(ManifestError):
            after = edit(self.cluster.state)
            self.cluster.apply(after)
            return True
        return False

    @rule(name=NAMES, replicas=PODS, weight=WEIGHTS)
    def add(self, name: str, replicas: int, weight: int) -> None:
        self.write(lambda state: with_canary(state, arm(name, replicas), weight))

    @rule(name=NAMES, weight=WEIGHTS)
    def weigh(self, name: str, weight: int) -> None:
        self.write(lambda state: with_weight(state, name, weight))

    @rule(name=NAMES)
    def promote(self, name: str) -> None:
        self.write(lambda state: promoted(state, name))

    @rule()
    def go_dark(self) -> None:
        assert self.write(rolled_back)
        assert self.cluster.state.stable_weight == 100
        if self.cluster.predictor_ready:
            # With the write, not some time after it.
            assert self.cluster.route[self.cluster.state.stable.name] == 100

    @rule(name=NAMES)
    def return_to(self, name: str) -> None:
        if self.write(lambda state: rolled_back(state, arm(name))):
            assert self.cluster.state.weights[name] == 100

    @precondition(lambda self: self.cluster.settled)
    @rule(name=NAMES)
    def clean_up(self, name: str) -> None:
        self.write(lambda state: without_canary(state, name))

    @rule(name=NAMES, replicas=PODS)
    def resize(self, name: str, replicas: int) -> None:
        with contextlib.suppress(ManifestError):
            after = with_replicas(self.cluster.state, name, replicas)
            self.cluster.floor = after.floor
            self.cluster.apply(after)

    @rule(name=NAMES)
    def a_pod_starts(self, name: str) -> None:
        if name in self.cluster.deployments:
            self.cluster.start(name)

    @rule(name=NAMES)
    def a_pod_is_lost(self, name: str) -> None:
        # The last pod of an arm takes its traffic with it, whatever is written.
        if name in self.cluster.deployments and self.cluster.deployments[name].ready > 1:
            self.cluster.lose(name)

    @rule()
    def all_pods_start(self) -> None:
        self.cluster.settle()
        state = self.cluster.state
        assert self.cluster.settled
        assert self.cluster.deployments[state.stable.name].ready >= state.floor

    @invariant()
    def no_share_of_the_traffic_is_without_a_backend(self) -> None:
        assert self.cluster.windows == []

    @invariant()
    def stable_is_never_taken_below_its_floor(self) -> None:
        assert self.cluster.dips == []
        assert self.cluster.state.floor == self.cluster.floor

    @invariant()
    def there_is_one_stable_and_every_arm_has_pods(self) -> None:
        state = self.cluster.state
        assert len({one.name for one in state.arms}) == len(state.arms)
        assert set(self.cluster.deployments) == {one.name for one in state.arms}
        assert all(pods.desired >= 1 for pods in self.cluster.deployments.values())

    @invariant()
    def one_name_has_one_bundle(self) -> None:
        assert all(one.storage_uri == uri(one.name) for one in self.cluster.state.arms)


Rollout.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much],
)
TestEveryOrderOfEdits = Rollout.TestCase


BASE = Strategy()


def settled(state: RolloutState, strategy: Strategy = BASE) -> Controller:
    return Controller(state, strategy)


HALF = with_canary(stable(2), arm("v2", 2), 50)
PROMOTED = promoted(HALF, "v2")


def test_fact_1_a_canary_that_is_not_ready_is_given_nothing() -> None:
    cluster = settled(stable(2))
    cluster.apply(HALF)
    assert cluster.route == {"v1": 100}
    cluster.settle()
    assert cluster.route == {"v1": 50, "v2": 50}


def test_fact_2_a_promotion_moves_pods_neither_in_nor_out() -> None:
    cluster = settled(HALF)
    before = {name: pods.ready for name, pods in cluster.deployments.items()}
    cluster.apply(PROMOTED)
    assert {name: pods.ready for name, pods in cluster.deployments.items()} == before
    assert cluster.route == {"v2": 100, "v1": 0}


def test_fact_3_stable_is_shrunk_by_canaries_that_it_does_not_count() -> None:
    uncounted = replace(HALF, stable=arm("v1", 2))
    cluster = settled(stable(2))
    cluster.apply(uncounted)
    cluster.settle()
    assert cluster.dips == ["v1: 2 pods became 1"]
    # The edits count them.
    assert with_canary(stable(2), arm("v2", 2), 50).stable.min_replicas == 4


def test_fact_3_a_promotion_to_fewer_pods_is_refused() -> None:
    thin = with_canary(stable(3), arm("v2", 1), 50)
    cluster = settled(thin)
    swapped = replace(thin, stable=arm("v2", 4), canaries=(Canary(arm("v1", 3), 0),))
    cluster.apply(swapped)
    assert cluster.deployments["v2"].ready < 3
    with pytest.raises(ManifestError, match="raise the canary's minReplicas to 3"):
        promoted(thin, "v2")


def test_fact_4_with_no_pod_to_spare_a_lost_one_holds_up_the_way_back() -> None:
    for strategy, moved in ((Strategy(max_unavailable=0), False), (Strategy(), True)):
        cluster = settled(HALF, strategy)
        cluster.lose("v1")
        cluster.apply(rolled_back(HALF))
        assert (cluster.route["v2"] == 0) is moved


def test_fact_5_a_canary_that_has_traffic_is_not_removed() -> None:
    cluster = settled(HALF)
    cluster.apply(stable(2))
    assert cluster.windows == ["50 % for v2, which is gone, before the route moves"]
    with pytest.raises(ManifestError, match="set it to 0 and wait for the route"):
        without_canary(HALF, "v2")


def test_fact_5_a_removal_before_the_route_has_moved_opens_a_window_too() -> None:
    cluster = settled(HALF, Strategy(max_unavailable=0))
    cluster.lose("v1")
    dark = rolled_back(HALF)
    cluster.apply(dark)
    assert not cluster.settled
    cluster.apply(without_canary(dark, "v2"))
    assert cluster.windows


def test_fact_6_a_stable_that_is_not_deployed_takes_over_beside_the_old_one() -> None:
    cluster = settled(stable(2))
    cluster.apply(replace(stable(2), stable=arm("v9", 2)))
    assert cluster.windows[0] == "100 % for v1, which is gone, before the route moves"
    with pytest.raises(ManifestError, match="no canary 'v9' is listed"):
        promoted(stable(2), "v9")
    safe = settled(stable(2))
    safe.apply(rolled_back(stable(2), arm("v9")))
    assert safe.route == {"v1": 100}
    safe.settle()
    assert (safe.route, safe.windows) == ({"v9": 100, "v1": 0}, [])


@pytest.mark.parametrize(
    "state",
    [HALF, with_weight(HALF, "v2", 100), PROMOTED, without_canary(PROMOTED, "v1")],
    ids=["50 %", "100 %", "promoted", "cleaned up"],
)
def test_fact_7_the_dark_state_undoes_everything(state: RolloutState) -> None:
    cluster = settled(state)
    cluster.apply(rolled_back(state, arm("v1")))
    cluster.settle()
    assert cluster.route == {"v1": 100, "v2": 0}
    assert (cluster.windows, cluster.dips) == ([], [])


def test_fact_8_a_new_name_for_an_unchanged_model_is_refused() -> None:
    twin = Canary(Arm("v2", uri("v1"), 2), 50)
    listed = replace(HALF, canaries=(twin,))
    with pytest.raises(Refused):
        settled(listed).apply(replace(PROMOTED, stable=replace(twin.arm, min_replicas=4)))
    with pytest.raises(ManifestError, match="KServe refuses a new name"):
        promoted(listed, "v2")
    with pytest.raises(ManifestError, match="could never be promoted"):
        with_canary(stable(2), twin.arm)


def test_fact_8_a_dark_canary_without_pods_is_refused() -> None:
    with pytest.raises(ManifestError, match="minReplicas of 'v2' is 0"):
        with_canary(stable(2), arm("v2", 0), 0)


def strategies() -> dict[str, tuple[Strategy, int]]:
    """What the overlays say of stable's Deployment, and how many pods they give it."""
    found = {}
    for file in RENDERED:
        predictor = committed(file.stem).get("InferenceService", "fraud")["spec"]["predictor"]
        if "deploymentStrategy" in predictor:
            update = predictor["deploymentStrategy"]["rollingUpdate"]
            strategy = Strategy(update["maxUnavailable"], update["maxSurge"])
            found[file.stem] = (strategy, predictor["minReplicas"])
    return found


@pytest.mark.parametrize("overlay", strategies())
def test_no_overlay_calls_a_stable_ready_that_has_no_pod(overlay: str) -> None:
    strategy, replicas = strategies()[overlay]
    for pods in range(1, 9):
        assert 1 <= strategy.least(pods) <= max(1, pods - pods // 2), pods
    cluster = settled(stable(replicas), strategy)
    # v9 is not deployed: the route must wait for its first pod.
    cluster.apply(rolled_back(stable(replicas), arm("v9")))
    cluster.settle()
    assert (cluster.route, cluster.windows) == ({"v9": 100, "v1": 0}, [])


def test_with_one_pod_and_no_surge_a_stable_without_pods_would_be_ready() -> None:
    cluster = settled(stable(1), Strategy(max_unavailable=1, max_surge=0))
    cluster.apply(rolled_back(stable(1), arm("v9")))
    assert cluster.windows == ["100 % for v9, which has no ready pod, after the route moved"]
