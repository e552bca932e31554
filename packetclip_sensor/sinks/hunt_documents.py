"""Windows kept for hunting to ECS 9 documents, of the data stream `logs-packetclip.flow-NAMESPACE`.

They are events, not alerts: Elastic Security's rules leave them alone. Fields that an alert has too have its names and types.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from packetclip_sensor.alerts import sentences
from packetclip_sensor.elastic.streams import FLOWS
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.records import HuntWindow
from packetclip_sensor.sinks.documents import (
    ECS_VERSION,
    EMBEDDING,
    MAX_CONNECTIONS,
    SensorInfo,
    cleaned,
    keyed,
    network,
    observer,
    sessions,
    span,
    time_of,
)


def check_embedding(bundle: Bundle) -> None:
    """Refuse a bundle whose embeddings the mapping does not take, before the first document.

    Raises:
        ConfigError: its embeddings have another length.
    """
    if bundle.manifest.embedding != EMBEDDING:
        raise ConfigError(
            f"model bundle {bundle.path}: its embeddings have {bundle.manifest.embedding} numbers, packetclip.embedding takes "
            f"{EMBEDDING}; set hunt.enabled: false, or train with model.embedding={EMBEDDING}"
        )


def flow_document(window: HuntWindow, sensor: SensorInfo) -> dict[str, Any]:
    """One ECS document of one window, ready for JSON, as `documents.document` makes them of alerts."""
    packets = window.packets
    sources, destinations = _by_packets(p.orig_h for p in packets), _by_packets(p.resp_h for p in packets)
    uids = _by_packets(p.uid for p in packets)[:MAX_CONNECTIONS]
    first_of = {p.uid: p for p in reversed(packets)}
    mission = max(window.missions, key=window.missions.__getitem__)
    made = {
        "@timestamp": time_of(packets[-1].ts),
        "ecs": {"version": ECS_VERSION},
        "data_stream": {"type": "logs", "dataset": FLOWS, "namespace": sensor.namespace},
        "event": {
            "kind": "event",
            "category": ["network"],
            "type": ["connection", "info"],
            "module": "packetclip",
            "provider": "packetclip",
            "dataset": FLOWS,
            "id": window.id,
            **span(packets[0].ts, packets[-1].ts),
        },
        "message": sentences.sentence(window.facts, sources, destinations),
        "observer": observer(sensor, uids),
        **network(sources, destinations, packets, map(first_of.__getitem__, uids)),
        **sessions(uids),
        "packetclip": {
            "near": window.near,
            "mission": mission,
            "probability": window.missions[mission],
            "missions": keyed(window.missions, sensor.missions.ids),
            "class": max(window.classes, key=window.classes.__getitem__),
            "class_probabilities": keyed(window.classes, sensor.missions.class_ids),
            "text": sentences.window_text(window.facts),
            "facts": dict(window.facts),
            "model": {"version": window.model_version},
        },
    }
    whole: dict[str, Any] = cleaned(made)
    whole["packetclip"]["embedding"] = list(window.embedding)  # rounded already; 64 numbers would be a third of the cleaning
    return whole


def _by_packets(names: Any) -> list[str]:
    """Distinct names, those of most packets first."""
    return [name for name, _ in Counter(names).most_common()]
