"""The two ends of a habit: addresses and ports of a capture's clients and servers, as habits need them."""

from __future__ import annotations

import random
from typing import Any

from training.lab.plan import Capture

CLIENTS = ("c1", "c2", "c3")


def port(capture: Capture, host: str, service: str) -> int:
    """The port of a service of a host; KeyError where it has none."""
    for found in capture.host(host).services:
        if found.name == service:
            return found.port
    raise KeyError(service)


class Ends:
    """Addresses of one capture as habits need them: IPv6 in a share of the habits where client and server have it."""

    def __init__(self, capture: Capture, rng: random.Random) -> None:
        self.capture, self.rng = capture, rng

    def pair(self, client: str, server: str) -> dict[str, Any]:
        """`src` and `host` of one family for a client and a server."""
        a, b = self.capture.host(client), self.capture.host(server)
        six = bool(a.address6 and b.address6) and self.rng.random() < self.capture.six_share
        return {"src": a.address6, "host": b.address6} if six else {"src": a.address, "host": b.address}

    def http(self, client: str) -> dict[str, Any]:
        """Ends of a web habit."""
        return self.pair(client, "web") | {"port": port(self.capture, "web", "http")}

    def file(self, client: str, service: str) -> dict[str, Any]:
        """Ends of an ssh, ftp or telnet habit, with account and key."""
        return self.pair(client, "files") | self.account() | {"port": port(self.capture, "files", service)}

    def account(self) -> dict[str, Any]:
        """The lab's user, with password and key."""
        user = {"user": self.capture.user, "password": self.capture.password}
        return user | {"key": "{shared}/client", "work": "{work}"}

    def broker(self, client: str) -> dict[str, Any]:
        """Ends of an MQTT habit."""
        return self.pair(client, "infra") | {"port": 1883}

    def things(self, client: str) -> dict[str, Any]:
        """`src` and `hosts`: the devices, over IPv6 where most of the capture's habits go over it."""
        six = [a for a in self.capture.host("iot").plain() if ":" in a]
        mine = self.capture.host(client)
        if six and mine.address6 and self.capture.six_share > 0.5:
            return {"src": mine.address6, "hosts": six}
        return {"src": mine.address, "hosts": self.devices()}

    def urls(self, names: list[str], tls: bool) -> list[str]:
        """URLs of the web server."""
        web = self.capture.host("web").address
        if self.capture.six_share > 0.5 and self.capture.host("web").address6:
            web = f"[{self.capture.host('web').address6}]"
        base = f"https://{web}" if tls else f"http://{web}:{port(self.capture, 'web', 'http')}"
        return [f"{base}/{name}" for name in names]

    def devices(self) -> list[str]:
        """IPv4 addresses of the devices."""
        return [a for a in self.capture.host("iot").plain() if ":" not in a]

    def device_ports(self) -> list[int]:
        """Ports on which the devices listen."""
        ports: list[int] = self.capture.host("iot").services[0].options["ports"]
        return ports
