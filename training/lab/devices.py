"""The lab's small servers where no daemon fits: a web application with forms, and IoT devices that answer on many ports.

Started as a file inside a namespace, so it imports nothing but the standard library:
`devices.py ADDRESS HTTP_PORTS OTHER_PORTS`, lists with commas, each may be empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import os
import random
import sys
from urllib.parse import parse_qs, unquote, urlsplit

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter

FORM = (
    '<form action="search" method="get"><input name="q"></form>'
    '<form action="login" method="post"><input name="user"><input name="pw"></form>'
)


async def _request(reader: Reader) -> tuple[str, str, bytes, bool] | None:
    """Method, target, body and whether the connection stays open; None where the peer went away."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").split("\r\n")
    method, target, *_ = [*first.split(" "), "/", "/"]
    found = dict(line.lower().split(": ", 1) for line in fields if ": " in line)
    body = await reader.readexactly(int(found.get("content-length", "0") or 0))
    return method, target, body, found.get("connection", "keep-alive" if first.endswith("1.1") else "close") != "close"


def _answer(target: str, body: bytes) -> tuple[str, bytes]:  # noqa: PLR0911 - one return a page
    url = urlsplit(target)
    asked = {key: values[0] for key, values in parse_qs(url.query or body.decode("latin-1")).items()}
    if url.path.endswith("/item"):
        item = asked.get("id", "")
        if "'" in item:
            return "500 Internal Server Error", b"You have an error in your SQL syntax near '" + item.encode()
        return "200 OK", f"<p>Item {html.escape(item)}: {len(item) * 17} pieces in stock</p>".encode()
    if url.path.endswith("/search"):
        return "200 OK", f"<p>Nothing found for {unquote(asked.get('q', ''))}</p>{FORM}".encode()
    if url.path.endswith(("/upload", "/login")):
        return "200 OK", json.dumps({"received": len(body)}).encode()
    if url.path == "/":
        links = "".join(f'<a href="item?id={i}">{i}</a>' for i in range(5))
        return "200 OK", f"<html><title>Lab shop</title>{FORM}{links}</html>".encode()
    if url.path.endswith("/metrics"):
        return "200 OK", "".join(f"lab_value_{i} {random.random()}\n" for i in range(60)).encode()
    return "404 Not Found", b"not here"


async def _serve_http(reader: Reader, writer: Writer) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        while request := await _request(reader):
            method, target, body, stays = request
            status, content = _answer(target, body)
            head = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(content)}\r\n"
            head += f"Connection: {'keep-alive' if stays else 'close'}\r\n\r\n"
            writer.write(head.encode() + (b"" if method == "HEAD" else content))
            await writer.drain()
            if not stays:
                break
    writer.close()


async def _serve_lines(reader: Reader, writer: Writer) -> None:
    """Any other port of a device: a banner, then an answer of some bytes to whatever comes."""
    with contextlib.suppress(OSError):
        writer.write(b"220 device ready\r\n")
        while data := await reader.read(2000):
            writer.write(os.urandom(min(len(data) + 20, 900)))
            await writer.drain()
    writer.close()


async def main(address: str | None, pages: list[int], others: list[int]) -> None:
    """Listen on every port (on both address families where there is no address) until killed."""
    for serve, ports in ((_serve_http, pages), (_serve_lines, others)):
        for port in ports:
            await asyncio.start_server(serve, address, port, backlog=256)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] or None, *([int(port) for port in ports.split(",") if port] for ports in sys.argv[2:])))
