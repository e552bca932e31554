"""Captures of a folder to Zeek logs, and the connections in them. A capture that was cut in the middle is read up to the cut."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address
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
_LITTLE = (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1")
_BIG = (b"\xa1\xb2\xc3\xd4", b"\xa1\xb2\x3c\x4d")
_PCAPNG = b"\x0a\x0d\x0d\x0a"

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


@lru_cache(maxsize=100_000)
def address(text: str) -> str:
    """An address in the one form in which Zeek writes it; ValueError where it is none."""
    return str(ip_address(text.strip()))


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
        with tempfile.TemporaryDirectory(prefix="labels-") as work:
            plain, cut = whole(pcap, Path(work))
            made = logs_of(plain, Path(work) / "logs")
            target.mkdir(parents=True, exist_ok=True)
            note.write_text(cut, encoding="utf-8")
            for name in ("packetclip_flow.log", "packetclip_packet.log"):  # the packet log last: it says that all is there
                if (made / name).exists():
                    shutil.copyfile(made / name, target / f".{name}")
                    (target / f".{name}").replace(target / name)
    return Capture(unit.name, pcap, (target,), note.read_text(encoding="utf-8") if note.exists() else "")


def whole(pcap: Path, work: Path) -> tuple[Path, str]:
    """The capture as far as it is whole, and what was cut off ("" where nothing was).

    Zeek stops at a packet that is cut and loses what it had not written yet, so the rest is taken away before.

    Returns:
        The capture itself, or a copy in `work` where it is packed or cut.
    Raises:
        LogFormatError: not one packet in it is whole.
    """
    plain, cut = pcap, ""
    with pcap.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed:
        plain = work / "capture.pcap"
        with gzip.open(pcap) as source, plain.open("wb") as target:
            try:
                while block := source.read1(1 << 20):
                    target.write(block)
            except (EOFError, zlib.error, gzip.BadGzipFile) as err:
                cut = f"the packed file is damaged ({err}); "
    size = plain.stat().st_size
    packets, end = _extent(plain, size)
    if not packets:
        raise LogFormatError(f"{pcap} holds no packet")
    if end < size:
        cut += f"cut in the middle of packet {packets + 1:,} at byte {size:,}; "
        plain = plain if packed else Path(shutil.copyfile(pcap, work / "whole.pcap"))
        os.truncate(plain, end)
    return plain, f"{cut}its {packets:,} whole packets are read" if cut else ""


def _extent(path: Path, size: int) -> tuple[int, int]:
    """(whole packets, byte at which the last whole packet or block ends), (0, 0) where it is neither pcap nor pcapng.

    Source: blocks of a pcapng are type, total length, body, total length again (draft-ietf-opsawg-pcapng, section 3.1).
    """
    with path.open("rb") as file:
        magic = file.read(4)
        blocks, order = magic == _PCAPNG, "<" if magic in _LITTLE else ">"
        if not blocks and (magic not in (*_LITTLE, *_BIG) or size < 24):
            return 0, 0
        packets, end = 0, 0 if blocks else 24
        while end < size:
            file.seek(end)
            head = file.read(12)
            if len(head) < 12:
                break
            if head[:4] == _PCAPNG and blocks:
                order = "<" if head[8:] == b"\x4d\x3c\x2b\x1a" else ">"
            kind, length, captured = struct.unpack(f"{order}III", head)
            length = length if blocks else 16 + captured
            if length < 12 or end + length > size:
                break
            packets, end = packets + (not blocks or kind in (2, 3, 6)), end + length
    return packets, end
