"""Windows judged in cuts by workers, and one pass over all lines that takes from them which windows are verdicts.

What depends on more than the last T seconds (suppression, evidence, episodes) happens in that pass alone, by the stages of one
process and on its batches. So the documents are those of one process. The pass reads and cuts again, and judges only the windows
that workers named: a small part of the whole, since judging is most of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from packetclip_sensor.calibrate.site_logs import EVERY_PACKET, PacketFilter
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.config.settings import Config
from packetclip_sensor.errors import ModelBundleError
from packetclip_sensor.evidence.rows import Rows, rows_of
from packetclip_sensor.evidence.stage import Evidence
from packetclip_sensor.model.bundle import Bundle, fingerprint
from packetclip_sensor.model.judge import Decide, Judge
from packetclip_sensor.model.thresholds import in_force
from packetclip_sensor.normalize.normalizer import Normalizer
from packetclip_sensor.records import FloatArray, Packet, Trail
from packetclip_sensor.scale.cluster import result, submit
from packetclip_sensor.scale.cuts import Cut, packets_of, written
from packetclip_sensor.sources import zeek
from packetclip_sensor.windows.model_input import ModelInput, model_input
from packetclip_sensor.windows.windows import EVERY, VIEWS, WindowCutter, Windows

if TYPE_CHECKING:
    from distributed import Client, Future

_WINDOW = [("second", pa.int64()), ("view", pa.int8()), ("uid", pa.string()), ("n", pa.int64()), ("verdict", pa.bool_())]
"""A window is known by its second, its view and its last packet."""
_ARRAYS = {name: pa.list_(kind) for name, kind in (("log_odds", pa.float32()), ("counts", pa.float32()), ("looks", pa.float32()),
                                                   ("begun", pa.float64()))}  # fmt: skip
_ROW = [("stream_view", pa.int8()), ("one", pa.string()), ("other", pa.string()), *_ARRAYS.items()]
"""What evidence keeps of each window."""
ROWS = 8192
"""Rows read at a time."""


class How(msgspec.Struct, frozen=True):
    """How windows are judged."""

    model: str
    sha256: str
    """Fingerprint of the model, which each worker has in a file of its own."""
    thresholds: dict[str, float]
    margins: dict[str, float]
    lateness_s: float
    packets_held: int = 150_000
    windows_per_second: int = EVERY
    evidence: bool = False
    """Whether that of the model decides."""
    packets: PacketFilter = EVERY_PACKET

    @staticmethod
    def of(bundle: Bundle, config: Config) -> How:
        """As a replay with this configuration judges them."""
        thresholds, margins = in_force(bundle, for_missions(config.policy, bundle.manifest.missions))
        limits, sha256 = config.limits, fingerprint(bundle.path)
        sizes = limits.packets_held, limits.windows_per_second
        return How(str(bundle.path.absolute()), sha256, thresholds, margins, config.lateness_s, *sizes, evidence=True)


@lru_cache(maxsize=1)
def _opened(model: str, sha256: str) -> Bundle:
    bundle = Bundle.open(Path(model))
    if fingerprint(bundle.path) != sha256:
        raise ModelBundleError(f"a worker has another model in {model}; put the same one there")
    return bundle


class _Keeps:
    """In place of evidence with a worker: keeps its rows for the one pass."""

    def __init__(self, missions: frozenset[str]) -> None:
        self.missions = missions

    def __call__(
        self, given: ModelInput, probabilities: FloatArray, fresh: npt.NDArray[np.object_]
    ) -> dict[int, tuple[int, Trail]]:
        self.rows = rows_of(given, probabilities, fresh)
        return {}


class _Says:
    """In place of evidence in the one pass: what it has decided by the rows of all windows."""

    def __init__(self, missions: frozenset[str]) -> None:
        self.missions = missions
        self.trails: dict[int, tuple[int, Trail]] = {}

    def __call__(
        self, given: ModelInput, probabilities: FloatArray, fresh: npt.NDArray[np.object_]
    ) -> dict[int, tuple[int, Trail]]:
        return self.trails


def judge_cut(cut: Cut, out: Path, how: How) -> None:
    """Write which windows of a cut are verdicts, and where the model has evidence the rows of all windows."""
    bundle, counters, rejects = _opened(how.model, how.sha256), Counters(), Rejects(None)
    window, evidence = bundle.manifest.window, Evidence.of(bundle, counters) if how.evidence else None
    kept = _Keeps(evidence.missions) if evidence else None
    judge = Judge(bundle, how.thresholds, counters, how.margins, evidence=kept)
    cutter = WindowCutter(
        window,
        counters,
        judged=cut.judged,
        until=cut.end,
        max_rows=how.packets_held,
        windows_per_second=how.windows_per_second,
    )
    normalize = Normalizer(counters, rejects, lateness_s=how.lateness_s, far_s=window.seconds, most=how.packets_held)
    form = pa.schema(_WINDOW + (_ROW if kept else []))
    with (
        written(out) as part,
        pq.ParquetWriter(part, form, compression="zstd") as writer,
        packets_of(cut, counters, rejects, how.lateness_s) as read,
    ):
        for batch in how.packets(chain.from_iterable(map(normalize, zeek.together(read)))):
            w = cutter(batch)
            found = judge(model_input(w)).verdicts
            verdicts = {_key(v.second, VIEWS.index(v.view), v.packets[-1]): True for v in found}
            keys = [*verdicts]
            if kept is not None:
                keys = [*map(_key, w.second.tolist(), w.view.tolist(), w.table.packets(w.rows[:, -1]))]
            if keys:
                columns = dict(zip(form.names, zip(*keys, strict=True), strict=False))
                columns["verdict"] = [key in verdicts for key in keys]
                writer.write_table(pa.table(columns | (_columns(kept.rows) if kept else {}), form))


def _key(second: int, view: int, last: Packet) -> tuple[int, int, str, int]:
    return second, view, last.uid, last.n


def _columns(rows: Rows) -> dict[str, Any]:
    columns = dict(zip(("stream_view", "one", "other"), zip(*rows.stream, strict=True), strict=True))
    return columns | {name: list(getattr(rows, name)) for name in _ARRAYS}


def _rows(table: pa.Table) -> Rows:
    arrays = {name: table[name].combine_chunks().flatten().to_numpy().reshape(len(table), -1) for name in _ARRAYS}
    stream = zip(*(table[name].to_pylist() for name in ("stream_view", "one", "other")), strict=True)
    return Rows(list(stream), table["second"].to_numpy(), **arrays)


class Found:
    """The windows of a unit that workers found to be verdicts; the `Pick` of a replay. Waits for a cut when its seconds come."""

    def __init__(self, made: Iterable[tuple[Cut, Path, Future[None] | None]]) -> None:
        """`made`: the cuts of a unit, the file of each, and what makes it where it is not there."""
        self._left, self._end = deque(made), 0
        self._evidence: Evidence | None = None
        self._says = _Says(frozenset())
        self._verdicts: set[tuple[int, int, int, int]] = set()
        self._rows: Iterator[pa.RecordBatch] = iter(())
        self._held: pa.Table | None = None

    def instead(self, evidence: Evidence | None) -> Decide | None:
        """Decides by the rows of all windows, which workers made."""
        self._evidence = evidence
        if evidence is not None:
            self._says = _Says(evidence.missions)
        return self._says if evidence else None

    def __call__(self, w: Windows) -> Windows:
        """Those of the windows that may be verdicts."""
        last = w.rows[:, -1]
        keys = [*zip(w.second.tolist(), w.view.tolist(), w.table.uid[last].tolist(), w.table.n[last].tolist(), strict=True)]
        chosen, trails, start = np.zeros(len(keys), np.bool_), dict[int, tuple[int, Trail]](), 0
        while start < len(keys):
            while keys[start][0] >= self._end:
                self._next()
            end = start + int(np.searchsorted(w.second[start:], self._end))
            chosen[start:end] = [key in self._verdicts for key in keys[start:end]]
            if self._evidence is not None:
                found = self._evidence.of_rows(w.batch.source, _rows(self._take(keys[start:end])))
                trails |= {start + number: trail for number, trail in found.items()}
            start = end
        chosen[list(trails)] = True
        number = np.cumsum(chosen) - 1
        self._says.trails = {int(number[i]): trail for i, trail in trails.items()}
        return replace(w, rows=w.rows[chosen], past=w.past[chosen], view=w.view[chosen], second=w.second[chosen])

    def _next(self) -> None:
        cut, file, future = self._left.popleft()
        if future is not None:
            result(future)
        table = pq.read_table(file, columns=[name for name, _ in _WINDOW], filters=[("verdict", "=", True)]).to_pydict()
        uids = map(hash, table["uid"])
        self._verdicts = {*zip(table["second"], table["view"], uids, table["n"], strict=True)}
        self._end = cut.end
        if self._evidence is not None:
            self._rows, self._held = pq.ParquetFile(file).iter_batches(ROWS), None

    def _take(self, keys: list[tuple[int, int, int, int]]) -> pa.Table:
        """The rows of the next windows."""
        while self._held is None or len(self._held) < len(keys):
            more = pa.Table.from_batches([next(self._rows)])
            self._held = pa.concat_tables([self._held, more]) if self._held else more
        found, self._held = self._held[: len(keys)], self._held[len(keys) :]
        return found


def found_in(client: Client, cuts: Iterable[Cut], folder: Path, how: How) -> Found:
    """Have the cuts of a unit judged, each into a file in `folder`; one that is there is not made again."""
    made = []
    for cut in cuts:
        file = folder.absolute() / f"{cut.name(how)}.parquet"
        made.append((cut, file, None if file.exists() else submit(client, judge_cut, cut, file, how)))
    return Found(made)
