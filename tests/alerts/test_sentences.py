"""The sentences of windows, packets, flow rows and titles, word for word."""

from __future__ import annotations

import pytest
from factories import MISSIONS, episode
from factories import flow as flow_row
from packet_bytes import ip4, tcp_header
from traffic import ACK, PSH, SYN, A, B, handshake, icmp, packet, scan, tcp, udp

from packetclip_sensor.alerts import sentences
from packetclip_sensor.alerts.sentences import flow_text, sentence, title, window_text
from packetclip_sensor.records import Flow, Packet
from packetclip_sensor.windows.window_statistics import describe, facts


def of_pair(window: list[Packet]) -> str:
    return sentence(facts(window, "pair"), [A], [B])


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
    assert of_pair(window) == text


def test_many_hosts_are_counted_and_two_of_them_named() -> None:
    window = [tcp(SYN, ts=1 + i / 10, uid=f"C{i}", orig_h=f"198.51.100.{i}") for i in range(12)]
    names = [f"198.51.100.{i}" for i in range(12)]
    assert sentence(facts(window, "destination"), names, [B]).startswith(
        "12 hosts (198.51.100.0, 198.51.100.1, ...) sent 12 TCP packets in 1.1 s to port 80 of 192.0.2.10; all carry SYN alone"
    )


def test_a_share_below_all_is_never_rounded_to_all() -> None:
    window = [tcp(SYN, ts=float(i), uid=f"C{i}") for i in range(299)] + [tcp(ACK, ts=300.0, uid="C300")]
    assert "; 99 % carry SYN alone" in of_pair(window)


def test_only_the_title_names_a_kind_of_attack() -> None:
    banned = ("attack", "scan", "flood", "malicious", "suspicious", "victim", "brute")
    for window in (scan(), handshake(), [icmp(8)], [udp(3)]):
        said = (of_pair(window) + window_text(facts(window, "pair"))).lower()
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
    hostile = episode(sources=["1.2.3.4\nfake: log"])
    assert title(hostile, MISSIONS["DoS"], "SYN Flood") == "SYN flood by 1.2.3.4?fa?e:???? against 10.0.0.9"


def connection(**columns: object) -> Flow:
    """A flow row of a connection to SSH of which nothing is known but the columns given."""
    unset = dict.fromkeys(("conn_state", "orig_pkts", "syn", "ack", "orig_ip_bytes"))
    return flow_row(orig_h=A, resp_h=B, resp_p=22, **(unset | columns))


def test_a_flow_row_becomes_a_sentence_without_its_unset_columns() -> None:
    assert flow_text(connection()) == "A TCP connection was seen."
    full = flow_text(
        connection(service="ssh", duration=2.13, conn_state="SF", orig_pkts=12, orig_bytes=1500, resp_pkts=10, resp_bytes=2200,
                   orig_size_mean=165.4, orig_iat_mean=0.19, syn=2, ack=21, rst=0)
    )  # fmt: skip
    assert full == (
        "A TCP connection with service ssh lasted 2.1 s; it was established and closed normally; the originator sent 12 packets "
        "with 1500 bytes of payload, 165 bytes a packet on average, one every 0.2 s; the responder sent 10 packets with 2200 "
        "bytes of payload; its flags count 2 SYN and 21 ACK."
    )
    assert not [secret for secret in (A, B, "40000", " 22 ") if secret in full]


def test_a_flow_row_says_what_was_refused_and_left_unfinished_where_that_is_known() -> None:
    assert (
        flow_text(connection(login_attempts=12, login_failures=12)) == "A TCP connection was seen; 12 of 12 log-ins were refused."
    )
    assert flow_text(connection(login_attempts=1)) == "A TCP connection was seen."
    slow = connection(requests=40, requests_unfinished=1, requests_alike=39)
    assert flow_text(slow) == "A TCP connection was seen; 1 of 40 requests were not finished; 39 of 40 requests were alike."
    assert flow_text(connection(requests=1, requests_unfinished=0, requests_alike=1)) == "A TCP connection was seen."
    assert flow_text(connection(proto="udp", dns_queries=9, dns_names=1)).endswith(" seen; 9 queries asked for 1 name.")


def test_an_interim_or_silent_flow_row_says_so() -> None:
    row = connection(
        proto="udp", final=False, duration=61.0, orig_pkts=1, orig_bytes=0, resp_pkts=0, resp_bytes=0, service="dns<x>"
    )
    assert flow_text(row) == (
        "A UDP exchange with service dnsx lasted 61 s so far; the originator sent one packet with 0 bytes of payload; "
        "the responder sent nothing."
    )


@pytest.mark.parametrize(
    ("mission", "klass", "scope", "sources", "destinations", "text"),
    [
        ("DoS", "SYN Flood", "destination", 10, 1, "SYN flood from 10 hosts against 192.0.2.10"),
        ("DoS", "UDP Flood", "destination", 256, 1, "UDP flood from 256 hosts against 192.0.2.10"),
        ("DoS", "UDP Flood", "destination", 10_100, 1, "UDP flood from about 10,100 hosts against 192.0.2.10"),
        ("Reconnaissance", "Port Scan", "source", 1, 1, "Port scan by 192.0.2.9 of 192.0.2.10"),
        ("Reconnaissance", "OS Scan", "pair", 1, 1, "Operating system scan by 192.0.2.9 against 192.0.2.10"),
        ("Brute Force", "Dictionary Attack", "source", 1, 3, "Dictionary attack by 192.0.2.9 against 3 hosts"),
        ("Brute Force", "unheard of", "pair", 1, 1, "Brute force by 192.0.2.9 against 192.0.2.10"),
    ],
)
def test_the_title_names_class_and_hosts_also_those_beyond_the_listed(
    mission: str, klass: str, scope: str, sources: int, destinations: int, text: str
) -> None:
    of = episode(scope=scope, sources=[A], destinations=[B], source_count=sources, destination_count=destinations)
    assert title(of, MISSIONS[mission], klass) == text


def test_every_attack_class_has_a_title_of_its_own() -> None:
    titles = {title(episode(), mission, klass.name) for mission in MISSIONS for klass in mission.classes}
    assert len(titles) == 9
    assert not titles & {title(episode(), mission, "?") for mission in MISSIONS}


def reason(window: list[Packet], at: int = -1) -> str:
    at = range(len(window))[at]
    return sentences.packet_reason(window, describe([(window, "pair", [at])])[0], at)


def test_the_reason_of_a_packet_says_what_is_new_with_it() -> None:
    assert reason(scan()) == "SYN to port 29, the 29th new port of the window"
    assert reason(scan(), 0) == "SYN to port 1"
    assert reason(scan(), 1) == "RST-ACK back from port 1"
    spoofed = [tcp(SYN, uid=f"C{i}", orig_h=f"198.51.100.{i}") for i in range(3)]
    assert reason(spoofed) == "SYN to port 80, the 3rd new source of the window"
    sweep = [tcp(SYN, uid=f"C{i}", resp_h=f"198.51.100.{i}") for i in range(22)]
    assert reason(sweep) == "SYN to port 80, the 22nd new destination of the window"
    echoes = [icmp(8, ts=float(i)) for i in range(12)]
    assert reason(echoes) == "echo request with 56 bytes of payload, the 12th of its kind in the window"
    logins = [tcp(SYN, uid=f"C{i}", orig_p=i) for i in range(5)]
    assert reason(logins) == "SYN to port 80, the 5th new connection of the window"


def test_the_reason_of_a_packet_names_payload_of_a_known_protocol_and_says_nothing_of_another() -> None:
    login = tcp(PSH | ACK, b"GET /login HTTP/1.1\r\nHost: <b>\x1b[2J\r\n\r\n", uid="C2")
    assert reason([*(tcp(SYN, uid=f"C{i}", orig_p=i) for i in range(2)), login]) == (
        "PSH-ACK to port 80 with 38 bytes of payload: HTTP GET request for a login, the 3rd new connection of the window"
    )
    refused = tcp(PSH | ACK, b"530 Login incorrect.\r\n", resp_p=21, is_orig=False)
    assert reason([refused]) == "PSH-ACK back from port 21 with 22 bytes of payload: reply 530, login refused"
    assert reason([tcp(PSH | ACK, b"\x99\x81\x07\x03")]) == "PSH-ACK to port 80 with 4 bytes of payload"
    assert reason([udp(30)]) == "UDP packet to port 80 with 30 bytes of payload"


def test_a_packet_cut_anywhere_has_sentences() -> None:
    for cut in range(41):
        window = [packet(ip4(6, tcp_header(SYN))[:cut], size_bytes=40)]
        assert of_pair(window).endswith(".")
        assert window_text(facts(window, "pair")).endswith(".")
        assert reason(window)
