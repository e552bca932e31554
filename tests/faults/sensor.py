"""The sensor as a process of its own, started again when it ends, as systemd would."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from sensor_process import SensorProcess

RESTART_S = 0.2
READY_S = 120.0

SETTINGS = """\
sensor_name: faults
logs: ['{logs}']
state_dir: '{state}'
namespace: {namespace}
log_level: debug
policy: {{update_s: 3, close_s: 4}}
sink: {sink}
"""


def _unprivileged() -> list[str]:
    """To root no folder is read-only: the sensor runs without that right, as under systemd."""
    return [] if os.geteuid() or not shutil.which("setpriv") else ["setpriv", "--bounding-set=-dac_override"]


class Sensor(SensorProcess):
    """`packetclip run` on a configuration, supervised perhaps."""

    def __init__(self, folder: Path, *, logs: Path, sink: str, namespace: str, state: Path) -> None:
        super().__init__(folder, SETTINGS.format(logs=logs, state=state, namespace=namespace, sink=sink))
        self.state = state
        self.exits: list[int] = []
        self._supervised = threading.Event()
        self._supervisor: threading.Thread | None = None

    def start(self, before: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Self:
        return super().start(before or _unprivileged(), {"NOTIFY_SOCKET": str(self.folder / "notify")})

    def start_and_await(self, begin: Callable[[], object]) -> None:
        """Start it by `begin` and wait until it follows its logs, as it says to systemd: what was archived before its very first
        start is not its to read."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
            heard.bind(str(self.folder / "notify"))
            heard.settimeout(READY_S)
            begin()
            while b"READY=1" not in heard.recv(1000):
                pass

    def supervised(self) -> None:
        """Start, and start again whenever it ends by itself."""
        self.start()
        self._supervised.set()

        def watch() -> None:
            while self._supervised.is_set():
                if self.process.poll() is not None:
                    self.exits.append(self.process.returncode)
                    time.sleep(RESTART_S)
                    if self._supervised.is_set():
                        self.start()
                time.sleep(0.05)

        self._supervisor = threading.Thread(target=watch, daemon=True)
        self._supervisor.start()

    def end(self) -> None:
        """Ask it to end, and take it away where it does not."""
        self._supervised.clear()
        if self._supervisor:
            self._supervisor.join()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
        self.kill()

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
        """Resident memory, MiB; 0 where it does not run."""
        with contextlib.suppress(OSError, ValueError):
            return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
        return 0.0
