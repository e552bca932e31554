"""Suricata's packet records beside those that Zeek wrote of the same captures, item by item.

    python -m benchmarks.suricata_records [--suricata PROGRAM] [--differences N] [FOLDER ...]

A folder holds capture.pcap.gz and the recorded packetclip_packet.log.gz; default: tests/data. Two records are of one packet
if bytes and length are equal and as many such came before in the capture. The recorded logs know no limit of new flows, so
Suricata's is off. Ends with status 1 where bytes, length, protocol or order differ anywhere, or the cause of another difference
is not known.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from benchmarks.common import CAPTURES, banner, packets
from packetclip_sensor.records import Packet
from packetclip_sensor.sources.pcap import CaptureFile
from packetclip_sensor.sources.suricata import capture

SAME = ("bytes", "len", "proto", "order")
"""What must be equal."""
ITEMS: dict[str, Callable[[Packet], object]] = {
    "bytes": lambda p: p.data,
    "len": lambda p: p.size_bytes,
    "proto": lambda p: p.proto,
    "hosts": lambda p: (p.orig_h, p.resp_h),
    "ports": lambda p: (p.orig_p, p.resp_p),
    "is_orig": lambda p: p.is_orig,
    "n": lambda p: p.n,
    "total_bytes": lambda p: p.total_bytes,
    "ts": lambda p: round(p.ts, 6),
    "skipped": lambda p: p.skipped,
}


UNKNOWN = "unknown"


@dataclass
class Comparison:
    """Records of some captures, Zeek's and Suricata's, and what of them is equal."""

    zeek: int = 0
    suricata: int = 0
    equal: Counter[str] = field(default_factory=Counter)
    """Pairs of records with an equal item, by the item's name."""
    causes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Pairs that differ in an item, by its name and the cause."""
    examples: list[tuple[str, Packet, Packet]] = field(default_factory=list)

    def add(self, zeek: Sequence[Packet], suricata: Sequence[Packet], clock: dict[int, int]) -> None:
        """Take in one capture; `clock` is that of `late`."""
        self.zeek += len(zeek)
        self.suricata += len(suricata)
        pairs = paired(zeek, suricata)
        last = -1
        partners: dict[str, Counter[str]] = defaultdict(Counter)
        for place, one, other in pairs:
            self.equal["order"] += place > last
            last = max(last, place)
            partners[one.uid][other.uid] += 1
        flow_of = {uid: found.most_common(1)[0][0] for uid, found in partners.items()}
        spoken_of = {packet.uid.removesuffix("i") for packet in suricata if packet.uid.endswith("i")}
        for _, one, other in pairs:
            for item, of in {**ITEMS, "flow": lambda p: flow_of.get(p.uid, p.uid)}.items():
                if of(one) == of(other):
                    self.equal[item] += 1
                else:
                    self.causes[item, cause(item, one, other, clock, spoken_of)] += 1
                    self.examples.append((item, one, other))

    def holds(self) -> bool:
        """Whether all that must be equal is, in all records, and the cause of each other difference is known."""
        same = self.zeek == self.suricata and all(self.equal[item] == self.zeek for item in SAME)
        return same and all(why != UNKNOWN for _, why in self.causes)


def cause(item: str, zeek: Packet, suricata: Packet, clock: dict[int, int], spoken_of: Container[str]) -> str:
    """Why two records of one packet differ, in words. `spoken_of`: flows that an ICMP error was about."""
    if item == "ts" and clock.get(round(suricata.ts * 1e6)) == round(zeek.ts * 1e6):
        return "a packet older than the one before it in the capture: Zeek's clock does not go back"
    swapped = (zeek.orig_h, zeek.orig_p, zeek.resp_h, zeek.resp_p) == (
        suricata.resp_h,
        suricata.resp_p,
        suricata.orig_h,
        suricata.orig_p,
    )
    if swapped and zeek.n == suricata.n == 1:
        return "the first packet comes from a server's port: Zeek turns the roles round"
    if swapped or item == "flow":
        return "probes of one port pair again and again: Suricata begins a flow with the answer to one"
    if item == "n" and zeek.n < suricata.n and suricata.uid in spoken_of:
        return "Suricata counts ICMP errors about a flow in it"
    if item == "n" and zeek.n < suricata.n:
        return "one port pair again after odd TCP flags: new connections for Zeek, one flow for Suricata"
    return UNKNOWN


def late(capture: Path) -> dict[int, int]:
    """Times of packets that are older than one before them, and the latest time up to each; microseconds since 1970."""
    found, latest = {}, 0
    for ts, _, _ in packets(capture):
        now = round(ts * 1e6)
        if now < latest:
            found[now] = latest
        latest = max(latest, now)
    return found


def paired(zeek: Sequence[Packet], suricata: Sequence[Packet]) -> list[tuple[int, Packet, Packet]]:
    """Records of one packet in the order of Zeek's log, with their place in Suricata's."""

    def places(packets: Sequence[Packet]) -> dict[tuple[bytes, int, int], int]:
        seen: Counter[tuple[bytes, int]] = Counter()
        found = {}
        for place, packet in enumerate(packets):
            key = packet.data, packet.size_bytes
            found[*key, seen[key]] = place
            seen[key] += 1
        return found

    others = places(suricata)
    return [(others[key], zeek[here], suricata[others[key]]) for key, here in places(zeek).items() if key in others]


def records(log: Path) -> list[Packet]:
    """The records of a packet log, plain or .gz."""
    data = gzip.decompress(log.read_bytes()) if log.suffix == ".gz" else log.read_bytes()
    return msgspec.json.Decoder(Packet).decode_lines(data)


def compared(folders: Sequence[Path], suricata: capture.Suricata) -> Comparison:
    """Run Suricata over the capture of each folder and compare with the log recorded there."""
    found = Comparison()
    for folder in folders:
        with logs_of(folder / "capture.pcap.gz", suricata, MAX_NEW_FLOWS=0) as logs:
            pair = records(folder / "packetclip_packet.log.gz"), records(logs / "packetclip_packet.log")
            found.add(*pair, late(folder / "capture.pcap.gz"))
    return found


@contextmanager
def logs_of(pcap: Path, suricata: capture.Suricata, **options: int) -> Iterator[Path]:
    """A folder with the logs that Suricata writes of a capture, which it gets as from `packetclip replay`.

    Raises:
        LogFormatError: nothing in it can be read.
    """
    with tempfile.TemporaryDirectory() as work:
        plain = Path(work, "capture.pcap")
        file = CaptureFile(pcap)
        blocks = b"".join(file.blocks())
        plain.write_bytes(file.header + blocks)
        logs = Path(work, "logs")
        logs.mkdir()
        capture.run(suricata, plain, logs, given=pcap, **options)
        yield logs


def suricata_at(program: str) -> capture.Suricata:
    """The Suricata by this name or path; ends the benchmark where there is none."""
    suricata = capture.find_suricata(program)
    if suricata is None:
        sys.exit(f"error: {program}: no Suricata 7.0 or newer; install one, or name it with --suricata PROGRAM")
    return suricata


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, default=CAPTURES, metavar="FOLDER")
    parser.add_argument("--suricata", default="suricata", metavar="PROGRAM")
    parser.add_argument("--differences", type=int, default=0, metavar="N", help="also print the first N pairs that differ")
    args = parser.parse_args()
    suricata = suricata_at(args.suricata)
    banner(f"records of Suricata {suricata.version} beside Zeek's")
    found = compared(args.folders, suricata)
    print(f"{len(args.folders)} captures, {found.zeek:,} records of Zeek, {found.suricata:,} of Suricata")
    print(f"{'item':10} {'equal':>9} {'different':>9}")
    for item in ("order", "flow", *ITEMS):
        print(f"{item:10} {found.equal[item]:9,} {found.zeek - found.equal[item]:9,}")
    for (item, why), count in found.causes.most_common():
        print(f"  {item} differs in {count:,}: {why}")
    for item, one, other in found.examples[: args.differences]:
        print(f"\n{item}\n  Zeek     {one}\n  Suricata {other}")
    return 0 if found.holds() else 1


if __name__ == "__main__":
    sys.exit(main())
