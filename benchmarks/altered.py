"""What lossy, snapped, mirrored and disordered captures cost in detections: the attack captures of tests/data, altered.

    python -m benchmarks.altered
    python -m benchmarks.altered --only "a tenth lost" --seed 3

Each capture is altered, read by the real Zeek, and judged with the shipped model. An attack capture is detected if an alert of its
mission names its victim and its attacker. Every other alert is wrong: of another mission, or of other hosts.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.common import CAPTURES, ROOT, banner, zeek_program
from packetclip_sensor import pipeline
from packetclip_sensor.common.resources import resource
from packetclip_sensor.config.settings import Config, NdjsonConfig, SinkConfig
from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.model.bundle import manifest_of
from packetclip_sensor.records import Alert
from packetclip_sensor.sources.pcap import logs_of

sys.path.insert(0, str(ROOT / "tests" / "support"))
from altered_captures import ALTERATIONS, Alteration  # noqa: E402

MISSION_OF = manifest_of(resource("model/shipped")).missions.of_class


@dataclass
class Tally:
    """Of one alteration."""

    attacks: int = 0
    detected: int = 0
    wrong: int = 0
    benign_packets: int = 0
    unread: int = 0


def main(argv: list[str] | None = None) -> int:
    """Print a line for each alteration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[a.name for a in ALTERATIONS], action="append", help="this alteration; may be repeated")
    parser.add_argument("--seed", type=int, default=1, help="of what is lost, delayed or disordered")
    parser.add_argument("--captures", nargs="*", type=Path, default=CAPTURES, help="folders with a capture and labels.json")
    parser.add_argument("--verbose", action="store_true", help="name what was missed and each wrong alert")
    args = parser.parse_args(argv)
    zeek = Path(zeek_program())
    banner(f"detected, wrong or false, of {len(args.captures)} captures; seed {args.seed}")
    print("| altered | attack captures | detected | wrong or false alerts |\n| --- | --- | --- | --- |")
    for alteration in ALTERATIONS:
        if args.only and alteration.name not in args.only:
            continue
        tally = Tally()
        for capture in args.captures:
            judge(capture, alteration, args.seed, zeek, tally, verbose=args.verbose)
        print(f"| {alteration.name} | {tally.attacks} | {tally.detected} | {tally.wrong} |", flush=True)
    return 0


def judge(capture: Path, alteration: Alteration, seed: int, zeek: Path, tally: Tally, *, verbose: bool) -> None:
    """Alter a capture, judge it, and count its alerts into `tally`."""
    intervals = [i for i in json.loads((capture / "labels.json").read_text("utf-8"))["intervals"] if i["label"] != "Benign"]
    tally.attacks += bool(intervals)
    alerts: list[Alert] = []
    with tempfile.TemporaryDirectory() as work:
        try:
            units = alteration.logs(capture / "capture.pcap.gz", Path(work), seed, lambda pcap, out: logs_of(pcap, out, zeek))
        except LogFormatError as err:
            tally.unread += 1
            print(f"# {capture.name}: {err}", file=sys.stderr)
            return
        config = Config(sensor_name="altered", sink=SinkConfig(ndjson=NdjsonConfig(path=Path(work, "alerts.ndjson"))))
        pipeline.replay(units, msgspec.structs.replace(config, **alteration.settings), on_alert=alerts.append)
    right = [alert for alert in alerts if any(is_right(alert, interval) for interval in intervals)]
    wrong = {alert.episode.id: alert for alert in alerts if not any(is_right(alert, interval) for interval in intervals)}
    tally.detected += bool(right)
    tally.wrong += len(wrong)
    if verbose:
        if intervals and not right:
            print(f"#   {alteration.name}: {capture.name} ({intervals[0]['label']}) missed", flush=True)
        for alert in wrong.values():
            print(f"#   {alteration.name}: {capture.name}: {alert.title}", flush=True)


def is_right(alert: Alert, interval: dict[str, Any]) -> bool:
    """Whether an alert is of the interval's mission and names its attacker as source and its victim as destination."""
    episode = alert.episode
    if episode.mission != MISSION_OF[interval["label"]]:
        return False
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
