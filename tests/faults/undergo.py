"""Lets a sensor undergo a fault, and counts what cluster or file has then: an undisturbed run's ids, none lost, none twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec
from elasticsearch_node import Node
from receivers import SyslogReceiver, WebhookReceiver, certificate

from packetclip_sensor import pipeline
from packetclip_sensor.config.config_file import parse as parse_config

from . import workload
from .proxy import FaultProxy
from .sensor import SETTINGS, Sensor
from .zeek import Zeek


@dataclass(frozen=True)
class Row:
    """What became of one fault."""

    fault: str
    repetitions: int
    lines: int
    expected: int
    found: int
    lost: int
    doubled: int
    """Documents that an undisturbed run does not write, and alerts that stand in two documents."""
    seconds: float
    note: str = ""
    caught_up: bool = True

    @property
    def good(self) -> bool:
        return self.caught_up and self.lost == self.doubled == 0 and self.expected > 0

    @property
    def line(self) -> str:
        """A row of the table."""
        numbers = f"{self.expected} | {self.found} | {self.lost} | {self.doubled} | {self.seconds:.0f}"
        note = self.note if self.caught_up else f"{self.note} (did not catch up)"
        return f"| {self.fault} | {self.repetitions} | {self.lines:,} | {numbers} | {note} |"


@dataclass
class Scene:
    """Who plays: Zeek writes, the sensor follows and sends through the proxy to the node."""

    node: Node | None
    proxy: FaultProxy
    zeek: Zeek
    sensor: Sensor
    random: random.Random
    receivers: tuple[WebhookReceiver | SyslogReceiver, ...] = ()
    peak_mb: float = 0.0

    def wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.peak_mb = max(self.peak_mb, self.sensor.rss_mb())
            time.sleep(min(0.2, left))

    def await_progress(self, timeout_s: float = 120.0) -> None:
        """Wait until the sensor has judged something more and saved it."""
        before, until = self.sensor.judged(), time.monotonic() + timeout_s
        while self.sensor.judged() <= before and time.monotonic() < until:
            self.wait(0.1)

    def await_acts(self, act: str, count: int, timeout_s: float = 600.0) -> None:
        until = time.monotonic() + timeout_s
        ended = 0  # rounds in which the sensor was not there: a supervisor may start it again
        while self.proxy.acts[act] < count and time.monotonic() < until and ended < 100:
            ended = ended + 1 if self.sensor.process.poll() is not None else 0
            self.wait(0.1)


Disturb = Callable[[Scene], "str | None"]


def undergo(
    node: Node | None,
    name: str,
    disturb: Disturb,
    repetitions: int,
    *,
    pause_s: float = 1.0,
    rotate: Callable[[Zeek], None] | None = None,
    rotations: int = 0,
    small_disk: bool = False,
    supervised: bool = False,
    forward: bool = False,
    timeout_s: float = 5.0,
    seed: int = 7,
) -> Row:
    """Let a sensor follow a Zeek, disturb it, let both come to an end, and count what has been written.

    Args:
        node: where to; into a file without one.
        name: of the fault, for the table.
        disturb: does `repetitions` faults; returns a note for the table.
        pause_s: wall time of one burst.
        rotate, rotations: how Zeek rotates meanwhile, and how often.
        small_disk: the sensor's state folder is a small disk of its own.
        supervised: start the sensor again whenever it ends.
        forward: let it send to a webhook and by syslog as well, each of which must get every document and may get one again.
        timeout_s: the sensor's, for one request.
        seed: of everything that happens by chance.
    Raises:
        PermissionError: this user may not mount a small disk.
    """
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        state = stack.enter_context(_small_disk(folder / "disk")) if small_disk else folder / "state"
        between = FaultProxy(node.url if node else "http://127.0.0.1:9")
        stack.callback(between.down)
        namespace, out = f"f{os.getpid()}x{int(began * 1000)}", folder / "alerts.ndjson"
        kind = "opensearch" if node and node.kind == "opensearch" else "elasticsearch"
        cluster = f"{kind}: {{hosts: ['{between.url}'], batch_documents: 4, timeout_s: {timeout_s}}}"
        sinks = [cluster if node else f"ndjson: {{path: '{out}'}}"]
        receivers: tuple[WebhookReceiver | SyslogReceiver, ...] = ()
        if forward:
            pem = certificate(folder)
            receivers = WebhookReceiver(pem), SyslogReceiver(pem)
            sinks += [receiver.settings for receiver in receivers]
        sensor = Sensor(folder, logs=folder / "current", sink=f"{{{', '.join(sinks)}}}", namespace=namespace, state=state)
        writer = Zeek(
            folder / "current", pause_s=pause_s, rotate=rotate, rotations=rotations, holder=lambda: sensor.process.pid, seed=seed
        )
        scene = Scene(node, between, writer, sensor, random.Random(seed), receivers)
        sensor.start_and_await(sensor.supervised if supervised else sensor.start)
        stack.callback(sensor.end)
        writer.start()
        notes = [disturb(scene)]
        writer.finish()
        between.heal()
        caught_up = sensor.await_judged(workload.last_second(writer.rounds))
        sensor.end()
        if not caught_up:
            notes.append(f"the sensor's last words: {sensor.said()[-1500:]}")
        if writer.unheld:
            notes.append(f"{writer.unheld} files taken away unopened")
        ids = stored(node, namespace) if node else written(out)
    expected = undisturbed(writer.rounds)
    found = set(ids)
    lost, doubled = len(expected - found), len(found - expected) + len(ids) - len(found)
    for receiver in receivers:
        receiver.down()
        got = set(receiver.ids)
        lost, doubled = lost + len(expected - got), doubled + len(got - expected)
        notes.append(f"{receiver.name} got {len(receiver.ids) - len(got)} again")
    return Row(
        name,
        repetitions,
        writer.lines,
        expected=len(expected),
        found=len(found),
        lost=lost,
        doubled=doubled,
        seconds=round(time.monotonic() - began, 1),
        note="; ".join(filter(None, notes)),
        caught_up=caught_up,
    )


@cache
def undisturbed(rounds: int) -> frozenset[str]:
    """The ids that a run without any fault writes for a workload of `rounds`: `packetclip replay` of the same lines."""
    with tempfile.TemporaryDirectory(prefix="faults-") as temporary:
        folder = Path(temporary)
        files = {log: (folder / workload.NAME.format(log)).open("wb") for log in workload.LOGS}
        for lines in [*map(workload.burst, range(rounds * workload.BURSTS)), workload.last_burst(rounds)]:
            for log, _, line in lines:
                files[log].write(line)
        for file in files.values():
            file.close()
        out = folder / "alerts.ndjson"
        sink = f"{{ndjson: {{path: '{out}'}}}}"
        text = SETTINGS.format(logs=folder, state=folder / "state", namespace="undisturbed", sink=sink)
        pipeline.replay([(folder,)], parse_config(text, "undisturbed", folder))
        return frozenset(written(out))


def written(out: Path) -> list[str]:
    """Ids of the documents in a file."""
    return [msgspec.json.decode(line)["event"]["id"] for line in out.read_bytes().splitlines()]


def stored(node: Node, namespace: str) -> list[str]:
    """Ids of the documents in Elasticsearch or OpenSearch."""
    node.await_healthy()
    stream = f"{node.url}/logs-packetclip.alert-{namespace}"
    with urllib.request.urlopen(f"{stream}/_refresh", timeout=60):
        pass
    with urllib.request.urlopen(f"{stream}/_search?size=10000&_source=event.id", timeout=60) as answer:
        hits = json.load(answer)["hits"]["hits"]
    assert all(hit["_id"] == hit["_source"]["event"]["id"] for hit in hits)
    return [hit["_id"] for hit in hits]


@contextlib.contextmanager
def _small_disk(folder: Path, size: str = "4m") -> Iterator[Path]:
    """A small tmpfs at `folder`; PermissionError where this user may not mount one. The journal of evidence has a MiB before it
    is written anew, beside the one before."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False)
    if done.returncode:
        raise PermissionError(f"no tmpfs can be mounted: {done.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
