"""Verdicts into a running Zeek: the file comes later, grows, is rotated, moved, cut and half-written, and each is raised once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from factories import MISSIONS, alert, episode, safe
from machine import until
from structlog.testing import capture_logs

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.resources import resource
from packetclip_sensor.records import AlertBatch
from packetclip_sensor.sinks import zeek_notices

ZEEK = shutil.which("zeek", path=os.pathsep.join([os.environ.get("PATH", ""), "/opt/zeek/bin"]))
DATA = Path(__file__).parents[1] / "data"
SETTINGS = [
    "exit_only_after_terminate=T",
    "PacketCLIP::verdicts_path=verdicts.tsv",
    "PacketCLIP::raised_path=zeek/raised.tsv",
    "PacketCLIP::verdicts_max_age=10000days",
    "PacketCLIP::verdicts_check_interval=1sec",
    "Log::default_rotation_interval=0secs",
    "LogAscii::enable_leftover_log_rotation=F",
    "Log::flush_interval=0.2secs",
]
pytestmark = [pytest.mark.zeek, pytest.mark.skipif(ZEEK is None, reason="no zeek on PATH or in /opt/zeek/bin")]


class Running:
    """A Zeek without traffic in a folder of its own; its notices as they come."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.folder = folder
        self.errors = (folder / "stderr").open("w+")
        script = 'event zeek_init() &priority=-10 { local f = open("ready"); close(f); }'
        self.process = subprocess.Popen(
            [str(ZEEK), str(resource("zeek_scripts") / "verdicts.zeek"), *SETTINGS, *settings, "-e", script],
            cwd=folder,
            stdout=self.errors,
            stderr=self.errors,
        )
        self.until((folder / "ready").exists)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)
        self.errors.close()

    def until(self, done: Callable[[], bool]) -> None:
        until(lambda: done() or self.process.poll() is not None)
        assert self.process.poll() is None, (self.folder / "stderr").read_text()

    def told(self) -> list[str]:
        """The episode of each notice in notice.log, in order."""
        try:
            lines = (self.folder / "notice.log").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        names = next(line for line in lines if line.startswith("#fields")).split("\t")[1:]
        return [line.split("\t")[names.index("packetclip_episode")] for line in lines if not line.startswith("#")]

    def until_told(self, *episodes: str) -> None:
        self.until(lambda: len(self.told()) >= len(episodes))
        assert self.told() == list(episodes)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path) as zeek_process:
        yield zeek_process


def of(name: str) -> AlertBatch:
    return safe(alert(id=name, episode=episode(id=name)))


def write(batches: Iterable[AlertBatch], path: Path, max_bytes: int = 1 << 20) -> Iterator[AlertBatch]:
    return zeek_notices.write(batches, path, Counters(), MISSIONS, max_bytes=max_bytes)


def append(path: Path, *names: str, max_bytes: int = 1 << 20) -> None:
    assert len(list(write(map(of, names), path, max_bytes))) == len(names)


def test_a_running_zeek_raises_each_verdict_once_whatever_happens_to_the_file(running: Running) -> None:
    path = running.folder / "verdicts.tsv"
    append(path, "a", "b")  # the file appears after Zeek's start
    running.until_told("a", "b")
    append(path, "c")  # it grows, by another run of the sensor
    running.until_told("a", "b", "c")

    append(path, "d", max_bytes=1)  # the sensor rotates it
    append(path, "e")
    running.until_told("a", "b", "c", "d", "e")
    assert path.with_name("verdicts.tsv.1").exists()

    sensor = write(map(of, ["f", "g", "h", "i"]), path)
    next(sensor)
    path.rename(running.folder / "elsewhere")  # another hand moves it
    next(sensor)
    running.until_told(*"abcdefg")
    path.unlink()  # removes it
    next(sensor)
    running.until_told(*"abcdefgh")
    os.truncate(path, 0)  # cuts it, which Zeek's reader alone would never notice
    next(sensor)
    running.until_told(*"abcdefghi")
    sensor.close()

    with path.open("ab") as file:
        file.write(zeek_notices.line(alert(), "half", 73)[:-5])  # half a line, then nothing for two looks of Zeek's
    time.sleep(2.5)
    append(path, "j")
    running.until_told(*"abcdefghij")
    assert "half" not in (running.folder / "zeek" / "raised.tsv").read_text()


def test_lines_that_come_page_by_page_reach_a_reading_zeek_whole(running: Running) -> None:
    names = [f"e{n}" for n in range(3000)]  # some 300 pages, while Zeek reads
    append(running.folder / "verdicts.tsv", *names[:1])
    running.until_told("e0")
    batches = [safe(*(alert(id=name, episode=episode(id=name)) for name in names[at : at + 50])) for at in range(1, 3000, 50)]
    assert len(list(write(batches, running.folder / "verdicts.tsv"))) == 60
    running.until(lambda: len(running.told()) >= 3000)
    assert running.told() == names
    assert "Not enough fields" not in (running.folder / "stderr").read_text()


def test_neither_side_writes_where_the_other_chooses(tmp_path: Path) -> None:
    """The verdicts' folder may be written by Zeek's user, as before there were two: links there lead neither side astray. Zeek
    keeps no memory in it, the sensor goes on and says what to do."""
    victim, shared = tmp_path / "victim", tmp_path / "shared"
    victim.write_text("mine")
    shared.mkdir()
    shared.chmod(0o2770)
    for name in ("raised.tsv.new", "raised.tsv", "verdicts.tsv.new"):
        (shared / name).symlink_to(victim)
    with capture_logs() as said:
        append(shared / "verdicts.tsv", "a")
    assert "chmod 2750" in next(entry["reason"] for entry in said if entry["event"] == "zeek_feedback_shared_folder")
    paths = ("PacketCLIP::verdicts_path=shared/verdicts.tsv", "PacketCLIP::raised_path=shared/raised.tsv")
    with Running(tmp_path, *paths) as running:
        running.until(lambda: "shared/raised.tsv cannot be written" in (tmp_path / "stderr").read_text())
        append(shared / "verdicts.tsv", "b")
        time.sleep(2.5)
        assert running.told() == []  # both are from before its start
    assert victim.read_text() == "mine"
    with Running(tmp_path, *paths[:1]) as running:  # Zeek's own folder
        running.until_told("a", "b")
    assert victim.read_text() == "mine"
    assert (tmp_path / "zeek").stat().st_mode & 0o777 == 0o700


def test_a_file_that_is_too_large_is_left_until_it_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.tsv"
    append(path, "a")
    with Running(tmp_path, "PacketCLIP::verdicts_max_bytes=100000") as running:
        running.until_told("a")
        with path.open("ab") as file:
            file.truncate(1 << 20)  # one line without end
        running.until(lambda: "is not read, it is larger than verdicts_max_bytes" in (tmp_path / "stderr").read_text())
        path.unlink()
        append(path, "b")
        running.until_told("a", "b")


def test_replayed_attacks_become_notices_in_zeek(tmp_path: Path) -> None:
    captures = {"demo-syn-hping": "DoS", "demo-port-pnscan": "Reconnaissance", "demo-dict-patator-ftp": "Brute_Force"}
    config = tmp_path / "sensor.yaml"
    config.write_text("sensor_name: test\nzeek_feedback: {path: verdicts.tsv}\nsink: {ndjson: {path: alerts.ndjson}}\n")
    command = [sys.executable, "-m", "packetclip_sensor", "replay", *(str(DATA / name) for name in captures), "-c", str(config)]
    for _ in range(2):  # the second run finds everything written
        subprocess.run(command, check=True, capture_output=True)
    lines = (tmp_path / "verdicts.tsv").read_text(encoding="utf-8").splitlines()
    opened = [line.split("\t")[1] for line in lines if "\topen\t" in line]
    with Running(tmp_path) as running:
        running.until(lambda: set(opened) <= set(running.told()))
    log = (tmp_path / "notice.log").read_text(encoding="utf-8")
    assert {note for note in captures.values() if f"\tPacketCLIP::{note}\t" in log} == set(captures.values())
    assert len(opened) == len(set(opened))
    documents = (tmp_path / "alerts.ndjson").read_text(encoding="utf-8")
    assert documents.count('"state":"open"') == len(opened)
    for name in opened:
        assert name in documents
