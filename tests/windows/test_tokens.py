"""Packet bytes to tokens: which bytes are masked, and that no packet however broken raises."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from packetclip_sensor.windows import headers, tokens
from packetclip_sensor.windows.tokens import MASK, PAD, ROW_BYTES

V4 = bytes.fromhex("4500003c1c4640004006b1e6ac100a63ac100a0c")
TCP_SYN = bytes.fromhex("c35000500102030400000000a002faf0aabb0000") + bytes.fromhex("020405b40402080a11223344000000000103030a")
V6 = bytes.fromhex("60012345") + struct.pack(">HBB", 8, 17, 64) + bytes(range(32))
UDP = bytes.fromhex("d431003500080bad")


def tokenized(packet: bytes, size: int | None = None) -> np.ndarray:
    data, captured = headers.rows([packet], ROW_BYTES)
    return tokens.tokenize(headers.parse(data, captured, np.array([size or len(packet)])))[0]


def test_ipv4_tcp_masks_places_and_keeps_behaviour() -> None:
    row = tokenized(V4 + TCP_SYN)
    masked = {i for i, token in enumerate(row) if token == MASK}
    ip = {4, 5, *range(10, 20)}
    ports, seq_ack, checksum, timestamps = range(20, 24), range(24, 32), (36, 37), range(48, 56)
    assert masked == ip | {*ports, *seq_ack, *checksum, *timestamps}
    assert list(row[:4]) == [0x45, 0x00, 0x00, 0x3C]
    assert row[33] == 0x02
    assert set(row[60:]) == {PAD}


def test_ipv6_udp_masks_flow_label_addresses_ports_and_checksum() -> None:
    row = tokenized(V6 + UDP)
    assert {i for i, token in enumerate(row) if token == MASK} == {1, 2, 3, *range(8, 40), *range(40, 44), 46, 47}


def test_headers_read_flags_and_payload() -> None:
    found = list(headers.read([V4 + TCP_SYN, V6 + UDP, b"", b"\x45"], [60, 48, 0, 1]))
    assert [(h.version, h.proto, h.flags, h.payload_bytes, h.has_l4) for h in found] == [
        (4, 6, 2, 0, True), (6, 17, 0, 0, True), (0, 0, 0, 0, False), (0, 0, 0, 1, False),
    ]  # fmt: skip


def test_a_quoted_packet_in_an_icmp_error_is_masked_too() -> None:
    icmp = V4[:9] + b"\x01" + V4[10:] + bytes.fromhex("0303aabb00000000") + V4 + TCP_SYN[:8]
    row = tokenized(icmp)
    assert {*range(28 + 12, 28 + 20), *range(28 + 20, 28 + 28)} <= {i for i, token in enumerate(row) if token == MASK}


def test_a_later_fragment_has_no_ports_to_mask() -> None:
    packet = V4[:6] + b"\x00\xb9" + V4[8:] + bytes(40)
    row = tokenized(packet)
    assert list(row[20:24]) == [0, 0, 0, 0]


def test_packets_of_a_flood_become_one_row() -> None:
    one = tokenized(V4 + TCP_SYN)
    other = bytearray(V4 + TCP_SYN)
    other[4:6], other[10:20], other[20:22], other[24:28] = b"zz", b"0123456789", b"hi", b"seqs"
    assert (tokenized(bytes(other)) == one).all()


@pytest.mark.parametrize("cut", range(61))
def test_a_truncated_packet_is_padded(cut: int) -> None:
    row = tokenized((V4 + TCP_SYN)[:cut], 60)
    assert (row[cut:] == PAD).all()
    assert (row[:cut] != PAD).all()
