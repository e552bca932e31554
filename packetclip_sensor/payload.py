"""What a packet's first bytes say, in words: "HTTP response 401, login refused", "SSH key exchange", "TCP SYN without data".

Protocols are known by their bytes, never by port: ports are masked, and services run anywhere. Words come from a fixed list; nothing
of the payload is ever copied into them, so they are safe in prompts, pages and logs. Training pairs packets with these words
(they say what a packet is, not where it comes from), and alerts give them as the content of an evidence packet.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from packetclip_sensor.tokens import ICMP, ICMP6, TCP, UDP

HTTP_REQUEST = re.compile(rb"(GET|POST|HEAD|PUT|DELETE|OPTIONS|PATCH|CONNECT|TRACE|PROPFIND|DEBUG|TRACK) (\S*)")
HTTP_STATUS = re.compile(rb"HTTP/\d\.\d (\d{3})")
HTTP_HEADER = re.compile(rb"[A-Za-z][A-Za-z0-9-]{0,40}: [^\r\n]{0,200}(\r\n|$)")
REPLY = re.compile(rb"(\d{3})[ -]")
COMMAND = re.compile(
    rb"(USER|PASS|ACCT|AUTH|EHLO|HELO|MAIL|RCPT|QUIT|RETR|STOR|LIST|NLST|PASV|EPSV|PORT|TYPE|CWD|PWD|SYST|FEAT|APOP|STAT|LOGIN)\b",
    re.I,
)
INJECTION = re.compile(rb"('|%27|%22|%3C|<|\bUNION\b|\bSELECT\b|%20AND%20|%20OR%20|\bsleep\b|\bwaitfor\b|\(|%28)", re.I)
TRAVERSAL = re.compile(rb"(\.\./|%2e%2e|\.\.%2f|/etc/passwd|cmd\.exe|boot\.ini|win\.ini)", re.I)
LOGIN_PATH = re.compile(rb"(login|signin|auth|admin|account|session|wp-login)", re.I)
HIDDEN_PATH = re.compile(
    rb"(/\.|\.(bak|old|php|asp|aspx|jsp|cgi|sql|zip|tar|conf|cfg|ini|env|git|svn)\b|cgi-bin|phpmyadmin|manager)", re.I
)

HTTP_MEANING = {"401": "login refused", "403": "forbidden", "404": "not found", "400": "bad request", "408": "timed out"}
REPLY_MEANING = {
    "220": "greeting", "331": "password asked for", "334": "password asked for", "230": "login accepted", "235": "login accepted",
    "530": "login refused", "535": "login refused", "430": "login refused", "221": "goodbye", "421": "service closing",
    "250": "done", "226": "transfer done", "150": "transfer begins", "550": "refused", "200": "done", "227": "passive mode", "229": "passive mode",
}  # fmt: skip
DNS_TYPES = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    12: "PTR",
    15: "MX",
    16: "TXT",
    28: "AAAA",
    33: "SRV",
    46: "RRSIG",
    48: "DNSKEY",
    65: "HTTPS",
    255: "ANY",
}
DNS_CODES = {0: "", 1: ", format error", 2: ", server failure", 3: ", no such name", 5: ", refused"}
TLS_HANDSHAKES = {1: "client hello", 2: "server hello", 11: "certificate", 12: "key exchange", 16: "key exchange"}
MQTT_PACKETS = {
    1: "connect",
    2: "connect acknowledgement",
    3: "publish",
    8: "subscribe",
    9: "subscribe acknowledgement",
    12: "ping",
    13: "ping answer",
    14: "disconnect",
}
FLAGS = ((2, "SYN"), (16, "ACK"), (1, "FIN"), (4, "RST"), (8, "PSH"), (32, "URG"))
UNREACHABLE = {0: "network", 1: "host", 2: "protocol", 3: "port", 9: "filtered", 10: "filtered", 13: "filtered"}


@lru_cache(maxsize=65_536)
def words(data: bytes) -> str:
    """The content of a packet, from the IP header on (at most its first bytes, as Zeek logs them).

    Never fails: bytes that nothing knows are "text", "binary data" or "one repeated byte". Source: RFC 9112, 959, 5321, 4253, 8446,
    1035, 854, 5905, 3416, 7252, 2131, 9000 and MQTT 3.1.1, for the few bytes looked at.
    """
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= 20:
        proto, at = data[9], max((data[0] & 15) * 4, 20)
        if (data[6] & 0x1F) << 8 | data[7]:
            return "later fragment of an IP packet"
        fragmented = " in a first fragment" if data[6] & 0x20 else ""
    elif version == 6 and len(data) >= 40:
        proto, at, fragmented = data[6], 40, ""
    else:
        return "no IP header"
    if proto == TCP and len(data) >= at + 14:
        return _tcp(data, at) + fragmented
    if proto == UDP and len(data) >= at + 8:
        return _udp(data[at + 8 :]) + fragmented
    if proto == (ICMP if version == 4 else ICMP6) and len(data) >= at + 8:
        return _icmp(data[at], data[at + 1], data[at + 8 :], version) + fragmented
    return f"IP protocol {proto}{fragmented}"


def _tcp(data: bytes, at: int) -> str:
    bits = data[at + 13] & 63
    payload = data[at + max((data[at + 12] >> 4) * 4, 20) :]
    if not payload:
        named = " ".join(name for bit, name in FLAGS if bits & bit) or "no flags"
        meaning = {
            2: ", a connection asked for",
            18: ", a connection accepted",
            4: ", refused or broken off",
            20: ", refused or broken off",
            16: ", an acknowledgement",
            17: ", an end",
            1: ", an odd end",
        }
        return f"TCP {named} without data{meaning.get(bits, ', an odd combination')}"
    for reader in (_http, _ssh, _tls, _line, _telnet, _mqtt, _binary):
        if found := reader(payload):
            return found
    if len(payload) > 2 + 12 and (found := _dns(payload[2:])) and int.from_bytes(payload[:2], "big") >= 17:
        return found + " over TCP"
    return "TCP data: " + _shape(payload)


def _http(p: bytes) -> str:
    if m := HTTP_REQUEST.match(p):
        path = m[2]
        about = (
            "with an attempt at injection" if INJECTION.search(path)
            else "with a path outside the site" if TRAVERSAL.search(path)
            else "for a login" if LOGIN_PATH.search(path)
            else "for a hidden or script file" if HIDDEN_PATH.search(path)
            else "with a query" if b"?" in path
            else "for the front page" if path == b"/"
            else "for a page"
        )  # fmt: skip
        return f"HTTP {m[1].decode()} request {about}"
    if m := HTTP_STATUS.match(p):
        code = m[1].decode()
        return f"HTTP response {code}, {HTTP_MEANING.get(code) or {'2': 'success', '3': 'redirection', '4': 'refused', '5': 'server error'}.get(code[0], 'other')}"
    if HTTP_HEADER.match(p):
        return "lone HTTP header line, the request goes on"
    return ""


def _ssh(p: bytes) -> str:
    if p.startswith(b"SSH-"):
        return "SSH version greeting"
    if len(p) > 6 and p[:2] == b"\0\0" and p[5] in (20, 21, 30, 31, 32, 33, 34) and 3 < p[4] < 32:
        return "SSH key exchange"
    return ""


def _tls(p: bytes) -> str:
    if len(p) >= 6 and 20 <= p[0] <= 23 and p[1] == 3 and p[2] <= 4:
        if p[0] == 22:
            return f"TLS {TLS_HANDSHAKES.get(p[5], 'handshake')}"
        return {20: "TLS change of cipher", 21: "TLS alert", 23: "TLS encrypted data"}[p[0]]
    return ""


def _line(p: bytes) -> str:
    if m := REPLY.match(p):
        code = m[1].decode()
        return f"reply {code}, {REPLY_MEANING.get(code, 'other')}" if code[0] in "12345" else ""
    if m := COMMAND.match(p):
        return f"command {m[1].decode().upper()}"
    head = p[:24].lower()
    for start, meaning in (
        (b"* ok", "IMAP greeting"), (b"+ok", "POP answer, accepted"), (b"-err", "answer, an error"), (b"sip/2.0", "SIP answer"),
        (b"rtsp/1.0", "RTSP answer"), (b"describe rtsp", "RTSP request"), (b"options rtsp", "RTSP request"), (b"rfb 0", "VNC greeting"),
        (b"\x13bittorrent", "BitTorrent handshake"), (b"-noauth", "answer, login needed"), (b"-wrongpass", "answer, login refused"),
    ):  # fmt: skip
        if head.startswith(start):
            return meaning
    if re.match(rb"\*\d+\r\n\$", p):
        return "Redis command"
    if re.match(rb"[a-z0-9]{1,8} (no|bad) ", p, re.I):
        return "IMAP answer, refused"
    return ""


def _telnet(p: bytes) -> str:
    low = p.lower()
    if b"login incorrect" in low or b"authentication failed" in low or b"access denied" in low or b"bad password" in low:
        return "terminal says login refused"
    if re.search(rb"pass(word|code)?: ?$", low):
        return "terminal asks for a password"
    if re.search(rb"(login|user(name)?): ?$", low):
        return "terminal asks for a user name"
    return "Telnet option talk" if p[:1] == b"\xff" and len(p) > 2 and 240 <= p[1] <= 254 else ""


def _mqtt(p: bytes) -> str:
    if p[0] == 0x10 and b"MQ" in p[2:12]:
        return "MQTT connect"
    kind = p[0] >> 4
    if kind in MQTT_PACKETS and len(p) >= 2 and len(p) == p[1] + 2 and (kind != 3 or len(p) > 6):
        return f"MQTT {MQTT_PACKETS[kind]}"
    return ""


def _binary(p: bytes) -> str:
    for test, meaning in (
        (lambda: p[4:8] in (b"\xffSMB", b"\xfeSMB"), "SMB message"),
        (lambda: p[:2] == b"\x03\x00" and len(p) > 6 and p[5] in (0xE0, 0xD0, 0xF0), "RDP connection set-up"),
        (lambda: len(p) > 5 and p[3] == 0 and p[4] == 10 and p[5:6].isdigit(), "MySQL greeting"),
        (
            lambda: len(p) > 7 and p[2:4] == b"\0\0" and int.from_bytes(p[4:6], "big") == len(p) - 6 and len(p) < 260,
            "Modbus message",
        ),
    ):
        if test():
            return meaning
    return ""


def _udp(p: bytes) -> str:
    if not p:
        return "empty UDP datagram"
    if found := _dns(p):
        return found
    if len(p) < 4:
        return "UDP data: " + _shape(p)
    if len(p) >= 48 and p[0] & 7 in (3, 4) and (p[0] >> 3) & 7 in (3, 4) and len(p) <= 68:
        return "NTP request" if p[0] & 7 == 3 else "NTP answer"
    if p[0] & 7 == 7 and len(p) in (8, 12):
        return "NTP monitor request"
    if (p[0] == 0x30 and len(p) > 10 and p[2] == 2) or p[:2] in (b"\x30\x81", b"\x30\x82"):
        return "SNMP message"
    if p[0] in (1, 2) and p[1] == 1 and p[2] == 6 and len(p) > 40:
        return "DHCP request" if p[0] == 1 else "DHCP answer"
    for start, meaning in (
        (b"M-SEARCH", "SSDP search"), (b"NOTIFY", "SSDP announcement"), (b"HTTP/1.1 200", "SSDP answer"), (b"SIP/2.0", "SIP answer"),
        (b"REGISTER ", "SIP registration"), (b"INVITE ", "SIP call"), (b"OPTIONS sip", "SIP probe"), (b"<", "XML datagram"),
    ):  # fmt: skip
        if p.startswith(start):
            return meaning
    if p[0] & 0xC0 == 0xC0 and len(p) > 20 and p[1:5] in (b"\0\0\0\1", b"\x6b\x33\x43\xcf"):
        return "QUIC connection set-up"
    if p[0] >> 6 == 1 and p[0] & 15 <= 8 and len(p) < 100 and p[1] in (1, 2, 3, 4, 65, 68, 69, 132, 0):
        return "CoAP message"
    return "UDP data: " + _shape(p)


def _dns(p: bytes) -> str:
    if len(p) < 17 or p[4] or p[5] > 4 or p[2] & 0x70 or p[3] & 0x70:
        return ""
    at = 12
    while at < len(p) and p[at]:
        if p[at] > 63:
            return ""
        at += p[at] + 1
    if p[5] == 0 and p[7] == 0:
        return ""
    kind = (
        DNS_TYPES.get(int.from_bytes(p[at + 1 : at + 3], "big"), "of a rare type")
        if p[5] and at + 3 <= len(p)
        else "of some type"
    )
    if p[2] & 0x80:
        return f"DNS answer {kind}{DNS_CODES.get(p[3] & 15, ', an error')}{', empty' if not (p[3] & 15 or p[6] or p[7]) else ''}"
    return f"DNS query {kind}"


def _icmp(kind: int, code: int, payload: bytes, version: int) -> str:
    if kind in (8, 128):
        return f"ping, {_shape(payload) if payload else 'empty'}"
    if kind in (0, 129):
        return "answer to a ping"
    if kind == 3 and version == 4:
        return f"ICMP unreachable {UNREACHABLE.get(code, 'destination')}"
    if kind == 1 and version == 6:
        return f"ICMP unreachable {'port' if code == 4 else 'destination'}"
    if kind in (11,) or (kind == 3 and version == 6):
        return "ICMP time exceeded"
    if kind in (13, 15, 17):
        return "ICMP timestamp, information or mask request"
    return "ICMPv6 neighbour discovery" if version == 6 and 133 <= kind <= 137 else "ICMP message of another kind"


def _shape(p: bytes) -> str:
    """What unknown bytes look like."""
    if len(p) > 3 and len(set(p)) == 1:
        return "one repeated byte"
    printable = sum(32 <= b < 127 or b in (9, 10, 13) for b in p)
    if printable >= 0.9 * len(p):
        return "text"
    if len(p) > 7 and all((b - a) % 256 == 1 for a, b in zip(p[-8:], p[-7:], strict=False)):
        return "counting bytes"
    return "mostly zeros" if p.count(0) > 0.6 * len(p) else "binary data"


Reader = Callable[[bytes], str]
