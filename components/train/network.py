"""The network: raw columns in, log-odds out, every preprocessing step a module of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from components.train.inputs import (
    Codes,
    Values,
    code_counts,
    numeric_features,
    text_features,
)
from serving.bundle import Contract

FAR = 1e6
"""Standardised values are clipped here, so that no finite input overflows float32."""
NEAR, SPREAD = 10.0, 3.0
"""The linear view of a z-score is clipped at the first and divided by the second."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the network."""

    members: int = 4
    width: int = 64
    depth: int = 2
    bins: int = 4
    dropout: float = 0.1


class Numbers(nn.Module):
    """Numeric columns, float64 [rows, features] with NaN for missing, to float32 [rows, size].

    Each becomes: its robust z-score, clipped; a signed logarithm of it, for long tails; a
    piecewise-linear encoding over its training quantiles (Gorishniy et al. 2022, "On Embeddings
    for Numerical Features"), which sees order; and, where NaN is allowed, a flag for missing.
    """

    center: Tensor
    scale: Tensor
    low: Tensor
    steepness: Tensor
    nullable: Tensor

    def __init__(self, count: int, bins: int, nullable: list[int]) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(count, dtype=torch.float64))
        self.register_buffer("low", torch.zeros(count, bins))
        self.register_buffer("steepness", torch.zeros(count, bins))
        self.register_buffer("nullable", torch.tensor(nullable, dtype=torch.int64))
        self.size = count * (2 + bins) + len(nullable)

    def fit(self, values: NDArray[np.float64]) -> None:
        """Takes centre, scale and bin edges from training values [rows, features]."""
        bins = self.low.shape[1]
        for index in range(values.shape[1]):
            column = values[:, index]
            column = column[~np.isnan(column)]
            if not len(column):
                continue
            first, median, third = np.quantile(column, [0.25, 0.5, 0.75])
            spread = float(third - first) / 1.349 or float(np.std(column)) or 1.0
            self.center[index], self.scale[index] = float(median), spread
            edges = np.unique(np.quantile(column, np.linspace(0, 1, bins + 1)))
            edges = np.clip((edges - median) / spread, -FAR, FAR)
            width = np.diff(edges)
            self.low[index, : len(width)] = torch.from_numpy(edges[:-1]).float()
            self.steepness[index, : len(width)] = torch.from_numpy(1 / np.maximum(width, 1e-6))

    def standardise(self, values: Tensor) -> Tensor:
        """Robust z-scores, float32 [rows, features]; float64 inside, so that large offsets (a time
        in seconds) lose no digits. NaN stays NaN."""
        return ((values - self.center) / self.scale).clamp(-FAR, FAR).float()

    def forward(self, standard: Tensor) -> Tensor:
        absent = torch.isnan(standard)
        known = torch.where(absent, torch.zeros_like(standard), standard)
        logs = torch.sign(known) * torch.log1p(torch.abs(known))
        steps = ((known.unsqueeze(2) - self.low) * self.steepness).clamp(0.0, 1.0)
        parts = [known.clamp(-NEAR, NEAR) / SPREAD, logs, steps.flatten(1)]
        if len(self.nullable):
            parts.append(absent.float().index_select(1, self.nullable))
        return torch.cat(parts, dim=1)


class Categories(nn.Module):
    """Text columns as codes, int64 [rows, features], to float32 [rows, size].

    counts: how many codes each feature has.
    """

    def __init__(self, counts: list[int]) -> None:
        super().__init__()
        widths = [min(16, 2 + round(count**0.5)) for count in counts]
        self.tables = nn.ModuleList(
            nn.Embedding(count, width) for count, width in zip(counts, widths, strict=True)
        )
        self.size = sum(widths)

    def forward(self, codes: Tensor) -> Tensor:
        return torch.cat([table(codes[:, i]) for i, table in enumerate(self.tables)], dim=1)


class Members(nn.Module):
    """An ensemble of equal perceptrons, trained side by side: [rows, inputs] to [members, rows]."""

    def __init__(self, inputs: int, shape: Shape) -> None:
        super().__init__()
        sizes = [inputs, *[shape.width] * shape.depth, 1]
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            bound = (6 / fan_in) ** 0.5 if fan_out > 1 else fan_in**-0.5
            weight = torch.empty(shape.members, fan_in, fan_out)
            self.weights.append(nn.Parameter(weight.uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.zeros(shape.members, 1, fan_out)))
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs.unsqueeze(0)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.matmul(hidden, weight) + bias
            if layer < last:
                hidden = self.dropout(torch.relu(hidden))
        return hidden.squeeze(2)


class Network(nn.Module):
    """Log-odds of the mean of the members' probabilities."""

    kind = "network"

    def __init__(self, contract: Contract, shape: Shape) -> None:
        super().__init__()
        self.contract, self.shape = contract, shape
        numeric = numeric_features(contract)
        text = text_features(contract)
        nullable = [i for i, feature in enumerate(numeric) if feature.nullable]
        self.numbers = Numbers(len(numeric), shape.bins, nullable) if numeric else None
        self.categories = Categories(code_counts(contract)) if text else None
        size = (self.numbers.size if self.numbers else 0) + (
            self.categories.size if self.categories else 0
        )
        self.members = Members(size, shape)

    def encode(self, standard: Tensor, codes: Tensor) -> Tensor:
        """Standardised numbers [rows, n] and codes [rows, t] to the members' inputs."""
        parts = []
        if self.numbers is not None:
            parts.append(self.numbers(standard))
        if self.categories is not None:
            parts.append(self.categories(codes))
        return torch.cat(parts, dim=1)

    def logits(self, standard: Tensor, codes: Tensor) -> Tensor:
        """Each member's logit, [members, rows]."""
        result: Tensor = self.members(self.encode(standard, codes))
        return result

    def pooled(self, standard: Tensor, codes: Tensor) -> Tensor:
        """The log-odds of the members' mean probability, [rows]."""
        mean = torch.sigmoid(self.logits(standard, codes)).mean(dim=0).clamp(1e-7, 1 - 1e-6)
        return torch.log(mean) - torch.log1p(-mean)

    def forward(self, values: Tensor, codes: Tensor) -> Tensor:
        """Raw numbers float64 [rows, n] and codes int64 [rows, t] to log-odds float32 [rows]."""
        return self.pooled(self.standardise(values), codes)

    def standardise(self, values: Tensor) -> Tensor:
        """Raw numbers to robust z-scores, float32 [rows, n]."""
        return values.float() if self.numbers is None else self.numbers.standardise(values)

    def margins(self, contract: Contract, values: Values, codes: Codes) -> NDArray[np.float32]:
        """Log-odds [rows], computed on the CPU in batches."""
        self.eval()
        parts = zip(
            torch.split(torch.from_numpy(values), 8192),
            torch.split(torch.from_numpy(codes), 8192),
            strict=True,
        )
        with torch.inference_mode():
            result: NDArray[np.float32] = torch.cat([self(*part) for part in parts]).numpy()
        return result

    def size(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())
