"""Alerts for a person at a terminal: one table row per episode, a progress bar while reading, and a closing line of totals.

Everything that comes from the network is shown as plain text, never as rich's markup, and with control characters escaped.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TextIO

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from packetclip_sensor.alerts import sentences
from packetclip_sensor.alerts.severity import severity_and_risk
from packetclip_sensor.common import text
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import Missions
from packetclip_sensor.common.text import counted, printable
from packetclip_sensor.records import Alert
from packetclip_sensor.view.document_access import SEVERITY_NAMES

PIPE_COLUMNS = 160
"""Width where the output is no terminal and COLUMNS is not set: a log file has no edge, but people read it."""
WIDE_COLUMNS = 120
"""From this width on each thing has a column of its own."""
TOP_CONCEPTS = 3
LISTED_CAPTURES = 20
SHOWN_WEIGHT = 0.005
"""Smaller weights would be shown as zero."""


class Episodes:
    """The newest alert of every episode, by capture and in the order in which the episodes opened."""

    def __init__(self, missions: Missions) -> None:
        self.missions = missions
        self.captures: dict[str, dict[str, Alert]] = {}
        self.documents = 0
        self._here: dict[str, Alert] = {}

    def begin(self, capture: str) -> None:
        """What is added from now on comes from `capture`."""
        self._here = self.captures.setdefault(capture, {})

    def unread(self) -> None:
        """What was begun last could not be read."""
        self.captures.popitem()

    def add(self, alert: Alert) -> None:
        """Take in one alert; a later one of the same episode replaces the earlier."""
        self._here[alert.episode.id] = alert
        self.documents += 1

    def __len__(self) -> int:
        return sum(map(len, self.captures.values()))

    def rows(self) -> Iterator[tuple[str, Alert]]:
        """Capture and alert of every episode, each capture's in the order of their first packets."""
        for capture, alerts in self.captures.items():
            for alert in sorted(alerts.values(), key=lambda a: a.episode.first):
                yield capture, alert


class Shown:
    """What the progress bar shows."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task
        self._begun = 0
        self._packets = 0

    def unit(self, name: str) -> None:
        """The next unit begins."""
        self._bar.update(self._task, completed=self._begun, unit=printable(name, 40))
        self._begun += 1

    def packets(self, count: int) -> None:
        """So many more packets have been read."""
        self._packets += count
        self._bar.update(self._task, packets=self._packets)


@contextmanager
def progress(units: int) -> Iterator[Shown]:
    """A progress bar over `units` on standard error, gone at the end; nothing at all where that is no terminal."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[packets]:,} packets"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield Shown(bar, bar.add_task("", total=units, unit="", packets=0))


def summary(episodes: Episodes, counters: Counters, *, where: str, file: TextIO) -> None:
    """Print the table of episodes, if there are any, and the totals."""
    console, say = console_for(file), partial(text.say, hang=0, file=file)
    if len(episodes):
        console.print(table(episodes, console.width))
    quiet = [printable(name, 60) for name, alerts in episodes.captures.items() if not alerts]
    if len(episodes) and quiet:
        say(f"No alert in {', '.join(quiet) if len(quiet) <= LISTED_CAPTURES else counted(len(quiet), 'other capture')}")
    read = f"{counted(counters.packets, 'packet')} and {counted(counters.flows, 'flow')}"
    found = f"{counted(len(episodes), 'episode')}, {counted(episodes.documents, 'document')}"
    say(f"{read} in {counted(len(episodes.captures), 'capture')}: {found}{' -> ' + where if where else ''}")
    if counters.suppressed:
        say(f"{counted(counters.suppressed, 'window')} were suppressed by the rules of policy.suppress")
    if counters.alerts_duplicate:
        say(f"{counted(counters.alerts_duplicate, 'document')} had been written before")
    if len(episodes) and where and "://" not in where:
        first = next(episodes.rows())[1].episode.id
        path = shlex.quote(where)
        say(f"Next: packetclip explain {first} --from {path}\n      packetclip report {path}")


def style_of(mission: str, missions: Missions) -> str:
    """How a mission's name is written; plainly where the model does not know it."""
    return missions[mission].colour.terminal if mission in missions else ""


def console_for(file: TextIO) -> Console:
    """A console that is as wide as the terminal, or readable in a pipe."""
    width = None if file.isatty() or "COLUMNS" in os.environ else PIPE_COLUMNS
    return Console(file=file, width=width, highlight=False)


def table(episodes: Episodes, columns: int) -> Table:
    """One row per episode, its newest state. Times are UTC, as in the documents.

    Args:
        columns: width of the terminal, characters; below WIDE_COLUMNS hosts, words and concepts share one column.
    """
    made = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False, show_edge=False, header_style="bold")
    made.add_column("Time (UTC)", no_wrap=True)
    made.add_column("Mission, class", no_wrap=True)
    made.add_column("Prob.,\nseverity", justify="right", no_wrap=True)
    wide = columns >= WIDE_COLUMNS
    if wide:
        made.add_column("Source → destination", min_width=17, ratio=4, overflow="fold")
        made.add_column("What happened", min_width=20, ratio=10)
        made.add_column("Top concepts", no_wrap=True)
    else:
        made.add_column("Source → destination, what happened, top concepts", ratio=1, overflow="fold")
    day = ""
    for capture, alert in episodes.rows():
        when = datetime.fromtimestamp(alert.episode.first, UTC)
        style = style_of(alert.episode.mission, episodes.missions)
        cells = [
            Text(f"{when:%Y-%m-%d}\n{when:%H:%M:%S}" if f"{when:%Y-%m-%d}" != day else f"{when:%H:%M:%S}"),
            Text(printable(alert.episode.mission, 20), style=f"bold {style}")
            + Text(f"\n{printable(alert.why.klass, 20)}", style="default"),
            Text(f"{min(alert.episode.peak, 0.999):.3f}\n{_severity(alert, episodes.missions)}"),
        ]
        reason = Text(printable(sentences.reason(alert), 1000) + " ") + _extent(
            alert, capture if len(episodes.captures) > 1 else ""
        )
        concepts = _concepts(alert, episodes.missions)
        if wide:
            source, destination = _ends(alert)
            cells += [Text(f"{source}\n→ {destination}"), reason, Text("\n".join(concepts))]
        else:
            cells.append(Text(" → ".join(_ends(alert)), style="bold") + Text("\n") + reason + Text("\n" + ", ".join(concepts)))
        made.add_row(*cells)
        if not wide:
            made.add_row()
        day = f"{when:%Y-%m-%d}"
    return made


def _severity(alert: Alert, missions: Missions) -> str:
    mission = alert.episode.mission
    return SEVERITY_NAMES.get(severity_and_risk(alert, missions[mission])[0], "") if mission in missions else ""


def _ends(alert: Alert) -> list[str]:
    """Source and destination, each the first host and how many more there are."""
    episode = alert.episode
    sides = []
    for hosts, count in ((episode.sources, episode.source_count), (episode.destinations, episode.destination_count)):
        more = max(count, len(hosts)) - 1
        sides.append(printable(hosts[0] if hosts else "?", 60) + (f" +{more:,}" if more > 0 else ""))
    return sides


def _extent(alert: Alert, capture: str) -> Text:
    """What is not in the reason: the windows, where it was read, and its id."""
    episode = alert.episode
    seconds = max(0.0, episode.last - episode.first)
    parts = [counted(episode.verdicts, "window"), f"{seconds:.1f} s"]
    parts += [f"in {printable(capture, 60)}"] * bool(capture) + [f"id {episode.id}"]
    return Text(f"[{'so far ' if alert.state != 'close' else ''}{', '.join(parts)}]", style="dim")


def _concepts(alert: Alert, missions: Missions) -> list[str]:
    """The concepts that raised the mission's log-odds, with what is lost without each; those that the transport rules out come
    last."""
    seen = {evidence.packet.proto for evidence in alert.why.evidence}
    over = missions.transports(alert.episode.mission, alert.why.klass, seen)
    raised = (c for c in alert.why.concepts if c.weight >= SHOWN_WEIGHT)
    found = sorted(raised, key=lambda c: (not missions.possible(c.name, c.graph, over), -c.weight))[:TOP_CONCEPTS]
    return [f"{printable(c.name, 24)} {c.weight:+.2f}" for c in found] or ["none alone"]
