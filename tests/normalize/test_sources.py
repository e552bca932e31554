"""Whole sensors over logs as clusters and several Zeeks write them: verdicts and documents are those of the ordered log."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import altered_captures
import msgspec
import pytest
from factories import told
from structlog.testing import capture_logs

from packetclip_sensor import pipeline
from packetclip_sensor.alerts.episodes import EpisodeTracker
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.settings import Config
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.records import Alert, AlertBatch, Batch, Idle, Lines, VerdictBatch
from packetclip_sensor.service import checkpoint
from packetclip_sensor.service.checkpoint import State
from packetclip_sensor.sinks.documents import SensorInfo, document
from packetclip_sensor.sources import tail, zeek

DATA = Path(__file__).parents[1] / "data"
ATTACKS = ("demo-port-pnscan", "demo-dict-patator-ftp", "demo-udp-hping")
LOGS = ("packet", "flow")
FRESH = State()


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is judged, as it comes to the episodes."""
    found: list[Any] = []
    through = EpisodeTracker.__call__

    def noted(self: EpisodeTracker, batch: VerdictBatch) -> Any:
        for v in batch.verdicts:
            packets = tuple((p.ts, p.uid, p.n) for p in v.packets)
            found.append((v.second, v.view, v.mission, v.probability, v.weight, v.volume, v.connections, packets))
        return through(self, batch)

    monkeypatch.setattr(EpisodeTracker, "__call__", noted)
    return found


def ordered(capture: str) -> dict[str, list[bytes]]:
    return {log: altered_captures.lines(DATA / capture / f"packetclip_{log}.log.gz") for log in LOGS}


def shifted(rows: list[bytes], by_s: float) -> list[bytes]:
    """Log lines of a Zeek whose clock is `by_s` ahead."""
    decoded = [msgspec.json.decode(line) for line in rows]
    return [msgspec.json.encode(row | {"ts": row["ts"] + by_s}) + b"\n" for row in decoded]


def written(folder: Path, lines: dict[str, list[bytes]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for log, rows in lines.items():
        (folder / f"packetclip_{log}.log").write_bytes(b"".join(rows))
    return folder


def judged(
    blocks: Iterable[Lines | Idle],
    bundle: Bundle,
    *,
    lateness_s: float = 0.0,
    state: State = FRESH,
    counters: Counters | None = None,
) -> Iterator[AlertBatch]:
    counters, rejects = counters or Counters(), Rejects(None)
    config = Config(lateness_s=lateness_s, sensor_name="s")
    return pipeline.alerts(zeek.batches(blocks, rejects, counters), bundle, config, counters, state, rejects=rejects)


def documents(alerts: Iterable[Alert], bundle: Bundle) -> list[str]:
    sensor = SensorInfo("s", "0", missions=bundle.manifest.missions)
    return [json.dumps(document(alert, sensor), sort_keys=True, default=str) for alert in alerts]


def evidence_behind(batches: Iterable[AlertBatch]) -> dict[str, bytes]:
    """The evidence of all streams after these batches, the least recent first, as the journal gives it to the next process."""
    streams: dict[str, bytes] = {}
    for batch in batches:
        streams = {key: data for key, data in streams.items() if key not in batch.evidence} | batch.evidence
    return {key: data for key, data in streams.items() if data}


def of_all(batches: Iterable[AlertBatch]) -> list[Alert]:
    return [alert for batch in batches for alert in batch.alerts]


@pytest.mark.parametrize("workers", [4, 16])
@pytest.mark.parametrize("capture", ATTACKS)
def test_the_log_of_a_cluster_gives_the_verdicts_and_documents_of_the_ordered_log(
    capture: str, workers: int, bundle: Bundle, verdicts: list[Any], tmp_path: Path
) -> None:
    lines = ordered(capture)
    late = {log: altered_captures.by_workers(rows, workers) for log, rows in lines.items()}
    assert late["packet"] != lines["packet"]
    same = documents(of_all(judged(tail.finite([written(tmp_path / "plain", lines)]), bundle)), bundle)
    expected = verdicts.copy()
    assert len(same) == 2
    verdicts.clear()
    assert documents(of_all(judged(tail.finite([tmp_path / "plain"]), bundle, lateness_s=2.0)), bundle) == same
    assert verdicts == expected
    verdicts.clear()
    counters = Counters()
    found = documents(
        of_all(judged(tail.finite([written(tmp_path / "late", late)]), bundle, lateness_s=2.0, counters=counters)), bundle
    )
    assert verdicts == expected
    assert found == same
    assert counters.late_packets == 0


def test_without_the_setting_late_lines_are_counted_and_change_the_verdicts(
    bundle: Bundle, verdicts: list[Any], tmp_path: Path
) -> None:
    """What the setting is for."""
    lines = ordered(ATTACKS[0])
    list(judged(tail.finite([written(tmp_path / "plain", lines)]), bundle))
    expected = verdicts.copy()
    verdicts.clear()
    counters = Counters()
    late = {log: altered_captures.by_workers(rows, 4) for log, rows in lines.items()}
    list(judged(tail.finite([written(tmp_path / "late", late)]), bundle, counters=counters))
    assert verdicts != expected
    assert counters.late_packets > 1000


class Writer:
    """A log folder that grows while it is followed, and the clock of who follows it."""

    def __init__(self, folders: dict[Path, dict[str, list[bytes]]], lines_at_once: int) -> None:
        self.now = 0.0
        for folder in folders:
            folder.mkdir(parents=True)
        self._left = [
            (folder / f"packetclip_{log}.log", [rows[i : i + lines_at_once] for i in range(0, len(rows), lines_at_once)])
            for folder, logs in folders.items()
            for log, rows in logs.items()
        ]

    def __call__(self) -> float:
        return self.now

    def followed(self, paths: list[Path], quiet_s: float) -> Iterator[Lines | Idle]:
        """Blocks and `Idle`; some more lines of every log are written at each `Idle`, until all are quiet."""
        steps = max(len(parts) for _, parts in self._left)
        for block in tail.follow(paths, poll_s=0.0, clock=self, quiet_s=quiet_s):
            yield block
            if isinstance(block, Idle):
                if len(block.quiet) == len(paths):
                    return
                self.now += 0.3
                steps -= 1
                for path, parts in self._left:
                    while len(parts) > max(steps, 0):  # the logs end at the same time, however many lines each has
                        with path.open("ab") as file:
                            file.write(b"".join(parts.pop(0)))


@pytest.mark.parametrize(("workers", "lines_at_once"), [(4, 50), (16, 200)])
def test_a_sensor_that_follows_the_log_of_a_cluster_judges_as_if_it_were_in_order(
    workers: int, lines_at_once: int, bundle: Bundle, verdicts: list[Any], tmp_path: Path
) -> None:
    lines = ordered(ATTACKS[0])
    list(judged(tail.finite([written(tmp_path / "plain", lines)]), bundle))
    expected = verdicts.copy()
    verdicts.clear()
    late = {log: altered_captures.by_workers(rows, workers) for log, rows in lines.items()}
    writer = Writer({tmp_path / "logs": late}, lines_at_once)
    counters = Counters()
    list(judged(writer.followed([tmp_path / "logs"], tail.QUIET_S + 2.0), bundle, lateness_s=2.0, counters=counters))
    assert verdicts == expected
    assert counters.late_packets == 0


@pytest.mark.parametrize("lateness_s", [0.0, 2.0])
def test_a_kill_while_lines_are_held_loses_and_doubles_nothing(lateness_s: float, bundle: Bundle, tmp_path: Path) -> None:
    """Killed behind any batch: the next process goes on from the state that was saved behind it."""
    lines = ordered("demo-dict-patator-ftp")
    logs = written(tmp_path / "logs", {log: altered_captures.by_workers(rows, 4) for log, rows in lines.items()})

    def read(state: State) -> Iterator[AlertBatch]:
        return judged(tail.finite([logs], state.positions, block_bytes=16384), bundle, lateness_s=lateness_s, state=state)

    whole = documents(of_all(read(State())), bundle)
    steps = len(list(read(State())))
    for stop in range(1, steps, 9):
        done = list(islice(read(State()), stop))
        last = done[-1]
        state = State(
            positions=last.positions,
            judged=last.judged,
            judged_by=last.judged_by,
            episodes=last.episodes,
            model_version=bundle.manifest.version,
        )
        checkpoint.save(tmp_path / "state.json", state)
        state = msgspec.structs.replace(checkpoint.load(tmp_path / "state.json"), evidence_streams=evidence_behind(done))
        assert documents([*of_all(done), *of_all(read(state))], bundle) == whole, stop


@pytest.mark.parametrize("ahead_s", [61.0, -3600.0, 86400.0 * 365])
def test_a_second_zeek_with_another_clock_costs_neither_its_own_nor_the_others_detections(
    ahead_s: float, bundle: Bundle, tmp_path: Path
) -> None:
    captures = {"one": ("demo-port-pnscan", 0.0), "two": ("demo-dict-patator-ftp", ahead_s)}
    folders = {}
    for name, (capture, by_s) in captures.items():
        lines = {log: shifted(rows, by_s) for log, rows in ordered(capture).items()}
        folders[tmp_path / name / "logs"] = lines
    alone = []
    for folder, lines in folders.items():
        alone += of_all(judged(tail.finite([written(tmp_path / "alone" / folder.parent.name, lines)]), bundle))
    with capture_logs() as logs:
        together = of_all(judged(Writer(folders, 100).followed(list(folders), tail.QUIET_S), bundle))
    opened = [(a.episode.mission, a.episode.sources, a.episode.first) for a in together if a.state == "open"]
    assert sorted(opened) == sorted((a.episode.mission, a.episode.sources, a.episode.first) for a in alone if a.state == "open")
    assert len(opened) == 2
    assert logs == []


def test_an_old_state_without_sources_goes_on(bundle: Bundle, tmp_path: Path) -> None:
    """What a sensor of the version before wrote: positions and episodes of no source, one judged second."""
    lines = ordered("demo-dict-patator-ftp")
    logs = written(tmp_path / "logs", lines)
    whole = documents(of_all(judged(tail.finite([logs], block_bytes=16384), bundle)), bundle)
    batches = list(judged(tail.finite([logs], block_bytes=16384), bundle))
    stop = next(i for i, batch in enumerate(batches) if batch.alerts) + 2
    last = batches[stop]
    old = json.loads(
        msgspec.json.encode(
            State(positions=last.positions, judged=last.judged, episodes=last.episodes, model_version=bundle.manifest.version)
        )
    )
    del old["judged_by"], old["saved"]
    for each in (*old["positions"], *old["episodes"]):
        del each["source"]
    state = msgspec.json.decode(json.dumps(old), type=State)
    state = msgspec.structs.replace(state, evidence_streams=evidence_behind(batches[: stop + 1]))
    rest = of_all(judged(tail.finite([logs], state.positions, block_bytes=16384), bundle, state=state))
    assert documents([*of_all(batches[: stop + 1]), *rest], bundle) == whole


def test_one_packet_of_the_year_2106_leaves_a_scan_what_it_was(bundle: Bundle, tmp_path: Path) -> None:
    lines = ordered("demo-port-pnscan")
    whole = documents(of_all(judged(tail.finite([written(tmp_path / "right", lines)]), bundle)), bundle)
    for place in (0, 100, 2000):
        wrong = msgspec.json.decode(lines["packet"][place]) | {"ts": 4_294_967_295.0, "uid": "Wrong"}
        rows = [*lines["packet"][:place], msgspec.json.encode(wrong) + b"\n", *lines["packet"][place:]]
        counters = Counters()
        folder = written(tmp_path / f"wrong-{place}", lines | {"packet": rows})
        assert documents(of_all(judged(tail.finite([folder]), bundle, counters=counters)), bundle) == whole
        assert told(counters)["wrong_times"] == 1


def test_idle_without_sources_still_moves_the_sensor(bundle: Bundle) -> None:
    steps = pipeline.alerts([Batch([], [], idle=True, quiet=True)], bundle, Config(), Counters(), State())
    assert [(batch.alerts, batch.positions) for batch in steps] == [([], ())]
