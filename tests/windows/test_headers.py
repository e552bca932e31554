"""The header parser against a plain loop, and that all who read its columns see the same packet in odd bytes."""

from __future__ import annotations

import base64
import random
from pathlib import Path

import numpy as np
import pytest
from factories import packet
from packet_bytes import icmp, ip4, ip6, tcp, tcp_header, udp

from packetclip_sensor.view import packet_fields
from packetclip_sensor.windows import headers, payload, tokens
from packetclip_sensor.windows.headers import FIRST_FRAGMENT, LATER_FRAGMENT, WHOLE, Header
from packetclip_sensor.windows.tokens import MASK, ROW_BYTES
from packetclip_sensor.windows.window_statistics import headers_of

UDP_HEADER = bytes(8)
NUMBERS = (6, 17, 1, 58, 0, 43, 44, 51, 59, 60, 135, 47)
CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"


def extension(following: int, more: int = 0) -> bytes:
    return bytes([following, more]) + bytes(6 + 8 * more)


def authentication(following: int, words: int = 1) -> bytes:
    """RFC 4302: the length counts words of four bytes, less two."""
    return bytes([following, words]) + bytes(6 + 4 * words)


def fragment(following: int, offset: int, *, last: bool = False) -> bytes:
    return bytes([following, 0]) + (offset << 3 | (not last)).to_bytes(2, "big") + bytes(4)


def odd_packets() -> list[bytes]:
    """Chains of headers by chance, cut anywhere, and what fuzzing kept."""
    rng = random.Random(3)
    made = []
    for _ in range(3000):
        body = rng.randbytes(rng.choice([0, 3, 7, 8, 13, 14, 20, 60, 150]))
        if rng.random() < 0.4:
            data = bytearray(ip4(rng.choice(NUMBERS), body, rng.choice([0, 0, 0x2000, 0x4000, 5, 0x2005])))
            data[0] = 0x40 | rng.choice([5, 5, 6, 15, 3, 0])
        else:
            chain = b""
            first = following = rng.choice(NUMBERS)
            for _ in range(rng.randrange(7)):
                following = rng.choice(NUMBERS)
                more, offset = rng.choice([0, 0, 1, 3]), rng.choice([0, 0, 1, 8, rng.randrange(65536)])
                chain += bytes([following, more]) + offset.to_bytes(2, "big") + rng.randbytes(4 + 8 * more)
            data = bytearray(ip6(first, chain + body))
        made.append(bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data))
    kept = [base64.b64decode(line) for name in ("tokens", "payload") for line in (CORPUS / f"{name}.txt").read_text().split()]
    return [*made, *kept, *(rng.randbytes(rng.randrange(90)) for _ in range(200))]


ODD = odd_packets()


def plain(data: bytes, size: int) -> Header:
    """One packet's headers, read byte by byte."""
    version, proto, at, kind = data[0] >> 4 if data else 0, 0, 0, WHOLE
    if version == 4 and len(data) >= 20:
        proto, at = data[9], max((data[0] & 15) * 4, 20)
        kind = LATER_FRAGMENT if data[6] & 31 or data[7] else FIRST_FRAGMENT if data[6] & 32 else WHOLE
    elif version == 6 and len(data) >= 40:
        proto, at = data[6], 40
        for _ in range(4):
            if proto not in (0, 43, 44, 51, 60, 135) or len(data) < at + 8:
                break
            length = (data[at + 1] + 2) * 4 if proto == 51 else (data[at + 1] + 1) * 8
            if proto == 44:
                length = 8
                kind = max(kind, LATER_FRAGMENT if data[at + 2] or data[at + 3] >> 3 else data[at + 3] & 1)
            proto, at = data[at], at + length
    else:
        version = 0
    rest = data[at:]
    has_l4 = bool(version) and kind != LATER_FRAGMENT and len(rest) >= 8
    l4_bytes = -1 if not has_l4 or (proto == 6 and len(rest) < 14) else rest[12] // 16 * 4 if proto == 6 else 8
    flags = rest[13] if proto == 6 and l4_bytes >= 0 else 0
    header = 0 if not has_l4 else 8 if proto != 6 or l4_bytes < 0 else max(l4_bytes, 20)
    icmp_type = rest[0] if has_l4 and (version, proto) in ((4, 1), (6, 58)) else -1
    return Header(version, proto, kind, at, has_l4, l4_bytes, flags, max(size - at - header, 0), icmp_type)


def test_columns_are_those_of_the_plain_loop() -> None:
    sizes = [random.Random(i).choice([len(data), 0, 1500]) for i, data in enumerate(ODD)]
    cut = [data[:ROW_BYTES] for data in ODD]
    for data, size, found in zip(cut, sizes, headers.read(cut, sizes), strict=True):
        assert found == plain(data, size), data.hex()
    kinds = {(f.version, f.proto, f.fragment) for f in headers.read(cut)}
    assert {(4, 6, WHOLE), (4, 17, FIRST_FRAGMENT), (6, 58, WHOLE), (6, 6, FIRST_FRAGMENT), (6, 17, LATER_FRAGMENT)} <= kinds


def test_a_batch_of_one_is_read_as_in_any_batch() -> None:
    data, captured = headers.rows(ODD, ROW_BYTES)
    whole = headers.parse(data, captured, captured)
    for i in range(0, len(ODD), 97):
        (alone,) = headers.read([ODD[i][:ROW_BYTES]])
        assert list(alone) == [getattr(whole, name)[i] for name in Header._fields]


@pytest.mark.parametrize(
    ("data", "transport"),
    [
        (tcp(b"x", 2), (6, 20)),
        (ip4(6, tcp_header(2), options=bytes(8)), (6, 28)),
        (ip4(6, tcp_header(2, words=3)), (6, 20)),
        (b"\x43" + tcp(b"", 2)[1:], (6, 20)),
        (ip4(6, tcp_header(2)[:13]), None),
        (ip4(6, tcp_header(2), fragment=0x2000), (6, 20)),
        (ip4(6, tcp_header(2), fragment=100), None),
        (ip4(58, bytes(20)), None),
        (icmp(8)[:25], None),
        (ip6(0, extension(17) + UDP_HEADER), (17, 48)),
        (ip6(60, extension(43) + extension(6, 2) + tcp_header(2)), (6, 72)),
        (ip6(44, fragment(6, 0) + tcp_header(2)), (6, 48)),
        (ip6(44, fragment(6, 1) + tcp_header(2)), None),
        (ip6(135, extension(58) + bytes([128, *bytes(7)])), (58, 48)),
        (ip6(51, authentication(6) + tcp_header(2)), (6, 52)),
        (ip6(0, extension(51) + authentication(17, 6) + UDP_HEADER), (17, 80)),
        (ip6(51, authentication(6)[:4]), None),
        (ip4(51, authentication(6) + tcp_header(2)), None),
        (b"\x40" + tcp(b"", 2)[1:], (6, 20)),
        (ip6(50, bytes(8) + tcp_header(2)), None),
        (ip6(0, extension(0) * 4 + extension(17) + UDP_HEADER), None),
        (ip6(1, bytes(20)), None),
        (udp(b"")[:19], None),
        (b"", None),
    ],
)
def test_all_readers_agree_which_transport_an_odd_packet_has(data: bytes, transport: tuple[int, int] | None) -> None:
    rows, captured = headers.rows([data], ROW_BYTES)
    head = headers.parse(rows, captured, captured)
    proto = transport[0] if transport else None
    masked = tokens.tokenize(head)[0] == MASK
    if transport:
        assert (head.proto[0], head.l4[0], head.l4_bytes[0] >= 0) == (*transport, True)
        assert masked[transport[1]] == (proto in (6, 17))
    said = payload.words(data).removesuffix(" in a first fragment")
    kinds = {6: "TCP ", 17: "empty UDP", 58: "ping"}
    assert [kind for kind, words in kinds.items() if said.startswith(words)] == ([proto] if transport else [])
    measured = headers_of([packet(data=data, size_bytes=len(data), proto={17: "udp", 58: "icmp"}.get(proto or 6, "tcp"))])[0]
    assert (measured.flags == 2, measured.icmp_type == 128) == (proto == 6, proto == 58)
    assert (measured.payload_bytes is None) == (transport is None or head.l4_bytes[0] < 8 + 12 * (proto == 6))
    named = [field for field in packet_fields.fields(data) if field.part == "transport"]
    assert not transport or named[0].start == transport[1]


def test_all_readers_agree_about_bytes_by_chance() -> None:
    names = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp"}
    for data, head in zip(ODD, headers.read(ODD), strict=True):
        (measured,) = headers_of([packet(data=data, size_bytes=len(data), proto=names.get(head.proto, "unknown_transport"))])
        readable = head.l4_bytes >= 0 and head.proto in names
        assert (measured.version, measured.flags is not None) == (head.version or None, readable and head.proto == 6)
        assert measured.icmp_type == (head.icmp_type if head.icmp_type >= 0 else None)
        assert measured.payload_bytes in (None, head.payload_bytes)
        fields = packet_fields.fields(data)
        assert [f.end for f in fields[:-1]] == [f.start for f in fields[1:]]
        transport = [f for f in fields if f.part == "transport"]
        assert not transport or (transport[0].start == head.l4 and head.fragment != LATER_FRAGMENT)
        assert ("later fragment" in payload.words(data)) == (head.fragment == LATER_FRAGMENT)


def test_rows_are_cut_and_padded() -> None:
    data, captured = headers.rows([b"\x45" * 200, b"", b"\x60\x01"], 128)
    assert (data.shape, captured.tolist()) == ((3, 128), [128, 0, 2])
    assert data[2, :3].tolist() == [0x60, 1, 0]
    assert headers.rows([b"\x45" * 200])[0].shape == (1, 200)
    assert len(headers.parse(*headers.rows([]), np.empty(0, np.int64)).proto) == 0
