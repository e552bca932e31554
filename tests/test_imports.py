"""Imports run one way: what a module imports is below it, no circle, and the sensor never needs torch or `training`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SENSOR = (
    "errors", "common", "records", "config", "sources", "normalize", "windows", "model", "evidence", "masking", "alerts",
    "elastic", "sinks", "service", "hunt", "pairs", "calibrate", "view", "pipeline", "kafka", "scale", "cli", "__main__",
)  # fmt: skip
"""Packages and modules of the sensor, bottom to top: the way of the data, then what looks at it, then the commands."""
TRAINING = ("common", "missions", "text", "data", "model", "ship", "evidence", "fit", "evaluate", "lab")
"""The same of training. `fit.train` exports what it trained, so `fit` is above `ship`; the lab replays what it recorded."""
EVALUATE = (
    "plan", "metrics", "captures", "occlusion", "altered_graphs", "baselines", "predictions", "by_words", "runs", "report",
    "__main__",
)  # fmt: skip
MOST_MODULES = 6
"""Python files that lie beside the packages."""


def modules(package: str) -> dict[str, Path]:
    """Every module of a package by its dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def imported(path: Path) -> set[str]:
    """What a module imports, also within functions: each dotted name, and each name taken from it as if it were a module."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Every circle that a walk along the arrows finds first."""
    found, done = [], set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
        elif module not in done:
            for other in sorted(arrows[module]):
                walk(other, [*path, module])
            done.add(module)

    for module in arrows:
        walk(module, [])
    return found


@pytest.mark.parametrize("package", ["packetclip_sensor", "training"])
def test_no_module_imports_itself_by_way_of_others(package: str) -> None:
    known = modules(package)
    arrows = {name: (imported(path) & known.keys()) - {name, package} for name, path in known.items()}
    assert circles(arrows) == []


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c", "a"]]


def back(arrows: dict[str, set[str]], package: str, order: tuple[str, ...]) -> list[str]:
    """Imports from one part of a package to a part that is above it."""
    at = len(package.split("."))
    rank = {f"{package}.{name}": number for number, name in enumerate(order)}

    def part(module: str) -> int | None:
        return rank.get(".".join(module.split(".")[: at + 1]))

    both = ((name, other, part(name), part(other)) for name, others in arrows.items() for other in others)
    return [f"{one} imports {two}" for one, two, a, b in both if a is not None and b is not None and b > a]


@pytest.mark.parametrize(
    ("package", "order"), [("packetclip_sensor", SENSOR), ("training", TRAINING), ("training.evaluate", EVALUATE)]
)
def test_every_import_points_down(package: str, order: tuple[str, ...]) -> None:
    known = modules(package.replace(".", "/"))
    at = len(package.split("."))
    assert {name.split(".")[at] for name in known if name != package} == set(order)
    assert back({name: imported(path) & known.keys() for name, path in known.items()}, package, order) == []


def test_an_import_that_runs_back_is_found() -> None:
    arrows = {"p.a.x": {"p.b", "p.a.y"}, "p.b": {"p.a.x"}, "p": {"p.b"}}
    assert back(arrows, "p", ("a", "b")) == ["p.a.x imports p.b"]


def test_the_sensor_imports_neither_torch_nor_training() -> None:
    tops = {name: {other.partition(".")[0] for other in imported(path)} for name, path in modules("packetclip_sensor").items()}
    assert {name: found for name, other in tops.items() if (found := other & {"torch", "training", "transformers"})} == {}


def test_few_modules_lie_beside_the_packages() -> None:
    assert len(list((ROOT / "packetclip_sensor").glob("*.py"))) <= MOST_MODULES


def test_every_package_says_what_comes_in_and_what_goes_out() -> None:
    sensor = sorted((ROOT / "packetclip_sensor").glob("*/__init__.py"))
    for path in [*sensor, *(ROOT / "training" / name / "__init__.py" for name in TRAINING[2:-1])]:
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert said, f"{path} says nothing"
        assert said.rstrip().endswith("."), path
        assert path not in sensor or 1 <= len(list(path.parent.glob("*.py"))) - 1 <= 8, path
