"""Alerts to ECS 9 documents: the only file that knows ECS names.

One document per alert, ready for Elastic Security's "External Alerts" rule as it stands. What ECS has a field for goes there; the
notice goes where Elastic's own Zeek integration puts it (`zeek.notice.*`; there is none where Suricata saw the packets); the
explanation, for which ECS has nothing, stands under `packetclip.*`, mapped in `mappings/elasticsearch/`. `docs/fields.md` names
every field. A document depends on the alert and the sensor alone, never on the clock, so a replay makes the same documents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np

from packetclip_sensor.alerts import sentences
from packetclip_sensor.alerts.severity import RISK_BANDS, SEVERITIES, over_budget, severity_and_risk
from packetclip_sensor.common.missions import NO_MISSIONS, Missions, attack_table
from packetclip_sensor.common.text import MAX_TEXT_CHARS, printable
from packetclip_sensor.elastic.streams import ALERTS
from packetclip_sensor.masking import evidence_bytes
from packetclip_sensor.records import Alert, Episode, Evidence, Fired, Flow, Packet, of_suricata
from packetclip_sensor.records.addresses import address
from packetclip_sensor.sinks.community_id import community_id

ECS_VERSION = "9.4.0"
"""The ECS release whose field list stands in mappings/ecs/."""
MAX_HOSTS = 100
"""Addresses per array; `packetclip.episode.source_count` and `destination_count` go on where it ends."""
EMBEDDING = 64
"""Length of `packetclip.embedding` in the mappings."""
MAX_CONNECTIONS = 20
"""Zeek uids or Suricata flow ids, and community ids, per document, heaviest evidence first."""
SHADOW_TAG, OVER_BUDGET_TAG = "packetclip-shadow", "packetclip-over-budget"
MAX_TITLE_CHARS, MAX_SENTENCE_CHARS = 160, 1000
DIRECTIONS: dict[tuple[bool | None, bool | None], str] = {
    (True, True): "internal",
    (True, False): "outbound",
    (False, True): "inbound",
    (False, False): "external",
}
"""`network.direction` by whether the originator and the responder are local."""


@dataclass(frozen=True, slots=True)
class SensorInfo:
    """Who writes the documents. `namespace` is the last part of the data stream's name, `missions` are those of its model."""

    name: str
    version: str
    namespace: str = "default"
    missions: Missions = NO_MISSIONS
    shadow: bool = False
    """Documents are for a look and no more (`policy.shadow`)."""
    evidence_bytes: str = "masked"
    """As in the settings."""


def document(alert: Alert, sensor: SensorInfo) -> dict[str, Any]:
    """One ECS document of one alert, ready for JSON: no None, no empty list, no NaN, no control characters.

    Source: docs/fields.md; elastic/ecs 9.4.0; elastic/integrations, package zeek, notice.
    """
    episode, missions = alert.episode, sensor.missions
    mission = missions[episode.mission]
    severity, risk = severity_and_risk(alert, mission)
    tags = [OVER_BUDGET_TAG] if (held := over_budget(episode, severity)) else []
    if sensor.shadow:
        severity, risk, tags = SEVERITIES[0], float(RISK_BANDS[0][0]), [SHADOW_TAG, *tags]
    note = f"PacketCLIP::{mission.note}"
    title = printable(alert.title, MAX_TITLE_CHARS)
    reason = printable(sentences.reason(alert), MAX_SENTENCE_CHARS)
    packets = [evidence.packet for evidence in sorted(alert.why.evidence, key=lambda evidence: -evidence.weight)]
    uids = ([episode.flow.uid] if episode.flow else []) + [packet.uid for packet in packets]
    made: dict[str, Any] = {
        "@timestamp": time_of(alert.ts),
        "ecs": {"version": ECS_VERSION},
        "data_stream": {"type": "logs", "dataset": ALERTS, "namespace": sensor.namespace},
        "event": {
            "kind": "event" if held else "alert",
            "category": ["intrusion_detection", "network"],
            "type": ["info"],
            "module": "packetclip",
            "provider": "packetclip",
            "dataset": ALERTS,
            "id": alert.id,
            "severity": severity,
            "risk_score": risk,
            "reason": reason,
            **span(episode.first, episode.last),
        },
        "message": title,
        "tags": tags,
        "rule": {
            "id": mission.rule_id,
            "name": note,
            "category": mission.name,
            "description": mission.description,
            "ruleset": "packetclip",
            "version": alert.model_version,
        },
        "threat": _threat(alert.technique),
        "observer": observer(sensor, uids),
        **network(episode.sources, episode.destinations, packets, packets, episode.flow, _ends_known(alert)),
        **sessions(uids),
        "packetclip": _explanation(alert, sensor),
    }
    if "zeek" in made:
        made["zeek"]["notice"] = {
            "note": note,
            "msg": title,
            "sub": reason,
            "n": episode.packets,
            "identifier": episode.id,
            "peer_name": sensor.name,
        }
    whole: dict[str, Any] = cleaned(made)
    return whole


def observer(sensor: SensorInfo, uids: Iterable[str] = ()) -> dict[str, str]:
    """ECS `observer.*` of every document that this sensor writes; `uids` are those of the packets that it is about, if any."""
    if any(map(of_suricata, uids)):
        return {"type": "sensor", "vendor": "OISF", "product": "Suricata", "name": sensor.name}
    product = {"type": "sensor", "vendor": "PacketCLIP", "product": "packetclip-sensor"}
    return product | {"version": sensor.version, "name": sensor.name}


def sessions(uids: Iterable[str]) -> dict[str, Any]:
    """Connections under the names that Elastic's integrations have for them: of Zeek by uid, of Suricata by flow id. An ICMP
    error has the id of the flow that it quotes."""
    kept = list(dict.fromkeys(uids))
    zeek = [uid for uid in kept if not of_suricata(uid)][:MAX_CONNECTIONS]
    suricata = list(dict.fromkeys(uid.removesuffix("i") for uid in kept if of_suricata(uid)))[:MAX_CONNECTIONS]
    found: dict[str, Any] = {"suricata": {"eve": {"flow_id": one_or_many(suricata)}}} if suricata else {}
    return {"zeek": {"session_id": one_or_many(zeek)}, **found} if zeek else found


def keyed(values: Mapping[str, float], ids: Mapping[str, str]) -> dict[str, float]:
    """Values of missions or classes by their parts of field names; what the model does not know, as it may be of an episode that
    another model opened, is left out, since the mapping would refuse the whole document."""
    return {ids[name]: value for name, value in values.items() if name in ids}


def network(
    sources: list[str],
    destinations: list[str],
    packets: Sequence[Packet],
    connections: Iterable[Packet],
    flow: Flow | None = None,
    facts: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """source, destination, network and related. The source is who started the connections: the attacker, so far.

    Args:
        packets: they give the protocols, and the port of a side where all have the same one.
        connections: a packet of each connection, for its community id.
        flow: gives protocol and direction, and one connection more.
        facts: of the window; where it knows of a second port, a side has none.
    """
    sources, destinations = addresses(sources), addresses(destinations)
    protocols = {packet.proto for packet in packets} | ({flow.proto} if flow else set())
    # Zeek writes the type and the code of ICMP as ports; in ECS they are none.
    with_ports = [] if "icmp" in protocols else packets
    ids = [flow.community_id if flow else None, *map(community_id, connections)]
    versions = {6 if ":" in host else 4 for host in sources + destinations}
    return {
        "source": {"ip": one_or_many(sources), "port": _port({p.orig_p for p in with_ports}, facts.get("distinct_uid", 1))},
        "destination": {
            "ip": one_or_many(destinations),
            "port": _port({p.resp_p for p in with_ports}, facts.get("distinct_resp_p", 1)),
        },
        "network": {
            "transport": one_or_many(sorted(protocols)),
            "type": f"ipv{versions.pop()}" if len(versions) == 1 else None,
            "protocol": flow.service if flow else None,
            "direction": DIRECTIONS.get((flow.local_orig, flow.local_resp)) if flow else None,
            "community_id": one_or_many([i for i in dict.fromkeys(ids) if i][:MAX_CONNECTIONS]),
        },
        "related": {"ip": list(dict.fromkeys(sources + destinations))},
    }


def addresses(hosts: list[str]) -> list[str]:
    """The first MAX_HOSTS that Elasticsearch's type `ip` takes; another (from a forged line) would refuse the whole document."""
    return [host for host in hosts[:MAX_HOSTS] if address(host)]


def _port(ports: set[int], known: object) -> int | None:
    """The one port of a side: all packets agree, and the window's facts know of no second one."""
    return next(iter(ports)) if len(ports) == 1 and known == 1 else None


def _threat(technique: str) -> dict[str, Any]:
    """threat.* of a technique or subtechnique; an id that the table lacks stands alone, without name."""
    table = attack_table()
    parent, dot, _ = technique.partition(".")
    tactic = table["techniques"].get(parent, {}).get("tactic")

    def named(kind: str, id_: str | None, name: str | None) -> dict[str, Any]:
        reference = f"https://attack.mitre.org/{kind}/{id_.replace('.', '/')}/" if id_ else None
        return {"id": [id_], "name": [name], "reference": [reference]}

    def of_technique(id_: str) -> dict[str, Any]:
        return named("techniques", id_, table["techniques"].get(id_, {}).get("name"))

    return {
        "framework": table["framework"],
        "tactic": named("tactics", tactic, table["tactics"].get(tactic)),
        "technique": of_technique(parent) | ({"subtechnique": of_technique(technique)} if dot else {}),
    }


def _explanation(alert: Alert, sensor: SensorInfo) -> dict[str, Any]:
    """packetclip.*: names and types as in mappings/elasticsearch/component/."""
    episode, why, missions = alert.episode, alert.why, sensor.missions
    return {
        "mission": episode.mission,
        "class": why.klass,
        "window": why.reason,
        "probability": why.probability,
        "missions": keyed(why.missions, missions.ids),
        "classes": [
            {"name": name, "probability": value}
            for name, value in sorted(why.classes.items(), key=lambda item: (-item[1], item[0]))
        ],
        "episode": {
            "id": episode.id,
            "state": alert.state,
            "first": time_of(episode.first),
            "last": time_of(episode.last),
            "verdicts": episode.verdicts,
            "packets": episode.packets,
            **_totals(episode),
            "scope": episode.scope,
            "source_count": episode.source_count,
            "destination_count": episode.destination_count,
            "folded": episode.folded or None,
            "connections_skipped": episode.connections_skipped or None,
            "peak": episode.peak,
        },
        "concept_names": _concept_names(alert, missions),
        "concepts": [{"name": c.name, "weight": c.weight, "level": c.level, "graph": c.graph or None} for c in why.concepts],
        "graphs": keyed(why.graphs, missions.ids),
        "paths": [{"nodes": list(path.nodes), "share": path.share, "graph": path.graph or None} for path in why.paths],
        "evidence": [_evidence(one) for one in evidence_bytes.masked(why.evidence, sensor.evidence_bytes)],
        "texts": [{"text": text, "cosine": cosine} for text, cosine in why.nearest_texts],
        "facts": dict(why.facts),
        "flow": _flow(episode.flow, alert.flow_text),
        "other_alerts": [_fired(fired) for fired in alert.others],
        "model": {"version": alert.model_version},
        # Of another length the mapping would refuse the whole document; then there is an alert without it.
        "embedding": list(why.embedding) if len(why.embedding) == EMBEDDING else None,
    }


def _concept_names(alert: Alert, missions: Missions) -> list[str]:
    """The concepts that spoke for the mission, flat as well, since Lens cannot read nested fields; not those that the transport
    rules out, which would count as reasons in dashboards."""
    over = missions.transports(alert.episode.mission, alert.why.klass, {one.packet.proto for one in alert.why.evidence})
    spoke = (one for one in alert.why.concepts if one.weight > 0)
    return list(dict.fromkeys(one.name for one in spoke if missions.possible(one.name, one.graph, over)))


def _fired(fired: Fired) -> dict[str, Any]:
    """An alert of another engine, with the community id of the first connection that it named."""
    row = fired.row
    return {
        "engine": row.engine,
        "rule": printable(row.rule, MAX_TITLE_CHARS),
        "name": printable(row.name, MAX_TITLE_CHARS),
        "count": fired.count,
        "first": time_of(fired.first),
        "last": time_of(fired.last),
        "community_id": row.community_id or (community_id(row) if row.resp_h and row.proto in ("tcp", "udp") else None),
    }


def _totals(episode: Episode) -> dict[str, float | int | None]:
    """What was counted of the whole episode; without counts, as of a state saved before there were any, there are none."""
    if not episode.connections:
        return {}
    counted = {name: getattr(episode, name) for name in ("sent_packets", "bytes", "ports", "connections")}
    return counted | {"duration_s": episode.last - episode.first, "rate_pps": sentences.rate_of(episode)}


def _ends_known(alert: Alert) -> Mapping[str, Any]:
    """How many ports and connections there are: of the whole episode, or else of the window."""
    episode = alert.episode
    whole = {"distinct_uid": episode.connections, "distinct_resp_p": max(1, episode.ports)}
    return whole if episode.connections else alert.why.facts


def _evidence(evidence: Evidence) -> dict[str, Any]:
    packet = evidence.packet
    columns = {name: getattr(packet, name) for name in ("orig_h", "orig_p", "resp_h", "resp_p", "proto", "is_orig", "size_bytes")}
    begin = {"uid": packet.uid, "n": packet.n, "ts": time_of(packet.ts), "weight": evidence.weight, "reason": evidence.reason}
    return begin | columns | {"data": packet.data.hex() or None, "masked_bytes": evidence.masked_bytes or None}


def _flow(flow: Flow | None, text: str | None) -> dict[str, Any]:
    """The flow row's columns under Zeek's names (`id.orig_h` as object), and its sentence."""
    columns: dict[str, Any] = msgspec.to_builtins(flow) if flow else {}
    endpoint = {name.partition(".")[2]: columns.pop(name) for name in list(columns) if name.startswith("id.")}
    if flow:
        columns["ts"] = time_of(flow.ts)
    return {"text": text, "id": endpoint, **columns}


def one_or_many(values: list[str]) -> str | list[str] | None:
    return values[0] if len(values) == 1 else values or None


def _seconds(ts: float) -> float:
    """A time that a calendar has: epoch seconds from 1970 to 9999, the nearest to what a hostile log line says."""
    return min(max(ts, 0.0), 253402300799.0) if math.isfinite(ts) else 0.0


def span(first: float, last: float) -> dict[str, Any]:
    """Start and end of ECS's `event`, and its duration in nanoseconds."""
    return {"start": time_of(first), "end": time_of(last), "duration": max(0, round((_seconds(last) - _seconds(first)) * 1e9))}


def time_of(ts: float) -> str:
    """ISO 8601 in UTC, microseconds."""
    return datetime.fromtimestamp(_seconds(ts), UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def cleaned(value: Any) -> Any:
    """Drop None, NaN, infinities, integers beyond 64 bits and empty containers; round floats to what they are known to; escape
    strings. Elasticsearch would refuse the whole document for one number of a forged log line.

    A numpy number that slipped through the stages becomes Python's: JSON has no other.
    """
    # A document has hundreds of values, so the usual types are told apart by identity, which is half the cost of `match`.
    kind = type(value)
    if kind is str:
        return value if len(value) <= MAX_TEXT_CHARS and value.isprintable() else printable(value)
    if kind is float:
        return round(value, 6) if math.isfinite(value) else None
    if kind is dict:
        return {name: part for name, each in value.items() if (part := cleaned(each)) is not None} or None
    if kind is list or kind is tuple:
        return [part for each in value if (part := cleaned(each)) is not None] or None
    if kind is int:
        return value if -(2**63) <= value < 2**63 else None
    return cleaned(value.item()) if isinstance(value, np.generic) else value
