"""Monitoring and failure: pings, checks of hosts and ports, metrics, retries, traces."""

import asyncio
import contextlib
import os
import socket

from training.lab.clients.base import RNG, Params, connect, datagram, fetch, habit, tool, touch
from training.lab.clients.logins import ssh


@habit
async def ping(p: Params) -> None:
    """A few pings, with various sizes and intervals, as a user or a watchdog sends them."""
    bind = ["-I", p["src"]] if p.get("src") else []
    pace = ("-c", RNG.randint(1, p.get("count", 5)), "-i", RNG.choice([0.2, 0.5, 1]))
    options = (*pace, "-s", RNG.choice([24, 56, 56, 56, 500, 1200]))
    await tool("ping", "-n", *bind, *options, RNG.choice(p["hosts"]), limit_s=10)


@habit
async def watchdog(p: Params) -> None:
    """Monitoring of a fleet: one ping each (fping), then the known services' ports, one connection each."""
    await tool("fping", "-q", "-c", "1", "-i", p.get("gap_ms", 10), *p["hosts"], limit_s=8)
    for host, port in p["checks"]:
        await touch(p, host, port, 1, stay_s=0.02)
        await asyncio.sleep(RNG.uniform(0, p.get("gap_s", 0.05)))


@habit
async def scrape(p: Params) -> None:
    """A metrics collector: GET /metrics from every device, all at once."""
    asked = (fetch(p, host, p["port"], "metrics", limit_s=2) for host in p["hosts"])
    await asyncio.gather(*asked, return_exceptions=True)


@habit
async def retry(p: Params) -> None:
    """A program whose server is down: tries again and again, to a closed port or an address where nobody lives.

    It gives up after `wait` seconds; the kernel sends its SYN again after 1, 3 and 7.
    """
    for _ in range(p["count"]):
        if p.get("udp"):
            with contextlib.suppress(OSError), datagram(p, p["host"], p["port"]) as sock:
                sock.send(os.urandom(60))
        else:
            await touch(p, p["host"], p["port"], p.get("wait", 1))
        await asyncio.sleep(p["pause"] * RNG.uniform(0.8, 1.2))


@habit
async def knock(p: Params) -> None:
    """Three closed ports in the agreed order, then ssh."""
    for port in p["ports"]:
        await touch(p, p["host"], port, 0.4)
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


@habit
async def trace_route(p: Params) -> None:
    """traceroute by UDP, ICMP or TCP SYN, to a neighbour or far beyond the router, which keeps silent."""
    way = RNG.choice([[], ["-I"], ["-T", "-p", "443"], ["-U", "-p", "53"]])
    await tool("traceroute", "-n", *way, "-m", p["hops"], "-w", "0.6", "-q", p["each"], "-N", p["each"], p["host"], limit_s=15)


@habit
async def check_ports(p: Params) -> None:
    """A monitoring system: a connection to each port of each host, all at once or in turn, some of them known to be closed."""

    async def one(host: str, port: int) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await connect(p, host, port, 2)
            if p.get("banner"):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(100), 0.3)
            writer.close()

    if p["together"]:
        await asyncio.gather(*(one(host, port) for host, port in p["checks"]))
        return
    for host, port in p["checks"]:
        await one(host, port)
        await asyncio.sleep(RNG.uniform(0, p["pause"]))


@habit
async def health(p: Params) -> None:
    """A load balancer's question to its server, each second on a new connection."""
    for _ in range(p["count"]):
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            await fetch(p, p["host"], p["port"], p.get("path", "s0.txt"), "Connection: close\r\n", limit_s=1)
        await asyncio.sleep(p["pause"])


@habit
async def idle(p: Params) -> None:
    """Connections without a word for a long time, which TCP's keep-alive holds open: a shell, a broker, a database."""

    async def one() -> None:
        _, writer = await connect(p, p["host"], p["port"])
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, p["beat"])
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, p["beat"])
        await asyncio.sleep(p["seconds"])
        writer.close()

    await asyncio.gather(*(one() for _ in range(p["count"])), return_exceptions=True)
