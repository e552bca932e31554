"""A judged window in facts and words: what an explanation says of it, made in one step for all windows that are explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packetclip_sensor.records import Packet
from packetclip_sensor.windows.payload import known
from packetclip_sensor.windows.window_statistics import FLAG_NAMES, PROTOCOL_NAMES, Facts, Header, facts, headers_of, icmp_name


@dataclass(frozen=True, slots=True)
class Description:
    """What a window's packets are, as far as their first bytes tell."""

    facts: Facts
    kinds: tuple[str, ...]
    """Of each packet: "SYN-ACK", "echo request", "UDP packet"."""
    payload_bytes: tuple[int | None, ...]
    """Of each packet; None where a cut header hides it."""
    contents: dict[int, str]
    """Of the packets that were asked for, by number: what the payload says, "" where no known protocol is in it."""


def describe(windows: Sequence[tuple[Sequence[Packet], str, Sequence[int]]]) -> list[Description]:
    """Describe windows: of each its packets, oldest first, its view, and the numbers of packets whose payload is asked for."""
    return [_describe(packets, view, closely) for packets, view, closely in windows]


def _describe(packets: Sequence[Packet], view: str, closely: Sequence[int]) -> Description:
    heads = headers_of(packets)
    return Description(
        facts(packets, view),
        tuple(map(_kind, packets, heads)),
        tuple(head.payload_bytes for head in heads),
        {i: known(packets[i].data) if heads[i].payload_bytes else "" for i in closely},
    )


def _kind(packet: Packet, head: Header) -> str:
    if head.flags is not None:
        return "-".join(name for bit, name in FLAG_NAMES if head.flags & bit) or "TCP packet without flags"
    if head.icmp_type is not None:
        return icmp_name(head.version, head.icmp_type)
    return f"{PROTOCOL_NAMES.get(packet.proto, 'IP')} packet"
