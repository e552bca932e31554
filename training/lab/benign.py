"""The engine of the benign traffic: who does what and when in a capture, drawn from tables/benign.yaml."""

import base64
import functools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from training.lab import table
from training.lab.clients import HABITS
from training.lab.expressions import CLIENTS, Scope, assign, check, evaluate, named, names_of, taken_apart, vocabulary
from training.lab.plan import HTTP_DEVICE_PORTS, Capture, Habit, Service
from training.lab.table import Benign, Block, expect


class BenignScope(Scope):
    """What a burst can name beside the names of every table: the two ends of a habit, IPv6 in a share where both have it."""

    later = -1.0
    http_device_ports = HTTP_DEVICE_PORTS

    def __init__(self, capture: Capture, rng: random.Random, intensity: float = 1.0) -> None:
        super().__init__(capture, rng)
        self._intensity = intensity

    @property
    def duration(self) -> float:
        """Seconds that the capture lasts."""
        return self._capture.duration_s

    @property
    def account(self) -> dict[str, Any]:
        """The lab's account, with password and key."""
        return {"user": self.user, "password": self.password, "key": "{shared}/client", "work": "{work}"}

    @property
    def basic(self) -> str:
        """The account as basic authentication has it."""
        return base64.b64encode(f"{self.user}:{self.password}".encode()).decode()

    def often(self, seconds: float) -> float:
        """About so many seconds, less where the capture is busy."""
        return self._rng.uniform(0.6, 1.6) * seconds / self._intensity

    def pair(self, client: str, server: str) -> dict[str, Any]:
        """`src` and `host` of one family for a client and a server."""
        a, b = self._capture.host(client), self._capture.host(server)
        six = bool(a.address6 and b.address6) and self._rng.random() < self._capture.six_share
        return {"src": a.address6, "host": b.address6} if six else {"src": a.address, "host": b.address}

    def http(self, client: str) -> dict[str, Any]:
        """Ends of a web habit."""
        return self.pair(client, "web") | {"port": self.web_port}

    def file(self, client: str, service: str) -> dict[str, Any]:
        """Ends of a habit at a service of the file server, with the account."""
        return self.pair(client, "files") | self.account | {"port": self.port("files", service)}

    def broker(self, client: str) -> dict[str, Any]:
        """Ends of an MQTT habit."""
        return self.pair(client, "infra") | {"port": 1883}

    def things(self, client: str) -> dict[str, Any]:
        """`src` and `hosts`: the devices, over IPv6 where most of the capture's habits go over it."""
        six = [a for a in self._capture.host("iot").plain() if ":" in a]
        mine = self._capture.host(client)
        if six and mine.address6 and self._capture.six_share > 0.5:
            return {"src": mine.address6, "hosts": six}
        return {"src": mine.address, "hosts": self.devices}

    def urls(self, names: list[str], tls: bool) -> list[str]:
        """URLs of the web server."""
        web = self.at("web")
        if self._capture.six_share > 0.5 and self.at("web", six=True):
            web = f"[{self.at('web', six=True)}]"
        base = f"https://{web}" if tls else f"http://{web}:{self.web_port}"
        return [f"{base}/{name}" for name in names]

    def far_away(self, count: int) -> list[tuple[str, int]]:
        """Addresses and ports far away, where nobody answers."""
        drawn = self._rng.randint
        return [(f"{drawn(11, 90)}.{drawn(0, 255)}.{drawn(0, 255)}.{drawn(1, 250)}", drawn(1025, 65000)) for _ in range(count)]

    def ends_of(self, clients: list[str], client: str, port: int) -> list[tuple[str, int]]:
        """Addresses of the other clients, with this port."""
        return [(self.at(other), port) for other in clients if other != client]

    def pictures(self, count: int) -> list[str]:
        """Names of the web server's first pictures."""
        return [f"i{i}.jpg" for i in range(count)]

    def product(self, ones: list[Any], others: list[Any]) -> list[tuple[Any, Any]]:
        """Each of the one list with each of the other."""
        return [(one, other) for one in ones for other in others]


def _act(name: str) -> Callable[..., Habit]:
    """The function that makes a habit of that name of a call in the table."""

    def act(host: str, start: float, every: float, /, *ends: dict[str, Any], **params: Any) -> Habit:
        merged: dict[str, Any] = {}
        for part in (*ends, params):
            merged |= part
        return Habit(host, name, start, every, merged)

    return act


ACTS = {name: _act(name) for name in HABITS}


def _names(capture: Capture, rng: random.Random, intensity: float = 1.0) -> dict[str, Any]:
    return names_of(BenignScope(capture, rng, intensity)) | ACTS


def _drawn(block: Block, names: dict[str, Any]) -> Iterator[Habit]:
    """The habits of a block, each drawn when it is asked for."""
    if block.condition and not evaluate(block.condition, names):
        return
    variables, _, values = block.loop.partition(" in ")
    for value in evaluate(values, names) if block.loop else [None]:
        inside = assign(block.let, names | taken_apart(variables, value))
        for item in block.lines():
            if isinstance(item, str):
                yield evaluate(item, inside)
            else:
                yield from _drawn(item, inside)


def burst(name: str, capture: Capture, rng: random.Random, **variables: float) -> list[Habit]:
    """The habits of a burst; `variables` take the place of its defaults.

    Raises:
        TableError: a text of it cannot be evaluated.
    """
    block = life().bursts[name]
    with named(f"{life().files[name]}: {name}"):
        return list(_drawn(block, _names(capture, rng) | block.defaults | variables))


def everyday(capture: Capture, rng: random.Random, intensity: float = 1.0) -> list[Habit]:
    """The mix that runs all the time: about a dozen habits spread over the clients, drawn for this capture."""
    plan, names = life().everyday, _names(capture, rng, intensity)
    made = [replace(habit, at=rng.uniform(0, 3)) for habit in _drawn(plan.always, names)]
    some = [*_drawn(plan.some, names), *(_drawn(plan.some_more, names) if capture.varied else [])]
    chosen = rng.sample(some, evaluate(plan.number, names) + (4 if capture.varied else 0))
    made += [replace(habit, at=rng.uniform(0, 3)) for habit in chosen]
    for name, sometimes in plan.bursts.items():
        if rng.random() < sometimes.share:
            made += burst(name, capture, rng, **{key: evaluate(text, names) for key, text in sometimes.let.items()})
    return made


def lighter(habits: list[Habit]) -> list[Habit]:
    """The habits with less on them, for captures that are kept in the repository."""
    small, made = life().small, []
    for habit in habits:
        most = {} if habit.name == "listen" else small["every"] | small.get(habit.name, {})
        params = {k: min(v, most[k]) if k in most and isinstance(v, int | float) else v for k, v in habit.params.items()}
        if "urls" in params:
            params["urls"] = [url.replace("big.bin", "i3.jpg") for url in params["urls"]]
        made.append(replace(habit, params=params))
    return made


def with_login_services(capture: Capture, needs: list[str], intensity: float = 1.0, stale_s: float = 0) -> Capture:
    """The capture with these services on the file server and with two benign clients of each, drawn from its seed and name.

    The clients log in every few seconds at intensity 1, less often at less; one in four has an old password and rests at least
    `stale_s` seconds between two tries.
    """
    rng = random.Random(f"{capture.seed}/{capture.profile}/{capture.name}/logins")
    trains = table.profiles()[capture.profile].network == "first"
    files, names = capture.host("files"), _names(capture, rng)
    services, habits = list(files.services), list(capture.habits)
    for name in needs:
        login = life().login_services[name]
        taken = {service.port for service in services}
        number = rng.choice([p for p in login.ports["training" if trains else "elsewhere"] if p not in taken])
        services.append(Service(name, number, {"delay": rng.choice([0, 1, 2])}))
        for client in rng.sample(CLIENTS, 2):
            word = rng.choice([*[capture.password] * 3, f"{capture.password}x"])
            every, start = rng.uniform(1.5, 6) / intensity, rng.uniform(0.5, 4)
            every = every if word == capture.password else max(every, stale_s)
            use = {"client": client, "word": word, "every": every, "start": start, "number": number}
            habits.append(evaluate(login.use, names | use | {"where": f"{files.address}:{number}"}))
    hosts = [replace(host, services=services) if host is files else host for host in capture.hosts]
    return replace(capture, hosts=hosts, habits=habits)


@functools.cache
def life() -> Benign:
    """The table of benign traffic.

    Raises:
        TableError: it cannot be read, or names a habit, a variable or a burst that is not there.
    """
    found = table.benign()
    known = vocabulary(BenignScope) | ACTS.keys()
    for name, block in found.bursts.items():
        _check(block, known, f"{found.files[name]}: {name}")
        expect(block.needs, found.login_services, f"{found.files[name]}: {name}: needs")
    for part in ("always", "some", "some_more"):
        _check(getattr(found.everyday, part), known, f"benign.yaml: everyday: {part}")
    for name, login in found.login_services.items():
        check(login.use, known | {"client", "word", "every", "start", "number", "where"}, f"{found.files[name]}: {name}")
    expect([*found.everyday.bursts, *found.everyday.beside_attacks], found.bursts, "benign.yaml: everyday: burst")
    for profile, tables in table.profiles().items():
        expect(
            {name for names in (*tables.benign, *tables.mixed, *tables.long) for name in names},
            found.bursts,
            f"profiles.yaml: {profile}: burst",
        )
    return found


def _check(block: Block, known: set[str], where: str) -> None:
    variables, _, values = block.loop.partition(" in ")
    outside = known | block.defaults.keys()
    for text in filter(None, (values, block.condition)):
        check(text, outside, where)
    inside = outside | {*variables.split(", ")}
    for name, text in block.let.items():
        check(text, inside, f"{where}: let {name}")
        inside |= {*name.split(", ")}
    for item in block.lines():
        if isinstance(item, str):
            check(item, inside, where)
        else:
            _check(item, inside, where)
