"""The attack tools: each mode is a function that draws parameters and gives the command, its victims and its time limit.

Floods are paced to some hundred to a few thousand packets a second; a burst at full speed lasts tenths of a second.
A mode belongs to the profile it is marked with, `both` to `first` and `demo`. `first`, `harden`, `breadth` and `servers` train; no tool
of theirs is among the tools of `unseen` for the same class, while `evade` hides with the tools of `first`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.lab.habits import port
from training.lab.plan import Attack, Capture

Run = tuple[str, str, list[str], float]
"""Tool, command, victims, seconds at most."""


@dataclass(frozen=True)
class Mode:
    """A tool in one of its modes.

    `spoofed`: the packets' sources are not the attacker's own. `six`: needs IPv6. `needs`: services of `logins.py` that the
    file server has in its captures. `varied`: recorded in a network with links and more kinds of stacks.
    """

    label: str
    profile: str
    draw: Callable[[Field], Run]
    spoofed: bool = False
    six: bool = False
    needs: tuple[str, ...] = ()
    varied: bool = False

    def of(self, profile: str) -> bool:
        """True where the mode is recorded for that profile."""
        return self.profile == profile or (self.profile == "both" and profile in ("first", "demo"))


class Field:
    """What a mode needs of a capture: the attacker's address, victims and ports, and random choices."""

    def __init__(self, capture: Capture, rng: random.Random) -> None:
        self.capture, self.rng = capture, rng
        self.words: dict[str, list[str]] = {}
        self.light = capture.profile == "demo"

    def at(self, host: str, six: bool = False) -> str:
        """Address of a host."""
        found = self.capture.host(host)
        return found.address6 if six else found.address

    def login(self, service: str) -> tuple[str, int]:
        """Address and port of a service of the file server, where people log in."""
        return self.at("files"), port(self.capture, "files", service)

    def hidden(self, evade: list[Any], harden: list[Any]) -> Any:
        """One of the values with which attacks hide: those of the test set, or the others that are trained on."""
        return self.rng.choice(evade if self.capture.profile == "evade" else harden)

    @property
    def server(self) -> str:
        """One of the servers' names."""
        return self.rng.choice(["web", "files", "infra"])

    def ports(self, host: str) -> list[int]:
        """Ports of a host's services."""
        return [service.port for service in self.capture.host(host).services if service.name != "app"]

    @property
    def web_port(self) -> int:
        """The web server's plain port."""
        return port(self.capture, "web", "http")

    def web(self, six: bool = False) -> str:
        """Base URL of the web server."""
        where = f"[{self.at('web', True)}]" if six else self.at("web")
        return f"http://{where}:{port(self.capture, 'web', 'http')}"

    def mac(self, host: str) -> str:
        """Link address of a host, for tools with a stack of their own."""
        return self.capture.host(host).mac

    def devices(self) -> list[str]:
        """IPv4 addresses of the devices."""
        return [a for a in self.capture.host("iot").plain() if ":" not in a]

    def range(self) -> str:
        """The inner network in CIDR form."""
        return self.at("web").rsplit(".", 1)[0] + ".0/24"

    def count(self, seconds: float, rate: float) -> int:
        """Packets for a flood of that length; the demo's floods are short."""
        return int(min(seconds * rate, self.rng.randint(1200, 1900) if self.light else 9000))

    def list(self, name: str, lines: list[str]) -> str:
        """Write a word list; returns its path in commands."""
        name = f"{name}{len(self.words)}.txt"
        self.words[name] = lines
        return f"{{work}}/{name}"

    def users(self) -> str:
        """A short list of accounts, the real one among them."""
        names = ["root", "admin", "test", "pi", "ubuntu", "oracle", "guest", "git", "ftp", "www"]
        return self.list("users", [*self.rng.sample(names, self.rng.randint(2, 5)), self.capture.user])

    def passwords(self, count: int) -> str:
        """A list of passwords; the right one is not in it."""
        stems = ["123456", "password", "qwerty", "admin", "letmein", "dragon", "secret", "monkey", "summer", "raspberry"]
        return self.list(
            "pass", [f"{self.rng.choice(stems)}{self.rng.choice(['', '!', self.rng.randrange(10000)])}" for _ in range(count)]
        )

    def paths(self, count: int) -> str:
        """A list of web paths from dirb's common words."""
        common = Path("/usr/share/dirb/wordlists/common.txt")
        words = (
            [w for w in common.read_text(errors="ignore").split() if w.isascii()]
            if common.exists()
            else [f"dir{i}" for i in range(2000)]
        )
        return self.list("paths", self.rng.sample(words, count))


MODES: dict[str, Mode] = {}


def mode(
    label: str,
    profile: str = "first",
    spoofed: bool = False,
    six: bool = False,
    needs: tuple[str, ...] = (),
    varied: bool = False,
) -> Callable[[Callable[[Field], Run]], Callable[[Field], Run]]:
    """Enter a mode under its function's name."""

    def enter(draw: Callable[[Field], Run]) -> Callable[[Field], Run]:
        MODES[draw.__name__] = Mode(label, profile, draw, spoofed, six, needs, varied)
        return draw

    return enter


def attack(name: str, capture: Capture, rng: random.Random, at: float) -> tuple[Attack, dict[str, list[str]]]:
    """Draw the attack of a mode for a capture; also returns the word lists it reads."""
    chosen, field = MODES[name], Field(capture, rng)
    tool, command, victims, limit = chosen.draw(field)
    own = capture.host("att").plain()
    real = [a for a in own if (":" in a) == chosen.six]
    attackers = ["spoofed", *real] if chosen.spoofed else real
    return Attack(chosen.label, tool, command, attackers, victims, round(at, 2), limit), field.words
