"""Takes out copies: the same packet once more, as a mirror of both directions or of two VLANs gives it.

A copy has the bytes of its original, but for what a router changes (TTL and the header's checksum), and comes within SPAN_S
of it. One original absorbs one copy. A third packet of the same bytes within that time says that they are sent so: a flood of
identical packets stays one. Where the traffic before shows that the link is mirrored, every second of them is left out.

Beyond a connection's first packets the log has too few for a copy to be seen: there packets and bytes are counted down by the
share of copies among the first ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, inf

import msgspec
import numpy as np

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.records import Packet

SPAN_S = 0.005
REPEATS_S = 1.0
"""Packets that were seen to repeat by themselves are taken to do so until they pause for so long."""
MIRRORED_S, MIRRORED = 10, 0.1
"""A link is mirrored where this share of the packets of the last so many whole seconds were copies."""
IP_BYTES = 20
"""Of less than an IP header nobody can say whose copy it is."""
CONNECTIONS = 100_000
"""Connections whose copies are remembered, to number their packets as if there were none."""

Key = tuple[str, int, str, int, int, bytes]
"""The connection, whatever its uid, the packet's length and its bytes, which also say who sent it."""


@dataclass(slots=True)
class _Seen:
    """Packets of the same bytes."""

    last: float
    waits: bool = True
    """Whether the last one may still have a copy."""
    run: int = 1
    """How many came, each within SPAN_S of the one before."""
    repeats: bool = False


class Copies:
    """The packets of one source, in the order of time."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._begin()

    def _begin(self) -> None:
        self._newest = -inf
        self._recent: list[Packet] = []  # those passed on within SPAN_S of the newest
        self._seen: dict[Key, _Seen] = {}
        self._copies_of: dict[str, tuple[int, int]] = {}  # of each connection: copies, and the index of the last packet looked at
        self._packets, self._copied = Counter[int](), Counter[int]()  # by second

    def __call__(self, packets: Sequence[Packet], *, final: bool = False) -> list[Packet]:
        """The packets without copies, numbered in their connections as if there were none."""
        out = self._without(packets) if packets else []
        if final:
            self._begin()
        return out

    def _without(self, packets: Sequence[Packet]) -> list[Packet]:
        first, every = len(self._recent), [*self._recent, *packets]
        bodies = [p.data[12:] for p in every]  # behind TTL and checksum; cheap, and few packets are equal in it
        ts = np.array([p.ts for p in every])
        newest = np.maximum.accumulate(np.maximum(ts, self._newest if self._newest > -inf else ts[0]))
        self._packets.update(int(p.ts) for p in packets if not p.total_bytes)
        copies: set[int] = set()
        if len(set(bodies)) < len(bodies):
            times = Counter(bodies)
            for i, body in enumerate(bodies):
                if times[body] > 1 and not every[i].total_bytes and self._is_copy(every[i], float(newest[i]), old=i < first):
                    copies.add(i)
        self._newest = float(newest[-1])
        self._recent = [every[i] for i in np.nonzero(ts >= self._newest - SPAN_S)[0].tolist() if i not in copies]
        self._forget()
        if not copies and not self._copies_of:
            return list(packets)
        self._counters.copies += len(copies)
        return [p for i, packet in enumerate(packets, first) if (p := self._numbered(packet, copy=i in copies))]

    def _is_copy(self, packet: Packet, newest: float, *, old: bool) -> bool:
        """Whether a packet is the copy of one before it. `old`: it was passed on before, and is only to be known."""
        data = packet.data
        if len(data) < IP_BYTES:
            return False
        masked = data[:8] + data[9:10] + data[12:] if data[0] >> 4 == 4 else data[:7] + data[8:]
        key = packet.orig_h, packet.orig_p, packet.resp_h, packet.resp_p, packet.size_bytes, masked
        seen = self._seen.get(key)
        if old and seen is not None and seen.last >= packet.ts:
            return False
        if old or seen is None or newest - seen.last > SPAN_S:
            repeats = seen is not None and seen.repeats and packet.ts - seen.last <= REPEATS_S
            self._seen[key] = _Seen(packet.ts, repeats=repeats)
            return False
        seen.last, seen.run = max(seen.last, packet.ts), seen.run + 1
        seen.repeats |= seen.run > 2
        copy = seen.waits and (not seen.repeats or self._mirrored(floor(packet.ts)))
        seen.waits = not copy
        if copy and not seen.repeats:
            self._copied[floor(packet.ts)] += 1
        return copy

    def _mirrored(self, second: int) -> bool:
        before = range(second - MIRRORED_S, second)
        copied = sum(self._copied[s] for s in before)
        return copied > 0 and copied >= MIRRORED * sum(self._packets[s] for s in before)

    def _numbered(self, packet: Packet, *, copy: bool) -> Packet | None:
        """The packet, numbered as if there were no copies; None where it is one."""
        copies, last = self._copies_of.get(packet.uid, (0, 1))
        if packet.total_bytes and copies:
            once = 1 - copies / last
            return msgspec.structs.replace(packet, n=round(packet.n * once), total_bytes=round(packet.total_bytes * once))
        if copy:
            self._copies_of.pop(packet.uid, None)  # behind the others again
        if copy or copies:
            self._copies_of[packet.uid] = copies + copy, packet.n
        if copy:
            return None
        return msgspec.structs.replace(packet, n=max(1, packet.n - copies)) if copies else packet

    def _forget(self) -> None:
        """Keep what later packets may be compared with."""
        if len(self._seen) > 4 * len(self._recent) + 10_000:
            self._seen = {key: seen for key, seen in self._seen.items() if seen.last >= self._newest - REPEATS_S}
        while len(self._copies_of) > CONNECTIONS:
            del self._copies_of[next(iter(self._copies_of))]
        for counts in (self._packets, self._copied):
            for second in [s for s in counts if s < self._newest - 2 * MIRRORED_S]:
                del counts[second]
