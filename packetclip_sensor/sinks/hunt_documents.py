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
from packetclip_sensor.records import HuntWindow, Packet
from packetclip_sensor.sinks.community_id import community_id
from packetclip_sensor.sinks.documents import (
    ECS_VERSION,
    EMBEDDING,
    MAX_CONNECTIONS,
    SensorInfo,
    addresses,
    cleaned,
    keyed,
    observer,
    one_or_many,
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
    mission = max(window.missions, key=window.missions.__getitem__)
    first, last = packets[0].ts, packets[-1].ts
    made = {
        "@timestamp": time_of(last),
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
            "start": time_of(first),
            "end": time_of(last),
            "duration": max(0, round((last - first) * 1e9)),
        },
        "message": sentences.sentence(window.facts, sources, destinations),
        "observer": observer(sensor),
        **_network(packets, addresses(sources), addresses(destinations)),
        "zeek": {"session_id": one_or_many(_by_packets(p.uid for p in packets)[:MAX_CONNECTIONS])},
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


def _network(packets: tuple[Packet, ...], sources: list[str], destinations: list[str]) -> dict[str, Any]:
    """source, destination, network and related, as far as the window's packets know."""
    protocols = sorted({p.proto for p in packets})
    # Zeek writes the type and the code of ICMP as ports; in ECS they are none.
    orig_p, resp_p = (
        (set[int](), set[int]()) if "icmp" in protocols else ({p.orig_p for p in packets}, {p.resp_p for p in packets})
    )
    versions = {6 if ":" in host else 4 for host in sources + destinations}
    first_of = {p.uid: p for p in reversed(packets)}
    ids = [community_id(first_of[uid]) for uid in _by_packets(p.uid for p in packets)[:MAX_CONNECTIONS]]
    return {
        "source": {"ip": one_or_many(sources), "port": next(iter(orig_p)) if len(orig_p) == 1 else None},
        "destination": {"ip": one_or_many(destinations), "port": next(iter(resp_p)) if len(resp_p) == 1 else None},
        "network": {
            "transport": one_or_many(protocols),
            "type": f"ipv{versions.pop()}" if len(versions) == 1 else None,
            "community_id": one_or_many([i for i in dict.fromkeys(ids) if i]),
        },
        "related": {"ip": list(dict.fromkeys(sources + destinations))},
    }


def _by_packets(names: Any) -> list[str]:
    """Distinct names, those of most packets first."""
    return [name for name, _ in Counter(names).most_common()]
