"""Captures and logs as worse sensors would have got them: copies, disorder, loss, cut packets, cut files, a cluster's workers.

Pure Python: a capture is its header and records, a log its lines; what is random comes from a seed. Whoever judges the result has
Zeek read the capture, as of any other.
"""

from __future__ import annotations

import gzip
import random
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import msgspec

MICROSECONDS, NANOSECONDS = 1_000_000, 1_000_000_000


@dataclass(frozen=True)
class Record:
    """One packet of a capture."""

    time: int
    """Epoch, in the capture's own unit."""
    size_bytes: int
    """On the wire."""
    frame: bytes


@dataclass(frozen=True)
class Capture:
    """A classic pcap file."""

    header: bytes
    records: tuple[Record, ...]
    order: str
    """Of its bytes: < or >."""
    unit: int
    """Ticks a second."""

    def of(self, records: Iterable[Record]) -> Capture:
        """The same with other packets."""
        return replace(self, records=tuple(records))

    def ticks(self, seconds: float) -> int:
        """A time in the capture's own unit."""
        return round(seconds * self.unit)


def read(path: Path) -> Capture:
    """A capture, plain or .gz. Raises ValueError where it is no classic pcap."""
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    kinds = {0xA1B2C3D4.to_bytes(4, order): (sign, MICROSECONDS) for order, sign in (("little", "<"), ("big", ">"))} | {
        0xA1B23C4D.to_bytes(4, order): (sign, NANOSECONDS) for order, sign in (("little", "<"), ("big", ">"))
    }
    if raw[:4] not in kinds:
        raise ValueError(f"{path} is no classic pcap")
    order, unit = kinds[raw[:4]]
    at, records = 24, []
    while at + 16 <= len(raw):
        seconds, part, captured, size = struct.unpack_from(f"{order}IIII", raw, at)
        records.append(Record(seconds * unit + part, size, raw[at + 16 : at + 16 + captured]))
        at += 16 + captured
    return Capture(raw[:24], tuple(records), order, unit)


def write(path: Path, capture: Capture) -> Path:
    """Write a plain pcap."""
    parts = [capture.header]
    for r in capture.records:
        parts += [struct.pack(f"{capture.order}IIII", *divmod(r.time, capture.unit), len(r.frame), r.size_bytes), r.frame]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(parts))
    return path


def twice(capture: Capture, after_s: float = 20e-6, *, hop: bool = False) -> Capture:
    """Each packet once more, as a mirror of both directions gives it. `hop`: the copy was routed, so its TTL is one less."""
    after = capture.ticks(after_s)
    copies = [replace(r, time=r.time + after, frame=_routed(r.frame) if hop else r.frame) for r in capture.records]
    return capture.of(sorted([*capture.records, *copies], key=lambda r: r.time))


def _routed(frame: bytes) -> bytes:
    """An Ethernet frame of IPv4 behind one more router: TTL less one, header checksum made anew."""
    if frame[12:14] != b"\x08\x00" or len(frame) < 34 or frame[22] < 2:
        return frame
    head = bytearray(frame[14 : 14 + (frame[14] & 15) * 4])
    head[8] -= 1
    head[10:12] = b"\0\0"
    head[10:12] = checksum(bytes(head))
    return frame[:14] + bytes(head) + frame[14 + len(head) :]


def checksum(data: bytes) -> bytes:
    """Of IP, TCP and UDP headers (RFC 1071): 2 bytes."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack(">H", ~total & 0xFFFF)


def disordered(capture: Capture, by_s: float = 0.005, seed: int = 1) -> Capture:
    """Packets in another order, each up to `by_s` later than its time, which stays: queues of a network card that take turns."""
    rng = random.Random(seed)
    most = capture.ticks(by_s)
    return capture.of(r for _, r in sorted(((r.time + rng.randint(0, most), i), r) for i, r in enumerate(capture.records)))


def jittered(capture: Capture, by_s: float = 0.005, seed: int = 1) -> Capture:
    """Times up to `by_s` late, in the order of these times: packets of a connection overtake each other."""
    rng = random.Random(seed)
    most = capture.ticks(by_s)
    return capture.of(sorted((replace(r, time=r.time + rng.randint(0, most)) for r in capture.records), key=lambda r: r.time))


def lossy(capture: Capture, share: float = 0.1, seed: int = 1) -> Capture:
    """Without a share of the packets, here and there."""
    rng = random.Random(seed)
    return capture.of(r for r in capture.records if rng.random() >= share)


def snapped(capture: Capture, length: int) -> Capture:
    """With no more than `length` bytes of each frame (tcpdump -s)."""
    return capture.of(replace(r, frame=r.frame[:length]) for r in capture.records)


def rotated(capture: Capture, every_s: float = 2.0) -> list[Capture]:
    """Cut by time into captures that follow each other (tcpdump -G)."""
    begun = capture.records[0].time if capture.records else 0
    parts: dict[int, list[Record]] = {}
    for r in capture.records:
        parts.setdefault((r.time - begun) // capture.ticks(every_s), []).append(r)
    return [capture.of(parts[number]) for number in sorted(parts)]


CAPTURES: dict[str, Callable[[Capture], Capture]] = {
    "each packet twice": twice,
    "each packet twice, one hop apart": lambda capture: twice(capture, hop=True),
    "5 ms out of order": disordered,
    "5 ms of jitter": jittered,
    "a tenth lost": lossy,
    "snap length 96": lambda capture: snapped(capture, 96),
    "snap length 68": lambda capture: snapped(capture, 68),
}


def lines(path: Path) -> list[bytes]:
    """The lines of a log, plain or .gz, each with its newline."""
    raw = path.read_bytes()
    return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).splitlines(keepends=True)


def by_workers(
    log: list[bytes], workers: int, seed: int = 1, *, late_s: float = 2.0, block_s: tuple[float, float] = (0.1, 1.0)
) -> list[bytes]:
    """The lines of a log as a cluster's workers would have written it.

    Each connection is one worker's, by its hosts and ports. A worker sends its lines in blocks of 0.1 to 1 s, each of which
    arrives up to `late_s` after its last line; a worker's lines stay in their order, and no line is later than `late_s` behind
    the newest before it.
    """
    rng = random.Random(seed)
    rows = [msgspec.json.decode(line) for line in log]
    times = accumulate((row["ts"] + (row.get("duration") or 0.0) for row in rows), max)  # when each line was written
    blocks: dict[int, list[tuple[float, int]]] = {}
    for i, (row, ts) in enumerate(zip(rows, times, strict=True)):
        ends = sorted((f"{row['id.orig_h']} {row['id.orig_p']}", f"{row['id.resp_h']} {row['id.resp_p']}"))
        blocks.setdefault(zlib.crc32(" ".join(ends).encode()) % workers, []).append((ts, i))
    arrivals: list[tuple[float, int, int]] = []
    for worker, written in sorted(blocks.items()):
        at, block, until, since = 0.0, [], 0.0, 0.0
        for ts, i in [*written, (float("inf"), -1)]:
            if block and ts > until:
                arrived = min(max(at, block[-1][0] + rng.random() * late_s), since + late_s)
                at = max(at, arrived)
                arrivals += [(at, worker, number) for _, number in block]
                block = []
            if not block:
                since, until = ts, ts + min(rng.uniform(*block_s), late_s / 2)
            block.append((ts, i))
    return [log[i] for *_, i in sorted(arrivals)]
