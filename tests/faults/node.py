"""An Elasticsearch node of the suite's own, which can be stopped, killed and started again on the same data and port."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from conftest import ASSEMBLED, SERVERS, find_jdk, free_port

START_TIMEOUT_S = 300


class NodeUnavailableError(Exception):
    """There is no JDK or no Maven to put Elasticsearch together."""


class Node:
    """One node; `url` stays the same for as long as it lives."""

    def __init__(self, folder: Path) -> None:
        self.home, self.data, self.output = ASSEMBLED / "elasticsearch", folder / "es-data", folder / "es.log"
        jdk = find_jdk()
        if jdk is None or not (shutil.which("mvn") or list(self.home.glob(".assembled-*"))):
            raise NodeUnavailableError("the fault suite needs a real Elasticsearch: a JDK of 21 or newer, and mvn")
        self.jdk, self.port, self.transport = jdk, free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self, *, wait: bool = True) -> None:
        with self.output.open("ab") as log:
            self.process = subprocess.Popen(
                ["sh", str(SERVERS / "elasticsearch" / "start.sh"), self.home, str(self.port), str(self.transport), self.data],
                env=os.environ | {"JAVA_HOME": str(self.jdk)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if wait:
            self.await_healthy()

    def await_healthy(self) -> None:
        until = time.monotonic() + START_TIMEOUT_S
        while not self.healthy():
            assert self.process is not None
            assert self.process.poll() is None, f"Elasticsearch ended: {self.output.read_text()[-2000:]}"
            assert time.monotonic() < until, "Elasticsearch did not start"
            time.sleep(0.2)

    def healthy(self) -> bool:
        """Whether it answers, and every index that there is can be written."""
        try:
            with urllib.request.urlopen(f"{self.url}/_cluster/health?wait_for_status=yellow&timeout=2s", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def end(self, number: int = signal.SIGTERM) -> None:
        """SIGTERM ends it properly, SIGKILL does not."""
        assert self.process
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
