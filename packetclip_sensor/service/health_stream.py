"""Health documents to Elasticsearch, in `logs-packetclip.health-NAMESPACE`.

A module of its own: the client takes 20 MB, which a sensor that writes to a file does not spend.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from elasticsearch import ApiError, TransportError

from packetclip_sensor.common.missions import NO_MISSIONS
from packetclip_sensor.config.settings import ElasticsearchConfig
from packetclip_sensor.elastic.client import connect
from packetclip_sensor.elastic.streams import HEALTH, stream_name
from packetclip_sensor.elastic.templates import ensure_templates
from packetclip_sensor.errors import SinkError
from packetclip_sensor.service.health import Health
from packetclip_sensor.service.health_documents import Teller
from packetclip_sensor.sinks.documents import SensorInfo

TIMEOUT_S = 5.0


class HealthStream(Teller):
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
        self._stream = stream_name(config.namespace, HEALTH)
        super().__init__(health, sensor, now, stream=self._stream)

    def _put(self, body: dict[str, Any]) -> None:
        try:
            if not self._ready:
                ensure_templates(self._client, self._config.namespace, NO_MISSIONS, HEALTH)
                self._ready = True
            self._client.index(index=self._stream, document=body, op_type="create", require_data_stream=True)
        except (ApiError, TransportError) as err:
            raise SinkError(str(err)) from err
        self._health.accepted = True

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
