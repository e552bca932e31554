"""The lab's small servers where no daemon fits: a web application, devices that answer on many ports, a login form, SMTP.

Started as a file inside a namespace, so it imports nothing but the standard library; lists of ports have commas and may be empty:

    small_servers.py app PORT
    small_servers.py devices HTTP_PORTS OTHER_PORTS
    small_servers.py forms|smtp PORT USER PASSWORD DELAY_S
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import functools
import html
import json
import os
import random
import sys
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs, unquote, urlsplit

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Answer = tuple[str, bytes] | tuple[str, bytes, str]
"""Status, body and, where there are any, more header lines."""

FORM = (
    '<form action="search" method="get"><input name="q"></form>'
    '<form action="login" method="post"><input name="user"><input name="pw"></form>'
)
SIGN_IN = (
    b'<html><title>Sign in</title><form method="post" action="/login"><input name="user"><input name="password"></form></html>'
)


async def _request(reader: Reader) -> tuple[str, str, bytes, bool]:
    """Method, target, body and whether the connection stays open; raises IncompleteReadError where the peer went away."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").split("\r\n")
    method, target, *_ = [*first.split(" "), "/", "/"]
    found = dict(line.lower().split(": ", 1) for line in fields if ": " in line)
    body = await reader.readexactly(int(found.get("content-length", "0") or 0))
    return method, target, body, found.get("connection", "keep-alive" if first.endswith("1.1") else "close") != "close"


async def http(answer: Callable[[str, str, bytes], Awaitable[Answer]], reader: Reader, writer: Writer) -> None:
    """Answer requests on a connection until it closes."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        stays = True
        while stays:
            method, target, body, stays = await _request(reader)
            status, content, *more = await answer(method, target, body)
            head = f"HTTP/1.1 {status}\r\n{''.join(more)}Content-Type: text/html\r\nContent-Length: {len(content)}\r\n"
            head += f"Connection: {'keep-alive' if stays else 'close'}\r\n\r\n"
            writer.write(head.encode() + (b"" if method == "HEAD" else content))
            await writer.drain()
    writer.close()


async def page(method: str, target: str, body: bytes) -> Answer:  # noqa: PLR0911 - one return a page
    """A page of the application."""
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


async def lines(reader: Reader, writer: Writer) -> None:
    """Any other port of a device: a banner, then an answer of some bytes to whatever comes."""
    with contextlib.suppress(OSError):
        writer.write(b"220 device ready\r\n")
        while data := await reader.read(2000):
            writer.write(os.urandom(min(len(data) + 20, 900)))
            await writer.drain()
    writer.close()


class Login:
    """One account and how long a wrong password takes."""

    def __init__(self, user: str, password: str, delay_s: float) -> None:
        self.user, self.password, self.delay_s = user, password, delay_s

    async def opens(self, user: str, password: str) -> bool:
        """True for the right pair; a wrong one waits first."""
        if (user, password) == (self.user, self.password):
            return True
        await asyncio.sleep(self.delay_s)
        return False

    async def form(self, method: str, target: str, body: bytes) -> Answer:
        """GET shows the form, POST to any path tries it: 302 to /home, or 200 with the form and `Invalid login`."""
        if method != "POST":
            return "200 OK", SIGN_IN, "Server: lab\r\n"
        sent = {key: values[0] for key, values in parse_qs(body.decode("latin-1")).items()}
        if await self.opens(sent.get("user", ""), sent.get("password", "")):
            return "302 Found", b"", "Server: lab\r\nLocation: /home\r\nSet-Cookie: session=1\r\n"
        return "200 OK", SIGN_IN + b"<p>Invalid login</p>", "Server: lab\r\n"

    async def smtp(self, reader: Reader, writer: Writer) -> None:
        """EHLO, AUTH PLAIN and AUTH LOGIN (RFC 4954), QUIT; anything else is answered with 250."""

        async def said(text: str) -> str:
            writer.write(text.encode() + b"\r\n")
            await writer.drain()
            line = await asyncio.wait_for(reader.readline(), 60)
            if not line:
                raise OSError("closed")
            return line.decode("latin-1").strip()

        with contextlib.suppress(OSError, TimeoutError, ValueError, binascii.Error):
            line = await said("220 mail.lab.test ESMTP")
            while not line.upper().startswith("QUIT"):
                word, answer = line.upper(), "250 OK"
                if word.startswith("EHLO"):
                    answer = "250-mail.lab.test\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME"
                elif word.startswith("AUTH"):
                    answer = "235 2.7.0 welcome" if await self._auth(line, said) else "535 5.7.8 authentication failed"
                line = await said(answer)
            writer.write(b"221 bye\r\n")
            await writer.drain()
        writer.close()

    async def _auth(self, line: str, said: object) -> bool:
        assert callable(said)
        parts = line.split(" ")
        if parts[1].upper() == "PLAIN":
            coded = parts[2] if len(parts) > 2 else await said("334 ")
            _, user, password = base64.b64decode(coded).decode("latin-1").split("\0")
        else:
            coded = parts[2] if len(parts) > 2 else await said("334 VXNlcm5hbWU6")
            user = base64.b64decode(coded).decode("latin-1")
            password = base64.b64decode(await said("334 UGFzc3dvcmQ6")).decode("latin-1")
        return await self.opens(user, password)


async def serve(kind: str, *given: str) -> None:
    """Listen until killed, on both address families but for the application, which only the web server asks."""
    if kind in ("app", "devices"):
        listens = [(port, functools.partial(http, page)) for port in given[0].split(",") if port]
        listens += [(port, lines) for port in "".join(given[1:]).split(",") if port]
    else:
        login = Login(given[1], given[2], float(given[3]))
        listens = [(given[0], functools.partial(http, login.form) if kind == "forms" else login.smtp)]
    for port, handle in listens:
        await asyncio.start_server(handle, "127.0.0.1" if kind == "app" else None, int(port), backlog=256)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
