"""docs/operations.md and docs/reliability.md say what the code does: every metric, reason, limit and test they name exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import yaml

from packetclip_sensor.common.metrics import Counters, Gauges, meanings
from packetclip_sensor.config.settings import Limits
from packetclip_sensor.service.health import REASONS

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text()


def test_the_tables_have_every_metric_with_the_meaning_of_the_code() -> None:
    """Write them anew with `python -m mappings.build_metrics`."""
    done = subprocess.run([sys.executable, "-m", "mappings.build_metrics", "--check"], cwd=ROOT, check=False)
    assert done.returncode == 0
    for name, meaning in meanings(Counters).items():
        assert f"| `packetclip_{name}_total` | {meaning} |" in OPERATIONS
        assert meaning.endswith("."), name


def test_the_page_names_no_metric_that_is_not_there() -> None:
    known = {f"packetclip_{name}_total" for name in Counters().as_dict()} | {f"packetclip_{name}" for name in Gauges().as_dict()}
    known |= {"packetclip_sensor_info", "packetclip_unhealthy"}
    assert set(re.findall(r"`(packetclip_\w+)", OPERATIONS)) <= known


def test_every_reason_has_its_remedy() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", OPERATIONS, re.MULTILINE)
    assert set(REASONS) <= set(rows)


def test_the_limits_are_those_of_the_code() -> None:
    shown = re.search(r"    limits:\n((?:      .*\n)+)", OPERATIONS)
    assert shown
    for name, value in re.findall(r"(\w+): (\w+)", re.sub(r"#.*", "", shown[1])):
        assert str(getattr(Limits(), name)) == value, name


def test_every_test_that_the_reliability_page_names_exists() -> None:
    tests = "\n".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    there = set(re.findall(r"^ *def (test_\w+)", tests, re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", RELIABILITY))
    assert len(named) > 80
    assert sorted(named - there) == []


def test_every_test_that_shows_a_kind_of_hostile_input_exists() -> None:
    kinds = yaml.safe_load((ROOT / "tests" / "hostile" / "kinds.yaml").read_text())
    assert len({kind["kind"] for kind in kinds}) == len(kinds) > 20
    for test in (test for kind in kinds for test in kind["tests"]):
        file, *_, name = test.split("::")
        assert f"def {name}(" in (ROOT / file).read_text(), test
