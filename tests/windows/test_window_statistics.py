"""Facts of hand-made windows; what cannot be read of a packet is measured as unknown."""

from __future__ import annotations

import random

import pytest
from packet_bytes import ip4, ip6, tcp_header
from traffic import ACK, RST, SYN, handshake, icmp, packet, scan, tcp, udp

from packetclip_sensor.records import Packet
from packetclip_sensor.windows.window_statistics import describe, facts


def measured(window: list[Packet], *names: str) -> list[object]:
    got = facts(window, "pair")
    return [got[name] for name in names]


def test_a_scan_is_measured() -> None:
    got = facts(scan(), "pair")
    expected = {
        "view": "pair", "packets": 30, "orig_packets": 29, "duration_s": 0.4, "rate_pps": 72.5, "proto": "tcp",
        "distinct_orig_h": 1, "distinct_resp_h": 1, "distinct_resp_p": 29, "top_resp_p": None, "distinct_uid": 29,
        "answered_connections": 1,
        "completed_connections": 0, "mean_size_bytes": 40.0, "payload_mean_bytes": 0.0, "syn_share": 0.9667, "synack_share": 0.0,
        "rst_share": 0.0333, "ack_share": 0.0333, "reply_share": 0.0333, "one_packet_connections_share": 0.9655,
        "icmp_echo_share": None,
    }  # fmt: skip
    assert {name: got[name] for name in expected} == expected


def test_a_whole_connection_is_measured() -> None:
    got = facts(handshake(), "pair")
    expected = {
        "packets": 6, "duration_s": 4.0, "max_gap_s": 3.0, "mean_gap_s": 0.8, "top_resp_p": 80, "completed_connections": 1,
        "payload_mean_bytes": 166.7, "payload_share": 0.3333, "fin_share": 0.1667, "push_share": 0.3333, "odd_flags_share": 0.0,
    }  # fmt: skip
    assert {name: got[name] for name in expected} == expected


def test_what_cannot_be_measured_is_none_and_never_zero() -> None:
    unknown = ("syn_share", "rst_share", "odd_flags_share", "icmp_echo_share", "completed_connections", "rate_pps", "max_gap_s")
    assert measured([udp(10)], *unknown) == [None] * len(unknown)
    assert measured([], "packets", "proto", "reply_share") == [0, None, None]


def test_icmp_has_no_ports() -> None:
    window = [icmp(8, ts=float(i)) for i in range(4)] + [icmp(0, ts=4.0, is_orig=False)]
    assert measured(window, "distinct_resp_p", "top_resp_p", "icmp_echo_share", "icmp_reply_share") == [None, None, 0.8, 0.2]


def test_completion_is_unknown_when_only_the_middle_of_a_connection_is_seen() -> None:
    assert measured([tcp(ACK, n=40), tcp(ACK, n=41)], "completed_connections") == [None]
    assert measured([tcp(ACK, n=40), tcp(ACK, 5, n=41, is_orig=False)], "completed_connections") == [1]
    assert measured([packet(b"\x45", n=1)], "completed_connections") == [None]


def test_extension_headers_and_options_are_walked_and_fragments_and_tunnels_not_misread() -> None:
    hop_by_hop = bytes([6, 0, 1, 4, 0, 0, 0, 0])
    assert measured([packet(ip6(0, hop_by_hop + tcp_header(SYN, b"abc")))], "syn_share", "payload_mean_bytes") == [1.0, 3.0]
    assert measured([packet(ip6(58, bytes([128, 0, 0, 0, 0, 1, 0, 1])), proto="icmp")], "icmp_echo_share") == [1.0]
    assert measured([packet(ip4(6, tcp_header(SYN), options=bytes(8)))], "syn_share") == [1.0]
    assert measured([packet(ip4(6, tcp_header(SYN), fragment=100))], "syn_share") == [None]
    assert measured([packet(ip4(17, bytes(30)), proto="tcp")], "payload_mean_bytes") == [None]


@pytest.mark.parametrize(
    "whole", [ip4(6, tcp_header(SYN)), ip4(17, bytes(8)), ip4(1, bytes(8)), ip6(0, bytes([6, 0]) + bytes(26))]
)
@pytest.mark.parametrize("proto", ["tcp", "udp", "icmp", "unknown_transport"])
def test_a_packet_cut_anywhere_is_described_without_an_error(whole: bytes, proto: str) -> None:
    for cut in range(len(whole) + 1):
        (found,) = describe([([packet(whole[:cut], proto=proto, size_bytes=len(whole))], "pair", [0])])
        assert (found.facts["packets"], len(found.kinds), len(found.contents)) == (1, 1, 1)


def test_random_bytes_are_described_without_an_error() -> None:
    rng = random.Random(7)
    for _ in range(2000):
        data = bytes([rng.choice((0x45, 0x4F, 0x60, 0x41, 0x00))]) + rng.randbytes(rng.randrange(128))
        window = [packet(data, proto=rng.choice(("tcp", "udp", "icmp", "x")), n=rng.randrange(1, 9))]
        assert describe([(window, "pair", [0])])[0].kinds[0]


def test_a_description_says_what_each_packet_is_and_what_stands_in_those_asked_for() -> None:
    window = [tcp(SYN), tcp(RST | ACK), tcp(0), icmp(8), udp(3), tcp(ACK, b"SSH-2.0-x\r\n"), tcp(ACK, b"\x99\x81\x07\x03")]
    (found,) = describe([(window, "pair", [0, 5, 6])])
    assert found.kinds == ("SYN", "RST-ACK", "TCP packet without flags", "echo request", "UDP packet", "ACK", "ACK")
    assert found.payload_bytes == (0, 0, 0, 56, 3, 11, 4)
    assert found.known == {0: "", 5: "SSH version greeting", 6: ""}
