"""Episodes that come of Suricata's logs beside those that come of Zeek's, capture by capture.

    python -m benchmarks.suricata_replay [--suricata PROGRAM] [CAPTURES ...]

CAPTURES is a folder, searched to its depth, or a pcap; default: tests/data. Beside a recorded packetclip_packet.log.gz Zeek is
not run, and Suricata's limit of new flows is off, since the recorded logs know none. Two episodes are the same if mission,
sources and destinations are, and alike if the mission is and each side shares a host: of a flood with forged sources each keeps
some.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import DATA, banner
from benchmarks.suricata_records import logs_of, suricata_at
from benchmarks.zeek_cost import captures
from packetclip_sensor import pipeline
from packetclip_sensor.config.settings import Config, NdjsonConfig, SinkConfig
from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.records import Alert
from packetclip_sensor.sources import pcap
from packetclip_sensor.sources.suricata.capture import Suricata


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


def both(capture: Path, suricata: Suricata) -> tuple[list[Told], list[Told]]:
    """Episodes of a capture by Zeek and by Suricata."""
    recorded = capture.with_name("packetclip_packet.log.gz").exists()
    options = {"MAX_NEW_FLOWS": 0} if recorded else {}
    with logs_of(capture, suricata, **options) as logs, tempfile.TemporaryDirectory() as work:
        zeek = capture.parent if recorded else pcap.logs_of(capture, Path(work))
        return episodes(zeek), episodes(logs)


def shared(zeek: Sequence[Told], suricata: Sequence[Told]) -> tuple[int, int]:
    """How many of Zeek's episodes Suricata's logs give too: the same, and alike."""
    return sum(one in suricata for one in zeek), sum(any(one.like(other) for other in suricata) for one in zeek)


def main() -> None:
    """Print a line for each capture and the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="*", default=[str(DATA)], metavar="CAPTURES")
    parser.add_argument("--suricata", default="suricata", metavar="PROGRAM")
    args = parser.parse_args()
    suricata = suricata_at(args.suricata)
    banner(f"episodes by Suricata {suricata.version} beside Zeek's")
    print(f"{'Zeek':>5} {'Suricata':>8} {'same':>5} {'alike':>5}  capture")
    sums = [0, 0, 0, 0]
    alarmed = [0, 0]
    for path in captures(",".join(args.captures)):
        try:
            zeek, other = both(path, suricata)
        except LogFormatError as err:
            print(f"# left out: {err}", file=sys.stderr)
            continue
        row = [len(zeek), len(other), *shared(zeek, other)]
        sums = [a + b for a, b in zip(sums, row, strict=True)]
        alarmed = [alarmed[0] + bool(zeek), alarmed[1] + bool(other)]
        print("{:5} {:8} {:5} {:5}".format(*row), f" {path.parent.name}/{path.name}", flush=True)
    print("{:5} {:8} {:5} {:5}".format(*sums), f" captures with an episode: {alarmed[0]} by Zeek, {alarmed[1]} by Suricata")


if __name__ == "__main__":
    main()
