"""The lab's own tools and small servers, each on its own."""

from __future__ import annotations

import asyncio
import functools
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from training.lab import small_servers
from training.lab.tools.rawflood import checksum

TOOLS = Path(small_servers.__file__).parent / "tools"


def served(kind: str) -> tuple[int, threading.Event]:
    """A login server of the lab's own in a thread: its port, and the event that ends it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    up, over = threading.Event(), threading.Event()

    async def run() -> None:
        login = small_servers.Login("maria", "right-1", 0.0)
        handle = functools.partial(small_servers.http, login.form) if kind == "forms" else login.smtp
        server = await asyncio.start_server(handle, "127.0.0.1", port)
        up.set()
        while not over.is_set():
            await asyncio.sleep(0.05)
        server.close()

    threading.Thread(target=asyncio.run, args=(run(),), daemon=True).start()
    assert up.wait(60)
    return port, over


def test_the_form_opens_to_the_right_password_only() -> None:
    port, over = served("forms")
    answers = []
    for password in ("wrong", "right-1"):
        body = f"user=maria&password={password}"
        with socket.create_connection(("127.0.0.1", port), timeout=60) as made:
            made.sendall(f"POST /login HTTP/1.1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            answers.append(b"".join(iter(lambda made=made: made.recv(4000), b"")))
    over.set()
    assert b"Invalid login" in answers[0]
    assert answers[1].startswith(b"HTTP/1.1 302 Found\r\n")


@pytest.mark.parametrize(("kind", "server"), [("smtp", "smtp"), ("form", "forms")])
def test_the_guesser_tries_until_its_time_is_over(kind: str, server: str, tmp_path: Path) -> None:
    port, over = served(server)
    (tmp_path / "users").write_text("root\nmaria\n")
    (tmp_path / "words").write_text("a\nb\n")
    words = ["--users", str(tmp_path / "users"), "--passwords", str(tmp_path / "words")]
    more = ["--pause", "0.1", "--seconds", "0.5"]
    command = [sys.executable, str(TOOLS / "guess.py"), kind, "127.0.0.1", str(port), *words, *more]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    over.set()
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_sweep_asks_every_port_once() -> None:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [server.getsockname()[1] for server in servers]
    command = [sys.executable, str(TOOLS / "sweep.py"), "127.0.0.1", ",".join(map(str, ports)), "--shuffle", "--gap", "0.01"]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
    for server in servers:
        server.settimeout(2)
        server.accept()[0].close()
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()
        server.close()


def test_the_slow_client_holds_unfinished_requests(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        command = [sys.executable, str(TOOLS / "slowhold.py"), "headers", "127.0.0.1", port, "--sockets", "2", "--spread", "0.1"]
        with subprocess.Popen([*command, "--pause", "0.2", "--seconds", "1.5"]) as ran:
            server.settimeout(5)
            held = [server.accept()[0] for _ in range(2)]
            said = [b"".join(iter(lambda made=made: made.recv(4000), b"")) for made in held]
            assert ran.wait(10) == 0
    assert all(text.startswith(b"GET / HTTP/1.1\r\n") and text.count(b"\r\nX-") >= 2 for text in said)
    assert not any(b"\r\n\r\n" in text for text in said)


def test_the_checksum_is_that_of_rfc_1071() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 60, 7238, 0x4000, 64, 6, 0, bytes([172, 16, 10, 99]), bytes([172, 16, 10, 12]))
    assert checksum(header) == 0xB1E6
