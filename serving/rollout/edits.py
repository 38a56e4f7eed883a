"""Pure edits of a rollout: each returns the next state, or says why the step must not be taken.

No edit lets stable's floor (its pods while all canaries are ready) drop, and none leads to a state
whose next write could leave traffic without a backend.
"""

from __future__ import annotations

from dataclasses import replace

from serving.errors import ManifestError
from serving.rollout.state import LATEST, PREVIOUS, Arm, Canary, Dialect, RolloutState


def with_weight(state: RolloutState, name: str, weight: int) -> RolloutState:
    """The canary `name` at `weight` percent. Raises ManifestError."""
    chosen = state.canary(name)
    return replace(
        state,
        canaries=tuple(replace(c, weight=weight) if c is chosen else c for c in state.canaries),
    )


def with_canary(state: RolloutState, arm: Arm, weight: int = 0) -> RolloutState:
    """The arm added as a canary; stable's minReplicas grows by the canary's. Raises ManifestError.

    KServe refuses to promote a name whose storageUri does not change, so a canary on the bundle
    of another arm is refused here, where it can still be mended. In the Knative dialect the arm
    must be named 'latest', and stable becomes 'prev'.
    """
    for other in state.arms:
        if other.storage_uri == arm.storage_uri:
            raise _refuse(
                state,
                f"canary '{arm.name}' has the storageUri of '{other.name}' ({arm.storage_uri}) and"
                " could never be promoted; give it a bundle of its own",
            )
    if state.dialect is Dialect.KNATIVE:
        if state.canaries:
            raise _refuse(
                state,
                "the Knative dialect holds one canary; promote it or roll it back, or use the"
                " Standard dialect",
            )
        previous = Arm(PREVIOUS, state.stable.storage_uri, state.stable.min_replicas)
        return replace(state, stable=previous, canaries=(Canary(arm, weight),))
    return _sized(state, state.floor, state.stable, (*state.canaries, Canary(arm, weight)))


def with_replicas(state: RolloutState, name: str, replicas: int) -> RolloutState:
    """The arm's own pods set: a canary's minReplicas, or stable's floor. Raises ManifestError."""
    if state.dialect is Dialect.KNATIVE:
        if name != LATEST:
            raise _refuse(state, "the Knative dialect can size only 'latest'; name that")
        if not state.canaries:
            return replace(state, stable=replace(state.stable, min_replicas=replicas))
    if name == state.stable.name:
        return _sized(state, replicas, state.stable, state.canaries)
    chosen = state.canary(name)
    sized = replace(chosen, arm=replace(chosen.arm, min_replicas=replicas))
    canaries = tuple(sized if c is chosen else c for c in state.canaries)
    if state.dialect is Dialect.KNATIVE:
        return replace(state, canaries=canaries)
    return _sized(state, state.floor, state.stable, canaries)


def promoted(state: RolloutState, name: str) -> RolloutState:
    """The canary becomes stable and the old stable stays listed at 0 %, warm, in its place.

    Raises ManifestError when the canary runs fewer pods than stable: those would take all the
    traffic. In the Knative dialect the field goes away, and the old model with it.
    """
    chosen = state.canary(name)
    if state.dialect is Dialect.KNATIVE:
        return replace(state, stable=chosen.arm, canaries=())
    return _swapped(state, chosen.arm)


def rolled_back(state: RolloutState, to: Arm | None = None) -> RolloutState:
    """The dark state: stable alone has traffic, every canary stays warm at 0 %.

    `to` names the version to return to after a promotion: it becomes stable (listed or not), and
    today's stable stays listed at 0 %, so that it serves until `to` is ready. Raises ManifestError
    as `promoted` does, and in the Knative dialect, which names no older version.
    """
    dark = replace(state, canaries=tuple(replace(c, weight=0) for c in state.canaries))
    if to is None or to.name == state.stable.name:
        return dark
    if state.dialect is Dialect.KNATIVE:
        raise _refuse(
            state,
            "the Knative dialect can return to 'prev' only, by a canary share of 0; deploy the"
            " older bundle as a new canary instead",
        )
    for canary in dark.canaries:
        if canary.arm.name == to.name:
            if canary.arm.storage_uri != to.storage_uri:
                raise _refuse(
                    state,
                    f"'{to.name}' is listed with storageUri {canary.arm.storage_uri} and not"
                    f" {to.storage_uri}; give one name one bundle",
                )
            return _swapped(dark, canary.arm)
    return _swapped(dark, replace(to, min_replicas=state.floor))


def without_canary(state: RolloutState, name: str) -> RolloutState:
    """The canary removed and stable's minReplicas lowered by its share. Raises ManifestError.

    Only at 0 %: KServe deletes a canary's Service before the route changes, so removing one that
    has traffic fails requests.
    """
    chosen = state.canary(name)
    if chosen.weight:
        raise _refuse(
            state,
            f"canary '{name}' has {chosen.weight} % of the traffic; set it to 0 and wait for the"
            " route before removing it",
        )
    if state.dialect is Dialect.KNATIVE:
        if not state.stable.storage_uri:
            raise _refuse(
                state,
                "the Knative dialect forgets the model before 'latest'; keep the canary at 0, or"
                " deploy the older bundle as a new canary",
            )
        return replace(state, stable=replace(state.stable, name=LATEST), canaries=())
    kept = tuple(c for c in state.canaries if c is not chosen)
    return _sized(state, state.floor, state.stable, kept)


def _swapped(state: RolloutState, arm: Arm) -> RolloutState:
    floor = state.floor
    if arm.min_replicas < floor:
        raise _refuse(
            state,
            f"canary '{arm.name}' runs {arm.min_replicas} pods and stable '{state.stable.name}'"
            f" {floor}; raise the canary's minReplicas to {floor} ('seatrial rollout replicas')"
            " before it takes all traffic",
        )
    if arm.storage_uri == state.stable.storage_uri:
        raise _refuse(
            state,
            f"'{arm.name}' has stable's storageUri ({arm.storage_uri}), and KServe refuses a new"
            " name for an unchanged model; give it a bundle of its own",
        )
    retired = Canary(replace(state.stable, min_replicas=floor), 0)
    listed = any(canary.arm.name == arm.name for canary in state.canaries)
    canaries = tuple(retired if c.arm.name == arm.name else c for c in state.canaries)
    return _sized(state, floor, arm, canaries if listed else (*canaries, retired))


def _sized(
    state: RolloutState, floor: int, stable: Arm, canaries: tuple[Canary, ...]
) -> RolloutState:
    """The state with stable's minReplicas = floor + what KServe will take for the canaries."""
    total = floor + sum(canary.arm.min_replicas for canary in canaries)
    return replace(state, stable=replace(stable, min_replicas=total), canaries=canaries)


def _refuse(state: RolloutState, why: str) -> ManifestError:
    return ManifestError(f"rollout of '{state.service}': {why}")
