"""Steady datagrams: cameras, calls, games, flow export."""

import asyncio
import contextlib
import itertools
import socket
import struct

from training.lab.clients.base import RNG, Params, answering, datagram, habit


@habit
async def stream(p: Params) -> None:
    """Steady datagrams: video one way, voice both ways, a game, flow records."""
    loop = asyncio.get_running_loop()
    with datagram(p, p["host"]) as sock:
        if p["host"].startswith("239."):
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 2)
        sock.connect((p["host"], p["port"]))
        until, number = loop.time() + p["seconds"], 0
        while loop.time() < until:
            for _ in range(RNG.randint(1, p.get("burst", 1))):
                number += 1
                size = max(20, int(RNG.gauss(p["size"], p.get("spread", 30))))
                head = struct.pack(">BBHII", 0x80, 96, number & 0xFFFF, number * 3000 & 0xFFFFFFFF, 7)
                with contextlib.suppress(OSError):
                    sock.send(head + RNG.randbytes(min(size, 1400)))
            await asyncio.sleep(1 / p["rate"])


@habit
async def listen(p: Params) -> None:
    """Receive datagrams on a port; echo every `echo`-th, as a call or a receiver report does."""
    seen = itertools.count(1)
    transport = await answering(p, lambda data, _: [data[: p.get("size", 60)]] if next(seen) % p["echo"] == 0 else [])
    await asyncio.sleep(p["seconds"])
    transport.close()
