"""Labels by time interval and address: a labels.json beside each capture, or one CSV or YAML table for a folder of captures.

A row that cannot be used takes its part of the capture out of what may be called benign: packets that it may have meant get no
label.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import inf, isfinite
from pathlib import Path

import msgspec
import yaml

from packetclip_sensor.errors import ConfigError, LogFormatError
from packetclip_sensor.pairs.labels import NOT_KNOWN, SPOOFED, Interval, LabelFile, Labels
from packetclip_sensor.records import Packet
from packetclip_sensor.records.addresses import AddressError, network, spelled
from training.data.labels.captures import Capture
from training.data.labels.mapping import Mapping
from training.data.labels.report import Report, csv_rows
from training.data.labels.times import TimeError, instant

COLUMNS = ("file", "label", "start", "end", "attacker", "victim")
ANY = ["0.0.0.0/0", "::/0"]
EDGE_S = 60.0
"""An interval may begin or end so far beyond its capture without a word: people note whole minutes."""


@dataclass(frozen=True)
class Row:
    """One interval as the user wrote it."""

    file: str
    label: str
    start: str
    end: str
    attacker: str
    victim: str
    tool: str
    where: str


@dataclass(frozen=True)
class Rule:
    """One interval as it is used; label "" makes the packets in it unknown."""

    interval: Interval
    where: str


def read(path: Path, report: Report) -> list[Row]:
    """The rows of a CSV or YAML table.

    Raises:
        ConfigError: it cannot be read, or its columns are not there.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", "backslashreplace")
    except OSError as err:
        raise ConfigError(f"{path} cannot be read ({err.strerror}); give a CSV or YAML file with {', '.join(COLUMNS)}") from err
    rows = _yaml_rows(path, text) if path.suffix in (".yaml", ".yml") else _csv_rows(path, text, report)
    out = []
    for where, cells in rows:
        missing = [name for name in ("file", "label") if not cells.get(name)]
        if missing:
            report.add("row", where, f"no {' and no '.join(missing)}; the row is left out")
            continue
        out.append(Row(*(cells.get(name, "") for name in (*COLUMNS, "tool")), where))
    return out


def _csv_rows(path: Path, text: str, report: Report) -> Iterator[tuple[str, dict[str, str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names: list[str] = []
    for cells in csv_rows(reader, path, report):
        if not any(cells) or cells[0].startswith("#"):
            continue
        if not names:
            names = [cell.strip().casefold() for cell in cells]
            if missing := [c for c in COLUMNS if c not in names]:
                raise ConfigError(f"{path}: no column {', '.join(missing)}; the first line must be {','.join(COLUMNS)}[,tool]")
            continue
        where = f"{path}:{reader.line_num}"
        if many := len(cells) > len(names):
            report.add("row", where, f"{len(cells)} cells under {len(names)} columns; several addresses are parted by spaces")
        kept = [*cells[:2], *[""] * (len(names) - 2)] if many else cells
        yield where, dict(zip(names, (c.strip() for c in kept), strict=False))


def _yaml_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Nodes instead of values: they keep their line, and `+12.5` stays what was written."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as err:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(err).split())}") from err
    if isinstance(root, yaml.MappingNode):
        root = next((value for name, value in root.value if name.value == "intervals"), None)
    if not isinstance(root, yaml.SequenceNode):
        raise ConfigError(f"{path} holds no list of intervals; docs/labels.md shows one")
    for node in root.value:
        where = f"{path}:{node.start_mark.line + 1}"
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{where}: not an interval with {', '.join(COLUMNS)}")
        yield where, {str(name.value): _text(value) for name, value in node.value}


def _text(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return " ".join(_text(item) for item in node.value)
    return str(node.value).strip() if isinstance(node, yaml.ScalarNode) else ""


def owners(rows: Iterable[Row], captures: list[Capture], report: Report) -> dict[str, list[Row]]:
    """The rows of each capture by its name; a `file` that is no capture, or several, is reported."""
    out: dict[str, list[Row]] = {c.name: [] for c in captures}
    for row in rows:
        wanted = _parts(row.file)
        found = [c.name for c in captures if wanted in (_parts(c.name)[-len(wanted) :], _parts(str(c.path))[-len(wanted) :])]
        if len(found) == 1:
            out[found[0]].append(row)
        elif found:
            report.add(
                "capture", row.where, f"file {row.file!r} is {len(found)} captures: {', '.join(found[:3])}; write its folder too"
            )
            for name in found:
                out[name].append(replace(row, label=""))
        else:
            report.add("capture", row.where, f"file {row.file!r} is none of the {len(captures)} captures; the row is left out")
    return out


def _parts(name: str) -> list[str]:
    name = re.sub(r"(?i)(\.(pcap|pcapng|cap|log))?(\.gz)?$", "", name.replace("\\", "/").strip())
    return [part for part in name.split("/") if part not in ("", ".")]


def rules(rows: Iterable[Row], capture: Capture, mapping: Mapping, report: Report) -> list[Rule]:
    """The rows of one capture as intervals, checked."""
    out = []
    for row in rows:
        label = mapping.of(row.label, row.where, report) if row.label else ""
        attacker = victim = ANY
        start, end = -inf, inf
        try:
            benign = label == "Benign"
            attacker = _hosts(row.attacker, "attacker", benign)
            victim = _hosts(row.victim, "victim", benign)
        except ValueError as err:
            report.add("address", row.where, f"{err}; no packet in its time gets a label")
            attacker, victim, label = ANY, ANY, ""
        try:
            if row.start or row.end or label != "Benign":
                start, end = instant(row.start, capture.first), instant(row.end, capture.first)
        except TimeError as err:
            report.add("time", row.where, f"{err}; no packet between its hosts gets a label")
            start, end, label = -inf, inf, ""
        out.append(Rule(Interval(label, attacker, victim, start, end, row.tool), row.where))
    return out


def _hosts(text: str, side: str, benign: bool) -> list[str]:
    """Addresses and networks in Zeek's spelling; ValueError says what is none."""
    names = [n for n in re.split(r"[\s;]+", text) if n]
    if names == ["*"] or (benign and not names):
        return ANY
    if not names:
        raise ValueError(f"no {side}; write * where it may be anyone")
    out = []
    for name in names:
        if name == SPOOFED:
            raise ValueError("spoofed needs to know the capture's own hosts: write * , or a labels.json with plan.hosts")
        try:
            out.append(spelled(name))
        except AddressError as err:
            raise AddressError(f"{side} {err}") from err
    return out


def of_json(path: Path, capture: Capture, mapping: Mapping, report: Report) -> tuple[list[Rule], LabelFile | None]:
    """The intervals of a labels.json; None where the file cannot be read, which is reported."""
    try:
        file = LabelFile.read(path)
    except LogFormatError as err:
        report.add("row", str(path), f"{err}; {capture.name} gets no labels")
        return [], None
    out = []
    for i, interval in enumerate(file.intervals):
        where = f"{path}: interval {i + 1}"
        label = mapping.of(interval.label, where, report)
        out.append(Rule(msgspec.structs.replace(interval, label=label), where))
    return out, file


def check(found: list[Rule], capture: Capture, report: Report) -> list[Rule]:
    """Report intervals that cannot be right and those that contradict each other; the usable ones come back."""
    out = []
    for rule in found:
        i = rule.interval
        if i.end < i.start:
            report.add(
                "backwards", rule.where, f"ends {i.start - i.end:g} s before it starts; no packet between its hosts gets a label"
            )
            i = msgspec.structs.replace(i, label="", start=-inf, end=inf)
        elif i.label and i.label != "Benign" and i.attacker != ANY and sorted(i.attacker) == sorted(i.victim):
            report.add("attacker is victim", rule.where, f"{' '.join(i.attacker)} attacks itself; its packets get no label")
            i = msgspec.structs.replace(i, label="")
        if isfinite(i.start) and (i.start > capture.last or i.end < capture.first):
            far = i.start - capture.last if i.start > capture.last else capture.first - i.end
            side = "after the capture's end" if i.start > capture.last else "before the capture's start"
            report.add("outside", rule.where, f"lies {far:,.1f} s {side} ({capture.name})")
        elif isfinite(i.start) and (i.start < capture.first - EDGE_S or i.end > capture.last + EDGE_S):
            report.add("outside", rule.where, f"reaches beyond its capture ({capture.name}) by more than {EDGE_S:g} s")
        out.append(Rule(i, rule.where))
    timed = sorted((r for r in out if r.interval.label), key=lambda r: r.interval.start)
    for n, one in enumerate(timed):
        for other in timed[n + 1 :]:
            if other.interval.start >= one.interval.end:
                break
            if one.interval.label != other.interval.label and _same_hosts(one.interval, other.interval):
                both = min(one.interval.end, other.interval.end) - other.interval.start
                report.add(
                    "overlap",
                    f"{one.where} and {other.where}",
                    f"{one.interval.label} and {other.interval.label} for {both:,.1f} s; packets in both get no label",
                )
    return out


def _same_hosts(one: Interval, other: Interval) -> bool:
    """Whether one packet may belong to both."""
    straight = _meet(one.attacker, other.attacker) and _meet(one.victim, other.victim)
    return straight or (_meet(one.attacker, other.victim) and _meet(one.victim, other.attacker))


def _meet(one: list[str], other: list[str]) -> bool:
    if SPOOFED in one or SPOOFED in other:
        return True
    return any(a.version == b.version and a.overlaps(b) for a, b in product(map(network, one), map(network, other)))


class ByInterval:
    """The labels of one capture's packets by intervals (`packetclip_sensor.pairs.labels.Truth`).

    Intervals of different labels make a packet unknown; what no interval covers is `rest`.
    """

    def __init__(self, found: list[Rule], rest: Interval | None, file: LabelFile | None = None) -> None:
        self.rules = found
        intervals = [rule.interval for rule in found]
        self.met = [0] * len(found)
        """Packets that belong to each interval."""
        self._number = {id(i): n for n, i in enumerate(intervals)}
        self._labels = Labels(LabelFile("", intervals, file.plan if file else {}))
        self._rest = rest

    def of(self, packet: Packet) -> Interval | None:
        """The attack, None for benign, NOT_KNOWN."""
        found = self._labels.all_of(packet)
        if not found:
            return self._rest
        for interval in found:
            self.met[self._number[id(interval)]] += 1
        if len({i.label for i in found}) > 1 or not found[0].label:
            return NOT_KNOWN
        return None if found[0].label == "Benign" else found[0]


def without_packets(truth: ByInterval, capture: Capture, report: Report) -> None:
    """Report the intervals to which no packet belonged although they lie in the capture's time."""
    for rule, met in zip(truth.rules, truth.met, strict=True):
        i = rule.interval
        if not met and i.label and i.start <= capture.last and i.end >= capture.first:
            report.add("no packet", rule.where, f"{i.label}: no packet in {capture.name} between its hosts in its time")
