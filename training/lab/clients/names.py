"""Names and time: DNS and NTP."""

import asyncio
import contextlib
import socket
import struct

from training.lab.clients.base import RNG, Params, datagram, habit, tool


def query(name: str, kind: int) -> bytes:
    """A DNS question with a random id (RFC 1035, section 4)."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack(">HHHHHH", RNG.randrange(65536), 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


async def ask(sock: socket.socket, questions: list[bytes], wait_s: float, gap_s: float = 0.0) -> None:
    """Send questions and read as many answers, or until none comes for `wait_s`."""
    loop = asyncio.get_running_loop()
    for question in questions:
        with contextlib.suppress(OSError):
            await loop.sock_sendall(sock, question)
        if gap_s:
            await asyncio.sleep(RNG.expovariate(1 / gap_s))
    with contextlib.suppress(TimeoutError, OSError):
        for _ in questions:
            await asyncio.wait_for(loop.sock_recv(sock, 4096), wait_s)


@habit
async def dns(p: Params) -> None:
    """Name look-ups as a resolver library does them: A and AAAA from one socket, a few names in a row or many at once."""
    loop = asyncio.get_running_loop()

    async def one() -> None:
        name = f"{RNG.choice(['www', 'api', 'cdn', 'img', 'mail', 'time', f'n{RNG.randrange(300)}'])}.{RNG.choice(p['zones'])}"
        with datagram(p, p["host"], 53) as sock:
            for kind in RNG.choice([(1,), (1, 28), (1, 28, 65), (12,), (16,)]):
                await loop.sock_sendall(sock, query(name, kind))
                with contextlib.suppress(TimeoutError, OSError):
                    await asyncio.wait_for(loop.sock_recv(sock, 4096), 1)

    for _ in range(p.get("rounds", 1)):
        count = RNG.randint(p.get("least", 1), p.get("parallel", 3))
        await asyncio.gather(*(one() for _ in range(count)), return_exceptions=True)
        await asyncio.sleep(RNG.expovariate(2))


@habit
async def dns_stub(p: Params) -> None:
    """Look-ups as a stub or a forwarder makes them that keeps one socket: all names of a page at once, then silence."""
    with datagram(p, p["host"], 53) as sock:
        for _ in range(p["rounds"]):
            asked = []
            for _ in range(RNG.randint(p["least"], p["most"])):
                kinds = RNG.choice([(1,), (1, 28), (1, 28), (1, 28, 65)])
                hosts = ["www", "api", "cdn", "img", "ads", "px"]
                asked += [query(f"{RNG.choice(hosts)}{RNG.randrange(400)}.{RNG.choice(p['zones'])}", kind) for kind in kinds]
            await ask(sock, asked, 0.5, p["gap"])
            await asyncio.sleep(RNG.uniform(0.3, 2) * p["pause"])


@habit
async def hashed_names(p: Params) -> None:
    """Look-ups whose first label is a hash, as reputation services and telemetry make them, each from a socket of its own."""
    for _ in range(p["count"]):
        name = f"{RNG.getrandbits(4 * p['digits']):0{p['digits']}x}.{RNG.choice(['avqs', 'tel', 'i0'])}.{RNG.choice(p['zones'])}"
        with datagram(p, p["host"], 53) as sock:
            await ask(sock, [query(name, RNG.choice([1, 1, 16]))], 0.5)
        await asyncio.sleep(RNG.uniform(0.5, 1.5) * p["pause"])


@habit
async def dig(p: Params) -> None:
    """dig with a few record types, also over TCP."""
    kind, how = RNG.choice(["A", "AAAA", "TXT", "MX"]), RNG.choice([[], ["+tcp"]])
    await tool("dig", f"@{p['host']}", f"www.{RNG.choice(p['zones'])}", kind, *how)


@habit
async def ntp(p: Params) -> None:
    """Ask for the time: ntpdate's four samples, or one packet as a small device sends it."""
    if RNG.random() < 0.5:
        await tool("ntpdate", "-q", p["host"], limit_s=8)
        return
    loop = asyncio.get_running_loop()
    with datagram(p, p["host"], 123) as sock:
        await loop.sock_sendall(sock, b"\x23" + bytes(47))
        with contextlib.suppress(TimeoutError, OSError):
            await asyncio.wait_for(loop.sock_recv(sock, 100), 1)
