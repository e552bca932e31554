"""Packets as columns, and the columns of the packets held for later windows.

150,000 packets may be held, so what one takes is what the sensor takes: some 350 bytes. A record is an object of twelve others,
so of a packet that was judged only what its columns do not say is kept, packed; it becomes a record again where one is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import msgspec
import numpy as np
import numpy.typing as npt

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.records import Packet
from packetclip_sensor.windows import headers
from packetclip_sensor.windows.headers import Bools, Headers, Ints
from packetclip_sensor.windows.tokens import ROW_BYTES

DENSE = 0.9
"""Part of the rows that a later window needs, above which those that none needs may stay among them for a while."""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[str, str, int, str, str, int, bytes]).decode


@dataclass(frozen=True, slots=True)
class PacketColumns(Headers):
    """Packets as columns in log order, each (n, ...); those of their headers among them."""

    record: npt.NDArray[np.object_]
    """Each packet's record, or the rest of it, packed: to be had by `packets`."""
    ts: npt.NDArray[np.float64]
    second: Ints
    """The whole second in which the packet is judged: that of the latest packet read so far, so never falling."""
    uid: Ints
    """Hash of the uid; hashes are only ever compared."""
    orig_h: Ints
    resp_h: Ints
    resp_p: Ints
    is_orig: Bools
    n: Ints
    opens: Bools
    """The first packets of connections."""
    size_bytes: Ints
    total_bytes: Ints
    unasked: Bools
    light: Bools
    """See `light`; known once the packet's second is over, and True of all where no closer look is asked for."""

    def __len__(self) -> int:
        return len(self.ts)

    @staticmethod
    def of(packets: Sequence[Packet], latest: int = 0, period_s: float = 1.0) -> PacketColumns:
        """Turn records into columns; `latest` is the highest second (or period) seen before."""
        data, captured = headers.rows([p.data for p in packets], ROW_BYTES)
        size = np.array([p.size_bytes for p in packets], np.int64)
        ts = np.array([p.ts for p in packets], np.float64)
        record = np.empty(len(packets), np.object_)
        record[:] = packets
        head = headers.parse(data, captured.astype(np.int16), size)
        return PacketColumns(
            **{f.name: getattr(head, f.name) for f in fields(head)},
            record=record,
            ts=ts,
            second=np.maximum.accumulate(np.maximum(np.floor(ts / period_s).astype(np.int64), latest)),
            uid=np.array([hash(p.uid) for p in packets], np.int64),
            orig_h=np.array([hash(p.orig_h) for p in packets], np.int64),
            resp_h=np.array([hash(p.resp_h) for p in packets], np.int64),
            resp_p=np.array([p.resp_p for p in packets], np.int64),
            is_orig=np.array([p.is_orig for p in packets], np.bool_),
            n=np.array([p.n for p in packets], np.int64),
            opens=np.array([p.n == 1 or p.begins for p in packets], np.bool_),
            size_bytes=size,
            total_bytes=np.array([p.total_bytes for p in packets], np.int64),
            unasked=np.array([p.unasked for p in packets], np.bool_),
            light=np.ones(len(packets), np.bool_),
        )

    def take(self, chosen: Ints | slice) -> PacketColumns:
        """The rows `chosen`, in that order; of a slice no copies."""
        return PacketColumns(*(getattr(self, f.name)[chosen] for f in fields(self)))

    def packets(self, rows: Ints) -> npt.NDArray[np.object_]:
        """The records of `rows`, in that order."""
        found = self.record[rows]
        for i, record in enumerate(found):
            if isinstance(record, bytes):
                found[i] = self._record(int(rows[i]), record)
        return found

    def _record(self, row: int, packed: bytes) -> Packet:
        uid, orig_h, orig_p, resp_h, proto, skipped, data = _unpack(packed)
        return Packet(
            ts=float(self.ts[row]),
            uid=uid,
            orig_h=orig_h,
            orig_p=orig_p,
            resp_h=resp_h,
            resp_p=int(self.resp_p[row]),
            proto=proto,
            is_orig=bool(self.is_orig[row]),
            n=int(self.n[row]),
            size_bytes=int(self.size_bytes[row]),
            data=self.data[row, : self.captured[row]].tobytes() + data,
            skipped=skipped,
            total_bytes=int(self.total_bytes[row]),
            unasked=bool(self.unasked[row]),
            begins=bool(self.opens[row] and self.n[row] > 1),
        )


def view_keys(table: PacketColumns) -> tuple[Ints, Ints, Ints]:
    """A key for each packet in each of VIEWS, (n,) each. The pair's key is the same in both directions; what only comes to a
    destination is a stream of its own there."""
    return table.orig_h + table.resp_h, table.orig_h, np.where(one_way(table), ~table.resp_h, table.resp_h)


def one_way(table: PacketColumns) -> Bools:
    """(n,) True for packets that stand in the destination's view alone: answers that go from sender to receiver, unasked."""
    return table.unasked & table.is_orig


def light(table: PacketColumns, heavy_bytes: int) -> Bools:
    """(n,) True for packets of connections that moved no more than so many logged bytes in the packet's second, of which `table`
    has all packets. A download is not light: its packets are left out of light windows, so it hides nothing that is beside it."""
    order = np.lexsort((table.uid, table.second))
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (np.diff(table.uid[order]) != 0) | (np.diff(table.second[order]) != 0)
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(begins) - 1
    few: Bools = np.bincount(group, table.size_bytes)[group] <= heavy_bytes
    return few


def so_far(table: PacketColumns, volume: Ints, rows: Ints, second: Ints | int) -> tuple[Ints, Ints]:
    """What the connections of `rows`, one row of each, had sent by the end of a second of the last T: two seconds give a rate.

    Args:
        volume: rows of the lines beyond connections' first packets, as in `Windows`. second: one for all rows, or one for each.
    Returns:
        (n,) packets, at least those up to the row itself, and (n,) IP bytes, both directions; 0 where no line says it.
    """
    packets, total = table.n[rows], table.total_bytes[rows]
    if len(rows) and len(volume):
        connections, of = np.unique(table.uid[volume], return_inverse=True)
        place = np.minimum(np.searchsorted(connections, table.uid[rows]), len(connections) - 1)
        first, last = int(table.second[volume].min()), int(table.second[volume].max())
        span = last - first + 2
        keys = of * span + table.second[volume] - first
        order = np.argsort(keys, kind="stable")
        asked = place * span + np.clip(second, first - 1, last) - first
        at = np.searchsorted(keys[order], asked, side="right") - 1
        line = volume[order[np.maximum(at, 0)]]
        known = (at >= 0) & (table.uid[line] == table.uid[rows])
        packets = np.where(known, np.maximum(packets, table.n[line]), packets)
        total = np.where(known, np.maximum(total, table.total_bytes[line]), total)
    return packets, total


class PacketTable:
    """Columns with room to grow: rows come behind the others without a copy of these.

    A `table` once given out stays as it is: later rows lie behind it, and fewer rows lie in new columns.
    """

    def __init__(self) -> None:
        self._room = PacketColumns.of([])
        self.table = self._room
        """The rows there are."""

    def append(self, fresh: PacketColumns) -> None:
        """Put the rows of `fresh` behind the others."""
        start, end = len(self.table), len(self.table) + len(fresh)
        if end > len(self._room):
            self._move(np.arange(start), end)
        for f in fields(PacketColumns):
            getattr(self._room, f.name)[start:end] = getattr(fresh, f.name)
        self.table = self._room.take(slice(end))

    def keep(self, rows: Ints) -> None:
        """Drop all rows but these."""
        self._move(rows, len(rows))
        self.table = self._room.take(slice(len(rows)))

    def pack(self, rows: Ints) -> None:
        """Keep of the records of `rows` only what their columns do not say; none of them is packed yet."""
        record = self.table.record
        for i in rows.tolist():
            p: Packet = record[i]
            record[i] = _pack((p.uid, p.orig_h, p.orig_p, p.resp_h, p.proto, p.skipped, p.data[ROW_BYTES:]))

    def _move(self, rows: Ints, least: int) -> None:
        """Put `rows` into new columns, with room for half as many more as `least`."""
        moved = []
        for f in fields(PacketColumns):
            old = getattr(self._room, f.name)
            new = np.empty((least + least // 2, *old.shape[1:]), old.dtype)
            np.take(old, rows, axis=0, out=new[: len(rows)], mode="clip")  # "raise", the default, would copy once more
            moved.append(new)
        self._room = PacketColumns(*moved)


class Latest:
    """Finds the latest packet of a connection up to a place, for m packets in the order of time within each connection."""

    def __init__(self, uid: Ints) -> None:
        self._m = len(uid)
        _, self._uid = np.unique(uid, return_inverse=True)
        self._sorted = np.sort(self._uid * self._m + np.arange(self._m))

    def __call__(self, packet: Ints, upto: Ints) -> Ints:
        """Places of the latest packet at or before `upto` of the connections that the packets at `packet` belong to."""
        found = np.searchsorted(self._sorted, self._uid[packet] * self._m + upto, side="right") - 1
        return self._sorted[np.maximum(found, 0)] % self._m

    def of(self, chosen: Bools) -> Bools:
        """(m,) True at the very last packet of each connection that has a packet in `chosen`, (m,)."""
        wanted = np.zeros(int(self._uid.max(initial=-1)) + 1, np.bool_)
        wanted[self._uid[chosen]] = True
        owner = self._sorted // self._m
        out = np.zeros(self._m, np.bool_)
        out[self._sorted[np.append(owner[1:] != owner[:-1], True)[: self._m]] % self._m] = True
        return out & wanted[self._uid]


def _let_go(table: PacketColumns, keep: Bools, judged: int, surplus: int, counters: Counters) -> None:
    """Take `surplus` of the first `judged` rows out of `keep`: of the host pairs longest without a packet, the oldest first."""
    (kept,) = np.nonzero(keep)
    _, pair = np.unique(view_keys(table)[0][kept], return_inverse=True)
    latest = np.zeros(len(kept), np.int64)
    latest[pair] = kept  # of equal indices the last one stays
    mine = kept < judged
    order = np.argsort(latest[pair[mine]], kind="stable")[:surplus]
    keep[kept[mine][order]] = False
    counters.evicted += len(order)
    counters.evicted_streams += len(np.unique(pair[mine][order]))


def compact(packets: PacketTable, held: list[Ints], ready: Ints, max_rows: int, counters: Counters) -> list[Ints]:
    """Drop packets that no later window can hold, once they are many, and renumber what each view holds.

    Args:
        ready: rows judged now, those before them were judged earlier.
    """
    table = packets.table
    judged = int(ready[-1]) + 1
    keep = np.zeros(len(table), np.bool_)
    for rows in held:
        keep[rows] = True
    keep[judged:] = True
    surplus = int(keep.sum()) - max_rows
    if surplus > 0:
        _let_go(table, keep, judged, surplus, counters)
        held = [rows[keep[rows]] for rows in held]
    packets.pack(ready[keep[ready]])
    if np.count_nonzero(keep) > DENSE * len(keep):
        return held
    packets.keep(np.nonzero(keep)[0])
    number = np.cumsum(keep) - 1
    return [number[rows] for rows in held]
