"""A chat server on loopback, as OpenAI's: a function turns each prompt into an answer, a status or a whole reply."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Reply = str | int | tuple[int, bytes] | tuple[int, bytes, dict[str, str]]
"""The answer's text; a status without a body; or status, body and headers."""


def completion(text: object, finish: str = "stop") -> tuple[int, bytes]:
    """A whole reply with an answer."""
    return 200, json.dumps({"choices": [{"message": {"content": text}, "finish_reason": finish}]}).encode()


class ChatServer(ThreadingHTTPServer):
    """Answers until it is closed; keeps path, model and prompt of every question."""

    def __init__(self, answer: Callable[[str], Reply]) -> None:
        self.answer, self.asked = answer, list[str]()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1/"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        self.server.asked.append(f"{self.path} {body['model']} {prompt}")
        reply = self.server.answer(prompt)
        whole = completion(reply) if isinstance(reply, str) else (reply, b"") if isinstance(reply, int) else reply
        status, raw, *more = whole
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(raw))} | (more[0] if more else {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        """Quiet."""
