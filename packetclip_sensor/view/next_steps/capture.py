"""The evidence packets of an alert as a capture that Wireshark, tshark, tcpdump and Zeek open.

It holds the bytes of the document and no others: what `evidence_bytes` masked is zeros here too, and what it cut is missing, as
if the capture had been made with a short snap length. Each packet's comment says its weight and why.
"""

from __future__ import annotations

import struct

from packetclip_sensor.common.text import printable
from packetclip_sensor.view.document_access import Document, data, number, objects, text, when

RAW_IP = 101
"""LINKTYPE_RAW: packets begin with their IPv4 or IPv6 header."""
_COMMENT, _END = 1, b"\0\0\0\0"


def capture(document: Document) -> bytes:
    """A pcapng of the evidence packets of which the document holds bytes, in the order of time; empty where there are none.

    Source: draft-ietf-opsawg-pcapng, section 4.
    """
    packets = sorted((item for item in objects(document, "packetclip.evidence") if data(item)), key=lambda item: when(item, "ts"))
    if not packets:
        return b""
    title = f"{text(document, 'message')} (packetclip {text(document, 'event.id')})"
    section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _comment(title)
    return _block(0x0A0D0D0A, section) + _block(1, struct.pack("<HHI", RAW_IP, 0, 0)) + b"".join(map(_packet, packets))


def _packet(item: Document) -> bytes:
    raw, micros = data(item), max(0, round(when(item, "ts") * 1e6))
    sizes = len(raw), max(len(raw), min(int(number(item, "size_bytes")), 0xFFFFFFFF))
    masked = f"; {number(item, 'masked_bytes'):,.0f} bytes are masked or left out" * (number(item, "masked_bytes") > 0)
    words = f"{number(item, 'weight'):+.2f} {text(item, 'reason')}; packet {number(item, 'n'):.0f} of {text(item, 'uid')}{masked}"
    return _block(6, struct.pack("<IIIII", 0, micros >> 32, micros & 0xFFFFFFFF, *sizes) + _padded(raw) + _comment(words))


def _comment(words: str) -> bytes:
    said = printable(words, 1000).encode("utf-8")
    return struct.pack("<HH", _COMMENT, len(said)) + _padded(said) + _END


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


def _padded(raw: bytes) -> bytes:
    return raw + bytes(-len(raw) % 4)
