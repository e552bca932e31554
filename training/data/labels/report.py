"""What a loader found wrong, and how much got which label: collected on the way, printed as a table, kept as JSON."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from packetclip_sensor.common.text import printable
from training.common import write_whole
from training.missions import CLASS_MISSION

KEPT = 200
"""Problems of one kind that are kept with their text; the others are counted."""
NAMES = 100
"""Distinct unknown labels that are counted one by one."""

KINDS = {
    "unknown label": "labels that the mapping does not have",
    "overlap": "intervals of different labels at one time between the same hosts",
    "ambiguous": "connections with flows of different labels",
    "backwards": "intervals or flows that end before they start",
    "attacker is victim": "intervals from a host to itself",
    "outside": "intervals outside their capture's time",
    "no packet": "intervals to which no packet belongs",
    "time": "times that cannot be read, or read in one way only",
    "address": "addresses that cannot be read",
    "row": "rows that cannot be read",
    "capture": "captures that are missing, cut or unreadable",
    "offset": "clocks that seem to be set differently",
    "few windows": "classes with too few windows to train on",
    "empty class": "classes that have labels and no window",
    "nothing matched": "label sources of which nothing was found in the captures",
}


@dataclass
class Problem:
    """One thing that is wrong: where (file and line) and what."""

    kind: str
    where: str
    text: str


@dataclass
class Report:
    """What a run prints at its end."""

    command: str
    problems: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """Problems of each kind, also those not kept."""
    unknown: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Unknown label: how often, and where first."""
    unused: Counter[str] = field(default_factory=Counter)
    """Labels that the mapping names as none of the classes."""
    named: Counter[str] = field(default_factory=Counter)
    """Class: intervals or flows of the source with it."""
    matching: dict[str, int] = field(default_factory=dict)
    """Flows and connections: how many met."""
    captures: list[dict[str, Any]] = field(default_factory=list)
    windows: Counter[str] = field(default_factory=Counter)
    """Class: windows; "" is without a label."""
    windows_in: dict[str, set[str]] = field(default_factory=dict)
    """Class: captures with a window of it."""
    settings: dict[str, Any] = field(default_factory=dict)

    def add(self, kind: str, where: str, text: str) -> None:
        """Note a problem; control characters of the source are escaped here, once."""
        assert kind in KINDS, kind
        self.counts[kind] += 1
        if self.counts[kind] <= KEPT:
            self.problems.append(Problem(kind, printable(where, 300), printable(text, 600)))

    def unknown_label(self, name: str, where: str) -> None:
        """Count a label that the mapping does not have; the first place of each name is kept."""
        shown = printable(name, 80)
        if shown not in self.unknown and len(self.unknown) >= NAMES:
            shown = "(others)"
        if shown not in self.unknown:
            self.add("unknown label", where, f"label '{shown}' is none that the mapping has")
        else:
            self.counts["unknown label"] += 1
        times, first = self.unknown.get(shown, (0, printable(where, 300)))
        self.unknown[shown] = (times + 1, first)

    def check_windows(self, few: int) -> None:
        """Note the classes of which there is too little."""
        for name in CLASS_MISSION:
            count, captures = self.windows[name], len(self.windows_in.get(name, ()))
            if self.named[name] and not count:
                self.add("empty class", name, f"{self.named[name]:,} labels, but no window of it; look at what did not match")
            elif count and count < few:
                self.add(
                    "few windows",
                    name,
                    f"{count:,} windows of captures: {captures}; from {few:,} windows on it is worth training",
                )
            elif captures == 1:
                self.add("few windows", name, f"all {count:,} windows are of one capture, so none can be held out for validation")

    def as_dict(self) -> dict[str, Any]:
        """What the JSON file holds."""
        return {
            "command": self.command,
            "settings": self.settings,
            "windows": {
                name: {"windows": self.windows[name], "captures": len(self.windows_in.get(name, ())), "labels": self.named[name]}
                for name in CLASS_MISSION
            },
            "windows_without_label": self.windows[""],
            "matching": self.matching,
            "unknown_labels": {name: {"count": n, "first": first} for name, (n, first) in self.unknown.items()},
            "unused_labels": dict(self.unused),
            "captures": self.captures,
            "problem_counts": dict(self.counts),
            "problems": [{"kind": p.kind, "where": p.where, "text": p.text} for p in self.problems],
        }

    def write(self, path: Path) -> None:
        """Keep the report as JSON, whole or not at all."""
        write_whole(path, json.dumps(self.as_dict(), indent=1) + "\n")

    def print(self, console: Console, shown: int = 3) -> None:
        """The summary: what was labelled, then what is wrong with the first `shown` of each kind."""
        table = Table(title="windows by class")
        table.add_column("class")
        for name in ("labels in the source", "windows", "captures"):
            table.add_column(name, justify="right")
        for name in CLASS_MISSION:
            cells = (self.named[name], self.windows[name], len(self.windows_in.get(name, ())))
            table.add_row(name, *(f"{c:,}" for c in cells), style=None if cells[1] else "dim")
        table.add_row("no label", "", f"{self.windows['']:,}", f"{len(self.windows_in.get('', ())):,}")
        console.print(table)
        for name, number in self.matching.items():
            console.print(f"  {name:44} {number:12,}", highlight=False)
        for name, times in self.unused.most_common():
            console.print(f"  label left out on purpose: {escape(name)}: {times:,}", highlight=False)
        if not self.counts:
            console.print("nothing is wrong with the labels")
            return
        problems = Table(title="what is wrong")
        for name in ("what", "how often", "where", "first ones"):
            problems.add_column(name, overflow="fold", justify="right" if name == "how often" else "left")
        for kind, meaning in KINDS.items():
            its = [p for p in self.problems if p.kind == kind][:shown]
            for i, p in enumerate(its):
                text = p.text
                if kind == "unknown label":
                    text += f" ({next((n for n, w in self.unknown.values() if w == p.where), 1):,} times)"
                what = (meaning, f"{self.counts[kind]:,}") if i == 0 else ("", "")
                problems.add_row(*what, escape(p.where), escape(text))
        console.print(problems)


def csv_rows(reader: Any, path: Path, report: Report) -> Iterator[list[str]]:
    """The rows of a `csv.reader` that can be read; the others are reported with their line."""
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as err:
            report.add("row", f"{path}:{reader.line_num}", f"{err}; the row is left out")
        else:
            yield cells
