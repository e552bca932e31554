"""What the logs show of the link: how late lines come, how many packets are copies, how many connections are seen whole.

Only TCP connections in which something was acknowledged tell whether both sides are seen: nobody acknowledges what was never
sent, while many datagrams, and every SYN of a flood or a scan, stay without an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.normalize.copies import Copies
from packetclip_sensor.records import Flow, Packet
from packetclip_sensor.sources.logfile import FAR_S

MANY_COPIES, MANY_ONE_WAY, MANY_GAPS = 0.1, 0.5, 0.2
"""Shares from which something is wrong with the link: of packets, and of connections."""
FEW_PACKETS, FEW_CONNECTIONS = 1000, 50
"""Of fewer nothing is said."""
ONE_SIDE = 3
"""Packets of one side alone that make a connection one whose other side is not seen."""


def count_connections(flows: Iterable[Flow], counters: Counters) -> None:
    """Count the connections that have ended, and those of them that were not seen whole."""
    for flow in flows:
        if flow.final and flow.ack:
            there, back = flow.orig_pkts or 0, flow.resp_pkts or 0
            counters.connections += 1
            counters.connections_one_way += min(there, back) == 0 and max(there, back) >= ONE_SIDE
            counters.connections_with_gaps += (flow.missed_bytes or 0) > 0


def lateness_s(packets: Sequence[Packet]) -> float:
    """The most that a packet's time is behind the newest before it, seconds; wrong times aside."""
    ts = np.array([p.ts for p in packets])
    behind = np.maximum.accumulate(ts) - ts
    return float(behind[behind < FAR_S].max(initial=0.0))


def copies_share(packets: Sequence[Packet]) -> float:
    """Share of the packets that are copies of others."""
    counters = Counters()
    Copies(counters)(sorted(packets, key=lambda p: p.ts))
    return counters.copies / max(1, len(packets))
