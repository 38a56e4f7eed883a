"""CPUs are what the cgroup leaves; a GPU is used, missed or demanded, never pretended."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import onnx
import pytest

from benchmarks.serving import models
from benchmarks.serving.gpu import contenders
from serving.predictor.hardware import CPU, DEVICE_KEY, cpu_limit, providers_for
from tests.serving.predictor.servers import launch, serve
from tests.support.tiny import model_bytes, tiny_bundle

MINE = float(len(os.sched_getaffinity(0)))


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("50000 100000\n", 0.5), ("max 100000\n", MINE), ("", MINE)]
)
def test_reads_the_limit_of_its_own_cgroup(tmp_path: Path, text: str, expected: float) -> None:
    write(tmp_path / "own", "0::/pod/container\n")
    write(tmp_path / "pod/container/cpu.max", text)
    assert cpu_limit(tmp_path, tmp_path / "own") == expected


def test_reads_a_first_generation_cgroup(tmp_path: Path) -> None:
    write(tmp_path / "own", "3:cpu,cpuacct:/pod\n")
    write(tmp_path / "cpu/pod/cpu.cfs_quota_us", "25000\n")
    write(tmp_path / "cpu/pod/cpu.cfs_period_us", "100000\n")
    assert cpu_limit(tmp_path, tmp_path / "own") == 0.25


def test_nothing_to_read_means_the_affinity_mask(tmp_path: Path) -> None:
    assert cpu_limit(tmp_path, tmp_path / "none") == MINE


def test_providers_keep_the_wanted_order_and_end_with_the_cpu() -> None:
    cuda, tensorrt = "CUDAExecutionProvider", "TensorrtExecutionProvider"
    every = [CPU, cuda, tensorrt]
    assert providers_for(("tensorrt", "cuda", "cpu"), every) == [tensorrt, cuda, CPU]
    assert providers_for(("cuda", "cpu"), [CPU]) == [CPU]
    assert providers_for(("cpu",), every) == [CPU]


def test_the_gpu_check_runs_anywhere_and_says_what_it_skips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    found, skipped = contenders(models.bundle(tmp_path, models.SMALL))
    assert found["cpu"](models.sample(3)).shape == (3,)
    assert ("cuda" in found) != any(said.startswith("cuda: ") for said in skipped)
    assert any(said.startswith("torch: ") for said in skipped)


def model_for(device: str) -> bytes:
    model = onnx.load_from_string(model_bytes())
    model.metadata_props.add(key=DEVICE_KEY, value=device)
    return bytes(model.SerializeToString())


def test_a_bundle_that_demands_a_gpu_refuses_to_start_without_one(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, model=model_for("gpu"))
    server = launch(bundle.path, tmp_path / "log", "--providers=cuda,cpu")
    assert server.process.wait(90) == 1
    assert "asks for a GPU" in server.log.read_text()


def test_a_bundle_that_prefers_a_gpu_serves_without_and_says_so(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, model=model_for("prefer-gpu"))
    with serve(bundle.path, tmp_path / "log") as server:
        log = server.log.read_text()
        assert "asks for a GPU" in log
        assert f"on {CPU}, golden rows reproduced" in log
        assert server.metric("seatrial_gpu_missing") == 1
        assert server.metric("seatrial_provider_info", provider=CPU) == 1
        assert CPU in server.http("/v2/models/tiny").body["platform"]
