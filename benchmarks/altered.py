"""What lossy, snapped, mirrored and disordered captures cost in detections: the captures of tests/data, altered.

    python -m benchmarks.altered
    python -m benchmarks.altered --only "a tenth lost" --verbose

Each capture is altered, read by the real Zeek, and judged with the shipped model. An attack capture is detected if an alert of
its mission names its victim and its attacker. An episode that names others, or stands in a benign capture, is wrong; one that
names them with another mission is counted beside it.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from benchmarks.common import CAPTURES, ROOT, banner, zeek_program
from packetclip_sensor import pipeline
from packetclip_sensor.common.resources import resource
from packetclip_sensor.config.settings import Config, NdjsonConfig, SinkConfig
from packetclip_sensor.model.bundle import manifest_of
from packetclip_sensor.records import Alert
from packetclip_sensor.sources.pcap import logs_of

sys.path.insert(0, str(ROOT / "tests" / "support"))
import altered_captures
import downloads

MISSION_OF = manifest_of(resource("model/shipped")).missions.of_class
LATENESS_S = 2.0
Made = tuple[Path, dict[str, Any]]
"""A folder of logs, and the settings that they need."""


@dataclass
class Tally:
    """Of one alteration."""

    attacks: int = 0
    detected: int = 0
    wrong: int = 0
    """Episodes of hosts that did nothing, or did it to others."""
    other_mission: int = 0
    """Episodes of attacker and victim with a mission that was not theirs."""


def captures(alter: Callable[[altered_captures.Capture], altered_captures.Capture]) -> Callable[[Path, Path], Made]:
    """Logs of a capture that was altered."""

    def make(capture: Path, work: Path) -> Made:
        pcap = altered_captures.write(work / "capture.pcap", alter(altered_captures.read(capture / "capture.pcap.gz")))
        return logs_of(pcap, work / "logs").folder, {}

    return make


def rotated(capture: Path, work: Path) -> Made:
    """Logs of captures that follow each other."""
    parts = altered_captures.rotated(altered_captures.read(capture / "capture.pcap.gz"))
    files = [altered_captures.write(work / f"capture-{i:03}.pcap", part) for i, part in enumerate(parts)]
    return logs_of(files, work / "logs").folder, {}


def workers(number: int) -> Callable[[Path, Path], Made]:
    """The recorded logs as a cluster's workers would have written them."""

    def make(capture: Path, work: Path) -> Made:
        (work / "logs").mkdir()
        for log in ("packet", "flow"):
            lines = altered_captures.lines(capture / f"packetclip_{log}.log.gz")
            (work / "logs" / f"packetclip_{log}.log").write_bytes(b"".join(altered_captures.by_workers(lines, number)))
        return work / "logs", {"lateness_s": LATENESS_S}

    return make


def with_downloads(per_second: int, at: Literal["end", "random"]) -> Callable[[Path, Path], Made]:
    """Logs of a capture whose attacker also downloads from the victim."""

    def make(capture: Path, work: Path) -> Made:
        altered = altered_captures.read(capture / "capture.pcap.gz")
        for interval in attacks(capture):
            altered = downloads.mixed(altered, interval, per_second, at)
        return logs_of(altered_captures.write(work / "capture.pcap", altered), work / "logs").folder, {}

    return make


def attacks(capture: Path) -> list[dict[str, Any]]:
    """The intervals of a capture's labels that are attacks."""
    return [i for i in json.loads((capture / "labels.json").read_text("utf-8"))["intervals"] if i["label"] != "Benign"]


ALTERATIONS: dict[str, Callable[[Path, Path], Made]] = {
    "as it is": captures(lambda capture: capture),
    **{name: captures(alter) for name, alter in altered_captures.CAPTURES.items()},
    "-G 2, files joined": rotated,
    "4 workers, 2 s late": workers(4),
    "16 workers, 2 s late": workers(16),
    **{f"downloads, {n} a second at its end": with_downloads(n, "end") for n in (1, 5, 10)},
    **{f"downloads, {n} a second at random": with_downloads(n, "random") for n in (1, 5, 10)},
}


def main(argv: list[str] | None = None) -> int:
    """Print a line for each alteration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(ALTERATIONS), action="append", help="this alteration; may be repeated")
    parser.add_argument("--captures", nargs="*", type=Path, default=CAPTURES, help="folders with a capture and labels.json")
    parser.add_argument("--verbose", action="store_true", help="name what was missed, and each wrong alert")
    args = parser.parse_args(argv)
    zeek_program()
    banner(f"detected and wrong, of {len(args.captures)} captures, seed 1, read by Zeek, shipped model")
    print("| altered | attack captures | detected | wrong hosts or false | right hosts, other mission |")
    print("| --- | --- | --- | --- | --- |")
    for name in args.only or ALTERATIONS:
        tally = Tally()
        for capture in args.captures:
            judge(capture, name, tally, verbose=args.verbose)
        print(f"| {name} | {tally.attacks} | {tally.detected} | {tally.wrong} | {tally.other_mission} |", flush=True)
    return 0


def judge(capture: Path, name: str, tally: Tally, *, verbose: bool) -> None:
    """Alter a capture, judge it, and count its alerts into `tally`."""
    intervals = attacks(capture)
    alerts: list[Alert] = []
    with tempfile.TemporaryDirectory() as work:
        folder, settings = ALTERATIONS[name](capture, Path(work))
        config = Config(sensor_name="altered", sink=SinkConfig(ndjson=NdjsonConfig(path=Path(work, "alerts.ndjson"))))
        pipeline.replay([[folder]], msgspec.structs.replace(config, **settings), on_alert=alerts.append)
    right = [alert for alert in alerts if any(is_right(alert, interval) for interval in intervals)]
    wrong = {alert.episode.id: alert for alert in alerts if not any(is_right(alert, interval) for interval in intervals)}
    tally.attacks += bool(intervals)
    tally.detected += bool(right)
    other = {id_ for id_, alert in wrong.items() if any(names_both(alert, interval) for interval in intervals)}
    tally.wrong += len(wrong.keys() - other)
    tally.other_mission += len(other)
    if verbose:
        if intervals and not right:
            print(f"#   {name}: {capture.name} ({intervals[0]['label']}) missed", flush=True)
        for alert in wrong.values():
            print(f"#   {name}: {capture.name}: {alert.title}", flush=True)


def is_right(alert: Alert, interval: dict[str, Any]) -> bool:
    """Whether an alert is of the interval's mission and names its hosts."""
    return alert.episode.mission == MISSION_OF[interval["label"]] and names_both(alert, interval)


def names_both(alert: Alert, interval: dict[str, Any]) -> bool:
    """Whether an alert names the interval's attacker as source and its victim as destination."""
    episode = alert.episode
    source = episode.scope not in ("pair", "source") or among(episode.sources[:1], interval["attacker"], interval["victim"])
    destination = episode.scope not in ("pair", "destination") or among(episode.destinations[:1], interval["victim"], ())
    return source and destination


def among(hosts: Sequence[str], networks: Sequence[str], but: Sequence[str]) -> bool:
    """Whether all hosts are in one of the networks; "spoofed" stands for any that is not in `but`."""
    if "spoofed" in networks and not among(hosts, but, ()):
        return True
    nets = [ipaddress.ip_network(name) for name in networks if name != "spoofed"]
    return bool(hosts) and all(any(ipaddress.ip_address(host) in net for net in nets) for host in hosts)


if __name__ == "__main__":
    sys.exit(main())
