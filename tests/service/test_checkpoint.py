"""The state file: whole or old, never half; one sensor per state folder."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config.settings import HealthConfig
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.records import AlertBatch, Episode, Position
from packetclip_sensor.service import checkpoint
from packetclip_sensor.service.checkpoint import State
from packetclip_sensor.service.health import Health

STATE = State(
    positions=(Position("/logs/packetclip_packet.log", 66, 1234, 1024, "ab" * 32, 56789),),
    judged=1763725904,
    episodes=(
        Episode(
            id="e1", mission="DoS", sources=["192.0.2.1"], destinations=["192.0.2.2"], source_count=1, destination_count=1,
            first=1763725900.5, last=1763725903.25, verdicts=3, packets=90, opened=1763725901, reported=1763725901, documents=1,
            peak=0.97, scope="pair",
        ),
    ),
    model_version="1.0.0",
)  # fmt: skip


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "state" / "state.json"
    checkpoint.save(path, STATE)
    assert checkpoint.load(path) == STATE
    checkpoint.save(path, msgspec.structs.replace(STATE, judged=1763725905))
    assert checkpoint.load(path).judged == 1763725905
    assert path.stat().st_mode & 0o027 == 0
    assert sorted(file.name for file in path.parent.iterdir()) == ["state.json", "state.json.old"]
    assert checkpoint.load(path.with_name("state.json.old")) == STATE


def test_what_is_used_of_the_alert_budget_outlives_a_restart(tmp_path: Path) -> None:
    saver = checkpoint.Saver(tmp_path / "state.json", Health(HealthConfig(), Counters()))
    saver.load()
    saver.save(AlertBatch(spent=(1763725901,)), "1.0.0")
    saver.flush()
    assert saver.load().spent == (1763725901,)


def test_evidence_of_another_model_is_forgotten_for_good(tmp_path: Path) -> None:
    def started(version: str) -> tuple[checkpoint.Saver, dict[str, bytes]]:
        saver = checkpoint.Saver(tmp_path / "state.json", Health(HealthConfig(), Counters()))
        return saver, saver.load(version).evidence_streams

    saver, _ = started("7")
    saver.save(AlertBatch(evidence={"a": b"1"}), "7")
    saver.flush()
    assert started("7")[1] == {"a": b"1"}
    for changed in ({}, {"b": b"2"}):
        saver, found = started("8")
        assert found == {}
        saver.save(AlertBatch(evidence=changed), "8")
        saver.flush()
    assert started("8")[1] == {"b": b"2"}


def test_a_missing_file_is_an_empty_state(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path / "state.json") == State(version=1, positions=(), judged=0, episodes=(), model_version="")


@pytest.mark.parametrize("kept", [0, 1, 40, 300])
def test_a_damaged_file_is_refused_with_the_remedy_and_left_alone(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "state.json"
    checkpoint.save(path, STATE)
    damaged = path.read_bytes()[:kept]
    path.write_bytes(damaged)
    with pytest.raises(ConfigError, match=r"state.json is damaged \(.*\); `packetclip run` goes on from state.json.old"):
        checkpoint.load(path)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("at", [15, 80, 200, -30])
def test_a_changed_byte_is_noticed_by_the_checksum(tmp_path: Path, at: int) -> None:
    path = tmp_path / "state.json"
    checkpoint.save(path, STATE)
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)
    with pytest.raises(checkpoint.DamagedError):
        checkpoint.load(path)


def test_a_state_of_a_version_without_checksum_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(msgspec.json.encode(STATE))
    assert checkpoint.load(path) == STATE


def test_a_damaged_state_is_put_aside_and_the_one_before_it_taken(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    checkpoint.save(path, STATE)
    checkpoint.save(path, State(judged=9))
    path.write_bytes(b"\0" * 500)
    with capture_logs() as logs:
        assert checkpoint.recover(path) == STATE
    assert [(entry["event"], entry["judged"]) for entry in logs] == [("state_damaged", 1763725904)]
    assert path.with_name("state.json.damaged").read_bytes() == b"\0" * 500
    checkpoint.save(path, STATE)
    assert checkpoint.recover(path) == STATE


def test_where_both_states_are_damaged_the_logs_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    checkpoint.save(path, STATE)
    checkpoint.save(path, STATE)
    path.write_bytes(b"{")
    path.with_name("state.json.old").write_bytes(b"")
    assert checkpoint.recover(path) == State()


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    checkpoint.save(path, msgspec.structs.replace(STATE, version=2))
    with pytest.raises(ConfigError, match="has version 2, this sensor reads version 1"):
        checkpoint.load(path)


def test_a_crash_while_saving_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    checkpoint.save(path, STATE)

    def crash(fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("packetclip_sensor.service.checkpoint.os.fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, State(judged=9))
    assert checkpoint.load(path) == STATE


def test_everything_is_synced_before_and_after_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    sync, rename = os.fsync, Path.replace

    def synced(fd: int) -> None:
        steps.append("sync " + Path(f"/proc/self/fd/{fd}").readlink().name)
        sync(fd)

    def renamed(self: Path, target: Path) -> Path:
        steps.append(f"rename {self.name} {target.name}")
        return rename(self, target)

    monkeypatch.setattr("packetclip_sensor.service.checkpoint.os.fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    checkpoint.save(tmp_path / "state.json", STATE)
    assert steps == ["sync state.json.new", "rename state.json.new state.json", f"sync {tmp_path.name}"]
    del steps[:]
    checkpoint.save(tmp_path / "state.json", STATE)
    assert steps[1:3] == ["rename state.json.spare state.json.old", "rename state.json.new state.json"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"state file .*file/state.json cannot be written"):
        checkpoint.save(tmp_path / "file" / "state.json", STATE)


def test_a_second_sensor_on_the_same_state_is_refused_and_one_after_it_is_not(tmp_path: Path) -> None:
    with checkpoint.lock(tmp_path / "state"):
        with (
            pytest.raises(ConfigError, match=rf"in use by another sensor \(process {os.getpid()}\); stop that one"),
            checkpoint.lock(tmp_path / "state"),
        ):
            pass
        with checkpoint.lock(tmp_path / "other"):
            pass
    with checkpoint.lock(tmp_path / "state"):
        pass
