"""`packetclip pairs` in cuts: a folder with one Parquet file for each, whose rows in the order of names are those of one file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pyarrow.parquet as pq

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.errors import ConfigError, LogFormatError
from packetclip_sensor.normalize.normalizer import normalized
from packetclip_sensor.pairs.labels import Labels
from packetclip_sensor.pairs.parquet import PACKETS, REJECTS, write_pairs
from packetclip_sensor.scale.cluster import result, submit
from packetclip_sensor.scale.cuts import Cut, folder_of_cuts, packets_of, written
from packetclip_sensor.windows.windows import TRAINED

if TYPE_CHECKING:
    from distributed import Client


class Made(msgspec.Struct):
    """What is in the files of some cuts."""

    rows: int = 0
    packets: int = 0
    rejects: int = 0
    first: str = ""
    """Place and reason of the first line that could not be read."""

    def add(self, file: Path) -> None:
        """Take in the file of a cut."""
        found = pq.read_metadata(file)
        rejects, first = json.loads(found.metadata[REJECTS.encode()])
        self.rows += found.num_rows
        self.packets += sum(json.loads(found.metadata[PACKETS.encode()]).values())
        self.rejects, self.first = self.rejects + rejects, self.first or first


def write_cut(cut: Cut, out: Path, labels: Path | None, classes: Sequence[str], label: str | None) -> None:
    """Write the pairs of a cut, whole or not at all; arguments as of `packetclip pairs`."""
    rejects, counters = Rejects(None), Counters()
    truth = Labels.load(labels, classes) if labels else None
    with written(out) as part, packets_of(cut, counters, rejects) as batches:
        units = [(cut.unit, normalized(batches, counters, rejects), truth)]
        write_pairs(units, part, TRAINED, label=label, rejects=rejects, judged=cut.judged, until=cut.end)


def write_cuts(
    client: Client,
    cuts: Iterable[tuple[Cut, Path | None]],
    folder: Path,
    classes: Sequence[str],
    label: str | None,
    *,
    on_done: Callable[[str], None] = lambda unit: None,
    on_unread: Callable[[LogFormatError], None] | None = None,
) -> Made:
    """Write the pairs of all cuts, with the labels file of each, into a folder; what is there already is not made again.

    Args:
        classes, label: as of `packetclip pairs`. on_done: is given the unit of each cut that is written.
        on_unread: takes the error of a capture that cannot be read; without it this ends the run.
    Raises:
        ConfigError: the folder cannot be made, or holds Parquet files of other logs or options.
    """
    folder_of_cuts(folder, "--out")
    wanted = {}
    for cut, labels in cuts:
        text = labels.read_text(encoding="utf-8", errors="replace") if labels else ""
        wanted[folder / f"{cut.name(text, label)}.parquet"] = cut, labels
    if others := sorted(set(folder.glob("*.parquet")) - wanted.keys()):
        raise ConfigError(
            f"{folder}: holds {others[0].name}, of other logs or options than these; remove it, or name another folder by --out"
        )
    asked = {file: submit(client, write_cut, cut, file.absolute(), labels, classes, label)
             for file, (cut, labels) in wanted.items() if not file.exists()}  # fmt: skip
    made = Made()
    for file, (cut, _) in wanted.items():
        try:
            if file in asked:
                result(asked.pop(file))
            made.add(file)
        except LogFormatError as err:
            if on_unread is None:
                raise
            on_unread(err)
        on_done(cut.unit)
    return made
