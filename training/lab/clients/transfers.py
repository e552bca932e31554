"""Transfers that are large, many at once, slow or steady: downloads in parts, films, uploads, backups, slow readers, calls."""

import asyncio
import contextlib
import itertools
import os
import socket
import struct
from pathlib import Path

from training.lab.clients.base import PAGES, RNG, SMALL, Params, answering, connect, datagram, fetch, get, habit, tool
from training.lab.clients.logins import bracket, ssh_options


@habit
async def download_parts(p: Params) -> None:
    """A download manager: one file over `parallel` connections at once, a range of bytes each (RFC 9110, section 14)."""
    part = p["size"] // p["parallel"]

    async def one(index: int) -> None:
        wanted = f"Range: bytes={index * part}-{(index + 1) * part - 1}\r\nConnection: close\r\n"
        await fetch(p, p["host"], p["port"], p["file"], wanted)

    await asyncio.gather(*(one(index) for index in range(p["parallel"])), return_exceptions=True)


@habit
async def watch_film(p: Params) -> None:
    """Video on demand: a playlist, then a segment of some tens of kilobytes every few seconds on one connection."""
    reader, writer = await connect(p, p["host"], p["port"])
    for _ in range(p["segments"]):
        await get(reader, writer, p["host"], RNG.choice(SMALL))
        start = RNG.randrange(2_000_000)
        await get(reader, writer, p["host"], "update.bin", f"Range: bytes={start}-{start + p['size']}\r\n")
        await asyncio.sleep(p["pause"] * RNG.uniform(0.8, 1.2))
    writer.close()


@habit
async def upload(p: Params) -> None:
    """Pictures or readings posted by curl, `parallel` at once; a phone's are held down to `rate`."""
    url = f"http://{bracket(p['host'])}:{p['port']}/app/upload"
    options = ["--limit-rate", p["rate"]] if p.get("rate") else []
    source = ["--interface", p["src"]] if p.get("src") else []
    one = ("curl", "-s", "-g", "-o", "/dev/null", "--max-time", "20", *options, *source, "--data-binary", "@-", url)
    size = int(p["size"] * RNG.uniform(0.4, 1.6))
    await asyncio.gather(*(tool(*one, limit_s=25, stdin=os.urandom(size)) for _ in range(p.get("parallel", 1))))


@habit
async def read_slowly(p: Params) -> None:
    """A slow client that reads a whole picture through a small window, a little at a time, and then says goodbye."""
    family = socket.AF_INET6 if ":" in p["host"] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, p["buffer"])
        sock.bind((p["src"], 0))
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(loop.sock_connect(sock, (p["host"], p["port"])), 4)
        page = RNG.choice(PAGES[20:60])
        await loop.sock_sendall(sock, f"GET /{page} HTTP/1.1\r\nHost: {p['host']}\r\nConnection: close\r\n\r\n".encode())
        while await asyncio.wait_for(loop.sock_recv(sock, p["piece"]), 10):
            await asyncio.sleep(p["pause"])


@habit
async def backup(p: Params) -> None:
    """rsync over `parallel` ssh connections at once: many files, held down to `rate_kb` kilobytes a second."""

    async def one() -> None:
        folder = Path(p["work"]) / f"tree-{RNG.randrange(10**9)}"
        folder.mkdir()
        for index in range(p["files"]):
            (folder / f"f{index}").write_bytes(os.urandom(int(RNG.lognormvariate(8, 1))))
        shell = " ".join(map(str, ["ssh", *ssh_options(p), "-p", p["port"]]))
        far = f"{p['user']}@{bracket(p['host'])}:{folder.name}/"
        await tool("rsync", "-a", f"--bwlimit={p['rate_kb']}", "-e", shell, f"{folder}/", far, limit_s=25)

    await asyncio.gather(*(one() for _ in range(p["parallel"])), return_exceptions=True)


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
