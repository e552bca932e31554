"""Lines of notice.log (JSON) and alert rows of eve.json to records."""

from __future__ import annotations

from datetime import datetime

import msgspec

from packetclip_sensor.records import Name, OtherAlert, Port, Time
from packetclip_sensor.sources.zeek import in_seconds

OWN_NOTICES = "PacketCLIP::"
"""What Zeek raised of our own verdicts is no second opinion."""
MOST_CHARS = 200
"""Of a name: lines may be a megabyte long, and thousands are kept."""
ROW_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError)
"""What `row` raises of a line that is none."""

_EVE, _ALERT = b'{"timestamp":', b'"event_type":"alert"'
"""Suricata writes no blanks; within a string the quotes would be escaped."""


class _Notice(msgspec.Struct, frozen=True):
    ts: Time
    note: Name
    msg: str = ""
    uid: Name = ""
    orig_h: Name = msgspec.field(name="id.orig_h", default="")
    orig_p: Port = msgspec.field(name="id.orig_p", default=0)
    resp_h: Name = msgspec.field(name="id.resp_h", default="")
    resp_p: Port = msgspec.field(name="id.resp_p", default=0)
    proto: Name = ""
    src: Name = ""
    dst: Name = ""


class _Ends(msgspec.Struct, frozen=True):
    src_ip: Name = ""
    dest_ip: Name = ""
    src_port: Port = 0
    dest_port: Port = 0


class _Signature(msgspec.Struct, frozen=True):
    signature_id: int
    signature: str = ""


class _Row(_Ends, frozen=True):
    timestamp: str = ""
    event_type: str = ""
    proto: Name = ""
    alert: _Signature | None = None
    flow: _Ends = _Ends()
    """Its sides are those of the connection; the row's own are those of the packet."""
    community_id: Name | None = None


_notices, _rows = msgspec.json.Decoder(_Notice), msgspec.json.Decoder(_Row)


def row(line: bytes) -> OtherAlert | None:
    """The record of one line; None where it is another event of Suricata's, a notice of our own, or about no host.

    Raises:
        ROW_ERRORS: it is a line of neither log.
    """
    return _of_suricata(line) if line.startswith(_EVE) else _of_zeek(line)


def _of_suricata(line: bytes) -> OtherAlert | None:
    if _ALERT not in line:
        return None
    found = _rows.decode(line)
    if found.event_type != "alert" or found.alert is None:
        return None
    ends = found.flow if found.flow.src_ip else found
    return OtherAlert(
        ts=datetime.fromisoformat(found.timestamp).timestamp(),
        engine="Suricata",
        rule=str(found.alert.signature_id),
        name=found.alert.signature[:MOST_CHARS],
        orig_h=ends.src_ip,
        orig_p=ends.src_port,
        resp_h=ends.dest_ip,
        resp_p=ends.dest_port,
        proto=found.proto.lower(),
        community_id=found.community_id,
    )


def _of_zeek(line: bytes) -> OtherAlert | None:
    found = _notices.decode(in_seconds(line))
    if found.note.startswith(OWN_NOTICES) or not (found.orig_h or found.src):
        return None
    return OtherAlert(
        ts=found.ts,
        engine="Zeek",
        rule=found.note,
        name=found.msg[:MOST_CHARS],
        orig_h=found.orig_h or found.src,
        orig_p=found.orig_p,
        resp_h=found.resp_h or found.dst,
        resp_p=found.resp_p,
        proto=found.proto,
        uid=found.uid,
    )
