"""From what the gate decided to the rollout state to write. Pure, and the same when done twice."""

from __future__ import annotations

from serving.errors import GateError
from serving.rollout.edits import promoted, rolled_back, with_weight, without_canary
from serving.rollout.gate.state import Action, ActionKind, GateState, Model
from serving.rollout.state import Arm, RolloutState


def moved(state: RolloutState, gate: GateState, action: Action) -> RolloutState:
    """The state that the action asks for, whatever of it is done already.

    Raises ManifestError for a step that must not be taken, GateError when an arm is missing.
    """
    stable, canary = gate.stable.name, gate.canary.name
    names = [arm.name for arm in state.arms]
    if action.kind is ActionKind.HOLD:
        return state
    if action.kind is ActionKind.SET_WEIGHT:
        if state.stable.name == canary:
            raise GateError(
                f"'{canary}' is stable already and shall get {action.weight} % as a canary; someone"
                " else has promoted it"
            )
        return with_weight(state, canary, action.weight or 0)
    if action.kind is ActionKind.PROMOTE:
        return state if state.stable.name == canary else promoted(state, canary)
    if action.kind is ActionKind.CLEAN_UP:
        leaving = stable if state.stable.name == canary else canary
        return without_canary(state, leaving) if leaving in names else state
    # The dark state; after the promotion it swaps the two arms again.
    if state.stable.name == stable:
        return rolled_back(state)
    return rolled_back(state, Arm(stable, gate.stable.storage_uri))


def models(state: RolloutState, gate: GateState) -> tuple[Model, Model]:
    """What the two arms of the run serve now: (stable, canary).

    Raises GateError when one of them is not listed any more.
    """
    uris = {arm.name: arm.storage_uri for arm in state.arms}
    found = []
    for model in (gate.stable, gate.canary):
        if model.name not in uris:
            raise GateError(f"'{model.name}' is not in the rollout any more; someone removed it")
        same = uris[model.name] == model.storage_uri
        found.append(model if same else Model(model.name, uris[model.name], ""))
    return found[0], found[1]


def as_decided(state: RolloutState, written: dict[str, int] | None) -> str | None:
    """Where the weights are not those that the gate wrote last, in words."""
    if written is None or state.weights == written:
        return None
    return f"weights are {_listed(state.weights)} and the gate wrote {_listed(written)}"


def _listed(weights: dict[str, int]) -> str:
    return ", ".join(f"{name} {weight} %" for name, weight in weights.items())
