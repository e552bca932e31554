"""Sends random bytes as labels of DNS questions, base32, from one socket or from one each.

python3 dnsask.py 10.0.0.2 t.example.net --bytes 4000 --pause 0.1 --kind TXT
"""

import argparse
import base64
import contextlib
import os
import random
import socket
import struct
import time

KINDS = {"A": 1, "TXT": 16, "NULL": 10}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("server")
    parser.add_argument("zone")
    parser.add_argument("--bytes", type=int, default=4000)
    parser.add_argument("--pause", type=float, default=0.1)
    parser.add_argument("--kind", choices=KINDS, default="TXT")
    options = parser.parse_args()
    kept = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    left = options.bytes
    while left > 0:
        size = random.randint(20, 110)
        left -= size
        text = base64.b32encode(os.urandom(size)).decode().rstrip("=").lower()
        labels = [text[i : i + 60] for i in range(0, len(text), 60)] + options.zone.split(".")
        name = b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"
        question = struct.pack(">HHHHHH", random.randrange(65536), 0x0100, 1, 0, 0, 0) + name
        kept.sendto(question + struct.pack(">HH", KINDS[options.kind], 1), (options.server, 53))
        kept.settimeout(0.2)
        with contextlib.suppress(OSError):
            kept.recv(4096)
        time.sleep(options.pause * random.uniform(0.5, 1.5))


if __name__ == "__main__":
    main()
