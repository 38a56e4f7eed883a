"""Flags, environment and defaults, in that order."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.bundle import Bundle, Contract
from serving.errors import UsageError
from serving.predictor.__main__ import _fallback
from serving.predictor.settings import help_text, read_settings
from tests.support import tiny


def test_defaults_are_those_of_a_cluster() -> None:
    settings, rest = read_settings([], {})
    assert rest == []
    assert settings.model_dir == Path("/mnt/models")
    assert (settings.http_port, settings.grpc_port) == (8080, 8081)
    assert settings.host == "0.0.0.0"  # noqa: S104
    assert settings.predict_timeout_seconds == 5.0


def test_a_flag_wins_over_the_environment() -> None:
    env = {"SEATRIAL_HTTP_PORT": "1000", "SEATRIAL_ARM": "isvc.fraud-v1-predictor"}
    settings, _ = read_settings(["--http_port=2000"], env)
    assert settings.http_port == 2000
    assert settings.arm == "isvc.fraud-v1-predictor"


def test_an_empty_tee_url_means_no_tee() -> None:
    assert read_settings(["--tee_url="], {})[0].tee_url == ""
    assert read_settings([], {"SEATRIAL_TEE_URL": ""})[0].tee_url == ""


def test_other_flags_are_left_for_kserve() -> None:
    assert read_settings(["--max_threads=2", "--model_name=m"], {})[1] == ["--max_threads=2"]


def test_does_not_guess_abbreviated_flags() -> None:
    settings, rest = read_settings(["--http=9"], {})
    assert rest == ["--http=9"]
    assert settings.http_port == 8080


@pytest.mark.parametrize("url", ["localhost:9095", "https://x", "http://", "http://x:99999"])
def test_refuses_a_tee_url_it_cannot_reach(url: str) -> None:
    with pytest.raises(UsageError, match="tee_url"):
        read_settings([f"--tee_url={url}"], {})


@pytest.mark.parametrize(
    ("flag", "contract", "decides"),
    [
        ("", None, ""),
        ("", "review", "review"),
        ("decline", "review", "decline"),
        ("decline", None, "decline"),
        ("error", "review", ""),
    ],
)
def test_the_flag_outweighs_the_contracts_fallback(
    tmp_path: Path, flag: str, contract: str | None, decides: str
) -> None:
    decision = {**tiny.CONTRACT["decision"], "fallback": contract}
    made = Contract.model_validate({**tiny.CONTRACT, "decision": decision})
    bundle = Bundle(tmp_path, "0" * 64, made, {})
    settings, _ = read_settings([f"--fallback_decision={flag}"], {})
    assert _fallback(settings, bundle) == decides


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--http_port=70000"], "70000"),
        (["--grpc_port=0"], "grpc_port"),
        (["--http_port=8080", "--grpc_port=8080"], "8080"),
        (["--predict_timeout_seconds=soon"], "soon"),
        (["--predict_timeout_seconds=0"], "predict_timeout_seconds"),
        (["--predict_timeout_seconds=nan"], "predict_timeout_seconds"),
        (["--model_name=a/b"], "a/b"),
        (["--model_name="], "model_name"),
        (["--model_name"], "model_name"),
        (["--host=everywhere"], "everywhere"),
        (["--fallback_decision=maybe"], "maybe"),
        (["--audit_days=-1"], "audit_days"),
    ],
)
def test_refuses_an_impossible_value_and_names_it(flags: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_settings(flags, {})


def test_help_names_every_flag_and_its_variable() -> None:
    text = " ".join(help_text().split())
    for name in ("model_name", "model_dir", "http_port", "grpc_port", "tee_url", "host", "arm"):
        assert f"--{name} " in text
        assert f"SEATRIAL_{name.upper()}" in text
