"""The engine of the attack modes: reads tables/attacks and draws the attack of a mode for a capture.

Floods are paced to some hundred to a few thousand packets a second; a burst at full speed lasts tenths of a second. No tool of a
profile that trains is among the tools of `unseen` for the same class, while `evade` hides with the tools of `first`.
"""

import functools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Template

from training.lab.expressions import JINJA, Scope, assign, check, named, names_of, render, vocabulary
from training.lab.plan import Attack, Capture
from training.lab.table import SERVERS, TABLES, Mode, TableError, expect, modes_of, profiles

WEB_PATHS = Path("/usr/share/dirb/wordlists/common.txt")
"""Words of Debian's dirb. Without it made-up words take their place, and the draws behind them change with it."""
ACCOUNTS = ["root", "admin", "test", "pi", "ubuntu", "oracle", "guest", "git", "ftp", "www"]
STEMS = ["123456", "password", "qwerty", "admin", "letmein", "dragon", "secret", "monkey", "summer", "raspberry"]


class AttackScope(Scope):
    """What a mode can name beside the names of every table; `words`: the word lists that it wrote, file name to lines."""

    def __init__(self, capture: Capture, rng: random.Random) -> None:
        super().__init__(capture, rng)
        self.words: dict[str, list[str]] = {}

    @property
    def web_url(self) -> str:
        """Base URL of the web server."""
        return f"http://{self.at('web')}:{self.web_port}"

    @property
    def sources(self) -> list[str]:
        """IPv4 addresses of the attacking host."""
        return [a for a in self._capture.host("att").plain() if ":" not in a]

    def login(self, service: str) -> int:
        """Port of a service of the file server, where people log in."""
        return self.port("files", service)

    def hidden(self, evade: list[Any], harden: list[Any]) -> Any:
        """One of the values with which attacks hide: those of the test set, or the others that are trained on."""
        return self._rng.choice(evade if self._capture.profile == "evade" else harden)

    def count(self, seconds: float, rate: float) -> int:
        """Packets for a flood of that length; floods of small captures are short."""
        small = profiles()[self._capture.profile].small
        return int(min(seconds * rate, self._rng.randint(1200, 1900) if small else 9000))

    def members(self, prefix: str, numbers: Sequence[int]) -> list[str]:
        """The addresses of a network with these last bytes."""
        return [f"{prefix}.{number}" for number in numbers]

    def free(self, least: int, most: int) -> list[str]:
        """The addresses of the inner network that nobody has, between two last bytes."""
        held = {address for host in self._capture.hosts for address in host.plain()}
        return [address for address in self.members(self.prefix, range(least, most + 1)) if address not in held]

    def distinct(self, values: list[int]) -> list[int]:
        """Each value once, in a set's order."""
        return list(set(values))

    def word_list(self, name: str, lines: Sequence[str] | str) -> str:
        """Write a word list (a list, or a text with a word a line); returns its path in commands."""
        name = f"{name}{len(self.words)}.txt"
        self.words[name] = lines.splitlines() if isinstance(lines, str) else list(lines)
        return f"{{work}}/{name}"

    def users(self) -> str:
        """A short list of accounts, the real one among them."""
        return self.word_list("users", [*self._rng.sample(ACCOUNTS, self._rng.randint(2, 5)), self.user])

    def passwords(self, count: int) -> str:
        """A list of passwords; the right one is not in it."""
        choice, randrange = self._rng.choice, self._rng.randrange
        return self.word_list("pass", [f"{choice(STEMS)}{choice(['', '!', randrange(10000)])}" for _ in range(count)])

    def paths(self, count: int) -> str:
        """A list of web paths from dirb's common words."""
        there = WEB_PATHS.read_text(errors="ignore").split() if WEB_PATHS.exists() else [f"dir{i}" for i in range(2000)]
        return self.word_list("paths", self._rng.sample([word for word in there if word.isascii()], count))

    def names(
        self,
        count: int,
        start: str = "x",
        digits: int = 6,
        among: Sequence[str] = (),
        kinds: Sequence[str] = ("A", "AAAA", "TXT", "MX", "ANY"),
    ) -> list[str]:
        """Names that nobody has, in these zones (all and lab.test), each with a record type drawn or, as a string, given."""
        zones, made = among or [*self.zones, "lab.test"], []
        for _ in range(count):
            name = f"{start}{self.hex(digits)}.{self._rng.choice(zones)}"
            kind = kinds if isinstance(kinds, str) else self._rng.choice(kinds)
            made.append(f"{name} {kind}".rstrip())
        return made


@functools.cache
def _macros() -> Template:
    return JINJA.from_string((TABLES / "macros.jinja").read_text())


def _exported(module: Any) -> dict[str, Any]:
    return {name: value for name, value in module.__dict__.items() if not name.startswith("_")}


@functools.cache
def modes() -> dict[str, Mode]:
    """Every attack mode by name, in the order of the tables.

    Raises:
        TableError: a table cannot be read, or a mode names something that is not there.
    """
    made: dict[str, Mode] = {}
    for path in sorted((TABLES / "attacks").glob("*.yaml")):
        for mode in modes_of(path):
            if mode.name in made:
                raise TableError(f"{mode.file}: {mode.name}: there is one of that name in {made[mode.name].file}")
            check_texts(mode)
            made[mode.name] = mode
    for mode in made.values():
        expect(filter(None, [mode.then]), made, f"{mode.file}: {mode.name}: then")
    for name, profile in profiles().items():
        expect(profile.again, made, f"profiles.yaml: {name}: again")
    return made


def check_texts(mode: Mode) -> None:
    """Raise TableError where a text of the mode is no Jinja or names what it cannot know."""
    known = vocabulary(AttackScope) | _exported(_macros().module).keys()
    if mode.target:
        known |= {"host", "victim"}
    for name, text in mode.let.items():
        check(text, known, f"{mode.file}: {mode.name}: let {name}")
        known |= {*name.split(", ")}
    for part, text in (("tool", mode.tool), ("command", mode.command)):
        check(text + "{{''}}", known, f"{mode.file}: {mode.name}: {part}")


def attack(mode: Mode, capture: Capture, rng: random.Random, at: float) -> tuple[Attack, dict[str, list[str]]]:
    """Draw the attack of a mode for a capture; also returns the word lists it reads, file name to lines.

    Raises:
        TableError: a text of the mode cannot be evaluated.
    """
    scope = AttackScope(capture, rng)
    names = names_of(scope)
    with named(f"{mode.file}: {mode.name}"):
        if mode.target:
            target = list(SERVERS) if mode.target == "any" else mode.target
            host = rng.choice(target) if isinstance(target, list) else target
            names |= {"host": host, "victim": scope.network if host == "network" else scope.at(host, mode.six)}
        names = assign(mode.let, names | _exported(_macros().make_module(names)))
        tool, command = render(mode.tool, names), render(mode.command, names)
    own = [a for a in capture.host("att").plain() if (":" in a) == mode.six]
    attackers = [*(["spoofed"] if mode.spoofed else []), *own, *([scope.at(mode.through)] if mode.through else [])]
    victims = names["victims"] if "victims" in mode.let else [names["victim"]]
    return Attack(mode.label, tool, command, attackers, victims, round(at, 2), mode.limit), scope.words
