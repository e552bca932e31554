"""Which attack a packet belongs to: a `labels.json` beside the logs says it by intervals with attacker and victim.

Anything else that says it of a packet (`Truth`) can take its place. A window that mixes attack and other packets has no label: a
wrong label is worse than a missing one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import msgspec

from packetclip_sensor.common.missions import BENIGN
from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.records import Packet
from packetclip_sensor.records.addresses import AddressError, address, inside, network

SPOOFED = "spoofed"
"""As an attacker: forged sources."""
MIXED_BELOW = 0.5
"""A window is an attack's from this share of its packets on, and benign at none of any attack; between, it has no label."""


class Interval(msgspec.Struct, frozen=True):
    """One attack of a capture."""

    label: str
    attacker: list[str]
    victim: list[str]
    start: float
    end: float
    tool: str = ""

    @property
    def hosts(self) -> set[str]:
        """Addresses and networks of both sides; forged sources have none."""
        return {*self.attacker, *self.victim} - {SPOOFED}


NOT_KNOWN = Interval("", [], [], 0.0, 0.0)
"""Of a packet whose label nobody knows, or of which there are two labels: it makes no window an attack's, and none benign."""


class Truth(Protocol):
    """Says of each packet which attack it belongs to."""

    def of(self, packet: Packet) -> Interval | None:
        """The attack; None where the packet is known to be benign, NOT_KNOWN where nothing is known of it."""


class LabelFile(msgspec.Struct, frozen=True):
    """labels.json: the attacks of one capture; everything else in it is benign."""

    capture: str
    intervals: list[Interval]
    plan: dict[str, Any] = {}
    """How the lab made it; of its `hosts` only the addresses are used: a host of the lab is never a spoofed source."""

    @property
    def hosts(self) -> set[str]:
        """Addresses of the capture's own hosts, where the plan names them."""
        return {str(a).split("/")[0] for host in self.plan.get("hosts", []) for a in host.get("addresses", [])}

    @staticmethod
    def read(path: Path) -> LabelFile:
        """Read labels.json.

        Raises:
            LogFormatError: not readable, not of the form, or a name in it is no address, no network and not SPOOFED.
        """
        try:
            file = msgspec.json.decode(path.read_bytes(), type=LabelFile)
            for name in sorted(name for interval in file.intervals for name in interval.hosts):
                network(name)
        except OSError as err:
            raise LogFormatError(f"{path}: cannot be read: {err.strerror}; name the labels file of these logs") from err
        except AddressError as err:
            raise LogFormatError(f"{path}: {err}") from err
        except (msgspec.DecodeError, msgspec.ValidationError) as err:
            raise LogFormatError(f"{path}: {err}; docs/pairs.md shows the form of a labels file") from err
        return file


class Labels:
    """Says which attack, if any, a packet belongs to."""

    def __init__(self, file: LabelFile) -> None:
        self._file, self._intervals = file, file.intervals
        self._hosts = file.hosts
        self._between = lru_cache(maxsize=200_000)(self._joining)

    @staticmethod
    def load(path: Path, classes: Collection[str] = ()) -> Labels:
        """Read labels.json.

        Args:
            classes: the labels that may stand in it; any where none is named, for what a next model is to learn.

        Raises:
            LogFormatError: as `LabelFile.read`, or a label that is not one of `classes`.
        """
        file = LabelFile.read(path)
        for interval in file.intervals:
            if classes and interval.label not in classes:
                raise LogFormatError(f"{path}: label {interval.label!r} is none of {', '.join(classes)}")
        return Labels(file)

    def also(self, more: Sequence[Interval]) -> Labels:
        """The same with further attacks."""
        return Labels(msgspec.structs.replace(self._file, intervals=[*self._intervals, *more]))

    def of(self, packet: Packet) -> Interval | None:
        """The attack that the packet belongs to: by time, and by both ends of its connection. NOT_KNOWN where two attacks of
        different labels claim it."""
        found = self.all_of(packet)
        if len(found) > 1 and any(i.label != found[0].label for i in found):
            return NOT_KNOWN
        return found[0] if found else None

    def all_of(self, packet: Packet) -> list[Interval]:
        """Every attack that the packet belongs to, in the file's order."""
        return [i for i in self._between(packet.orig_h, packet.resp_h) if i.start <= packet.ts <= i.end]

    def _is_spoofed(self, host: str, *, answer: bool) -> bool:
        """A stranger to the capture: a forged source (of any kind of address), or the one host that the victim's answer goes
        to."""
        return host not in self._hosts and not (answer and _is_group(host))

    def _joining(self, orig_h: str, resp_h: str) -> list[Interval]:
        return [interval for interval in self._intervals if self._endpoints_match(interval, orig_h, resp_h)]

    def _endpoints_match(self, interval: Interval, orig_h: str, resp_h: str) -> bool:
        for a, b in ((orig_h, resp_h), (resp_h, orig_h)):
            if _among(b, interval.victim) and (
                _among(a, interval.attacker) or (SPOOFED in interval.attacker and self._is_spoofed(a, answer=a == resp_h))
            ):
                return True
        return False


def _is_group(host: str) -> bool:
    """Whether an address is multicast or broadcast."""
    found = address(host)
    return found is not None and (found.is_multicast or (found.version == 4 and host.endswith(".255")))


def _among(host: str, names: Sequence[str]) -> bool:
    return host in names or inside(host, (network(name) for name in names if "/" in name))


def label_of(found: Sequence[Interval | None]) -> tuple[str | None, str, float]:
    """A window's label from the attacks of its packets, the tool of the attack that most belong to ("" where none does), and the
    share of its packets that belong to any; no label where attack and other packets are mixed, or where nothing is known."""
    attacks = [attack for attack in found if attack is not None and attack.label]
    if not attacks:
        return (None if NOT_KNOWN in found else BENIGN), "", 0.0
    main = max(attacks, key=attacks.count)
    own = sum(attack.label == main.label for attack in attacks)
    return (main.label if own / len(found) >= MIXED_BELOW else None), main.tool, len(attacks) / len(found)
