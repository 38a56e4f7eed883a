"""Network, trees and logistic regression side by side, judged on the validation slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.checked import Rows
from components.evaluate.measures import Ranking, average_precision, roc_auc
from components.train.calibration import Calibration, Method, calibrate, row_losses
from components.train.checkpoint import Checkpoint
from components.train.fit import CPU, Epoch, Hardware, Settings, fit
from components.train.inputs import matrices
from components.train.logistic import fit_logistic
from components.train.model import FAMILIES, Core, Family, Model
from components.train.tree import Tree, TreeSettings, fit_tree, rounds_of
from serving.bundle import Contract
from serving.errors import UsageError

SURE = 0.9
"""How sure it must be that a family is better than a plainer one."""
Checkpoints = Callable[[str], Checkpoint | None]
"""The checkpoint of a part of the run, by the part's name."""


@dataclass(frozen=True)
class Plan:
    """What to train and how."""

    family: Family | None = None
    """One family only; None trains all and keeps the best."""
    network: Settings = field(default_factory=Settings)
    tree: TreeSettings = field(default_factory=TreeSettings)
    calibration: Method = "auto"
    refit: bool = True
    hardware: Hardware = CPU

    @property
    def families(self) -> tuple[Family, ...]:
        return FAMILIES if self.family is None else (self.family,)


@dataclass(frozen=True)
class Candidate:
    """A family fitted on the training slice and judged on the validation slice."""

    family: Family
    core: Core
    calibration: Calibration
    average_precision: float
    roc_auc: float
    log_loss: float
    """Of the calibrated probability."""
    losses: NDArray[np.float64]
    """The same row by row, not weighted."""
    curve: tuple[Epoch, ...] = ()

    def facts(self) -> dict[str, Any]:
        names = ("family", "average_precision", "roc_auc", "log_loss")
        return {name: getattr(self, name) for name in names}


def parse_family(value: str) -> Family | None:
    """`auto` is None. Raises UsageError."""
    for family in FAMILIES:
        if value == family:
            return family
    if value == "auto":
        return None
    raise UsageError(f"family '{value}' is unknown; choose auto, {', '.join(FAMILIES)}")


def compare(
    contract: Contract,
    train: Rows,
    validation: Rows,
    plan: Plan,
    *,
    checkpoints: Checkpoints = lambda _: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> list[Candidate]:
    """One candidate for each family of the plan."""
    found = []
    for family in plan.families:
        core: Core
        curve: list[Epoch] = []
        if family == "network":
            core, curve = fit(
                contract,
                train,
                validation,
                plan.network,
                hardware=plan.hardware,
                checkpoint=checkpoints("compare"),
                on_epoch=on_epoch,
            )
        elif family == "tree":
            core = fit_tree(contract, train, plan.tree, plan.network.seed, validation)
        else:
            core = fit_logistic(contract, train)
        judged = _judged(contract, family, core, validation, method=plan.calibration, curve=curve)
        found.append(judged)
    return found


def choose(candidates: list[Candidate], weight: NDArray[np.float64]) -> Candidate:
    """The plainest that none is surely better than, by the validation rows, of these weights.

    Judged by log loss and not by average precision: every row counts, so that families are told
    apart where positives are few, and it is of the probability that the thresholds act on.
    """
    best, *others = sorted(candidates, key=lambda candidate: FAMILIES.index(candidate.family))
    for candidate in others:
        if _surely_better(candidate, best, weight):
            best = candidate
    return best


def _surely_better(one: Candidate, other: Candidate, weight: NDArray[np.float64]) -> bool:
    """Whether the mean log loss is smaller with confidence `SURE`, by the rows' paired differences
    (one-sided, the mean taken as normal)."""
    gain = other.losses - one.losses
    mean = float(np.average(gain, weights=weight))
    spread = float(np.sqrt(((weight * (gain - mean)) ** 2).sum()) / weight.sum())
    return mean > NormalDist().inv_cdf(SURE) * spread


def refit(
    contract: Contract,
    chosen: Candidate,
    rows: Rows,
    plan: Plan,
    *,
    checkpoints: Checkpoints = lambda _: None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> Model:
    """The chosen family on all rows before the test slice, trained as long as was found best.

    The latest rows are the most like those to come, so the model that is served learns from them.
    The calibration stays that of rows that its candidate had not seen.
    """
    core: Core
    if chosen.family == "network":
        best = min(chosen.curve, key=lambda e: np.inf if (v := e.validation_loss) is None else v)
        core, _ = fit(
            contract,
            rows,
            None,
            plan.network,
            hardware=plan.hardware,
            checkpoint=checkpoints("refit"),
            on_epoch=on_epoch,
            stop_after=best.epoch + 1,
        )
    elif isinstance(chosen.core, Tree):
        settings = rounds_of(chosen.core, plan.tree)
        core = fit_tree(contract, rows, settings, plan.network.seed)
    else:
        core = fit_logistic(contract, rows)
    return Model(contract, core, chosen.calibration)


def _judged(
    contract: Contract,
    family: Family,
    core: Core,
    validation: Rows,
    *,
    method: Method,
    curve: list[Epoch],
) -> Candidate:
    label, weight = validation.label.astype(np.float64), validation.weight
    margin = core.margins(contract, *matrices(contract, validation.columns))
    ranking = Ranking.of(validation.label, margin)
    calibration = calibrate(margin, label, weight, method)
    losses = row_losses(calibration.apply(margin), label)
    return Candidate(
        family=family,
        core=core,
        calibration=calibration,
        average_precision=average_precision(ranking.hits(weight)),
        roc_auc=roc_auc(ranking.hits(weight)),
        log_loss=float(np.average(losses, weights=weight)),
        losses=losses,
        curve=tuple(curve),
    )


def plan_facts(plan: Plan) -> dict[str, Any]:
    """The plan as JSON; hardware in words."""
    return {
        "network": asdict(plan.network),
        "tree": asdict(plan.tree),
        "calibration": plan.calibration,
        "refit": plan.refit,
        **plan.hardware.facts(),
    }
