"""Shared fixtures: a real Elasticsearch node, started once for all tests and workers of a run."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import re
import resource as limits_of_the_process
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import structlog
from scripted_server import ScriptedServer
from sink_run import Run
from tailing import Blocks

from packetclip_sensor.common.resources import resource
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.records import Idle
from packetclip_sensor.sources.tail import follow

SERVERS = Path(__file__).parent / "servers"
ASSEMBLED = Path(__file__).parent / ".servers"
"""Programs put together from Maven artifacts, kept between runs; data lie in temporary folders."""
MIN_JDK = 21
GIB = 1 << 30
START_TIMEOUT_S = 300
"""Enough for Maven's first download on a slow line; later starts take about ten seconds."""


@pytest.fixture(autouse=True)
def _structlog_as_it_comes() -> Iterator[None]:
    """The command line sets structlog up for a whole process; a test that calls it must not do so for the next one."""
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _memory_of_a_sensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of tests may hold torch and much else; what a sensor says of its memory is not about that."""
    monkeypatch.setattr("packetclip_sensor.service.health.memory_bytes", lambda: 200 << 20)


@pytest.fixture(autouse=True)
def _room_on_every_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check`, `run` and the lab look at what is free on a disk; how full this machine's is must decide no test."""
    disk(monkeypatch, free=100 * GIB)


@pytest.fixture(autouse=True)
def _a_terminal_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer's shell or a CI's says of time zone, language, colours and width must decide no test."""
    for name in ("TZ", "LANG", "LC_ALL", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "GITHUB_ACTIONS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TZ", "IST-5:30")  # as nobody expects it, so that what is local time by mistake shows
    time.tzset()


@pytest.fixture
def elasticsearch_url(elasticsearch_node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the real node, for one test at a time: templates are the cluster's, and a test may spoil them for a while."""
    with _locked(_shared(tmp_path_factory) / "elasticsearch-test.lock"):
        yield elasticsearch_node


@pytest.fixture(scope="session")
def elasticsearch_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real node. PACKETCLIP_TEST_ELASTICSEARCH names one that runs already.

    Skips with the reason where none can be started, and fails instead where the environment variable CI is set. Workers of
    pytest-xdist share one node: the first starts it, the last stops it.
    """
    running = os.environ.get("PACKETCLIP_TEST_ELASTICSEARCH")
    if running:
        yield running
        return
    shared = _shared(tmp_path_factory)
    state = shared / "elasticsearch.json"
    with _locked(shared / "elasticsearch.lock"):
        node = json.loads(state.read_text()) if state.exists() else _start_elasticsearch(shared)
        node["users"] = node.get("users", 0) + 1
        state.write_text(json.dumps(node))
    yield node["url"]
    with _locked(shared / "elasticsearch.lock"):
        node = json.loads(state.read_text())
        node["users"] -= 1
        state.write_text(json.dumps(node))
        if not node["users"]:
            state.unlink()
            _stop(node)


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    """The shipped model."""
    return Bundle.open(resource("model/shipped"))


@pytest.fixture
def namespace() -> str:
    """A data stream namespace of the test's own, so that tests on one node do not see each other's alerts."""
    return "t" + uuid.uuid4().hex[:12]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Answers as Elasticsearch does, by a script."""
    with ScriptedServer() as running:
        yield running
        running.shutdown()


@pytest.fixture
def run(server: ScriptedServer, tmp_path: Path) -> Run:
    """The Elasticsearch sink against that server."""
    return Run(server.url, tmp_path)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where Zeek would write the packet log; not there yet."""
    return tmp_path / "packetclip_packet.log"


@pytest.fixture
def following(tmp_path: Path) -> Iterator[Blocks]:
    """What a tailer of `tmp_path` gives out; at the end nothing more may come."""
    stop = threading.Event()
    blocks = follow([tmp_path], poll_s=0.02, stop=stop)
    yield blocks
    stop.set()
    assert [b for b in blocks if not isinstance(b, Idle)] == []


def find_jdk() -> Path | None:
    """Home of a JDK that is new enough: JAVA_HOME first, then where systems put them."""
    places = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    for folder in (
        "/usr/lib/jvm",
        "/opt",
        "/usr/java",
        "~/.sdkman/candidates/java",
        "~/.jdks",
        "/Library/Java/JavaVirtualMachines",
    ):
        with contextlib.suppress(OSError):
            places += sorted(Path(folder).expanduser().iterdir(), reverse=True)
    for place in places:
        for home in (place, place / "Contents" / "Home"):
            with contextlib.suppress(OSError):
                found = re.search(r'^JAVA_VERSION="(\d+)', (home / "release").read_text(), re.MULTILINE)
                if found and int(found[1]) >= MIN_JDK and (home / "bin" / "javac").exists():
                    return home
    return None


def unavailable(reason: str) -> None:
    """Skip, or fail where nobody would notice a skip."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (CI is set, so this is a failure and not a skip)")
    pytest.skip(reason)


def disk(monkeypatch: pytest.MonkeyPatch, free: int, *, inodes: int = 1000) -> None:
    """Every disk has 200 GiB, `free` bytes of it free."""
    blocks, left = 200 * GIB // 4096, free // 4096
    made = SimpleNamespace(f_frsize=4096, f_blocks=blocks, f_bfree=left, f_bavail=left, f_files=1000, f_favail=inodes)
    monkeypatch.setattr(os, "statvfs", lambda path: made)


@contextlib.contextmanager
def no_room(file_bytes: int) -> Iterator[Callable[[], None]]:
    """No file may grow beyond this size, which stands for a full disk; yields what makes room again."""
    limits = limits_of_the_process.getrlimit(limits_of_the_process.RLIMIT_FSIZE)
    limits_of_the_process.setrlimit(limits_of_the_process.RLIMIT_FSIZE, (file_bytes, limits[1]))
    try:
        yield lambda: limits_of_the_process.setrlimit(limits_of_the_process.RLIMIT_FSIZE, limits)
    finally:
        limits_of_the_process.setrlimit(limits_of_the_process.RLIMIT_FSIZE, limits)


def free_port() -> int:
    """A port that nobody listens on and that the system gives to no connection between now and its use.

    Systems hand out ports from 32768 (Linux) or 49152 (RFC 6335) on; these lie below, and each call tries another.
    """
    for _ in range(1000):
        port = random.SystemRandom().randrange(20_000, 32_768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free between 20000 and 32767")


def _shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def _start_elasticsearch(shared: Path) -> dict[str, str | int]:
    jdk = find_jdk()
    if jdk is None:
        unavailable(f"the real Elasticsearch needs a JDK of {MIN_JDK} or newer: none in JAVA_HOME, /usr/lib/jvm, /opt")
    home = ASSEMBLED / "elasticsearch"
    if not shutil.which("mvn") and not list(home.glob(".assembled-*")):
        unavailable("the real Elasticsearch is put together by Maven: no mvn on PATH")
    port, output = free_port(), shared / "elasticsearch.log"
    home.mkdir(parents=True, exist_ok=True)
    data = _in_memory() or shared / "es-data"
    with _locked(home / ".lock"), output.open("wb") as log:
        process = subprocess.Popen(
            ["sh", str(SERVERS / "elasticsearch" / "start.sh"), str(home), str(port), str(free_port()), str(data)],
            env=os.environ | {"JAVA_HOME": str(jdk)},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_TIMEOUT_S
        while not _healthy(url):
            if process.poll() is not None or time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                tail = "\n".join(output.read_text(errors="replace").splitlines()[-15:])
                unavailable(f"the real Elasticsearch did not start; end of {output}:\n{tail}")
            time.sleep(0.2)
    return {"url": url, "pid": process.pid, "data": str(data)}


def _in_memory() -> Path | None:
    """A folder in memory where the system has one: each change of a template waits for the disk otherwise."""
    try:
        return Path(tempfile.mkdtemp(prefix="packetclip-elasticsearch-", dir="/dev/shm"))
    except OSError:
        return None


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_cluster/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _stop(node: dict[str, str | int]) -> None:
    """End the node; it is another worker's child perhaps, so its silence is the sign and not its exit status."""
    pid, url = int(node["pid"]), str(node["url"])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)
        for _ in range(100):
            if not _healthy(url):
                break
            time.sleep(0.1)
        os.killpg(pid, signal.SIGKILL)
    shutil.rmtree(str(node["data"]), ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
