"""The file of suppression rules: what this site knows to be harmless, for how long, and why.

Each rule names hosts, services, missions or classes, a date on which it ends and a comment that says who decided so; all of its
conditions must hold. What can never match, or only what another rule suppresses already, is refused: nobody would know why.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from hashlib import sha256
from itertools import permutations, product
from pathlib import Path
from typing import Any

import yaml

from packetclip_sensor.common.missions import BENIGN, Missions
from packetclip_sensor.config.schema import YAML_ERRORS, shown, suggestion
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.records import Packet
from packetclip_sensor.records.addresses import AddressError, Network, address, network

KEYS = ("comment", "expires", "source", "destination", "pair", "service", "mission", "class")
PROTOCOLS = ("tcp", "udp", "icmp")
MAX_RULES = 1000
MAX_ENDS = 10_000
"""Most combinations of source and destination in one rule."""
NEVER = float("inf")

Ends = tuple[Network | None, Network | None]
"""Source and destination; None for any host."""


class MistakeError(ValueError):
    """What is wrong with one rule, and the remedy."""


@dataclass(frozen=True, slots=True)
class Service:
    """Responder ports of a protocol; all of ICMP."""

    proto: str
    first: int
    last: int

    def holds(self, proto: str, first: int, last: int) -> bool:
        """Whether these ports are among its own."""
        return self.proto == proto and (proto == "icmp" or (self.first <= first and last <= self.last))


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, read and checked."""

    line: int
    comment: str
    expires: float
    """Second of event time from which on it suppresses nothing."""
    hosts: tuple[Ends, ...]
    """One of them must hold; (None, None) where the rule names no host."""
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
        """Whether it is in force at that second of event time."""
        return second < self.expires

    def between(self, orig_h: str, resp_h: str) -> bool:
        """Whether its hosts are these."""
        source, destination = address(orig_h), address(resp_h)
        return any(
            (s is None or (source is not None and source in s)) and (d is None or (destination is not None and destination in d))
            for s, d in self.hosts
        )

    def serves(self, packet: Packet) -> bool:
        """Whether its service is this packet's."""
        return not self.services or any(s.holds(packet.proto, packet.resp_p, packet.resp_p) for s in self.services)

    def covers(self, other: Rule) -> bool:
        """Whether it suppresses all that `other` does, for at least as long."""
        return (
            self.expires >= other.expires
            and self.mission in (None, other.mission)
            and self.klass in (None, other.klass)
            and (not self.services or bool(other.services))
            and all(any(s.holds(o.proto, o.first, o.last) for s in self.services) for o in other.services if self.services)
            and all(any(_within(theirs, own) for own in self.hosts) for theirs in other.hosts)
        )


def _within(inner: Ends, outer: Ends) -> bool:
    return all(
        b is None or (a is not None and a.version == b.version and a.subnet_of(b))  # type: ignore[arg-type]
        for a, b in zip(inner, outer, strict=True)
    )


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
        keys = [str(key.value) for key, _ in place.value] if isinstance(place, yaml.MappingNode) else []
        try:
            rules.append(_rule(item, keys, line, missions))
        except (MistakeError, AddressError) as err:
            raise ConfigError(f"{name}:{line}: {err}") from err
    for (i, rule), (j, other) in permutations(enumerate(rules), 2):
        if other.covers(rule) and not (i < j and rule.covers(other)):
            what = f"suppresses only what line {other.line} suppresses already, and no longer"
            raise ConfigError(f"{name}:{rule.line}: {what}; take one of the two out")
    return tuple(rules)


def _rule(raw: Any, keys: list[str], line: int, missions: Missions) -> Rule:
    """One rule of the file, as YAML reads it; `keys` are those that stand there."""
    if twice := next((key for key in keys if keys.count(key) > 1), None):
        raise MistakeError(f"{twice} stands twice in this rule; keep one, or write two rules")
    if not isinstance(raw, dict):
        raise MistakeError(f"holds {shown(raw)} where `key: value` lines are expected; keys: {', '.join(KEYS)}")
    if (unknown := next((str(key) for key in raw if key not in KEYS), None)) is not None:
        hint = suggestion(unknown, KEYS) or f"; keys: {', '.join(KEYS)}"
        raise MistakeError(f"{unknown}: no such key{hint}")
    comment = raw.get("comment")
    if not isinstance(comment, str) or not comment.strip():
        raise MistakeError("lacks a comment; say why this is harmless and who decided so, for those who come after you")
    if "expires" not in raw:
        raise MistakeError("lacks expires; write a date, for example expires: 2027-06-30, or expires: never")
    hosts = _hosts(raw)
    mission = _named(raw, "mission", missions.names)
    klass = _named(raw, "class", [c for c in missions.classes if c != BENIGN])
    own = missions.of_class[klass] if klass else mission
    if mission and own != mission:
        raise MistakeError(f"never matches: {klass} is of {own}, not of {mission}; leave mission out")
    services = tuple(map(_service, _texts(raw, "service")))
    if hosts == ((None, None),) and not services and mission is None and klass is None:
        raise MistakeError(f"has no condition and would suppress everything; add one of {', '.join(KEYS[2:])}")
    words = ", ".join(f"{key} {' '.join(_texts(raw, key))}" for key in KEYS[2:] if raw.get(key) is not None)
    return Rule(line, " ".join(comment.split()), _expires(raw["expires"]), hosts, services, own, klass, words)


def _texts(raw: dict[str, Any], key: str) -> list[str]:
    """A value, or a list of them, as texts."""
    value = raw.get(key)
    values = value if isinstance(value, list) else [] if value is None else [value]
    if key in raw and not values:
        raise MistakeError(f"{key} is empty; name something, or take the key out")
    for one in values:
        if not isinstance(one, str | int) or isinstance(one, bool):
            raise MistakeError(f"{key} is {shown(one)}; expected a text, or a list of them")
    return [str(one) for one in values]


def _named(raw: dict[str, Any], key: str, known: Iterable[str]) -> str | None:
    value = raw.get(key)
    if value is None:
        return None
    if value not in list(known):
        hint = suggestion(value, known) if isinstance(value, str) else ""
        raise MistakeError(f"{key} is {shown(value)}: no such {key}{hint}; one of {', '.join(known)}")
    return str(value)


def _hosts(raw: dict[str, Any]) -> tuple[Ends, ...]:
    sources, destinations, pair = ([_network(text) for text in _texts(raw, key)] for key in ("source", "destination", "pair"))
    if pair:
        if sources or destinations:
            raise MistakeError("names pair beside source or destination; a pair holds in both directions, keep one form")
        if len(pair) != 2:
            raise MistakeError(f"pair has {len(pair)} parts; write pair: [192.0.2.7, 192.0.2.0/24]")
        if pair[0] == pair[1] and pair[0].num_addresses == 1:
            raise MistakeError(f"never matches: pair names {pair[0]} twice; name two hosts")
    anywhere: list[Network | None] = [None]
    both_ways: list[Ends] = [(pair[0], pair[1]), (pair[1], pair[0])] if pair else []
    ends = both_ways or list(product(sources or anywhere, destinations or anywhere))
    if len(ends) > MAX_ENDS:
        raise MistakeError(f"{len(ends):,} combinations of source and destination; name networks instead of hosts")
    possible = [(s, d) for s, d in ends if s is None or d is None or s.version == d.version]
    if not possible:
        raise MistakeError("never matches: no connection has an IPv4 and an IPv6 end; make two rules of it")
    return tuple(dict.fromkeys(possible))


def _network(text: str) -> Network:
    found, host = network(text), text.partition("/")[0]
    if address(host) != found.network_address:
        raise MistakeError(f"{text} is a host with a network's length; write {found} or {host}")
    if found.prefixlen == 0:
        raise MistakeError(f"{text} is every host; leave the key out if you mean that")
    return found


def _service(text: str) -> Service:
    ports, slash, proto = text.lower().rpartition("/")
    if not slash and proto == "icmp":
        return Service("icmp", 0, 65535)
    first, dash, last = ports.partition("-")
    if proto not in PROTOCOLS[:2] or not first.isdecimal() or not (last.isdecimal() or not dash):
        raise MistakeError(f"service is {text!r}; write 443/tcp, 5000-5100/udp or icmp")
    low, high = int(first), int(last or first)
    if not 1 <= low <= high <= 65535:
        raise MistakeError(f"service {text!r} never matches; ports go from 1 to 65535, the lower one first")
    return Service(proto, low, high)


def _expires(value: Any) -> float:
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
    raise MistakeError("expires is no date; write 2027-06-30, 2027-06-30T18:00+02:00 or never")


def proposed(last: float, comment: str, /, **conditions: list[str]) -> str:
    """A rule as it may be pasted into the file, for a person to say why, in the comment; it ends three months after `last`, epoch
    seconds.

    Conditions without a value are left out.
    """
    expires = datetime.fromtimestamp(min(last, 253e9), UTC) + timedelta(days=90)
    lines = [f"comment: {json.dumps(comment or 'why it is harmless, and who says so', ensure_ascii=False)}"]
    lines += [f"{key}: {json.dumps(v[0] if len(v) == 1 else v)}" for key, v in conditions.items() if any(v)]
    return "- " + "\n  ".join([*lines, f"expires: {expires:%Y-%m-%d}"])
