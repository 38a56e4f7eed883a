"""What holds wherever the manifests are served: here by the player; with SEATRIAL_GATEWAY and
SEATRIAL_BUNDLE on the cluster of KUBECONFIG (environments/kind/check.sh sets them)."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest

from serving.rollout import rolled_back, with_canary, with_weight, without_canary
from tests.e2e.site import Site, arm_of, golden_request

pytestmark = pytest.mark.timeout(900)
ASKED = 300
SHARE = 30


def arms(site: Site, count: int) -> Counter[str]:
    return Counter(arm_of(site) for _ in range(count))


def test_golden_rows_are_answered_through_the_gateway_as_the_bundle_says(site: Site) -> None:
    path = f"/v2/models/{site.stable.service}"
    assert site.gateway.ask("GET", f"{path}/ready")[0] == 200
    status, text = site.gateway.ask("POST", f"{path}/infer", golden_request(site.bundle))
    assert status == 200, text
    (score,) = (out["data"] for out in json.loads(text)["outputs"] if out["name"] == "score")
    assert score == pytest.approx(site.bundle.read_json("golden.json")["score"], abs=1e-4)


def test_a_request_that_breaks_the_contract_is_refused_through_the_gateway(site: Site) -> None:
    path = f"/v2/models/{site.stable.service}/infer"
    status, text = site.gateway.ask("POST", path, {"inputs": []})
    assert status == 400
    assert "error" in json.loads(text)


def test_a_canary_gets_its_share_and_after_the_way_back_nothing(site: Site) -> None:
    dark = with_canary(site.stable, site.canary)
    site.write(dark)
    assert arms(site, 50) == {"v1": 50}
    site.write(with_weight(dark, "v2", SHARE))
    share = arms(site, ASKED)["v2"] / ASKED
    # 4.5 standard deviations of a binomial: one false alarm in 150,000 runs.
    bound = 4.5 * math.sqrt(SHARE / 100 * (1 - SHARE / 100) / ASKED)
    assert abs(share - SHARE / 100) < bound
    site.write(rolled_back(with_weight(dark, "v2", SHARE)))
    assert arms(site, 50) == {"v1": 50}
    site.write(without_canary(dark, "v2"))
    assert arms(site, 50) == {"v1": 50}
