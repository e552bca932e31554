"""A packet seen twice counts once; what is sent again, or in a flood of equal packets, stays."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from msgspec.structs import replace

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.normalize.copies import Copies
from packetclip_sensor.normalize.normalizer import normalized
from packetclip_sensor.records import Packet
from packetclip_sensor.sources import tail, zeek

NOW = 1_760_000_000.0
DATA = Path(__file__).parents[1] / "data"


def udp(ts: float, ident: int = 0, *, port: int = 40000, uid: str = "C1", n: int = 1, ttl: int = 64) -> Packet:
    """A datagram of four bytes from 192.0.2.1 to port 53 of 192.0.2.2."""
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 32, ident, 0, ttl, 17, ttl, bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]))
    data = ip + struct.pack(">HHHH", port, 53, 12, 0) + b"abcd"
    return Packet(NOW + ts, uid, "192.0.2.1", port, "192.0.2.2", 53, "udp", True, n, 32, data)


def passed(packets: Iterable[Packet], size: int = 1000) -> tuple[list[Packet], int]:
    packets, counters = list(packets), Counters()
    copies = Copies(counters)
    return [p for i in range(0, len(packets), size) for p in copies(packets[i : i + size])], counters.copies


def traffic(count: int, gap_s: float = 0.01) -> list[Packet]:
    """Datagrams of ten connections, each with an IP id of its own."""
    return [udp(i * gap_s, i, port=1000 + i % 10, uid=f"C{i % 10}", n=1 + i // 10) for i in range(count)]


def mirrored(packets: list[Packet], after_s: float = 20e-6, change: Callable[[Packet], Packet] = lambda p: p) -> list[Packet]:
    """Each packet again, as Zeek numbers them."""
    every = sorted([*packets, *(replace(change(p), ts=p.ts + after_s) for p in packets)], key=lambda p: p.ts)
    numbers: dict[str, int] = {}
    out = []
    for p in every:
        numbers[p.uid] = numbers.get(p.uid, 0) + 1
        out.append(replace(p, n=numbers[p.uid]))
    return out


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("after_s", [0.0, 20e-6, 0.0049])
def test_each_packet_twice_counts_once_and_is_numbered_as_if_there_were_no_copies(after_s: float, size: int) -> None:
    packets = traffic(300)
    assert passed(mirrored(packets, after_s), size) == (packets, 300)


def test_a_copy_behind_a_router_has_another_ttl_and_checksum_and_is_one() -> None:
    packets = traffic(100)
    routed = mirrored(packets, change=lambda p: replace(p, data=p.data[:8] + b"\x3f" + p.data[9:10] + b"\x12\x34" + p.data[12:]))
    assert passed(routed) == (packets, 100)


def test_a_copy_in_a_vlan_that_zeek_tells_apart_has_another_uid_and_is_one() -> None:
    packets = traffic(100)
    assert passed(mirrored(packets, change=lambda p: replace(p, uid=f"{p.uid}-vlan"))) == (packets, 100)


def test_one_original_absorbs_one_copy() -> None:
    three = [udp(0.0, 7), udp(20e-6, 7), udp(40e-6, 7)]
    assert passed(three)[1] == 1


def test_what_is_sent_again_later_or_with_another_id_is_no_copy() -> None:
    packets = [udp(0.0, 1), udp(0.006, 1), udp(0.1, 2), udp(0.1001, 3), udp(0.2, 4), replace(udp(0.2001, 4), size_bytes=33)]
    assert passed(packets) == (packets, 0)


@pytest.mark.parametrize("size", [1, 50, 10_000])
@pytest.mark.parametrize("gap_s", [1e-5, 0.001, 0.003, 0.0049])
def test_a_flood_of_identical_packets_stays_a_flood(gap_s: float, size: int) -> None:
    """An id of 0, as Linux gives it to datagrams that may not be fragmented, and always the same payload."""
    packets = [udp(i * gap_s, n=1 + i) for i in range(600)]
    found, copies = passed(packets, size)
    assert copies <= 1
    assert len(found) == len(packets) - copies


@pytest.mark.parametrize("size", [1, 50, 10_000])
def test_a_flood_of_identical_packets_on_a_mirrored_link_counts_once(size: int) -> None:
    before = traffic(1500)
    flood = [udp(20 + i * 0.001, uid="F", port=9, n=1 + i) for i in range(1000)]
    beside = [replace(p, ts=p.ts + 14, n=p.n + 150) for p in traffic(1500)]
    packets = sorted([*before, *beside, *flood], key=lambda p: p.ts)
    found, copies = passed(mirrored(packets), size)
    assert copies == len(packets)
    assert [p for p in found if p.uid == "F"] == flood


@pytest.mark.parametrize("capture", ["demo-udp-t50", "demo-vuln-gobuster", "demo-icmp-fping", "demo-dns-perf-any"])
def test_recorded_traffic_has_no_copies_and_with_each_line_twice_is_what_it_was(capture: str) -> None:
    with Rejects(None) as rejects:
        batches = list(zeek.batches(tail.finite([DATA / capture]), rejects, Counters()))
    packets = [p for batch in batches for p in batch.packets]
    counters = Counters()
    whole = [p for batch in normalized(batches, counters, Rejects(None)) for p in batch.packets]
    assert [(p.uid, p.n, p.data) for p in whole] == [(p.uid, p.n, p.data) for p in packets]
    assert counters.copies == 0
    ordered = sorted((p for p in packets if not p.total_bytes), key=lambda p: p.ts)  # volume lines have no copies
    found, copies = passed(mirrored(ordered), 777)
    assert copies == len(ordered)
    assert [(p.uid, p.ts) for p in found] == [(p.uid, p.ts) for p in ordered]


def test_packets_of_few_bytes_and_none_are_compared_without_a_fault() -> None:
    rng = random.Random(1)
    cut = [replace(udp(i * 1e-4, i % 3), data=udp(0).data[: rng.randrange(30)]) for i in range(200)]
    found, copies = passed(cut, 9)
    assert len(found) + copies == 200
