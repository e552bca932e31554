"""How the sensor is, as documents: one a minute beside the alerts, in a file here, in a cluster by `health_stream`.

Names are those of ECS and of Elastic's own metric sets where they have one (`agent.*`, `service.state`, `process.*`,
`system.process.*`); ours stand under `packetclip.health.*`. A document that cannot be sent is counted and forgotten: every number
in it is a total or a present value, so the next one has the same and more. Nothing waits for it, least of all the alerts.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog

from packetclip_sensor.common import durable
from packetclip_sensor.elastic.streams import HEALTH
from packetclip_sensor.errors import SinkError
from packetclip_sensor.service.health import Health, memory_bytes
from packetclip_sensor.sinks.documents import ECS_VERSION, SensorInfo, observer

log = structlog.get_logger()


def document(health: Health, sensor: SensorInfo, run_id: str, now: float) -> dict[str, Any]:
    """One document of how the sensor is at `now` (epoch seconds); `run_id` is another one at each start."""
    reasons = health.reasons()
    told = [*(f"{reason.name}: {reason.message}" for reason in reasons), *health.remarks()]
    gauges = health.gauges().as_dict()
    del gauges["healthy"]
    return {
        "@timestamp": _time(now),
        "ecs": {"version": ECS_VERSION},
        "data_stream": {"type": "logs", "dataset": HEALTH, "namespace": sensor.namespace},
        "event": {"kind": "metric", "module": "packetclip", "provider": "packetclip", "dataset": HEALTH},
        "message": "; ".join(told) or "all is well",
        "agent": {"name": sensor.name, "type": "packetclip", "version": sensor.version, "ephemeral_id": run_id},
        "host": {"name": socket.gethostname()},
        "observer": observer(sensor),
        "service": {"name": "packetclip", "type": "packetclip", "state": "failing" if reasons else "ok"},
        "process": {"pid": os.getpid(), "uptime": int(health.uptime_s)},
        "system": {
            "process": {
                "memory": {"rss": {"bytes": memory_bytes()}},
                "cpu": {"total": {"value": round(time.process_time() * 1000)}},
                "fd": {"open": _descriptors()},
            }
        },
        "packetclip": {
            "health": {
                "reasons": [reason.name for reason in reasons],
                "model_version": health.model_version,
                **{name: _time(value) if name.endswith("_timestamp_seconds") else value for name, value in gauges.items()},
                "totals": health.counters.as_dict(),
            }
        },
    }


class Teller:
    """Makes the documents of one start of the sensor; a failure is counted, and said when it is the first in a row."""

    def __init__(self, health: Health, sensor: SensorInfo, now: Callable[[], float], **where: str) -> None:
        self._health, self._sensor, self._now, self._where = health, sensor, now, where
        self._run_id = str(uuid.uuid4())
        self._failing = False

    def send(self) -> None:
        """Put one document where it belongs."""
        try:
            self._put(document(self._health, self._sensor, self._run_id, self._now()))
        except (SinkError, OSError) as err:
            self._health.counters.health_unsent += 1
            if not self._failing:
                log.warning("health_unsent", **self._where, reason=str(err))
            self._failing = True
        else:
            self._failing = False

    def _put(self, body: dict[str, Any]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Close what is open."""


class HealthFile(Teller):
    """The newest document as a file, replaced each time: for sensors that write their alerts to a file too."""

    def __init__(self, path: Path, health: Health, sensor: SensorInfo, *, now: Callable[[], float] = time.time) -> None:
        super().__init__(health, sensor, now, path=str(path))
        self._path = path

    def _put(self, body: dict[str, Any]) -> None:
        durable.replace(self._path, msgspec.json.encode(body) + b"\n")


def _time(ts: float) -> str:
    """ISO 8601 in UTC, milliseconds."""
    return datetime.fromtimestamp(ts, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _descriptors() -> int:
    try:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        return 0
