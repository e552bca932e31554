"""docs/architecture.md is true to the code: each file that a step names is there, and has what stands behind it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = re.compile(r"((?:[a-z_]+/)*)([a-z_]+\.py)")


def test_each_step_names_files_and_what_is_in_them() -> None:
    rows = [line.split("|")[2] for line in (ROOT / "docs" / "architecture.md").read_text().splitlines() if line.count("|") == 4]
    steps = [row for row in rows if FILE.search(row)]
    assert len(steps) > 10
    for step in steps:
        folder, content = "", ""
        for named in re.findall(r"`([^`]+)`", step):
            if file := FILE.fullmatch(named):
                folder = file[1] or folder
                content = (ROOT / "packetclip_sensor" / folder / file[2]).read_text()
            else:
                assert re.search(rf"^(class|def) {named}\b", content, re.M), f"{named} in {step}"


def test_the_picture_names_files_that_are_there() -> None:
    drawn = set(FILE.findall((ROOT / "docs" / "img" / "architecture.svg").read_text()))
    assert drawn
    assert not [name for _, name in drawn if not list((ROOT / "packetclip_sensor").rglob(name))]
