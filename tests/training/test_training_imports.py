"""Imports of training run one way: no module imports itself in a circle, and no package one that is above it."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ORDER = ["common", "text", "data", "model", "ship", "fit", "evaluate"]
"""Bottom to top: a package imports what is before it. `fit.train` exports what it trained, so `fit` is above `ship`."""
EVALUATE = ["plan", "metrics", "captures", "occlusion", "altered_graphs", "baselines", "predictions", "runs", "report"]
"""The same within `evaluate`."""


@cache
def modules() -> dict[str, Path]:
    """Every module of training by its dotted name; the lab imports none of them but `data.replay`, so it is left out."""
    found = {}
    for path in (ROOT / "training").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[1] != "lab":
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imported(name: str) -> set[str]:
    """Modules of training that a module imports anywhere in its text, within functions and `TYPE_CHECKING` too."""
    out = set()
    for node in ast.walk(ast.parse(modules()[name].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            out |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            out |= {alias.name for alias in node.names}
    own = {target for target in out if target in modules()}
    # `from package import module` imports the module: the package is meant only where a name of its own is taken.
    return {t for t in own if not any(other.startswith(f"{t}.") for other in own)} - {name}


def test_there_are_modules_and_imports_to_look_at() -> None:
    assert len(modules()) > 60
    assert imported("training.data.windows") >= {"training.common", "training.text.texts"}
    assert {name.split(".")[1] for name in modules() if name != "training"} == set(ORDER)


def test_no_module_is_imported_in_a_circle() -> None:
    try:
        TopologicalSorter({name: imported(name) for name in modules()}).prepare()
    except CycleError as err:
        pytest.fail(f"circle of imports: {' -> '.join(err.args[1])}")


@pytest.mark.parametrize(("order", "at"), [(ORDER, 1), (EVALUATE, 2)])
def test_no_import_runs_back(order: list[str], at: int) -> None:
    back = []
    for name in modules():
        for target in imported(name):
            here, there = name.split("."), target.split(".")
            packages = [here[at], there[at]] if here[:at] == there[:at] and min(len(here), len(there)) > at else []
            if packages and set(packages) <= set(order) and order.index(packages[1]) > order.index(packages[0]):
                back.append(f"{name} imports {target}")
    assert back == []


def test_torch_is_below_no_module_of_the_texts_that_does_not_need_it() -> None:
    """The sensor's tests read the bank of texts where torch is not installed."""
    for name in ("training.common", "training.text.texts", "training.text.bank", "training.text.knowledge"):
        assert "torch" not in modules()[name].read_text().split("from __future__")[1].split("\n\n\n")[0]
