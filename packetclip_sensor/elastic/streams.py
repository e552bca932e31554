"""The data streams that we may write, each `logs-DATASET-NAMESPACE`. Apart from the rest, which loads Elasticsearch's client."""

from __future__ import annotations

from math import isfinite
from typing import Any

ALERTS, FLOWS, HEALTH = "packetclip.alert", "packetclip.flow", "packetclip.health"
DATASETS = (ALERTS, FLOWS, HEALTH)


def stream_name(namespace: str, dataset: str = ALERTS) -> str:
    """The data stream that a dataset's documents go to."""
    return f"logs-{dataset}-{namespace}"


def between(since: float, until: float) -> list[dict[str, Any]]:
    """Elasticsearch queries that leave documents of this time, epoch seconds; none where both ends are open (infinite)."""
    bounds = {name: int(ts * 1000) for name, ts in (("gte", since), ("lt", until)) if isfinite(ts)}
    return [{"range": {"@timestamp": {**bounds, "format": "epoch_millis"}}}] if bounds else []
