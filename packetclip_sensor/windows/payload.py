"""What a packet's first bytes say, in words: "HTTP response 401, login refused", "SSH key exchange", "TCP SYN without data".

Protocols are known by their bytes, never by port: ports are masked, and services run anywhere. Words come from fixed lists; of a
payload only verbs of those lists and three-digit codes are repeated, so they are safe in prompts, pages and logs. Training pairs
packets with these words (they say what a packet is, not where it comes from), and alerts give them for evidence packets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from packetclip_sensor.windows import headers
from packetclip_sensor.windows.headers import ACK, FIN, FIRST_FRAGMENT, LATER_FRAGMENT, PSH, RST, SYN, TCP, UDP, URG, Header

HTTP_REQUEST = re.compile(rb"(GET|POST|HEAD|PUT|DELETE|OPTIONS|PATCH|CONNECT|TRACE|PROPFIND|DEBUG|TRACK) (?!sip:|rtsp:)(\S*)")
HTTP_STATUS = re.compile(rb"HTTP/\d\.\d ([1-5]\d\d)\b")
HTTP_HEADER = re.compile(rb"[A-Za-z][A-Za-z0-9-]{0,40}: [^\r\n]{1,200}(\r\n|\Z)")
HTTP_MEANING = {b"401": "login refused", b"403": "forbidden", b"404": "not found", b"400": "bad request", b"408": "timed out"}
HTTP_CLASS = ("", "other", "success", "redirection", "refused", "server error")
PATHS = tuple((re.compile(pattern, re.I), about) for pattern, about in (
    (rb"('|%(25)?27|%3C|<|\bunion\b.{0,20}\bselect\b|(%20|\+)(and|or)(%20|\+)\w{1,12}(=|%3D)"
     rb"|\b(sleep|benchmark|concat|alert|char)(\(|%28)|\bwaitfor\b)", "with an attempt at injection"),
    (rb"(\.\./|%2e%2e|\.\.%2f|/etc/passwd|cmd\.exe|boot\.ini|win\.ini)", "with a path outside the site"),
    (rb"(login|signin|auth(?!or)|admin|account|session)", "for a login"),
    (rb"(/\.|\.(bak|old|php|asp|aspx|jsp|cgi|sql|zip|tar|conf|cfg|ini|env|git|svn)\b|cgi-bin|phpmyadmin|manager)",
     "for a hidden or script file"),
    (rb"\?", "with a query"),
    (rb"\A/\Z", "for the front page"),
    (rb"", "for a page"),
))  # fmt: skip
"""What a path is about: the first pattern that is found, whatever its case."""

REPLY = re.compile(rb"([1-5][0-5]\d)[ -]")
REPLY_MEANING = {
    "150": "transfer begins", "200": "done", "220": "greeting", "221": "goodbye", "226": "transfer done", "227": "passive mode",
    "229": "passive mode", "230": "login accepted", "235": "login accepted", "250": "done", "257": "done",
    "331": "password asked for", "334": "password asked for", "354": "message asked for", "421": "service closing",
    "425": "transfer failed", "426": "transfer failed", "430": "login refused", "450": "refused", "451": "refused",
    "530": "login refused", "535": "login refused",
    **dict.fromkeys(("550", "551", "552", "553", "554"), "refused"),
    **dict.fromkeys(("500", "501", "502", "503", "504"), "not understood"),
}  # fmt: skip
VERBS = (
    b"USER PASS ACCT AUTH EHLO HELO MAIL RCPT QUIT RETR STOR LIST NLST PASV EPSV PORT EPRT TYPE CWD PWD SYST FEAT APOP STAT LOGIN"
)
COMMAND = re.compile(rb"(%s)( [^\r\n]*)?\r?\n" % VERBS.replace(b" ", b"|"), re.I)
IMAP = re.compile(rb"[a-z0-9.]{1,8} (LOGIN |AUTHENTICATE |NO |BAD )", re.I)
REDIS = re.compile(rb"\*\d+\r\n\$")
LINES = {
    b"* ok": "IMAP greeting", b"+ok": "POP answer, accepted", b"-err": "answer, an error", b"-noauth": "answer, login needed",
    b"-wrongpass": "answer, login refused", b"sip/2.0": "SIP answer", b"rtsp/1.0": "RTSP answer",
    b"describe rtsp": "RTSP request", b"options rtsp": "RTSP request", b"options sip": "SIP probe", b"invite sip": "SIP call",
    b"register sip": "SIP registration", b"rfb 0": "VNC greeting",
}  # fmt: skip
DATAGRAMS = {
    b"M-SEARCH": "SSDP search", b"NOTIFY": "SSDP announcement", b"HTTP/1.1 200": "SSDP answer", b"SIP/2.0": "SIP answer",
    b"REGISTER ": "SIP registration", b"INVITE ": "SIP call", b"OPTIONS sip": "SIP probe", b"<": "XML datagram",
}  # fmt: skip
SNMP = re.compile(rb"\x30([\0-\x7f]|\x81.|\x82..)\x02\x01[\0\1\3][\x04\x30]", re.S)
TERMINAL = (
    (re.compile(rb"login incorrect|authentication failed|access denied|bad password"), "terminal says login refused"),
    (re.compile(rb"pass(word|code)?: ?\Z"), "terminal asks for a password"),
    (re.compile(rb"(login|user(name)?): ?\Z"), "terminal asks for a user name"),
)

DNS_TYPES = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 46: "RRSIG", 48: "DNSKEY",
    65: "HTTPS", 255: "ANY",
}  # fmt: skip
DNS_CODES = {0: "", 1: ", format error", 2: ", server failure", 3: ", no such name", 4: ", not implemented", 5: ", refused"}
TLS_RECORDS = {20: "TLS change of cipher", 21: "TLS alert", 23: "TLS encrypted data"}
TLS_HANDSHAKES = {1: "client hello", 2: "server hello", 11: "certificate", 12: "key exchange", 16: "key exchange"}
MQTT_SHORT = {
    b" \2": "MQTT connect acknowledgement", b"\xc0\0": "MQTT ping", b"\xd0\0": "MQTT ping answer", b"\xe0\0": "MQTT disconnect",
}  # fmt: skip
MODBUS_FUNCTIONS = frozenset((*range(1, 9), 11, 12, *range(15, 18), *range(20, 25), 43))
FLAGS = ((SYN, "SYN"), (ACK, "ACK"), (FIN, "FIN"), (RST, "RST"), (PSH, "PSH"), (URG, "URG"))
FLAG_MEANING = {
    2: "a connection asked for", 18: "a connection accepted", 4: "refused or broken off", 20: "refused or broken off",
    16: "an acknowledgement", 17: "an end", 25: "an end", 1: "an odd end",
}  # fmt: skip
UNREACHABLE = {
    4: {0: "network", 1: "host", 2: "protocol", 3: "port", 9: "filtered", 10: "filtered", 13: "filtered"}, 6: {4: "port"},
}  # fmt: skip
ICMP_ASKING = dict.fromkeys((13, 15, 17), "ICMP timestamp, information or mask request")
NEIGHBOURS = dict.fromkeys(range(133, 138), "ICMPv6 neighbour discovery")
ICMP_KINDS = {
    4: {0: "answer to a ping", 11: "ICMP time exceeded", **ICMP_ASKING},
    6: {129: "answer to a ping", 3: "ICMP time exceeded", 143: "ICMPv6 group report", **NEIGHBOURS},
}

PRINTABLE = bytes((9, 10, 13, *range(32, 127)))
COUNTING = bytes(range(256)) * 2
UNKNOWN = ("TCP ", "UDP ", "ICMP", "IP protocol", "ping", "answer to a ping", "later fragment", "no IP header", "empty UDP")


class Content(NamedTuple):
    """What a packet's first bytes hold."""

    head: Header
    words: str


def words(data: bytes) -> str:
    """The content of one packet, from the IP header on; see `contents`."""
    return contents([data])[0].words


def contents(packets: Sequence[bytes]) -> list[Content]:
    """The content of each packet, from the IP header on (at most its first bytes, as Zeek logs them).

    Never fails: bytes that nothing knows are "text", "binary data" or "one repeated byte". Source: RFC 9112, 959, 5321, 4253,
    8446, 1035, 854, 5905, 3416, 7252, 2131, 9000, MQTT 3.1.1 and Modbus over TCP, for the few bytes looked at.
    """
    return [Content(head, _words(data, head)) for data, head in zip(packets, headers.read(packets), strict=True)]


def _words(data: bytes, head: Header) -> str:
    if not head.version or head.fragment == LATER_FRAGMENT:
        return "later fragment of an IP packet" if head.version else "no IP header"
    text, at = f"IP protocol {head.proto}", head.l4
    if head.proto == TCP and head.l4_bytes >= 0:
        text = _tcp(head.flags & 63, data[at + max(head.l4_bytes, 20) :])
    elif head.proto == UDP and head.has_l4:
        text = _udp(data[at + 8 :])
    elif head.icmp_type >= 0:
        text = _icmp(head.icmp_type, data[at + 1], data[at + 8 :], head.version)
    return text + " in a first fragment" if head.fragment == FIRST_FRAGMENT else text


def known(text: str) -> str:
    """The `words` of a packet whose payload is of a known protocol over TCP or UDP, else ""."""
    return "" if text.startswith(UNKNOWN) else text


def _tcp(bits: int, payload: bytes) -> str:
    if not payload:
        named = " ".join(name for bit, name in FLAGS if bits & bit) or "no flags"
        return f"TCP {named} without data, {FLAG_MEANING.get(bits, 'an odd combination')}"
    shape = _shape(payload)
    textual = shape == "text" or payload[0] == 255
    for reader in TEXTS if textual else MIXED if 32 < payload[0] < 127 else BINARIES:
        if found := reader(payload):
            return found
    return "TCP data: " + shape


def _http(p: bytes) -> str:
    if m := HTTP_REQUEST.match(p):
        return f"HTTP {m[1].decode()} request {next(about for pattern, about in PATHS if pattern.search(m[2]))}"
    if m := HTTP_STATUS.match(p):
        return f"HTTP response {m[1].decode()}, {HTTP_MEANING.get(m[1], HTTP_CLASS[m[1][0] - 48])}"
    return "lone HTTP header line, the request goes on" if HTTP_HEADER.match(p) else ""


def _line(p: bytes) -> str:
    if m := REPLY.match(p):
        code = m[1].decode()
        return f"reply {code}, {REPLY_MEANING.get(code, 'other')}"
    if m := COMMAND.match(p):
        return f"command {m[1].decode().upper()}"
    if m := IMAP.match(p):
        return "command LOGIN" if m[1][:1] in b"LlAa" else "IMAP answer, refused"
    return "Redis command" if REDIS.match(p) else _starting(p[:24].lower(), LINES)


def _telnet(p: bytes) -> str:
    options = "Telnet option talk" if p[0] == 255 and len(p) > 2 and 240 <= p[1] <= 254 else ""
    likely, low = TERMINAL[: 3 if b":" in p[-2:] else 1], p.lower()
    return next((meaning for pattern, meaning in likely if pattern.search(low)), options)


def _ssh(p: bytes) -> str:
    if p.startswith(b"SSH-"):
        return "SSH version greeting"
    # An unencrypted packet fills blocks of 8 with its length field, an encrypted one without it.
    blocks = p[:2] == b"\0\0" and len(p) > 6 and p[3] & 7 == 4
    return "SSH key exchange" if blocks and 3 < p[4] < 32 and p[5] in (20, 21, 30, 31, 32, 33, 34) else ""


def _tls(p: bytes) -> str:
    if len(p) < 6 or p[0] not in (20, 21, 22, 23) or p[1] != 3 or p[2] > 4 or p[3] > 0x41:
        return ""
    # An encrypted handshake starts with any byte, but seldom says a length below 64 KiB.
    return TLS_RECORDS.get(p[0]) or "TLS " + TLS_HANDSHAKES.get(p[5] if p[6:7] == b"\0" else 0, "handshake")


def _mqtt(p: bytes) -> str:
    if p[0] == 0x10 and b"MQ" in p[2:12]:
        return "MQTT connect"
    size, kind = len(p), p[0] >> 4
    if size < 2 or p[1] > 127 or size < min(p[1] + 2, 64):
        return ""
    if size < 5:
        return MQTT_SHORT.get(p[:2], "")
    if p[0] == 0x90:
        return "MQTT subscribe acknowledgement" if all(code in (0, 1, 2, 128) for code in p[4:]) else ""
    at = 4 if p[0] == 0x82 else 2
    length = int.from_bytes(p[at : at + 2], "big")
    name = p[at + 2 : at + 2 + length]
    named = (kind == 3 or at == 4) and 0 < length <= p[1] and name and not name.translate(None, PRINTABLE)
    return ("MQTT publish" if kind == 3 else "MQTT subscribe") if named else ""


def _binary(p: bytes) -> str:
    if p[4:8] in (b"\xffSMB", b"\xfeSMB"):
        return "SMB message"
    if p.startswith(b"\x13BitTorrent"):
        return "BitTorrent handshake"
    if p[:2] == b"\x03\x00" and p[5:6] in (b"\xe0", b"\xd0", b"\xf0"):
        return "RDP connection set-up"
    if p[2:5] == b"\0\0\0" and len(p) > 7 and len(p) - 6 <= p[5] and p[7] & 127 in MODBUS_FUNCTIONS:
        return "Modbus message"
    return "MySQL greeting" if p[3:5] == b"\0\x0a" and p[5:6].isdigit() else ""


def _dns_tcp(p: bytes) -> str:
    found = _dns(p[2:]) if len(p) > 18 and int.from_bytes(p[:2], "big") >= len(p) - 2 else ""
    return found and found + " over TCP"


def _udp(p: bytes) -> str:
    if not p:
        return "empty UDP datagram"
    return _dns(p) or _starting(p, DATAGRAMS) or _service(p) or "UDP data: " + _shape(p)


def _service(p: bytes) -> str:
    """Protocols over UDP other than DNS, by their first bytes."""
    size, mode = len(p), p[0] & 7
    # Stratum, poll and precision as RFC 5905 bounds them; chrony hides its precision as 32.
    ntp = 48 <= size <= 68 and (p[0] >> 3) & 7 in (3, 4) and p[1] <= 16 and p[2] <= 17 and (p[3] in (0, 32) or p[3] > 223)
    coap = size < 100 and p[0] >> 6 == 1 and 4 + (p[0] & 15) <= min(size, 12) and p[1] in (0, 1, 2, 3, 4, 65, 68, 69, 132)
    for found, meaning in (
        (ntp and mode == 3, "NTP request"),
        (ntp and mode == 4, "NTP answer"),
        (mode == 7 and size in (8, 12) and p[2] in (2, 3), "NTP monitor request"),
        (p[0] == 0x30 and SNMP.match(p), "SNMP message"),
        (size > 40 and p[:3] == b"\1\1\6", "DHCP request"),
        (size > 40 and p[:3] == b"\2\1\6", "DHCP answer"),
        (size > 20 and p[0] >= 0xC0 and p[1:5] in (b"\0\0\0\1", b"\x6b\x33\x43\xcf"), "QUIC connection set-up"),
        (coap and _shape(p) != "text", "CoAP message"),
    ):
        if found:
            return meaning
    return ""


def _dns(p: bytes) -> str:
    if len(p) < 17 or p[4] or p[5] > 4 or p[2] & 0x70 or p[3] & 0x40 or p[6] > 1 or p[8] > 1 or p[10] > 1:
        return ""
    answer, asks, at, kind = p[2] & 0x80, p[5], 12, "of some type"
    while at < len(p) and 0 < p[at] < 64:
        at += p[at] + 1
    if not p[12:at].isascii() or not (asks or (answer and p[7])):
        return ""
    if asks and at + 5 <= len(p):
        if p[at] or p[at + 3] & 127 or p[at + 4] not in (1, 3, 4, 254, 255):
            return ""
        kind = DNS_TYPES.get(int.from_bytes(p[at + 1 : at + 3], "big"), "of a rare type")
    if not answer:
        return f"DNS query {kind}"
    code = p[3] & 15
    return f"DNS answer {kind}{DNS_CODES.get(code, ', an error')}{'' if code or p[6] or p[7] else ', empty'}"


def _icmp(kind: int, code: int, payload: bytes, version: int) -> str:
    if kind == (8 if version == 4 else 128):
        return f"ping, {_shape(payload) if payload else 'empty'}"
    if kind == (3 if version == 4 else 1):
        return f"ICMP unreachable {UNREACHABLE[version].get(code, 'destination')}"
    return ICMP_KINDS[version].get(kind, "ICMP message of another kind")


def _starting(p: bytes, meanings: dict[bytes, str]) -> str:
    return next((meaning for start, meaning in meanings.items() if p.startswith(start)), "")


def _shape(p: bytes) -> str:
    """What unknown bytes look like."""
    if len(p) > 3 and p.count(p[0]) == len(p):
        return "one repeated byte"
    if len(p.translate(None, PRINTABLE)) <= 0.1 * len(p):
        return "text"
    counting = len(p) > 7 and p[-8:] in COUNTING
    return "counting bytes" if counting else "mostly zeros" if p.count(0) > 0.6 * len(p) else "binary data"


Reader = Callable[[bytes], str]
TEXTS: tuple[Reader, ...] = (_http, _line, _ssh, _telnet, _mqtt)
BINARIES: tuple[Reader, ...] = (_tls, _ssh, _dns_tcp, _mqtt, _binary)
MIXED = (*BINARIES, _http, _line, _telnet)
