"""Programs that log in: again and again, to many hosts, with the right password; and people who mistype theirs."""

import asyncio
import contextlib
import ftplib
import re
from pathlib import Path

from training.lab.clients.base import AGENTS, RNG, Ends, Params, connect, get, habit, local, tool
from training.lab.clients.logins import bracket, by_password, ssh_options


@habit
async def ssh_script(p: Params) -> None:
    """A script that logs in `count` times with the right password for a short command each; now and then one is wrong."""
    for _ in range(p["count"]):
        word = "old-password" if RNG.random() < p.get("wrong", 0.0) else p["password"]
        await tool(*by_password(p, word, "uptime"))
        await asyncio.sleep(RNG.uniform(0, p["pause"]))


@habit
async def ftp_script(p: Params) -> None:
    """A script that logs in over FTP with the right password, looks for new files and leaves, `count` times."""

    def look() -> None:
        with ftplib.FTP() as ftp:  # noqa: S321 - the lab's FTP traffic is the point
            ftp.connect(p["host"], p["port"], timeout=6, source_address=local(p))
            ftp.login(p["user"], p["password"])
            ftp.sendcmd("NOOP")
            ftp.quit()

    for _ in range(p["count"]):
        with contextlib.suppress(OSError, EOFError, ftplib.Error):
            await asyncio.to_thread(look)
        await asyncio.sleep(RNG.uniform(0, p["pause"]))


@habit
async def fan_out(p: Params) -> None:
    """A configuration tool on all hosts side by side: a look, a file, a command on each, with the key."""

    async def one(host: str, port: int) -> None:
        ssh = ["ssh", *ssh_options(p), "-p", port, f"{p['user']}@{host}"]
        work = ["echo ~ && sleep 0", "umask 77 && mkdir -p t && cat > t/m.py", "ls -l /etc", "df"]
        for command in RNG.sample(work, p["steps"]):
            await tool(*ssh, command, stdin=b"import os\n" * RNG.randint(20, 900))

    await asyncio.gather(*(one(host, port) for host, port in p["hosts"] * p.get("forks", 1)), return_exceptions=True)


@habit
async def git(p: Params) -> None:
    """A build server that polls in many short logins, then fetches everything once."""
    shell = " ".join(map(str, ["ssh", *ssh_options(p), "-p", p["port"]]))
    far = f"ssh://{p['user']}@{bracket(p['host'])}:{p['port']}{Path(p['key']).parent}/repo.git"
    for _ in range(p["count"]):
        await tool("git", "-c", f"core.sshCommand={shell}", "ls-remote", far)
        await asyncio.sleep(RNG.uniform(0, p["pause"]))
    await tool("git", "-c", f"core.sshCommand={shell}", "clone", "-q", far, f"{p['work']}/clone-{RNG.randrange(10**9)}")


@habit
async def form_login(p: Params) -> None:
    """A person at a web form: the page, a wrong password up to a few times, the right one, and pages behind it."""
    reader, writer = await connect(p, p["host"], p["port"])
    await get(reader, writer, p["host"], "app/")
    for word in [*["guess"] * RNG.randint(0, p["wrong"]), p["password"]]:
        await asyncio.sleep(RNG.uniform(0.8, 3))
        body = f"user={p['user']}&pw={word}"
        fields = f"Host: {p['host']}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
        writer.write(f"POST /app/login HTTP/1.1\r\n{fields}\r\n{body}".encode())
        await reader.readuntil(b"}")
    for _ in range(3):
        await get(reader, writer, p["host"], f"app/item?id={RNG.randrange(500)}")
        await asyncio.sleep(RNG.uniform(0.1, 0.6))
    writer.close()


@habit
async def sign_in(p: Params) -> None:
    """A browser at a login page with cookie and token: the page, the form (with the right password unless `word` is another), the
    page behind it; with `tls` over TLS. A password manager does the same without a pause."""
    ends: list[Ends] = []

    async def ask(first: str, more: str = "", body: str = "") -> tuple[str, str]:
        if not ends:
            ends.append(await connect(p, p["host"], p["port"]))
        reader, writer = ends[0]
        fields = f"Host: {p['host']}\r\nUser-Agent: {p.get('agent', AGENTS[0])}\r\n{more}"
        fields += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n" if body else ""
        writer.write(f"{first} HTTP/1.1\r\n{fields}\r\n{body}".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = re.search(r"content-length: (\d+)", head.lower())
        page = (await reader.readexactly(int(length[1]) if length else 0)).decode("latin-1")
        if "connection: close" in head.lower():
            ends.pop()[1].close()
        return head, page

    head, page = await ask("GET /login")
    cookie, token = re.search(r"session=(\w+)", head), re.search(r'csrf_token" value="(\w+)"', page)
    await asyncio.sleep(RNG.uniform(0.2, 1) * p.get("pause", 3))
    if cookie and token:
        sent = f"username={p['user']}&password={p.get('word', p['password'])}&csrf_token={token[1]}"
        kept = f"Cookie: session={cookie[1]}\r\n"
        head, _ = await ask("POST /login", kept, sent)
        if found := re.search(r"Location: (\S+)", head):
            await ask(f"GET {found[1]}", kept)
    for _, writer in ends:
        writer.close()
