"""The training loop: weighted rows, balanced classes, early stopping on the latest slice."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from components.checked import Rows
from components.train.checkpoint import Checkpoint
from components.train.inputs import MISSING, UNSEEN, matrices
from components.train.network import Network, Shape
from serving.bundle import Contract
from serving.errors import UsageError

CHUNK = 32
"""Batches that are gathered at once: one copy of rows then costs little beside the steps."""


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
class Hardware:
    """Where the arithmetic happens and in which precision."""

    device: torch.device
    bf16: bool

    @classmethod
    def choose(cls, device: str, precision: str) -> Hardware:
        """`auto` is CUDA where there is one, and bfloat16 there. Raises UsageError."""
        if device not in {"auto", "cpu", "cuda"}:
            raise UsageError(f"device '{device}' is unknown; choose auto, cpu or cuda")
        if precision not in {"auto", "float32", "bfloat16"}:
            raise UsageError(
                f"precision '{precision}' is unknown; choose auto, float32 or bfloat16"
            )
        if device == "cuda" and not torch.cuda.is_available():
            raise UsageError("device 'cuda': torch finds no GPU here; give device auto or cpu")
        chosen = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
        bf16 = precision == "bfloat16" or (precision == "auto" and chosen == "cuda")
        return cls(torch.device(chosen), bf16)

    def autocast(self) -> Any:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)

    def facts(self) -> dict[str, str]:
        return {"device": self.device.type, "precision": "bfloat16" if self.bf16 else "float32"}


CPU = Hardware(torch.device("cpu"), bf16=False)


@dataclass(frozen=True)
class Epoch:
    """One line of the learning curve."""

    epoch: int
    train_loss: float
    validation_loss: float | None
    """None where nothing is held out."""


@dataclass(frozen=True)
class Batch:
    """Rows on the device. Weights average 1 over all rows."""

    standard: Tensor
    codes: Tensor
    label: Tensor
    weight: Tensor

    def __len__(self) -> int:
        return len(self.label)

    def take(self, index: Tensor) -> Batch:
        return Batch(*(part[index] for part in self.parts()))

    def split(self, size: int) -> Iterator[Batch]:
        for parts in zip(*(torch.split(part, size) for part in self.parts()), strict=True):
            yield Batch(*parts)

    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.standard, self.codes, self.label, self.weight


@dataclass
class Progress:
    """All that changes while a network trains: what a checkpoint holds."""

    network: Network
    averaged: Network
    """Moving average of the weights (Polyak): steadier than the last step's."""
    optimiser: torch.optim.Optimizer
    order: torch.Generator
    curve: list[Epoch] = field(default_factory=list)
    step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "order": self.order.get_state(),
            "curve": [asdict(epoch) for epoch in self.curve],
            "step": self.step,
            "best": self.best,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.order.set_state(state["order"])
        self.curve = [Epoch(**epoch) for epoch in state["curve"]]
        self.step, self.best = state["step"], state["best"]
        torch.set_rng_state(state["random"])
        if state["random_cuda"]:
            torch.cuda.set_rng_state_all(state["random_cuda"])

    @property
    def best_epoch(self) -> int:
        losses = [e.validation_loss for e in self.curve if e.validation_loss is not None]
        return int(np.argmin(losses)) if losses else len(self.curve) - 1


def fit(
    contract: Contract,
    train: Rows,
    validation: Rows | None,
    settings: Settings,
    *,
    hardware: Hardware = CPU,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    stop_after: int | None = None,
) -> tuple[Network, list[Epoch]]:
    """Trains a network; returns it, on the CPU, and the learning curve.

    With `validation` it is the network of the epoch with the smallest loss there, without it that
    after `stop_after` epochs of the same schedule. Slices must hold both classes. Equal rows and
    settings give equal weights on one machine, interrupted and resumed or not.
    """
    size = batch_size(len(train))
    prepare(settings.seed, size)
    device = hardware.device
    network = Network(contract, settings.shape)
    if network.numbers is not None:
        network.numbers.fit(matrices(contract, train.columns)[0])
    network.to(device)
    emphasis = balance(float((train.weight * train.label).sum() / train.weight.sum()))
    fitting = load_batch(network, train, emphasis, device)
    judging = None if validation is None else load_batch(network, validation, emphasis, device)
    steps = settings.epochs * math.ceil(len(fitting) / size)
    progress = Progress(
        network,
        copy.deepcopy(network).eval(),
        optimiser_of(network, settings),
        torch.Generator().manual_seed(settings.seed),
    )
    saved = checkpoint.load() if checkpoint else None
    if saved is not None:
        progress.restore(saved)
    last = settings.epochs if stop_after is None else stop_after
    while len(progress.curve) < last:
        done = len(progress.curve)
        if judging and done and done - 1 - progress.best_epoch >= settings.patience:
            break
        loss = one_epoch(
            progress, fitting, size=size, steps=steps, settings=settings, hardware=hardware
        )
        held_out = None if judging is None else judge(progress.averaged, judging)
        progress.curve.append(Epoch(done, loss, held_out))
        if progress.best_epoch == done:
            progress.best = copy.deepcopy(progress.averaged.state_dict())
        if checkpoint:
            checkpoint.save(progress.state())
        on_epoch(progress.curve[-1])
    progress.averaged.load_state_dict(progress.best)
    return progress.averaged.cpu().eval(), progress.curve


def one_epoch(
    progress: Progress,
    rows: Batch,
    *,
    size: int,
    steps: int,
    settings: Settings,
    hardware: Hardware,
) -> float:
    """One pass over the rows in a new order; returns the mean training loss."""
    network, averaged, optimiser = progress.network.train(), progress.averaged, progress.optimiser
    ours: list[Tensor] = list(averaged.parameters())
    theirs: list[Tensor] = list(network.parameters())
    total = torch.zeros((), device=hardware.device)
    order = torch.randperm(len(rows), generator=progress.order)
    for index in torch.split(order, CHUNK * size):
        chunk = rows.take(index.to(hardware.device))
        chunk = Batch(
            chunk.standard, _forget(chunk.codes, settings.forget), chunk.label, chunk.weight
        )
        for batch in chunk.split(size):
            share = progress.step / steps
            warm = min(1.0, (progress.step + 1) / 50)
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * warm * (1 + math.cos(math.pi * share)) / 2
            with hardware.autocast():
                logits = network.logits(batch.standard, batch.codes)
            loss = weighted_loss(logits.float(), batch)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(theirs, 1.0, foreach=True)
            optimiser.step()
            progress.step += 1
            keep = min(0.99, progress.step / (progress.step + 10))
            with torch.no_grad():
                torch._foreach_lerp_(ours, theirs, 1 - keep)
            total += loss.detach() * len(batch)
    return float(total) / len(rows)


def prepare(seed: int, batch: int) -> None:
    """Seeds, determinism and a bound on threads: small batches are not worth sharing.

    OMP_NUM_THREADS bounds them further: where cores are contended, threads that meet after every
    product of matrices wait far longer than they work.
    """
    most = min(4, len(os.sched_getaffinity(0)), int(os.environ.get("OMP_NUM_THREADS") or 4))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(most if batch > 256 else 1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)


def balance(share: float) -> float:
    """Factor on the weight of positives: rare ones count more, short of a full balance."""
    return math.sqrt((1 - share) / share)


def batch_size(rows: int) -> int:
    """A power of two that gives a small table enough steps and a large one full batches."""
    return int(2 ** np.clip(round(math.log2(max(rows, 1) / 64)), 6, 10))


def judge(network: Network, rows: Batch) -> float:
    """Weighted log loss of the pooled log-odds, classes balanced as in training."""
    with torch.inference_mode():
        parts = [network.pooled(batch.standard, batch.codes) for batch in rows.split(8192)]
    return float(weighted_loss(torch.cat(parts).unsqueeze(0), rows))


def weighted_loss(logits: Tensor, rows: Batch) -> Tensor:
    label = rows.label.expand_as(logits)
    return nn.functional.binary_cross_entropy_with_logits(
        logits, label, rows.weight.expand_as(logits)
    )


def load_batch(network: Network, rows: Rows, emphasis: float, device: torch.device) -> Batch:
    """Rows as tensors on the device; positives weigh more by `emphasis`."""
    values, codes = matrices(network.contract, rows.columns)
    weight = torch.from_numpy(rows.weight * np.where(rows.label == 1, emphasis, 1.0))
    return Batch(
        network.standardise(torch.from_numpy(values).to(device)),
        torch.from_numpy(codes).to(device),
        torch.from_numpy(rows.label.astype(np.float32)).to(device),
        (weight / weight.mean()).float().to(device),
    )


def optimiser_of(network: Network, settings: Settings) -> torch.optim.Optimizer:
    """AdamW; only the members' inner matrices decay."""
    decayed = [p for p in network.parameters() if p.dim() == 3 and p.shape[1] > 1]
    rest = [p for p in network.parameters() if not (p.dim() == 3 and p.shape[1] > 1)]
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        fused=True,
    )


def _forget(codes: Tensor, share: float) -> Tensor:
    if not codes.shape[1]:
        return codes
    draw = torch.rand(codes.shape, device=codes.device)
    codes = torch.where(draw < share / 2, torch.full_like(codes, UNSEEN), codes)
    return torch.where(draw > 1 - share / 2, torch.full_like(codes, MISSING), codes)
