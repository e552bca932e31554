"""What is read from logs: lines and their places, packets and flows, and batches of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

Time = Annotated[float, Meta(gt=0.0, lt=1e10)]
"""Epoch seconds. No packet is of the year 2286: its second would be the latest for ever, and every later packet late."""
Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=0, lt=1 << 62)]
"""Numbers are counted in 64 bits."""
Name = Annotated[str, Meta(max_length=256)]
"""What a log line says in words. Lines may be a megabyte long; of thousands of packets held, each must be small."""

_LOG_NAME = re.compile(
    r"packetclip_(packet|flow)(?:(?:\.|__|-).+)?\.log(?:[.-]\d[\w:-]*)?(?:\.(?:gz|xz|bz2|zst|lz4|Z|lz|lzo|zip|7z|rar))?"
)

_EVE_NAME = re.compile(r"eve(?:[.-][\w:-]+)?\.json(?:[.-]\d[\w:-]*)?(?:\.gz)?")
"""Suricata's, by default, with the number of a thread, with a date, and rotated."""


def log_of(name: str) -> str | None:
    """ "packet" or "flow" for the names that our logs have, growing, rotated or packed; None for any other name.

    Suricata's eve.json is a flow log: its rows of flows are read.
    """
    match = _LOG_NAME.fullmatch(name)
    return match[1] if match else "flow" if is_eve(name) else None


def is_eve(name: str) -> bool:
    """Whether a file's name is that of Suricata's event log."""
    return _EVE_NAME.fullmatch(name) is not None


def of_suricata(uid: str) -> bool:
    """Whether a `uid` is a flow id of Suricata, which is a number, and not one of Zeek's, which begin with C."""
    return uid[:1].isdigit()


class Position(msgspec.Struct, frozen=True):
    """A place in one log file from which reading can go on: everything before `offset` has been read.

    `offset` counts bytes of the plain text (unpacked) and always stands after a newline. The file is known by device,
    inode and the SHA-256 of its first `prefix_bytes` plain bytes, so that a renamed or packed file is found again.
    """

    path: str
    device: int
    inode: int
    prefix_bytes: int
    prefix_sha256: str
    offset: int
    source: str = ""
    """The Zeek that wrote the file: the log folder that the site names. All files of a source have one clock."""

    @property
    def log(self) -> str:
        """ "packet" or "flow", as far as the name says: a file with another name is a packet log."""
        return log_of(self.path.rpartition("/")[2]) or "packet"


class Lines(msgspec.Struct, frozen=True):
    """A block of whole lines of one log file, as bytes: `data` ends with a newline. `log` is "packet" or "flow"."""

    log: str
    data: bytes
    start: Position
    end: Position


class Idle(msgspec.Struct, frozen=True):
    """Nothing to read now. `final` is set once, when finite input has ended: every stage then gives out what it holds."""

    final: bool = False
    quiet: tuple[str, ...] = ()
    """Sources whose packet logs have stood at their end for a while."""


class Packet(msgspec.Struct, frozen=True, gc=False):
    """One line of packetclip_packet.log."""

    ts: Time
    uid: Name
    orig_h: Name = msgspec.field(name="id.orig_h")
    orig_p: Port = msgspec.field(name="id.orig_p")
    resp_h: Name = msgspec.field(name="id.resp_h")
    resp_p: Port = msgspec.field(name="id.resp_p")
    proto: Name
    is_orig: bool
    n: Annotated[int, Meta(ge=1, lt=1 << 62)]
    """Index in its connection, from 1."""
    size_bytes: Count = msgspec.field(name="len")
    """Length of the IP packet on the wire."""
    data: bytes
    """The first bytes of the packet, from the IP header on."""
    skipped: Count = 0
    """Connections to this responder that the script left out of the log since the last one it let in (`max_new_connections`)."""
    total_bytes: Count = msgspec.field(name="bytes", default=0)
    """Beyond the connection's first packets, where only a few have a line: its IP bytes so far, both directions; else 0."""
    unasked: bool = False
    """No line says it, `normalize/direction.py` finds it out: the sender only answers, and nobody was seen to ask."""
    begins: bool = False
    """Nor this: the first packet of its connection in a view of the pair, behind answers that stood in none."""

    @property
    def lasting_id(self) -> str:
        """What stands for it in ids that every reading of the same traffic must repeat. Zeek's uids do, by fixed seeds; Suricata
        seeds its flow ids anew at each start, so there it is the packet's own ends and time."""
        if not of_suricata(self.uid):
            return self.uid
        return f"{self.ts:.6f} {self.proto} {self.orig_h} {self.orig_p} {self.resp_h} {self.resp_p}"


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of packetclip_flow.log: conn.log's columns with Zeek's names, and what the texts need. Unset is None, never 0."""

    ts: Time
    uid: Name
    orig_h: Name = msgspec.field(name="id.orig_h")
    orig_p: Port = msgspec.field(name="id.orig_p")
    resp_h: Name = msgspec.field(name="id.resp_h")
    resp_p: Port = msgspec.field(name="id.resp_p")
    proto: Name
    final: bool
    """False for the interim row of a connection that still lives."""
    service: Name | None = None
    duration: Annotated[float, Meta(ge=0.0)] | None = None
    orig_bytes: Count | None = None
    resp_bytes: Count | None = None
    conn_state: Name | None = None
    local_orig: bool | None = None
    local_resp: bool | None = None
    missed_bytes: Count | None = None
    history: Name | None = None
    orig_pkts: Count | None = None
    orig_ip_bytes: Count | None = None
    resp_pkts: Count | None = None
    resp_ip_bytes: Count | None = None
    ip_proto: Count | None = None
    community_id: Name | None = None
    vlan: Count | None = None
    orig_size_mean: float | None = None
    """Mean IP length of the originator's packets, bytes; the next fields likewise, `iat` in seconds."""
    orig_size_std: float | None = None
    resp_size_mean: float | None = None
    resp_size_std: float | None = None
    orig_iat_mean: float | None = None
    orig_iat_std: float | None = None
    resp_iat_mean: float | None = None
    resp_iat_std: float | None = None
    syn: Count | None = None
    """Packets of the connection with this TCP flag, both directions; unset where the protocol is not TCP."""
    ack: Count | None = None
    fin: Count | None = None
    rst: Count | None = None
    psh: Count | None = None
    urg: Count | None = None
    login_attempts: Count | None = None
    """Log-ins tried, so far in an interim row, as far as an analyzer of Zeek sees them; the next of them were refused."""
    login_failures: Count | None = None
    requests: Count | None = None
    """HTTP requests begun; how many of them were not sent to their end, and the most with one method and path."""
    requests_unfinished: Count | None = None
    requests_alike: Count | None = None
    dns_queries: Count | None = None
    """DNS queries, and the distinct names in them, above a few an estimate."""
    dns_names: Count | None = None

    @property
    def written(self) -> float:
        """When Zeek wrote the row: at the connection's end, or at an interim row's time; epoch seconds."""
        return self.ts + (self.duration or 0.0)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of a few blocks of lines of one source, in log order until `normalize` puts them in the order of time.

    `start` and `end` hold, per file of the source, the position before the batch's first and after its last line; where records
    are held back, `end` is before the oldest of these. A batch may be empty: then it says that there is nothing to read (`idle`)
    or that input has ended (`final`).
    """

    packets: list[Packet]
    flows: list[Flow]
    start: tuple[Position, ...] = ()
    end: tuple[Position, ...] = ()
    idle: bool = False
    final: bool = False
    quiet: bool = False
    """The logs have stood at their end for a while: no packet of the last second is to come."""
    source: str = ""
    """As in `Position`."""
    clock: float | None = None
    """Where a clock beside the packets' own says how far event time has come, epoch seconds: no line before it is to come."""
