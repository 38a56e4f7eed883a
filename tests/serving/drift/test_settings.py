from __future__ import annotations

import pytest

from serving.drift.settings import read_settings
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
        (["--ring_rows", "0"], "ring_rows"),
        (["--nonsense", "1"], "--nonsense"),
        (["--port", "nine"], "nine"),
    ],
)
def test_names_the_setting_that_cannot_be(flags: list[str], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        read_settings(flags, {})


def test_names_the_variable_that_is_no_number() -> None:
    with pytest.raises(UsageError, match="SEATRIAL_DRIFT_PORT='x'"):
        read_settings([], {"SEATRIAL_DRIFT_PORT": "x"})
