"""What packets say, word for word, and that nothing of a payload gets into the words."""

from __future__ import annotations

import random
import re
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packet_bytes import icmp, ip4, ip6, tcp, tcp_header, udp

from packetclip_sensor.windows import payload
from packetclip_sensor.windows.payload import known, words

NAME = b"\3www\7example\3com\0"


def dns(flags: int, kind: int, answers: int = 0) -> bytes:
    return struct.pack(">HHHHHH", 7, flags, 1, answers, 0, 0) + NAME + struct.pack(">HH", kind, 1)


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        (tcp(b"", 2), "TCP SYN without data, a connection asked for"),
        (tcp(b"", 18), "TCP SYN ACK without data, a connection accepted"),
        (tcp(b"", 0), "TCP no flags without data, an odd combination"),
        (tcp(b"", 41), "TCP FIN PSH URG without data, an odd combination"),
        (tcp(b"GET / HTTP/1.1\r\n"), "HTTP GET request for the front page"),
        (tcp(b"GET /shop/ HTTP/1.1\r\n"), "HTTP GET request for a page"),
        (tcp(b"GET /author/ HTTP/1.1\r\n"), "HTTP GET request for a page"),
        (tcp(b"POST /wp-login HTTP/1.1\r\n"), "HTTP POST request for a login"),
        (tcp(b"GET /a?id=1%27%20OR%201=1 HTTP/1.1\r\n"), "HTTP GET request with an attempt at injection"),
        (tcp(b"GET /a?q=salt+and+pepper HTTP/1.1\r\n"), "HTTP GET request with a query"),
        (tcp(b"GET /wiki/Sensor_(network) HTTP/1.1\r\n"), "HTTP GET request for a page"),
        (tcp(b"GET /../../etc/passwd HTTP/1.1\r\n"), "HTTP GET request with a path outside the site"),
        (tcp(b"HEAD /.git/config HTTP/1.1\r\n"), "HTTP HEAD request for a hidden or script file"),
        (tcp(b"HTTP/1.1 401 Unauthorized\r\n"), "HTTP response 401, login refused"),
        (tcp(b"HTTP/1.1 503 Busy\r\n"), "HTTP response 503, server error"),
        (tcp(b"X-a: 31\r\n"), "lone HTTP header line, the request goes on"),
        (tcp(b"SSH-2.0-OpenSSH_9.2p1\r\n"), "SSH version greeting"),
        (tcp(bytes.fromhex("0000043c0914") + b"\xa0" * 16), "SSH key exchange"),
        (tcp(bytes.fromhex("000000100914") + b"\xa0" * 16), "TCP data: binary data"),
        (tcp(bytes.fromhex("1603010200010001fc0303") + b"\xe5" * 30), "TLS client hello"),
        (tcp(bytes.fromhex("1603030028fcd6f2c62c09") + b"\xe5" * 30), "TLS handshake"),
        (tcp(bytes.fromhex("15030300020228")), "TLS alert"),
        (tcp(bytes.fromhex("1703030154") + b"\x9a" * 40), "TLS encrypted data"),
        (tcp(b"530 Login incorrect.\r\n"), "reply 530, login refused"),
        (tcp(b"220 (vsFTPd 3.0.3)\r\n"), "reply 220, greeting"),
        (tcp(b"553 Could not create file.\r\n"), "reply 553, refused"),
        (tcp(b"PASS dragon\r\n"), "command PASS"),
        (tcp(b'list" href="/a.git">a.git</a>'), "TCP data: text"),
        (tcp(b"a1 LOGIN me secret\r\n"), "command LOGIN"),
        (tcp(b"a1 NO wrong\r\n"), "IMAP answer, refused"),
        (tcp(b"-WRONGPASS no\r\n"), "answer, login refused"),
        (tcp(b"*1\r\n$4\r\nPING\r\n"), "Redis command"),
        (tcp(b"\xff\xfb\x03\xff\xfb\x01vm login: "), "terminal asks for a user name"),
        (tcp(b"Password: "), "terminal asks for a password"),
        (tcp(b"\r\nLogin incorrect\r\n"), "terminal says login refused"),
        (tcp(b"\xff\xfc\x21"), "Telnet option talk"),
        (tcp(b"\x10\x0c\0\4MQTT\4\2\0\5\0\0"), "MQTT connect"),
        (tcp(b"\x30\x0c\0\6home/txxxx"), "MQTT publish"),
        (tcp(b"\xc0\0"), "MQTT ping"),
        (tcp(b"\xcb\x0a" + b"\x9b" * 10), "TCP data: binary data"),
        (tcp(b"\0\0\0\xc8\xfeSMB@\0\1\0"), "SMB message"),
        (tcp(bytes.fromhex("199d00000006ff0100000007")), "Modbus message"),
        (tcp(b"\x4a\0\0\0\x0a8.0.36\0"), "MySQL greeting"),
        (tcp(b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0"), "RDP connection set-up"),
        (tcp(b"\x13BitTorrent protocol" + bytes(8)), "BitTorrent handshake"),
        (tcp(struct.pack(">H", len(dns(0x120, 1))) + dns(0x120, 1)), "DNS query A over TCP"),
        (tcp(b"a garden by the sea"), "TCP data: text"),
        (tcp(b"XXXXXXXX"), "TCP data: one repeated byte"),
        (tcp(b"\xff\0\0\0\0\0\0\0\0"), "TCP data: mostly zeros"),
        (udp(b""), "empty UDP datagram"),
        (udp(dns(0x100, 255)), "DNS query ANY"),
        (udp(dns(0x8180, 1, 1)), "DNS answer A"),
        (udp(dns(0x8180, 28)), "DNS answer AAAA, empty"),
        (udp(dns(0x8182, 1)), "DNS answer A, server failure"),
        (udp(dns(0x8183, 1)), "DNS answer A, no such name"),
        (udp(dns(0x8184, 1)), "DNS answer A, not implemented"),
        (udp(dns(0x8185, 77)), "DNS answer of a rare type, refused"),
        (udp(bytes.fromhex("8060000d000098580000000721") + b"\xca" * 20), "UDP data: binary data"),
        (udp(b"\x23" + bytes(47)), "NTP request"),
        (udp(b"\x24\x08\0\xe6" + bytes(44)), "NTP answer"),
        (udp(b"\xa4\xaa\x51\x11" + b"\x99" * 44), "UDP data: binary data"),
        (udp(b"\x17\0\x03\x2a\0\0\0\0"), "NTP monitor request"),
        (udp(b"\x30\x2b\2\1\1\4\6public"), "SNMP message"),
        (udp(b"\1\1\6" + bytes(60)), "DHCP request"),
        (udp(b"M-SEARCH * HTTP/1.1\r\n"), "SSDP search"),
        (udp(b"\xc3\0\0\0\1" + b"\x8b" * 40), "QUIC connection set-up"),
        (udp(b"\x40\1\x12\x34\xb5tests"), "CoAP message"),
        (udp(b"GAME OVER"), "UDP data: text"),
        (icmp(8, data=bytes(range(16, 48))), "ping, counting bytes"),
        (icmp(8), "ping, empty"),
        (icmp(0), "answer to a ping"),
        (icmp(3, 3), "ICMP unreachable port"),
        (icmp(3, 13), "ICMP unreachable filtered"),
        (icmp(128), "ICMP message of another kind"),
        (ip6(58, bytes([128, 0, 0, 0, 0, 0, 0, 0])), "ping, empty"),
        (ip6(0, bytes([58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0, 0, 0, 0, 0])), "ICMPv6 group report"),
        (ip6(60, bytes([6, 0, 1, 4, 0, 0, 0, 0]) + tcp_header(24, b"QUIT\r\n")), "command QUIT"),
        (ip6(44, bytes([6, 0, 0, 8, 0, 0, 0, 1]) + bytes(30)), "later fragment of an IP packet"),
        (ip6(44, bytes([6, 0, 0, 1, 0, 0, 0, 1]) + tcp_header(24, b"QUIT\r\n")), "command QUIT in a first fragment"),
        (ip4(6, bytes(30), fragment=100), "later fragment of an IP packet"),
        (ip4(47, bytes(30)), "IP protocol 47"),
        (b"\x45\0", "no IP header"),
    ],
)
def test_a_packet_is_said_in_fixed_words(packet: bytes, said: str) -> None:
    assert words(packet[:128]) == said


def test_only_payload_of_a_known_protocol_is_known() -> None:
    assert known(words(tcp(b"530 Login incorrect.\r\n"))) == "reply 530, login refused"
    for unknown in (tcp(b"some words"), tcp(b"", 2), udp(b""), udp(b"\x99\x98"), icmp(8), icmp(3, 3), ip4(47, b""), b""):
        assert known(words(unknown)) == ""


def either(*said: str) -> str:
    return "(" + "|".join(re.escape(text) for text in said) + ")"


SHAPES = either("text", "binary data", "one repeated byte", "counting bytes", "mostly zeros")
ABOUT = either(*(about for _, about in payload.PATHS))
DNS_TYPE = either(*payload.DNS_TYPES.values(), "of a rare type", "of some type")
CODES = either(*payload.DNS_CODES.values(), ", an error")
TLS = either(*payload.TLS_HANDSHAKES.values(), "handshake", "change of cipher", "alert", "encrypted data")
MEANINGS = either(
    *payload.LINES.values(),
    *payload.DATAGRAMS.values(),
    *payload.MQTT_SHORT.values(),
    *(said for _, said in payload.TERMINAL),
    *payload.ICMP_KINDS[4].values(),
    *payload.ICMP_KINDS[6].values(),
    *[
        "Redis command",
        "IMAP answer, refused",
        "Telnet option talk",
        "SSH version greeting",
        "SSH key exchange",
        "MQTT connect",
        "MQTT publish",
    ],
    *[
        "MQTT subscribe",
        "MQTT subscribe acknowledgement",
        "SMB message",
        "RDP connection set-up",
        "MySQL greeting",
        "Modbus message",
    ],
    *["BitTorrent handshake", "NTP request", "NTP answer", "NTP monitor request", "SNMP message", "DHCP request", "DHCP answer"],
    *["QUIC connection set-up", "CoAP message", "empty UDP datagram", "ICMP message of another kind", "no IP header"],
    *["later fragment of an IP packet", "lone HTTP header line, the request goes on"],
)
PHRASE = re.compile(
    rf"({MEANINGS}|(TCP|UDP) data: {SHAPES}|ping, (empty|{SHAPES})|IP protocol \d{{1,3}}"
    r"|TCP (no flags|[A-Z]{3}( [A-Z]{3})*) without data, [a-z ]{5,22}"
    rf"|HTTP [A-Z]{{3,8}} request {ABOUT}|HTTP response [1-5]\d\d, [a-z ]{{5,13}}|reply [1-5]\d\d, [a-z ]{{4,18}}"
    rf"|command [A-Z]{{3,5}}|TLS {TLS}|DNS (query|answer) {DNS_TYPE}{CODES}(, empty)?( over TCP)?"
    r"|ICMP unreachable [a-z]{4,11})( in a first fragment)?"
)
HOSTILE = (
    b"<script>alert(1)</script>",
    b"\x1b]0;owned\x07\x1b[2J",
    b"GET /<img src=x>\r\n",
    b"220 \x1b[31mhello\x00",
    b"USER {{7*7}}\r\n",
    b"HTTP/1.1 200 <b>\r\n",
    "PASS \u202eevil\r\n".encode(),
    b"530 '; DROP TABLE\r\n",
    b"\0\0\x81\x80\0\1\0\0\0\0\0\0",
)
STARTS = (b"", b"HTTP/1.1 ", b"GET ", b"\x16\x03\x01", b"\x30", b"\x82", b"\xff\xfb", b"\0\0", b"\1\1\6", b"5", *HOSTILE)
HEADERS = (b"", b"\x45", tcp(b""), udp(b""), icmp(8), icmp(3), ip6(6, tcp_header(24)), ip6(0, b"\x2c\0"), ip6(17, bytes(8)))
PACKETS = st.builds(lambda head, start, rest: (head + start + rest)[:128], st.sampled_from(HEADERS), st.sampled_from(STARTS),
                    st.binary(max_size=60))  # fmt: skip


@settings(max_examples=2000, deadline=None)
@given(st.one_of(PACKETS, st.binary(max_size=128)))
def test_any_bytes_give_a_phrase_of_the_fixed_set(packet: bytes) -> None:
    assert PHRASE.fullmatch(words(packet)), words(packet)


def test_random_bytes_are_seldom_taken_for_a_protocol() -> None:
    rng = random.Random(5)
    over_tcp = sum(bool(known(words(tcp(rng.randbytes(64))))) for _ in range(4000))
    over_udp = sum(bool(known(words(udp(rng.randbytes(64))))) for _ in range(4000))
    assert over_tcp <= 8
    assert over_udp <= 40
