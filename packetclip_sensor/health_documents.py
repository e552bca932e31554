"""How the sensor is, as documents in Elasticsearch: one a minute in `logs-packetclip.health-NAMESPACE`, beside the alerts.

Names are those of ECS and of Elastic's own metric sets where they have one (`agent.*`, `service.state`, `process.*`,
`system.process.*`); ours stand under `packetclip.health.*`. A document that cannot be sent is counted and forgotten: every number
in it is a total or a present value, so the next one tells the same and more. Nothing waits for it, least of all the alerts.
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
from elasticsearch import ApiError, TransportError

from packetclip_sensor.documents import ECS_VERSION, SensorInfo
from packetclip_sensor.errors import SinkError
from packetclip_sensor.health import Health, memory_bytes
from packetclip_sensor.sinks.cluster import ElasticsearchConfig, connect
from packetclip_sensor.sinks.templates import ensure_templates, stream_name

DATASET = "packetclip.health"
TIMEOUT_S = 5.0

log = structlog.get_logger()


def document(health: Health, sensor: SensorInfo, run_id: str, now: float) -> dict[str, Any]:
    """One document of how the sensor is at `now` (epoch seconds); `run_id` tells one start of the sensor from the next."""
    reasons = health.reasons()
    gauges = health.gauges().as_dict()
    del gauges["healthy"]
    return {
        "@timestamp": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "ecs": {"version": ECS_VERSION},
        "data_stream": {"type": "logs", "dataset": DATASET, "namespace": sensor.namespace},
        "event": {"kind": "metric", "module": "packetclip", "provider": "packetclip", "dataset": DATASET},
        "message": "; ".join(f"{reason.name}: {reason.message}" for reason in reasons) or "all is well",
        "agent": {"name": sensor.name, "type": "packetclip", "version": sensor.version, "ephemeral_id": run_id},
        "host": {"name": socket.gethostname()},
        "observer": {
            "type": "sensor",
            "vendor": "PacketCLIP",
            "product": "packetclip-sensor",
            "version": sensor.version,
            "name": sensor.name,
        },
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
                **{name: _number(name, value) for name, value in gauges.items()},
                "totals": health.counters.as_dict(),
            }
        },
    }


class HealthDocuments:
    """Sends documents with a client of its own, because the sink's may be in the middle of a long wait."""

    def __init__(
        self, config: ElasticsearchConfig, health: Health, sensor: SensorInfo, *, now: Callable[[], float] = time.time
    ) -> None:
        """Nothing is sent yet.

        Raises:
            ConfigError: see `connect`.
        """
        self._client = connect(config).options(request_timeout=TIMEOUT_S)
        self._config, self._ready = config, not config.manage_templates
        self._health, self._sensor, self._now = health, sensor, now
        self._stream = stream_name(config.namespace, DATASET)
        self._run_id = str(uuid.uuid4())
        self._failing = False

    def send(self) -> None:
        """Send one document; a failure is counted, and said when it is the first in a row."""
        body = document(self._health, self._sensor, self._run_id, self._now())
        try:
            if not self._ready:
                ensure_templates(self._client, self._config.namespace, DATASET)
                self._ready = True
            self._client.index(index=self._stream, document=body, op_type="create", require_data_stream=True)
        except (ApiError, TransportError, SinkError) as err:
            self._health.counters.health_unsent += 1
            if not self._failing:
                log.warning("health_unsent", stream=self._stream, reason=str(err))
            self._failing = True
        else:
            self._failing = False

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


class HealthFile:
    """The newest document as a file, replaced each time: for sensors that write their alerts to a file too."""

    def __init__(self, path: Path, health: Health, sensor: SensorInfo, *, now: Callable[[], float] = time.time) -> None:
        self._path, self._health, self._sensor, self._now = path, health, sensor, now
        self._run_id = str(uuid.uuid4())
        self._failing = False

    def send(self) -> None:
        """Replace the file; a failure is counted, and said when it is the first in a row."""
        body = document(self._health, self._sensor, self._run_id, self._now())
        fresh = self._path.with_name(self._path.name + ".new")
        try:
            fresh.write_bytes(msgspec.json.encode(body) + b"\n")
            fresh.replace(self._path)
        except OSError as err:
            self._health.counters.health_unsent += 1
            if not self._failing:
                log.warning("health_unsent", path=str(self._path), reason=err.strerror)
            self._failing = True
        else:
            self._failing = False

    def close(self) -> None:
        """Nothing is open."""


def _number(name: str, value: float) -> float | str:
    """Times of day become dates, so that Kibana shows them as such."""
    if not name.endswith("_timestamp_seconds"):
        return value
    return datetime.fromtimestamp(value, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _descriptors() -> int:
    try:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        return 0
