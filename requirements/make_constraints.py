"""Writes the constraints files from the virtual environment that runs this, so that every installation gets what was tested.

    .venv/bin/python requirements/make_constraints.py            versions: constraints.txt, constraints-dev.txt
    .venv/bin/python requirements/make_constraints.py --hashes   also sensor.lock.txt, with the SHA-256 of this platform's wheels

constraints.txt holds the sensor and what it needs, constraints-dev.txt the rest of training and tests. Only names, versions and
hashes are written: where packages come from is each machine's own setting.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

HERE = Path(__file__).parent
PROJECT = "packetclip-sensor"


def name_of(text: str) -> str:
    """A package name in its one normal form."""
    return re.sub(r"[-_.]+", "-", text).lower()


def closure(roots: list[tuple[str, str]]) -> dict[str, str]:
    """Version of every package that the roots (name, extra) need here, themselves included."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = list(roots)
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # needed on other platforms only
        found[name] = package.version
        for line in package.requires or []:
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                waiting += [(name_of(need.name), part) for part in ("", *need.extras)]
    return found


def main() -> None:
    sensor = closure([(PROJECT, "")])
    everything = closure([(PROJECT, extra) for extra in ("", "train", "dev")])
    for table in (sensor, everything):
        table.pop(PROJECT)
    head = "# Made by `make constraints` from an environment in which all tests passed.\n"
    rest = {name: version for name, version in everything.items() if name not in sensor}
    for file, table in (("constraints.txt", sensor), ("constraints-dev.txt", rest)):
        lines = [f"{name}=={version}\n" for name, version in sorted(table.items())]
        (HERE / file).write_text(head + "".join(lines), encoding="utf-8")
    if "--hashes" in sys.argv:
        (HERE / "sensor.lock.txt").write_text(
            "# Wheels for CPython 3.11 on Linux x86_64: pip install --require-hashes -r requirements/sensor.lock.txt\n"
            + "".join(hashed(sensor)),
            encoding="utf-8",
        )


def hashed(table: dict[str, str]) -> list[str]:
    """Requirement lines with the hash of the wheel that pip chooses here."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = [f"{name}=={version}" for name, version in sorted(table.items())]
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", folder, *wanted],
            check=True,
        )
        sums = {name_of(wheel.name.split("-")[0]): hashlib.sha256(wheel.read_bytes()) for wheel in Path(folder).iterdir()}
    return [f"{name}=={version} --hash=sha256:{sums[name].hexdigest()}\n" for name, version in sorted(table.items())]


if __name__ == "__main__":
    main()
