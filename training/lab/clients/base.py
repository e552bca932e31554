"""What all habits share: the table they are entered in, the random source, connections and real clients' processes."""

import asyncio
import contextlib
import random
import socket
import ssl
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

Params = dict[str, Any]
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
RNG = random.Random()
HABITS: dict[str, Callable[[Params], Awaitable[None]]] = {}
PAGES = [f"p{i}.html" for i in range(20)] + [f"i{i}.jpg" for i in range(40)] + [f"s{i}.txt" for i in range(30)]
SMALL = PAGES[60:]
AGENTS = [*("Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0", "Mozilla/5.0 (iPhone) Safari/604.1", "okhttp/4.12", "curl/8.5")]


def habit(act: Callable[[Params], Awaitable[None]]) -> Callable[[Params], Awaitable[None]]:
    """Enter a habit under its function's name."""
    HABITS[act.__name__] = act
    return act


async def tool(*argv: object, limit_s: float = 15, stdin: bytes = b"") -> None:
    """Run a real client quietly; killed when its time is over."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *map(str, argv), stdin=pipe, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await asyncio.wait_for(process.communicate(stdin), limit_s)
    except (TimeoutError, asyncio.CancelledError):
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def type_into(argv: Iterable[object], pieces: Iterable[bytes], pause_s: Callable[[], float], begin_s: float = 0) -> Process:
    """Start a real client quietly and give it pieces of input, each with a pause behind it."""
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*map(str, argv), stdin=asyncio.subprocess.PIPE, stdout=quiet, stderr=quiet)
    assert process.stdin
    await asyncio.sleep(begin_s)
    with contextlib.suppress(OSError):
        for piece in pieces:
            process.stdin.write(piece)
            await process.stdin.drain()
            await asyncio.sleep(pause_s())
    return process


def local(p: Params) -> tuple[str, int] | None:
    """The address to connect from, as asyncio wants it; None: any."""
    return (p["src"], 0) if p.get("src") else None


async def connect(p: Params, host: str, port: int, limit_s: float = 4) -> Ends:
    """A TCP connection from `src`; with TLS where `tls` is set. Raises OSError, TimeoutError."""
    context = None
    if p.get("tls"):
        context = ssl.create_default_context()
        # The lab's certificate is signed by nobody.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return await asyncio.wait_for(asyncio.open_connection(host, port, local_addr=local(p), ssl=context), limit_s)


def datagram(p: Params, host: str, port: int = 0) -> socket.socket:
    """A UDP socket bound to `src`, of the family of `host`, and connected to its `port` where one is given."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    if p.get("src"):
        made.bind((p["src"], p.get("src_port", 0)))
    if port:
        made.connect((host, port))
    return made


async def answering(p: Params, answer: Callable[[bytes, Any], Iterable[bytes]]) -> asyncio.DatagramTransport:
    """A UDP port of `src` that answers each datagram, by its content and sender, with those that `answer` gives."""

    class Port(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            for reply in answer(data, addr):
                self.transport.sendto(reply, addr)

    return (await asyncio.get_running_loop().create_datagram_endpoint(Port, local_addr=(p["src"], p["port"])))[0]


async def get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str, extra: str = "") -> None:
    """One HTTP request on an open connection; reads the answer whole."""
    writer.write(
        f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {RNG.choice(AGENTS)}\r\nAccept: */*\r\n{extra}\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line.split(b":")[1]))


async def fetch(p: Params, host: str, port: int, path: str, extra: str = "", limit_s: float = 4) -> None:
    """One HTTP request on a connection of its own; raises as `connect` and `get`."""
    reader, writer = await connect(p, host, port, limit_s)
    await get(reader, writer, host, path, extra)
    writer.close()


async def touch(p: Params, host: str, port: int, limit_s: float, stay_s: float = 0) -> None:
    """A TCP connection that says nothing and ends after `stay_s`, where there is one at all."""
    with contextlib.suppress(OSError, TimeoutError):
        _, writer = await connect(p, host, port, limit_s)
        await asyncio.sleep(stay_s)
        writer.close()
