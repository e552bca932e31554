"""Text/packet pairs of labelled logs in one Parquet file, for training: one row per window."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from packetclip_sensor.common import durable
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.pairs.labels import Truth
from packetclip_sensor.pairs.rows import labelled, thinned
from packetclip_sensor.records import Batch
from packetclip_sensor.windows import tokens
from packetclip_sensor.windows.cutter import windows
from packetclip_sensor.windows.packet_features import RELATIONS
from packetclip_sensor.windows.windows import Window, Windows

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as err:
    raise ConfigError("pairs are written by pyarrow, which is not installed: pip install '.[pairs]' in a clone") from err

BLOCK_ROWS = 1024
PACKETS = "packets"
"""Key of the file's metadata: packets of each capture, as JSON."""
REJECTS = "rejects"
"""The same of lines that could not be read: how many, and place and reason of the first."""


def schema(window: Window) -> pa.Schema:
    """Columns of the pairs file; docs/pairs.md explains each."""
    strings = pa.list_(pa.string())
    return pa.schema(
        [
            ("capture", pa.string()),
            ("second", pa.int64()),
            ("view", pa.dictionary(pa.int8(), pa.string())),
            ("sources", strings),
            ("destinations", strings),
            ("first", pa.float64()),
            ("last", pa.float64()),
            ("packets", pa.int32()),
            ("uids", strings),
            ("total_packets", pa.int64()),
            ("total_bytes", pa.int64()),
            ("label", pa.string()),
            ("tool", pa.string()),
            ("attack_share", pa.float32()),
            ("text", pa.string()),
            ("facts", pa.string()),
            ("relations", pa.list_(pa.float32(), window.packets * len(RELATIONS))),
            ("tokens", pa.list_(pa.uint16(), window.packets * tokens.ROW_BYTES)),
        ]
    )


def write_pairs(
    units: Iterable[tuple[str, Iterable[Batch], Truth | None]],
    out: Path,
    window: Window,
    *,
    label: str | None = None,
    most_per_unit: int | None = None,
    counters: Counters | None = None,
    rejects: Rejects | None = None,
    progress: Callable[[str, int], None] | None = None,
    **options: Any,
) -> int:
    """Write the pairs of all units (capture name, record batches, labels) and return how many.

    Args:
        label: label of every window of a unit without a labels file; None leaves it empty.
        most_per_unit: keep at most so many windows of each label in a unit, spread evenly over its time.
        counters, rejects: of what was read. progress: is given the name and number of pairs of each unit that is done.
        options: of `WindowCutter`.
    Raises:
        ConfigError: the file cannot be written.
    """
    total = 0
    packets: Counter[str] = Counter()

    def counted(name: str, streams: Iterable[Windows]) -> Iterator[Windows]:
        for found in streams:
            packets[name] += len(found.fresh)
            yield found

    form = schema(window)
    try:
        fd = durable.opened(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    except OSError as err:
        raise ConfigError(f"{out}: cannot be written: {err.strerror}; name a file that you may write by --out") from err
    with os.fdopen(fd, "wb") as file, pq.ParquetWriter(file, form, compression="zstd") as writer:
        for name, batches, labels in units:
            streams = windows(batches, window, counters or Counters(), **options)
            found = labelled(counted(name, streams), labels, label)
            kept, before = iter(found if most_per_unit is None else thinned(list(found), most_per_unit)), total
            while some := list(islice(kept, BLOCK_ROWS)):
                rows = [one.row(name, window) for one in some]
                writer.write_table(pa.Table.from_pylist(rows, schema=form))
                total += len(rows)
            if progress:
                progress(name, total - before)
        bad = [rejects.count, rejects.first] if rejects else [0, ""]
        writer.add_key_value_metadata({PACKETS: json.dumps(packets), REJECTS: json.dumps(bad)})
    return total
