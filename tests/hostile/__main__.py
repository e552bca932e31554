"""What real sensors and hostile neighbours do to the sensor, kind by kind: `python -m tests.hostile --help`.

kinds.yaml names for each kind what came out before, what comes out now, and the tests that show it against the real sensor, with
the real Zeek where it is found. This command runs the tests and prints the table of docs/hostile.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.common import banner
from packetclip_sensor.common.text import counted

ROOT = Path(__file__).parents[2]
KINDS = Path(__file__).with_name("kinds.yaml")


def kinds() -> list[dict[str, Any]]:
    """The kinds in the order of the file, each with `kind`, `before`, `now` and `tests` (FILE::NAME or FILE::CLASS::NAME)."""
    found: list[dict[str, Any]] = yaml.safe_load(KINDS.read_text("utf-8"))
    return found


def outcomes(tests: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Runs tests and returns for each (passed, failed, skipped or missing; reason); of a test with several cases the worst."""
    with tempfile.TemporaryDirectory() as work:
        report = Path(work, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
        done = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False)
        if not report.exists():
            sys.exit(f"error: pytest ended with status {done.returncode} and no report")
        cases = list(ET.parse(report).getroot().iter("testcase"))
    worst = {"missing": -1, "passed": 0, "skipped": 1, "failed": 2}
    found = dict.fromkeys(tests, ("missing", ""))
    for case in cases:
        name, where = case.get("name", "").partition("[")[0], case.get("classname", "")
        key = next((test for test in tests if _dotted(test) == f"{where}.{name}"), "")
        bad = [child for tag in ("failure", "error", "skipped") if (child := case.find(tag)) is not None]
        state = "passed" if not bad else "skipped" if bad[0].tag == "skipped" else "failed"
        reason = bad[0].get("message", "").splitlines()[:1] if bad else []
        if key and worst[state] > worst[found[key][0]]:
            found[key] = state, "".join(reason)
    return found


def _dotted(test: str) -> str:
    """A test's name as pytest's report has it."""
    file, _, name = test.partition("::")
    return f"{file.removesuffix('.py').replace('/', '.')}.{name.replace('::', '.')}"


def main(argv: list[str] | None = None) -> int:
    """Print the table; 0 where every kind is as it says, or was skipped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="kinds that hold this text")
    args = parser.parse_args(argv)
    chosen = [kind for kind in kinds() if not args.only or args.only.lower() in kind["kind"].lower()]
    if not chosen:
        parser.error(f"no kind holds {args.only!r}")
    banner(f"{len(chosen)} kinds of odd and hostile input")
    found = outcomes(sorted({test for kind in chosen for test in kind["tests"]}))
    print("| kind | before | now | shown |\n| --- | --- | --- | --- |")
    failed = 0
    for kind in chosen:
        states = [found[test] for test in kind["tests"]]
        bad = [state for state in states if state[0] in ("failed", "missing")]
        skipped = [reason for state, reason in states if state == "skipped"]
        failed += bool(bad)
        shown = "FAILED" if bad else f"skipped: {skipped[0]}" if skipped else counted(len(states), "test") + " passed"
        print(f"| {kind['kind']} | {kind['before']} | {kind['now']} | {shown} |")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
