"""Benign background traffic: look-ups of a page, tables read out, log lines, downloads in datagrams, mail that is looked for."""

import asyncio
import contextlib
import imaplib
import poplib
from collections.abc import Iterator
from typing import Any

from training.lab.clients.base import RNG, Params, answering, datagram, habit, tool
from training.lab.clients.logins import bracket
from training.lab.clients.names import ask, query
from training.lab.clients.things import agent

BOOT_FILES = {"boot.cfg": 900, "phone.xml": 6000, "ring.raw": 40_000, "kernel.img": 150_000}
"""What the resolver's TFTP server holds, and about how many bytes of it."""
LINES = (
    "<30>systemd[1]: Started Session 4711 of user lab.",
    "<86>sshd[812]: Accepted publickey for lab from 10.0.0.7 port 51144 ssh2",
    "<14>app: request served in 17 ms, status 200, 1822 bytes",
    "<11>app: upstream timed out while reading response header",
    "<6>kernel: eth0: link up, 1000 Mbps, full duplex",
)


@habit
async def page_names(p: Params) -> None:
    """A page with advertisements: A and AAAA of a few names, then of those that its scripts ask for, for seconds; from one socket
    as a stub resolver has it, or from one a name. Names are often asked again before the answer is there."""
    with datagram(p, p["host"], 53) as shared:
        for _ in range(RNG.randint(*p["clusters"])):
            names = [f"w{RNG.randrange(60)}.{RNG.choice(p['zones'])}" for _ in range(RNG.randint(*p["names"]))]
            names += [name for name in names if RNG.random() < 0.2]
            kinds = RNG.choice([(1,), (1, 28), (1, 28), (1, 28, 65)])
            if p["one_socket"]:
                await ask(shared, [query(name, kind) for name in names for kind in kinds], 0.4, p["gap"])
            else:
                with contextlib.ExitStack() as stack:
                    socks = [stack.enter_context(datagram(p, p["host"], 53)) for _ in names]
                    asked = zip(socks, names, strict=True)
                    await asyncio.gather(*(ask(sock, [query(name, kind) for kind in kinds], 0.6) for sock, name in asked))
            await asyncio.sleep(RNG.expovariate(1 / p["pause"]))


@habit
async def names_back(p: Params) -> None:
    """A log analyser that looks up the names of addresses, one after the other or a few at a time."""
    with datagram(p, p["host"], 53) as sock:
        for _ in range(p["rounds"]):
            backwards = [".".join(str(RNG.randrange(1, 255)) for _ in range(4)) for _ in range(p["together"])]
            await ask(sock, [query(f"{name}.in-addr.arpa", 12) for name in backwards], 0.5)
            await asyncio.sleep(RNG.expovariate(1 / p["pause"]))


@habit
async def dig_many(p: Params) -> None:
    """An administrator's dig: several types of several names in one call, with DNSSEC's flag, a zone transfer that is refused."""
    asked: list[object] = []
    for _ in range(RNG.randint(2, 8)):
        asked += [f"w{RNG.randrange(60)}.{RNG.choice(p['zones'])}", RNG.choice(["A", "AAAA", "MX", "TXT", "SOA", "NS", "ANY"])]
    ways: list[list[object]] = [[], ["+dnssec", "+bufsize=4096"], ["+tcp"], ["+subnet=192.0.2.0/24"]]
    await tool("dig", f"@{p['host']}", "+time=1", "+tries=1", *RNG.choice(ways), *asked)
    if RNG.random() < 0.3:
        await tool("dig", f"@{p['host']}", "+time=1", "+tries=1", RNG.choice(p["zones"]), "AXFR")


@habit
async def snmp_walk(p: Params) -> None:
    """A station that reads everything from a host, value by value or in bulk, or a few values again and again."""
    asks: list[object] = [RNG.choice(["-v1", "-v2c"]), "-c", "public", "-t", "1", "-r", "1", agent(p["host"])]
    if p["way"] == "walk":
        await tool("snmpwalk", *asks, RNG.choice(["1.3.6.1.2.1", "1.3.6.1.2.1.1", "1.3.6.1.2.1.25", "1.3.6.1.2.1.6"]), limit_s=9)
    elif p["way"] == "bulk":
        size = RNG.choice([5, 10, 30, 50])
        await tool("snmpbulkwalk", "-v2c", f"-Cr{size}", *asks[1:], RNG.choice(["1.3.6.1.2.1", "1.3.6.1.2.1.25"]), limit_s=9)
    else:
        for _ in range(RNG.randint(5, 40)):
            values = RNG.sample(["1.3.0", "1.5.0", "1.1.0", "2.1.0", "11.1.0", "5.1.0"], RNG.randint(1, 5))
            await tool("snmpget", *asks, *(f"1.3.6.1.2.1.{value}" for value in values), limit_s=4)
            await asyncio.sleep(p["pause"])


@habit
async def messages(p: Params) -> None:
    """Log lines or counters to a collector that never answers: a burst when a service starts, then now and then one."""
    loop = asyncio.get_running_loop()
    with datagram(p, p["host"], p["port"]) as sock:
        for number in range(p["bursts"]):
            for _ in range(RNG.randint(1, p["most"]) if number % 3 == 0 else RNG.randint(1, 3)):
                counter = f"app.{RNG.randrange(40)}:{RNG.randrange(900)}|c"
                line = f"{RNG.choice(LINES)} {RNG.randrange(10**6)}" if p["lines"] else counter
                with contextlib.suppress(OSError):
                    await loop.sock_sendall(sock, line.encode())
                if p["gap"]:
                    await asyncio.sleep(RNG.expovariate(1 / p["gap"]))
            await asyncio.sleep(RNG.expovariate(1 / p["pause"]))


@habit
async def tftp(p: Params) -> None:
    """A device that boots: a few files by TFTP, block by block (RFC 1350)."""
    for name in RNG.sample(sorted(BOOT_FILES), RNG.randint(1, 3)):
        how = ["--tftp-blksize", RNG.choice(["512", "512", "1024", "1428"]), *(["--interface", p["src"]] if p.get("src") else [])]
        await tool("curl", "-s", "-m", "10", *how, "-o", "/dev/null", f"tftp://{bracket(p['host'])}/{name}")


@habit
async def bulk_serve(p: Params) -> None:
    """A server of downloads in datagrams, as QUIC and VPNs have them: bursts of full ones, the next when half is acknowledged."""
    left: dict[Any, int] = {}

    def answer(data: bytes, addr: Any) -> Iterator[bytes]:
        if len(data) >= 1000:  # a hello
            left[addr] = p["datagrams"] + RNG.randrange(p["datagrams"])
        for _ in range(min(left.get(addr, 0), RNG.randint(2, p["burst"]))):
            left[addr] -= 1
            size = p["size"] if RNG.random() < 0.9 else RNG.randint(60, p["size"])
            yield bytes([0x40 | RNG.randrange(64)]) + RNG.randbytes(size - 1)

    transport = await answering(p, answer)
    await asyncio.sleep(p["seconds"])
    transport.close()


@habit
async def bulk_fetch(p: Params) -> None:
    """A download in datagrams: a hello of 1200 bytes, then a short acknowledgement for every second datagram (RFC 9000, 13.2)."""
    loop = asyncio.get_running_loop()
    with datagram(p, p["host"], p["port"]) as sock:
        await loop.sock_sendall(sock, bytes([0xC0 | RNG.randrange(16)]) + RNG.randbytes(1199))
        seen = 0
        with contextlib.suppress(TimeoutError, OSError):
            while True:
                await asyncio.wait_for(loop.sock_recv(sock, 2048), 0.7)
                seen += 1
                if seen % 2 == 0:
                    await loop.sock_sendall(sock, bytes([0x40 | RNG.randrange(64)]) + RNG.randbytes(RNG.randint(24, 40)))
                    await asyncio.sleep(p["think"])


@habit
async def mail_check(p: Params) -> None:
    """A mail program: the right password, what is new, and off again; or it stays and asks every second."""

    def look() -> None:
        if p["kind"] == "pop3":
            box = poplib.POP3(p["host"], p["port"], timeout=6)
            box.user(p["user"])
            box.pass_(p["password"])
            box.stat()
            box.quit()
            return
        with imaplib.IMAP4(p["host"], p["port"], timeout=6) as imap:
            imap.login(p["user"], p["password"])
            imap.select()
            for _ in range(RNG.randint(1, p["looks"])):
                imap.noop()
                imap.search(None, "UNSEEN")

    for _ in range(p["count"]):
        with contextlib.suppress(OSError, EOFError, imaplib.IMAP4.error, poplib.error_proto):
            await asyncio.to_thread(look)
        await asyncio.sleep(RNG.uniform(0, p["pause"]))


@habit
async def cache_work(p: Params) -> None:
    """A program at its redis: one connection with hundreds of small commands, or a new one for each few."""
    for _ in range(p["rounds"]):
        orders = []
        for _ in range(RNG.randint(1, p["most"])):
            key, value = f"k{RNG.randrange(99)}", "v" * RNG.randint(1, 200)
            orders.append(RNG.choice([f"GET {key}", f"SET {key} {value}", "PING"]))
        far = ("-h", p["host"], "-p", p["port"], "--no-auth-warning", "-a", p["password"])
        await tool("redis-cli", *far, stdin="\n".join(orders).encode() + b"\n")
        await asyncio.sleep(RNG.uniform(0, p["pause"]))


@habit
async def challenged(p: Params) -> None:
    """A program that is told 401 first and then sends the right password, for each of many requests."""
    for _ in range(p["count"]):
        url = f"http://{bracket(p['host'])}:{p['port']}/admin/{RNG.choice(['index.html', 'status.html', 's0.txt'])}"
        await tool("curl", "-s", "-m", "5", "-o", "/dev/null", "--anyauth", "-u", f"{p['user']}:{p['password']}", url)
        await asyncio.sleep(RNG.uniform(0, p["pause"]))
