"""Real tables through the components with nothing but a contract each."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.training.tables import TABLES, measured


@pytest.mark.parametrize("name", TABLES)
def test_the_served_model_is_no_worse_than_plain_ones_beyond_noise(
    shared_data: Path, tmp_path: Path, name: str
) -> None:
    found = measured(shared_data, name, tmp_path)
    for measure, gains in found.gains.items():
        for plain, gain in gains.items():
            assert gain.high >= 0, f"{measure} of the {found.family} next to {plain}: {gain}"
