"""Text/packet pairs of labelled logs in one Parquet file, for training: one row per window."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from packetclip_sensor.common import durable
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.pairs.labels import Truth
from packetclip_sensor.pairs.rows import labelled, thinned
from packetclip_sensor.records import Batch
from packetclip_sensor.windows import tokens
from packetclip_sensor.windows.packet_features import RELATIONS
from packetclip_sensor.windows.windows import Window, windows

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError as err:
    raise ConfigError("pairs are written by pyarrow, which is not installed: pip install '.[pairs]' in a clone") from err

BLOCK_ROWS = 1024
PACKETS = "packets"
"""Key of the file's metadata: packets of each capture, as JSON."""


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
    period_s: float = 1.0,
    counters: Counters | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> int:
    """Write the pairs of all units (capture name, record batches, labels) and return how many.

    Args:
        label: label of every window of a unit without a labels file; None leaves it empty.
        most_per_unit: keep at most so many windows of each label in a unit, spread evenly over its time.
        period_s: cut windows at the end of each such period instead of each second, see `windows`.
        counters: of what was read. progress: is given the name and number of pairs of each unit that is done.
    Raises:
        ConfigError: the file cannot be written.
    """
    total = 0
    packets: Counter[str] = Counter()

    def counted(name: str, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            packets[name] += len(batch.packets)
            yield batch

    form = schema(window)
    try:
        fd = durable.opened(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    except OSError as err:
        raise ConfigError(f"{out}: cannot be written: {err.strerror}; name a file that you may write by --out") from err
    with os.fdopen(fd, "wb") as file, pq.ParquetWriter(file, form, compression="zstd") as writer:
        for name, batches, labels in units:
            streams = windows(counted(name, batches), window, counters or Counters(), period_s=period_s)
            found = thinned(list(labelled(streams, labels, label)), most_per_unit)
            for start in range(0, len(found), BLOCK_ROWS):
                rows = [one.row(name, window) for one in found[start : start + BLOCK_ROWS]]
                writer.write_table(pa.Table.from_pylist(rows, schema=form))
            total += len(found)
            if progress:
                progress(name, len(found))
        writer.add_key_value_metadata({PACKETS: json.dumps(packets)})
    return total
