"""Clients of servers of many kinds, and those that do it for hours: clients, desktops, pollers, devices."""

import asyncio
import contextlib
import struct

from training.lab.clients.base import RNG, Params, connect, habit, tool

DESKTOP = "mkdir -p /tmp/.X11-unix; mount -t tmpfs tmpfs /tmp/.X11-unix; Xvfb :9 -nolisten tcp -nolock -screen 0 800x600x24 & "
DESKTOP += "while [ ! -e /tmp/.X11-unix/X9 ]; do sleep 0.1; done; DISPLAY=:9 timeout 5 xfreerdp"


@habit
async def program(p: Params) -> None:
    """A real client with its command line, `count` times."""
    for _ in range(p.get("count", 1)):
        await tool(*p["argv"], limit_s=p.get("limit", 8))
        await asyncio.sleep(RNG.uniform(0, p.get("pause", 0)))


@habit
async def desktop(p: Params) -> None:
    """A look at a desktop: one picture by VNC, or some seconds of RDP on a screen that nobody sees."""
    if p["kind"] == "vnc":
        file = f"{p['work']}/vnc-{RNG.randrange(10**6)}"
        shot = f"vncsnapshot -passwd {file} -quality 30 {p['host']}::{p['port']} {file}.jpg"
        await tool("sh", "-c", f"echo {p['word']} | tigervncpasswd -f > {file}; {shot}; rm -f {file}*", limit_s=8)
    else:
        asks = f"/v:{p['host']}:{p['port']} /u:{p['user']} /p:{p['word']} /cert:ignore"
        await tool("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", f"{DESKTOP} {asks}", limit_s=9)


@habit
async def poll_controller(p: Params) -> None:
    """A control station reads a controller's registers and coils and writes one now and then (Modbus/TCP).

    On one connection that stays or on a new one each time.
    """

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        function = RNG.choices([3, 4, 1, 2, 6], [8, 4, 3, 3, 1])[0]
        body = struct.pack(">BHH", function, RNG.randrange(200), RNG.randrange(1000) if function == 6 else RNG.randint(1, 60))
        writer.write(struct.pack(">HHHB", number & 0xFFFF, 0, len(body) + 1, 1) + body)
        head = await asyncio.wait_for(reader.readexactly(7), 2)
        await reader.readexactly(struct.unpack(">H", head[4:6])[0] - 1)

    reader, writer = await connect(p, p["host"], p["port"])
    for number in range(p["count"]):
        await ask(reader, writer, number)
        await asyncio.sleep(p["pause"] * RNG.uniform(0.9, 1.1))
        if not p["kept"]:
            writer.close()
            reader, writer = await connect(p, p["host"], p["port"])
    writer.close()


@habit
async def reconnect(p: Params) -> None:
    """A device that connects, says and hears a little, and is gone again, every few seconds all day.

    A sensor behind a bad line, a pool of connections, a keep-alive that is shorter than the server's. `hello` is what it says, in
    hex; `count` turns.
    """
    for _ in range(p["count"]):
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await connect(p, p["host"], p["port"])
            if p.get("hello"):
                writer.write(bytes.fromhex(p["hello"]))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(reader.read(600), p.get("stay", 1))
            writer.close()
        await asyncio.sleep(p["pause"] * RNG.uniform(1 - p.get("jitter", 0.1), 1 + p.get("jitter", 0.1)))
