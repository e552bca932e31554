"""What training windows are cut from: captures with labels, as they are or altered; each written by itself, or all in one."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow.parquet as pq

from packetclip_sensor.pairs.labels import Interval, Labels, Truth
from packetclip_sensor.pairs.parquet import PACKETS, schema, write_pairs
from packetclip_sensor.records import Batch
from packetclip_sensor.scale.cuts import Cut, folder_of_cuts, written
from packetclip_sensor.windows.windows import TRAINED
from training.data import altered
from training.data.ground_truth import records
from training.missions import CLASS_MISSION

if TYPE_CHECKING:
    from distributed import Client

CUTS = "cuts"
"""Folder, beside the files of windows, of those of single captures that workers write."""


class Capture(NamedTuple):
    """A folder of logs."""

    folder: Path
    label: str | None = None
    """Of all of it; None where labels.json says it."""
    way: str | None = None
    """In which `training.data.altered` alters it; "" for the one drawn for it, None for none."""


class Cutting(NamedTuple):
    """How windows are cut."""

    period_s: float
    most: int
    """Windows of one label in a capture."""


def unit(capture: Capture) -> tuple[str, Iterable[Batch], Truth | None]:
    """Its name, its records, its labels. Raises LogFormatError."""
    folder, label, way = capture
    truth: Truth | None = None if label else Labels.load(folder / "labels.json", CLASS_MISSION)
    if way is None:
        return folder.name, records([folder]), truth
    if truth is None:
        truth = altered.Everything(None if label == "Benign" else Interval(label or "", [], [], 0.0, float("inf")))
    alter = partial(altered.altered, way=way or altered.way_of(folder.name), capture=folder.name)
    return folder.name, records([folder], alter=alter), altered.WithDownloads(truth)


def write(
    captures: Sequence[Capture],
    out: Path,
    cutting: Cutting,
    *,
    client: "Client | None" = None,
    progress: Callable[[], object] = lambda: None,
) -> int:
    """Write the windows of captures into one file, whole or not at all, and return how many; with a `client` of Dask's each
    capture by a worker, into a file of its own first, which a rerun does not make again."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if client is None:
        with written(out) as part:
            return _write(captures, part, cutting, progress)
    from packetclip_sensor.scale.cluster import result, submit  # noqa: PLC0415  (Dask is an extra)

    cuts = out.parent.absolute() / CUTS / out.stem
    folder_of_cuts(cuts, "--out")
    made = []
    for capture in captures:
        labels = "" if capture.label else (capture.folder / "labels.json").read_text(encoding="utf-8")
        cut = Cut(capture.folder.name, (str(capture.folder.absolute()),))
        file = cuts / f"{cut.name(capture.label, capture.way, cutting, labels)}.parquet"
        absolute = capture._replace(folder=capture.folder.absolute())
        made.append((file, None if file.exists() else submit(client, write_one, absolute, file, cutting)))
    for _, future in made:
        if future is not None:
            result(future)
        progress()
    return _join([file for file, _ in made], out)


def write_one(capture: Capture, out: Path, cutting: Cutting) -> None:
    """Write the windows of a capture, whole or not at all."""
    with written(out) as part:
        _write([capture], part, cutting, lambda: None)


def _write(captures: Sequence[Capture], out: Path, cutting: Cutting, progress: Callable[[], object]) -> int:
    label = captures[0].label if captures and captures[0].way is None else None
    units = map(unit, captures)
    sizes = {"most_per_unit": cutting.most, "period_s": cutting.period_s}
    return write_pairs(units, out, TRAINED, label=label, progress=lambda *_: progress(), **sizes)


def _join(files: Sequence[Path], out: Path) -> int:
    rows, packets = 0, Counter[str]()
    with written(out) as part, pq.ParquetWriter(part, schema(TRAINED), compression="zstd") as writer:
        for file in files:
            read = pq.ParquetFile(file)
            for number in range(read.num_row_groups):
                writer.write_table(read.read_row_group(number))
            rows += read.metadata.num_rows
            packets.update(json.loads(read.metadata.metadata[PACKETS.encode()]))
        writer.add_key_value_metadata({PACKETS: json.dumps(packets)})
    return rows
