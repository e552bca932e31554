"""Suricata's packet log while it is written: several threads, rotation, reload, kill, and a folder that cannot be written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import flood
import pytest
from machine import until
from suricata_run import suricata_of

from packetclip_sensor.sources.suricata import capture
from packetclip_sensor.sources.suricata.capture import Suricata

NAME = "packetclip_packet.log"
PART = 20_000


def several(workers: int) -> list[str]:
    """Arguments for so many threads, with room for every flow."""
    ratio = workers / (os.cpu_count() or 1)
    return ["--set", f"threading.detect-thread-ratio={ratio}", "--set", "flow.memcap=1gb"]


@pytest.fixture(params=[7, 8], ids=["7.0", "8.0"])
def suricata(request: pytest.FixtureRequest) -> Suricata:
    return suricata_of(request.param)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_several_threads_tear_lose_and_double_no_line(suricata: Suricata, workers: int, tmp_path: Path) -> None:
    count = 200_000
    flood.write(tmp_path / "flood.pcap", range(count))
    command = [*capture.command(suricata, tmp_path / "flood.pcap", tmp_path, runmode="autofp"), *several(workers)]
    done = subprocess.run(
        command, env=capture.environment(MAX_NEW_FLOWS=0), check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert f"W: {workers} " in done.stdout
    assert flood.told([tmp_path / NAME]) == dict.fromkeys(range(count), 1)


class Running:
    """A Suricata with two threads that reads every capture which is put into its folder."""

    def __init__(self, suricata: Suricata, folder: Path) -> None:
        self.suricata = suricata
        self.folder, self.captures, self.said = folder, folder / "captures", folder / "said"
        self.captures.mkdir()
        self.put = 0
        self.feed()  # 7.0 waits for the first one before it says that it has started
        command = [
            *capture.command(suricata, self.captures, folder, runmode="autofp"),
            *several(2),
            "--pcap-file-continuous",
            "--pcap-file-delete",
        ]
        command += ["--set", "pcap-file.delay=1", "--set", "pcap-file.poll-interval=1"]
        if os.geteuid() == 0:  # who may write everywhere otherwise
            command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(command, env=capture.environment(MAX_NEW_FLOWS=0), stdout=said, stderr=said)
        until(lambda: "Engine started" in self.said.read_text())

    def feed(self) -> None:
        """Put in the next part of the flood, ten seconds of its time later than the last."""
        numbers = range(self.put, self.put + PART)
        flood.write(self.captures / f"{self.put:09}.pcap", numbers, at=self.put / PART * 10)
        self.put += PART

    @property
    def logs(self) -> list[Path]:
        return sorted(self.folder.glob(f"{NAME}*"))

    def lines(self) -> int:
        return sum(log.read_bytes().count(b"\n") for log in self.logs)

    def all_told(self) -> bool:
        return self.lines() >= self.put


@pytest.fixture
def running(suricata: Suricata, tmp_path: Path) -> Iterator[Running]:
    made = Running(suricata, tmp_path)
    yield made
    made.process.kill()
    made.process.wait()


def test_rename_hup_reload_copytruncate_and_kill_lose_and_double_nothing(running: Running) -> None:
    log = running.folder / NAME
    until(running.all_told, 60)
    log.rename(log.with_name(NAME + ".1"))
    running.process.send_signal(signal.SIGHUP)
    running.feed()
    until(running.all_told, 30)
    assert log.stat().st_size > 0
    running.process.send_signal(signal.SIGUSR2)
    until(lambda: "rule reload complete" in running.said.read_text())
    running.feed()
    until(running.all_told, 30)
    shutil.copy(log, log.with_name(NAME + ".2"))
    os.truncate(log, 0)
    running.feed()
    until(running.all_told, 30)
    running.process.kill()
    running.process.wait()
    assert len(running.logs) == 3
    assert flood.told(running.logs) == dict.fromkeys(range(running.put), 1)


def _rename(log: Path) -> None:
    log.rename(log.with_name(NAME + ".1"))


def _read_only(log: Path, writable: bool = False) -> None:
    log.chmod(0o644 if writable else 0o444)
    log.parent.chmod(0o755 if writable else 0o555)


WAYS: dict[str, tuple[str, Callable[[Path], object], Callable[[Path], object]]] = {
    "a folder in its place": ("Is a directory", lambda log: (_rename(log), log.mkdir()), Path.rmdir),
    "a folder that is read-only": ("Permission denied", _read_only, partial(_read_only, writable=True)),
    "a full disk": ("No space left on device", lambda log: (_rename(log), log.symlink_to("/dev/full")), Path.unlink),
}
"""What Suricata says, what brings it about, and what mends it."""


@pytest.mark.parametrize("way", WAYS)
def test_a_log_that_cannot_be_written_for_a_minute_is_reported_once_and_tried_every_5_s(running: Running, way: str) -> None:
    """A minute of the packets' time. Nothing is lost but what came meanwhile, and the number of those packets is reported."""
    log, (reason, spoil, mend) = running.folder / NAME, WAYS[way]
    states = 2 if running.suricata.major == 7 else 1  # one of each thread in 7.0, one for all in 8.0
    until(running.all_told, 60)
    spoil(log)
    for _ in range(6):
        running.feed()
    until(lambda: not any(running.captures.iterdir()), 60)  # all are read
    mend(log)
    running.feed()
    until(lambda: running.said.read_text().count("packets were not recorded") == states, 30)
    until(lambda: flood.told(running.logs)[running.put - 1], 30)
    messages = [line.partition("PacketCLIP: ")[2] for line in running.said.read_text().splitlines() if "PacketCLIP: " in line]
    assert len(messages) == 2 * states
    assert sum(message.endswith(f"{reason}; tried again every 5 s") for message in messages) == states
    found = flood.told(running.logs)
    assert set(found.values()) == {1}
    missing = set(range(running.put)) - set(found)
    assert missing <= set(range(PART, 7 * PART))
    assert len(missing) >= 4 * PART  # each thread opens its log anew only every 5 s
    assert sum(int(message.split()[2]) for message in messages if "not recorded" in message) == len(missing)
