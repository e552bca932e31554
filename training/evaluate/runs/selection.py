"""Which windows train, calibrate and test: by capture, never by window, and never one capture on two sides."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch

from packetclip_sensor.pairs.parquet import PACKETS
from training.common import DataError
from training.data.windows import CLASSES, NAMES, Examples, drawn, load, main_classes
from training.evaluate.plan import Plan, Task, files

VALIDATION, TEST = 0.15, 0.2


@dataclass(frozen=True)
class Selection:
    """The parts of a task; every capture is in one of them only."""

    train: Examples
    validation: Examples
    """As the sensor judges them; empty where a task has no such files."""
    test: dict[str, Examples]
    benign_packets: dict[str, int]
    """Of the captures without an attack of each test set."""


def benign_packets(paths: list[Path], held: Examples) -> int:
    """Packets of the captures without an attack, as the files of windows say it; 0 where they are of before."""
    known: dict[str, int] = {}
    for path in paths:
        known |= json.loads((pq.read_metadata(path).metadata or {}).get(PACKETS.encode(), b"{}"))
    return sum(known.get(capture, 0) for capture, klass in main_classes(held).items() if klass == "Benign")


def select(plan: Plan, task: Task) -> Selection:
    """Load and split a task's data.

    A test set whose source is also trained on keeps only the windows of the test captures; any other keeps all. A source without
    test files is trained on whole.

    Raises:
        DataError: files missing, no capture to test on, or a capture that would stand on both sides.
    """
    found = files(plan, task)
    loaded: dict[tuple[Path, ...], Examples] = {}

    def windows(part: str) -> Examples:
        paths = tuple(found[part])
        if paths not in loaded:
            loaded[paths] = load(paths)
        return loaded[paths]

    whole = join([windows(f"train {name}") for name in task.run.train])
    wholly = {c for name in task.run.train if f"test {name}" not in found for c in windows(f"train {name}").capture}
    side = split({c: k for c, k in main_classes(whole).items() if c not in wholly}, task.seed) | dict.fromkeys(wholly, "train")
    chosen = scarce({c: k for c, k in main_classes(whole).items() if side[c] == "train"}, task.run.share, task.seed)
    train = compact(only(whole, chosen))
    validation, test = [], {}
    for name in task.run.train:
        if f"test {name}" in found:
            validation.append(only(windows(f"test {name}"), {c for c, s in side.items() if s == "validation"}))
    for name in task.run.test:
        held = windows(f"test {name}")
        if pattern := plan.data[name].captures:
            held = only(held, {c for c in set(held.capture) if re.search(pattern, c)})
        if name in task.run.train:
            held = only(held, {c for c, s in side.items() if s == "test"})
        elif both := set(held.capture) & set(whole.capture):
            raise DataError(
                f"{name}: {len(both)} captures are also trained on, such as {sorted(both)[0]}; rename or leave them out"
            )
        if not len(held):
            raise DataError(
                f"{name}: no window to test on; the training source needs three captures of a class, or another test set"
            )
        test[name] = compact(held)
    if not validation or not sum(map(len, validation)):
        raise DataError(f"run {task.run.name!r}: nothing to calibrate on; give its training data test files in the plan")
    packets = {name: benign_packets(found[f"test {name}"], held) for name, held in test.items()}
    return Selection(train, compact(join(validation)), test, packets)


def split(classes: Mapping[str, str], seed: int) -> dict[str, str]:
    """Capture to "train", "validation" or "test", the same share of every class; a class of one or two captures is not validated.

    Args:
        classes: main class of each capture.
    """
    out: dict[str, str] = {}
    for klass in sorted(set(classes.values())):
        order = drawn((c for c in classes if classes[c] == klass), str(seed))
        n = len(order)
        test = min(max(round(TEST * n), 1), n - 1)
        validation = max(round(VALIDATION * n), 1) if n > 2 else 0
        for i, capture in enumerate(order):
            out[capture] = "test" if i < test else "validation" if i < test + validation else "train"
    return out


def scarce(classes: Mapping[str, str], share: float, seed: int) -> set[str]:
    """A share of the captures of each class, at least one; a smaller share is part of a larger one."""
    out: set[str] = set()
    for klass in sorted(set(classes.values())):
        order = drawn((c for c in classes if classes[c] == klass), f"{seed} share")
        out.update(order[: max(round(share * len(order)), 1)])
    return out


def only(examples: Examples, captures: set[str]) -> Examples:
    """The windows of these captures."""
    return examples.take(np.nonzero(np.array([c in captures for c in examples.capture], bool))[0])


def join(parts: list[Examples]) -> Examples:
    """All windows of `parts`; packet rows are not shared between them."""
    if len(parts) == 1:
        return parts[0]
    rows, at = [], 0
    for part in parts:
        rows.append(torch.where(part.rows >= 0, part.rows + at, part.rows))
        at += len(part.tokens)
    return Examples(
        tokens=np.concatenate([p.tokens for p in parts]),
        rows=torch.cat(rows),
        relations=torch.cat([p.relations for p in parts]),
        label=torch.cat([p.label for p in parts]),
        facts=[f for p in parts for f in p.facts],
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in NAMES},
    )


def compact(examples: Examples) -> Examples:
    """The same windows with only the packet rows that they use, in the order of the tokens."""
    used = examples.rows[examples.rows >= 0].unique()
    number = used.new_full((len(examples.tokens) + 1,), -1)
    number[used] = used.new_tensor(range(len(used)))
    number[-1] = -1  # row -1 is padding
    return replace(examples, tokens=examples.tokens[used.numpy()], rows=number[examples.rows])


def counts(examples: Examples) -> dict[str, int]:
    """Windows, captures, distinct packet rows, and windows of each class."""
    label = examples.label.numpy()
    return {
        "windows": len(examples),
        "captures": len(set(examples.capture)),
        "distinct packets": len(examples.tokens),
        **{name: int((label == i).sum()) for i, name in enumerate(CLASSES) if (label == i).any()},
    }


def limited(examples: Examples, most: int, seed: int) -> Examples:
    """At most `most` windows, drawn without their order: for measurements that repeat the prediction many times."""
    if len(examples) <= most:
        return examples
    chosen: npt.NDArray[np.int64] = np.sort(np.random.default_rng(seed).choice(len(examples), most, replace=False))
    return compact(examples.take(chosen))
