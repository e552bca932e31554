"""The Elasticsearch sink as tests run it: waits are counted instead of waited."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from factories import SENSOR

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.elastic.client import ElasticsearchConfig
from packetclip_sensor.records import AlertBatch
from packetclip_sensor.sinks.elasticsearch import write


class Run:
    """One run of the sink with waits counted instead of waited."""

    def __init__(self, url: str, folder: Path, **options: Any) -> None:
        self.dead_letters = folder / "dead.ndjson"
        given = {"hosts": [url], "manage_templates": False, "dead_letter_path": str(self.dead_letters)}
        self.config = ElasticsearchConfig(**(given | options))
        self.counters: Counters = Counters()
        self.waits: list[float] = []
        self.on_wait: Callable[[int], None] = lambda _: None

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.on_wait(len(self.waits))

    def write(self, *batches: AlertBatch) -> list[AlertBatch]:
        return list(write(batches, self.config, SENSOR, self.counters, sleep=self.sleep, rng=lambda: 1.0))

    def letters(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.dead_letters.read_text().splitlines()]


class StopWaitingError(Exception):
    """Ends a run that would wait for ever."""
