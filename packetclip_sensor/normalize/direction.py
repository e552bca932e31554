"""Who began each connection. Zeek takes for it who was seen first, or who has the less known port; a host that only answers
has begun nothing, and must never be named as the source.

A connection is looked at once, at its first packet. A reset, SYN with ACK, an ICMP error or reply, and a datagram from a
service's port to one that is none show that its sender answers somebody who was not seen, as behind a one-way tap, on a lossy
link, or where a request was forged. Of such a connection the records are turned so that all later stages agree:

- TCP and ICMP errors: the receiver is the originator, unseen so far, and no verdict names it. As a flood they would cost it
  little, and whoever scans many hosts gets the same back.
- UDP and ICMP replies go from sender to receiver. As floods of answers come to a victim that never asked, they count in its view
  as a destination, in windows of their own, and nowhere else.

Both are `unasked`, but for ICMP errors, until the receiver sends something itself: then it is the originator, and a connection of
datagrams `begins`, for its answers before stand in no view of the pair.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from msgspec.structs import replace as with_fields

from packetclip_sensor.records import Batch, Flow, Packet

SYN, RST, ACK = 2, 4, 16
SERVICES = frozenset(range(1, 512)) | frozenset((
    514, 515, 520, 547, 548, 554, 563, 587, 614, 631, 636, 853, 860, 873, 902, 989, 990, 992, 993, 995, 1080, 1194, 1433,
    1434, 1521, 1701, 1812, 1813, 1883, 1900, 2049, 2123, 2152, 3128, 3283, 3306, 3389, 3478, 3544, 3702, 4789, 5060,
    5061, 5072, 5222, 5223, 5269, 5351, 5353, 5355, 5432, 5671, 5672, 5683, 5900, 6081, 6379, 6667, 8000, 8008, 8080,
    8443, 8883, 8888, 9092, 9200, 10001, 11211, 17185, 20000, 27015, 27017, 27960, 30718, 37810, 47808,
))  # fmt: skip
"""Ports that name their side as the service: the well-known ones, Zeek's `likely_server_ports`, and those of known reflectors.
Not 512 to 1023 as a whole: clients of NFS and rsh send from there."""
FIRST_FREE = 1024
"""From here on a port that is no service's may be any client's."""
CLIENTS_FROM = 32768
"""From here on Linux gives ports to clients (ip_local_port_range); other systems from 49152 on."""
ICMP_REPLIES, ICMP6_REPLIES = frozenset((0, 14, 16, 18)), frozenset((129,))
ICMP_ERRORS, ICMP6_ERRORS = frozenset((3, 4, 5, 11, 12)), frozenset((1, 2, 3, 4))
"""Types of answers, and of packets that report what another packet met."""
FIRST = 4
"""Up to this number a SYN that Zeek has as the responder's shows who began: another packet had overtaken it."""
OVERTAKEN_S = 1.0
MOST_REMEMBERED = 200_000
"""Connections remembered at most; beyond it the oldest are forgotten, and Zeek's sides believed."""
SIDED = {name: name.replace("orig", "resp") for name in Flow.__struct_fields__ if "orig" in name}
"""The originator's columns of a flow row, and the responder's."""
SIDED |= {resp: orig for orig, resp in SIDED.items()}
FLAGS_OF = {"S": SYN, "H": SYN | ACK, "R": RST}
"""TCP flags by the letter of Zeek's history; all others come with ACK."""
OTHER_STATE = {"S2": "S3", "S3": "S2", "RSTO": "RSTR", "RSTR": "RSTO", "SH": "SHR", "SHR": "SH", "S0": "SHR"}
"""Zeek's `conn_state` with the sides changed, where it says something of sides."""


@dataclass(slots=True)
class Exchange:
    """A connection of which Zeek's sides cannot be taken as they are."""

    since: float
    """Time of its first packet, epoch seconds."""
    host: str
    port: int
    """The end that answers."""
    alone: bool
    """Whether the other end has sent nothing yet."""


class Direction:
    """Passes batches on, the records of each connection with its sides right."""

    def __init__(self, memory_s: float) -> None:
        """`memory_s`: seconds from its first packet on for which a connection is remembered; later ones are taken as Zeek has
        them. Who reads on from that long before a packet turns it as it was turned before."""
        self._memory_s = memory_s
        self._exchanges: dict[str, Exchange] = {}

    def __call__(self, batch: Batch) -> Batch:
        """The batch with turned packets and flow rows in place of those whose sides are wrong."""
        exchanges, turned = self._exchanges, dict[int, Packet]()
        for i, packet in enumerate(batch.packets):
            if packet.uid in exchanges and (packet.n > 1 or self._goes_on(packet)):
                turned[i] = self._right(packet)
            elif packet.n == 1:
                answers = only_answers(packet, packet.is_orig, tcp_flags(packet))
                if answers or not packet.is_orig:
                    self._remember(packet, answers)
                    turned[i] = self._right(packet)
            elif packet.n <= FIRST and not packet.is_orig and (flags := tcp_flags(packet)) and flags & (SYN | ACK) == SYN:
                self._remember(packet, answers=False)
                turned[i] = self._right(packet)
        flows = [flow_sides(flow) for flow in batch.flows]
        if batch.final:
            exchanges.clear()
        elif batch.packets:
            self._forget(batch.packets[-1].ts - self._memory_s)
        if turned:
            return replace(batch, packets=[turned.get(i, packet) for i, packet in enumerate(batch.packets)], flows=flows)
        return replace(batch, flows=flows) if flows else batch

    def _goes_on(self, first: Packet) -> bool:
        """Whether the first packet that Zeek saw is of a connection that was begun shortly before: it overtook the SYN."""
        return 0 <= first.ts - self._exchanges[first.uid].since < OVERTAKEN_S

    def _remember(self, first: Packet, answers: bool) -> None:
        at_orig = first.is_orig == answers
        host, port = (first.orig_h, first.orig_p) if at_orig else (first.resp_h, first.resp_p)
        self._exchanges.pop(first.uid, None)
        self._exchanges[first.uid] = Exchange(first.ts, host, port, alone=answers)

    def _forget(self, before: float) -> None:
        """Forget connections that began before a time, and the oldest ones where they are too many."""
        while self._exchanges:
            uid = next(iter(self._exchanges))
            if self._exchanges[uid].since >= before and len(self._exchanges) <= MOST_REMEMBERED:
                return
            del self._exchanges[uid]

    def _right(self, packet: Packet) -> Packet:
        """A packet of a remembered connection with its sides right."""
        found = self._exchanges[packet.uid]
        if packet.ts - found.since >= self._memory_s:
            return packet
        orig_answers = (packet.orig_h, packet.orig_p) == (found.host, found.port)
        alone = found.alone
        found.alone &= orig_answers == packet.is_orig
        begins = alone and not found.alone and packet.proto != "tcp"
        error = _reports_error(packet, packet.orig_p if packet.is_orig else packet.resp_p)
        unasked = found.alone and not error
        if orig_answers == (unasked and packet.proto != "tcp"):
            return with_fields(packet, unasked=unasked, begins=begins) if unasked or begins else packet
        return with_fields(
            packet,
            orig_h=packet.resp_h,
            orig_p=packet.resp_p,
            resp_h=packet.orig_h,
            resp_p=packet.orig_p,
            is_orig=not packet.is_orig,
            unasked=unasked,
            begins=begins,
        )


def only_answers(record: Packet | Flow, by_orig: bool, flags: int | None) -> bool:
    """Whether the sender of a connection's first packet answers somebody who was not seen; where the packet does not say,
    Zeek's sides count.

    Args:
        record: that packet, or the connection's flow row. by_orig: whether Zeek's originator sent it. flags: TCP's, where known.
    Source: RFC 9293, sections 3.5 and 3.5.2; RFC 792; RFC 4443.
    """
    sender, receiver = (record.orig_p, record.resp_p) if by_orig else (record.resp_p, record.orig_p)
    if record.proto == "icmp":
        return sender in (ICMP6_REPLIES if ":" in record.orig_h else ICMP_REPLIES) or _reports_error(record, sender)
    if flags is not None:
        if flags & RST or flags & (SYN | ACK) == SYN | ACK:
            return True
        if not flags & ACK:
            return False  # SYN, or what no stack sends within a connection: a probe
    if flags is not None and sender < CLIENTS_FROM <= receiver:
        return True  # a connection whose beginning was not seen, or that Zeek had taken for ended
    if sender in SERVICES:
        return not by_orig or _is_free(receiver)
    return not by_orig and not (_is_free(sender) and receiver in SERVICES)


def _is_free(port: int) -> bool:
    return port >= FIRST_FREE and port not in SERVICES


def _reports_error(record: Packet | Flow, sender: int) -> bool:
    """Whether it is an ICMP error; Zeek has the type as the sender's port."""
    return record.proto == "icmp" and sender in (ICMP6_ERRORS if ":" in record.orig_h else ICMP_ERRORS)


def tcp_flags(packet: Packet) -> int | None:
    """TCP's flags; None where it is no TCP, or no TCP header stands directly behind that of IP."""
    data = packet.data
    if packet.proto != "tcp" or not data or (data[0] >> 4 == 6 and data[6:7] != b"\x06"):
        return None
    at = 53 if data[0] >> 4 == 6 else (data[0] & 15) * 4 + 13
    return data[at] if at < len(data) else None


def flow_sides(flow: Flow) -> Flow:
    """A flow row with the sides that its connection's packets have, as far as Zeek's history tells who sent first and what.
    Rows of ICMP errors stay: they are no exchange."""
    history = flow.history or "D"
    letter = history.lstrip("^")[:1]
    by_orig = letter.isupper() != history[1:].startswith("^")  # "D^": the sides were changed behind the first packet
    if _reports_error(flow, flow.orig_p):
        return flow
    answers = only_answers(flow, by_orig, FLAGS_OF.get(letter.upper(), ACK) if flow.proto == "tcp" else None)
    alone = not (flow.resp_pkts if by_orig else flow.orig_pkts)
    sender_began = not answers or (alone and flow.proto != "tcp")
    return flow if by_orig == sender_began else with_fields(flow, **_other_way(flow))


def _other_way(flow: Flow) -> dict[str, Any]:
    """The fields of a flow row with originator and responder changed."""
    return {
        **{name: getattr(flow, other) for name, other in SIDED.items()},
        "history": flow.history and flow.history.swapcase(),
        "conn_state": flow.conn_state and OTHER_STATE.get(flow.conn_state, flow.conn_state),
    }
