"""What a tap of one direction shows of recorded packets, with the sides that Zeek then gives their connections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from msgspec.structs import replace

from packetclip_sensor.records import Packet

LIKELY_SERVERS = frozenset((
    21, 22, 23, 25, 53, 67, 79, 80, 81, 88, 123, 135, 137, 139, 143, 161, 162, 443, 445, 502, 514, 563, 587, 631, 636,
    989, 990, 992, 993, 995, 1080, 1812, 1883, 3128, 3389, 5060, 5222, 5353, 5355, 8000, 8080, 8888,
))  # fmt: skip
"""Of Zeek's `likely_server_ports`, those that are in use here."""


def seen_from(packets: Iterable[Packet], *, originators: bool) -> list[Packet]:
    """The packets that originators sent, or those that came back; each connection numbered anew and with the sides that Zeek
    gives it from its first packet: who is seen first began, unless its port alone is a likely server's."""
    n, out = Counter[str](), list[Packet]()
    for packet in packets:
        if packet.is_orig != originators:
            continue
        n[packet.uid] += 1
        left = replace(packet, n=n[packet.uid])
        of_server = packet.proto != "icmp" and packet.resp_p in LIKELY_SERVERS and packet.orig_p not in LIKELY_SERVERS
        if not originators and not of_server:
            ends = {"orig_h": packet.resp_h, "orig_p": packet.resp_p, "resp_h": packet.orig_h, "resp_p": packet.orig_p}
            left = replace(left, **ends, is_orig=True)
        out.append(left)
    return out
