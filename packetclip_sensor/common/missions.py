"""The missions that a model knows, with their classes: names, order, and what a sensor does and writes where it detects one.

No name of a mission or a class stands in the code. Training makes all of this from one file a mission (`training/missions/`) and
writes it into the bundle's manifest; who needs it is given the opened bundle's `Missions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

from packetclip_sensor.common.resources import resource

BENIGN = "Benign"
"""What is no mission: the first of a model's outputs, and the class of label 0."""

Name = Annotated[str, Meta(min_length=1, max_length=60)]
Id = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]*$", max_length=60)]
Technique = Annotated[str, Meta(pattern=r"^T[0-9]{4}(\.[0-9]{3})?$")]
Hex = Annotated[str, Meta(pattern="^#[0-9a-f]{6}$")]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]


class Least(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a verdict of a mission must at least rest on to open an episode; None for what holds of every mission."""

    packets: Count | None = None
    """Packets of the window or of the connections begun within its time; None for `policy.open_packets`."""
    connections: Count | None = None
    """TCP connections, begun within the window's time or seen in it."""
    datagrams_per_s: Count | None = None
    """Packets that are not TCP, of the window's stream in its second, to a host, not a multicast group; None asks for no rate."""
    slow_probability: Annotated[float, Meta(gt=0.0, lt=1.0)] | None = None
    """Probability from which fewer a second, or those to a group, will do; None for none."""


class Fast(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What packets a second of a window's stream add to what the window shows: a burst that is over in a fifth of a second gives
    one window."""

    per_s: Count
    """Packets a second, as `StreamSeconds.rate`, from which on a stream is fast."""
    margin: Annotated[float, Meta(gt=0.0, le=3.0)]
    """By how many logits a window of a fast stream may stay below the mission's threshold and be a verdict."""


class Colour(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What distinguishes a mission from the others at a glance."""

    terminal: Annotated[str, Meta(pattern="^[a-z0-9_]+$")]
    """A colour that rich knows; the next two are for the report, on a light and on a dark page."""
    light: Hex
    dark: Hex


class AttackClass(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One of the attacks that serve a mission."""

    name: Name
    id: Id
    """Its part of field names: `os_scan` in `packetclip.class_probabilities.os_scan`."""
    label: Count
    """Its number among all classes of the model; 0 is Benign."""
    title: Name
    """What an alert's title begins with: "SYN flood"."""
    technique: Technique
    """ATT&CK technique; its name stands in mappings/attack.yaml."""
    transport: tuple[Literal["tcp", "udp", "icmp"], ...] = ()
    """The transports, as Zeek names them, that it may use; none where it may use any. A UDP flood of TCP packets is none."""


class Mission(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What an attacker is after."""

    name: Name
    id: Id
    """Its part of field names, `dos` in `packetclip.missions.dos`, and of the rule's id, `packetclip-dos`."""
    note: Annotated[str, Meta(pattern="^[A-Za-z][A-Za-z0-9_]*$")]
    """Name of the notice behind `PacketCLIP::`."""
    title: Name
    """What an alert's title begins with where the class is not known."""
    description: str
    """What the mission is, one sentence."""
    one_target: str
    """How the title of an episode about one source joins its one target: "Port scan by 192.0.2.7 of 192.0.2.9"."""
    severity: Literal["low", "medium", "high", "critical"]
    technique: Technique
    least: Least
    colour: Colour
    classes: Annotated[tuple[AttackClass, ...], Meta(min_length=1)]
    fast: Fast | None = None
    """None where the rate adds nothing."""

    @property
    def rule_id(self) -> str:
        """`rule.id` of its alerts."""
        return "packetclip-" + self.id.replace("_", "-")

    def klass(self, name: str) -> AttackClass | None:
        """One of its classes by name."""
        return next((klass for klass in self.classes if klass.name == name), None)

    def classes_over(self, transport: str) -> tuple[AttackClass, ...]:
        """The classes that may use a transport; all where none may."""
        return tuple(klass for klass in self.classes if not klass.transport or transport in klass.transport) or self.classes


class Missions:
    """The missions of one model, in the order of its outputs behind Benign."""

    def __init__(self, each: Iterable[Mission]) -> None:
        """Raises ValueError where names or ids stand twice, or the classes' labels are not 1, 2, 3, ..."""
        found = tuple(each)
        by_label = sorted(((klass, mission.name) for mission in found for klass in mission.classes), key=lambda x: x[0].label)
        for what, values in (
            ("mission", [BENIGN, *(mission.name for mission in found)]),
            ("mission id", [BENIGN.lower(), *(mission.id for mission in found)]),
            ("note", [mission.note for mission in found]),
            ("class", [BENIGN, *(klass.name for klass, _ in by_label)]),
            ("class id", [BENIGN.lower(), *(klass.id for klass, _ in by_label)]),
        ):
            if twice := next((value for value in values if values.count(value) > 1), None):
                raise ValueError(f"{what} {twice!r} stands twice")
        labels = [klass.label for klass, _ in by_label]
        if labels != list(range(1, len(labels) + 1)):
            raise ValueError(f"the classes have the labels {', '.join(map(str, labels))}, not 1 to {len(labels)}")
        self._by_name = {mission.name: mission for mission in found}
        self.names = tuple(self._by_name)
        self.groups = (BENIGN, *self.names)
        """The model's outputs."""
        self.of_class = {BENIGN: BENIGN} | {klass.name: mission for klass, mission in by_label}
        """Mission of each class, in the order of their labels; Benign's is Benign."""
        self.ids = {BENIGN: BENIGN.lower()} | {mission.name: mission.id for mission in found}
        """Part of field names by output, and the other way round."""
        self.by_id = {id_: name for name, id_ in self.ids.items()}
        self.class_ids = {BENIGN: BENIGN.lower()} | {klass.name: klass.id for klass, _ in by_label}

    def __iter__(self) -> Iterator[Mission]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __getitem__(self, name: str) -> Mission:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes in the order of their labels."""
        return tuple(self.of_class)

    def transports(self, mission: str, klass: str, seen: Iterable[str]) -> frozenset[str]:
        """What an alert is about: those seen that its class may use. Beside a UDP flood there may be TCP in its window."""
        found, seen = self[mission].klass(klass) if mission in self else None, frozenset(seen)
        own = frozenset(found.transport if found else ())
        return own & seen or own or seen

    def possible(self, concept: str, graph: str, transports: frozenset[str]) -> bool:
        """Whether a concept can be meant over one of these transports: by its word, and by the classes of its graph's mission."""
        own = (
            {transport for klass in self[graph].classes for transport in klass.transport or transports}
            if graph in self
            else transports
        )
        return not transports or (bool(own & transports) and concept_transports().get(concept) in (None, *transports))

    def technique(self, mission: str, klass: str) -> str:
        """ATT&CK technique of a class, or of its mission where the mission has no such class."""
        found = self[mission].klass(klass)
        return self[mission].technique if found is None else found.technique


NO_MISSIONS = Missions(())
"""Of what has nothing to do with a model, such as health documents."""


@cache
def concept_transports() -> dict[str, str]:
    """mappings/concepts.yaml: the one transport of a concept that is of one alone."""
    table: dict[str, list[str]] = yaml.safe_load((resource("mappings") / "concepts.yaml").read_text(encoding="utf-8"))
    return {concept: transport for transport, concepts in table.items() for concept in concepts}


@cache
def attack_table() -> dict[str, Any]:
    """mappings/attack.yaml, the names of MITRE ATT&CK: `framework`, `tactics` and `techniques`."""
    table: dict[str, Any] = yaml.safe_load((resource("mappings") / "attack.yaml").read_text(encoding="utf-8"))
    return table
