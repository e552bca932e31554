"""Windows judged in cuts by workers, and one pass over all lines that takes the verdicts from them.

What depends on more than the last T seconds (suppression, evidence, episodes) happens in that pass alone, by the stages of one
process and on its batches. So the documents are those of one process. The pass reads and cuts once more; it judges nothing again,
or where the model has evidence those windows alone that this decides on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute  # pa.compute is there only once it is imported
import pyarrow.parquet as pq

from packetclip_sensor.calibrate.site_logs import EVERY_PACKET, PacketFilter
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.config.settings import Config
from packetclip_sensor.errors import ModelBundleError
from packetclip_sensor.evidence.rows import Rows, rows_of
from packetclip_sensor.evidence.stage import Evidence
from packetclip_sensor.kafka.messages import decode_verdict as decode
from packetclip_sensor.kafka.messages import encode
from packetclip_sensor.model.bundle import Bundle, fingerprint
from packetclip_sensor.model.encoder import Encoder
from packetclip_sensor.model.judge import Decide, Judge
from packetclip_sensor.model.thresholds import in_force
from packetclip_sensor.normalize.normalizer import Normalizer
from packetclip_sensor.records import Decided, FloatArray, Packet, Trail, Verdict, VerdictBatch
from packetclip_sensor.scale.cluster import result, submit
from packetclip_sensor.scale.cuts import Cut, packets_of, written
from packetclip_sensor.sources import zeek
from packetclip_sensor.windows.cutter import EVERY, WindowCutter
from packetclip_sensor.windows.packet_features import ModelInput, model_input
from packetclip_sensor.windows.windows import VIEWS, Windows

if TYPE_CHECKING:
    from distributed import Client, Future

_WINDOW = [("second", pa.int64()), ("view", pa.int8()), ("uid", pa.string()), ("n", pa.int64()), ("verdict", pa.bool_())]
"""A window is known by its second, its view and its last packet."""
_ARRAYS = {name: pa.list_(kind) for name, kind in (("log_odds", pa.float32()), ("counts", pa.float32()), ("looks", pa.float32()),
                                                   ("begun", pa.float64()))}  # fmt: skip
_ROW = [("stream_view", pa.int8()), ("one", pa.string()), ("other", pa.string()), *_ARRAYS.items()]
"""What evidence keeps of each window."""
VERDICTS = pa.schema([("second", pa.int64()), ("verdict", pa.binary())])
WINDOWS = pa.schema(_WINDOW + _ROW)
"""Of a model with evidence."""
ROWS, SOME = 8192, 64
"""Rows read at a time; of verdicts, which are some 20 kB each, few."""


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
    """Whether the model has some that decides."""
    packets: PacketFilter = EVERY_PACKET

    @staticmethod
    def of(bundle: Bundle, config: Config) -> How:
        """As a replay with this configuration judges them."""
        thresholds, margins = in_force(bundle, for_missions(config.policy, bundle.manifest.missions))
        held, most = config.limits.packets_held, config.limits.windows_per_second
        return How.at(bundle, thresholds, margins, config.lateness_s, packets_held=held, windows_per_second=most)

    @staticmethod
    def at(
        bundle: Bundle, thresholds: Mapping[str, float], margins: Mapping[str, float], lateness_s: float, **options: Any
    ) -> How:
        """With these thresholds and margins; options are the other fields."""
        decides = Evidence.of(bundle, Counters()) is not None
        sha256 = fingerprint(bundle.path)
        return How(str(bundle.path.absolute()), sha256, {**thresholds}, {**margins}, lateness_s, evidence=decides, **options)


@lru_cache(maxsize=1)
def _opened(model: str, sha256: str) -> tuple[Bundle, Encoder]:
    bundle = Bundle.open(Path(model))
    if fingerprint(bundle.path) != sha256:
        raise ModelBundleError(f"a worker has another model in {model}; put the same one there")
    return bundle, Encoder(bundle)


class _Keeps:
    """In place of evidence with a worker: keeps its rows for the one pass."""

    def __init__(self, missions: frozenset[str]) -> None:
        self.missions = missions

    def __call__(self, given: ModelInput, probabilities: FloatArray) -> Decided:
        self.rows = rows_of(given, probabilities)
        return Decided({}, {})


class _Says:
    """In place of evidence in the one pass: what it has decided by the rows of all windows."""

    def __init__(self, missions: frozenset[str]) -> None:
        self.missions = missions
        self.trails: dict[int, tuple[int, Trail]] = {}

    def __call__(self, given: ModelInput, probabilities: FloatArray) -> Decided:
        return Decided(self.trails, {})


def judge_cut(cut: Cut, out: Path, how: How) -> None:
    """Write which windows of a cut are verdicts, and where the model has evidence the rows of all windows."""
    (bundle, encoder), counters, rejects = _opened(how.model, how.sha256), Counters(), Rejects(None)
    window, evidence = bundle.manifest.window, Evidence.of(bundle, counters) if how.evidence else None
    kept = _Keeps(evidence.missions) if evidence else None
    judge = Judge(bundle, how.thresholds, counters, how.margins, evidence=kept, encoder=encoder)
    cutter = WindowCutter(
        window,
        counters,
        judged=cut.judged,
        until=cut.end,
        max_rows=how.packets_held,
        windows_per_second=how.windows_per_second,
    )
    normalize = Normalizer(counters, rejects, lateness_s=how.lateness_s, far_s=window.seconds, most=how.packets_held)
    form = WINDOWS if kept else VERDICTS
    with (
        written(out) as part,
        pq.ParquetWriter(part, form, compression="zstd") as writer,
        packets_of(cut, counters, rejects, how.lateness_s) as read,
    ):
        for batch in how.packets(chain.from_iterable(map(normalize, zeek.together(read)))):
            w = cutter(batch)
            verdicts = judge(model_input(w)).verdicts
            if kept is None:
                columns: dict[str, Any] = {"second": [v.second for v in verdicts], "verdict": [encode(v) for v in verdicts]}
            else:
                found = {_key(v.second, VIEWS.index(v.view), v.packets[-1]) for v in verdicts}
                keys = [*map(_key, w.second.tolist(), w.view.tolist(), w.packets[np.searchsorted(w.fresh, w.rows[:, -1])])]
                columns = {name: [key[i] for key in keys] for i, name in enumerate(("second", "view", "uid", "n"))}
                columns |= {"verdict": [key in found for key in keys]} | _columns(kept.rows)
            if columns["second"]:
                writer.write_table(pa.table(columns, form))


def _key(second: int, view: int, last: Packet) -> tuple[int, int, str, int]:
    return second, view, last.uid, last.n


def _columns(rows: Rows) -> dict[str, Any]:
    columns: dict[str, Any] = {name: [each[i] for each in rows.stream] for i, name in enumerate(("stream_view", "one", "other"))}
    return columns | {name: list(getattr(rows, name)) for name in _ARRAYS}


def _rows(table: pa.Table) -> Rows:
    arrays = {name: table[name].combine_chunks().flatten().to_numpy().reshape(len(table), -1) for name in _ARRAYS}
    stream = zip(*(table[name].to_pylist() for name in ("stream_view", "one", "other")), strict=True)
    return Rows(list(stream), table["second"].to_numpy(), **arrays)


Made = tuple[Cut, Path, "Future[None] | None"]
"""A cut, its file, and what makes that where it is not there."""


def _made(made: Made) -> pq.ParquetFile:
    """The file of a cut, once it is there."""
    _, file, future = made
    if future is not None:
        result(future)
    return pq.ParquetFile(file)


class FoundVerdicts:
    """The verdicts of a unit; a `pipeline.Found`. Waits for a cut when its seconds come."""

    def __init__(self, made: Iterable[Made]) -> None:
        self._left = deque(made)
        self._rows: Iterator[tuple[int, bytes]] = iter(())
        self._next: tuple[int, bytes] | None = None

    def instead(self, evidence: Evidence | None) -> None:
        """The model has none."""

    def __call__(self, w: Windows, judge: Judge) -> VerdictBatch:
        """What was found up to the second that is judged now."""
        verdicts, seconds = [*self._upto(w.judged)], w.table.second[w.fresh]
        return VerdictBatch(verdicts, w.batch, w.judged, w.resume, w.packets, seconds, judged_by=w.judged_by)

    def _upto(self, second: int) -> Iterator[Verdict]:
        while True:
            self._next = self._next or next(self._rows, None)
            if self._next is not None:
                if self._next[0] > second:
                    return
                yield decode(self._next[1])
                self._next = None
            elif self._left and self._left[0][0].begin <= second:
                batches = _made(self._left.popleft()).iter_batches(SOME)
                self._rows = chain.from_iterable(zip(*(x.to_pylist() for x in batch.columns), strict=True) for batch in batches)
            else:
                return


class FoundRows:
    """The rows of all windows of a unit, for evidence to decide by, and which windows are verdicts without it."""

    def __init__(self, made: Iterable[Made]) -> None:
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

    def __call__(self, w: Windows, judge: Judge) -> VerdictBatch:
        """Judge once more what may be a verdict."""
        last = w.rows[:, -1]
        keys = [*zip(w.second.tolist(), w.view.tolist(), w.table.uid[last].tolist(), w.table.n[last].tolist(), strict=True)]
        chosen, trails, start = np.zeros(len(keys), np.bool_), dict[int, tuple[int, Trail]](), 0
        if self._evidence is not None:
            self._evidence.take_flows(w.batch.source, w.batch.flows)
        while start < len(keys):
            while keys[start][0] >= self._end:
                self._next()
            end = start + int(np.searchsorted(w.second[start:], self._end))
            chosen[start:end] = [key in self._verdicts for key in keys[start:end]]
            if self._evidence is not None:
                found = self._evidence.of_rows(w.batch.source, _rows(self._take(keys[start:end])))
                trails |= {start + number: trail for number, trail in found.trails.items()}
            start = end
        chosen[list(trails)] = True
        number = np.cumsum(chosen) - 1
        self._says.trails = {int(number[i]): trail for i, trail in trails.items()}
        few = replace(w, rows=w.rows[chosen], past=w.past[chosen], view=w.view[chosen], second=w.second[chosen])
        return judge(model_input(few, streams=False))

    def _next(self) -> None:
        file, self._end = _made(self._left[0]), self._left.popleft()[0].end
        table = file.read([name for name, _ in _WINDOW]).filter(pa.compute.field("verdict")).to_pydict()
        uids = map(hash, table["uid"])
        self._verdicts = {*zip(table["second"], table["view"], uids, table["n"], strict=True)}
        self._rows, self._held = file.iter_batches(ROWS), None

    def _take(self, keys: list[tuple[int, int, int, int]]) -> pa.Table:
        """The rows of the next windows."""
        while self._held is None or len(self._held) < len(keys):
            more = pa.Table.from_batches([next(self._rows)])
            self._held = pa.concat_tables([self._held, more]) if self._held else more
        found, self._held = self._held[: len(keys)], self._held[len(keys) :]
        return found


def found_in(client: Client, cuts: Sequence[Cut], folder: Path, how: How) -> FoundVerdicts | FoundRows | None:
    """Have the cuts of a unit judged, each into a file in `folder`; one that is there is not made again. None where its clock was
    set back: then seconds do not say which windows are whose."""
    if cuts[0].turned_back:
        return None
    made = []
    for cut in cuts:
        file = folder.absolute() / f"{cut.name(how)}.parquet"
        made.append((cut, file, None if file.exists() else submit(client, judge_cut, cut, file, how)))
    return FoundRows(made) if how.evidence else FoundVerdicts(made)
