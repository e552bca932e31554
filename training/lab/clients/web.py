"""Web habits: pages, crowds, programs, uploads and connections that stay open."""

import asyncio
import os

from training.lab.clients.base import PAGES, RNG, SMALL, Params, connect, fetch, get, habit, tool


@habit
async def browse(p: Params) -> None:
    """A page with its pictures over `parallel` kept-alive connections, as a browser does."""

    async def worker(paths: list[str]) -> None:
        reader, writer = await connect(p, p["host"], p["port"])
        for path in paths:
            await get(reader, writer, p["host"], path)
            await asyncio.sleep(RNG.expovariate(1 / p.get("think", 0.02)))
        await asyncio.sleep(RNG.uniform(0, p.get("linger", 1.0)))
        writer.close()

    paths = RNG.choices(SMALL if p.get("small") else PAGES, k=RNG.randint(p.get("least", 1), p.get("objects", 20)))
    count = min(p.get("parallel", 4), len(paths))
    await asyncio.gather(*(worker(paths[i::count]) for i in range(count)), return_exceptions=True)


@habit
async def crowd(p: Params) -> None:
    """Many short whole requests at once from several addresses: a flash crowd or a load test."""

    async def one(src: str) -> None:
        await asyncio.sleep(RNG.uniform(0, p["spread"]))
        await fetch({"src": src}, p["host"], p["port"], RNG.choice(SMALL), "Connection: close\r\n")

    await asyncio.gather(*(one(RNG.choice(p["sources"])) for _ in range(p["count"])), return_exceptions=True)


@habit
async def curl(p: Params) -> None:
    """curl, several URLs in parallel, with or without TLS, rate limit and upload."""
    options = ["-s", "-k", "-o", "/dev/null", "--max-time", "20", *p.get("options", [])]
    if p.get("src"):
        options += ["--interface", p["src"]]
    urls = RNG.choices(p["urls"], k=p.get("count", 1))
    every = [part for url in urls for part in ("-o", "/dev/null", url)]
    await tool("curl", "-Z", *options, *every, limit_s=p.get("limit", 25))


@habit
async def upload_slowly(p: Params) -> None:
    """A sensor behind a thin line that posts its data a little at a time: slow, but it ends."""
    reader, writer = await connect(p, p["host"], p["port"])
    size = p["size"]
    writer.write(
        f"POST /app/upload HTTP/1.1\r\nHost: {p['host']}\r\nContent-Length: {size}\r\n"
        "Content-Type: application/octet-stream\r\n\r\n".encode()
    )
    for at in range(0, size, p["chunk"]):
        writer.write(os.urandom(min(p["chunk"], size - at)))
        await writer.drain()
        await asyncio.sleep(p["pause"])
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


@habit
async def hold(p: Params) -> None:
    """Connections kept open with little on them: long polls, web sockets, idle sessions."""

    async def one() -> None:
        reader, writer = await connect(p, p["host"], p["port"])
        await get(reader, writer, p["host"], RNG.choice(SMALL))
        for _ in range(p["beats"]):
            await asyncio.sleep(p["pause"] * RNG.uniform(0.7, 1.3))
            await get(reader, writer, p["host"], RNG.choice(SMALL))
        writer.close()

    await asyncio.gather(*(one() for _ in range(p["count"])), return_exceptions=True)


@habit
async def api(p: Params) -> None:
    """A program that asks an API with a password: the right one, now and then once without."""
    reader, writer = await connect(p, p["host"], p["port"])
    for _ in range(p.get("count", 3)):
        if RNG.random() < 0.3:
            await get(reader, writer, p["host"], "admin/status.html")
        await get(reader, writer, p["host"], "admin/status.html", f"Authorization: Basic {p['basic']}\r\n")
        await asyncio.sleep(RNG.uniform(0.05, 0.5))
    writer.close()
