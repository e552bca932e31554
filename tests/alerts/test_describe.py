"""Facts measured from hand-made packets, and the sentences made of them, word for word."""

from __future__ import annotations

import random
import struct

import pytest
from factories import MISSIONS

from packetclip_sensor.alerts import sentences
from packetclip_sensor.alerts.sentences import facts, flow_text, packet_reason, sentence, title, window_text
from packetclip_sensor.common.missions import Mission
from packetclip_sensor.records import Flow, Packet
from packetclip_sensor.windows.window_statistics import header

DOS, RECONNAISSANCE, BRUTE_FORCE = MISSIONS
A, B = "192.0.2.9", "192.0.2.10"
SYN, ACK, RST, PSH, FIN = 2, 16, 4, 8, 1


def ip4(protocol: int, body: bytes, *, fragment: int = 0, options: bytes = b"") -> bytes:
    head = struct.pack(">BBHHHBBH4s4s", 0x45 + len(options) // 4, 0, 20 + len(options) + len(body), 1, fragment, 64, protocol, 0,
                       bytes(4), bytes(4))  # fmt: skip
    return head + options + body


def ip6(next_header: int, body: bytes) -> bytes:
    return struct.pack(">IHBB16s16s", 6 << 28, len(body), next_header, 64, bytes(16), bytes(16)) + body


def tcp_header(flags: int, payload: bytes = b"") -> bytes:
    return struct.pack(">HHIIBBHHH", 40000, 80, 1, 1, 5 << 4, flags, 1024, 0, 0) + payload


def packet(data: bytes, **changes: object) -> Packet:
    fields: dict[str, object] = {
        "ts": 100.0, "uid": "C1", "orig_h": A, "orig_p": 40000, "resp_h": B, "resp_p": 80, "proto": "tcp", "is_orig": True,
        "n": 1, "size_bytes": len(data), "data": data,
    }  # fmt: skip
    return Packet(**(fields | changes))  # type: ignore[arg-type]


def tcp(flags: int, payload: int = 0, **changes: object) -> Packet:
    return packet(ip4(6, tcp_header(flags, bytes(payload))), **changes)


def udp(payload: int, **changes: object) -> Packet:
    return packet(ip4(17, struct.pack(">HHHH", 40000, 53, 8 + payload, 0) + bytes(payload)), proto="udp", **changes)


def icmp(kind: int, payload: int = 56, **changes: object) -> Packet:
    return packet(ip4(1, struct.pack(">BBHHH", kind, 0, 0, 1, 1) + bytes(payload)), proto="icmp", resp_p=0, **changes)


def scan() -> list[Packet]:
    """30 packets in 0.4 s: SYN to 29 ports, the first of which answers with a reset."""
    out = [tcp(SYN, ts=100.0, uid="C0", resp_p=1), tcp(RST | ACK, ts=100.01, uid="C0", resp_p=1, is_orig=False, n=2)]
    return out + [tcp(SYN, ts=100 + 0.4 * i / 28, uid=f"C{i}", resp_p=1 + i) for i in range(1, 29)]


def handshake() -> list[Packet]:
    """A whole small connection: handshake, 100 bytes there, 900 bytes back, FIN."""
    return [
        tcp(SYN, ts=1.0, n=1),
        tcp(SYN | ACK, ts=1.1, n=2, is_orig=False),
        tcp(ACK, ts=1.2, n=3),
        tcp(PSH | ACK, 100, ts=1.3, n=4),
        tcp(PSH | ACK, 900, ts=4.3, n=5, is_orig=False),
        tcp(FIN | ACK, ts=5.0, n=6),
    ]


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
    got = facts([udp(10)], "source")
    for name in (
        "syn_share",
        "rst_share",
        "odd_flags_share",
        "icmp_echo_share",
        "completed_connections",
        "rate_pps",
        "max_gap_s",
    ):
        assert got[name] is None
    empty = facts([], "pair")
    assert empty["packets"] == 0
    assert empty["proto"] is None
    assert empty["reply_share"] is None


def test_icmp_has_no_ports() -> None:
    got = facts([icmp(8, ts=float(i)) for i in range(4)] + [icmp(0, ts=4.0, is_orig=False)], "pair")
    assert got["distinct_resp_p"] is None
    assert got["top_resp_p"] is None
    assert got["icmp_echo_share"] == 0.8
    assert got["icmp_reply_share"] == 0.2


def test_completion_is_unknown_when_only_the_middle_of_a_connection_is_seen() -> None:
    assert facts([tcp(ACK, n=40), tcp(ACK, n=41)], "pair")["completed_connections"] is None
    assert facts([tcp(ACK, n=40), tcp(ACK, 5, n=41, is_orig=False)], "pair")["completed_connections"] == 1
    assert facts([packet(b"\x45", n=1)], "pair")["completed_connections"] is None


def test_ipv6_extension_headers_are_walked() -> None:
    hop_by_hop = bytes([6, 0, 1, 4, 0, 0, 0, 0])
    data = ip6(0, hop_by_hop + tcp_header(SYN, b"abc"))
    assert header(packet(data)).flags == SYN
    assert header(packet(data)).payload_bytes == 3
    assert header(packet(ip6(58, bytes([128, 0, 0, 0, 0, 1, 0, 1])), proto="icmp")).icmp_type == 128


def test_options_later_fragments_and_tunnels_are_not_misread() -> None:
    assert header(packet(ip4(6, tcp_header(SYN), options=bytes(8)))).flags == SYN
    assert header(packet(ip4(6, tcp_header(SYN), fragment=100))).flags is None
    assert header(packet(ip4(17, bytes(30)), proto="tcp")).payload_bytes is None


@pytest.mark.parametrize(
    "whole", [ip4(6, tcp_header(SYN)), ip4(17, bytes(8)), ip4(1, bytes(8)), ip6(0, bytes([6, 0]) + bytes(26))]
)
def test_a_packet_cut_anywhere_is_described_without_an_error(whole: bytes) -> None:
    for cut in range(len(whole) + 1):
        for proto in ("tcp", "udp", "icmp", "unknown_transport"):
            cut_packet = packet(whole[:cut], proto=proto, size_bytes=len(whole))
            window = [cut_packet]
            assert facts(window, "pair")["packets"] == 1
            assert sentence(facts(window, "pair"), [A], [B]).endswith(".")
            assert window_text(facts(window, "pair")).endswith(".")
            assert packet_reason(cut_packet, window)


def test_random_bytes_are_described_without_an_error() -> None:
    rng = random.Random(7)
    for _ in range(2000):
        data = bytes([rng.choice((0x45, 0x4F, 0x60, 0x41, 0x00))]) + rng.randbytes(rng.randrange(128))
        window = [packet(data, proto=rng.choice(("tcp", "udp", "icmp", "x")), n=rng.randrange(1, 9))]
        assert sentence(facts(window, "pair"), [A], [B])
        assert packet_reason(window[0], window)


@pytest.mark.parametrize(
    ("window", "text"),
    [
        (scan(), "192.0.2.9 sent 29 TCP packets in 0.4 s to 29 ports of 192.0.2.10 and got 1 back; 97 % carry SYN alone, "
                 "no connection was completed and no packet carries payload."),
        (handshake(), "192.0.2.9 sent 4 TCP packets in 4.0 s to port 80 of 192.0.2.10 and got 2 back; 17 % carry SYN alone "
                      "and the mean payload is 167 bytes."),
        ([tcp(SYN)], "192.0.2.9 sent one TCP packet to port 80 of 192.0.2.10; it carries SYN alone, no connection was completed "
                     "and it has no payload."),
        ([icmp(8, ts=1 + i / 1000) for i in range(30)],
         "192.0.2.9 sent 30 ICMP packets in 29 ms to 192.0.2.10; all are echo requests, nothing came back "
         "and the mean payload is 56 bytes."),
        ([udp(12, ts=1.0, is_orig=False, resp_p=53)], "192.0.2.10 sent one UDP packet back to 192.0.2.9; "
                                                      "its payload is 12 bytes."),
        ([], "No packet of 192.0.2.9 to 192.0.2.10 stands in the window."),
    ],
)  # fmt: skip
def test_the_sentence_says_the_facts(window: list[Packet], text: str) -> None:
    assert sentence(facts(window, "pair"), [A], [B]) == text


def test_many_hosts_are_counted_and_two_of_them_named() -> None:
    window = [tcp(SYN, ts=1 + i / 10, uid=f"C{i}", orig_h=f"198.51.100.{i}") for i in range(12)]
    names = [f"198.51.100.{i}" for i in range(12)]
    assert sentence(facts(window, "destination"), names, [B]).startswith(
        "12 hosts (198.51.100.0, 198.51.100.1, ...) sent 12 TCP packets in 1.1 s to port 80 of 192.0.2.10; all carry SYN alone"
    )


def test_a_share_below_all_is_never_rounded_to_all() -> None:
    window = [tcp(SYN, ts=float(i), uid=f"C{i}") for i in range(299)] + [tcp(ACK, ts=300.0, uid="C300")]
    assert "; 99 % carry SYN alone" in sentence(facts(window, "pair"), [A], [B])


def test_only_the_title_names_a_kind_of_attack() -> None:
    banned = ("attack", "scan", "flood", "malicious", "suspicious", "victim", "brute")
    for window in (scan(), handshake(), [icmp(8)], [udp(3)]):
        said = (sentence(facts(window, "pair"), [A], [B]) + window_text(facts(window, "pair"))).lower()
        assert not [word for word in banned if word in said]


def test_alike_windows_have_the_same_coarse_text_without_addresses_and_numbers() -> None:
    first, second = scan(), [tcp(SYN, ts=50 + i / 40, uid=f"D{i}", orig_h="203.0.113.1", resp_p=5000 + i) for i in range(25)]
    text = (
        "Many TCP packets, sent steadily, under a hundred a second, from one host to many ports of one host, in many connections "
        "of mostly a single packet; nearly all are SYN alone and no connection is completed; no payload; "
    )
    assert window_text(facts(first, "pair")) == text + "few answers come."
    assert window_text(facts(second, "pair")) == text + "no answer comes."


def test_hostile_addresses_lose_all_but_the_characters_of_addresses() -> None:
    assert sentences.address("<script>alert(1)</script>") == "??c?????a?e???1????c?????"
    assert sentences.address("fe80::1%<b>") == "fe80::1??b?"
    assert sentences.address("2001:DB8::0:1") == "2001:db8::1"
    assert sentences.address("") == "an unknown host"
    assert len(sentences.address("1" * 1000)) == 45
    assert "\n" not in title(DOS, "SYN Flood", ["1.2.3.4\nfake: log"], [B], "pair")


FLOW = Flow(ts=1.0, uid="C1", orig_h=A, orig_p=40000, resp_h=B, resp_p=22, proto="tcp", final=True)


def test_a_flow_row_becomes_a_sentence_without_its_unset_columns() -> None:
    assert flow_text(FLOW) == "A TCP connection was seen."
    full = Flow(ts=1.0, uid="C1", orig_h=A, orig_p=40000, resp_h=B, resp_p=22, proto="tcp", final=True, service="ssh",
                duration=2.13,
                conn_state="SF", orig_pkts=12, orig_bytes=1500, resp_pkts=10, resp_bytes=2200, orig_size_mean=165.4,
                orig_iat_mean=0.19,
                syn=2, ack=21, rst=0)  # fmt: skip
    assert flow_text(full) == (
        "A TCP connection with service ssh lasted 2.1 s; it was established and closed normally; the originator sent 12 packets "
        "with 1500 bytes of payload, 165 bytes a packet on average, one every 0.2 s; the responder sent 10 packets with 2200 "
        "bytes of payload; its flags count 2 SYN and 21 ACK."
    )
    for secret in (A, B, "40000", " 22 "):
        assert secret not in flow_text(full)


def test_an_interim_or_silent_flow_row_says_so() -> None:
    row = Flow(ts=1.0, uid="C1", orig_h=A, orig_p=1, resp_h=B, resp_p=53, proto="udp", final=False, duration=61.0, orig_pkts=1,
               orig_bytes=0, resp_pkts=0, resp_bytes=0, service="dns<x>")  # fmt: skip
    assert flow_text(row) == (
        "A UDP exchange with service dnsx lasted 61 s so far; the originator sent one packet with 0 bytes of payload; "
        "the responder sent nothing."
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((DOS, "SYN Flood", [A] * 10, [B], "destination"), "SYN flood from 10 hosts against 192.0.2.10"),
        ((RECONNAISSANCE, "Port Scan", [A], [], "source"), "Port scan by 192.0.2.9"),
        ((RECONNAISSANCE, "Port Scan", [A], [B], "source"), "Port scan by 192.0.2.9 of 192.0.2.10"),
        ((RECONNAISSANCE, "OS Scan", [A], [B], "pair"), "Operating system scan by 192.0.2.9 against 192.0.2.10"),
        ((BRUTE_FORCE, "Dictionary Attack", [A], [B, A, A], "source"), "Dictionary attack by 192.0.2.9 against 3 hosts"),
        ((BRUTE_FORCE, "unheard of", [A], [B], "pair"), "Brute force by 192.0.2.9 against 192.0.2.10"),
        ((DOS, "?", [], [], "pair"), "Denial of service"),
    ],
)
def test_the_title_names_class_and_hosts(arguments: tuple[Mission, str, list[str], list[str], str], text: str) -> None:
    assert title(*arguments) == text


def test_the_title_counts_hosts_beyond_those_named() -> None:
    assert title(DOS, "UDP Flood", [A], [B], "destination", source_count=10_100) == (
        "UDP flood from about 10,100 hosts against 192.0.2.10"
    )
    assert title(DOS, "UDP Flood", [A], [B], "destination", source_count=256) == "UDP flood from 256 hosts against 192.0.2.10"


def test_every_attack_class_has_a_title_of_its_own() -> None:
    titles = {title(mission, klass.name, [A], [B], "pair") for mission in MISSIONS for klass in mission.classes}
    assert len(titles) == 9
    assert not titles & {title(mission, "?", [A], [B], "pair") for mission in MISSIONS}


def test_the_reason_of_a_packet_says_what_is_new_with_it() -> None:
    window = scan()
    assert packet_reason(window[-1], window) == "SYN to port 29, the 29th new port of the window"
    assert packet_reason(window[0], window) == "SYN to port 1"
    assert packet_reason(window[1], window) == "RST-ACK back from port 1"
    spoofed = [tcp(SYN, uid=f"C{i}", orig_h=f"198.51.100.{i}") for i in range(3)]
    assert packet_reason(spoofed[2], spoofed) == "SYN to port 80, the 3rd new source of the window"
    sweep = [tcp(SYN, uid=f"C{i}", resp_h=f"198.51.100.{i}") for i in range(22)]
    assert packet_reason(sweep[21], sweep) == "SYN to port 80, the 22nd new destination of the window"
    echoes = [icmp(8, ts=float(i)) for i in range(12)]
    assert packet_reason(echoes[11], echoes) == "echo request with 56 bytes of payload, the 12th of its kind in the window"
    logins = [tcp(SYN, uid=f"C{i}", orig_p=i) for i in range(5)]
    assert packet_reason(logins[4], logins) == "SYN to port 80, the 5th new connection of the window"


def test_the_reason_of_a_packet_outside_the_window_is_counted_after_all_of_it() -> None:
    assert packet_reason(tcp(SYN, uid="new", resp_p=9999), scan()) == "SYN to port 9999, the 30th new port of the window"


def test_the_reason_of_a_packet_names_payload_of_a_known_protocol() -> None:
    asked = [tcp(SYN, uid=f"C{i}", orig_p=i) for i in range(2)]
    login = packet(ip4(6, tcp_header(PSH | ACK, b"GET /login HTTP/1.1\r\nHost: <b>\x1b[2J\r\n\r\n")), uid="C2")
    assert packet_reason(login, [*asked, login]) == (
        "PSH-ACK to port 80 with 38 bytes of payload: HTTP GET request for a login, the 3rd new connection of the window"
    )
    refused = packet(ip4(6, tcp_header(PSH | ACK, b"530 Login incorrect.\r\n")), resp_p=21, is_orig=False)
    assert packet_reason(refused, [refused]) == "PSH-ACK back from port 21 with 22 bytes of payload: reply 530, login refused"


def test_the_reason_of_a_packet_says_nothing_of_unknown_payload() -> None:
    unknown = packet(ip4(6, tcp_header(PSH | ACK, b"\x99\x81\x07\x03")))
    assert packet_reason(unknown, [unknown]) == "PSH-ACK to port 80 with 4 bytes of payload"
    assert packet_reason(udp(30), [udp(30)]) == "UDP packet to port 80 with 30 bytes of payload"
