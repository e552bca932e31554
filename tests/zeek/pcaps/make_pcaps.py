"""Write the small captures of the Zeek tests: one file per thing that a frame or a connection can be.

Everything is made from the standard library and fixed numbers, so the files come out equal every time:
`python tests/zeek/pcaps/make_pcaps.py` in the repository's root writes them beside this script.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

START = 1_700_000_000.0
ETHERNET, NULL, RAW, COOKED = 1, 0, 101, 113
V4A, V4B = "192.0.2.1", "198.51.100.2"
V6A, V6B = "2001:db8::1", "2001:db8::2"
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32

Frame = tuple[float, bytes]
"""Seconds after START, and the frame from the link header on."""


def checksum(data: bytes) -> int:
    """The internet checksum, RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo(src: str, dst: str, proto: int, length: int) -> bytes:
    """The pseudo header of transport checksums."""
    if ":" in src:
        return socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst) + struct.pack("!II", length, proto)
    return socket.inet_aton(src) + socket.inet_aton(dst) + struct.pack("!BBH", 0, proto, length)


def ip4(src: str, dst: str, proto: int, payload: bytes, *, ident: int = 1, fragment: int = 0) -> bytes:
    """An IPv4 packet; `fragment` is the word of flags and offset."""
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), ident, fragment, 64, proto, 0)
    header += socket.inet_aton(src) + socket.inet_aton(dst)
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def ip6(src: str, dst: str, proto: int, payload: bytes) -> bytes:
    """An IPv6 packet."""
    addresses = socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst)
    return struct.pack("!IHBB", 6 << 28, len(payload), proto, 64) + addresses + payload


def ip(src: str, dst: str, proto: int, payload: bytes, *, ident: int = 1) -> bytes:
    """A packet of the version that the addresses ask for."""
    return ip6(src, dst, proto, payload) if ":" in src else ip4(src, dst, proto, payload, ident=ident)


def udp_datagram(src: str, dst: str, ports: tuple[int, int], data: bytes) -> bytes:
    """UDP header and data with the right checksum."""
    length = 8 + len(data)
    head = struct.pack("!HHHH", *ports, length, 0)
    return head[:6] + struct.pack("!H", checksum(pseudo(src, dst, 17, length) + head + data)) + data


def udp(src: str, dst: str, ports: tuple[int, int], data: bytes, *, ident: int = 1) -> bytes:
    """An IP packet with UDP."""
    return ip(src, dst, 17, udp_datagram(src, dst, ports, data), ident=ident)


def tcp(ends: tuple[str, str], ports: tuple[int, int], flags: int, numbers: tuple[int, int], data: bytes = b"") -> bytes:
    """An IP packet with TCP, no options; `numbers` are sequence and acknowledgement."""
    src, dst = ends
    head = struct.pack("!HHIIBBHHH", *ports, *numbers, 5 << 4, flags, 8192, 0, 0)
    total = checksum(pseudo(src, dst, 6, 20 + len(data)) + head + data)
    return ip(src, dst, 6, head[:16] + struct.pack("!H", total) + head[18:] + data)


def echo(src: str, dst: str, reply: bool, seq: int) -> bytes:
    """An ICMP or ICMPv6 echo."""
    v6 = ":" in src
    kind = (129 if reply else 128) if v6 else (0 if reply else 8)
    body = struct.pack("!BBHHH", kind, 0, 0, 7, seq) + b"packetclip echo."
    total = checksum((pseudo(src, dst, 58, len(body)) if v6 else b"") + body)
    return ip(src, dst, 58 if v6 else 1, body[:2] + struct.pack("!H", total) + body[4:])


def ether_type(packet: bytes) -> bytes:
    """The EtherType of an IP packet."""
    return b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"


def ethernet(packet: bytes, tags: bytes = b"") -> bytes:
    """An Ethernet frame, padded to 60 bytes as a network card does; `tags` stand between addresses and type."""
    return (b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01" + tags + ether_type(packet) + packet).ljust(60, b"\xee")


def cooked(packet: bytes) -> bytes:
    """A Linux cooked frame, version 1."""
    return struct.pack("!HHH8s", 0, 1, 6, b"\x02\0\0\0\0\x01\0\0") + ether_type(packet) + packet


def session(client: str, server: str, ports: tuple[int, int], request: bytes, answer: bytes) -> list[bytes]:
    """A TCP connection: handshake, request, answer, FIN from both."""
    there, back = ((client, server), ports), ((server, client), ports[::-1])
    c, s = 1000, 5000
    cs, ss = c + 1 + len(request), s + 1 + len(answer)
    return [
        tcp(*there, SYN, (c, 0)),
        tcp(*back, SYN | ACK, (s, c + 1)),
        tcp(*there, ACK, (c + 1, s + 1)),
        tcp(*there, PSH | ACK, (c + 1, s + 1), request),
        tcp(*back, ACK, (s + 1, cs)),
        tcp(*back, PSH | ACK, (s + 1, cs), answer),
        tcp(*there, FIN | ACK, (cs, ss)),
        tcp(*back, FIN | ACK, (ss, cs + 1)),
        tcp(*there, ACK, (cs + 1, ss + 1)),
    ]


def talk(ports: tuple[int, int], *turns: bytes) -> list[bytes]:
    """A TCP connection of V4A with V4B: handshake, what one side says after the other, the client first, and no end. A turn of no
    bytes is passed over."""
    ends, numbers = (V4A, V4B), [1001, 5001]
    packets = [tcp(ends, ports, SYN, (1000, 0)), tcp(ends[::-1], ports[::-1], SYN | ACK, (5000, 1001))]
    packets.append(tcp(ends, ports, ACK, (1001, 5001)))
    for i, said in enumerate(turns):
        way, side = (-1 if i % 2 else 1), i % 2
        if said:
            packets.append(tcp(ends[::way], ports[::way], PSH | ACK, (numbers[side], numbers[1 - side]), said))
            numbers[side] += len(said)
    return packets


def spaced(frames: Iterable[bytes], gap: float = 0.01, first: float = 0.0) -> list[Frame]:
    """Frames at even distances in time."""
    return [(first + i * gap, frame) for i, frame in enumerate(frames)]


def protocols() -> list[Frame]:
    """TCP, UDP and ICMP over IPv4 and IPv6 on Ethernet, short frames padded."""
    web = (b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n" + b"x" * 200)
    packets = session(V4A, V4B, (40000, 80), *web) + session(V6A, V6B, (40001, 80), *web)
    for a, b in ((V4A, V4B), (V6A, V6B)):
        packets += [udp(a, b, (40002, 9999), b"question"), udp(b, a, (9999, 40002), b"a longer answer")]
        packets += [echo(a, b, False, 1), echo(b, a, True, 1), echo(a, b, False, 2)]
    return spaced(map(ethernet, packets))


def vlan() -> list[Frame]:
    """One tag, two tags, and what else may stand before IP: MPLS and PPPoE."""
    data = udp(V4A, V4B, (1, 9001), b"one tag"), udp(V6A, V6B, (1, 9002), b"one tag, IPv6"), udp(V4A, V4B, (1, 9003), b"two tags")
    mpls, pppoe = udp(V4A, V4B, (1, 9004), b"mpls"), udp(V4A, V4B, (1, 9005), b"pppoe")
    mac = b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01"
    return spaced(
        [
            ethernet(data[0], b"\x81\0\0\x0a"),
            ethernet(data[1], b"\x81\0\0\x0a"),
            ethernet(data[2], b"\x88\xa8\0\x14\x81\0\0\x0a"),
            mac + b"\x88\x47" + struct.pack("!I", 100 << 12 | 1 << 8 | 64) + mpls,
            mac + b"\x88\x64" + struct.pack("!BBHHH", 0x11, 0, 1, len(pppoe) + 2, 0x21) + pppoe,
        ]
    )


def tunnels() -> list[Frame]:
    """IP in IP, GRE, VXLAN, 6in4, and IP in IP whose inner addresses are the outer ones."""
    a, b = "203.0.113.1", "203.0.113.2"
    vxlan = struct.pack("!II", 0x08000000, 42 << 8) + ethernet(udp(V4A, V4B, (1, 9013), b"in vxlan"))
    packets = [
        ip4(a, b, 4, udp(V4A, V4B, (1, 9011), b"in ip")),
        ip4(a, b, 47, b"\0\0\x08\0" + udp(V4A, V4B, (1, 9012), b"in gre")),
        udp(a, b, (5555, 4789), vxlan),
        ip4(a, b, 41, udp(V6A, V6B, (1, 9014), b"in 6in4")),
        ip4(a, b, 4, udp(a, b, (1, 9015), b"same hosts", ident=2)),
    ]
    return spaced(map(ethernet, packets))


def udp_tunnels() -> list[Frame]:
    """What carries packets in UDP: VXLAN both ways, GENEVE, GTP, Teredo, AYIYA; and a datagram to VXLAN's port that is none."""
    a, b = "203.0.113.1", "203.0.113.2"

    def vxlan(inner: bytes) -> bytes:
        return struct.pack("!II", 0x08000000, 42 << 8) + ethernet(inner)

    gtp = udp(V4A, V4B, (1, 9083), b"in gtp")
    six = udp("2001:0:cb00:7101::1", V6B, (1, 9084), b"in teredo")
    ayiya = struct.pack("!BBBBI", 0x41, 0x52, 0x11, 41, 1_700_000_000) + bytes(16) + bytes(20)
    packets = [
        udp(a, b, (50001, 4789), vxlan(udp(V4A, V4B, (40007, 9081), b"asks in vxlan"))),
        udp(b, a, (50002, 4789), vxlan(udp(V4B, V4A, (9081, 40007), b"answers in vxlan"))),
        udp(a, b, (50003, 4789), vxlan(udp(V4A, V4B, (40007, 9081), b"from another port"))),
        udp(a, b, (50004, 6081), struct.pack("!BBHI", 0, 0, 0x6558, 42 << 8) + ethernet(udp(V4A, V4B, (1, 9082), b"in geneve"))),
        udp(a, b, (2152, 2152), struct.pack("!BBHI", 0x30, 0xFF, len(gtp), 7) + gtp),
        udp(a, b, (50005, 3544), six),
        udp(a, b, (50006, 5072), ayiya + udp(V6A, V6B, (1, 9085), b"in ayiya")),
        udp(a, b, (50007, 4789), b"\x0d\x37\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03org\0\0\x01\0\x01"),
    ]
    return spaced(map(ethernet, packets))


def ntp() -> list[Frame]:
    """Time servers on port 123 of both ends: one whose request was not seen, one that was asked."""
    answer, request = b"\x24\x01\0\xec" + bytes(44), b"\x23\0\x06\xec" + bytes(44)
    packets = [udp(V4B, V4A, (123, 123), answer), udp(V4B, V4A, (123, 123), answer)]
    packets += [udp(V6A, V6B, (123, 123), request), udp(V6B, V6A, (123, 123), answer)]
    return spaced(map(ethernet, packets))


def out_of_order() -> list[Frame]:
    """Two datagrams of which the second was captured 5 ms before the first."""
    return [(0.01, ethernet(udp(V4A, V4B, (1, 9091), b"later"))), (0.005, ethernet(udp(V4A, V4B, (2, 9091), b"sooner")))]


def fragments() -> list[Frame]:
    """A datagram in three fragments over IPv4, one in two over IPv6."""
    whole = udp_datagram(V4A, V4B, (1, 9021), bytes(range(64)))
    four = [
        ip4(V4A, V4B, 17, whole[:24], ident=9, fragment=0x2000),
        ip4(V4A, V4B, 17, whole[24:48], ident=9, fragment=0x2003),
        ip4(V4A, V4B, 17, whole[48:], ident=9, fragment=6),
    ]
    whole = udp_datagram(V6A, V6B, (1, 9022), bytes(range(64)))
    six = [
        ip6(V6A, V6B, 44, struct.pack("!BBHI", 17, 0, 1, 77) + whole[:40]),
        ip6(V6A, V6B, 44, struct.pack("!BBHI", 17, 0, 40, 77) + whole[40:]),
    ]
    return spaced(map(ethernet, four + six))


def long() -> list[Frame]:
    """A UDP conversation of 150 packets, half a second apart: past the packet limit and past a minute."""
    ask, answer = udp(V4A, V4B, (40003, 9031), b"tick"), udp(V4B, V4A, (9031, 40003), b"tock tock")
    return spaced([ethernet(answer if i % 3 == 2 else ask) for i in range(150)], gap=0.5)


def flipped() -> list[Frame]:
    """A connection whose first packet seen is the SYN-ACK, on ports that name no server: Zeek swaps the roles later."""
    packets = session(V4A, V4B, (40004, 40005), b"hello there", b"general")[1:]
    return spaced(map(ethernet, packets))


def one_host() -> list[Frame]:
    """A connection of a host with itself, on the BSD loopback link type."""
    family = struct.pack("<I", 2)
    return spaced([family + p for p in session("127.0.0.1", "127.0.0.1", (40006, 9041), b"to myself", b"from myself")])


def new_connections() -> list[Frame]:
    """Twelve UDP connections to one host in 0.6 s, with an answer to each first; two more a second later, and one to another."""
    asks = [(i, udp(V4A, V4B, (41000 + i, 9071), b"ask")) for i in range(14)]
    frames = [(i * 0.05 + (0.6 if i >= 12 else 0.0), ethernet(ask)) for i, ask in asks]
    frames += [(i * 0.05 + 0.02, ethernet(udp(V4B, V4A, (9071, 41000 + i), b"answer"))) for i in range(12)]
    frames.append((0.59, ethernet(udp(V4A, "198.51.100.77", (1, 9072), b"another"))))
    return sorted(frames)


def web_logins() -> list[Frame]:
    """HTTP: 12 posts to one form; credentials refused, taken, asked for, and NTLM's first step; a refused post; a request whose
    headers, and one whose body, never end."""

    def get(more: str = "", end: str = "\r\n") -> bytes:
        return f"GET /admin?t=1 HTTP/1.1\r\nHost: h\r\n{more}{end}".encode()

    def answer(code: int) -> bytes:
        return f"HTTP/1.1 {code} Word\r\nContent-Length: 2\r\n\r\nno".encode()

    post = b"POST /%s HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n%s"
    basic, ntlm = "Authorization: Basic YTpi\r\n", "Authorization: %s %sAAAA\r\n"
    steps = [get(), answer(401), get(basic), answer(401), get(basic), answer(200)]
    steps += [get(ntlm % ("NTLM", "TlRMTVNTUAAB")), answer(401), get(ntlm % ("Negotiate", "YIIC")), answer(401)]
    steps += [get(ntlm % ("NTLM", "TlRMTVNTUAAD")), answer(401), post % (b"api", b"user=a&p=")]
    packets = talk((42000, 80), *[post % (b"login?n=%d" % i, b"p=%07d" % i) if i % 2 == 0 else answer(200) for i in range(24)])
    packets += talk((42001, 80), *steps, answer(403))
    packets += talk((42002, 80), get(end="X-a: 1\r\n"), b"", b"X-b: 2\r\n") + talk((42003, 80), post % (b"form", b"p"))
    return spaced(map(ethernet, packets))


def other_logins() -> list[Frame]:
    """Log-ins refused over FTP (four of five), SMTP, POP3, MySQL, MQTT, VNC and Kerberos; one over RDP; DNS queries."""
    ftp = [b"", b"220 ready\r\n", b"AUTH TLS\r\n", b"530 log in first\r\n"]
    for code in (b"530 no", b"530 no", b"530 no", b"530 no", b"230 in"):
        ftp += [b"USER a\r\n", b"331 password\r\n", b"PASS b\r\n", code + b"\r\n"]
    smtp = [b"", b"220 m ESMTP\r\n", b"EHLO c\r\n", b"250-m\r\n250 AUTH LOGIN\r\n", b"AUTH LOGIN\r\n", b"334 VXNlcg==\r\n"]
    smtp += [b"YQ==\r\n", b"334 UGFzcw==\r\n", b"Yg==\r\n", b"535 5.7.8 no\r\n", b"QUIT\r\n", b"221 bye\r\n"]
    pop = [b"", b"+OK ready\r\n", b"USER a\r\n", b"+OK\r\n", b"PASS b\r\n", b"-ERR no\r\n", b"QUIT\r\n", b"+OK bye\r\n"]

    def mysql(number: int, body: bytes) -> bytes:
        return struct.pack("<I", len(body))[:3] + bytes([number]) + body

    greeting = b"\x0a8.0.1\0" + struct.pack("<I", 7) + b"A" * 8 + b"\0" + struct.pack("<HBHHB", 0xF7FF, 33, 2, 0x81FF, 21)
    hello = struct.pack("<IIB", 0xFA685, 1 << 24, 33) + bytes(23) + b"root\0\x14" + b"B" * 20 + b"mysql_native_password\0"
    sql = [b"", mysql(0, greeting + bytes(10) + b"A" * 12 + b"\0mysql_native_password\0"), mysql(1, hello)]
    sql += [mysql(2, b"\xff" + struct.pack("<H", 1045) + b"#28000Access denied")]
    mqtt = [b"\x10\x13\0\x04MQTT\x04\xc2\0\x3c\0\x01c\0\x01u\0\x01p", b"\x20\x02\0\x05"]
    vnc = [b"", b"RFB 003.008\n", b"RFB 003.008\n", b"\x01\x02", b"\x02", b"C" * 16, b"D" * 16, b"\0\0\0\x01\0\0\0\x02no"]
    rdp = b"\x03\0\0\x2b\x26\xe0\0\0\0\0\0Cookie: mstshash=admin\r\n\x01\0\x08\0\x03\0\0\0"
    packets = talk((42010, 21), *ftp) + talk((42011, 25), *smtp) + talk((42012, 110), *pop) + talk((42013, 3306), *sql)
    packets += talk((42014, 1883), *mqtt) + talk((42015, 5900), *vnc)
    packets += talk((42016, 3389), rdp, b"\x03\0\0\x13\x0e\xd0\0\0\x12\x34\0\x02\x0f\x08\0\x02\0\0\0")
    # KRB-ERROR: version 5, type 30, time of the server, microseconds, error 24, realm, and the server's name.
    error = bytes.fromhex("a003020105a10302011ea411180f32303233313131343232313332305aa505020300ffffa603020118a9031b0152")
    error += bytes.fromhex("aa123010a003020101a10930071b056b72627467")
    kerberos = b"\x7e" + bytes([len(error) + 2]) + b"\x30" + bytes([len(error)]) + error
    packets.append(udp(V4B, V4A, (88, 42017), kerberos))
    for i, name in enumerate((b"a", b"a", b"b", b"c", b"a")):
        query = struct.pack("!6H", i, 0x100, 1, 0, 0, 0) + b"\x01" + name + b"\x07example\0\0\x01\0\x01"
        packets.append(udp(V4A, V4B, (42018, 53), query))
    return spaced(map(ethernet, packets))


def write(path: Path, link_type: int, frames: list[Frame], snap_bytes: int = 65535) -> None:
    """Write a pcap file with microseconds; frames are cut to `snap_bytes`."""
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, snap_bytes, link_type))
        for offset, frame in frames:
            seconds, micro = divmod(round((START + offset) * 1e6), 1_000_000)
            kept = frame[:snap_bytes]
            out.write(struct.pack("<IIII", seconds, micro, len(kept), len(frame)) + kept)


def main() -> int:
    """Write every capture beside this script; exit code 0."""
    here = Path(__file__).parent
    write(here / "protocols.pcap", ETHERNET, protocols())
    write(here / "truncated.pcap", ETHERNET, protocols(), snap_bytes=60)
    write(here / "vlan.pcap", ETHERNET, vlan())
    write(here / "tunnels.pcap", ETHERNET, tunnels())
    write(here / "udp_tunnels.pcap", ETHERNET, udp_tunnels())
    write(here / "ntp.pcap", ETHERNET, ntp())
    write(here / "out_of_order.pcap", ETHERNET, out_of_order())
    write(here / "fragments.pcap", ETHERNET, fragments())
    write(here / "long.pcap", ETHERNET, long())
    write(here / "flipped.pcap", ETHERNET, flipped())
    write(here / "one_host.pcap", NULL, one_host())
    write(here / "new_connections.pcap", ETHERNET, new_connections())
    write(here / "web_logins.pcap", ETHERNET, web_logins())
    write(here / "other_logins.pcap", ETHERNET, other_logins())
    write(
        here / "cooked.pcap",
        COOKED,
        spaced([cooked(udp(V4A, V4B, (1, 9051), b"cooked")), cooked(udp(V6A, V6B, (1, 9052), b"six"))]),
    )
    write(here / "raw.pcap", RAW, spaced([udp(V4A, V4B, (1, 9061), b"raw"), udp(V6A, V6B, (1, 9062), b"six")]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
