"""The sensor as a process of its own, started again when it ends, as systemd would."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from packetclip_sensor.errors import SensorError
from packetclip_sensor.service import checkpoint

ROOT = Path(__file__).parents[2]
RESTART_S = 0.2
READY_S = 120.0

SETTINGS = """\
sensor_name: faults
logs: ['{logs}']
state_dir: '{state}'
namespace: {namespace}
log_level: debug
policy: {{update_s: 3, close_s: 4}}
sink: {{elasticsearch: {{hosts: ['{url}'], batch_documents: 4, timeout_s: {timeout_s}}}}}
"""


def _unprivileged() -> list[str]:
    """To root no folder is read-only: the sensor runs without that right, as under systemd."""
    if os.geteuid() or not shutil.which("setpriv"):
        return []
    return ["setpriv", "--bounding-set=-dac_override"]


class Sensor:
    """`packetclip run` on a configuration, with its output in a file beside it."""

    def __init__(self, folder: Path, *, logs: Path, url: str, namespace: str, state: Path | None = None, timeout_s: float = 5.0):
        self.folder = folder
        self.state = state or folder / "state"
        self.config = folder / "sensor.yaml"
        self.output = folder / "sensor.log"
        self.config.write_text(
            SETTINGS.format(logs=logs, state=self.state, namespace=namespace, url=url, timeout_s=timeout_s), encoding="utf-8"
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.exits: list[int] = []
        self._supervised = threading.Event()
        self._supervisor: threading.Thread | None = None

    def start(self) -> Sensor:
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [*_unprivileged(), sys.executable, "-m", "packetclip_sensor", "run", "--config", str(self.config)],
                cwd=ROOT,
                stderr=output,
                stdout=output,
                env=os.environ | {"PYTHONUNBUFFERED": "1", "NOTIFY_SOCKET": str(self.folder / "notify")},
            )
        self.starts += 1
        return self

    def start_and_await(self, begin: Callable[[], object]) -> None:
        """Start it by `begin` and wait until it follows its logs, as it says to systemd: what was archived before its very first
        start is not its to read."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
            heard.bind(str(self.folder / "notify"))
            heard.settimeout(READY_S)
            begin()
            while b"READY=1" not in heard.recv(1000):
                pass

    def supervised(self) -> Sensor:
        """Start, and start again whenever it ends by itself."""
        self.start()
        self._supervised.set()

        def watch() -> None:
            while self._supervised.is_set():
                if self.process is not None and self.process.poll() is not None:
                    self.exits.append(self.process.returncode)
                    time.sleep(RESTART_S)
                    if self._supervised.is_set():
                        self.start()
                time.sleep(0.05)

        self._supervisor = threading.Thread(target=watch, daemon=True)
        self._supervisor.start()
        return self

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    def signal(self, number: int) -> None:
        assert self.process
        self.process.send_signal(number)

    def stop(self, timeout_s: float = 30.0) -> int:
        """Ask it to end; its exit status."""
        self._supervised.clear()
        if self._supervisor:
            self._supervisor.join()
        assert self.process
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def judged(self) -> int:
        """The second up to which all is judged and acknowledged, by the saved state; 0 where there is none."""
        try:
            return checkpoint.load(self.state / "state.json").judged
        except SensorError:
            return 0

    def await_judged(self, second: int, still_s: float = 120.0) -> bool:
        """Wait until everything up to `second` is judged and acknowledged; False where it stands still for so long."""
        reached, since = 0, time.monotonic()
        while reached < second:
            if (now := self.judged()) != reached:
                reached, since = now, time.monotonic()
            elif time.monotonic() - since > still_s:
                return False
            time.sleep(0.1)
        return True

    def rss_mb(self) -> float:
        """Resident memory, MiB."""
        with contextlib.suppress(OSError, ValueError):
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
        return 0.0

    def said(self, event: str) -> list[dict[str, object]]:
        """Its log lines of one event."""
        found = []
        for line in self.output.read_bytes().splitlines():
            with contextlib.suppress(msgspec.DecodeError):
                row = msgspec.json.decode(line)
                if isinstance(row, dict) and row.get("event") == event:
                    found.append(row)
        return found
