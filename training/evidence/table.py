"""Rows of labelled captures as one table: evidence inputs, what is right for each mission, and groups to split by."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.evidence.flow_counts import Counted
from packetclip_sensor.evidence.rows import Rows
from packetclip_sensor.evidence.streams import Streams
from packetclip_sensor.pairs.labels import Interval
from packetclip_sensor.windows.packet_features import RELATIONS
from training.missions import CLASS_MISSION, MISSIONS

IGNORED = -1
TCP = RELATIONS.index("tcp")
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Capture:
    """One capture's rows."""

    name: str
    group: str
    """What is on one side of every split: a source of captures by others, or the lab's tool."""
    label: str
    packets: int
    inputs: npt.NDArray[np.float32]
    """(W, inputs)"""
    right: Ints
    """(W, missions): 1 where the row is of an attack of the mission, 0 where not, IGNORED where nobody knows."""
    stream: Ints
    """(W,) number of the row's stream within the capture."""
    hosts: list[frozenset[str]]
    """Of each stream."""
    second: Ints
    behind: npt.NDArray[np.float64]
    """(W, 4) packets, connections, packets a second, and 1 where the window is mostly TCP: what `policy.least` asks for, and
    what makes a stream fast."""


def group_of(name: str, source: str) -> str:
    """A capture's group: of the lab what was recorded, without its number or haste."""
    if not source.startswith("lab/"):
        return source
    plain = re.sub(r"(-(\d+|six|tls|paced|jobs|own|loop|hydra|medusa|ncrack|paramiko))+$", "", name)
    return f"{source} {re.sub('^world-slow-', 'world-', plain)}"


def load(folder: Path) -> list[Capture]:
    """Every capture of a folder that `collect` wrote, by name."""
    return [_capture(path) for path in sorted(folder.glob("*.npz"))]


def _capture(path: Path) -> Capture:
    with np.load(path, allow_pickle=False) as a:
        about: dict[str, Any] = msgspec.json.decode(str(a["about"]))
        stream = [(int(v), one, other) for v, one, other in (s.split("\t") for s in a["stream"].tolist())]
        rows = Rows(stream, a["second"], a["log_odds"], a["counts"], a["looks"].astype(np.float32), a["begun"])
        rate = a["rate"]
        due, hosts, values = (a[f"flow_{name}"].tolist() for name in ("due", "hosts", "values"))
    flows = [Counted(t, "", *pair.split("\t"), tuple(v)) for t, pair, v in zip(due, hosts, values, strict=True)]
    endless = {"end": float("inf")}  # JSON has no infinity
    intervals = msgspec.convert([i | (endless if i["end"] is None else {}) for i in about["intervals"]], list[Interval])
    inputs, _ = Streams(len(MISSIONS), Counters())("", rows, flows)
    number = {s: i for i, s in enumerate(dict.fromkeys(stream))}
    return Capture(
        path.stem,
        group_of(path.stem, about["source"]),
        intervals[0].label if intervals else "Benign",
        about["packets"],
        inputs.astype(np.float32),
        _right(rows, intervals),
        np.array([number[s] for s in stream], np.int64),
        [frozenset(h for h in s[1:] if h) for s in number],
        rows.second,
        np.stack([rows.counts[:, -1], rows.counts[:, -2], np.round(rate), rows.looks[:, TCP] >= 0.5], axis=1),
    )


def _right(rows: Rows, intervals: Sequence[Interval]) -> Ints:
    """A row is of an attack where its stream joins attacker and victim; where only one of them stands in it, or the attack is
    over, nobody knows; the streams of others are benign."""
    right = np.zeros((len(rows.second), len(MISSIONS)), np.int64)
    for interval in intervals:
        m = list(MISSIONS).index(CLASS_MISSION[interval.label])
        attackers, victims = {*interval.attacker} - {"spoofed"}, {*interval.victim}
        wide = any("/" in host for host in attackers | victims) or "spoofed" in interval.attacker
        for i, (_, one, other) in enumerate(rows.stream):
            if rows.second[i] < int(interval.start):
                continue
            hosts = {one, other} - {""}
            named = hosts & (attackers | victims)
            if not (attackers or victims):
                sure = True
            elif len(hosts) == 2:
                sure = bool(hosts & attackers and hosts & victims) or (wide and bool(named))
            else:
                sure = bool(one in attackers if one else other in victims)
            if sure and rows.second[i] <= interval.end:
                right[i, m] = 1
            elif (named or wide) and right[i, m] == 0:
                right[i, m] = IGNORED if sure or wide or len(hosts) == 1 else 0
    return right
