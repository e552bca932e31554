"""Log lines to records: the only module that knows how Zeek's JSON spells them (`suricata.eve` knows Suricata's event log).

A whole block is decoded at once, typed, in C; only a block in which that fails is gone through line by line, so that bad lines
cost the good ones nothing. A bad line never raises: it goes to the rejects file with its place and reason.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.records import Batch, Flow, Idle, Lines, Packet, Position, is_eve
from packetclip_sensor.sources.suricata import eve

MAX_POSITIONS = 4096
"""Files remembered; the ones longest untouched are forgotten first."""

Record = TypeVar("Record", Packet, Flow)
_packets = msgspec.json.Decoder(Packet)
_flows = msgspec.json.Decoder(Flow)
_BAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def together(batches: Iterable[Batch], *, packets: int = 2048, seconds: float = 30.0) -> Iterator[Batch]:
    """Put small batches of finished logs into one, of at most so many packets and so many seconds of event time: each costs its
    stages some milliseconds, and where traffic is thin a batch of the tail holds a few packets."""
    parts: list[Batch] = []

    def held() -> Batch:
        return Batch([p for b in parts for p in b.packets], [f for b in parts for f in b.flows], parts[0].start, parts[-1].end)

    def begin(batch: Batch) -> float:
        return batch.packets[0].ts if batch.packets else batch.flows[0].written if batch.flows else 0.0

    count = 0
    for batch in batches:
        count += len(batch.packets)
        if parts and (count > packets or batch.idle or batch.final or abs(begin(batch) - begin(parts[0])) > seconds):
            yield held()
            parts, count = [], len(batch.packets)
        if batch.idle or batch.final:
            yield batch
        else:
            parts.append(batch)
    if parts:
        yield held()


def batches(blocks: Iterable[Lines | Idle], rejects: Rejects, counters: Counters) -> Iterator[Batch]:
    """One batch per block, in the blocks' order; an empty one for each `Idle`.

    `start` and `end` hold the latest position of every file read so far, so that either is a complete resume point. A block
    whose `data` is empty moves a position and gives no batch of its own.
    """
    positions: dict[Position, None] = {}
    before: tuple[Position, ...] = ()
    for block in blocks:
        if isinstance(block, Idle):
            counters.rejects, counters.rejects_unwritten = rejects.count, rejects.unwritten
            yield Batch([], [], before, before, idle=True, final=block.final)
            continue
        # A block starts at the very position at which the file's last block ended, also after a rename: that is the file's key.
        positions.pop(block.start, None)
        positions[block.end] = None
        if len(positions) > MAX_POSITIONS:
            del positions[next(iter(positions))]
        after = tuple(positions)
        if not block.data:
            before = after
            continue
        packets = _decode(_packets, block, rejects) if block.log == "packet" else []
        flows = _flows_of(block, rejects) if block.log == "flow" else []
        counters.lines += block.data.count(b"\n")
        counters.packets += len(packets)
        counters.connections_skipped += sum(p.skipped for p in packets)
        counters.flows += len(flows)
        counters.rejects, counters.rejects_unwritten = rejects.count, rejects.unwritten
        yield Batch(packets, flows, before, after)
        before = after


def _flows_of(block: Lines, rejects: Rejects) -> list[Flow]:
    if not is_eve(Path(block.end.path).name):
        return _decode(_flows, block, rejects)
    good = []
    for offset, line in _lines(block):
        try:
            if (flow := eve.flow(line)) is not None:
                good.append(flow)
        except eve.ROW_ERRORS as err:
            rejects.add(block.end.path, offset, _reason(line, err), line)
    return good


def _decode(decoder: msgspec.json.Decoder[Record], block: Lines, rejects: Rejects) -> list[Record]:
    with contextlib.suppress(*_BAD):
        return decoder.decode_lines(block.data)
    good = []
    for offset, line in _lines(block):
        try:
            good.append(decoder.decode(line))
        except _BAD as err:
            rejects.add(block.end.path, offset, _reason(line, err), line)
    return good


def _lines(block: Lines) -> Iterator[tuple[int, bytes]]:
    """Each line that is not blank, with the bytes of plain text before it."""
    offset = block.start.offset
    for line in block.data.split(b"\n"):  # not splitlines, which also cuts at a lone \r
        if line and not line.isspace():
            yield offset, line
        offset += len(line) + 1


def _reason(line: bytes, err: Exception) -> str:
    if line.startswith(b"#"):
        return "a TSV line where JSON was expected: has a script changed the filter of this log stream?"
    if isinstance(err, RecursionError):
        return "JSON nested too deeply"
    return str(err)
