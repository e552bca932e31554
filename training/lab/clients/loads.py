"""Servers and networks with much to do: resolvers and time servers at hundreds of requests a second, peers, load balancers."""

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from training.lab.clients.base import RNG, Params, answering, connect, datagram, habit, tool
from training.lab.clients.names import query

HANDSHAKE = b"\x13BitTorrent protocol" + bytes(5) + b"\x10\0\5"


async def _paced(p: Params, once: object) -> None:
    """Call `once` `rate` times a second for `seconds`, without waiting for its end."""
    assert callable(once)
    until, running = time.monotonic() + p["seconds"], set[asyncio.Task[None]]()
    while time.monotonic() < until:
        task = asyncio.create_task(once())
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(RNG.expovariate(p["rate"]))


@habit
async def resolver_load(p: Params) -> None:
    """All that a network's hosts ask a resolver, or what a resolver asks another: few names often, many seldom.

    A new port for each question, or, with `kept`, one socket for each source.
    """
    loop = asyncio.get_running_loop()
    kept = {src: datagram({"src": src}, p["host"]) for src in p["sources"]} if p["kept"] else {}

    async def once() -> None:
        src = RNG.choice(p["sources"])
        name = f"w{min(59, int(RNG.paretovariate(0.7)) - 1)}.{RNG.choice(p['zones'])}"
        sock = kept.get(src) or datagram({"src": src}, p["host"])
        with contextlib.suppress(OSError, TimeoutError):
            await loop.sock_sendto(sock, query(name, RNG.choice([1, 1, 28])), (p["host"], 53))
            await asyncio.wait_for(loop.sock_recv(sock, 4096), 1)
        if not kept:
            sock.close()

    await _paced(p, once)
    for sock in kept.values():
        sock.close()


@habit
async def time_load(p: Params) -> None:
    """All the clients of a time server, each question from a port of its own or from 123, some hundred a second."""
    loop = asyncio.get_running_loop()

    async def once() -> None:
        with contextlib.suppress(OSError, TimeoutError), datagram({"src": RNG.choice(p["sources"])}, p["host"]) as sock:
            asked = RNG.choice([b"\x23", b"\x1b", b"\xe3"]) + bytes(39) + os.urandom(8)
            await loop.sock_sendto(sock, asked, (p["host"], 123))
            await asyncio.wait_for(loop.sock_recv(sock, 200), 1)

    await _paced(p, once)


@habit
async def share_files(p: Params) -> None:
    """A file-sharing client: a DHT that is asked about peers (BEP 5), and connections to all of them, of whom most are gone.

    Pieces go from and to those that answer (BEP 3). Listens itself on `port`, TCP and UDP.
    """
    me, torrent = b"-LB2000-" + os.urandom(12), bytes.fromhex(p["torrent"])

    def nodes(data: bytes, _: object) -> Iterator[bytes]:
        if b"1:y1:q" in data:
            yield b"d1:rd2:id20:" + me + b"5:nodes208:" + os.urandom(208) + b"e1:t2:aa1:y1:re"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readexactly(68)
            writer.write(HANDSHAKE + torrent + me + b"\0\0\0\x09\5" + os.urandom(8) + b"\0\0\0\1\1")
            while True:
                asked = await reader.readexactly(int.from_bytes(await reader.readexactly(4)))
                if asked[:1] == b"\6":
                    writer.write((9 + 16384).to_bytes(4) + b"\7" + asked[1:9] + os.urandom(16384))
                    await writer.drain()
        writer.close()

    async def fetch(host: str, port: int) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            reader, writer = await connect(p, host, port, 3)
            writer.write(HANDSHAKE + torrent + me + b"\0\0\0\1\2")
            await asyncio.wait_for(reader.readexactly(68), 3)
            for piece in range(RNG.randint(1, p["pieces"])):
                writer.write(b"\0\0\0\x0d\6" + piece.to_bytes(4) + bytes(4) + (16384).to_bytes(4))
                await asyncio.wait_for(reader.read(16384), 5)
                await asyncio.sleep(RNG.expovariate(20))
            writer.close()

    server, table = await asyncio.start_server(serve, p["src"], p["port"]), await answering(p, nodes)
    begun, running = time.monotonic(), set[asyncio.Task[None]]()
    while time.monotonic() - begun < p["seconds"]:
        for host, port in [*p["near"], *RNG.sample(p["gone"], min(len(p["gone"]), RNG.randint(1, p["most"])))]:
            asked = b"d1:ad2:id20:" + me + b"9:info_hash20:" + torrent + b"e1:q9:get_peers1:t2:aa1:y1:qe"
            with contextlib.suppress(OSError):
                table.sendto(asked, (host, port))
            if RNG.random() < 0.5:
                running.add(asyncio.create_task(fetch(host, port)))
        await asyncio.sleep(RNG.expovariate(1 / p["pause"]))
    for task in running:
        task.cancel()
    table.close()
    server.close()


@habit
async def balance(p: Params) -> None:
    """haproxy, which asks every backend each `every_s` seconds whether its port is open: SYN, SYN-ACK, RST."""
    servers = "\n".join(f"  server s{at} {host}:{port}" for at, (host, port) in enumerate(p["backends"]))
    check = f"check inter {int(p['every_s'] * 1000)}"
    file = Path(p["work"]) / f"haproxy-{RNG.randrange(10**6)}.cfg"
    times = "defaults\n  mode tcp\n  timeout connect 2s\n  timeout client 5s\n  timeout server 5s\n"
    file.write_text(f"{times}listen all\n  bind 127.0.0.1:{p['port']}\n  default-server {check}\n{servers}\n")
    await tool("haproxy", "-db", "-f", file, limit_s=p["seconds"])
