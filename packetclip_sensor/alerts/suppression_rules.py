"""The file of suppression rules: what this site knows to be harmless, for how long, and why.

Each rule names hosts, services, missions or classes, a date on which it ends and a comment that says who decided so; all of its
conditions must hold. What can never match, or only what another rule silences already, is refused: nobody would know why.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from packetclip_sensor.common.missions import BENIGN, Missions
from packetclip_sensor.config.schema import YAML_ERRORS, shown, suggestion
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.records import Packet

KEYS = ("comment", "expires", "source", "destination", "pair", "service", "mission", "class")
PROTOCOLS = ("tcp", "udp", "icmp")
MAX_RULES = 1000
MAX_ENDS = 10_000
"""Most combinations of source and destination in one rule."""
NEVER = float("inf")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Ends = tuple[Network | None, Network | None]
"""Source and destination; None for any host."""
Plain = tuple[int, int, int]
"""A network: version, first address, mask."""


@dataclass(frozen=True, slots=True)
class Service:
    """Responder ports of a protocol; all of ICMP."""

    proto: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, read and checked."""

    line: int
    comment: str
    expires: float
    """Second of event time from which on it silences nothing."""
    hosts: tuple[Ends, ...]
    """One of them must hold; (None, None) where the rule names no host."""
    plain: tuple[tuple[Plain | None, Plain | None], ...]
    """The same as numbers: packets are held against them."""
    services: tuple[Service, ...]
    mission: str | None
    """Named, or that of the class that is named."""
    klass: str | None
    words: str
    """Its conditions as they stand in the file, on one line."""

    @property
    def id(self) -> str:
        """A name that stays when lines are added above it, the comment is changed or the rule prolonged: 8 hex digits."""
        return sha256(self.words.encode()).hexdigest()[:8]

    def live(self, second: float) -> bool:
        """Whether it silences at that second of event time."""
        return second < self.expires

    def between(self, orig_h: str, resp_h: str) -> bool:
        """Whether its hosts are these."""
        source, destination = _address(orig_h), _address(resp_h)
        return any(_inside(source, s) and _inside(destination, d) for s, d in self.plain)

    def serves(self, packet: Packet) -> bool:
        """Whether its service is this packet's."""
        return not self.services or any(
            s.proto == packet.proto and (s.proto == "icmp" or s.first <= packet.resp_p <= s.last) for s in self.services
        )

    def covers(self, other: Rule) -> bool:
        """Whether it silences all that `other` does, for at least as long."""
        return (
            self.expires >= other.expires
            and self.mission in (None, other.mission)
            and self.klass in (None, other.klass)
            and (not self.services or (bool(other.services) and all(map(self._serves, other.services))))
            and all(any(_within(b, a) for a in self.hosts) for b in other.hosts)
        )

    def _serves(self, service: Service) -> bool:
        return any(s.proto == service.proto and s.first <= service.first and service.last <= s.last for s in self.services)


@lru_cache(maxsize=1 << 14)
def _address(host: str) -> tuple[int, int] | None:
    """Version and number; None where it is no address, as a log line may hold anything."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return address.version, int(address)


def _inside(address: tuple[int, int] | None, network: Plain | None) -> bool:
    return network is None or (address is not None and address[0] == network[0] and address[1] & network[2] == network[1])


def _plain(network: Network | None) -> Plain | None:
    return None if network is None else (network.version, int(network.network_address), int(network.netmask))


def _within(inner: Ends, outer: Ends) -> bool:
    return all(b is None or (a is not None and _subnet(a, b)) for a, b in zip(inner, outer, strict=True))


def _subnet(inner: Network, outer: Network) -> bool:
    if isinstance(inner, ipaddress.IPv4Network) and isinstance(outer, ipaddress.IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, ipaddress.IPv6Network) and isinstance(outer, ipaddress.IPv6Network):
        return inner.subnet_of(outer)
    return False


def load(path: Path, missions: Missions) -> tuple[Rule, ...]:
    """Read and check a file of rules for a model with these missions.

    Raises:
        ConfigError: with the line and the remedy.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        raise ConfigError(
            f"policy.suppress {path}: cannot be read: {err.strerror}; make the file (empty for no rule), or take the key out"
        ) from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"policy.suppress {path}: not UTF-8 text; is it a file of rules?") from err
    return parse(text, path.name, missions)


def parse(text: str, name: str, missions: Missions) -> tuple[Rule, ...]:
    """Check the text of a file of rules; `name` stands in messages."""
    try:
        raw: Any = yaml.safe_load(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except YAML_ERRORS as err:
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(err).split())}; check indentation and quotes") from err
    if raw is None:
        return ()
    if not isinstance(raw, list) or not isinstance(node, yaml.SequenceNode):
        raise ConfigError(f"{name}: holds {shown(raw)} where a list of rules is expected; begin each rule with `- comment: ...`")
    if len(raw) > MAX_RULES:
        raise ConfigError(f"{name}: {len(raw):,} rules, at most {MAX_RULES:,} are read; name networks instead of hosts")
    rules: list[Rule] = []
    for item, place in zip(raw, node.value, strict=True):
        line = place.start_mark.line + 1
        if isinstance(place, yaml.MappingNode):
            _refuse_twice(place, f"{name}:{line}")
        rules.append(_rule(item, line, f"{name}:{line}", missions))
    _refuse_covered(rules, name)
    return tuple(rules)


def _refuse_twice(node: yaml.MappingNode, at: str) -> None:
    names = [str(key.value) for key, _ in node.value]
    for key in names:
        if names.count(key) > 1:
            raise ConfigError(f"{at}: {key} stands twice in this rule; keep one, or write two rules")


def _refuse_covered(rules: Sequence[Rule], name: str) -> None:
    for i, rule in enumerate(rules):
        for j, other in enumerate(rules):
            if i != j and other.covers(rule) and not (rule.covers(other) and i < j):
                what = f"silences only what line {other.line} silences already, and no longer"
                raise ConfigError(f"{name}:{rule.line}: {what}; take one of the two out")


def _rule(raw: Any, line: int, at: str, missions: Missions) -> Rule:
    if not isinstance(raw, dict):
        raise ConfigError(f"{at}: holds {shown(raw)} where `key: value` lines are expected; keys: {', '.join(KEYS)}")
    for key in raw:
        if key not in KEYS:
            hint = suggestion(str(key), KEYS) or f"; keys: {', '.join(KEYS)}"
            raise ConfigError(f"{at}: {key}: no such key{hint}")
    comment = raw.get("comment")
    if not isinstance(comment, str) or not comment.strip():
        raise ConfigError(f"{at}: lacks a comment; say why this is harmless and who decided so, for those who come after you")
    if "expires" not in raw:
        raise ConfigError(f"{at}: lacks expires; write a date, for example expires: 2027-06-30, or expires: never")
    hosts = _hosts(raw, at)
    mission = _named(raw, "mission", missions.names, at)
    klass = _named(raw, "class", [c for c in missions.classes if c != BENIGN], at)
    own = missions.of_class[klass] if klass else mission
    if mission and own != mission:
        raise ConfigError(f"{at}: never matches: {klass} is of {own}, not of {mission}; leave mission out")
    services = tuple(_service(text, at) for text in _texts(raw, "service", at))
    if hosts == ((None, None),) and not services and mission is None and klass is None:
        raise ConfigError(f"{at}: has no condition and would silence everything; add one of {', '.join(KEYS[2:])}")
    words = ", ".join(f"{key} {' '.join(_texts(raw, key, at))}" for key in KEYS[2:] if raw.get(key) is not None)
    plain = tuple((_plain(source), _plain(destination)) for source, destination in hosts)
    return Rule(line, " ".join(comment.split()), _expires(raw["expires"], at), hosts, plain, services, own, klass, words)


def _texts(raw: dict[str, Any], key: str, at: str) -> list[str]:
    """A value, or a list of them, as texts."""
    value = raw.get(key)
    values = value if isinstance(value, list) else [] if value is None else [value]
    if key in raw and not values:
        raise ConfigError(f"{at}: {key} is empty; name something, or take the key out")
    for one in values:
        if not isinstance(one, str | int) or isinstance(one, bool):
            raise ConfigError(f"{at}: {key} is {shown(one)}; expected a text, or a list of them")
    return [str(one) for one in values]


def _named(raw: dict[str, Any], key: str, known: Iterable[str], at: str) -> str | None:
    value = raw.get(key)
    if value is None:
        return None
    if value not in list(known):
        hint = suggestion(value, known) if isinstance(value, str) else ""
        raise ConfigError(f"{at}: {key} is {shown(value)}: no such {key}{hint}; one of {', '.join(known)}")
    return str(value)


def _hosts(raw: dict[str, Any], at: str) -> tuple[Ends, ...]:
    sources, destinations, pair = ([_network(t, at) for t in _texts(raw, key, at)] for key in ("source", "destination", "pair"))
    if pair:
        if sources or destinations:
            raise ConfigError(f"{at}: names pair beside source or destination; a pair holds in both directions, keep one form")
        if len(pair) != 2:
            raise ConfigError(f"{at}: pair has {len(pair)} parts; write pair: [192.0.2.7, 192.0.2.0/24]")
        if pair[0] == pair[1] and pair[0].num_addresses == 1:
            raise ConfigError(f"{at}: never matches: pair names {pair[0]} twice; name two hosts")
        ends: list[Ends] = [(pair[0], pair[1]), (pair[1], pair[0])]
    else:
        anywhere: list[Network | None] = [None]
        ends = list(product(sources or anywhere, destinations or anywhere))
    if len(ends) > MAX_ENDS:
        raise ConfigError(f"{at}: {len(ends):,} combinations of source and destination; name networks instead of hosts")
    possible = [(s, d) for s, d in ends if s is None or d is None or s.version == d.version]
    if not possible:
        raise ConfigError(f"{at}: never matches: no connection has an IPv4 and an IPv6 end; make two rules of it")
    return tuple(dict.fromkeys(possible))


def _network(text: str, at: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as err:
        try:
            wide = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ConfigError(f"{at}: {text!r} is neither a host nor a network; write 192.0.2.7 or 192.0.2.0/24") from err
        raise ConfigError(f"{at}: {text} is a host with a network's length; write {wide} or {text.partition('/')[0]}") from err
    if network.prefixlen == 0:
        raise ConfigError(f"{at}: {text} is every host; leave the key out if you mean that")
    return network


def _service(text: str, at: str) -> Service:
    ports, slash, proto = text.lower().rpartition("/")
    if not slash and proto == "icmp":
        return Service("icmp", 0, 65535)
    first, dash, last = ports.partition("-")
    if proto not in PROTOCOLS[:2] or not first.isdecimal() or not (last.isdecimal() or not dash):
        raise ConfigError(f"{at}: service is {text!r}; write 443/tcp, 5000-5100/udp or icmp")
    low, high = int(first), int(last or first)
    if not 1 <= low <= high <= 65535:
        raise ConfigError(f"{at}: service {text!r} never matches; ports go from 1 to 65535, the lower one first")
    return Service(proto, low, high)


def _expires(value: Any, at: str) -> float:
    """A date holds to its end, UTC; a time without offset is UTC."""
    if value == "never":
        return NEVER
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
        except ValueError:
            value = None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC).timestamp() + timedelta(days=1).total_seconds()
    raise ConfigError(f"{at}: expires is no date; write 2027-06-30, 2027-06-30T18:00+02:00 or never")


def as_yaml(comment: str, **conditions: str) -> str:
    """A rule as it may be pasted into the file."""
    lines = [f"comment: {json.dumps(comment, ensure_ascii=False)}"]
    lines += [f"{key}: {value if key == 'expires' else json.dumps(value)}" for key, value in conditions.items()]
    return "- " + "\n  ".join(lines)
