from __future__ import annotations

import pytest

from tests.support.cluster_set import RENDERED, ClusterSet, combined, committed

# What docs/cluster.md says may be combined, each with its base: name -> (base, components).
COMBINATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "gpu spot": ("overlays/cpu", ("gpu", "gpu-spot")),
    "gpu spot fallback": ("overlays/cpu", ("gpu", "gpu-spot", "gpu-fallback")),
    "drift by a broker": ("overlays/cpu", ("drift",)),
    "drift straight": ("overlays/cpu", ("drift-plain",)),
    "autoscaling": ("overlays/cpu", ("autoscaling",)),
    "tls to the predictor": ("overlays/cpu", ("security", "security-tls")),
    "gpu fallback, shut": (
        "overlays/cpu",
        ("gpu", "gpu-fallback", "security", "security-gateway", "security-tls"),
    ),
    "gpu autoscaling": ("overlays/cpu", ("gpu", "autoscaling")),
    "pipelines as resources": ("overlays/cpu", ("pipelines",)),
    "pipelines by a job": ("overlays/cpu", ("pipelines-upload",)),
    "watched and shut": (
        "overlays/cpu",
        ("drift", "monitoring", "security", "security-gateway"),
    ),
    "seldon": ("overlays/cpu", ("seldon",)),
    "direct gate": ("overlays/cpu", ("gate-direct",)),
    "all of it": (
        "overlays/cpu",
        (
            "gpu",
            "gpu-spot",
            "gpu-fallback",
            "drift",
            "pipelines",
            "pipelines-upload",
            "gate-direct",
        ),
    ),
    "production with a broker": ("overlays/production", ("drift", "pipelines")),
    "knative with a broker": ("overlays/knative", ("drift", "pipelines-upload")),
}
SETS = (*(file.stem for file in RENDERED), *COMBINATIONS)


@pytest.fixture(scope="session")
def combinations(kubectl: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ClusterSet]:
    assert kubectl
    folder = tmp_path_factory.mktemp("combinations")
    return {
        name: combined(folder / str(number), base, components)
        for number, (name, (base, components)) in enumerate(COMBINATIONS.items())
    }


@pytest.fixture(params=SETS)
def cluster_set(request: pytest.FixtureRequest) -> ClusterSet:
    """Each overlay as committed, and each combination as kubectl renders it."""
    name = str(request.param)
    if name in COMBINATIONS:
        found: dict[str, ClusterSet] = request.getfixturevalue("combinations")
        return found[name]
    return committed(name)
