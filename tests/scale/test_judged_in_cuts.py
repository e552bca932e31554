"""`replay` and `calibrate` with workers: the bytes that one process writes, whatever the cuts, with evidence too."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import long_logs
import pytest
from killed_worker import killing_one

from packetclip_sensor import pipeline
from packetclip_sensor.cli.app import main
from packetclip_sensor.config.settings import Config, NdjsonConfig, SinkConfig
from packetclip_sensor.evidence.stage import Evidence
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.scale.cuts import cuts_of
from packetclip_sensor.sources.discovery import Unit
from tests.support.bundles import evidence_model as model

pytest.importorskip("distributed")
from packetclip_sensor.scale import cluster, judged

LENGTH_S = 120


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With pauses in which the one pass lets packets go that it has not cut."""
    return long_logs.write(tmp_path_factory.mktemp("long") / "logs", captures=12, rotate_s=97, pause_s=45.0)


@pytest.fixture(scope="module")
def alone(long_log: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What one process writes."""
    return replayed(long_log, tmp_path_factory.mktemp("alone") / "alerts.ndjson")


def replayed(folder: Path, out: Path, found: Any = None) -> bytes:
    config = Config(sink=SinkConfig(ndjson=NdjsonConfig(path=out)))
    counters = pipeline.replay([(folder,)], config, found=lambda paths: found)
    assert (counters.packets, counters.rejects) == (counters.lines - counters.flows, 0)
    return out.read_bytes()


def how() -> judged.How:
    return judged.How.of(Bundle.open(Config().model_path), Config())


def cuts(folder: Path) -> list:
    return cuts_of(Unit("logs", "logs", (folder,)), memory_s=60.0, length_s=LENGTH_S)


class Here:
    """In place of Dask's client: does at once what it is asked for."""

    def submit(self, task, *args, pure: bool):
        task(*args)


def test_the_documents_of_cuts_are_those_of_one_process(long_log: Path, alone: bytes, tmp_path: Path) -> None:
    some = cuts(long_log)
    assert len(some) > 5
    found = judged.found_in(Here(), some, tmp_path, how())
    assert replayed(long_log, tmp_path / "alerts.ndjson", found) == alone
    assert alone.count(b"\n") > 10


def test_evidence_decides_by_the_rows_that_workers_made(
    long_log: Path, alone: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Evidence,
        "of",
        lambda bundle, counters, thresholds=None: Evidence(
            model({"odds 0": 0.5, "odds 0 600s": 1.0}), dict.fromkeys(bundle.manifest.missions.names, 0.88), counters
        ),
    )
    expected = replayed(long_log, tmp_path / "alone.ndjson")
    found = judged.found_in(Here(), cuts(long_log), tmp_path, how())
    assert replayed(long_log, tmp_path / "alerts.ndjson", found) == expected
    assert expected != alone
    assert expected.count(b'"open"') > 3


def test_a_killed_worker_changes_no_document(long_log: Path, alone: bytes, tmp_path: Path) -> None:
    files = tmp_path / "cuts"
    files.mkdir()
    with cluster.workers(2, None) as client, killing_one(client, files):
        found = judged.found_in(client, cuts(long_log), files, how())
        assert replayed(long_log, tmp_path / "alerts.ndjson", found) == alone
    assert len(list(files.glob("*.parquet"))) == len(cuts(long_log))


def test_the_commands_write_what_they_write_without_workers(
    long_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(cuts_of.__kwdefaults__, "length_s", LENGTH_S)
    said = []
    for more in ([], ["--workers", "4"], ["--workers", "2"], ["--workers", "1"]):
        Path("alerts.ndjson").unlink(missing_ok=True)
        if "1" not in more:
            shutil.rmtree("packetclip.cuts", ignore_errors=True)
        assert main(["replay", str(long_log), *more]) == 0
        assert main(["calibrate", "--logs", str(long_log), "--out", "c.yaml", "--alerts-per-day", "1000", *more]) in (0, 1)
        said.append((capsys.readouterr(), Path("alerts.ndjson").read_bytes(), Path("c.yaml").read_bytes()))
    assert said[0] == said[1] == said[2] == said[3]
    assert len(list(Path("packetclip.cuts").glob("*.parquet"))) == 2 * len(cuts(long_log)), "the last run judged nothing again"


def test_samples_for_hunting_need_one_process(
    long_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sensor.yaml").write_text("hunt: {enabled: true}\nsink: {elasticsearch: {hosts: ['http://127.0.0.1:1']}}\n")
    assert main(["replay", str(long_log), "--config", "sensor.yaml", "--workers", "2"]) == 2
    assert "hunt.enabled: workers keep no samples for hunting" in capsys.readouterr().err
