"""Logins and file transfer: ssh, scp, sftp, FTP and telnet."""

import asyncio
import contextlib
import ftplib
import io
import os
import time
from pathlib import Path

from training.lab.clients.base import PAGES, RNG, Params, connect, habit, local, tool, type_into


def ssh_options(p: Params) -> list[str]:
    """Options of ssh, scp and sftp: the key first, no questions about host keys."""
    quiet = ["-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oConnectTimeout=5", "-oLogLevel=ERROR"]
    return ["-i", p["key"], *quiet, *([f"-oBindAddress={p['src']}"] if p.get("src") else [])]


def by_password(p: Params, word: str, command: str) -> list[object]:
    """A command over ssh with this password."""
    options = ["-oPubkeyAuthentication=no", "-oNumberOfPasswordPrompts=1", *ssh_options(p)[2:]]
    return ["sshpass", "-p", word, "ssh", *options, "-p", p["port"], f"{p['user']}@{p['host']}", command]


def bracket(host: str) -> str:
    """The host as URLs and scp want it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


@habit
async def ssh(p: Params) -> None:
    """A command over ssh with a key; `parallel` sessions at once as a configuration tool opens them."""
    work = ["ls -l /usr/bin | head -100", "uname -a", "cat /etc/services", "sleep 2; date", "dmesg | tail -50; df"]
    one = ["ssh", *ssh_options(p), "-p", p["port"], f"{p['user']}@{p['host']}"]
    await asyncio.gather(*(tool(*one, RNG.choice(work)) for _ in range(p.get("parallel", 1))))


@habit
async def ssh_typing(p: Params) -> None:
    """An interactive session: keys one by one, with the shell's echo."""
    argv = ["ssh", "-tt", *ssh_options(p), "-p", p["port"], f"{p['user']}@{p['host']}"]
    keys = (key.encode() for key in "ls -la\ncat /etc/passwd\nuptime\nexit\n")
    process = await type_into(argv, keys, lambda: RNG.uniform(0.04, 0.3), begin_s=1)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), 5)
    if process.returncode is None:
        process.kill()


@habit
async def ssh_mistyped(p: Params) -> None:
    """A user who types the password wrong once or twice and then right."""
    for word in [*["wrong-word"] * p.get("wrong", 1), p["password"]]:
        await tool(*by_password(p, word, "id"))
        await asyncio.sleep(RNG.uniform(0.8, 2))


@habit
async def scp(p: Params) -> None:
    """A file there or back with scp, or a folder with sftp."""
    size = int(p.get("size", 200_000) * RNG.uniform(0.3, 1.5))
    path = Path(p["work"]) / f"up-{RNG.randrange(10**6)}"
    path.write_bytes(os.urandom(size))
    far = f"{p['user']}@{bracket(p['host'])}"
    if RNG.random() < 0.5:
        await tool("scp", *ssh_options(p), "-P", p["port"], path, f"{far}:", limit_s=20)
    else:
        batch = f"put {path}\nls -l\nget {path.name} /dev/null\nrm {path.name}\n".encode()
        await tool("sftp", *ssh_options(p), "-P", p["port"], "-b", "-", far, limit_s=20, stdin=batch)
    path.unlink(missing_ok=True)


def _ftp(p: Params) -> None:
    with ftplib.FTP() as ftp:  # noqa: S321 - the lab's FTP traffic is the point
        ftp.connect(p["host"], p["port"], timeout=6, source_address=local(p))
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
    reader, writer = await connect(p, p["host"], p["port"])

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
