"""The lab's small servers where no daemon fits: a web application, devices, login forms and pages, SMTP, a controller.

Started as a file inside a namespace, so it imports nothing but the standard library; lists of ports have commas and may be empty:

    small_servers.py app PORT
    small_servers.py devices HTTP_PORTS OTHER_PORTS
    small_servers.py forms|smtp|portal PORT USER PASSWORD DELAY_S [CERTIFICATE KEY]
    small_servers.py modbus|bounce PORT

`portal` is one of many kinds of login pages, drawn by its password. With a certificate the server speaks TLS alone.
"""

import asyncio
import base64
import binascii
import contextlib
import functools
import hashlib
import html
import json
import os
import random
import re
import ssl
import struct
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Request:
    """An HTTP request; `fields` by their names in lower case."""

    method: str
    target: str
    body: bytes
    fields: dict[str, str]
    stays: bool
    """The connection stays open, as far as the client wants it."""

    def sent(self) -> dict[str, str]:
        """The form's values, the first of each name."""
        return {key: values[0] for key, values in parse_qs(self.body.decode("latin-1")).items()}


async def _request(reader: Reader) -> Request:
    """The next request; raises IncompleteReadError where the peer went away."""
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, *_ = [*first.split(" "), "/", "/"]
    fields = {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in lines if ":" in line}
    body = await reader.readexactly(int(fields.get("content-length", "0") or 0))
    stays = fields.get("connection", "keep-alive" if first.endswith("1.1") else "close").lower() != "close"
    return Request(method, target, body, fields, stays)


async def http(answer: Callable[[Request], Awaitable[Answer]], reader: Reader, writer: Writer) -> None:
    """Answer requests on a connection until it closes."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
        stays = True
        while stays:
            asked = await _request(reader)
            status, content, *more = await answer(asked)
            stays = asked.stays and "Connection: close" not in "".join(more)
            head = f"HTTP/1.1 {status}\r\n{''.join(more)}Content-Type: text/html\r\nContent-Length: {len(content)}\r\n"
            if stays or not asked.stays:
                head += f"Connection: {'keep-alive' if stays else 'close'}\r\n"
            writer.write(f"{head}\r\n".encode() + (b"" if asked.method == "HEAD" else content))
            await writer.drain()
    writer.close()


async def page(request: Request) -> Answer:  # noqa: PLR0911 - one return a page
    """A page of the application."""
    url = urlsplit(request.target)
    asked = {key: values[0] for key, values in parse_qs(url.query or request.body.decode("latin-1")).items()}
    if url.path.endswith("/item"):
        item = asked.get("id", "")
        if "'" in item:
            return "500 Internal Server Error", b"You have an error in your SQL syntax near '" + item.encode()
        return "200 OK", f"<p>Item {html.escape(item)}: {len(item) * 17} pieces in stock</p>".encode()
    if url.path.endswith("/search"):
        return "200 OK", f"<p>Nothing found for {unquote(asked.get('q', ''))}</p>{FORM}".encode()
    if url.path.endswith(("/upload", "/login")):
        return "200 OK", json.dumps({"received": len(request.body)}).encode()
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

    async def form(self, asked: Request) -> Answer:
        """GET shows the form, POST to any path tries it: 302 to /home, or 200 with the form and `Invalid login`."""
        if asked.method != "POST":
            return "200 OK", SIGN_IN, "Server: lab\r\n"
        sent = asked.sent()
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


class Portal(Login):
    """Login pages of many kinds: /login with cookie and token, WordPress's two, basic, digest, and JSON.

    Drawn once from `seed`: whether a refusal is a redirect or a page, whether pages are always as long, whether connections stay,
    and after how many refusals, if at all, everyone has to wait.
    """

    def __init__(self, user: str, password: str, delay_s: float, seed: object) -> None:
        super().__init__(user, password, delay_s)
        rng = random.Random(f"portal/{seed}")
        self.redirects, self.changes, self.closes = rng.random() < 0.5, rng.random() < 0.5, rng.random() < 0.3
        self.size, self.most, self.refused = int(rng.lognormvariate(7.8, 0.8)), rng.choice([0, 0, 0, 60]), 0
        self.tokens: dict[str, str] = {}

    async def answer(self, asked: Request) -> Answer:
        """The answer of the page that the path names; its status line, content and header lines."""
        ways = {"/wp-login.php": self._wordpress, "/xmlrpc.php": self._calls, "/api/login": self._json}
        ways |= {"/manager/html": self._basic, "/digest/": self._digest}
        # Some tools begin the path with two slashes.
        path = "/" + asked.target.lstrip("/").partition("?")[0]
        status, content, more = await ways.get(path, self._form)(asked)
        if self.most and self.refused > self.most:
            status, content = "429 Too Many Requests", b"Too many attempts, please wait"
        return status, content, f"Server: portal\r\n{more}{'Connection: close' + chr(13) + chr(10) if self.closes else ''}"

    async def opens(self, user: str, password: str) -> bool:
        """True for the right pair; refusals are counted."""
        right = await super().opens(user, password)
        self.refused = 0 if right else self.refused + 1
        return right

    def _page(self, said: str, token: str = "", names: str = "username password") -> bytes:
        kinds = {"password": "password", "pwd": "password", "rememberme": "checkbox"}
        fields = "".join(f'<input type="{kinds.get(name, "text")}" name="{name}">' for name in names.split())
        fields += f'<input type="hidden" name="csrf_token" value="{token}">' if token else ""
        length = random.randint(self.size // 2, self.size * 2) if self.changes else self.size
        filling = ("<div class=news>Welcome to the portal, see what is new today. </div>" * (length // 60 + 1))[:length]
        return f'<html><title>Sign in</title>{said}<form method="post">{fields}</form>{filling}</html>'.encode()

    async def _form(self, asked: Request) -> tuple[str, bytes, str]:
        session = re.search(r"session=(\w+)", asked.fields.get("cookie", ""))
        if asked.method != "POST" or not session:
            failed = "Invalid username or password" if "error" in asked.target else ""
            name, token = os.urandom(8).hex(), os.urandom(16).hex()
            if session and session[1] in self.tokens:
                name = session[1]
            self.tokens[name] = token
            return "200 OK", self._page(failed, token), f"Set-Cookie: session={name}; HttpOnly\r\n"
        sent = asked.sent()
        if sent.get("csrf_token", "") != self.tokens.get(session[1]):
            return "403 Forbidden", b"The form has expired", ""
        if await self.opens(sent.get("username", ""), sent.get("password", "")):
            return "302 Found", b"", "Location: /home\r\n"
        if self.redirects:
            return "302 Found", b"", "Location: /login?error=1\r\n"
        self.tokens[session[1]] = token = os.urandom(16).hex()
        return "200 OK", self._page("Invalid username or password", token), ""

    async def _wordpress(self, asked: Request) -> tuple[str, bytes, str]:
        sent, cookie = asked.sent(), "Set-Cookie: wordpress_test_cookie=WP+Cookie+check; path=/\r\n"
        if asked.method == "POST" and await self.opens(sent.get("log", ""), sent.get("pwd", "")):
            return "302 Found", b"", f"Location: /wp-admin/\r\n{cookie}"
        said = '<div id="login_error">ERROR: The password you entered is incorrect.</div>' if asked.method == "POST" else ""
        return "200 OK", self._page(said, names="log pwd rememberme"), cookie

    async def _calls(self, asked: Request) -> tuple[str, bytes, str]:
        """XML-RPC: each pair of strings in the body is tried, as system.multicall has many of them."""
        words = re.findall(rb"<string>([^<]*)</string>", asked.body)
        pairs = [(words[i].decode("latin-1"), words[i + 1].decode("latin-1")) for i in range(0, len(words) - 1, 2)]
        fault = (
            "<fault><value><struct><member><name>faultCode</name><value><int>403</int></value></member><member><name>faultString"
        )
        fault += "</name><value><string>Incorrect username or password.</string></value></member></struct></value></fault>"
        said = [("<params><value>1</value></params>" if await self.opens(*pair) else fault) for pair in pairs]
        return "200 OK", f'<?xml version="1.0"?><methodResponse>{"".join(said)}</methodResponse>'.encode(), ""

    async def _json(self, asked: Request) -> tuple[str, bytes, str]:
        sent = json.loads(asked.body or b"{}")
        if await self.opens(str(sent.get("username")), str(sent.get("password"))):
            return "200 OK", json.dumps({"token": os.urandom(32).hex()}).encode(), ""
        return "401 Unauthorized", b'{"error":"invalid_grant","error_description":"Bad credentials"}', ""

    async def _basic(self, asked: Request) -> tuple[str, bytes, str]:
        given = asked.fields.get("authorization", "")
        if given.startswith("Basic "):
            user, _, password = base64.b64decode(given[6:]).decode("latin-1").partition(":")
            if await self.opens(user, password):
                return "200 OK", self._page("Web Application Manager"), ""
        return "401 Unauthorized", self._page("401 Unauthorized"), 'WWW-Authenticate: Basic realm="Manager Application"\r\n'

    async def _digest(self, asked: Request) -> tuple[str, bytes, str]:
        """RFC 7616 with MD5 and qop=auth."""
        given = dict(re.findall(r'(\w+)="?([^",]*)"?', asked.fields.get("authorization", "")))
        if given:
            password = self.password if given.get("username") == self.user else "-"
            first = hashlib.md5(f"{given.get('username')}:lab:{password}".encode(), usedforsecurity=False).hexdigest()
            second = hashlib.md5(f"{asked.method}:{given.get('uri')}".encode(), usedforsecurity=False).hexdigest()
            middle = ":".join(given.get(key, "") for key in ("nonce", "nc", "cnonce", "qop"))
            right = hashlib.md5(f"{first}:{middle}:{second}".encode(), usedforsecurity=False).hexdigest() == given.get("response")
            if await self.opens(self.user, self.password if right else ""):
                return "200 OK", self._page("Camera"), ""
        asks = f'Digest realm="lab", qop="auth", nonce="{os.urandom(16).hex()}", algorithm=MD5'
        return "401 Unauthorized", b"Unauthorized", f"WWW-Authenticate: {asks}\r\n"


async def modbus(reader: Reader, writer: Writer) -> None:
    """A controller's registers and coils (Modbus/TCP): reads give random values, writes are repeated, the rest is refused."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            number, _, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
            asked = await reader.readexactly(length - 1)
            function, count = asked[0], int.from_bytes(asked[3:5])
            answer = bytes([function | 0x80, 1])
            if function in (1, 2):
                answer = bytes([function, (count + 7) // 8]) + os.urandom((count + 7) // 8)
            elif function in (3, 4):
                answer = bytes([function, 2 * count % 256]) + os.urandom(2 * count % 256)
            elif function in (5, 6, 15, 16):
                answer = asked[:5]
            writer.write(struct.pack(">HHHB", number, 0, len(answer) + 1, unit) + answer)
            await writer.drain()
    writer.close()


async def bounce(reader: Reader, writer: Writer) -> None:
    """An old FTP server that opens data connections to any address that a client names (RFC 2577)."""
    writer.write(b"220 FTP server ready.\r\n")
    with contextlib.suppress(OSError, ValueError):
        far = ["127", "0", "0", "1", "0", "0"]
        while line := (await reader.readline()).decode("latin-1").strip():
            word, _, rest = line.partition(" ")
            said = {"USER": "331 Password please.", "PASS": "230 Logged in.", "QUIT": "221 Goodbye."}.get(word, "200 Done.")
            if word == "PORT":
                far = rest.split(",")
            elif word in ("LIST", "NLST", "RETR"):
                said = "425 Can't build data connection: Connection refused."
                with contextlib.suppress(OSError, TimeoutError):
                    to = (".".join(far[:4]), int(far[4]) * 256 + int(far[5]))
                    _, data = await asyncio.wait_for(asyncio.open_connection(*to), 2)
                    writer.write(b"150 Opening data connection.\r\n")
                    # The end of the listing is said in a segment of its own, which nmap waits for.
                    await asyncio.sleep(0.05)
                    data.write(b"-rw-r--r--   1 root  root  812 Jan 11 2009 readme\r\n")
                    data.close()
                    said = "226 Transfer complete."
            writer.write(f"{said}\r\n".encode())
            await writer.drain()
    writer.close()


async def serve(kind: str, *given: str) -> None:
    """Listen until killed, on both address families but for the application, which only the web server asks."""
    tls = None
    if kind in ("app", "devices"):
        listens = [(port, functools.partial(http, page)) for port in given[0].split(",") if port]
        listens += [(port, lines) for port in "".join(given[1:]).split(",") if port]
    elif kind in ("modbus", "bounce"):
        listens = [(given[0], modbus if kind == "modbus" else bounce)]
    else:
        login = Portal(given[1], given[2], float(given[3]), seed=given[2])
        handles = {"forms": functools.partial(http, login.form), "portal": functools.partial(http, login.answer)}
        listens = [(given[0], handles.get(kind, login.smtp))]
        if given[4:]:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(*given[4:])
    # A server that closes does not wait for the client's goodbye, for which some tools wait in turn.
    more = {"ssl": tls, "ssl_shutdown_timeout": 0.1} if tls else {}
    for port, handle in listens:
        await asyncio.start_server(handle, "127.0.0.1" if kind == "app" else None, int(port), backlog=256, **more)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
