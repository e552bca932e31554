"""Sides: who only answers has begun nothing, is turned or marked, and is named by no verdict."""

from __future__ import annotations

import gzip
import json
import struct
from functools import cache
from pathlib import Path
from typing import Any

import factories
import msgspec
import numpy as np
import pytest
from one_side import seen_from
from packet_bytes import ip4, tcp_header

from packetclip_sensor import pipeline
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config.settings import Config
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.normalize import direction
from packetclip_sensor.normalize.direction import Direction
from packetclip_sensor.records import Alert, Batch, Flow, Packet, Position
from packetclip_sensor.service.checkpoint import State
from packetclip_sensor.windows.cutter import WindowCutter
from packetclip_sensor.windows.windows import Window

DATA = Path(__file__).parents[1] / "data"
CAPTURES = sorted(folder.name for folder in DATA.iterdir() if folder.is_dir())
A, B = "192.0.2.10", "198.51.100.12"
FIN, SYN, RST, ACK = 1, 2, 4, 16


def packet(**fields: Any) -> Packet:
    return factories.packet(**({"ts": 100.0, "orig_h": A, "resp_h": B} | fields))


def tcp(flags: int, ports: tuple[int, int] = (9200, 40565), **fields: Any) -> Packet:
    return packet(data=ip4(6, tcp_header(flags)), orig_p=ports[0], resp_p=ports[1], **fields)


def udp(ports: tuple[int, int], **fields: Any) -> Packet:
    return packet(proto="udp", data=ip4(17, bytes(30)), orig_p=ports[0], resp_p=ports[1], **fields)


def icmp(kind: int, **fields: Any) -> Packet:
    return packet(proto="icmp", orig_p=kind, resp_p=8 if kind == 0 else 0, **fields)


def right(*packets: Packet, memory_s: float = 60.0) -> list[Packet]:
    return Direction(memory_s)(Batch(list(packets), [])).packets


def sides(p: Packet) -> tuple[str, bool, bool]:
    """Originator, whether it sent the packet, whether nobody asked for it."""
    return p.orig_h, p.is_orig, p.unasked


BEGUN, ERROR, ANSWER, UNASKED = (A, True, False), (B, False, False), (B, False, True), (A, True, True)
"""Of a first packet that A sends and that Zeek has as the originator's."""


@pytest.mark.parametrize(
    ("first", "seen_as"),
    [
        (tcp(SYN), BEGUN),
        (tcp(SYN, (443, 50000)), BEGUN),
        (tcp(RST), ANSWER),
        (tcp(RST | ACK), ANSWER),
        (tcp(SYN | ACK), ANSWER),
        (tcp(ACK, (443, 50000)), ANSWER),
        (tcp(ACK, (50000, 443)), BEGUN),
        (tcp(ACK, (50000, 50001)), BEGUN),
        (tcp(ACK, (3000, 38346)), ANSWER),  # a server of a port that nobody knows, of which the beginning was not seen
        (tcp(FIN, (443, 50000)), BEGUN),  # a probe from a well-known port
        (tcp(0, (53, 50000)), BEGUN),
        (udp((53, 50000)), UNASKED),
        (udp((11211, 50000)), UNASKED),
        (udp((50000, 53)), BEGUN),
        (udp((123, 123)), BEGUN),
        (udp((800, 2049)), BEGUN),  # a client of NFS
        (icmp(8), BEGUN),
        (icmp(0), UNASKED),
        (icmp(3), ERROR),
        (icmp(11), ERROR),
        (packet(data=b"", orig_p=443, resp_p=50000), ANSWER),
        (packet(data=b"\x46", orig_p=50000, resp_p=50001), BEGUN),
    ],
)
def test_the_first_packet_shows_who_only_answers(first: Packet, seen_as: tuple[str, bool, bool]) -> None:
    (found,) = right(first)
    assert sides(found) == seen_as
    ends = {(first.orig_h, first.orig_p), (first.resp_h, first.resp_p)}
    assert {(found.orig_h, found.orig_p), (found.resp_h, found.resp_p)} == ends


def test_what_zeek_has_turned_by_its_ports_is_an_answer_as_well() -> None:
    answer = udp((50000, 123), is_orig=False, orig_h=B, resp_h=A)
    assert sides(right(answer)[0]) == UNASKED
    assert sides(right(tcp(ACK, (50000, 22), is_orig=False, orig_h=B, resp_h=A))[0]) == ANSWER
    # From port 443 of A, by a probe that no stack answers with: Zeek has the sides the wrong way round.
    assert sides(right(tcp(FIN, (50000, 443), is_orig=False, orig_h=B, resp_h=A))[0]) == BEGUN


def test_who_was_asked_answers_and_the_other_is_the_originator_from_then_on() -> None:
    asked = udp((53, 50000), n=2, is_orig=False, ts=100.1)
    again = udp((53, 50000), n=3, ts=100.2)
    assert [sides(p) for p in right(udp((53, 50000)), asked, again)] == [UNASKED, (B, True, False), (B, False, False)]


def test_what_was_asked_for_opens_its_connection_behind_an_answer_whose_request_was_lost() -> None:
    flood = [icmp(0, uid="C1", n=n, ts=100 + n / 100, is_orig=n % 2 == 1) for n in range(1, 81)]
    made = right(*flood)
    assert [(p.n, p.orig_h, p.is_orig) for p in made if p.begins] == [(2, B, True)]
    assert not any(p.begins for p in right(tcp(SYN | ACK), tcp(ACK, n=2, is_orig=False)))  # its answer stands in all views
    w = WindowCutter(Window(), Counters())(Batch(made, [], final=True))
    _, sent = w.contents(np.nonzero(w.view == 0)[0])
    assert sent.max() == len(flood)  # what an alert must have behind it, not the window's 30 alone


def test_ipv6_and_swaps_within_a_connection_are_followed() -> None:
    data = struct.pack(">IHBB32x", 6 << 28, 20, 6, 64) + tcp_header(SYN | ACK)
    first = packet(orig_h="2001:db8::1", resp_h="2001:db8::2", data=data, orig_p=40005, resp_p=40004)
    swapped = msgspec.structs.replace(
        first, n=2, orig_h=first.resp_h, orig_p=first.resp_p, resp_h=first.orig_h, resp_p=first.orig_p
    )
    assert [sides(p)[:2] for p in right(first, swapped)] == [("2001:db8::2", False), ("2001:db8::2", True)]
    assert right(icmp(129, orig_h="2001:db8::1"))[0].unasked


def test_a_connection_whose_first_packet_was_not_seen_is_taken_as_zeek_has_it() -> None:
    late = tcp(RST, n=2)
    assert right(late)[0] is late
    assert sides(right(tcp(RST), tcp(RST, n=2, ts=160.0))[1]) == BEGUN
    assert sides(right(tcp(RST), tcp(RST, n=2, ts=159.9))[1]) == ANSWER


def test_little_is_remembered_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direction, "MOST_REMEMBERED", 3)
    stage = Direction(60.0)
    assert stage(usual := Batch([tcp(SYN, uid=f"C{i}") for i in range(9)], [])) is usual
    assert stage._exchanges == {}
    stage(Batch([tcp(RST, uid=f"C{i}", ts=100 + i) for i in range(9)], []))
    assert list(stage._exchanges) == ["C6", "C7", "C8"]
    stage(Batch([tcp(SYN, ts=168.0)], []))
    assert list(stage._exchanges) == ["C8"]
    stage(Batch([], [], final=True))
    assert stage._exchanges == {}


@pytest.mark.parametrize(
    ("row", "turned"),
    [
        ({"history": "ShADad"}, False),
        ({"history": "R"}, True),
        ({"history": "H", "conn_state": "OTH"}, True),
        ({"history": "^r", "orig_pkts": 0, "resp_pkts": 1}, False),
        ({"proto": "udp", "orig_p": 50000, "resp_p": 53, "history": "Dd", "resp_pkts": 1}, False),
        ({"proto": "udp", "orig_p": 50000, "resp_p": 53, "history": "^d", "orig_pkts": 0, "resp_pkts": 9}, True),
        ({"proto": "udp", "orig_p": 53, "resp_p": 50000, "history": "D", "resp_pkts": 0}, False),
        ({"proto": "udp", "orig_p": 53, "resp_p": 50000, "history": "Dd", "resp_pkts": 2}, True),
        ({"proto": "icmp", "orig_p": 3, "resp_p": 3, "history": None, "resp_pkts": 0}, False),
    ],
)
def test_a_flow_row_has_the_sides_of_its_packets(row: dict[str, Any], turned: bool) -> None:
    before = factories.flow(**({"orig_h": A, "resp_h": B, "orig_bytes": 7, "local_orig": True} | row))
    after: Flow = Direction(60.0)(Batch([], [before])).flows[0]
    assert (after.orig_h, after.resp_h) == ((B, A) if turned else (A, B))
    assert (after.resp_bytes if turned else after.orig_bytes, after.resp_pkts if turned else after.orig_pkts) == (
        before.orig_bytes,
        before.orig_pkts,
    )
    if turned:
        assert (after.local_resp, after.history) == (True, before.history and before.history.swapcase())


def alerts(bundle: Bundle, packets: list[Packet]) -> list[Alert]:
    """All alerts of packets that are read at once."""
    batches = [Batch(packets, []), Batch([], [], final=True)]
    found = pipeline.alerts(batches, bundle, Config(), Counters(), State())
    return [alert for batch in found for alert in batch.alerts]


@cache
def recorded(capture: str) -> tuple[list[Packet], list[dict[str, Any]]]:
    log = gzip.decompress((DATA / capture / "packetclip_packet.log.gz").read_bytes())
    labels = json.loads((DATA / capture / "labels.json").read_text())
    return msgspec.json.Decoder(Packet).decode_lines(log), labels["intervals"]


@pytest.mark.parametrize(("originators", "at_least"), [(True, 8), (False, 0)], ids=["requests", "answers"])
def test_a_tap_of_one_direction_accuses_nobody_but_attackers(bundle: Bundle, originators: bool, at_least: int) -> None:
    told, wrong = set[str](), []
    for capture in CAPTURES:
        packets, intervals = recorded(capture)
        attackers, victims = ({host for i in intervals for host in i[side]} for side in ("attacker", "victim"))
        for alert in alerts(bundle, seen_from(packets, originators=originators)):
            episode, told = alert.episode, told | {capture}
            named = episode.sources if episode.scope != "destination" else []  # where sources are forged, their count is told
            hit = episode.destinations if episode.scope != "source" else []
            if not (set(named) <= attackers and set(hit) <= victims) or victims & set(episode.sources):
                wrong.append((capture, alert.title))
    assert wrong == []
    assert len(told) >= at_least


@pytest.mark.parametrize("port", [9200, 443])
def test_resets_of_a_server_are_no_scan(bundle: Bundle, port: int) -> None:
    resets = [tcp(RST | ACK, (port, 40000 + 7 * i), uid=f"C{i}", ts=100 + 0.3 * i, size_bytes=40) for i in range(60)]
    assert alerts(bundle, resets) == []


def test_a_syn_that_was_overtaken_shows_who_began() -> None:
    """Zeek saw the answer first and took the server for the originator; in the order of time the SYN comes before it."""
    syn = tcp(SYN, (9200, 40565), uid="C1", n=2, ts=100.000, is_orig=False)
    answer = tcp(SYN | ACK, (9200, 40565), uid="C1", n=1, ts=100.001)
    assert [(p.orig_h, p.orig_p, p.is_orig, p.unasked) for p in right(syn, answer)] == [
        (B, 40565, True, False),
        (B, 40565, False, False),
    ]


def answers_of(hosts: int, packets: int = 400) -> list[Packet]:
    """Large answers of name servers to ports of B, which never asked: fifty a second."""
    data = ip4(17, struct.pack(">HHHH", 53, 40000, 1008, 0) + b"\x5a\x01\x81\x80" + bytes(100))
    fields = {"proto": "udp", "data": data, "size_bytes": 1028, "orig_p": 53}
    return [
        packet(ts=100 + i / 50, uid=f"C{host}", n=1 + i // hosts, orig_h=f"203.0.113.{host}", resp_p=40000 + host, **fields)
        for i in range(packets)
        for host in (i % hosts,)
    ]


def test_a_reflected_flood_names_its_victim_as_the_destination(bundle: Bundle) -> None:
    found = alerts(bundle, answers_of(100))
    assert found
    assert {(a.episode.mission, a.episode.scope, *a.episode.destinations) for a in found} == {("DoS", "destination", B)}
    assert B not in {host for a in found for host in a.episode.sources}


def test_a_download_through_a_tap_of_one_direction_is_no_flood(bundle: Bundle) -> None:
    assert alerts(bundle, answers_of(1)) == []
    assert alerts(bundle, answers_of(3)) == []


def test_a_restart_reads_so_far_back_that_windows_have_the_sides_that_they_had() -> None:
    """Connections of which only answers are seen, each for a hundred seconds, and a restart after each batch."""
    packets = [
        packet(
            proto="udp", data=ip4(17, bytes(30)), orig_p=53, resp_p=50000 + i, uid=f"C{i}", n=n + 1, ts=1000.0 + 30 * i + 4 * n
        )
        for i in range(12)
        for n in range(25)
    ]
    packets.sort(key=lambda p: p.ts)
    window = Window()
    cut, stage, made = WindowCutter(window, Counters(), before_s=window.seconds), Direction(window.seconds), list[Packet]()
    for i, each in enumerate(packets):
        here = Position("packetclip_packet.log", 1, 1, 0, "", i)
        batch = stage(Batch([each], [], (here,), (msgspec.structs.replace(here, offset=i + 1),)))
        made += batch.packets
        done = cut(batch)
        again = right(*packets[done.resume[0].offset : i + 1], memory_s=window.seconds)
        needed = [p for p in again if p.ts > done.judged - window.seconds]
        assert needed == made[len(made) - len(needed) :]
    assert {p.unasked for p in made} == {True, False}
