"""Holds the demo against what it promises; run by `make demo` with the demo's own Python.

    python tests/demo_check.py demo/alerts.ndjson tests/data

Alerts and captures meet at the evidence packets: each stands, with its uid and time, in exactly one capture's packet log.
"""

from __future__ import annotations

import gzip
import importlib.util
import ipaddress
import json
import subprocess
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

from packetclip_sensor.common.resources import resource
from packetclip_sensor.model.bundle import manifest_of
from packetclip_sensor.sources.discovery import Unit, discover, logs_in

SLACK_S = 61.0
"""An episode's last window may reach so far behind the attack's end: a window is at most 60 s old."""
MAX_INSTALLED_MB = 260
MAX_HELP_S = 0.5

Key = tuple[str, str]


def main(alerts_path: Path, data: Path) -> int:
    """Print one line per claim, then the totals; 0 if all hold."""
    failed = passed = 0
    for holds, words in [*demo_claims(read(alerts_path), data), *install_claims()]:
        print(f"{'ok  ' if holds else 'FAIL'} {words}")
        failed += not holds
        passed += holds
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def read(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def demo_claims(alerts: list[dict[str, Any]], data: Path) -> Iterator[tuple[bool, str]]:
    """Each attack class is found with its mission and hosts; nothing is found in benign captures."""
    units = [unit for unit in discover(data) if unit.kind == "logs"]
    labels = {unit.name: labels_of(unit) for unit in units}
    home = {key: unit.name for unit in units for key in packets_of(unit)}
    by_unit: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for alert in alerts:
        found = {home.get(key_of(item)) for item in alert["packetclip"]["evidence"]}
        if len(found) != 1 or None in found:
            yield False, f"alert {alert['event']['id']}: its evidence is in {found}, expected one capture"
        by_unit[str(next(iter(found)))].append(alert)
    missions = manifest_of(resource("model/shipped")).missions
    for klass, mission in missions.of_class.items():
        if mission not in missions:
            continue  # Benign
        shown = [name for name in by_unit for interval in labels[name] if interval["label"] == klass]
        hits = [
            alert
            for name in shown
            for interval in labels[name]
            if interval["label"] == klass
            for alert in by_unit[name]
            if alert["packetclip"]["mission"] == mission and overlaps(alert, interval) and names(alert, interval)
        ]
        captures = sum(any(interval["label"] == klass for interval in found) for found in labels.values())
        same = sum(alert["packetclip"]["class"] == klass for alert in hits)
        words = f"{klass}: {len(hits)} documents of mission {mission} that name its hosts, {same} of them of the class itself"
        yield bool(hits), f"{words} ({captures} captures)"
    for name, intervals in labels.items():
        if not intervals:
            count = len(by_unit[name])
            yield count == 0, f"{name} (benign): {count} documents"
        else:
            stray = [a for a in by_unit[name] if not any(names(a, i) for i in intervals)]
            yield not stray, f"{name}: {len(by_unit[name])} documents, {len(stray)} name neither attacker nor victim"


def install_claims() -> Iterator[tuple[bool, str]]:
    """What the installation weighs and how fast it answers, where this Python is the demo's."""
    if importlib.util.find_spec("pytest") is not None:
        return  # the developers' environment
    yield importlib.util.find_spec("torch") is None, "the sensor runs without torch"
    site = Path(sysconfig.get_path("purelib"))
    own = [path for path in site.rglob("*") if path.is_file() and path.relative_to(site).parts[0] not in ("pip", "setuptools")]
    size_mb = sum(path.stat().st_size for path in own) / 1e6
    yield size_mb < MAX_INSTALLED_MB, f"installed: {size_mb:.0f} MB, below {MAX_INSTALLED_MB}"
    before = getrusage(RUSAGE_CHILDREN)
    subprocess.run([Path(sys.executable).parent / "packetclip", "--help"], check=True, stdout=subprocess.DEVNULL)
    after = getrusage(RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    yield took < MAX_HELP_S, f"packetclip --help: {took:.2f} s of processor time, below {MAX_HELP_S}"


def labels_of(unit: Unit) -> list[dict[str, Any]]:
    path = unit.paths[0] / "labels.json"
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["intervals"]
    return [interval for interval in found if interval["label"] != "Benign"]


def packets_of(unit: Unit) -> Iterator[Key]:
    """uid and time, to the microsecond, of every packet in the unit's logs."""
    for path, log in logs_in(unit.paths[0]):
        if log != "packet":
            continue
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for line in file:
                row = json.loads(line)
                yield row["uid"], f"{row['ts']:.6f}"


def key_of(evidence: dict[str, Any]) -> Key:
    return evidence["uid"], f"{datetime.fromisoformat(evidence['ts']).timestamp():.6f}"


def overlaps(alert: dict[str, Any], interval: dict[str, Any]) -> bool:
    first = datetime.fromisoformat(alert["event"]["start"]).timestamp()
    last = datetime.fromisoformat(alert["event"]["end"]).timestamp()
    return bool(first <= interval["end"] + SLACK_S and last >= interval["start"])


def names(alert: dict[str, Any], interval: dict[str, Any]) -> bool:
    """Whether attacker or victim stands among the alert's hosts."""
    hosts = [ipaddress.ip_address(host) for host in alert["related"]["ip"]]
    told = [ipaddress.ip_network(name) for name in interval["attacker"] + interval["victim"] if name != "spoofed"]
    return any(host in network for host in hosts for network in told)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
