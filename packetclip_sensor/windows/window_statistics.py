"""Facts of a window and words for its packets: what sentences and documents are made of.

A fact that cannot be measured (a cut header, another protocol) is None, never 0.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from packetclip_sensor.records import Packet
from packetclip_sensor.windows import headers
from packetclip_sensor.windows.headers import ACK, FIN, PSH, RST, SYN, TCP, URG
from packetclip_sensor.windows.payload import Content, contents, known

Fact = float | int | str | None
Facts = dict[str, Fact]

FLAG_NAMES = ((SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (PSH, "PSH"), (ACK, "ACK"), (URG, "URG"))
_ICMP_NAMES = {
    4: {0: "echo reply", 3: "destination unreachable", 5: "redirect", 8: "echo request", 11: "time exceeded",
        13: "timestamp request"},
    6: {1: "destination unreachable", 3: "time exceeded", 128: "echo request", 129: "echo reply", 133: "router solicitation",
        134: "router advertisement", 135: "neighbor solicitation", 136: "neighbor advertisement", 143: "group report"},
}  # fmt: skip
_ZEEK_PROTO = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp"}
"""In a tunnel the outer header is of another protocol than the connection; its fields are then not read as the connection's."""
PROTOCOL_NAMES = {"tcp": "TCP", "udp": "UDP", "icmp": "ICMP", "mixed": "mixed", "other": "IP"}


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of a packet say; None where they are cut, malformed or of another protocol."""

    version: int | None = None
    flags: int | None = None
    """The six classic TCP flags."""
    payload_bytes: int | None = None
    icmp_type: int | None = None


def headers_of(packets: Sequence[Packet]) -> list[Header]:
    """What each packet's headers say; never raises, whatever `data` holds."""
    out = []
    for p, head in zip(packets, headers.read([p.data for p in packets], [p.size_bytes for p in packets]), strict=True):
        if head.l4_bytes < 0 or _ZEEK_PROTO.get(head.proto) != p.proto:
            out.append(Header(head.version or None))
            continue
        tcp, icmp = head.proto == TCP, head.icmp_type >= 0
        payload = head.payload_bytes if not tcp or head.l4_bytes >= 20 else None
        out.append(Header(head.version, head.flags & 63 if tcp else None, payload, head.icmp_type if icmp else None))
    return out


def facts(packets: Sequence[Packet], view: str) -> Facts:
    """Measured facts of a window, by name with unit.

    Shares are 0 to 1: `*_share` of flags over the TCP packets whose flags can be read (`syn_share` counts SYN without ACK),
    `icmp_*_share` over readable ICMP packets, `one_packet_connections_share` over connections, the others over all packets.
    `completed_connections` counts TCP connections whose handshake was answered and went on; None where that is not seen.
    """
    heads = headers_of(packets)
    times = sorted(p.ts for p in packets)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    duration = times[-1] - times[0] if times else 0.0
    count = len(packets)
    protos = {p.proto if p.proto in PROTOCOL_NAMES else "other" for p in packets}
    ports = Counter(p.resp_p for p in packets if p.proto in ("tcp", "udp"))
    top = ports.most_common(1)
    uids = Counter(p.uid for p in packets)
    flags = [h.flags for h in heads if h.flags is not None]
    icmp = [icmp_name(h.version, h.icmp_type) for h in heads if h.icmp_type is not None]
    payloads = [h.payload_bytes for h in heads if h.payload_bytes is not None]
    answered = {p.uid for p in packets if not p.is_orig}
    return {
        "view": view,
        "packets": count,
        "orig_packets": sum(p.is_orig for p in packets),
        "duration_s": round(duration, 6),
        "rate_pps": round((count - 1) / duration, 3) if duration > 0 else None,
        "mean_gap_s": round(duration / len(gaps), 6) if gaps else None,
        "max_gap_s": round(max(gaps), 6) if gaps else None,
        "proto": None if not protos else protos.pop() if len(protos) == 1 else "mixed",
        "distinct_orig_h": len({p.orig_h for p in packets}),
        "distinct_resp_h": len({p.resp_h for p in packets}),
        "distinct_resp_p": len(ports) if ports else None,
        "top_resp_p": top[0][0] if top and top[0][1] * 2 > count else None,
        "distinct_uid": len(uids),
        "answered_connections": len(answered),
        "completed_connections": _completed(packets, heads) if _all_tcp(packets) else None,
        "one_packet_connections_share": _share(sum(n == 1 for n in uids.values()), len(uids)),
        "reply_share": _share(sum(not p.is_orig for p in packets), count),
        "mean_size_bytes": round(sum(p.size_bytes for p in packets) / count, 1) if count else None,
        "payload_mean_bytes": round(sum(payloads) / len(payloads), 1) if payloads else None,
        "payload_share": _share(sum(n > 0 for n in payloads), len(payloads)),
        "syn_share": _share(sum(f & (SYN | ACK) == SYN for f in flags), len(flags)),
        "synack_share": _share(sum(f & (SYN | ACK) == SYN | ACK for f in flags), len(flags)),
        "rst_share": _share(sum(bool(f & RST) for f in flags), len(flags)),
        "fin_share": _share(sum(bool(f & FIN) for f in flags), len(flags)),
        "ack_share": _share(sum(bool(f & ACK) for f in flags), len(flags)),
        "push_share": _share(sum(bool(f & PSH) for f in flags), len(flags)),
        "odd_flags_share": _share(sum(_odd(f) for f in flags), len(flags)),
        "icmp_echo_share": _share(icmp.count("echo request"), len(icmp)),
        "icmp_reply_share": _share(icmp.count("echo reply"), len(icmp)),
        "icmp_unreachable_share": _share(icmp.count("destination unreachable"), len(icmp)),
    }


def _all_tcp(packets: Sequence[Packet]) -> bool:
    """Whether there are packets and all are TCP."""
    return bool(packets) and all(p.proto == "tcp" for p in packets)


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _odd(flags: int) -> bool:
    """Flag combinations that no TCP stack sends in a connection: none at all, SYN with FIN or RST, FIN without ACK."""
    return flags == 0 or flags & (SYN | FIN) == SYN | FIN or flags & (SYN | RST) == SYN | RST or flags & (FIN | ACK) == FIN


def icmp_name(version: int | None, kind: int | None) -> str:
    """What an ICMP packet of type `kind` is: "echo request", or "ICMP type 42" where it has no name here."""
    kind = -1 if kind is None else kind
    return _ICMP_NAMES.get(version or 4, {}).get(kind, f"ICMP type {kind}")


def _completed(packets: Sequence[Packet], heads: Sequence[Header]) -> int | None:
    """Connections seen to be completed; None where the window leaves it open for some connection."""
    completed, connections = 0, dict[str, list[tuple[Packet, int | None]]]()
    for p, h in zip(packets, heads, strict=True):
        connections.setdefault(p.uid, []).append((p, h.flags))
    for own in connections.values():
        if any(f is None for _, f in own):
            return None
        on = [p for p, f in own if f is not None and f & ACK and not f & (SYN | RST) and p.n > 1]
        began = any(f is not None and f & SYN for _, f in own)
        if any(p.is_orig for p in on) and any(not p.is_orig for p, f in own if f is not None and not f & RST):
            completed += 1
        elif on or (not began and any(p.n > 3 for p, _ in own)):
            return None
    return completed


@dataclass(frozen=True, slots=True)
class Description:
    """What a window's packets are, as far as their first bytes show."""

    facts: Facts
    kinds: tuple[str, ...]
    """Of each packet: "SYN-ACK", "echo request", "UDP packet"."""
    payload_bytes: tuple[int | None, ...]
    """Of each packet; None where a cut header hides it."""
    known: dict[int, str]
    """Of the packets that were asked for, by number: what the payload says, "" where no known protocol is in it."""
    contents: dict[int, Content]
    """Of the same, all that their bytes hold."""


def describe(windows: Sequence[tuple[Sequence[Packet], str, Sequence[int]]]) -> list[Description]:
    """Describe windows: of each its packets, oldest first, its view, and the numbers of packets whose payload is asked for."""
    read = iter(contents([packets[i].data for packets, _, closely in windows for i in closely]))
    return [_describe(packets, view, dict(zip(closely, read, strict=False))) for packets, view, closely in windows]


def _describe(packets: Sequence[Packet], view: str, closely: dict[int, Content]) -> Description:
    heads = headers_of(packets)
    return Description(
        facts(packets, view),
        tuple(map(_kind, packets, heads)),
        tuple(head.payload_bytes for head in heads),
        {i: known(content.words) if heads[i].payload_bytes else "" for i, content in closely.items()},
        closely,
    )


def _kind(packet: Packet, head: Header) -> str:
    if head.flags is not None:
        return "-".join(name for bit, name in FLAG_NAMES if head.flags & bit) or "TCP packet without flags"
    if head.icmp_type is not None:
        return icmp_name(head.version, head.icmp_type)
    return f"{PROTOCOL_NAMES.get(packet.proto, 'IP')} packet"
