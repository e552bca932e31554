"""Episodes that come of Suricata's logs beside those that come of Zeek's, capture by capture.

    python -m benchmarks.suricata_replay [--suricata PROGRAM ...] [CAPTURES ...]
    python -m benchmarks.suricata_replay --manifest CAPTURES/MANIFEST.csv --use "train or test" validate

CAPTURES is a folder, searched to its depth, or a pcap; default: tests/data. Beside a recorded packetclip_packet.log.gz Zeek is
not run, and Suricata's limit of new flows is off, since the recorded logs know none. Two episodes are the same if mission,
sources and destinations are, and alike if the mission is and each side shares a host: of a flood with forged sources each keeps
some. With a manifest, an attack capture is named if an episode has its mission, or any where its label is none of our classes,
and every episode of a benign capture is a false alert. A line gives these numbers by source; `!` marks those that differ.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from benchmarks.common import DATA, banner, verdict
from benchmarks.suricata_records import logs_of, suricata_at
from benchmarks.zeek_cost import captures
from packetclip_sensor import pipeline
from packetclip_sensor.config.settings import Config, NdjsonConfig, SinkConfig
from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.records import Alert
from packetclip_sensor.sources import pcap
from packetclip_sensor.sources.suricata.capture import Suricata

MOST_APART = 2
"""Attack captures named, and false alerts, that Suricata may have fewer or more than Zeek."""


@dataclass(frozen=True)
class Told:
    """An episode by what must be the same, from its last document."""

    mission: str
    sources: frozenset[str]
    destinations: frozenset[str]

    def like(self, other: Told) -> bool:
        """Whether both are about the same thing."""
        same = self.mission == other.mission
        return same and bool(self.sources & other.sources) and bool(self.destinations & other.destinations)


def episodes(logs: Path) -> list[Told]:
    """The episodes of a folder of logs, in the order in which they opened."""
    last: dict[str, Alert] = {}
    with tempfile.TemporaryDirectory() as work:
        config = Config(sink=SinkConfig(ndjson=NdjsonConfig(path=Path(work, "alerts.ndjson"))))
        pipeline.replay([[logs]], config, on_alert=lambda alert: last.update({alert.episode.id: alert}))
    found = (alert.episode for alert in last.values())
    return [Told(e.mission, frozenset(e.sources), frozenset(e.destinations)) for e in found]


def by_zeek(capture: Path) -> list[Told]:
    """Episodes of a capture by Zeek."""
    if capture.with_name("packetclip_packet.log.gz").exists():
        return episodes(capture.parent)
    with tempfile.TemporaryDirectory() as work:
        return episodes(pcap.logs_of(capture, Path(work)).folder)


def by_suricata(capture: Path, suricata: Suricata) -> list[Told]:
    """Episodes of a capture by Suricata."""
    options = {"MAX_NEW_FLOWS": 0} if capture.with_name("packetclip_packet.log.gz").exists() else {}
    with logs_of(capture, suricata, **options) as logs:
        return episodes(logs)


def shared(zeek: Sequence[Told], suricata: Sequence[Told]) -> tuple[int, int]:
    """How many of Zeek's episodes Suricata's logs give too: the same, and alike."""
    return sum(one in suricata for one in zeek), sum(any(one.like(other) for other in suricata) for one in zeek)


def side_by_side(paths: Sequence[Path], suricatas: Sequence[Suricata]) -> None:
    """Print a line for each capture and the sums, for one Suricata after the other."""
    for suricata in suricatas:
        print(f"{'Zeek':>5} {suricata.version:>8} {'same':>5} {'alike':>5}  capture")
        sums = [0, 0, 0, 0]
        alarmed = [0, 0]
        for path in paths:
            try:
                zeek, other = by_zeek(path), by_suricata(path, suricata)
            except LogFormatError as err:
                print(f"# left out: {err}", file=sys.stderr)
                continue
            row = [len(zeek), len(other), *shared(zeek, other)]
            sums = [a + b for a, b in zip(sums, row, strict=True)]
            alarmed = [alarmed[0] + bool(zeek), alarmed[1] + bool(other)]
            print("{:5} {:8} {:5} {:5}".format(*row), f" {path.parent.name}/{path.name}", flush=True)
        print("{:5} {:8} {:5} {:5}".format(*sums), f" captures with an episode: {alarmed[0]} by Zeek, {alarmed[1]} by Suricata")


def judged(path: Path, suricatas: Sequence[Suricata]) -> list[tuple[list[Told], str]]:
    """Episodes of a capture by Zeek and by each Suricata, and why it could not be read."""
    found: list[tuple[list[Told], str]] = []
    for suricata in (None, *suricatas):
        try:
            found.append(((by_suricata(path, suricata) if suricata else by_zeek(path)), ""))
        except LogFormatError as err:
            found.append(([], str(err)))
    return found


def by_label(manifest: Path, uses: Sequence[str], suricatas: Sequence[Suricata], jobs: int) -> None:
    """Print a line for each capture, and what each source names of attacks and of benign captures."""
    from training.data.ground_truth import read_manifest
    from training.missions import CLASS_MISSION

    rows = [row for row in read_manifest(manifest) if row.use in uses]
    names = ["Zeek", *(suricata.version for suricata in suricatas)]
    counts: dict[str, Counter[str]] = {"attack": Counter(), "benign": Counter()}
    with ProcessPoolExecutor(jobs) as pool:
        for row, found in zip(
            rows, pool.map(judged, [manifest.parent / row.file for row in rows], repeat(suricatas)), strict=True
        ):
            if benign := row.label == "Benign":
                alerts = [len(episodes) for episodes, _ in found]
            else:
                wanted = CLASS_MISSION.get(row.label)
                alerts = [any(wanted in (None, told.mission) for told in episodes) for episodes, _ in found]
            counts["benign" if benign else "attack"].update(dict(zip(names, map(int, alerts), strict=True)), captures=1)
            mark = "!" if len(set(alerts)) > 1 else " "
            print(mark, *(f"{int(count):5}" for count in alerts), f"  {row.label}: {row.file}", flush=True)
            for name, (_, why) in zip(names, found, strict=True):
                if why:
                    print(f"  # not read by {name}: {why}", flush=True)
    for kind, words in (("attack", "attack captures named"), ("benign", "false alerts on benign captures")):
        zeek = counts[kind]["Zeek"]
        print(f"{counts[kind]['captures']} {kind} captures, {words}: Zeek {zeek}")
        for name in names[1:]:
            verdict(f"  {name}: {counts[kind][name]}, apart", abs(counts[kind][name] - zeek), MOST_APART)


def main() -> None:
    """Run the comparison asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="*", default=[str(DATA)], metavar="CAPTURES")
    parser.add_argument("--suricata", nargs="+", default=["suricata"], metavar="PROGRAM")
    parser.add_argument("--manifest", type=Path, metavar="FILE")
    parser.add_argument("--use", nargs="+", default=["train or test", "validate"], help="uses of the manifest's captures")
    parser.add_argument("--jobs", type=int, default=1, help="captures of the manifest judged at the same time")
    args = parser.parse_args()
    suricatas = [suricata_at(program) for program in args.suricata]
    banner(f"episodes by Suricata {', '.join(one.version for one in suricatas)} beside Zeek's")
    if args.manifest:
        by_label(args.manifest, args.use, suricatas, args.jobs)
    else:
        side_by_side(captures(",".join(args.captures)), suricatas)


if __name__ == "__main__":
    main()
