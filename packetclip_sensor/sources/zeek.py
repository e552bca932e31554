"""Log lines to records: the only module that knows how Zeek's JSON spells them.

A whole block is decoded at once, typed, in C; only a block in which that fails is gone through line by line, so that bad lines
cost the good ones nothing. A bad line never raises: it goes to the rejects file with its place and reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.records import Batch, Flow, Idle, Lines, Packet, Position

MAX_POSITIONS = 4096
"""Files remembered; the ones longest untouched are forgotten first."""

END_OF_TIME = 1e10
"""No packet is of the year 2286: its second would be the latest for ever, and every later packet late."""
LARGEST = 1 << 62
"""Numbers are counted in 64 bits."""

_packets = msgspec.json.Decoder(Packet)
_flows = msgspec.json.Decoder(Flow)
_BAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def together(batches: Iterable[Batch], *, packets: int = 2048, seconds: float = 30.0) -> Iterator[Batch]:
    """Put small batches of finished logs into one, of at most so many packets and so many seconds of event time: each costs its
    stages some milliseconds, and where traffic is thin a batch of the tail holds a few packets."""
    parts: list[Batch] = []
    held = 0
    for batch in batches:
        held += len(batch.packets)
        if parts and (held > packets or batch.idle or batch.final or abs(_begin(batch) - _begin(parts[0])) > seconds):
            yield _one(parts)
            parts, held = [], len(batch.packets)
        if batch.idle or batch.final:
            yield batch
        else:
            parts.append(batch)
    if parts:
        yield _one(parts)


def _begin(batch: Batch) -> float:
    return batch.packets[0].ts if batch.packets else batch.flows[0].written if batch.flows else 0.0


def _one(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    packets = [packet for part in parts for packet in part.packets]
    flows = [flow for part in parts for flow in part.flows]
    return Batch(packets, flows, parts[0].start, parts[-1].end)


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
        packets: list[Packet] = []
        flows: list[Flow] = []
        if block.log == "packet":
            packets = _decode_packets(block, rejects)
        else:
            flows = _decode_flows(block, rejects)
        counters.lines += block.data.count(b"\n")
        counters.packets += len(packets)
        counters.connections_skipped += sum(p.skipped for p in packets)
        counters.flows += len(flows)
        counters.rejects, counters.rejects_unwritten = rejects.count, rejects.unwritten
        yield Batch(packets, flows, before, after)
        before = after


def _decode_packets(block: Lines, rejects: Rejects) -> list[Packet]:
    try:
        packets = _packets.decode_lines(block.data)
    except _BAD:
        packets = None
    if packets is not None:
        for p in packets:
            if not (
                0.0 < p.ts < END_OF_TIME
                and 0 < p.n < LARGEST
                and 0 <= p.orig_p < 65536
                and 0 <= p.resp_p < 65536
                and 0 <= p.size_bytes < LARGEST
                and 0 <= p.skipped < LARGEST
            ):
                break
        else:
            return packets
    good = []
    for offset, line in _lines(block):
        try:
            packet = _packets.decode(line)
            _check(packet)
            if packet.n < 1:
                raise msgspec.ValidationError(f"n is {packet.n}, counting starts at 1")
            if packet.size_bytes < 0:
                raise msgspec.ValidationError(f"len is {packet.size_bytes}, below 0")
            if not 0 <= packet.skipped < LARGEST:
                raise msgspec.ValidationError(f"skipped is {packet.skipped}, no count")
            if max(packet.n, packet.size_bytes) >= LARGEST:
                raise msgspec.ValidationError(f"n is {packet.n} and len is {packet.size_bytes}, one of them too large")
        except _BAD as err:
            rejects.add(block.end.path, offset, _reason(line, err), line)
        else:
            good.append(packet)
    return good


def _decode_flows(block: Lines, rejects: Rejects) -> list[Flow]:
    try:
        flows = _flows.decode_lines(block.data)
    except _BAD:
        flows = None
    if flows is not None:
        for f in flows:
            if not (0.0 < f.ts < END_OF_TIME and 0 <= f.orig_p < 65536 and 0 <= f.resp_p < 65536 and (f.duration or 0.0) >= 0.0):
                break
        else:
            return flows
    good = []
    for offset, line in _lines(block):
        try:
            flow = _flows.decode(line)
            _check(flow)
            if flow.duration is not None and flow.duration < 0.0:
                raise msgspec.ValidationError(f"duration is {flow.duration} s, below 0")
        except _BAD as err:
            rejects.add(block.end.path, offset, _reason(line, err), line)
        else:
            good.append(flow)
    return good


def _lines(block: Lines) -> Iterator[tuple[int, bytes]]:
    """Each line that is not blank, with the bytes of plain text before it."""
    offset = block.start.offset
    for line in block.data.split(b"\n"):  # not splitlines, which also cuts at a lone \r
        if line and not line.isspace():
            yield offset, line
        offset += len(line) + 1


def _check(record: Packet | Flow) -> None:
    """Raises ValidationError for values that the types allow but the network does not."""
    if not 0.0 < record.ts < END_OF_TIME:
        raise msgspec.ValidationError(f"ts is {record.ts}, not a time")
    for name, port in (("id.orig_p", record.orig_p), ("id.resp_p", record.resp_p)):
        if not 0 <= port < 65536:
            raise msgspec.ValidationError(f"{name} is {port}, outside 0..65535")


def _reason(line: bytes, err: Exception) -> str:
    if line.startswith(b"#"):
        return "a TSV line where JSON was expected: has a script changed the filter of this log stream?"
    if isinstance(err, RecursionError):
        return "JSON nested too deeply"
    return str(err)
