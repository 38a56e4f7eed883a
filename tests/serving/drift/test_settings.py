from __future__ import annotations

from dataclasses import fields

import pytest

from serving.drift.settings import Settings, read_settings
from serving.errors import UsageError


def test_a_flag_wins_over_the_environment_and_that_over_the_default() -> None:
    env = {"SEATRIAL_DRIFT_PORT": "9191", "SEATRIAL_DRIFT_WINDOW_ROWS": "300"}
    settings = read_settings(["--port", "9292"], env)
    assert (settings.port, settings.window_rows, settings.ring_rows) == (9292, 300, 100_000)


def test_k_sink_is_the_sink_unless_our_own_variable_is_set() -> None:
    env = {"K_SINK": "http://broker/default"}
    assert read_settings([], env).sink == "http://broker/default"
    env["SEATRIAL_DRIFT_SINK"] = "http://other"
    assert read_settings([], env).sink == "http://other"


def test_the_host_comes_from_the_variable_shared_with_the_predictor() -> None:
    assert read_settings([], {}).host == "0.0.0.0"  # noqa: S104
    assert read_settings([], {"SEATRIAL_HOST": "127.0.0.1"}).host == "127.0.0.1"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--port", "70000"], "70000"),
        (["--sink", "broker:80"], "broker:80"),
        (["--sink", "http://h:port/"], "http://h:port/"),
        (["--window_rows", "-1"], "-1"),
        (["--window_rows", "5"], "20 or more"),
        (["--window_rows", "500", "--window_seconds", "60"], "give one of them"),
        (["--window_seconds", "nan"], "window_seconds nan"),
        (["--snapshot_seconds", "0"], "above 0"),
        (["--quality_share", "2"], "quality_share"),
        (["--input", "both"], "both"),
        (["--watch", "perhaps"], "perhaps"),
        (["--bundle", "/b", "--input", "tee"], "introduces its own bundle"),
        (["--ring_rows", "0"], "ring_rows"),
        (["--nonsense", "1"], "--nonsense"),
        (["--port", "nine"], "nine"),
    ],
)
def test_names_the_setting_that_cannot_be(flags: list[str], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        read_settings(flags, {})


@pytest.mark.parametrize(
    ("variable", "text"), [("INPUT", "both"), ("SINK_RATE", "fast"), ("LOGGER_MODE", "response")]
)
def test_names_the_value_of_a_variable_that_cannot_be(variable: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"'{text}'"):
        read_settings([], {f"SEATRIAL_DRIFT_{variable}": text})


def test_every_flag_has_help_that_names_its_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings(["--help"], {})
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for setting in fields(Settings):
        if setting.name != "host":
            assert f"--{setting.name} " in shown
            assert f"SEATRIAL_DRIFT_{setting.name.upper()}" in shown


def test_names_the_variable_that_is_no_number() -> None:
    with pytest.raises(UsageError, match="SEATRIAL_DRIFT_PORT='x'"):
        read_settings([], {"SEATRIAL_DRIFT_PORT": "x"})
