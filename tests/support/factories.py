"""Records for tests: one plausible SYN flood, every field of which a test can replace."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import numpy as np
from msgspec.structs import replace

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.resources import resource
from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.config.settings import Policy
from packetclip_sensor.model.bundle import manifest_of
from packetclip_sensor.records import Alert, AlertBatch, Concept, Episode, Evidence, Explanation, Flow, Packet, Path, Verdict
from packetclip_sensor.sinks.documents import SensorInfo

NOTHING = np.zeros((30, 1), np.float32)
MISSIONS = manifest_of(resource("model/shipped")).missions
"""Those of the model that comes with the sensor."""
POLICY = for_missions(Policy(), MISSIONS)
SENSOR = SensorInfo(name="sensor-1", version="0.1.0", missions=MISSIONS)
T0 = 1_760_000_000.25
"""2025-10-09T08:53:20.250Z."""


def packet(**changed: Any) -> Packet:
    """The third packet of a flood: a SYN of 60 bytes."""
    fields: dict[str, Any] = {
        "ts": T0,
        "uid": "CAb1c23",
        "orig_h": "10.0.0.5",
        "orig_p": 40000,
        "resp_h": "10.0.0.9",
        "resp_p": 80,
        "proto": "tcp",
        "is_orig": True,
        "n": 1,
        "size_bytes": 60,
        "data": bytes.fromhex("4500003c"),
    }
    return Packet(**(fields | changed))


def flow(**changed: Any) -> Flow:
    """A half-open connection of the flood; what Zeek leaves unset is None."""
    fields: dict[str, Any] = {
        "ts": T0,
        "uid": "CAb1c23",
        "orig_h": "10.0.0.5",
        "orig_p": 40000,
        "resp_h": "10.0.0.9",
        "resp_p": 80,
        "proto": "tcp",
        "final": True,
        "conn_state": "S0",
        "local_orig": False,
        "local_resp": True,
        "history": "S",
        "orig_pkts": 1,
        "orig_ip_bytes": 60,
        "syn": 1,
        "ack": 0,
    }
    return Flow(**(fields | changed))


def verdict(
    second: int,
    sources: tuple[str, ...] = ("a",),
    destinations: tuple[str, ...] = ("b",),
    *,
    packets: int = 12,
    mission: str = "DoS",
    proto: str = "tcp",
    probability: float = 0.9,
    **changed: Any,
) -> Verdict:
    """A window of small packets from all sources to all destinations, with what is enough behind it for an episode to open."""
    window = tuple(
        packet(ts=second + i / 100, uid=f"C{i}", orig_h=source, resp_h=destination, proto=proto, size_bytes=40, data=b"")
        for i, source, destination in zip(range(packets), cycle(sources), cycle(destinations), strict=False)
    )
    enough = {"stream_packets": 60, "connections": 3, "per_second": 1000}
    fields: dict[str, Any] = {"view": "pair", "missions": {mission: probability}, **enough}
    return Verdict(
        second=second, sources=sources, destinations=destinations, mission=mission, probability=probability, packets=window,
        embeddings=NOTHING, relations=NOTHING, **(fields | changed),
    )  # fmt: skip


def episode(**changed: Any) -> Episode:
    fields: dict[str, Any] = {
        "id": "e1",
        "mission": "DoS",
        "sources": ["10.0.0.5"],
        "destinations": ["10.0.0.9"],
        "source_count": 1,
        "destination_count": 1,
        "first": T0,
        "last": T0 + 1.5,
        "verdicts": 2,
        "packets": 45,
        "opened": int(T0) + 1,
        "reported": int(T0) + 1,
        "documents": 1,
        "peak": 0.97,
        "scope": "pair",
        "sent_packets": 45,
        "bytes": 2700,
        "ports": 1,
        "connections": 45,
    }
    return Episode(**(fields | changed))


def alert(**changed: Any) -> Alert:
    """A SYN flood with every part of an explanation; `changed` replaces fields of the Alert, its explanation or its episode."""
    why = {
        "klass": "SYN Flood",
        "probability": 0.97,
        "missions": {"Benign": 0.01, "DoS": 0.97, "Reconnaissance": 0.015, "Brute Force": 0.005},
        "classes": {"SYN Flood": 0.8, "UDP Flood": 0.15, "Benign": 0.05},
        "reason": "30 packets in 1.5 s from 10.0.0.5 to 10.0.0.9, all SYN, none answered.",
        "concepts": (Concept("flood", 0.41, 1, "DoS"), Concept("handshake", -0.02, 2, "DoS")),
        "paths": (Path(("sensor", "flood", "exhaustion", "embedding"), 0.62, "DoS"),),
        "evidence": (Evidence(packet(), 0.12, "SYN to port 80, the first packet of its connection"),),
        "nearest_texts": (("A host sends many SYN packets and never completes the handshake.", 0.71),),
        "facts": {
            "packets": 30,
            "duration_s": 1.5,
            "distinct_resp_p": 1,
            "distinct_uid": 30,
            "rate_pps": 19.333,
            "proto": "tcp",
            "rst_share": None,
        },
        "graphs": {"DoS": 3.5, "Reconnaissance": -0.25, "Brute Force": 0.5},
        "embedding": (),
    }
    of_episode = {name: changed.pop(name) for name in ("mission", "flow") if name in changed}
    fields: dict[str, Any] = {
        "id": "a1",
        "state": "open",
        "ts": T0 + 1.5,
        "episode": replace(changed.pop("episode", episode()), **of_episode),
        "why": Explanation(**{name: changed.pop(name, value) for name, value in why.items()}),
        "title": "SYN Flood on 10.0.0.9 from 10.0.0.5",
        "flow_text": None,
        "technique": "T1499.001",
        "model_version": "2026.1",
    }
    return Alert(**(fields | changed))


def safe(*alerts: Alert) -> AlertBatch:
    return AlertBatch(alerts=list(alerts))


def told(counters: Counters) -> dict[str, int]:
    """The counters that rose."""
    return {name: value for name, value in counters.as_dict().items() if value}


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a document under its dotted name, arrays opened."""
    match value:
        case dict():
            for name, part in value.items():
                yield from leaves(part, f"{prefix}{name}.")
        case list():
            for part in value:
                yield from leaves(part, prefix)
        case _:
            yield prefix[:-1], value


WRONG = (None, 3, "x", [], {}, [None], {"a": None}, float("nan"), 1e300, True, "9" * 400)
"""What may stand in a document where another type is expected."""


def every_text(value: Any, text: str) -> Any:
    """A document with `text` in place of every string in it, and as the name of one more field in every object."""
    match value:
        case dict():
            return {name: every_text(part, text) for name, part in value.items()} | {text: text}
        case list():
            return [every_text(part, text) for part in value]
        case str():
            return text
    return value
