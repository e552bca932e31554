"""Rows of Suricata's eve.json to flow records: the only module that knows how EVE spells them.

What Suricata does not say stays unset: bytes of payload, gaps, sizes and times between packets, the site's own networks, log-ins
and requests. A row comes when a flow has ended; verdicts never wait for one.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from packetclip_sensor.records import Flow
from packetclip_sensor.records.addresses import host

MIN_PACKETS = 4
"""Flows of fewer packets are left out, as in the Zeek package: there is nothing in such a row that the packets do not say."""
_FLOW = b'"event_type":"flow"'
"""Stands in each row of a flow, for Suricata writes no blanks; within a string its quotes would be escaped."""

_ETHERNET_BYTES, _VLAN_BYTES = 14, 4
"""Link header in Suricata's byte counts, which no row has."""
_PROTOCOLS = {"TCP": ("tcp", 6), "UDP": ("udp", 17), "ICMP": ("icmp", 1), "IPv6-ICMP": ("icmp", 58)}
_SERVICES = {"tls": "ssl", "dcerpc": "dce_rpc", "krb5": "krb", "failed": None, "unknown": None}
"""Zeek's words for what Suricata calls otherwise."""
_ANSWERS = {1: {8: 0, 13: 14, 15: 16, 17: 18, 10: 9}, 58: {128: 129, 133: 134, 135: 136, 139: 140, 130: 131, 144: 145}}
"""ICMP types and the types of their answers, which Zeek has in place of the responder's port."""
_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10

ROW_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError)
"""What `flow` raises of a row that is none."""


class _Counts(msgspec.Struct, frozen=True):
    start: str
    end: str
    pkts_toserver: int = 0
    pkts_toclient: int = 0
    bytes_toserver: int = 0
    bytes_toclient: int = 0


class _Tcp(msgspec.Struct, frozen=True):
    tcp_flags_ts: str = "0"
    tcp_flags_tc: str = "0"


class _Row(msgspec.Struct, frozen=True):
    event_type: str
    flow_id: int
    src_ip: str
    dest_ip: str
    proto: str
    flow: _Counts
    src_port: int = 0
    dest_port: int = 0
    icmp_type: int = 0
    icmp_code: int = 0
    app_proto: str | None = None
    tcp: _Tcp | None = None
    vlan: list[int] = []
    community_id: str | None = None


_rows = msgspec.json.Decoder(_Row)


def flow(line: bytes) -> Flow | None:
    """The record of one line; None where it is another event, or a flow too short to say anything.

    Raises:
        ROW_ERRORS: it is no row of eve.json, or one of its values is none.
    """
    if _FLOW not in line:
        return None
    row = _rows.decode(line)
    counts = row.flow
    if row.event_type != "flow" or counts.pkts_toserver + counts.pkts_toclient < MIN_PACKETS:
        return None
    proto, number = _PROTOCOLS.get(row.proto, ("unknown_transport", None))
    orig_p, resp_p = row.src_port, row.dest_port
    if proto == "icmp" and number is not None:
        orig_p, resp_p = row.icmp_type, _ANSWERS[number].get(row.icmp_type, row.icmp_code)
    start, end = (datetime.fromisoformat(text).timestamp() for text in (counts.start, counts.end))
    link = _ETHERNET_BYTES + _VLAN_BYTES * len(row.vlan)
    made = Flow(
        ts=start,
        uid=str(row.flow_id),
        orig_h=_address(row.src_ip),
        orig_p=orig_p,
        resp_h=_address(row.dest_ip),
        resp_p=resp_p,
        proto=proto,
        final=True,
        service=_SERVICES.get(row.app_proto, row.app_proto) if row.app_proto else None,
        duration=max(round(end - start, 6), 0.0),
        conn_state=_state(proto, counts, row.tcp),
        orig_pkts=counts.pkts_toserver,
        orig_ip_bytes=max(counts.bytes_toserver - link * counts.pkts_toserver, 0),
        resp_pkts=counts.pkts_toclient,
        resp_ip_bytes=max(counts.bytes_toclient - link * counts.pkts_toclient, 0),
        ip_proto=number,
        community_id=row.community_id,
        vlan=row.vlan[0] if row.vlan else None,
    )
    return msgspec.convert(msgspec.to_builtins(made), Flow)  # which checks the bounds


def _address(text: str) -> str:
    return host(text) if ":" in text else text


def _state(proto: str, counts: _Counts, tcp: _Tcp | None) -> str | None:
    """conn.log's word for how a connection ended, as far as counts and the flags of both sides show: not in which order."""
    answered = counts.pkts_toclient > 0
    if proto == "udp":
        return "SF" if answered else "S0"
    if proto != "tcp" or tcp is None:
        return "OTH"
    orig, resp = int(tcp.tcp_flags_ts, 16), int(tcp.tcp_flags_tc, 16)
    words: dict[str, object]
    if orig & _SYN and resp & _SYN:
        words = {"SF": orig & resp & _FIN, "RSTO": orig & _RST, "RSTR": resp & _RST, "S2": orig & _FIN, "S3": resp & _FIN}
        words |= {"S1": orig & _ACK, "S0": True}
    elif orig & _SYN:
        words = {"REJ": resp & _RST, "RSTOS0": orig & _RST, "SH": orig & _FIN, "S0": not answered}
    else:
        words = {"RSTRH": resp & _SYN and resp & _RST, "SHR": resp & _SYN and resp & _FIN}
    return next((word for word, holds in words.items() if holds), "OTH")
