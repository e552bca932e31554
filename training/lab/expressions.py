"""The language of the tables: Jinja expressions and templates over one capture and its random source.

A text with {{ }} or {% %} in it is a template and gives a string; any other text is an expression and gives its value. Both are
evaluated from left to right, and every draw changes those behind it: a plan is kept by keeping the order of its draws.
Every public member of Scope, and each of DRAWS, is a name that the tables can use.
"""

import contextlib
import functools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

import jinja2
from jinja2 import meta

from training.lab.plan import Capture
from training.lab.table import SERVERS, TableError

JINJA = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - commands, no HTML
CLIENTS = ["c1", "c2", "c3"]
DRAWS = ("randint", "randrange", "uniform", "random")
"""Names of the tables that draw as Python's random.Random does."""


def _is_template(text: str) -> bool:
    return "{{" in text or "{%" in text


_template = functools.cache(JINJA.from_string)


@functools.cache
def _compiled(text: str) -> Callable[..., Any]:
    return _template(text).render if _is_template(text) else JINJA.compile_expression(text, undefined_to_none=False)


def evaluate(text: str, names: dict[str, Any]) -> Any:
    """The value of a text of the tables, with these names."""
    return _compiled(text)(names)


def render(text: str, names: dict[str, Any]) -> str:
    """The string that a text gives, which is a template even without {{ }}."""
    return _template(text).render(names)


def assign(let: dict[str, str], names: dict[str, Any]) -> dict[str, Any]:
    """`names` with the variables of `let`, each of which may use those before it."""
    made = dict(names)
    for name, text in let.items():
        value = evaluate(text, made)
        made |= taken_apart(name, value)
    return made


def taken_apart(name: str, value: Any) -> dict[str, Any]:
    """The variable with its value; "a, b" are two with the two of a list."""
    return dict(zip(name.split(", "), value, strict=True)) if "," in name else {name: value}


@contextlib.contextmanager
def named(where: str) -> Iterator[None]:
    """Turn what goes wrong when a text is evaluated into a TableError with this in front."""
    try:
        yield
    except (jinja2.TemplateError, TypeError, LookupError, ValueError, ArithmeticError) as err:
        raise TableError(f"{where}: {err or type(err).__name__}") from err


@functools.cache
def _used(text: str) -> set[str]:
    return meta.find_undeclared_variables(JINJA.parse(text if _is_template(text) else f"{{{{ {text} }}}}"))


def check(text: str, known: Iterable[str], where: str) -> None:
    """Raise TableError where `text` is no Jinja or uses a name that is not known."""
    try:
        wrong = _used(text) - {*known, "range", "dict"}
    except jinja2.TemplateSyntaxError as err:
        raise TableError(f"{where}: {err.message} in: {text}") from err
    if wrong:
        raise TableError(f"{where}: unknown name {', '.join(sorted(wrong))} in: {text}")


def vocabulary(scope: "type[Scope]") -> set[str]:
    """The names that a table can use."""
    return {*DRAWS, *(name for name in dir(scope) if not name.startswith("_"))}


def names_of(scope: "Scope") -> dict[str, Any]:
    """Every name of the vocabulary with its value for this capture."""
    return {name: getattr(scope._rng if name in DRAWS else scope, name) for name in vocabulary(type(scope))}


class Scope:
    """A capture as its tables see it: addresses, ports, accounts and random draws."""

    def __init__(self, capture: Capture, rng: random.Random) -> None:
        self._capture, self._rng = capture, rng

    clients = CLIENTS

    zones = property(attrgetter("_capture.zones"), doc="DNS zones that the lab's resolver answers for.")
    user = property(attrgetter("_capture.user"), doc="The lab's account.")
    password = property(attrgetter("_capture.password"), doc="The account's password.")

    @property
    def devices(self) -> list[str]:
        """IPv4 addresses of the devices."""
        return [a for a in self._capture.host("iot").plain() if ":" not in a]

    @property
    def device_ports(self) -> list[int]:
        """Ports on which the devices listen."""
        ports: list[int] = self._capture.host("iot").services[0].options["ports"]
        return ports

    @property
    def prefix(self) -> str:
        """The first three bytes of the inner network, as 10.1.2."""
        return self.at("web").rsplit(".", 1)[0]

    @property
    def network(self) -> str:
        """The inner network in CIDR form."""
        return f"{self.prefix}.0/24"

    @property
    def web_port(self) -> int:
        """The web server's plain port."""
        return self.port("web", "http")

    def at(self, host: str, six: bool = False) -> str:
        """Address of a host."""
        found = self._capture.host(host)
        return found.address6 if six else found.address

    def mac(self, host: str) -> str:
        """Link address of a host, for tools with a stack of their own."""
        return self._capture.host(host).mac

    def port(self, host: str, service: str) -> int:
        """Port of a service of a host."""
        return self._capture.port(host, service)

    def ports(self, host: str, services: Sequence[str] = ()) -> list[int]:
        """Ports of a host's services, or of these; the application behind the web server is not reached from outside."""
        found = self._capture.host(host).services
        return [s.port for s in found if s.name != "app" and (not services or s.name in services)]

    def server(self) -> str:
        """One of the servers, drawn."""
        return self._rng.choice(SERVERS)

    def choice(self, *values: Any) -> Any:
        """One of the values, or of the only list, drawn."""
        return self._rng.choice(values[0] if len(values) == 1 else values)

    def several(self, count: int, values: list[Any]) -> list[Any]:
        """As many values, each drawn from all."""
        return [self._rng.choice(values) for _ in range(count)]

    def sample(self, values: Sequence[Any], count: int) -> list[Any]:
        """As many of the values, drawn, none twice."""
        return self._rng.sample(values, count)

    def hex(self, digits: int) -> str:
        """So many hexadecimal digits."""
        return f"{self._rng.randrange(16**digits):0{digits}x}"
