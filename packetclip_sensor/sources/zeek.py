"""Log lines to records: the only module that knows how Zeek's JSON spells them (`suricata.eve` knows Suricata's event log).

A whole block is decoded at once, typed, in C; only a block in which that fails is gone through line by line, so that bad lines
cost the good ones nothing. A bad line never raises: it goes to the rejects file with its place and reason. A site's script may
have set other times than epoch seconds for all its logs: such a block is decoded once more with them turned into seconds.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import msgspec

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.common.time_parsing import epoch_seconds
from packetclip_sensor.records import Batch, Flow, Idle, Lines, Packet, Position, is_eve
from packetclip_sensor.sources.suricata import eve

MAX_POSITIONS = 4096
"""Files remembered; the ones longest untouched are forgotten first."""

DATA_BYTES = 512
"""Most bytes kept of a packet, four times what the model reads: a site may log whole packets, and 150,000 are held."""

TOGETHER_S = 8.0
"""Event time of a batch of finished logs, which a flow row may come late by; `evidence.flow_counts` waits longer than that."""

Record = TypeVar("Record", Packet, Flow)
_packets = msgspec.json.Decoder(Packet)
_flows = msgspec.json.Decoder(Flow)
BAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_OTHER_TIME = re.compile(rb'"ts":\s*("[^"]*"|[0-9]{11,16})(?=[,}\s])')
"""ISO 8601 or milliseconds. A quote within a string is escaped, so this finds no text of a packet."""


def together(batches: Iterable[Batch], *, packets: int = 2048, seconds: float = TOGETHER_S) -> Iterator[Batch]:
    """Put small batches of finished logs into one, of at most so many packets and so many seconds of event time: each costs its
    stages some milliseconds, and where traffic is thin a batch of the tail holds a few packets."""
    parts: list[Batch] = []

    def held() -> Batch:
        packets, flows = [p for b in parts for p in b.packets], [f for b in parts for f in b.flows]
        return replace(parts[-1], packets=packets, flows=flows, start=parts[0].start)

    def ends(batch: Batch) -> bool:
        """Whether what is held goes out before this batch."""
        apart = batch.idle or batch.final or batch.source != parts[0].source
        return apart or count > packets or abs(begin(batch) - begin(parts[0])) > seconds

    def begin(batch: Batch) -> float:
        return batch.packets[0].ts if batch.packets else batch.flows[0].written if batch.flows else 0.0

    count = 0
    for batch in batches:
        count += len(batch.packets)
        if parts and ends(batch):
            yield held()
            parts, count = [], len(batch.packets)
        if batch.idle or batch.final:
            yield batch
        else:
            parts.append(batch)
    if parts:
        yield held()


def batches(blocks: Iterable[Lines | Idle], rejects: Rejects, counters: Counters) -> Iterator[Batch]:
    """One batch per block, in the blocks' order; for each `Idle` an empty one of each source.

    `start` and `end` hold the latest position of every file of the source read so far, so that either is a complete resume
    point. A block whose `data` is empty moves a position and gives no batch of its own; before anything is read, each other
    source whose position was moved so gets an empty batch, so that later stages know its place.
    """
    sources: dict[str, Positions] = {}
    passed_on = True
    for block in blocks:
        counters.rejects, counters.rejects_unwritten = rejects.count, rejects.unwritten
        if isinstance(block, Idle):
            for source, known in (sources or {"": Positions()}).items():
                quiet = block.final or source in block.quiet
                yield Batch([], [], known.before, known.before, idle=True, final=block.final, quiet=quiet, source=source)
            passed_on = True
            continue
        source = block.end.source
        if block.start.source != source and (other := sources.get(block.start.source)):
            other.forget(block.start)  # the site has given its folder another name
        known = sources.setdefault(source, Positions())
        before, after = known.move(block)
        if not block.data:
            passed_on = False
            continue
        if not passed_on:
            passed_on = True
            for name, each in sources.items():
                if each is not known:
                    yield Batch([], [], each.before, each.before, source=name)
        packets = _cut(_decode(_packets, block, rejects), counters) if block.log == "packet" else []
        flows = _flows_of(block, rejects) if block.log == "flow" else []
        counters.lines += block.data.count(b"\n")
        counters.packets += len(packets)
        counters.connections_skipped += sum(p.skipped for p in packets)
        counters.flows += len(flows)
        counters.rejects, counters.rejects_unwritten = rejects.count, rejects.unwritten
        yield Batch(packets, flows, before, after, source=source)


class Positions:
    """The latest position of every file of one source."""

    def __init__(self) -> None:
        self._latest: dict[Position, None] = {}
        self.before: tuple[Position, ...] = ()
        """Those up to the last block."""

    def move(self, block: Lines) -> tuple[tuple[Position, ...], tuple[Position, ...]]:
        """The positions before a block and after it.

        A block starts at the very position at which the file's last block ended, also after a rename: that is the file's key.
        """
        if block.start.offset and block.start.source != block.end.source:
            self.before = (*self.before, block.start)
        before = self.before
        self._latest.pop(block.start, None)
        self._latest[block.end] = None
        if len(self._latest) > MAX_POSITIONS:
            del self._latest[next(iter(self._latest))]
        self.before = tuple(self._latest)
        return before, self.before

    def forget(self, position: Position) -> None:
        self._latest.pop(position, None)
        self.before = tuple(self._latest)


def _cut(packets: list[Packet], counters: Counters) -> list[Packet]:
    """The packets with at most DATA_BYTES each; those that had more are counted."""
    whole = [len(p.data) <= DATA_BYTES for p in packets]
    if all(whole):
        return packets
    counters.packets_cut += len(whole) - sum(whole)
    return [p if fits else msgspec.structs.replace(p, data=p.data[:DATA_BYTES]) for p, fits in zip(packets, whole, strict=True)]


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
    with contextlib.suppress(*BAD):
        return decoder.decode_lines(block.data)
    if (data := in_seconds(block.data)) != block.data:
        with contextlib.suppress(*BAD):
            return decoder.decode_lines(data)
    good = []
    for offset, line in _lines(block):
        try:
            good.append(decoder.decode(in_seconds(line)))
        except BAD as err:
            rejects.add(block.end.path, offset, _reason(line, err), line)
    return good


def in_seconds(data: bytes) -> bytes:
    """Log lines whose times are ISO 8601 or milliseconds, with epoch seconds; others as they are."""

    def seconds(match: re.Match[bytes]) -> bytes:
        try:
            return b'"ts":%r' % epoch_seconds(match[1])
        except (ValueError, OverflowError):
            return match[0]

    return _OTHER_TIME.sub(seconds, data)


def packet(line: bytes) -> Packet:
    """The record of one line of the packet log.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: it is not of our form.
    """
    return _packets.decode(in_seconds(line))


def flow(line: bytes) -> Flow:
    """As `packet`, of the flow log."""
    return _flows.decode(in_seconds(line))


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
