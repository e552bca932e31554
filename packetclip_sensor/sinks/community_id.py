"""Community ID v1: one name of a connection in Zeek, Suricata and Elasticsearch, to join an alert with their records."""

from __future__ import annotations

import base64
import hashlib
import struct

from packetclip_sensor.records import OtherAlert, Packet
from packetclip_sensor.records.addresses import address

PROTOCOL_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "sctp": 132}
ICMP_TWO_WAY = {4: {0, 8, 9, 10, 13, 14, 15, 16, 17, 18}, 6: {128, 129, 130, 131, 133, 134, 135, 136, 139, 140, 144, 145}}
"""ICMP types that have an answer, by IP version: Zeek then writes the answer's type as responder port."""


def community_id(packet: Packet | OtherAlert) -> str | None:
    """Community ID v1 (seed 0) of the packet's connection, as Zeek's policy/protocols/conn/community-id-logging writes it.

    None where the protocol has no number here, or the line's addresses or ports are none.
    Source: Community ID Spec v1, github.com/corelight/community-id-spec.
    """
    number = PROTOCOL_NUMBERS.get(packet.proto)
    if number is None or not (0 <= packet.orig_p < 65536 and 0 <= packet.resp_p < 65536):
        return None
    orig, resp = address(packet.orig_h), address(packet.resp_h)
    if orig is None or resp is None:
        return None
    one_way = packet.proto == "icmp" and packet.orig_p not in ICMP_TWO_WAY[orig.version]
    if packet.proto == "icmp" and orig.version == 6:
        number = 58
    ends = [(orig.packed, packet.orig_p), (resp.packed, packet.resp_p)]
    if not one_way:
        ends.sort()
    (first, first_port), (second, second_port) = ends
    data = b"\0\0" + first + second + struct.pack("!BBHH", number, 0, first_port, second_port)
    return "1:" + base64.b64encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()
