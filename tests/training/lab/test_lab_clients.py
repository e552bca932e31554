"""The benign clients of background traffic end and take part; the servers' settings are what the programs take."""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from training.lab.catalogue import captures
from training.lab.clients import HABITS
from training.lab.plan import Capture, network
from training.lab.services import commands, dns_lines

CHATTER = captures("chatter", 1)


def test_clients_of_background_traffic_ask_hosts_and_services_that_are_there() -> None:
    for capture in CHATTER:
        files = {service.name: service.port for service in capture.host("files").services}
        addresses = {address for host in capture.hosts for address in host.plain()}
        served = {habit.params["port"] for habit in capture.habits if habit.name == "bulk_serve"}
        for habit in capture.habits:
            if HABITS[habit.name].__module__.endswith(".background"):
                assert habit.params.get("host", habit.params["src"]) in addresses
            if habit.name == "mail_check":
                assert habit.params["port"] == files[habit.params["kind"]]
            if habit.name == "cache_work":
                assert habit.params["port"] == files["redis"]
            if habit.name == "bulk_fetch":
                assert habit.params["port"] in served


def test_a_resolver_knows_sixty_chained_names_in_each_zone(tmp_path: Path) -> None:
    capture = CHATTER[0]
    lines = dns_lines(capture, tmp_path / "boot", random.Random(1)).splitlines()
    assert sum(line.startswith("cname=") for line in lines) == 60 * len(capture.zones)
    targets = {line.split(",")[0].removeprefix("host-record=") for line in lines if line.startswith("host-record=")}
    assert {line.split(",")[1] for line in lines if line.startswith("cname=")} <= targets
    assert (tmp_path / "boot" / "kernel.img").stat().st_size > 10_000
    if not shutil.which("dnsmasq"):
        pytest.skip("dnsmasq is not installed; make lab installs it")
    command = commands(capture.host("infra"), capture, tmp_path, tmp_path)["dns"]
    checked = subprocess.run([command[0], "--test", *command[2:]], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("software", ["nginx", "apache", "lighttpd"])
def test_a_web_servers_settings_name_port_content_accounts_and_patience(software: str, tmp_path: Path) -> None:
    capture, _ = network("one", "demo", 1, 10, vary=False)
    host = capture.host("web")
    options = {"software": software, "patience": 7, "connections": 256, "keepalive": 9}
    http = replace(host.services[1], port=8123, options=options)
    capture = Capture(**{**vars(capture), "hosts": [replace(host, services=[http]), *capture.hosts]})
    command = commands(capture.hosts[0], capture, tmp_path, tmp_path / "shared")["http"]
    (settings,) = (tmp_path / "web-http").glob("*.conf")
    assert str(settings) in command
    written = settings.read_text()
    for part in ("8123", "443", f"{settings.parent}/www", f"{settings.parent}/htpasswd", f"{tmp_path}/shared/tls.key"):
        assert part in written, part
    assert all(number in written for number in ("7", "256", "9"))
    assert (settings.parent / "www" / "big.bin").exists()


def free() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        number: int = sock.getsockname()[1]
        return number


def test_a_download_in_datagrams_comes_in_bursts_that_are_acknowledged() -> None:
    seen: list[int] = []

    async def run() -> None:
        port = free()
        served = {"src": "127.0.0.1", "port": port, "seconds": 5, "datagrams": 40, "burst": 5, "size": 1200}
        server = asyncio.create_task(HABITS["bulk_serve"](served))
        await asyncio.sleep(0.1)
        loop = asyncio.get_running_loop()
        recv = loop.sock_recv

        async def counted(sock: socket.socket, most: int) -> bytes:
            data = await recv(sock, most)
            seen.append(len(data))
            return data

        loop.sock_recv = counted  # type: ignore[method-assign]
        await HABITS["bulk_fetch"]({"src": "127.0.0.1", "host": "127.0.0.1", "port": port, "think": 0.0})
        server.cancel()

    asyncio.run(run())
    assert 40 <= len(seen) <= 80
    assert max(seen) == 1200


@pytest.mark.parametrize("one_socket", [True, False])
def test_a_pages_names_are_asked_from_one_socket_or_one_each(one_socket: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, bytes]] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(3)
        number = server.getsockname()[1]

        def answer() -> None:
            while True:
                try:
                    data, addr = server.recvfrom(600)
                except OSError:
                    return
                asked.append((addr[1], data))
                server.sendto(data, addr)

        threading.Thread(target=answer, daemon=True).start()
        connect = socket.socket.connect
        monkeypatch.setattr(socket.socket, "connect", lambda sock, to: connect(sock, ("127.0.0.1", number)))
        params = {"src": "127.0.0.1", "host": "127.0.0.1", "zones": ["a.test"], "clusters": [2, 2], "names": [6, 6], "gap": 0.0}
        asyncio.run(HABITS["page_names"](params | {"pause": 0.01, "one_socket": one_socket}))  # type: ignore[arg-type]
    assert len(asked) >= 12
    assert (len({port for port, _ in asked}) == 1) is one_socket
