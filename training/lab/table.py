"""Reads the tables (`tables/*.yaml`) and checks them: every mistake is one TableError that names file and entry.

`attacks/*.yaml` hold the attack modes, `benign.yaml` the benign traffic, `profiles.yaml` what is recorded for whom and
`networks.yaml` the address plans. Texts in them are Jinja (see `expressions.py`).
"""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import yaml
from msgspec import Meta, Struct
from yaml.constructor import SafeConstructor

from training.common import DataError

TABLES = Path(__file__).with_name("tables")
SERVERS = ("web", "files", "infra")
T = TypeVar("T")


class TableError(DataError):
    """A table that cannot be used; the message names its file, the entry and what is wrong."""


class Network(Struct, frozen=True, forbid_unknown_fields=True):
    """An address plan: see the head of networks.yaml for what each table means."""

    nets: list[tuple[int, int, int]]
    thirds: tuple[int, int]
    six: str
    outside: list[str]
    routes: list[str]
    ports: dict[str, list[int]]
    ttls: list[int]
    mtus: list[int]
    users: list[str]
    varied_ttls: list[int] = []
    varied_mtus: list[int] = []


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    """What a profile records: see the head of profiles.yaml."""

    about: str
    network: str
    links: bool = True
    small: bool = False
    turns: int = 1
    classes: list[str] = []
    again: list[str] = []
    benign: list[list[str]] = []
    mixed: list[list[str]] = []
    long: list[list[str]] = []
    mixed_profile: str = ""
    web_server: dict[str, list[Any]] = {}
    busy_resolver: bool = False
    unlimited_errors: bool = False
    stale_s: float = 0


class Mode(Struct, frozen=True, forbid_unknown_fields=True):
    """A tool in one of its modes; `name`, `label` and `varied` come from its place in the table.

    `target`: the attacked host, `any` server, one drawn from a list, or the inner `network`; sets `host` and `victim`.
    `let`: variables, in their order; `victims` among them are the attacked addresses where there is no target.
    `six`: over IPv6. `spoofed`: the packets' sources are not the attacker's own. `attackers`: addresses of the attacking host.
    `needs`: login services (benign.yaml) that the file server has. `then`: mode that follows in the same capture, the first time.
    `varied`: recorded with links and other TCP settings even where the profile has none. `limit`: seconds at most.
    `through`: a host that is made to attack too.
    """

    tool: str
    command: str
    limit: Annotated[int, Meta(gt=0)]
    profiles: list[str]
    target: str | list[str] = ""
    let: dict[str, str] = {}
    six: bool = False
    spoofed: bool = False
    attackers: Annotated[int, Meta(gt=0)] = 1
    needs: list[str] = []
    then: str = ""
    varied: bool = False
    through: str = ""
    label: str = ""
    name: str = ""
    file: str = ""


class Group(Struct, frozen=True, forbid_unknown_fields=True):
    """Modes of a class for the same profiles, unless a mode says otherwise."""

    profiles: list[str]
    modes: dict[str, dict[str, Any]]
    varied: bool = False
    target: str | list[str] = ""
    limit: int = 0


class AttackClass(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of tables/attacks; `target` and `limit` are for the modes and groups that have none of their own."""

    label: str = msgspec.field(name="class")
    groups: list[Group]
    target: str | list[str] = ""
    limit: int = 0


class Block(Struct, frozen=True, forbid_unknown_fields=True):
    """Habits with their variables: `loop` is "NAME in LIST", `condition` an expression; `needs` as those of a mode.

    `defaults`: variables that everyday traffic gives other values.
    """

    habits: str | list["str | Block"]
    let: dict[str, str] = {}
    defaults: dict[str, int] = {}
    loop: str = msgspec.field(name="for", default="")
    condition: str = msgspec.field(name="if", default="")
    needs: list[str] = []

    def lines(self) -> list["str | Block"]:
        """The calls and blocks in it."""
        return [self.habits] if isinstance(self.habits, str) else self.habits


class Sometimes(Struct, frozen=True, forbid_unknown_fields=True):
    """A burst that is part of everyday traffic in this share of the captures, with these values for its defaults."""

    share: float
    let: dict[str, str] = {}


class Everyday(Struct, frozen=True, forbid_unknown_fields=True):
    """What runs in every capture, see benign.yaml."""

    always: Block
    some: Block
    some_more: Block
    number: str
    bursts: dict[str, Sometimes]
    beside_attacks: list[str]


class LoginService(Struct, frozen=True, forbid_unknown_fields=True):
    """A service of the file server that only some captures have, and what benign clients do there."""

    ports: dict[Literal["training", "elsewhere"], list[int]]
    use: str


class Program(Struct, frozen=True, forbid_unknown_fields=True):
    """A server's program: command, and the text of its file of settings where it has one."""

    command: str
    config: str = ""


class Benign(Struct, frozen=True, forbid_unknown_fields=True):
    """benign.yaml as a whole, with the bursts and login services of benign_*.yaml; `files`: where each of them stands."""

    everyday: Everyday
    bursts: dict[str, Block]
    small: dict[str, dict[str, int]]
    login_services: dict[str, LoginService]
    files: dict[str, str] = {}


def read(path: Path) -> Any:
    """A YAML file's content; TableError where it cannot be read or a mapping has a key twice."""
    try:
        # libyaml's reader where PyYAML was built with it, for it is ten times as fast.
        node = yaml.compose(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        _no_key_twice(node)
        return SafeConstructor().construct_document(node)
    except (OSError, yaml.YAMLError, ValueError) as err:
        raise TableError(f"{path.name}: {' '.join(str(err).split())}") from err


def _no_key_twice(node: yaml.Node | None) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise ValueError(f"line {key.start_mark.line + 1}: {key.value} stands there a second time")
            seen.add(key.value)
            _no_key_twice(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _no_key_twice(value)


def convert(value: Any, kind: type[T], where: object) -> T:
    """`value` as a `kind`; TableError with `where` in front if it does not fit."""
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as err:
        raise TableError(f"{where}: {err}") from err


def expect(names: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise TableError where one of the names is not among those that are known."""
    if wrong := {*names} - {*known}:
        raise TableError(f"{where} {', '.join(sorted(wrong))} is none of {', '.join(known)}")


def entries(raw: Any, kind: type[T], where: str) -> dict[str, T]:
    """Each value of a mapping as a `kind`; TableError with its key."""
    return {name: convert(value, kind, f"{where}: {name}") for name, value in convert(raw, dict[str, Any], where).items()}


@functools.cache
def networks() -> dict[str, Network]:
    """The address plans, by name."""
    return entries(read(TABLES / "networks.yaml"), Network, "networks.yaml")


@functools.cache
def profiles() -> dict[str, Profile]:
    """The profiles, by name."""
    found = entries(read(TABLES / "profiles.yaml"), Profile, "profiles.yaml")
    for name, profile in found.items():
        expect([profile.network], networks(), f"profiles.yaml: {name}: network")
    return found


@functools.cache
def services() -> dict[str, Program]:
    """The servers' programs, by the plan's service or, for http, by the web server's name."""
    return entries(read(TABLES / "services.yaml"), Program, "services.yaml")


@functools.cache
def benign() -> Benign:
    """The benign traffic; what its texts name is checked by `benign.py`."""
    raw = convert(read(TABLES / "benign.yaml"), dict[str, Any], "benign.yaml")
    files = {"benign.yaml": raw}
    for path in sorted(TABLES.glob("benign_*.yaml")):
        files[path.name] = convert(read(path), dict[str, Any], path.name)
        expect(files[path.name], ("bursts", "login_services"), f"{path.name}:")
    bursts: dict[str, Block] = {}
    logins: dict[str, LoginService] = {}
    where: dict[str, str] = {}
    for file, part in files.items():
        found, services = entries(part.get("bursts"), Block, file), entries(part.get("login_services"), LoginService, file)
        if twice := (found.keys() & bursts.keys()) | (services.keys() & logins.keys()):
            raise TableError(f"{file}: {', '.join(sorted(twice))} stands in another file too")
        bursts, logins, where = bursts | found, logins | services, where | dict.fromkeys([*found, *services], file)
    return convert(raw | {"bursts": bursts, "login_services": logins, "files": where}, Benign, "benign.yaml")


def modes_of(path: Path) -> list[Mode]:
    """The attack modes of one file, in its order; what their texts name is checked by `attacks.py`."""
    table, found = convert(read(path), AttackClass, path.name), []
    for group in table.groups:
        for name, entry in group.modes.items():
            common = {"profiles": group.profiles, "varied": group.varied, "limit": group.limit or table.limit}
            if "victims" not in entry.get("let", {}):
                common["target"] = group.target or table.target
            own = {"label": table.label, "name": name, "file": path.name}
            mode = convert(common | entry | own, Mode, f"{path.name}: {name}")
            _check(mode)
            found.append(mode)
    return found


def _check(mode: Mode) -> None:
    """Raise TableError for names of classes, profiles, hosts and services that are not there."""
    where = f"{mode.file}: {mode.name}"
    expect(mode.profiles, profiles(), f"{where}: profile")
    for profile in mode.profiles:
        expect([mode.label], profiles()[profile].classes, f"{where}: profile {profile}: class")
    if bool(mode.target) == ("victims" in mode.let):
        raise TableError(f"{where}: needs either a target or victims among its variables")
    targets = [mode.target] if isinstance(mode.target, str) else mode.target
    expect(filter(None, targets), (*SERVERS, "any", "network"), f"{where}: target")
    expect(filter(None, [mode.through]), SERVERS, f"{where}: through")
    expect(mode.needs, benign().login_services, f"{where}: needs")
