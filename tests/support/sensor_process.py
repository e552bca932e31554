"""`packetclip run` as a process of its own, which is gone at the end of its block in any case."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import machine

from packetclip_sensor.errors import SensorError
from packetclip_sensor.service import checkpoint

ROOT = Path(__file__).parents[2]


class SensorProcess:
    """A sensor on the configuration `sensor.yaml` in `folder`; what it says stands beside it in `sensor.log`."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.folder, self.config, self.output = folder, folder / "sensor.yaml", folder / "sensor.log"
        self.state = folder / "state"
        self.config.write_text(settings, encoding="utf-8")
        (folder / "logs").mkdir(exist_ok=True)
        self.process: subprocess.Popen[bytes]

    def start(self, before: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Self:
        """Start it, by a program `before` it perhaps."""
        command = [*before, sys.executable, "-m", "packetclip_sensor", "run", "--config", str(self.config)]
        with self.output.open("ab") as output:
            environment = os.environ | (environment or {})
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, env=environment)
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Ask it to end, which it must do well; seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        assert self.process.wait(timeout=60) == 0, self.said()
        assert "Traceback" not in self.said()
        return time.monotonic() - began

    def until(self, true: Callable[[], object]) -> None:
        """Wait for what the running sensor brings about."""
        machine.until(lambda: true() or self.process.poll() is not None)
        assert self.process.poll() is None, self.said()

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")

    def judged(self) -> int:
        """The second up to which all is judged and acknowledged, by the saved state; 0 where there is none."""
        try:
            return checkpoint.load(self.state / "state.json").judged
        except SensorError:
            return 0
