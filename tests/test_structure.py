"""The tree's own rules: which package may import which, and where things may lie."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("components", "pipelines", "seatrial", "serving")

# For each part, what of ours it may import beside itself. The longest name that fits decides.
MAY_IMPORT = {
    "serving": ("serving",),
    "serving.bundle": ("serving.errors", "serving.whole"),
    "serving.policy": ("serving.errors", "serving.bundle.contract", "serving.bundle.rows"),
    "serving.seldon": ("serving.errors", "serving.bundle", "serving.policy"),
    "components": ("serving.errors", "serving.whole", "serving.bundle", "serving.policy"),
    # It tries the very detector that the sidecar will build.
    "components.fit_drift": (
        *("components", "serving.errors", "serving.bundle", "serving.policy"),
        "serving.drift",
    ),
    # They write, and lead, the very rollout.yaml that the gate and the player read.
    "components.deploy": ("components", "serving.errors", "serving.rollout"),
    "components.promote": ("components", "serving.errors", "serving.rollout"),
    "pipelines": (
        *("components", "serving.errors", "serving.whole", "serving.lifeline"),
        *("serving.bundle", "serving.policy", "serving.rollout"),
    ),
    "seatrial": OURS,
}


def modules() -> Iterator[tuple[str, Path]]:
    for package in OURS:
        for file in sorted((ROOT / package).rglob("*.py")):
            relative = file.relative_to(ROOT)
            if "tests" not in relative.parts:
                yield ".".join(relative.with_suffix("").parts).removesuffix(".__init__"), file


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_point_one_way(part: str) -> None:
    wrong = []
    for module, file in modules():
        rule = max((p for p in MAY_IMPORT if within(module, p)), key=len)
        if rule != part:
            continue
        allowed = (*MAY_IMPORT[rule], rule)
        wrong += [
            f"{module} imports {name}"
            for name in imported(file)
            if name.split(".")[0] in OURS and not any(within(name, a) for a in allowed)
        ]
    assert wrong == []


def test_nothing_imports_the_composition_root() -> None:
    wrong = [
        f"{module} imports {name}"
        for module, file in modules()
        if not within(module, "seatrial")
        for name in imported(file)
        if within(name, "seatrial")
    ]
    assert wrong == []


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    assert [module for module, _ in modules() if module.endswith(("utils", "helpers"))] == []


def test_components_import_only_kfp_and_the_standard_library_at_the_top() -> None:
    """Heavy imports stay inside component bodies, so that a pipeline compiles anywhere."""
    for file in (ROOT / "components").glob("*/component.py"):
        tree = ast.parse(file.read_text("utf-8"))
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {
            name.split(".")[0]
            for node in top
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
            )
        }
        assert names <= {"kfp", "typing", "__future__"}, file
