"""Captures of a folder to Zeek logs, and the connections in them. A capture that was cut in the middle is read up to the cut."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

from rich.progress import Progress

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.records import Batch
from packetclip_sensor.sources.discovery import Unit, discover
from packetclip_sensor.sources.pcap import logs_of
from training.data.ground_truth import records
from training.data.labels.report import Report

SUFFIXES = (".pcap", ".pcapng", ".cap", ".dmp", ".trace")

Key = tuple[str, tuple[str, int], tuple[str, int]]
"""Protocol and both ends, in one order whoever began."""


@dataclass(slots=True)
class Connection:
    """A connection as Zeek saw it, and what sources say of it."""

    capture: str
    uid: str
    key: Key
    first: float
    last: float
    claim: str | None = None
    """Class, or the source's own name for something else; None as long as nothing was cut."""
    label: str = ""
    where: str = ""
    conflict: bool = False


@dataclass
class Capture:
    """A capture's logs and what is in them."""

    name: str
    path: Path
    """The pcap or the folder of logs that the user gave."""
    logs: tuple[Path, ...]
    note: str = ""
    first: float = inf
    last: float = -inf
    packets: int = 0
    bad_lines: int = 0

    def batches(self, counters: Counters | None = None) -> Iterator[Batch]:
        """The records of its logs."""
        return records(self.logs, counters)


def key(proto: str, one: tuple[str, int], other: tuple[str, int]) -> Key:
    """The key of a connection; ports count for tcp and udp alone, since Zeek writes ICMP's type and code there."""
    kind = proto if proto in ("tcp", "udp") else "other"
    if kind == "other":
        one, other = (one[0], 0), (other[0], 0)
    return (kind, one, other) if one <= other else (kind, other, one)


def scan(capture: Capture) -> list[Connection]:
    """Fill in a capture's time and packets, and return its connections in the order of their first packets."""
    found: dict[str, Connection] = {}
    capture.first, capture.last, capture.packets = inf, -inf, 0
    counters = Counters()
    for batch in capture.batches(counters):
        for p in batch.packets:
            c = found.get(p.uid)
            if c is None:
                ends = key(p.proto, (p.orig_h, p.orig_p), (p.resp_h, p.resp_p))
                found[p.uid] = Connection(capture.name, p.uid, ends, p.ts, p.ts)
            else:
                c.first, c.last = min(c.first, p.ts), max(c.last, p.ts)
            capture.first, capture.last = min(capture.first, p.ts), max(capture.last, p.ts)
        capture.packets += len(batch.packets)
        for f in batch.flows:
            if c := found.get(f.uid):  # the packet log ends after the connection's first packets
                c.last = max(c.last, f.written)
    capture.bad_lines = counters.rejects
    return sorted(found.values(), key=lambda c: c.first)


def collect(folder: Path, logs: Path, report: Report, jobs: int, progress: Progress) -> list[Capture]:
    """Every capture below `folder`, replayed by Zeek into `logs` unless its logs there are newer, or as logs where it has some.

    Raises:
        LogFormatError: there is no capture and no log of ours.
        ConfigError: there are pcaps and no zeek.
    """
    units: list[Unit] = []
    names: Counter[str] = Counter()
    for unit in discover(folder):
        names[unit.name] += 1
        units.append(unit if names[unit.name] == 1 else replace(unit, name=f"{unit.name}-{names[unit.name]}"))
    taken = {path for unit in units for path in unit.paths}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        bare = path.with_suffix("") if path.suffix == ".gz" else path
        if bare.suffix in SUFFIXES and path.is_file() and path not in taken and not any(path.parent == t for t in taken):
            report.add("capture", str(path), "is called a capture, but does not begin like a pcap or pcapng; left out")
    out: list[Capture] = []
    with ThreadPoolExecutor(jobs) as pool:
        runs = [pool.submit(_logs, unit, logs / unit.name) for unit in units]
        for unit, run in progress.track(list(zip(units, runs, strict=True)), description="zeek"):
            try:
                found = run.result()
            except LogFormatError as err:
                report.add("capture", str(unit.paths[0]), f"{err}; left out")
            else:
                if found.note:
                    report.add("capture", str(unit.paths[0]), found.note)
                out.append(found)
    return out


def _logs(unit: Unit, target: Path) -> Capture:
    if unit.kind == "logs":
        folder = unit.paths[0] if unit.paths[0].is_dir() else unit.paths[0].parent
        return Capture(unit.name, folder, unit.paths)
    pcap = unit.paths[0]
    done = target / "packetclip_packet.log"
    note = target / "cut.txt"
    if not done.exists() or done.stat().st_mtime < pcap.stat().st_mtime:
        note.unlink(missing_ok=True)
        if problem := logs_of(pcap, target).problem:
            note.write_text(problem, encoding="utf-8")
    return Capture(unit.name, pcap, (target,), note.read_text(encoding="utf-8") if note.exists() else "")
