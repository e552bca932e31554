"""Receivers of what the sensor sends on: a webhook, and syslog over TLS, on ports that stay theirs while they are away."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from machine import free_port


def certificate(folder: Path) -> Path:
    """PEM file of a certificate for 127.0.0.1 that signs itself, with its key."""
    made, key = folder / "cert.pem", folder / "key.pem"
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    options += " -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(["openssl", *options.split(), "-keyout", str(key), "-out", str(made)], check=True, capture_output=True)
    made.write_text(made.read_text() + key.read_text())
    return made


def server_context(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


class WebhookReceiver:
    """Answers with `answers` in turn, then with 204; keeps headers and body of what it has acknowledged."""

    name = "webhook"

    def __init__(self, pem: Path | None = None) -> None:
        self.port, self.pem = free_port(), pem
        self.settings = f"webhook: {{url: '{self.url}', timeout_s: 3" + (f", ca_certs: '{pem}'}}" if pem else "}")
        self.answers: list[int] = []
        self.retry_after = ""
        self.asked = 0
        self.requests: list[tuple[dict[str, str], Any]] = []
        self.up()

    @property
    def url(self) -> str:
        return f"http{'s' if self.pem else ''}://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.requests]

    def up(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status = receiver.answers.pop(0) if receiver.answers else 204
                receiver.asked += 1
                if status < 300:
                    receiver.requests.append(({k.lower(): v for k, v in self.headers.items()} | {"body": body.decode()}, body))
                self.send_response(status)
                if receiver.retry_after:
                    self.send_header("retry-after", receiver.retry_after)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        if self.pem:
            self._server.socket = server_context(self.pem).wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class SyslogReceiver:
    """Reads frames of RFC 6587's octet counting from each connection; a connection may be cut before it is read."""

    name = "syslog"

    def __init__(self, pem: Path, *, client: Path | None = None) -> None:
        self.port, self.context = free_port(), server_context(pem)
        self.settings = f"syslog: {{host: 127.0.0.1, port: {self.port}, timeout_s: 3, ca_certs: '{pem}'}}"
        if client is not None:
            self.context.load_verify_locations(client)
            self.context.verify_mode = ssl.CERT_REQUIRED
        self.messages: list[str] = []
        self.cuts = 0
        """Connections to reset before anything is read."""
        self.silent = False
        """Whether TCP is closed without TLS's word."""
        self.up()

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(message.split(" ", 7)[7]) for message in self.messages]

    @property
    def ids(self) -> list[str]:
        return [document["event"]["id"] for document in self.documents]

    def up(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def down(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, plain: socket.socket) -> None:
        try:
            tls = self.context.wrap_socket(plain, server_side=True)
        except OSError:
            plain.close()
            return
        with tls:
            if self.cuts:
                self.cuts -= 1
                tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                return
            data = b""
            while chunk := tls.recv(65536):
                data += chunk
            while data:
                size, _, rest = data.partition(b" ")
                message, data = rest[: int(size)], rest[int(size) :]
                assert len(message) == int(size)
                self.messages.append(message.decode("ascii"))
            if not self.silent:
                with suppress(OSError):
                    tls.unwrap()
