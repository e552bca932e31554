"""What of a packet's bytes is shown: no password in any protocol, and what tells something and is no secret."""

from __future__ import annotations

import gzip
import random
import re
from base64 import b64encode
from pathlib import Path

import msgspec
import pytest
from packet_bytes import icmp, ip4, ip6, tcp, tcp_header, udp

from packetclip_sensor.masking import evidence_bytes
from packetclip_sensor.records import Packet

DATA = Path(__file__).parents[1] / "data"
SECRET = b"hunter2Tr0ub4dor"
BASE64 = b64encode(b"admin:" + SECRET)
TCP_SECRETS = (
    b"GET /x HTTP/1.1\r\nHost: a\r\nAuthorization: Basic " + BASE64 + b"\r\n\r\n",
    b"GET /x HTTP/1.1\r\nCookie: s=" + SECRET + b"\r\nHost: a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nSet-Cookie: s=" + SECRET + b"\r\n\r\n",
    b"GET /x HTTP/1.1\r\nAccept: a\r\n " + SECRET + b"\r\n\r\n",
    b"GET /login?password=" + SECRET + b" HTTP/1.1\r\n\r\n",
    b"GET http://admin:" + SECRET + b"@host/ HTTP/1.1\r\nHost: u:" + SECRET + b"@a\r\n\r\n",
    b"POST /login HTTP/1.1\r\nContent-Length: 9\r\n\r\nuser=a&password=" + SECRET,
    b"thorization: Basic " + BASE64 + b"\r\nHost: a\r\n",
    b"user=a&password=" + SECRET, b"PASS " + SECRET + b"\r\n", b"USER " + SECRET + b"\r\n", b"pass " + SECRET + b"\r\n",
    b"AUTH PLAIN " + BASE64 + b"\r\n", BASE64 + b"\r\n", b"a1 LOGIN admin " + SECRET + b"\r\n", SECRET + b"\r\n",
    b"\xff\xfd\x18\xff\xfa\x27\x00PW\x01" + SECRET + b"\xff\xf0", b"*2\r\n$4\r\nAUTH\r\n$16\r\n" + SECRET + b"\r\n",
    b"\x10\x30\x00\x04MQTT\x04\xc2\x00\x3c\x00\x01c\x00\x05admin\x00\x10" + SECRET,
    b"\x30\x28\x02\x01\x01\x60\x23\x02\x01\x03\x04\x05admin\x80\x10" + SECRET,
    b"\x3a\0\0\1\x85\xa6\xff\1\0\0\0\1!" + bytes(23) + b"root\0\x14" + SECRET, b"p\0\0\0\x15" + SECRET + b"\0",
    b"NTLMSSP\0\3\0\0\0" + SECRET, b"REGISTER sip:a SIP/2.0\r\nAuthorization: Digest " + SECRET,
    b"220 " + SECRET + b"\r\n", SECRET[:2],
)  # fmt: skip
UDP_SECRETS = (
    b"\x30\x29\x02\x01\x01\x04\x10" + SECRET + b"\xa0\x12", b"REGISTER sip:a SIP/2.0\r\nAuthorization: " + SECRET, SECRET,
)  # fmt: skip


def shown(raw: bytes, policy: str) -> tuple[bytes, int]:
    (out,) = evidence_bytes.shown([raw], policy)
    return out


def hidden(raw: bytes) -> None:
    out, masked = shown(raw, "masked")
    assert len(out) == len(raw)
    assert masked
    assert not any(part in out for part in (SECRET, BASE64, SECRET[:2]))


@pytest.mark.parametrize("load", TCP_SECRETS)
def test_no_secret_over_tcp_is_shown(load: bytes) -> None:
    hidden(tcp(load))
    hidden(ip6(6, tcp_header(24, load)))
    for cut in range(1, len(load)):
        if SECRET[:2] in load[cut:]:  # a segment may begin anywhere
            hidden(tcp(load[cut:]))


@pytest.mark.parametrize("load", UDP_SECRETS)
def test_no_secret_over_udp_is_shown(load: bytes) -> None:
    hidden(udp(load))
    hidden(icmp(3, 3, udp(load)))


def test_no_secret_is_shown_where_headers_are_odd() -> None:
    load = b"PASS " + SECRET + b"\r\n"
    for raw in (ip4(6, load, fragment=5), ip4(47, load), b"\0" + load, ip4(6, tcp_header(24, load, words=0)), ip4(4, tcp(load))):
        hidden(raw)


def test_the_checksum_of_a_masked_payload_is_hidden() -> None:
    """It tells the one character of a Telnet segment."""
    raw = bytearray(tcp(b"q"))
    raw[36:38] = b"\x12\x34"
    assert shown(bytes(raw), "masked") == (bytes(raw[:36]) + b"\0\0" + bytes(raw[38:40]) + b"\0", 1)


@pytest.mark.parametrize(
    ("raw", "part"),
    [
        (tcp(b"GET /admin.php?x=1 HTTP/1.1\r\nHost: shop\r\nUser-Agent: gobuster\r\nCookie: x\r\n\r\n"),
         b"GET /admin.php\0\0\0\0 HTTP/1.1\r\nHost: shop\r\nUser-Agent: gobuster\r\n\0"),
        (tcp(b"HTTP/1.1 401 Unauthorized\r\nServer: nginx\r\nX-A: b\r\n\r\nhello"), b"401 Unauthorized\r\nServer: nginx\r\n\0"),
        (tcp(b"PASS secret\r\n"), b"PASS\0\0"),
        (tcp(b"530 Login incorrect.\r\n"), b"530 \0"),
        (tcp(b"SSH-2.0-OpenSSH_9.6\r\n"), b"SSH-2.0-OpenSSH_9.6\r\n"),
        (tcp(b"\x16\x03\x01\x00\x05\x01\0\0\1\3"), b"\x16\x03\x01\x00\x05\x01\0\0\1\3"),
        (udp(b"\0\1\1\0\0\1\0\0\0\0\0\0\3abc\3com\0\0\1\0\1"), b"\3abc\3com"),
        (udp(b"X" * 20), b"X" * 20),
    ],
)  # fmt: skip
def test_what_is_no_secret_is_shown(raw: bytes, part: bytes) -> None:
    assert part in shown(raw, "masked")[0]


def test_a_packet_without_payload_is_shown_as_it_is() -> None:
    assert shown(tcp(b"", 2), "masked") == (tcp(b"", 2), 0)


def test_the_other_policies() -> None:
    raw = tcp(b"PASS x\r\n")
    assert shown(raw, "all") == (raw, 0)
    assert shown(raw, "headers") == (raw[:40], 8)
    assert shown(raw, "none") == (b"", 48)
    assert shown(ip4(6, b"PASS x\r\n", fragment=5), "headers")[0] == raw[:0] + ip4(6, b"PASS x\r\n", fragment=5)[:20]


def test_hostile_bytes_raise_nothing_and_only_bytes_go() -> None:
    random.seed(1)
    for _ in range(2000):
        raw = random.choice((b"", tcp(b"")[:34], udp(b""))) + random.randbytes(random.randrange(80))
        out, _ = shown(raw, "masked")
        assert len(out) == len(raw)
        assert all(a in (b, 0) for a, b in zip(out, raw, strict=True))


def test_no_password_of_recorded_traffic_is_shown() -> None:
    """Whatever packet became evidence: FTP and HTTP logins, of real clients and of guesses."""
    decoder = msgspec.json.Decoder(Packet)
    secret = re.compile(rb"(?:PASS |USER |Authorization:|Cookie:|Set-Cookie:) *([^\r\n]{3,})|passw(?:or)?d=([^&\s]+)", re.I)
    found = 0
    for log in sorted(DATA.glob("*/packetclip_packet.log.gz")):
        for packet in decoder.decode_lines(gzip.decompress(log.read_bytes())):
            if secrets := secret.findall(packet.data):
                out = shown(packet.data, "masked")[0]
                assert not any(one and one in out for pair in secrets for one in pair), packet.data
                found += len(secrets)
    assert found >= 5
