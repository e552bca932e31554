"""Devices that start together, announce themselves or look for each other: mDNS, SSDP, DHCP, known ports of neighbours."""

import asyncio
import contextlib
import socket
import struct

from training.lab.clients.base import RNG, Params, connect, get, habit
from training.lab.clients.names import dns, ntp, query
from training.lab.clients.things import mqtt
from training.lab.clients.web import browse
from training.lab.tools.rawflood import checksum


def _announce(src: str) -> list[tuple[str, int, bytes]]:
    name = f"device-{RNG.randrange(10**5)}.local"
    mdns = bytearray(query(name, 255))
    mdns[0:4] = b"\0\0\0\0"
    search = b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 2\r\nST: ssdp:all\r\n\r\n'
    where = f"HOST: 239.255.255.250:1900\r\nLOCATION: http://{src}:49152/d.xml"
    notify = f"NOTIFY * HTTP/1.1\r\n{where}\r\nNTS: ssdp:alive\r\n\r\n".encode()
    return [("224.0.0.251", 5353, bytes(mdns)), ("239.255.255.250", 1900, RNG.choice([search, notify]))]


def _tell(src: str) -> None:
    for host, port, data in _announce(src):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(src))
            sock.bind((src, 0))
            sock.sendto(data, (host, port))


def _dhcp(mac: bytes, src: str) -> None:
    """DISCOVER and REQUEST from 0.0.0.0, as a starting device sends them; raw frames, since the host has its address already."""
    for kind in (1, 3):
        options = bytes([53, 1, kind, 12, 6]) + b"device" + bytes([55, 4, 1, 3, 6, 15])
        if kind == 3:
            options += bytes([50, 4]) + socket.inet_aton(src)
        transaction = RNG.randbytes(4)
        head = struct.pack(">BBBB4sHH16s6s10s192xI", 1, 1, 6, 0, transaction, 0, 0x8000, b"", mac, b"", 0x63825363)
        body = (head + options + b"\xff").ljust(300, b"\0")
        udp = struct.pack(">HHHH", 68, 67, 8 + len(body), 0) + body
        head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), RNG.randrange(65536), 0, 64, 17, 0, bytes(4), b"\xff" * 4)
        head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
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
            _tell(src)
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
                reader, writer = await connect({"src": p["src"]}, host, port, 1)
                await asyncio.wait_for(get(reader, writer, host, "description.xml"), 1)
                writer.close()

    for host in p["hosts"]:
        await look(host)
        await asyncio.sleep(RNG.uniform(0, p.get("gap", 0.1)))


@habit
async def announce(p: Params) -> None:
    """mDNS questions and SSDP notes of every source, now and then the DHCP of a device that is new."""
    for src in p["sources"]:
        _tell(src)
        if RNG.random() < 0.3:
            _dhcp(b"\x02" + RNG.randbytes(5), src)
        await asyncio.sleep(RNG.uniform(0, p["spread"]))
