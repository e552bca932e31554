"""An HTTP proxy in front of Elasticsearch that fails on command: it answers for the server, is slow, or cuts the connection
before or after the server has done its work."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Act = Callable[["Exchange"], None]


class Exchange(BaseHTTPRequestHandler):
    """One request: an act decides what becomes of it."""

    protocol_version = "HTTP/1.1"
    server: Server
    body: bytes

    def setup(self) -> None:
        super().setup()
        self.server.open_sockets.add(self.connection)

    def finish(self) -> None:
        self.server.open_sockets.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_any(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        proxy = self.server.proxy
        proxy.seen["bulk" if self.is_bulk else "other"] += 1
        act = proxy.choose(self)
        proxy.acts[act.__name__] += 1
        act(self)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_any  # noqa: N815

    @property
    def is_bulk(self) -> bool:
        return urlsplit(self.path).path.endswith("/_bulk")

    def forward(self) -> tuple[int, list[tuple[str, str]], bytes]:
        """Ask the server. Where it is away, a gateway's 502 is its answer."""
        server = http.client.HTTPConnection(*self.server.proxy.behind, timeout=120)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "host")}
        try:
            server.request(self.command, self.path, self.body, headers)
            answer = server.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        except (OSError, http.client.HTTPException):
            return 502, [("Content-Type", "text/html")], b"<html>bad gateway</html>"
        finally:
            server.close()

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, half: bool = False) -> None:
        """Pass an answer on, whole or in part."""
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if half else body)

    def cut(self, *, reset: bool = False) -> None:
        """Close without an answer; `reset` throws away what is on the way (RST in place of FIN)."""
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        with contextlib.suppress(OSError):
            if not reset:
                self.connection.shutdown(socket.SHUT_RDWR)
            self.connection.close()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], proxy: FaultProxy) -> None:
        super().__init__(address, Exchange)
        self.proxy = proxy
        self.open_sockets: set[socket.socket] = set()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class FaultProxy:
    """Stands at one address for as long as it lives, also while it refuses."""

    def __init__(self, behind_url: str) -> None:
        parts = urlsplit(behind_url)
        self.behind = (str(parts.hostname), int(parts.port or 80))
        self.choose: Callable[[Exchange], Act] = lambda exchange: forwarded
        """Called for each request; says what to do with it."""
        self.seen: Counter[str] = Counter()
        self.acts: Counter[str] = Counter()
        self._server: Server | None = None
        self.port = 0
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        self._server = Server(("127.0.0.1", self.port), self)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections and cut those that are open."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        server.server_close()
        for each in list(server.open_sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def heal(self) -> None:
        self.choose = lambda exchange: forwarded


def forwarded(exchange: Exchange) -> None:
    exchange.answer(*exchange.forward())


def status(code: int, retry_after_s: int | None = None) -> Act:
    """The server, or a gateway before it, is busy or away."""

    def busy(exchange: Exchange) -> None:
        error = {"error": {"type": "es_rejected_execution_exception", "reason": "made by the fault proxy"}, "status": code}
        headers = [("Content-Type", "application/json")]
        headers += [("Retry-After", str(retry_after_s))] if retry_after_s is not None else []
        exchange.answer(code, headers, json.dumps(error).encode())

    busy.__name__ = f"status_{code}"
    return busy


def some_items(code: int) -> Act:
    """The server stores every second document of a bulk request and answers `code` for the others."""

    def partly(exchange: Exchange) -> None:
        packed = exchange.headers.get("Content-Encoding") == "gzip"
        del exchange.headers["Content-Encoding"], exchange.headers["Accept-Encoding"]
        lines = (gzip.decompress(exchange.body) if packed else exchange.body).splitlines(keepends=True)
        pairs = [lines[i : i + 2] for i in range(0, len(lines), 2)]
        exchange.body = b"".join(line for pair in pairs[::2] for line in pair)
        exchange.headers.replace_header("Content-Length", str(len(exchange.body)))
        state, headers, answer = exchange.forward()
        if state != 200:
            exchange.answer(state, headers, answer)
            return
        stored = json.loads(answer)["items"]
        headers = [(name, value) for name, value in headers if name.lower() in ("content-type", "x-elastic-product")]
        refused = {"create": {"status": code, "error": {"type": "es_rejected_execution_exception", "reason": "queue full"}}}
        items = [refused if i % 2 else stored[i // 2] for i in range(len(pairs))]
        exchange.answer(200, headers, json.dumps({"items": items}).encode())

    return partly


def delayed(*, before_s: float = 0.0, after_s: float = 0.0) -> Act:
    """The server takes its time before it does its work, or does it at once and answers when nobody waits any more."""

    def late(exchange: Exchange) -> None:
        time.sleep(before_s)
        answer = exchange.forward()
        time.sleep(after_s)
        exchange.answer(*answer)

    return late


def cut_before(exchange: Exchange) -> None:
    exchange.cut()


def cut_after(exchange: Exchange) -> None:
    """The server has stored the documents; its answer is lost."""
    exchange.forward()
    exchange.cut()


def reset_after(exchange: Exchange) -> None:
    exchange.forward()
    exchange.cut(reset=True)


def half_answer(exchange: Exchange) -> None:
    """The connection breaks in the middle of the answer."""
    exchange.answer(*exchange.forward(), half=True)
    exchange.wfile.flush()
    exchange.cut()
