"""Flow rows as numbers for the streams to which they belong: what Zeek's analyzers counted, and how alike connections are.

Windows never wait for a flow row. So that neither batches nor a restart change what a window's evidence is, a row counts from a
fixed time on: some time after its connection's end, when Zeek has written it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

import msgspec

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.records import Flow, of_suricata

COUNTS = ("login_attempts", "login_failures", "requests", "requests_unfinished", "requests_alike", "dns_queries", "dns_names")
SIZES = ("orig_bytes", "resp_bytes", "duration")
"""Their spread over a stream's finished connections says how alike these are, where nothing else can be read."""
FLOWS = ("flows", "unanswered", *COUNTS, "data", *(f"{name}{power}" for name in SIZES for power in ("", " squared")))
"""Finished connections; those of them that ended without data from the responder; counts of COUNTS; finished connections over TCP
with data; of these the sums of the natural logarithms of SIZES, and of their squares."""
WRITTEN_S = 15.0
"""Zeek writes a closed connection's row five seconds after its end; the rest is for its buffer and the tail, and in finished
logs for `zeek.TOGETHER_S`: a row goes on with the batch after its own."""
TIMEOUT_S = {"tcp": 300.0}
"""After so long without a packet Zeek takes a connection that was not closed for finished (`tcp_inactivity_timeout`)."""
DNS_TIMEOUT_S = 10.0
OTHER_TIMEOUT_S = 60.0
CLOSED = frozenset({"SF", "REJ", "RSTO", "RSTR", "RSTOS0", "RSTRH"})
"""Of TCP."""
SURICATA_S, OTHER_SURICATA_S = {"tcp": (60.0, 600.0)}, (30.0, 300.0)
"""After so long without a packet Suricata, as it is shipped, writes a flow's row: if the flow was closed or never answered, and
otherwise."""
HEADER_BYTES, OTHER_HEADER_BYTES, SYN_BYTES, IPV6_BYTES = {"tcp": 52}, 28, 8, 20
"""Usual headers of a packet, IPv4's among them: TCP with timestamps; more in the packet with SYN, and of IPv6 in each."""
MOST_HELD = 20_000
"""Rows that wait for their time at most; beyond it the earliest counts at once."""
MOST_KNOWN = 2_000
"""Living connections at most of which an earlier row is remembered."""


class Counted(msgspec.Struct, frozen=True, order=True, array_like=True):
    """What one row adds to its streams."""

    due: float
    """Event time from which it counts, epoch seconds."""
    uid: str
    orig_h: str
    resp_h: str
    values: tuple[float, ...]
    """As FLOWS."""


class _State(msgspec.Struct, array_like=True):
    held: list[Counted]
    known: dict[str, tuple[float, ...]]
    newest: float


class FlowCounts:
    """The rows of one source that wait for their time. Counts of a row are those of its connection so far, so what an earlier row
    of the connection had is taken off."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._held: list[Counted] = []
        self._known: dict[str, tuple[float, ...]] = {}
        self._until = self._newest = -math.inf
        self.changed = False

    def take(self, flows: Sequence[Flow], newest: float | None = None) -> None:
        """Have rows in the order of their log.

        Args:
            newest: when the newest row of the log up to these was written, where not all of its rows come here.
        """
        for flow in flows:
            self._newest = max(self._newest, flow.written) if newest is None else newest
            counts = tuple(float(getattr(flow, name) or 0) for name in COUNTS)
            before = self._known.pop(flow.uid, None)
            if not flow.final:
                self._known[flow.uid] = counts
                if len(self._known) > MOST_KNOWN:
                    del self._known[next(iter(self._known))]
            if before is not None:
                counts = tuple(max(now - then, 0.0) for now, then in zip(counts, before, strict=True))
            if flow.final or any(counts):
                counted = Counted(self._due(flow), flow.uid, flow.orig_h, flow.resp_h, (*_ends(flow), *counts, *_sizes(flow)))
                self._counters.evidence_late_flows += counted.due < self._until
                heapq.heappush(self._held, counted)
            self.changed = True

    def until(self, second: float) -> list[Counted]:
        """Take out the rows that count before `second`, in the order of their times."""
        self._until = max(self._until, second)
        out = []
        while self._held and (self._held[0].due < second or len(self._held) > MOST_HELD):
            out.append(heapq.heappop(self._held))
        self.changed = self.changed or bool(out)
        return out

    def state(self) -> bytes:
        """What waits, to be saved."""
        self.changed = False
        return msgspec.msgpack.encode(_State(sorted(self._held), self._known, self._newest))

    def restore(self, state: bytes) -> None:
        """Go on from what `state` gave."""
        found = msgspec.msgpack.decode(state, type=_State)
        self._held, self._known, self._newest = found.held, found.known, found.newest

    def _due(self, flow: Flow) -> float:
        """A row of Zeek is written no earlier than those before it in the log, nor before its connection's timeout; Suricata's
        have no order."""
        if of_suricata(flow.uid):
            short, long = SURICATA_S.get(flow.proto, OTHER_SURICATA_S)
            over = not flow.resp_pkts or (flow.proto == "tcp" and flow.conn_state in CLOSED)
            return WRITTEN_S + flow.written + (short if over else long)
        timeout = 0.0
        if flow.final and not (flow.proto == "tcp" and flow.conn_state in CLOSED):
            timeout = TIMEOUT_S.get(flow.proto, DNS_TIMEOUT_S if flow.service == "dns" else OTHER_TIMEOUT_S)
        return WRITTEN_S + min(max(flow.written + timeout, self._newest), flow.written + TIMEOUT_S["tcp"])


def _bytes(flow: Flow, side: str) -> float:
    """Bytes of payload that a side sent. Suricata does not say; they are taken for its IP bytes less usual headers."""
    packets, ip_bytes = getattr(flow, f"{side}_pkts") or 0, getattr(flow, f"{side}_ip_bytes") or 0
    if not of_suricata(flow.uid) or not packets:
        return float(getattr(flow, f"{side}_bytes") or 0)
    header = HEADER_BYTES.get(flow.proto, OTHER_HEADER_BYTES) + IPV6_BYTES * (":" in flow.orig_h)
    return max(float(ip_bytes - header * packets - SYN_BYTES * (flow.proto == "tcp")), float(flow.service is not None))


def _ends(flow: Flow) -> tuple[float, float]:
    return float(flow.final), float(flow.final and not _bytes(flow, "resp"))


def _sizes(flow: Flow) -> tuple[float, ...]:
    resp_bytes = _bytes(flow, "resp")
    if not (flow.final and flow.proto == "tcp" and resp_bytes):
        return (0.0,) * (1 + 2 * len(SIZES))
    logs = [math.log1p(x) for x in (_bytes(flow, "orig"), resp_bytes, 1000 * (flow.duration or 0.0))]  # as SIZES
    return (1.0, *(power for x in logs for power in (x, x * x)))
