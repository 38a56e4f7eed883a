"""Rows a second of our training loop, of the bare loop and of a plain DataLoader loop.

    python -m benchmarks.training --write

All three run the same network, batch size and optimiser, in turns, in one process. The bare loop
is forward, backward and step on batches that lie ready on the device. The plain one collates single
rows, as a first PyTorch program does.
"""

from __future__ import annotations

import argparse
import copy
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from torch.utils.data import DataLoader, TensorDataset

from components.train.fit import (
    Batch,
    Hardware,
    Progress,
    Settings,
    one_epoch,
    optimiser_of,
    prepare,
    weighted_loss,
)
from components.train.network import Network
from serving.bundle import Contract

SIZE = 1024
NUMBERS, TEXTS = 28, 2
BAR_CPU, BAR_GPU = 0.7, 20.0
LEARNT, EPOCHS = 65_536, 4
Loop = Callable[[], int]
"""Trains for a while and returns how many rows it took."""


def contract() -> Contract:
    features: list[dict[str, Any]] = [{"name": f"n{i}", "dtype": "float32"} for i in range(NUMBERS)]
    features += [
        {"name": f"t{i}", "dtype": "string", "categories": [f"c{j}" for j in range(12)]}
        for i in range(TEXTS)
    ]
    return Contract.model_validate(
        {
            "name": "bench",
            "features": features,
            "label": {"column": "label"},
            "decision": {"review": 0.3, "decline": 0.7},
        }
    )


def resident(rows: int, device: torch.device, seed: int = 0) -> Batch:
    """Rows on the device with a label that a network can learn."""
    generator = torch.Generator(device=device).manual_seed(seed)
    standard = torch.randn(rows, NUMBERS, generator=generator, device=device)
    codes = torch.randint(2, 14, (rows, TEXTS), generator=generator, device=device)
    logit = standard[:, :4].sum(1) + (codes[:, 0] == 3).float() * 2 - 3
    label = (torch.rand(rows, generator=generator, device=device) < torch.sigmoid(logit)).float()
    return Batch(standard, codes, label, torch.ones(rows, device=device))


def start(device: torch.device, seed: int = 0) -> Progress:
    prepare(seed, SIZE)
    network = Network(contract(), Settings().shape)
    if network.numbers is not None:
        network.numbers.fit(np.random.default_rng(0).normal(size=(10_000, NUMBERS)))
    network.to(device)
    averaged = copy.deepcopy(network).eval()
    return Progress(
        network, averaged, optimiser_of(network, Settings()), torch.Generator().manual_seed(seed)
    )


def ours(rows: Batch, hardware: Hardware) -> Loop:
    progress, settings = start(hardware.device), Settings()

    def run() -> int:
        one_epoch(progress, rows, size=SIZE, steps=1_000_000, settings=settings, hardware=hardware)
        return len(rows)

    return run


def bare(rows: Batch, hardware: Hardware) -> Loop:
    progress = start(hardware.device)
    batches = list(rows.split(SIZE))

    def run() -> int:
        progress.network.train()
        for batch in batches:
            _step(progress, batch, hardware)
        return len(rows)

    return run


def plain(rows: Batch, hardware: Hardware, batches: int) -> Loop:
    progress = start(hardware.device)
    dataset = TensorDataset(*(part.cpu() for part in rows.parts()))
    loader = DataLoader(dataset, batch_size=SIZE, shuffle=True)

    def run() -> int:
        progress.network.train()
        for parts in islice(loader, batches):
            _step(progress, Batch(*(part.to(hardware.device) for part in parts)), hardware)
        return batches * SIZE

    return run


def _step(progress: Progress, batch: Batch, hardware: Hardware) -> None:
    with hardware.autocast():
        logits = progress.network.logits(batch.standard, batch.codes)
    loss = weighted_loss(logits.float(), batch)
    progress.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    progress.optimiser.step()


def measure(loops: dict[str, Loop], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Rows a second of each loop in each round; the first round warms up and is dropped."""
    found: dict[str, list[float]] = {name: [] for name in loops}
    for turn in range(rounds + 1):
        for name, loop in loops.items():
            began = time.perf_counter()
            rows = loop()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                found[name].append(rows / (time.perf_counter() - began))
    return found


def held_out(hardware: Hardware, seeds: int) -> list[tuple[float, float]]:
    """(ours, plain DataLoader) for each seed: log loss of as many other rows after `EPOCHS` passes
    over the same ones."""
    rows, others = (resident(LEARNT, hardware.device, seed) for seed in (0, 1))
    steps = EPOCHS * math.ceil(len(rows) / SIZE)
    found = []
    for seed in range(seeds):
        progress = start(hardware.device, seed)
        for _ in range(EPOCHS):
            one_epoch(
                progress, rows, size=SIZE, steps=steps, settings=Settings(), hardware=hardware
            )
        simple = start(hardware.device, seed)
        loader = DataLoader(TensorDataset(*rows.parts()), batch_size=SIZE, shuffle=True)
        for _ in range(EPOCHS):
            for parts in loader:
                _step(simple, Batch(*parts), hardware)
        found.append((_loss(progress.averaged, others), _loss(simple.network, others)))
    return found


def _loss(network: Network, rows: Batch) -> float:
    with torch.no_grad():
        return float(weighted_loss(network.eval().logits(rows.standard, rows.codes), rows))


def same_metric(found: list[tuple[float, float]]) -> str:
    more = [ours - plain for ours, plain in found]
    wide = student.ppf(0.975, len(more) - 1) * statistics.stdev(more) / math.sqrt(len(more))
    mean = statistics.mean(more)
    means = (statistics.mean(side) for side in zip(*found, strict=True))
    return (
        f"Log loss of {LEARNT:,} other rows after {EPOCHS} passes over as many, {len(found)} seeds:"
        f" ours {next(means):.4f}, plain DataLoader {next(means):.4f}; ours has {mean:+.4f} more"
        f" ({mean - wide:+.4f} to {mean + wide:+.4f}, 95 %)."
    )


def table(found: dict[str, list[float]]) -> list[str]:
    lines = ["| loop | rows/s | ours / this |", "|---|---|---|"]
    for name, rates in found.items():
        ratios = [a / b for a, b in zip(found["ours"], rates, strict=True)]
        lines.append(
            f"| {name} | {statistics.median(rates):,.0f}"
            f" ({min(rates):,.0f} to {max(rates):,.0f}) | {statistics.median(ratios):.2f}"
            f" ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    return lines


def verdict(found: dict[str, list[float]], against: str, bar: float) -> str:
    ratio = statistics.median(a / b for a, b in zip(found["ours"], found[against], strict=True))
    return (
        f"ours / {against}: {ratio:.2f}, the bar is {bar:g}: {'met' if ratio >= bar else 'MISSED'}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=16_384, help="rows of a CPU round")
    parser.add_argument("--seeds", type=int, default=5, help="of the comparison of what is learnt")
    parser.add_argument("--write", action="store_true", help="replace results.md")
    args = parser.parse_args()
    cpu = Hardware.choose("cpu", "float32")
    rows = resident(args.rows, cpu.device)
    loops = {"ours": ours(rows, cpu), "bare": bare(rows, cpu)}
    loops["plain DataLoader"] = plain(rows, cpu, 2)
    found = measure(loops, args.rounds, cpu.device)
    lines = [
        "# Training: rows a second",
        "",
        (
            f"`python -m benchmarks.training --write`: {args.rounds} rounds in turns, batches of"
            f" {SIZE}, {NUMBERS} numbers and {TEXTS} texts, torch {torch.__version__},"
            f" {torch.get_num_threads()} threads ({platform.machine()}). Median (lowest to"
            " highest). Ours also draws a new order, hides categories, clips gradients, averages"
            " weights and moves the learning rate."
        ),
        "",
        f"## CPU, {len(rows):,} rows a round",
        "",
        *table(found),
        "",
        verdict(found, "bare", BAR_CPU),
        "",
        same_metric(held_out(cpu, args.seeds)),
        "",
        "## GPU, 10,000,000 rows resident on the device",
        "",
    ]
    if torch.cuda.is_available():
        gpu = Hardware.choose("cuda", "auto")
        rows = resident(10_000_000, gpu.device)
        loops = {"ours": ours(rows, gpu), "bare": bare(rows, gpu)}
        loops["plain DataLoader"] = plain(rows, gpu, 50)
        found = measure(loops, 3, gpu.device)
        device = torch.cuda.get_device_name()
        lines += [device, "", *table(found), "", verdict(found, "plain DataLoader", BAR_GPU)]
    else:
        lines.append("Skipped: torch finds no GPU here.")
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if args.write:
        Path(__file__).with_name("results.md").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
