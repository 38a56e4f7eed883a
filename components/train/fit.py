"""The training loop: weighted rows, balanced classes, early stopping on the latest slice."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from components.checked import Rows
from components.train.network import MISSING, UNSEEN, Network, Shape, tensors
from serving.bundle import Contract


@dataclass(frozen=True)
class Settings:
    """How long and how hard to train. The same defaults serve every table."""

    epochs: int = 10
    patience: int = 3
    """Epochs without a better validation loss after which training stops."""
    learning_rate: float = 4e-3
    weight_decay: float = 0.3
    seed: int = 0
    forget: float = 0.02
    """Share of categories hidden in each batch, so that "unseen" and "missing" are learned."""
    shape: Shape = field(default_factory=Shape)


@dataclass(frozen=True)
class Epoch:
    """One line of the learning curve."""

    epoch: int
    train_loss: float
    validation_loss: float


@dataclass(frozen=True)
class _Rows:
    standard: Tensor
    codes: Tensor
    label: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.label)

    def batch(self, index: Tensor) -> _Rows:
        return _Rows(self.standard[index], self.codes[index], self.label[index], self.weight[index])


def fit(
    contract: Contract,
    train: Rows,
    validation: Rows,
    settings: Settings,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> tuple[Network, list[Epoch]]:
    """Trains a network; returns that of the best epoch, calibrated, and the learning curve.

    Both slices must hold both classes. Equal rows and settings give equal weights on one machine.
    """
    device = prepare(settings.seed)
    network = Network(contract, settings.shape)
    values, _ = tensors(contract, train.columns)
    if network.numbers is not None:
        network.numbers.fit(values.numpy())
    start = train.weight[train.label == 1].sum() / train.weight.sum()
    emphasis = balance(float(start))
    network.to(device)
    fitting = _rows(network, train, emphasis, device)
    judging = _rows(network, validation, emphasis, device)
    averaged = copy.deepcopy(network).eval()
    optimiser = torch.optim.AdamW(
        _groups(network, settings.weight_decay), lr=settings.learning_rate
    )
    size = batch_size(len(fitting))
    steps = settings.epochs * math.ceil(len(fitting) / size)
    curve: list[Epoch] = []
    best, best_state, step = math.inf, copy.deepcopy(averaged.state_dict()), 0
    generator = torch.Generator().manual_seed(settings.seed)
    for epoch in range(settings.epochs):
        network.train()
        total = torch.zeros((), device=device)
        order = torch.randperm(len(fitting), generator=generator)
        for index in torch.split(order, size):
            rate = 0.5 * (1 + math.cos(math.pi * step / steps)) * min(1, (step + 1) / 50)
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * rate
            batch = fitting.batch(index.to(device))
            codes = _forget(batch.codes, settings.forget)
            loss = _loss(network.logits(batch.standard, codes), batch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            step += 1
            _average(averaged, network, min(0.99, step / (step + 10)))
            total += loss.detach() * len(index)
        held_out = judge(averaged, judging)
        curve.append(Epoch(epoch, float(total) / len(fitting), held_out))
        on_epoch(curve[-1])
        if held_out < best:
            best, best_state = held_out, copy.deepcopy(averaged.state_dict())
        elif epoch - min(curve, key=lambda e: e.validation_loss).epoch >= settings.patience:
            break
    averaged.load_state_dict(best_state)
    plain = torch.tensor(validation.weight, device=device)
    slope, offset = calibrate(_pooled(averaged, judging), judging.label.double(), plain)
    averaged.slope.fill_(slope)
    averaged.offset.fill_(offset)
    return averaged.cpu().eval(), curve


def prepare(seed: int) -> torch.device:
    """Seeds, determinism and a bound on threads; the device to train on."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(min(4, len(os.sched_getaffinity(0))))
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def balance(share: float) -> float:
    """Factor on the weight of positives: rare ones count more, short of a full balance."""
    return math.sqrt((1 - share) / share)


def batch_size(rows: int) -> int:
    """A power of two that gives a small table enough steps and a large one full batches."""
    return int(2 ** np.clip(round(math.log2(max(rows, 1) / 64)), 6, 10))


def calibrate(logits: Tensor, label: Tensor, weight: Tensor) -> tuple[float, float]:
    """Slope and offset of the weighted logistic fit of labels on logits (Platt 1999).

    Newton's method with a weak pull towards slope 1, so that few positives cannot flip the order.
    """
    x = torch.stack([logits.double(), torch.ones_like(logits, dtype=torch.float64)], dim=1)
    weight = weight.double() * len(weight) / weight.sum()
    prior = torch.tensor([1.0, 0.0], dtype=torch.float64, device=x.device)
    pull = torch.diag(torch.tensor([1.0, 1e-3], dtype=torch.float64, device=x.device))
    theta = prior.clone()
    for _ in range(100):
        p = torch.sigmoid(x @ theta)
        gradient = x.T @ (weight * (p - label)) + pull @ (theta - prior)
        hessian = (x.T * (weight * p * (1 - p))) @ x + pull
        step = torch.linalg.solve(hessian, gradient)
        theta = theta - step.clamp(-2.0, 2.0)
        if float(step.abs().max()) < 1e-8:
            break
    return max(float(theta[0]), 0.05), float(theta[1])


def judge(network: Network, rows: _Rows) -> float:
    """Weighted log loss of the pooled score, classes balanced as in training."""
    pooled = _pooled(network, rows)
    return float(_loss(pooled.unsqueeze(0), rows))


def _pooled(network: Network, rows: _Rows) -> Tensor:
    with torch.inference_mode():
        parts = zip(torch.split(rows.standard, 8192), torch.split(rows.codes, 8192), strict=True)
        return torch.cat([network.pooled(standard, codes) for standard, codes in parts])


def _loss(logits: Tensor, rows: _Rows) -> Tensor:
    label = rows.label.expand_as(logits)
    loss = nn.functional.binary_cross_entropy_with_logits(logits, label, reduction="none")
    return (loss * rows.weight).mean()


def _rows(network: Network, rows: Rows, emphasis: float, device: torch.device) -> _Rows:
    """Tensors on the device; weights average 1, positives multiplied by `emphasis`."""
    values, codes = tensors(network.contract, rows.columns)
    label = torch.from_numpy(rows.label.astype(np.float32))
    weight = torch.from_numpy(rows.weight.astype(np.float32))
    weight = weight * torch.where(label > 0, emphasis, 1.0)
    values = values.to(device)
    standard = values.float() if network.numbers is None else network.numbers.standardise(values)
    return _Rows(standard, codes.to(device), label.to(device), (weight / weight.mean()).to(device))


def _groups(network: Network, weight_decay: float) -> list[dict[str, object]]:
    decayed = [p for p in network.parameters() if p.dim() == 3 and p.shape[1] > 1]
    rest = [p for p in network.parameters() if not (p.dim() == 3 and p.shape[1] > 1)]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]


def _forget(codes: Tensor, share: float) -> Tensor:
    if not codes.shape[1]:
        return codes
    draw = torch.rand(codes.shape, device=codes.device)
    codes = torch.where(draw < share / 2, torch.full_like(codes, UNSEEN), codes)
    return torch.where(draw > 1 - share / 2, torch.full_like(codes, MISSING), codes)


def _average(averaged: Network, network: Network, keep: float) -> None:
    """Exponential moving average of the weights (Polyak)."""
    with torch.no_grad():
        ours: list[Tensor] = list(averaged.parameters())
        theirs: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - keep)
