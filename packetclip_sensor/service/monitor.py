"""Watches the sensor from a thread of its own: the `interval` line each minute, a line when it stops or begins to be well.

A thread of its own, because the pipeline stands still while its sink waits, and that is when somebody must report it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

import structlog

from packetclip_sensor import __version__
from packetclip_sensor.config.settings import Config
from packetclip_sensor.service.health import Health, memory_bytes
from packetclip_sensor.service.health_documents import HealthFile, Teller
from packetclip_sensor.service.systemd import notify
from packetclip_sensor.sinks.documents import SensorInfo

LOOK_S = 1.0
MEASURE_S = 5.0
"""Measuring the backlog lists folders and opens files, so not every second."""
INTERVAL_S = 60.0
JOIN_S = 1.0
"""A look under way at the end gets so long, so that nothing is closed under it."""
FIRST_S = 5.0
"""The first health document is sent so long after the start, so that a sensor is seen soon, with its first reasons."""
PAUSED_S = 10.0
"""Looks further apart than this mean that the whole process stood still (SIGSTOP, a suspended machine), not the pipeline."""

log = structlog.get_logger()


class Monitor:
    """A context in which the sensor is watched."""

    def __init__(
        self, health: Health, *, send: Callable[[], None] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`send` writes one health document; it is called every `health.config.documents_s` seconds and may take a few."""
        self._health, self._send, self._clock = health, send, clock
        self._measured = -MEASURE_S
        self._logged = self._looked = clock()
        self._sent = self._logged - health.config.documents_s + FIRST_S
        self._names: frozenset[str] = frozenset({"starting"})
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        while not self._end.wait(LOOK_S):
            try:
                self.look()
            except Exception:  # the watcher must outlive whatever it sees
                log.exception("monitor_failed")

    def look(self) -> None:
        """One look, with all that is due."""
        health, now = self._health, self._clock()
        if now - self._looked > PAUSED_S:
            health.paused()
        self._looked = now
        if now - self._measured >= MEASURE_S:
            self._measured = now
            health.measure()
        names = self._say_changes()
        if "stalled" not in names:
            status = f"not well: {', '.join(sorted(names))}" if names else f"lag {health.lag_s:.1f} s"
            notify("WATCHDOG=1", f"STATUS={status}")
        if now - self._logged >= INTERVAL_S:
            self._logged = now
            gauges = health.gauges()
            log.info(
                "interval",
                lag_s=gauges.lag_seconds,
                lag_bytes=gauges.lag_bytes,
                sink_waiting_s=gauges.sink_waiting_seconds,
                memory_bytes=memory_bytes(),
                **health.counters.as_dict(),
                **({"suppressed_by_rule": by_rule} if (by_rule := dict(health.counters.suppressed_by_rule)) else {}),
            )
        if self._send is not None and health.config.documents_s and now - self._sent >= health.config.documents_s:
            self._sent = now
            self._send()

    def _say_changes(self) -> frozenset[str]:
        reasons = {reason.name: reason for reason in self._health.reasons()}
        names = frozenset(reasons)
        for name in sorted(names - self._names - {"stopping"}):
            log.warning("unhealthy", reason=name, message=reasons[name].message)
        if self._names and not names:
            log.info("healthy")
        self._names = names
        return names


@contextlib.contextmanager
def watched(config: Config, health: Health) -> Iterator[None]:
    """The health page, where the configuration names a port, and the monitor with its health documents."""
    with contextlib.ExitStack() as open_till_end:
        if config.health.port is not None:
            from packetclip_sensor.service.health_page import HealthPage  # noqa: PLC0415  (a replay starts sooner without)

            open_till_end.enter_context(HealthPage(health))
        documents = open_till_end.enter_context(contextlib.closing(_documents(config, health)))
        open_till_end.enter_context(Monitor(health, send=documents.send))
        yield


def _documents(config: Config, health: Health) -> Teller:
    """Where health documents go: beside the alerts, or into the state folder where those go to a file."""
    sensor = SensorInfo(config.sensor_name, __version__, config.namespace)
    if config.sink.cluster is None:
        return HealthFile(config.state_dir / "health.json", health, sensor)
    from packetclip_sensor.service.health_stream import HealthStream  # noqa: PLC0415  (its client is large)

    return HealthStream(config.sink.cluster, health, sensor)
