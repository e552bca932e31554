"""An HTTP server that answers as Elasticsearch does, by a script: what a real node does not do on demand."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DROP = "close the connection without an answer"
Answer = int | str | dict[str, Any] | list[int | tuple[int, str]]


class ScriptedServer(ThreadingHTTPServer):
    """Answers bulk calls from a list (then with 201s), all else with `health`; keeps the ids of every bulk call.

    An answer is a whole request's status, a body with status, DROP, or one status (with error type) per item.
    """

    def __init__(self, port: int = 0) -> None:
        self.answers: list[Answer] = []
        self.health: tuple[int, dict[str, Any]] = (200, {"status": "green"})
        self.product = "Elasticsearch"
        self.retry_after = ""
        self.echoes = False
        """Whether errors repeat the Authorization header, as a debugging proxy does."""
        self.calls: list[list[str]] = []
        self.sources: dict[str, bytes] = {}
        """What came of each document, by id, whatever was answered."""
        self.streams: list[list[str]] = []
        self.sizes_bytes: list[int] = []
        self.headers: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", port), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer

    def do_GET(self) -> None:
        status, body = self.server.health
        self.reply(status, {"error": {"type": "t", "reason": self.said("no")}} if self.server.echoes and status != 200 else body)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        lines = (gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body).splitlines()
        ids = [json.loads(line)["create"]["_id"] for line in lines[::2]]
        self.server.calls.append(ids)
        self.server.sources |= zip(ids, lines[1::2], strict=True)
        self.server.streams.append([json.loads(line)["create"].get("_index", "") for line in lines[::2]])
        self.server.sizes_bytes.append(sum(len(line) for line in lines[1::2]))
        self.server.headers.append(dict(self.headers.items()))
        answer = self.server.answers.pop(0) if self.server.answers else [201] * len(ids)
        match answer:
            case str():
                self.connection.shutdown(socket.SHUT_RDWR)
            case int():
                self.reply(answer, {"error": {"type": "t", "reason": self.said(f"status {answer}")}})
            case dict():
                self.reply(answer["status"], answer)
            case list():
                items = [each if isinstance(each, tuple) else (each, "") for each in answer]
                self.reply(
                    200, {"items": [{"create": _item(status, kind, self.said(f"{kind} says no"))} for status, kind in items]}
                )

    def said(self, reason: str) -> str:
        return f"{reason} (sent: {self.headers['authorization']})" if self.server.echoes else reason

    def do_POST(self) -> None:
        self.do_PUT()

    def reply(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("x-elastic-product", self.server.product)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        if self.server.retry_after:
            self.send_header("retry-after", self.server.retry_after)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def _item(status: int, kind: str, reason: str) -> dict[str, Any]:
    return {"status": status} | ({"error": {"type": kind, "reason": reason}} if status >= 300 else {})
