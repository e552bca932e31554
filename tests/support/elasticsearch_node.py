"""A real Elasticsearch node, put together from Maven artifacts by tests/servers: started, stopped, killed, started again."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from machine import free_port, unavailable, until

TESTS = Path(__file__).parents[1]
HOMES = {
    "kql": "elasticsearch",
    "security": "elasticsearch-security",
    "esql": "elasticsearch-esql",
    "opensearch": "opensearch",
    "opensearch-security": "opensearch",
}
"""Below `.servers`, by kind of node: the program, kept between runs; data lie in temporary folders."""
PASSWORD = "packetclip-test"
"""Of the user `elastic` on a node with security."""
MIN_JDK = 21
START_TIMEOUT_S = 300
"""Enough for Maven's first download on a slow line; later starts take about ten seconds."""


class NodeUnavailableError(Exception):
    """The node cannot be started here."""


class Node:
    """One node; `url` stays the same for as long as it lives."""

    def __init__(self, folder: Path, data: Path | None = None, *, kind: str = "kql") -> None:
        """Start it, with its output and, unless they are to be elsewhere, its data in `folder`.

        Args:
            kind: "kql"; "security" for one with users, roles and keys, where `elastic` has PASSWORD; "esql" for an
                8.19 with ES|QL; "opensearch"; or "opensearch-security" for one with its security plugin, where `admin` has the
                password `admin`.

        Raises:
            NodeUnavailableError: there is no JDK, no Maven, or it ended.
        """
        jdk = find_jdk()
        if jdk is None:
            raise NodeUnavailableError(
                f"Elasticsearch and OpenSearch need a JDK of {MIN_JDK} or newer: none in JAVA_HOME, /usr/lib/jvm, /opt"
            )
        self.kind, self.home = kind, TESTS / ".servers" / HOMES[kind]
        self.script = TESTS / "servers" / ("opensearch" if kind.startswith("opensearch") else "elasticsearch") / "start.sh"
        if not (shutil.which("mvn") or list(self.home.glob(".assembled-*"))):
            raise NodeUnavailableError("the real Elasticsearch is put together by Maven: no mvn on PATH")
        self.jdk, self.output, self.data = jdk, folder / "elasticsearch.log", data or folder / "es-data"
        self.port, self.transport = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it on the same data and port, and wait until it is well."""
        with self.output.open("ab") as log:
            self.process = subprocess.Popen(
                ["sh", str(self.script), self.home, str(self.port), str(self.transport), self.data, self.kind],
                env=os.environ | {"JAVA_HOME": str(self.jdk), "ELASTIC_PASSWORD": PASSWORD},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.await_healthy()

    def await_healthy(self) -> None:
        end = time.monotonic() + START_TIMEOUT_S
        while not self.healthy():
            if self.process.poll() is not None or time.monotonic() > end:
                self.end(signal.SIGKILL)
                raise NodeUnavailableError(f"Elasticsearch did not start: {self.output.read_text(errors='replace')[-2000:]}")
            time.sleep(0.2)

    def healthy(self) -> bool:
        """Whether it answers, and every index that there is can be written."""
        try:
            user = "admin:admin" if self.kind == "opensearch-security" else f"elastic:{PASSWORD}"
            login = {"authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}
            asked = urllib.request.Request(f"{self.url}/_cluster/health?wait_for_status=yellow&timeout=2s", headers=login)
            with urllib.request.urlopen(asked, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def end(self, number: int = signal.SIGTERM) -> None:
        """SIGTERM ends it properly, SIGKILL does not."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextlib.contextmanager
def shared_node(folder: Path) -> Iterator[str]:
    """URL of a node that processes share which name the same folder: the first starts it, the last ends it.

    Its data are in memory where the system has such a folder: each change of a template waits for the disk otherwise.

    Raises:
        NodeUnavailableError: see `Node`.
    """
    state, lock = folder / "elasticsearch.json", folder / "elasticsearch.lock"

    def users(more: int) -> dict[str, Any]:
        shared: dict[str, Any] = json.loads(state.read_text()) if state.exists() else start()
        shared["users"] += more
        state.write_text(json.dumps(shared))
        return shared

    def start() -> dict[str, Any]:
        node = _in_memory(folder, "kql")
        return {"url": node.url, "pid": node.process.pid, "data": str(node.data), "users": 0}

    with locked(lock):
        node = users(1)
    yield node["url"]
    with locked(lock):
        if not users(-1)["users"]:
            state.unlink()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node["pid"], signal.SIGKILL)  # another process's child perhaps; nobody wants its data
            until(lambda: shutil.rmtree(node["data"], ignore_errors=True) or not Path(node["data"]).exists())


def _in_memory(folder: Path, kind: str) -> Node:
    """A node whose data are in memory where the system has such a folder, else in `folder`."""
    data = Path(tempfile.mkdtemp(prefix=f"packetclip-{HOMES[kind]}-", dir="/dev/shm" if Path("/dev/shm").is_dir() else folder))
    try:
        return Node(folder, data, kind=kind)
    except NodeUnavailableError:
        shutil.rmtree(data)
        raise


@contextlib.contextmanager
def own_node(folder: Path, kind: str) -> Iterator[Node]:
    """A node of a test module's own; it skips, or fails where CI is set, where none can be started."""
    try:
        node = _in_memory(folder, kind)
    except NodeUnavailableError as err:
        unavailable(str(err))
    try:
        yield node
    finally:
        node.end(signal.SIGKILL)  # nobody wants its data
        shutil.rmtree(node.data, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def find_jdk() -> Path | None:
    """Home of a JDK that is new enough: JAVA_HOME first, then where systems put them."""
    places = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    for folder in ("/usr/lib/jvm", "/opt", "/usr/java", "~/.sdkman/candidates/java", "~/.jdks"):
        with contextlib.suppress(OSError):
            places += sorted(Path(folder).expanduser().iterdir(), reverse=True)
    for home in places:
        with contextlib.suppress(OSError):
            found = re.search(r'^JAVA_VERSION="(\d+)', (home / "release").read_text(), re.MULTILINE)
            if found and int(found[1]) >= MIN_JDK and (home / "bin" / "javac").exists():
                return home
    return None
