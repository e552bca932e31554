"""Small packet logs for the tests of label loaders: UDP packets of connections that the test names."""

from __future__ import annotations

import base64
import json
import struct
from ipaddress import ip_address
from pathlib import Path

from packetclip_sensor.pairs.labels import Interval, Truth
from packetclip_sensor.records import Packet
from training.data.labels.captures import Capture, Connection, scan
from training.data.labels.report import Report

T0 = 1_700_000_000.0
"""2023-11-14T22:13:20Z, 17:13:20 in New York."""


def packet(ts: float, uid: str, src: str, sport: int, dst: str, dport: int, proto: str = "udp", n: int = 1) -> Packet:
    """A UDP packet of four bytes of data, whatever `proto` claims."""
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 32, 1, 0, 64, 17, 0, ip_address(src).packed, ip_address(dst).packed)
    return Packet(ts, uid, src, sport, dst, dport, proto, True, n, 32, head + struct.pack("!HHHH", sport, dport, 12, 0) + b"abcd")


def connection(start: float, uid: str, src: str, sport: int, dst: str, dport: int, proto: str = "udp") -> list[Packet]:
    """Six packets, a second apart."""
    return [packet(start + i, uid, src, sport, dst, dport, proto, i + 1) for i in range(6)]


def write(folder: Path, packets: list[Packet]) -> Path:
    """packetclip_packet.log of the packets, in their order of time."""
    folder.mkdir(parents=True)
    with (folder / "packetclip_packet.log").open("w") as file:
        for p in sorted(packets, key=lambda p: p.ts):
            row = {"ts": p.ts, "uid": p.uid, "id.orig_h": p.orig_h, "id.orig_p": p.orig_p, "id.resp_h": p.resp_h}
            row |= {"id.resp_p": p.resp_p, "proto": p.proto, "is_orig": p.is_orig, "n": p.n, "len": p.size_bytes}
            file.write(json.dumps(row | {"data": base64.b64encode(p.data).decode()}) + "\n")
    return folder


def kinds(report: Report) -> list[tuple[str, str]]:
    """Kind and place of each problem of a report."""
    return [(p.kind, p.where) for p in report.problems]


def below(report: Report, folder: Path) -> Report:
    """The report with its places in a folder named from there."""
    for problem in report.problems:
        problem.where = problem.where.replace(f"{folder}/", "")
    return report


def recorded(folder: Path, packets: list[Packet]) -> list[Connection]:
    """The connections of a capture of the packets, whose log is written unless it is there."""
    if not folder.exists():
        write(folder, packets)
    return scan(Capture("capture", folder, (folder,)))


def labels_of(truth: Truth, packets: list[Packet]) -> list[str | None]:
    """The label of each packet: None is benign, "" unknown."""
    found: list[Interval | None] = [truth.of(p) for p in packets]
    return [None if f is None else f.label for f in found]
