"""The lab's servers for what no daemon fits, with what speaks to them: login pages, a controller, an FTP server that bounces."""

from __future__ import annotations

import asyncio
import functools
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from training.lab import small_servers
from training.lab.clients import HABITS

HERE = Path(small_servers.__file__).parent
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextmanager
def served(handle: Handler) -> Iterator[int]:
    """A server in a thread; its port."""
    up, over, port = Event(), Event(), [0]

    async def run() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port[0] = server.sockets[0].getsockname()[1]
        up.set()
        while not over.is_set():
            await asyncio.sleep(0.02)
        server.close()

    thread = Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    assert up.wait(60)
    yield port[0]
    over.set()
    thread.join(10)


def portal(seed: int) -> small_servers.Portal:
    return small_servers.Portal("maria", "right-1", 0.0, seed)


class Watched(small_servers.Portal):
    """A portal that remembers what was tried."""

    def __init__(self, seed: int) -> None:
        super().__init__("maria", "right-1", 0.0, seed)
        self.tried: list[tuple[str, str, bool]] = []
        self.most = 0

    async def opens(self, user: str, password: str) -> bool:
        right = await super().opens(user, password)
        self.tried.append((user, password, right))
        return right


@pytest.mark.parametrize("way", ["token", "wordpress", "calls", "api", "basic", "digest"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_guesser_is_refused_and_let_in_by_each_kind_of_page(way: str, seed: int, tmp_path: Path) -> None:
    server = Watched(seed)
    (tmp_path / "users").write_text("maria\n")
    (tmp_path / "words").write_text("wrong\nright-1\n")
    lists = ["--users", str(tmp_path / "users"), "--passwords", str(tmp_path / "words")]
    with served(functools.partial(small_servers.http, server.answer)) as port:
        command = [sys.executable, str(HERE / "tools" / "formguess.py"), way, "127.0.0.1", str(port), *lists, "--seconds", "0.6"]
        kept = ["--kept"] if seed == 1 else []
        ran = subprocess.run([*command, *kept], check=False, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert {right for *_, right in server.tried} == {True, False}
    assert [right for *_, right in server.tried[:2]] == [False, True]


def test_portals_differ_in_redirects_lengths_connections_and_patience() -> None:
    made = [portal(seed) for seed in range(40)]
    for trait in ("redirects", "changes", "closes"):
        assert {getattr(one, trait) for one in made} == {True, False}
    assert {one.most for one in made} == {0, 60}
    assert portal(3).size == portal(3).size != portal(4).size


def test_a_portal_that_is_guessed_at_too_often_tells_everyone_to_wait() -> None:
    one = portal(0)
    one.most, one.refused = 60, 61
    asked = small_servers.Request("GET", "/login", b"", {}, True)
    status, content, _ = asyncio.run(one.answer(asked))
    assert (status, content) == ("429 Too Many Requests", b"Too many attempts, please wait")


def test_a_form_without_its_token_has_expired() -> None:
    asked = small_servers.Request("POST", "/login", b"username=maria&password=right-1", {"cookie": "session=ab"}, True)
    assert asyncio.run(portal(0).answer(asked))[0] == "403 Forbidden"


def test_two_slashes_lead_to_the_same_page() -> None:
    with (
        served(functools.partial(small_servers.http, portal(0).answer)) as port,
        pytest.raises(urllib.error.HTTPError, match="401"),
    ):
        urllib.request.urlopen(f"http://127.0.0.1:{port}//manager/html", timeout=20)


@pytest.mark.parametrize("closes", [True, False])
def test_a_browser_signs_in_with_cookie_and_token(closes: bool) -> None:
    server = Watched(next(seed for seed in range(40) if portal(seed).closes is closes))
    with served(functools.partial(small_servers.http, server.answer)) as port:
        ends = {"host": "127.0.0.1", "port": port, "user": "maria", "password": "right-1", "pause": 0.01}
        for more in ({}, {"word": "last-year"}):
            asyncio.run(HABITS["sign_in"](ends | more))  # type: ignore[arg-type]
    assert server.tried == [("maria", "right-1", True), ("maria", "last-year", False)]


@pytest.mark.parametrize("kept", [True, False])
def test_a_controller_answers_every_question_of_a_station(kept: bool) -> None:
    with served(small_servers.modbus) as port:
        asyncio.run(HABITS["poll_controller"]({"host": "127.0.0.1", "port": port, "count": 30, "pause": 0.0, "kept": kept}))  # type: ignore[arg-type]


def test_an_old_ftp_server_connects_to_whom_it_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as told, socket.create_server(("127.0.0.1", 0)) as gone:
        told.settimeout(20)
        high, low = divmod(told.getsockname()[1], 256)
        shut = divmod(gone.getsockname()[1], 256)
        gone.close()
        with served(small_servers.bounce) as port, socket.create_connection(("127.0.0.1", port), timeout=20) as made:
            lines = made.makefile("rw", newline="\r\n")
            answers = [lines.readline()[:3]]
            for line in (f"PORT 127,0,0,1,{high},{low}", "LIST", "", f"PORT 127,0,0,1,{shut[0]},{shut[1]}", "LIST"):
                if line:
                    lines.write(f"{line}\r\n")
                    lines.flush()
                answers.append(lines.readline()[:3])
        assert told.accept()[0].recv(100).startswith(b"-rw-r--r--")
    assert answers == ["220", "200", "150", "226", "200", "425"]


def test_the_flooder_of_one_socket_keeps_it() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)
        port = str(server.getsockname()[1])
        tool = [sys.executable, str(HERE / "tools" / "socketflood.py"), "127.0.0.1", port, "--count", "40", "--rate", "400"]
        assert subprocess.run([*tool, "--zone", "lab.test"], check=False, timeout=60).returncode == 0
        got = [server.recvfrom(600) for _ in range(40)]
    assert len({addr for _, addr in got}) == 1
    assert all(b"\3lab\4test\0" in data for data, _ in got)
