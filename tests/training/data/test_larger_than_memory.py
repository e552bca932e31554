"""Windows kept in a folder: the same windows, in little memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny import Words, tiny, write_windows

from packetclip_sensor.pairs.parquet import schema
from packetclip_sensor.windows.packet_features import RELATIONS
from packetclip_sensor.windows.tokens import ROW_BYTES
from packetclip_sensor.windows.windows import Window
from training.data.windows import Examples, load
from training.fit.fit import fit

WINDOWS, GROUP = 50_000, 1000
LIMITED = """
import resource, sys
from pathlib import Path
import numpy, torch
from training.data.windows import load
load([Path(sys.argv[2])])
status = Path("/proc/self/status").read_text()
now = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (now + (160 << 20), resource.RLIM_INFINITY))  # what is mapped from a file does not count
examples = load([Path(sys.argv[1])], Path(sys.argv[3]) if sys.argv[3:] else None)
train = examples.take(numpy.arange(0, len(examples), 2))
print(len(train), int(train.relations[::1000, 0, 0].sum()))
"""


def write_many(path: Path) -> Path:
    """Windows of which each has its number in its relations: 240 MB of these."""
    form, window = schema(Window()), Window()
    with pq.ParquetWriter(path, form) as writer:
        for start in range(0, WINDOWS, GROUP):
            relations = np.zeros((GROUP, window.packets * len(RELATIONS)), np.float32)
            relations[:, 0] = np.arange(start, start + GROUP)
            tokens = np.zeros((GROUP, window.packets * ROW_BYTES), np.uint16)
            values = {"capture": "c", "view": "pair", "label": "Benign", "tool": "", "facts": "{}", "text": ""}
            columns = {}
            for field in form:
                array = {"relations": relations, "tokens": tokens}.get(field.name)
                if array is not None:
                    columns[field.name] = pa.FixedSizeListArray.from_arrays(array.ravel(), array.shape[1])
                else:
                    columns[field.name] = pa.array([values.get(field.name)] * GROUP, field.type)
            writer.write_table(pa.table(columns, form))
    return path


def test_more_windows_than_memory_holds_are_read_into_a_folder(tmp_path: Path) -> None:
    many, few = write_many(tmp_path / "many.parquet"), tmp_path / "few.parquet"
    write_windows(few, {"a": "Benign"})
    command = [sys.executable, "-c", LIMITED, many, few]
    alone = subprocess.run(command, capture_output=True, text=True, check=False)
    assert alone.returncode != 0, "the test has more than fits"
    spilled = subprocess.run([*command, tmp_path / "spilled"], capture_output=True, text=True, check=False)
    assert spilled.stdout == f"{WINDOWS // 2} {sum(range(0, WINDOWS, 2000))}\n", spilled.stderr
    assert list((tmp_path / "spilled").iterdir()) == [], "nothing is left behind"


@pytest.fixture
def both(tmp_path: Path) -> tuple[Examples, Examples]:
    pairs = tmp_path / "lab.parquet"
    write_windows(pairs, {"a": "Benign", "b": "SYN Flood", "c": "Port Scan", "d": "Benign"}, 8)
    return load([pairs]), load([pairs], tmp_path)


def test_what_is_kept_in_a_folder_trains_the_same_model(both: tuple[Examples, Examples]) -> None:
    torch.set_num_threads(1)
    steps = [f"{name}.steps=2" for name in ("bytes", "words", "contrast", "reason")]
    for examples in both:
        assert len(examples.take(np.empty(0, np.int64))) == 0
    one, two = (fit(tiny(*steps, "data.strict=false"), examples, Words()).model.state_dict() for examples in both)
    assert isinstance(both[1].tokens, np.memmap)
    assert all(torch.equal(one[name], two[name]) for name in one)
