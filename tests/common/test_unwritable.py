"""What the sensor does where its own files cannot be written: it goes on, counts and says so."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.settings import HealthConfig
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.records import AlertBatch
from packetclip_sensor.service import checkpoint
from packetclip_sensor.service.checkpoint import Saver
from packetclip_sensor.service.health import Health


def test_a_state_that_cannot_be_saved_stops_no_alert_and_is_saved_when_it_can_be(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    health = Health(HealthConfig(), Counters(), state_dir=tmp_path)
    saver = Saver(path, health)
    saver.load()
    (tmp_path / "state.json.new").mkdir()  # where the new state is written first
    with capture_logs() as logs:
        for second in (5, 6):
            saver.save(AlertBatch(judged=second), "1")
            saver.flush()
    assert [entry["event"] for entry in logs] == ["state_unsaved"]
    assert [reason.name for reason in health.reasons()] == ["state_unsaved"]
    assert health.counters.state_unsaved >= 2
    assert checkpoint.load(path).judged == 0
    (tmp_path / "state.json.new").rmdir()
    saver.flush()
    assert checkpoint.load(path).judged == 6
    assert health.reasons() == []


def test_a_state_folder_that_cannot_be_written_at_the_start_is_a_bad_start(tmp_path: Path) -> None:
    (tmp_path / "state.json.new").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        Saver(tmp_path / "state.json", Health(HealthConfig(), Counters())).load()


def test_a_rejects_file_that_cannot_be_written_is_counted_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with capture_logs() as logs, Rejects(tmp_path / "file" / "rejects.jsonl") as rejects:
        for offset in range(3):
            rejects.add("x.log", offset, "not JSON", b"x")
    assert (rejects.count, rejects.unwritten) == (3, 3)
    assert [entry["event"] for entry in logs] == ["rejects_unwritten"]


def test_half_a_reject_that_a_kill_left_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    path.write_bytes(b'{"ts":1,"pa')
    with Rejects(path) as rejects:
        rejects.add("x.log", 7, "not JSON", b"x")
    assert msgspec.json.decode(path.read_bytes().splitlines()[1])["offset"] == 7
