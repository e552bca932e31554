"""What stands in each topic, and which partition a host and a stream belong to.

Two copies of a packet, one for each of its hosts, are enough for all three views: all that a source starts is in its own
partition, all that a destination receives in that host's, and all of a pair in both. Of a pair one of the two judges, chosen by
the pair, so that a busy server's pairs spread over its clients' partitions. The same goes for flow rows, which are evidence.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from struct import Struct
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np

from packetclip_sensor.records import Flow, Packet, Verdict
from packetclip_sensor.windows.windows import Owns

TICK = b"clock"
"""Key of a router's clock among the lines of a host topic."""
ORIGIN = Struct(">?IQI")
"""Key of a line there: whether it is a flow row's, the raw partition, offset and number of the line in the message. Routers send
the lines of a raw partition in their order, so one no later than another that was read came again, however long after."""
REPEATS_S = 60.0
"""What came twice is known so long after the first time, by the partition's clock."""
ALERTER, JUDGE = b"alerter", b"judge"
"""Keys of checkpoints in the state topic; what else stands there are streams of a judge's evidence, by name."""
Place = tuple[str, int]
"""A partition: its topic and number."""


class Topics(NamedTuple):
    """The topics' names."""

    packet: str
    """Lines of packet logs as a shipper sends them; `flow` likewise."""
    flow: str
    host: str
    """Each packet line and flow row in the partitions of its two hosts, and among them the routers' clocks."""
    clock: str
    """The routers' clocks, for each other; one partition."""
    step: str
    """What the judges found; one partition."""
    state: str
    """Checkpoints, compacted: the alerter's in the first partition, then a partition for each of the host topic."""

    @classmethod
    def of(cls, prefix: str) -> Topics:
        """Those that begin with `prefix`."""
        return cls(*(f"{prefix}.{name}" for name in cls._fields))


class Tick(msgspec.Struct, frozen=True, array_like=True):
    """How far a router has come with a partition of raw lines: no line before `clock`, epoch seconds, is to come from it."""

    place: Place
    clock: float


class Row(msgspec.Struct, frozen=True, array_like=True):
    """A line of the flow log for the judges of its hosts."""

    newest: float
    """When the newest row up to it in its log was written, epoch seconds: no judge has them all."""
    line: bytes


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """Where the judge of a partition goes on. The streams of its evidence stand beside it."""

    offset: int
    """From which lines are read again, to rebuild windows."""
    judged: int
    """Last judged second."""
    rows: int
    """Offset before which all flow rows are in the evidence."""
    model_version: str
    read: list[tuple[bool, int, int, int]] = []
    """As ORIGIN, of each raw partition: the last line before `offset`."""


class Seen(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What `alerts/totals.py` counts of a packet, and the second in which it was judged. A tally of the judge's would not do, for
    its hashes are keyed by the episode, which the judge does not know."""

    second: int
    ts: float
    uid: str
    orig_h: str
    resp_h: str
    resp_p: int
    proto: str
    is_orig: bool
    size_bytes: int
    skipped: int

    @staticmethod
    def of(packet: Packet, second: int) -> Seen:
        """A packet as it is counted."""
        return Seen(second, *(getattr(packet, name) for name in Seen.__struct_fields__[1:]))


class Step(msgspec.Struct, frozen=True):
    """What one partition's judge found up to the second `judged`. Where there is much, parts of it come before, with the `judged`
    of the step before; they may come again after a kill."""

    partition: int
    judged: int
    verdicts: list[Verdict]
    numbers: list[int]
    """Of each verdict which one it is of its second in this partition: two windows may have the same packets, and parts that come
    again may be cut elsewhere."""
    seen: list[Seen]
    """Packets of the seconds judged, each in the step of its responder's partition alone."""


def _plain(value: Any) -> Any:
    return [value.shape, value.tobytes()] if isinstance(value, np.ndarray) else value


def _array(kind: type, value: Any) -> Any:
    shape, data = value
    return np.frombuffer(data, np.float32).reshape(shape)


encode = msgspec.msgpack.Encoder(enc_hook=_plain).encode
decode_step = msgspec.msgpack.Decoder(Step, dec_hook=_array).decode
decode_verdict = msgspec.msgpack.Decoder(Verdict, dec_hook=_array).decode
decode_tick = msgspec.msgpack.Decoder(Tick).decode
decode_row = msgspec.msgpack.Decoder(Row).decode
decode_checkpoint = msgspec.msgpack.Decoder(Checkpoint).decode


Record = TypeVar("Record")


class Repeats(Generic[Record]):
    """Leaves out what came before: a shipper sends a block again."""

    def __init__(self, name: Callable[[Record], Hashable], time: Callable[[Record], float]) -> None:
        """What a record is known by, and its time, epoch seconds."""
        self._name, self._time = name, time
        self._seen: set[Hashable] = set()
        self._order: deque[tuple[float, Hashable]] = deque()

    def __call__(self, records: Iterable[Record], clock: float) -> list[Record]:
        """Those that did not come within REPEATS_S of the partition's `clock`."""
        while self._order and self._order[0][0] < clock - REPEATS_S:
            self._seen.discard(self._order.popleft()[1])
        new = []
        for record in records:
            if (name := self._name(record)) not in self._seen:
                self._seen.add(name)
                self._order.append((max(clock, self._time(record)), name))
                new.append(record)
        return new


def repeated_rows() -> Repeats[Flow]:
    """`Repeats` of flow rows."""
    return Repeats(lambda row: (row.uid, row.written, row.final), lambda row: row.written)


def partition_of(host: str, partitions: int) -> int:
    """Where the packets of a host go."""
    return zlib.crc32(host.encode("utf-8", "surrogatepass")) % partitions


def owns(partition: int, partitions: int) -> Owns:
    """Which streams the judge of a partition judges."""

    def mine(view: str, packet: Packet) -> bool:
        if view == "pair":
            pair = sorted((packet.orig_h, packet.resp_h))
            host = pair[zlib.crc32("".join(pair).encode("utf-8", "surrogatepass")) & 1]
        else:
            host = packet.orig_h if view == "source" else packet.resp_h
        return partition_of(host, partitions) == partition

    return mine


class _Wrapped(msgspec.Struct):
    message: str


_wrapped = msgspec.json.Decoder(_Wrapped)


def _tagged(value: bytes) -> bytes:
    return value[max(0, value.find(b"{")) :]


def _message(value: bytes) -> bytes:
    try:
        return _wrapped.decode(value).message.encode()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return value  # who reads it as a line says what is wrong with it


LINES: dict[str, Callable[[bytes], bytes]] = {"line": bytes, "tagged": _tagged, "message": _message}
"""By `kafka.format`: what a shipper put around a log line is taken away. line: nothing; tagged: a tag, time or host before the
line, as syslog has it; message: a JSON object that has the line in its field `message`, as Filebeat and Vector write."""
