"""Windows judged in cuts by workers, and one pass over all lines that makes of them what depends on more than the last T seconds:
evidence, suppression, episodes, explanations.

The pass reads the batches of one process and has the stages of one process behind it, so the documents are those of one process.
It cuts and judges again only windows that are verdicts, of the packets of the T seconds before them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from packetclip_sensor.model.bundle import Bundle, fingerprint, manifest_of
from packetclip_sensor.model.encoder import Encoder
from packetclip_sensor.model.judge import Decide, Judge
from packetclip_sensor.model.thresholds import in_force
from packetclip_sensor.normalize.normalizer import Normalizer
from packetclip_sensor.records import Batch, Decided, FloatArray, Packet, Trail, Verdict, VerdictBatch
from packetclip_sensor.scale.cluster import result, submit
from packetclip_sensor.scale.cuts import Cut, packets_of, written
from packetclip_sensor.sources import zeek
from packetclip_sensor.windows.cutter import EVERY, WindowCutter
from packetclip_sensor.windows.headers import Ints
from packetclip_sensor.windows.packet_features import ModelInput, model_input
from packetclip_sensor.windows.windows import VIEWS, Window

if TYPE_CHECKING:
    from distributed import Client, Future

_KEY = [("second", pa.int64()), ("view", pa.int8()), ("uid", pa.string()), ("n", pa.int64())]
"""A window is known by its second, its view and its last packet."""
_ARRAYS = {"log_odds": pa.float32(), "counts": pa.float32(), "looks": pa.float32(), "begun": pa.float64()}
WINDOWS = pa.schema([*_KEY, ("verdict", pa.bool_())])
"""Of each window, whether it is a verdict by itself."""
ROWS = pa.schema(
    [*WINDOWS, ("stream_view", pa.int8()), ("one", pa.string()), ("other", pa.string())]
    + [(name, pa.list_(kind)) for name, kind in _ARRAYS.items()]
)
"""And, of a model with evidence, what that keeps of it."""
SOME = 8192
"""Windows read at a time."""


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

    def cutter(self, window: Window, counters: Counters, **options: Any) -> WindowCutter:
        """One with these limits."""
        return WindowCutter(window, counters, max_rows=self.packets_held, windows_per_second=self.windows_per_second, **options)


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
    cutter = how.cutter(window, counters, judged=cut.judged, until=cut.end)
    normalize = Normalizer(counters, rejects, lateness_s=how.lateness_s, far_s=window.seconds, most=how.packets_held)
    form = ROWS if kept else WINDOWS
    with (
        written(out) as part,
        pq.ParquetWriter(part, form, compression="zstd") as writer,
        packets_of(cut, counters, rejects, how.lateness_s) as read,
    ):
        for batch in how.packets(chain.from_iterable(map(normalize, zeek.together(read)))):
            w = cutter(batch)
            found = {(v.second, VIEWS.index(v.view), v.packets[-1]) for v in judge(model_input(w)).verdicts}
            last = w.packets[np.searchsorted(w.fresh, w.rows[:, -1])].tolist()
            if last:
                verdict = [key in found for key in zip(w.second.tolist(), w.view.tolist(), last, strict=True)]
                columns = [w.second, w.view, [p.uid for p in last], [p.n for p in last], verdict]
                writer.write_table(pa.table([*columns, *(_columns(kept.rows) if kept else ())], form))


def _columns(rows: Rows) -> Iterator[Any]:
    yield from zip(*rows.stream, strict=True)
    for name in _ARRAYS:
        values = getattr(rows, name)
        yield pa.ListArray.from_arrays(np.arange(len(values) + 1, dtype=np.int32) * values.shape[1], values.ravel())


def _rows(table: pa.Table) -> Rows:
    arrays = {name: table[name].combine_chunks().flatten().to_numpy().reshape(len(table), -1) for name in _ARRAYS}
    stream = zip(*(table[name].to_pylist() for name in ("stream_view", "one", "other")), strict=True)
    return Rows(list(stream), table["second"].to_numpy(), **arrays)


Made = tuple[Cut, Path, "Future[None] | None"]
"""A cut, its file, and what makes that where it is not there."""


class FoundWindows:
    """What workers found in the windows of a unit; a `pipeline.Found`. Waits for a cut when its seconds come."""

    def __init__(self, made: Iterable[Made], window: Window, how: How) -> None:
        self._left, self._window, self._how = deque(made), window, how
        self._evidence: Evidence | None = None
        self._says = _Says(frozenset())
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._held = (ROWS if how.evidence else WINDOWS).empty_table()
        self._open, self._latest, self._judged = list[Packet](), 0, 0
        self._seconds = np.empty(0, np.int64)
        self._uncut, self._cut = deque[Batch](), how.cutter(window, Counters())

    def instead(self, evidence: Evidence | None) -> Decide | None:
        """Decides by the rows of all windows, which workers made."""
        self._evidence = evidence
        if evidence is not None:
            self._says = _Says(evidence.missions)
        return self._says if evidence else None

    def __call__(self, batch: Batch, judge: Judge, counters: Counters) -> VerdictBatch:
        """Judge once more what is a verdict by itself or by evidence, of the seconds that a batch ends."""
        self._keep(batch)
        packets, seconds = self._ended(batch)
        windows = self._upto(self._judged)
        counters.windows += len(windows)
        trails: dict[int, tuple[int, Trail]] = {}
        if self._evidence is not None:
            self._evidence.take_flows(batch.source, batch.flows)
            trails = self._evidence.of_rows(batch.source, _rows(windows)).trails if len(windows) else {}
        wanted = np.nonzero(windows["verdict"].to_numpy())[0].tolist()
        verdicts = self._verdicts(windows, {*wanted, *trails}, trails, judge) if wanted or trails else []
        by = {batch.source: self._judged}
        return VerdictBatch(verdicts, batch, self._judged, (), packets, seconds, judged_by=by)

    def _keep(self, batch: Batch) -> None:
        """Keep the batch as long as a window may need its packets; where one is let go uncut, cutting begins anew behind it."""
        if batch.packets or batch.final:
            self._uncut.append(batch)
        needed = self._judged - self._window.seconds - 2
        while len(self._uncut) > 1 and self._uncut[0].packets[-1].ts < needed:
            self._uncut.popleft()
            self._cut = self._how.cutter(self._window, Counters())

    def _ended(self, batch: Batch) -> tuple[npt.NDArray[np.object_], Ints]:
        """The packets of the seconds that a batch ends, and the second of each, as `WindowCutter` has them."""
        if batch.packets:
            begin = max(self._latest, self._judged + 1)
            second = np.maximum(np.floor([p.ts for p in batch.packets]).astype(np.int64), begin)
            self._seconds = np.append(self._seconds, np.maximum.accumulate(second))
            self._latest = int(self._seconds[-1])
            self._open += batch.packets
        all_ = batch.final or batch.quiet or len(self._open) > self._how.packets_held
        self._judged = max(self._judged, self._latest - (not all_))
        end = int(np.searchsorted(self._seconds, self._judged, side="right"))
        packets, seconds = np.empty(end, np.object_), self._seconds[:end]
        packets[:] = self._open[:end]
        self._open, self._seconds = self._open[end:], self._seconds[end:]
        if self._window.volume:
            return packets, seconds
        first = np.array([not p.total_bytes for p in packets], np.bool_)
        return packets[first], seconds[first]

    def _upto(self, second: int) -> pa.Table:
        """The next windows, of seconds up to this one."""
        parts = []
        while True:
            end = int(np.searchsorted(self._held["second"].to_numpy(), second, side="right"))
            parts.append(self._held[:end])
            self._held = self._held[end:]
            if len(self._held):
                return pa.concat_tables(parts)
            if (more := next(self._batches, None)) is not None:
                self._held = pa.Table.from_batches([more])
            elif self._left and self._left[0][0].begin <= second:
                _, file, future = self._left.popleft()
                if future is not None:
                    result(future)
                self._batches = pq.ParquetFile(file).iter_batches(SOME)
            else:
                return pa.concat_tables(parts)

    def _verdicts(self, windows: pa.Table, wanted: set[int], trails: dict[int, tuple[int, Trail]], judge: Judge) -> list[Verdict]:
        """Cut and judge some of the windows."""
        while self._uncut:
            w = self._cut(self._uncut.popleft())
        last = w.rows[:, -1]
        here = _numbered(w.second.tolist(), w.view.tolist(), w.table.uid[last].tolist(), w.table.n[last].tolist())
        columns = {name: windows[name].to_pylist() for name, _ in _KEY}
        there = {key: i for i, key in enumerate(_numbered(*(columns | {"uid": [*map(hash, columns["uid"])]}).values()))}
        number = [(i, there[key]) for i, key in enumerate(here) if there.get(key) in wanted]
        chosen = [i for i, _ in number]
        self._says.trails = {i: trails[of] for i, (_, of) in enumerate(number) if of in trails}
        few = replace(w, rows=w.rows[chosen], past=w.past[chosen], view=w.view[chosen], second=w.second[chosen])
        return judge(model_input(few)).verdicts


def _numbered(*columns: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Keys of windows; those with the same key, of which one leaves heavy connections out, are told apart by their order."""
    before = Counter[tuple[Any, ...]]()
    for key in zip(*columns, strict=True):
        before[key] += 1
        yield *key, before[key]


def found_in(client: Client, cuts: Sequence[Cut], folder: Path, how: How) -> FoundWindows | None:
    """Have the cuts of a unit judged, each into a file in `folder`; one that is there is not made again. None where its clock was
    set back: then seconds do not say which windows are whose."""
    if cuts[0].turned_back:
        return None
    made = []
    for cut in cuts:
        file = folder.absolute() / f"{cut.name(how)}.parquet"
        made.append((cut, file, None if file.exists() else submit(client, judge_cut, cut, file, how)))
    return FoundWindows(made, manifest_of(Path(how.model)).window, how)
