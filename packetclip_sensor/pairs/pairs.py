"""Windows of labelled logs as text/packet pairs in Parquet, for training: one row per window.

The columns and their units are in docs/pairs.md. Labels come from a `labels.json` beside the logs (intervals with attacker and
victim), or from anything else that says of a packet which attack it belongs to (`Truth`). A window that mixes attack and other
packets keeps an empty label: a wrong label is worse than a missing one.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from packetclip_sensor.alerts import sentences
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import BENIGN
from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.records import Batch, Packet
from packetclip_sensor.windows import tokens
from packetclip_sensor.windows.packet_features import RELATIONS, relations
from packetclip_sensor.windows.windows import VIEWS, Window, Windows, windows

MIXED_BELOW = 0.5
"""A window is an attack's from this share of its packets on, and benign at none of any attack; between, it has no label."""


class Interval(msgspec.Struct, frozen=True):
    """One attack of a capture."""

    label: str
    attacker: list[str]
    victim: list[str]
    start: float
    end: float
    tool: str = ""


NOT_KNOWN = Interval("", [], [], 0.0, 0.0)
"""Of a packet whose label nobody knows, or of which two labels are told: it makes no window an attack's, and none benign."""


class Truth(Protocol):
    """Says of each packet which attack it belongs to."""

    def of(self, packet: Packet) -> Interval | None:
        """The attack; None where the packet is known to be benign, NOT_KNOWN where nothing is known of it."""


class LabelFile(msgspec.Struct, frozen=True):
    """labels.json: the attacks of one capture; everything else in it is benign."""

    capture: str
    intervals: list[Interval]
    plan: dict[str, Any] = {}
    """How the lab made it; of its `hosts` only the addresses are used: a host of the lab is never a spoofed source."""

    @property
    def hosts(self) -> set[str]:
        """Addresses of the capture's own hosts, where the plan names them."""
        return {str(a).split("/")[0] for host in self.plan.get("hosts", []) for a in host.get("addresses", [])}


class Labels:
    """Says which attack, if any, a packet belongs to."""

    def __init__(self, file: LabelFile) -> None:
        self._intervals = file.intervals
        self._hosts = file.hosts
        self._between = lru_cache(maxsize=200_000)(self._joining)

    @staticmethod
    def load(path: Path, classes: Collection[str] = ()) -> Labels:
        """Read labels.json.

        Args:
            classes: the labels that may stand in it; any where none is named, for what a next model is to learn.
        Raises:
            LogFormatError: not readable, not of the form, or a label that is not one of `classes`.
        """
        try:
            file = msgspec.json.decode(path.read_bytes(), type=LabelFile)
        except OSError as err:
            raise LogFormatError(f"{path}: cannot be read: {err.strerror}; name the labels file of these logs") from err
        except (msgspec.DecodeError, msgspec.ValidationError) as err:
            raise LogFormatError(f"{path}: {err}; docs/pairs.md shows the form of a labels file") from err
        for interval in file.intervals:
            if classes and interval.label not in classes:
                raise LogFormatError(f"{path}: label {interval.label!r} is none of {', '.join(classes)}")
        return Labels(file)

    def of(self, packet: Packet) -> Interval | None:
        """The attack that the packet belongs to: by time, and by both ends of its connection. NOT_KNOWN where two attacks of
        different labels claim it."""
        found = self.all_of(packet)
        if len(found) > 1 and any(i.label != found[0].label for i in found):
            return NOT_KNOWN
        return found[0] if found else None

    def all_of(self, packet: Packet) -> list[Interval]:
        """Every attack that the packet belongs to, in the file's order."""
        return [i for i in self._between(packet.orig_h, packet.resp_h) if i.start <= packet.ts <= i.end]

    def _is_spoofed(self, host: str, *, answer: bool) -> bool:
        """A stranger to the capture: a forged source (of any kind of address), or the one host that the victim's answer goes
        to."""
        return host not in self._hosts and not (answer and _is_group(host))

    def _joining(self, orig_h: str, resp_h: str) -> list[Interval]:
        return [interval for interval in self._intervals if self._endpoints_match(interval, orig_h, resp_h)]

    def _endpoints_match(self, interval: Interval, orig_h: str, resp_h: str) -> bool:
        for a, b in ((orig_h, resp_h), (resp_h, orig_h)):
            if _among(b, interval.victim) and (
                _among(a, interval.attacker) or ("spoofed" in interval.attacker and self._is_spoofed(a, answer=a == resp_h))
            ):
                return True
        return False


def _is_group(host: str) -> bool:
    """Whether an address is multicast or broadcast."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_multicast or (address.version == 4 and host.endswith(".255"))


def _among(host: str, names: Sequence[str]) -> bool:
    if host in names:
        return True
    try:
        address = ipaddress.ip_address(host)
        return any(address in ipaddress.ip_network(n, strict=False) for n in names if "/" in n)
    except ValueError:
        return False


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
            ("label", pa.string()),
            ("tool", pa.string()),
            ("attack_share", pa.float32()),
            ("text", pa.string()),
            ("facts", pa.string()),
            ("relations", pa.list_(pa.float32(), window.packets * len(RELATIONS))),
            ("tokens", pa.list_(pa.uint16(), window.packets * tokens.ROW_BYTES)),
        ]
    )


def write(
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
    """
    counters = counters or Counters()
    total = 0
    form = schema(window)
    with pq.ParquetWriter(out, form, compression="zstd") as writer:
        for name, batches, labels in units:
            rows = _thin(
                list(_unit(name, windows(batches, window, counters, period_s=period_s), window, labels, label)), most_per_unit
            )
            for start in range(0, len(rows), 1024):
                block = [make() for _, make in rows[start : start + 1024]]
                writer.write_table(pa.Table.from_pylist(block, schema=form))
            total += len(rows)
            if progress:
                progress(name, len(rows))
    return total


Row = dict[str, object]


def _unit(
    name: str, streams: Iterable[Windows], window: Window, labels: Truth | None, label: str | None
) -> Iterator[tuple[str, Callable[[], Row]]]:
    """(label, function that makes the row) of every window: most windows are thinned out before anything is computed."""
    for w in streams:
        if not len(w.rows):
            continue
        used = np.unique(w.rows[w.rows >= 0])
        attack = dict(zip(used, (labels.of(p) if labels else None for p in w.table.packets(used)), strict=True))
        for i in range(len(w.rows)):
            picked = w.rows[i][w.rows[i] >= 0]
            found = [attack[j] for j in picked]
            hits = [a for a in found if a is not None and a.label]
            share = len(hits) / len(found)
            main = max(hits, key=hits.count) if hits else None
            verdict = label
            if labels is not None:
                verdict = _verdict(found, main)
            tool = main.tool if main else ""

            def make(
                w: Windows = w,
                i: int = i,
                picked: np.ndarray = picked,
                verdict: str | None = verdict,
                tool: str = tool,
                share: float = share,
            ) -> Row:
                return _row(name, w, i, picked, window, verdict, tool, share)

            yield verdict or "", make


def _verdict(found: Sequence[Interval | None], main: Interval | None) -> str | None:
    """The label of a window from those of its packets."""
    if main is None:
        return None if NOT_KNOWN in found else BENIGN
    own = sum(a is not None and a.label == main.label for a in found)
    return main.label if own / len(found) >= MIXED_BELOW else None


def _row(name: str, w: Windows, i: int, picked: np.ndarray, window: Window, label: str | None, tool: str, share: float) -> Row:
    packets: list[Packet] = list(w.table.packets(picked))
    facts = sentences.facts(packets, VIEWS[int(w.view[i])])
    part = w.table.take(picked)
    toks = np.full((window.packets, tokens.ROW_BYTES), tokens.PAD, np.uint16)
    head = tokens.headers(part.data, part.captured, part.size_bytes)
    toks[window.packets - len(picked) :] = tokens.tokenize(part.data, part.captured, head)
    return {
        "capture": name,
        "second": int(packets[-1].ts),
        "view": VIEWS[int(w.view[i])],
        "sources": sorted({p.orig_h for p in packets}),
        "destinations": sorted({p.resp_h for p in packets}),
        "first": packets[0].ts,
        "last": packets[-1].ts,
        "packets": len(packets),
        "uids": list(dict.fromkeys(p.uid for p in packets)),
        "label": label,
        "tool": tool,
        "attack_share": share,
        "text": sentences.window_text(facts),
        "facts": json.dumps(facts),
        "relations": relations(w.table, w.rows[i : i + 1], w.past[i : i + 1]).ravel(),
        "tokens": toks.ravel(),
    }


def _thin(rows: list[tuple[str, Callable[[], Row]]], most: int | None) -> list[tuple[str, Callable[[], Row]]]:
    """At most `most` rows of each label, evenly spread, in their order."""
    if most is None:
        return rows
    keep: set[int] = set()
    for label in {label for label, _ in rows}:
        at = [i for i, (other, _) in enumerate(rows) if other == label]
        keep.update(at if len(at) <= most else (at[int(k)] for k in np.linspace(0, len(at) - 1, most)))
    return [row for i, row in enumerate(rows) if i in keep]
