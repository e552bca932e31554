"""Benign clients: acts out the habits of one host inside its namespace, from a JSON file, until its time is over.

Started as a file in a namespace, so it imports nothing but the standard library. Where a real client exists (ssh, scp, curl,
lftp-like FTP, dig, mosquitto, snmpwalk, ntpdate, ping) it is used; the rest are plain sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import ftplib
import io
import json
import os
import random
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Params = dict[str, Any]
RNG = random.Random()
HABITS: dict[str, Callable[[Params], Awaitable[None]]] = {}
PAGES = [f"p{i}.html" for i in range(20)] + [f"i{i}.jpg" for i in range(40)] + [f"s{i}.txt" for i in range(30)]


def habit(act: Callable[[Params], Awaitable[None]]) -> Callable[[Params], Awaitable[None]]:
    """Enter a habit under its function's name."""
    HABITS[act.__name__] = act
    return act


async def tool(*argv: object, limit_s: float = 15, stdin: bytes = b"") -> None:
    """Run a real client quietly; killed when its time is over."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *map(str, argv), stdin=pipe, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await asyncio.wait_for(process.communicate(stdin), limit_s)
    except (TimeoutError, asyncio.CancelledError):
        with contextlib.suppress(ProcessLookupError):
            process.kill()


def _local(p: Params) -> tuple[str, int] | None:
    return (p["src"], 0) if p.get("src") else None


async def _connect(p: Params, host: str, port: int, limit_s: float = 4) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.wait_for(asyncio.open_connection(host, port, local_addr=_local(p)), limit_s)


def _datagram(p: Params, host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    if p.get("src"):
        made.bind((p["src"], p.get("src_port", 0)))
    return made


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str, extra: str = "") -> None:
    """One HTTP request on an open connection; reads the answer whole."""
    agent = RNG.choice(
        ["Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0", "Mozilla/5.0 (iPhone) Safari/604.1", "okhttp/4.12", "curl/8.5"]
    )
    writer.write(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nAccept: */*\r\n{extra}\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            await reader.readexactly(int(line.split(b":")[1]))


@habit
async def browse(p: Params) -> None:
    """A page with its pictures over `parallel` kept-alive connections, as a browser does."""

    async def worker(paths: list[str]) -> None:
        reader, writer = await _connect(p, p["host"], p["port"])
        for path in paths:
            await _get(reader, writer, p["host"], path)
            await asyncio.sleep(RNG.expovariate(1 / p.get("think", 0.02)))
        await asyncio.sleep(RNG.uniform(0, p.get("linger", 1.0)))
        writer.close()

    paths = RNG.choices(PAGES, k=RNG.randint(1, p.get("objects", 20)))
    count = min(p.get("parallel", 4), len(paths))
    await asyncio.gather(*(worker(paths[i::count]) for i in range(count)), return_exceptions=True)


@habit
async def crowd(p: Params) -> None:
    """Many short whole requests at once from several addresses: a flash crowd or a load test."""

    async def one(src: str) -> None:
        await asyncio.sleep(RNG.uniform(0, p["spread"]))
        reader, writer = await _connect({"src": src}, p["host"], p["port"])
        await _get(reader, writer, p["host"], RNG.choice(PAGES[60:]), "Connection: close\r\n")
        writer.close()

    await asyncio.gather(*(one(RNG.choice(p["sources"])) for _ in range(p["count"])), return_exceptions=True)


@habit
async def curl(p: Params) -> None:
    """curl, several URLs in parallel, with or without TLS, rate limit and upload."""
    options = ["-s", "-k", "-o", "/dev/null", "--max-time", "20", *p.get("options", [])]
    if p.get("src"):
        options += ["--interface", p["src"]]
    urls = RNG.choices(p["urls"], k=p.get("count", 1))
    every = [part for url in urls for part in ("-o", "/dev/null", url)]
    await tool("curl", "-Z", *options, *every, limit_s=25)


@habit
async def upload_slowly(p: Params) -> None:
    """A sensor behind a thin line that posts its data a little at a time: slow, but it ends."""
    reader, writer = await _connect(p, p["host"], p["port"])
    size = p["size"]
    writer.write(
        f"POST /app/upload HTTP/1.1\r\nHost: {p['host']}\r\nContent-Length: {size}\r\n"
        "Content-Type: application/octet-stream\r\n\r\n".encode()
    )
    for at in range(0, size, p["chunk"]):
        writer.write(os.urandom(min(p["chunk"], size - at)))
        await writer.drain()
        await asyncio.sleep(p["pause"])
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


@habit
async def hold(p: Params) -> None:
    """Connections kept open with little on them: long polls, web sockets, idle sessions."""

    async def one() -> None:
        reader, writer = await _connect(p, p["host"], p["port"])
        await _get(reader, writer, p["host"], RNG.choice(PAGES[60:]))
        for _ in range(p["beats"]):
            await asyncio.sleep(p["pause"] * RNG.uniform(0.7, 1.3))
            await _get(reader, writer, p["host"], RNG.choice(PAGES[60:]))
        writer.close()

    await asyncio.gather(*(one() for _ in range(p["count"])), return_exceptions=True)


@habit
async def api(p: Params) -> None:
    """A program that asks an API with a password: the right one, now and then once without."""
    reader, writer = await _connect(p, p["host"], p["port"])
    for _ in range(p.get("count", 3)):
        if RNG.random() < 0.3:
            await _get(reader, writer, p["host"], "admin/status.html")
        await _get(reader, writer, p["host"], "admin/status.html", f"Authorization: Basic {p['basic']}\r\n")
        await asyncio.sleep(RNG.uniform(0.05, 0.5))
    writer.close()


def _query(name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack(">HHHHHH", RNG.randrange(65536), 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


@habit
async def dns(p: Params) -> None:
    """Name look-ups as a resolver library does them: A and AAAA from one socket, a few names in a row or many at once."""
    loop = asyncio.get_running_loop()

    async def one() -> None:
        name = f"{RNG.choice(['www', 'api', 'cdn', 'img', 'mail', 'time', f'n{RNG.randrange(300)}'])}.{RNG.choice(p['zones'])}"
        with _datagram(p, p["host"]) as sock:
            sock.connect((p["host"], 53))
            for kind in RNG.choice([(1,), (1, 28), (1, 28, 65), (12,), (16,)]):
                await loop.sock_sendall(sock, _query(name, kind))
                with contextlib.suppress(TimeoutError, OSError):
                    await asyncio.wait_for(loop.sock_recv(sock, 4096), 1)

    for _ in range(p.get("rounds", 1)):
        await asyncio.gather(*(one() for _ in range(RNG.randint(1, p.get("parallel", 3)))), return_exceptions=True)
        await asyncio.sleep(RNG.expovariate(2))


@habit
async def dig(p: Params) -> None:
    """dig with a few record types, also over TCP."""
    await tool(
        "dig",
        f"@{p['host']}",
        f"www.{RNG.choice(p['zones'])}",
        RNG.choice(["A", "AAAA", "TXT", "MX"]),
        *RNG.choice([[], ["+tcp"]]),
    )


def _ssh_options(p: Params) -> list[str]:
    quiet = [
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "ConnectTimeout=5",
        "-o",
        "LogLevel=ERROR",
    ]
    return ["-i", p["key"], *quiet, *(["-o", f"BindAddress={p['src']}"] if p.get("src") else [])]


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@habit
async def ssh(p: Params) -> None:
    """A command over ssh with a key; `parallel` sessions at once as a configuration tool opens them."""
    work = ["ls -l /usr/bin | head -100", "uname -a", "cat /etc/services", "sleep 2; date", "dmesg | tail -50; df"]
    one = ["ssh", *_ssh_options(p), "-p", p["port"], f"{p['user']}@{p['host']}"]
    await asyncio.gather(*(tool(*one, RNG.choice(work)) for _ in range(p.get("parallel", 1))))


@habit
async def ssh_typing(p: Params) -> None:
    """An interactive session: keys one by one, with the shell's echo."""
    argv = ["ssh", "-tt", *_ssh_options(p), "-p", str(p["port"]), f"{p['user']}@{p['host']}"]
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.PIPE, stdout=quiet, stderr=quiet)
    assert process.stdin
    await asyncio.sleep(1)
    with contextlib.suppress(OSError):
        for key in "ls -la\ncat /etc/passwd\nuptime\nexit\n":
            process.stdin.write(key.encode())
            await process.stdin.drain()
            await asyncio.sleep(RNG.uniform(0.04, 0.3))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), 5)
    if process.returncode is None:
        process.kill()


@habit
async def ssh_mistyped(p: Params) -> None:
    """A user who types the password wrong once or twice and then right."""
    argv = ["ssh", "-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1", *_ssh_options(p)[2:]]
    for word in [*["wrong-word"] * p.get("wrong", 1), p["password"]]:
        await tool("sshpass", "-p", word, *argv, "-p", p["port"], f"{p['user']}@{p['host']}", "id")
        await asyncio.sleep(RNG.uniform(0.8, 2))


@habit
async def scp(p: Params) -> None:
    """A file there or back with scp, or a folder with sftp."""
    size = int(p.get("size", 200_000) * RNG.uniform(0.3, 1.5))
    path = Path(p["work"]) / f"up-{RNG.randrange(10**6)}"
    path.write_bytes(os.urandom(size))
    far = f"{p['user']}@{_bracket(p['host'])}"
    if RNG.random() < 0.5:
        await tool("scp", *_ssh_options(p), "-P", p["port"], path, f"{far}:", limit_s=20)
    else:
        batch = f"put {path}\nls -l\nget {path.name} /dev/null\nrm {path.name}\n".encode()
        await tool("sftp", *_ssh_options(p), "-P", p["port"], "-b", "-", far, limit_s=20, stdin=batch)
    path.unlink(missing_ok=True)


def _ftp(p: Params) -> None:
    with ftplib.FTP() as ftp:  # noqa: S321 - the lab's FTP traffic is the point
        ftp.connect(p["host"], p["port"], timeout=6, source_address=_local(p))
        if p.get("wrong"):
            with contextlib.suppress(ftplib.Error):
                ftp.login(p["user"], "not-this")
        if RNG.random() < 0.4:
            ftp.login()
        else:
            ftp.login(p["user"], p["password"])
        ftp.set_pasv(RNG.random() < 0.8)
        names = ftp.nlst()
        for name in RNG.sample(PAGES, RNG.randint(1, p.get("files", 4))):
            if name in names:
                ftp.retrbinary(f"RETR {name}", lambda data: None)
                time.sleep(RNG.uniform(0, 0.1))
        if RNG.random() < 0.3:
            with contextlib.suppress(ftplib.Error):
                ftp.storbinary(f"STOR up{RNG.randrange(10**6)}", io.BytesIO(os.urandom(RNG.randint(500, 60000))))
        with contextlib.suppress(ftplib.Error):
            ftp.quit()


@habit
async def ftp(p: Params) -> None:
    """A few files by FTP, active or passive; a data connection each."""
    await asyncio.to_thread(_ftp, p)


@habit
async def telnet(p: Params) -> None:
    """Log in over telnet and type a few commands, key by key."""
    reader, writer = await _connect(p, p["host"], p["port"])

    async def swallow() -> None:
        while data := await reader.read(500):
            # Refuse every option: DO gets WONT, WILL gets DONT.
            for at in range(len(data) - 2):
                if data[at] == 255 and data[at + 1] in (251, 253):
                    writer.write(bytes([255, 254 if data[at + 1] == 251 else 252, data[at + 2]]))

    reading = asyncio.create_task(swallow())
    for line, pause in ((p["user"], 1.0), (p["password"], 1.5), ("ls -l /", 1.0), ("cat /etc/services", 0.5), ("exit", 0.5)):
        await asyncio.sleep(pause)
        for key in line + "\r\n":
            writer.write(key.encode())
            await asyncio.sleep(RNG.uniform(0.02, 0.15))
    await asyncio.sleep(0.5)
    reading.cancel()
    writer.close()


@habit
async def mqtt(p: Params) -> None:
    """Publish a few readings, as a device that wakes up does."""
    for _ in range(RNG.randint(1, p.get("count", 3))):
        bind = ["-A", p["src"]] if p.get("src") else []
        topic = f"home/{RNG.randrange(9)}/temp"
        await tool(
            "mosquitto_pub",
            "-h",
            p["host"],
            "-p",
            p["port"],
            *bind,
            "-t",
            topic,
            "-m",
            "x" * RNG.randint(4, 300),
            "-q",
            RNG.randrange(3),
        )


@habit
async def mqtt_listen(p: Params) -> None:
    """Subscribe and stay."""
    await tool("mosquitto_sub", "-h", p["host"], "-p", p["port"], "-t", "home/#", "-k", "5", limit_s=p["seconds"])


@habit
async def snmp(p: Params) -> None:
    """A monitoring station that reads a table or a value from every target in turn."""
    for host in p["hosts"]:
        far = f"udp6:[{host}]" if ":" in host else host
        if RNG.random() < 0.4:
            await tool(
                "snmpbulkwalk",
                "-v2c",
                "-c",
                "public",
                "-t",
                "0.5",
                "-r",
                "0",
                far,
                RNG.choice(["1.3.6.1.2.1.2", "1.3.6.1.2.1.1"]),
                limit_s=5,
            )
        else:
            await tool("snmpget", "-v2c", "-c", "public", "-t", "0.5", "-r", "0", far, "1.3.6.1.2.1.1.3.0", limit_s=5)


@habit
async def ntp(p: Params) -> None:
    """Ask for the time: ntpdate's four samples, or one packet as a small device sends it."""
    if RNG.random() < 0.5:
        await tool("ntpdate", "-q", p["host"], limit_s=8)
        return
    loop = asyncio.get_running_loop()
    with _datagram(p, p["host"]) as sock:
        sock.connect((p["host"], 123))
        await loop.sock_sendall(sock, b"\x23" + bytes(47))
        with contextlib.suppress(TimeoutError, OSError):
            await asyncio.wait_for(loop.sock_recv(sock, 100), 1)


@habit
async def ping(p: Params) -> None:
    """A few pings, with various sizes and intervals, as a user or a watchdog sends them."""
    bind = ["-I", p["src"]] if p.get("src") else []
    options = [
        "-c",
        RNG.randint(1, p.get("count", 5)),
        "-i",
        RNG.choice([0.2, 0.5, 1]),
        "-s",
        RNG.choice([24, 56, 56, 56, 500, 1200]),
    ]
    await tool("ping", "-n", *bind, *options, RNG.choice(p["hosts"]), limit_s=10)


@habit
async def watchdog(p: Params) -> None:
    """Monitoring of a fleet: one ping each (fping), then the known services' ports, one connection each."""
    await tool("fping", "-q", "-c", "1", "-i", p.get("gap_ms", 10), *p["hosts"], limit_s=8)
    for host, port in p["checks"]:
        with contextlib.suppress(OSError, TimeoutError):
            _, writer = await _connect(p, host, port, 1)
            await asyncio.sleep(0.02)
            writer.close()
        await asyncio.sleep(RNG.uniform(0, p.get("gap_s", 0.05)))


@habit
async def scrape(p: Params) -> None:
    """A metrics collector: GET /metrics from every device, all at once."""

    async def one(host: str) -> None:
        reader, writer = await _connect(p, host, p["port"], 2)
        await _get(reader, writer, host, "metrics")
        writer.close()

    await asyncio.gather(*(one(host) for host in p["hosts"]), return_exceptions=True)


@habit
async def stream(p: Params) -> None:
    """Steady datagrams: video one way, voice both ways, a game, flow records."""
    loop = asyncio.get_running_loop()
    with _datagram(p, p["host"]) as sock:
        if p["host"].startswith("239."):
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 2)
        sock.connect((p["host"], p["port"]))
        until, number = loop.time() + p["seconds"], 0
        while loop.time() < until:
            for _ in range(RNG.randint(1, p.get("burst", 1))):
                number += 1
                size = max(20, int(RNG.gauss(p["size"], p.get("spread", 30))))
                with contextlib.suppress(OSError):
                    sock.send(
                        struct.pack(">BBHII", 0x80, 96, number & 0xFFFF, number * 3000 & 0xFFFFFFFF, 7)
                        + RNG.randbytes(min(size, 1400))
                    )
            await asyncio.sleep(1 / p["rate"])


@habit
async def listen(p: Params) -> None:
    """Receive datagrams on a port; echo every `echo`-th, as a call or a receiver report does."""

    class Receiver(asyncio.DatagramProtocol):
        seen = 0

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
            self.seen += 1
            if self.seen % p["echo"] == 0:
                self.transport.sendto(data[: p.get("size", 60)], addr)  # type: ignore[attr-defined]

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Receiver, local_addr=(p["src"], p["port"]))
    await asyncio.sleep(p["seconds"])
    transport.close()


@habit
async def retry(p: Params) -> None:
    """A program whose server is down: tries again and again, to a closed port or an address where nobody lives."""
    for _ in range(p["count"]):
        if p.get("udp"):
            with _datagram(p, p["host"]) as sock, contextlib.suppress(OSError):
                sock.connect((p["host"], p["port"]))
                sock.send(os.urandom(60))
        else:
            with contextlib.suppress(OSError, TimeoutError):
                _, writer = await _connect(p, p["host"], p["port"], 1)
                writer.close()
        await asyncio.sleep(p["pause"] * RNG.uniform(0.8, 1.2))


def _announce(src: str) -> list[tuple[str, int, bytes]]:
    name = f"device-{RNG.randrange(10**5)}.local"
    mdns = bytearray(_query(name, 255))
    mdns[0:4] = b"\0\0\0\0"
    search = b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 2\r\nST: ssdp:all\r\n\r\n'
    where = f"HOST: 239.255.255.250:1900\r\nLOCATION: http://{src}:49152/d.xml"
    notify = f"NOTIFY * HTTP/1.1\r\n{where}\r\nNTS: ssdp:alive\r\n\r\n".encode()
    return [("224.0.0.251", 5353, bytes(mdns)), ("239.255.255.250", 1900, RNG.choice([search, notify]))]


def _dhcp(mac: bytes, src: str) -> None:
    """DISCOVER and REQUEST from 0.0.0.0, as a starting device sends them; raw frames, since the host has its address already."""
    for kind in (1, 3):
        options = bytes([53, 1, kind, 12, 6]) + b"device" + bytes([55, 4, 1, 3, 6, 15])
        if kind == 3:
            options += bytes([50, 4]) + socket.inet_aton(src)
        transaction = RNG.randbytes(4)
        body = (
            struct.pack(">BBBB4sHH16s6s10s192xI", 1, 1, 6, 0, transaction, 0, 0x8000, b"", mac, b"", 0x63825363)
            + options
            + b"\xff"
        )
        body = body.ljust(300, b"\0")
        udp = struct.pack(">HHHH", 68, 67, 8 + len(body), 0) + body
        head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), RNG.randrange(65536), 0, 64, 17, 0, bytes(4), b"\xff" * 4)
        total = sum(struct.unpack(">10H", head))
        total = (total & 0xFFFF) + (total >> 16)
        head = head[:10] + struct.pack(">H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + head[12:]
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("eth0", 0))
            sock.send(b"\xff" * 6 + mac + b"\x08\x00" + head + udp)


@habit
async def startup(p: Params) -> None:
    """Devices that come up together, as after a power cut: DHCP, announcements, names, time, MQTT and web at once."""

    async def device(src: str) -> None:
        await asyncio.sleep(RNG.uniform(0, p["spread"]))
        _dhcp(b"\x02" + RNG.randbytes(5), src)
        for _ in range(RNG.randint(1, 3)):
            for host, port, data in _announce(src):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
                    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(src))
                    sock.bind((src, 0))
                    sock.sendto(data, (host, port))
            await asyncio.sleep(RNG.uniform(0.02, 0.3))
        mine = {"src": src}
        acts = [
            dns(mine | {"host": p["dns"], "zones": p["zones"], "parallel": 6, "rounds": 2}),
            browse(mine | {"host": p["web"], "port": p["web_port"], "objects": 6, "parallel": 3}),
            ntp(mine | {"host": p["dns"]}),
            mqtt(mine | {"host": p["dns"], "port": 1883}),
        ]
        await asyncio.gather(*RNG.sample(acts[:2], 2), *acts[2:], return_exceptions=True)

    await asyncio.gather(*(device(src) for src in p["sources"]), return_exceptions=True)


@habit
async def discover(p: Params) -> None:
    """A home hub or printer dialogue that looks for devices: multicast questions, then a few known ports of each neighbour."""
    for host, port, data in _announce(p["src"]) * 3:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            sock.bind((p["src"], 0))
            sock.sendto(data, (host, port))
        await asyncio.sleep(0.05)

    async def look(host: str) -> None:
        for port in RNG.sample(p["ports"], min(len(p["ports"]), p.get("each", 2))):
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
                reader, writer = await _connect({"src": p["src"]}, host, port, 1)
                await asyncio.wait_for(_get(reader, writer, host, "description.xml"), 1)
                writer.close()

    for host in p["hosts"]:
        await look(host)
        await asyncio.sleep(RNG.uniform(0, p.get("gap", 0.1)))


@habit
async def knock(p: Params) -> None:
    """Three closed ports in the agreed order, then ssh."""
    for port in p["ports"]:
        with contextlib.suppress(OSError, TimeoutError):
            _, writer = await _connect(p, p["host"], port, 0.4)
            writer.close()
        await asyncio.sleep(0.15)
    await ssh(p | {"port": p["ssh_port"]})


@habit
async def trace(p: Params) -> None:
    """traceroute-like: UDP with rising TTL to rising ports."""
    for ttl in range(1, p.get("hops", 8)):
        for _ in range(3):
            with _datagram(p, p["host"]) as sock, contextlib.suppress(OSError):
                if ":" not in p["host"]:
                    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
                sock.sendto(bytes(32), (p["host"], 33434 + ttl * 3 + RNG.randrange(3)))
            await asyncio.sleep(0.03)


async def act(item: dict[str, Any], until: float) -> None:
    """Act out one habit at its times."""
    await asyncio.sleep(item["at"])
    while time.monotonic() < until:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, EOFError, ftplib.Error):
            await HABITS[item["name"]](item["params"])
        if not item["every"]:
            return
        await asyncio.sleep(RNG.expovariate(1 / item["every"]))


async def main(plan: dict[str, Any]) -> None:
    """Act out all habits of this host side by side; ends at `seconds`."""
    RNG.seed(plan["seed"])
    until = time.monotonic() + plan["seconds"]
    acts = [asyncio.create_task(act(item, until)) for item in plan["habits"]]
    await asyncio.wait(acts, timeout=plan["seconds"])
    for task in acts:
        task.cancel()
    await asyncio.gather(*acts, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
