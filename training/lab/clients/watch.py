"""Monitoring and failure: pings, checks of hosts and ports, metrics, retries, traces."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

from training.lab.clients.base import RNG, Params, connect, datagram, get, habit, tool
from training.lab.clients.logins import ssh


@habit
async def ping(p: Params) -> None:
    """A few pings, with various sizes and intervals, as a user or a watchdog sends them."""
    bind = ["-I", p["src"]] if p.get("src") else []
    options = [
        "-c",
        RNG.randint(1, p.get("count", 5)),
        "-i",
        RNG.choice([0.2, 0.5, 1]),
        "-s",
        RNG.choice([24, 56, 56, 56, 500, 1200]),
    ]
    await tool("ping", "-n", *bind, *options, RNG.choice(p["hosts"]), limit_s=10)


@habit
async def watchdog(p: Params) -> None:
    """Monitoring of a fleet: one ping each (fping), then the known services' ports, one connection each."""
    await tool("fping", "-q", "-c", "1", "-i", p.get("gap_ms", 10), *p["hosts"], limit_s=8)
    for host, port in p["checks"]:
        with contextlib.suppress(OSError, TimeoutError):
            _, writer = await connect(p, host, port, 1)
            await asyncio.sleep(0.02)
            writer.close()
        await asyncio.sleep(RNG.uniform(0, p.get("gap_s", 0.05)))


@habit
async def scrape(p: Params) -> None:
    """A metrics collector: GET /metrics from every device, all at once."""

    async def one(host: str) -> None:
        reader, writer = await connect(p, host, p["port"], 2)
        await get(reader, writer, host, "metrics")
        writer.close()

    await asyncio.gather(*(one(host) for host in p["hosts"]), return_exceptions=True)


@habit
async def retry(p: Params) -> None:
    """A program whose server is down: tries again and again, to a closed port or an address where nobody lives."""
    for _ in range(p["count"]):
        if p.get("udp"):
            with datagram(p, p["host"]) as sock, contextlib.suppress(OSError):
                sock.connect((p["host"], p["port"]))
                sock.send(os.urandom(60))
        else:
            with contextlib.suppress(OSError, TimeoutError):
                _, writer = await connect(p, p["host"], p["port"], 1)
                writer.close()
        await asyncio.sleep(p["pause"] * RNG.uniform(0.8, 1.2))


@habit
async def knock(p: Params) -> None:
    """Three closed ports in the agreed order, then ssh."""
    for port in p["ports"]:
        with contextlib.suppress(OSError, TimeoutError):
            _, writer = await connect(p, p["host"], port, 0.4)
            writer.close()
        await asyncio.sleep(0.15)
    await ssh(p | {"port": p["ssh_port"]})


@habit
async def trace(p: Params) -> None:
    """traceroute-like: UDP with rising TTL to rising ports."""
    for ttl in range(1, p.get("hops", 8)):
        for _ in range(3):
            with datagram(p, p["host"]) as sock, contextlib.suppress(OSError):
                if ":" not in p["host"]:
                    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
                sock.sendto(bytes(32), (p["host"], 33434 + ttl * 3 + RNG.randrange(3)))
            await asyncio.sleep(0.03)
