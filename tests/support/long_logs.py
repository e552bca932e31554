"""The captures of tests/data one after the other in one folder of logs, as a Zeek that saw them all would have written it."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from msgspec.structs import replace

from packetclip_sensor.pairs.labels import LabelFile
from packetclip_sensor.records import Flow, Packet
from packetclip_sensor.sources import zeek

CAPTURES = sorted(log.parent for log in (Path(__file__).parents[1] / "data").glob("*/packetclip_packet.log.gz"))
BEGIN = 1_700_000_000
Alter = Callable[[list[Packet]], Iterable[Packet]]


def write(
    folder: Path,
    *,
    alter: Alter = lambda packets: packets,
    pause_s: float = 1.0,
    rotate_s: int = 0,
    captures: int = 99,
    benign: int = 0,
) -> Path:
    """Write the logs, and labels.json, into a new folder.

    Args:
        alter: what becomes of the packets. pause_s: between two captures. rotate_s: a packed file for so many seconds; one file
        for all where it is 0. captures: at most so many. benign: those without an attack so often once more, each time with
        another TTL, as from other hosts: traffic that is equal to the byte would cost the model nothing the second time.
    """
    folder.mkdir(parents=True)
    now, packets, flows, intervals = float(BEGIN), list[Packet](), list[Flow](), []
    quiet = [capture for capture in CAPTURES if "demo-b0" in capture.name]
    for number, capture in enumerate([*CAPTURES[:captures], *quiet * benign]):
        own = [zeek.packet(line) for line in _lines(capture, "packet")]
        rows = [zeek.flow(line) for line in _lines(capture, "flow")]
        by = now - min(p.ts for p in own)
        nearer = max(number - len(CAPTURES[:captures]) + 1, 0) % 30
        packets += [replace(p, ts=p.ts + by, uid=f"{p.uid}{number}", data=_from(p.data, nearer)) for p in own]
        flows += [replace(f, ts=f.ts + by, uid=f"{f.uid}{number}") for f in rows]
        labels = msgspec.json.decode((capture / "labels.json").read_bytes(), type=LabelFile)
        intervals += [replace(i, start=i.start + by, end=i.end + by) for i in labels.intervals]
        now = max(packets[-1].ts, max((f.written for f in rows), default=0.0) + by) + pause_s
    flows.sort(key=lambda flow: flow.written)
    (folder / "labels.json").write_bytes(msgspec.json.encode(LabelFile("long", intervals)))
    for log, records in (("packet", [*alter(packets)]), ("flow", flows)):
        files: dict[int, list[bytes]] = {}
        for record in records:
            time = record.ts if isinstance(record, Packet) else record.written
            files.setdefault(int(time - BEGIN) // rotate_s if rotate_s else 0, []).append(msgspec.json.encode(record))
        for number, lines in files.items():
            text = b"\n".join(lines) + b"\n"
            if rotate_s:
                (folder / f"packetclip_{log}.{number:03d}.log.gz").write_bytes(gzip.compress(text, 1))
            else:
                (folder / f"packetclip_{log}.log").write_bytes(text)
    return folder


def _from(data: bytes, nearer: int) -> bytes:
    """A packet's first bytes with a TTL, or hop limit, that is lower by so many."""
    at = 8 if data[:1] and data[0] >> 4 == 4 else 7
    return data[:at] + bytes([max(data[at] - nearer, 1)]) + data[at + 1 :] if nearer and len(data) > at else data


def _lines(capture: Path, log: str) -> list[bytes]:
    return gzip.decompress((capture / f"packetclip_{log}.log.gz").read_bytes()).splitlines()


def mirrored(packets: list[Packet]) -> list[Packet]:
    """Each packet twice, numbered on, as a mirror of two ports gives it."""
    out, copies = [], dict[str, int]()
    for p in packets:
        if p.total_bytes:
            continue
        n = copies[p.uid] = copies.get(p.uid, 0) + 1
        out += [replace(p, n=2 * n - 1), replace(p, n=2 * n, ts=p.ts + 2e-4)]
    return sorted(out, key=lambda p: p.ts)


def disordered(packets: list[Packet]) -> list[Packet]:
    """Each line up to 15 ms late."""
    rng = random.Random(1)
    return sorted(packets, key=lambda p: p.ts + rng.uniform(0, 0.015))


def one_sided(packets: list[Packet]) -> list[Packet]:
    """Of each connection only what the responder sends, from 1 on."""
    out, sent = [], dict[str, int]()
    for p in packets:
        if not p.is_orig and not p.total_bytes:
            sent[p.uid] = sent.get(p.uid, 0) + 1
            out.append(replace(p, n=sent[p.uid]))
    return out
