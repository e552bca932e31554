"""Security rules of the integration package, which Elastic Security offers beside its own: off until somebody installs them.

Each is written in the language that runs it most cheaply. An attack that a sensor reports for an hour raises one alert.
"""

from __future__ import annotations

import uuid
from typing import Any

from packetclip_sensor.common.missions import Missions, attack_table
from packetclip_sensor.elastic.streams import ALERTS, HEALTH

Json = dict[str, Any]
OPENED = f'data_stream.dataset: "{ALERTS}" and event.kind: ("alert" or "pipeline_error") and packetclip.episode.state: "open"'
"""An episode is told many times; its first document stands for it, also where a pipeline of the site's own failed on it."""
LEVELS = {"21": "low", "47": "medium", "73": "high", "99": "critical"}
RISKS = {"low": 21, "medium": 47, "high": 73, "critical": 99}
GUESSING, SCANNING = "Brute Force", "Reconnaissance"
SEQUENCE = """sequence by source.ip with maxspan=6h
  [any where data_stream.dataset == "{dataset}" and packetclip.episode.state == "open" and packetclip.mission == "{first}"]
  [any where data_stream.dataset == "{dataset}" and packetclip.episode.state == "open" and packetclip.mission == "{second}"]"""
SEVERAL_KINDS = f"""FROM logs-{ALERTS}-*
| WHERE event.kind IN ("alert", "pipeline_error") AND packetclip.episode.state == "open"
| STATS
    kinds = COUNT_DISTINCT(packetclip.mission),
    packetclip.mission = VALUES(packetclip.mission),
    source.ip = VALUES(source.ip)
    BY destination.ip
| WHERE kinds >= 2
| KEEP destination.ip, source.ip, packetclip.mission, kinds"""
GUIDE = (
    "## What to look at\n\n"
    "1. `event.reason` says what was measured, `packetclip.concept_names` which ideas of the model spoke for it.\n"
    "2. `packetclip.episode.id` in Timeline or in the dashboard *PacketCLIP: alert explorer* shows the episode's other "
    "documents; the newest has its totals.\n"
    "3. `zeek.session_id` finds the connections in Zeek's logs, `network.community_id` in all others.\n\n"
    "A scanner or a monitor of your own: a rule of `policy.suppress` in the sensor's configuration, or an exception here."
)


def rules(missions: Missions) -> list[Json]:
    """Every rule as a saved object; one that asks for a mission that the model has not is left out."""
    promoted = _rule(
        "external-alerts",
        "PacketCLIP: external alerts",
        "Raises an alert for each episode that a PacketCLIP sensor reports, with the sensor's title, severity and risk score. "
        'Where the prebuilt rule "External Alerts" is on, give that one an exception for `event.module: packetclip`.',
        {"type": "query", "language": "kuery", "query": OPENED},
        "medium",
        interval="1m",
        since="now-2m",
        max_signals=1000,
        rule_name_override="message",
        severity_mapping=[
            {"field": "event.severity", "operator": "equals", "severity": level, "value": value}
            for value, level in LEVELS.items()
        ],
        risk_score_mapping=[{"field": "event.risk_score", "operator": "equals", "value": ""}],
        tags=["Promotion: External Alerts"],
    )
    guessed = _rule(
        "scan-then-guessing",
        "PacketCLIP: scan followed by guessing from one source",
        "A source first scanned and, within six hours, guessed passwords: it looks for a way in, and has found a door.",
        {"type": "eql", "language": "eql", "query": SEQUENCE.format(dataset=ALERTS, first=SCANNING, second=GUESSING)},
        "critical",
        since="now-370m",
        techniques=("T1595", "T1110"),
    )
    many = _rule(
        "many-hosts",
        "PacketCLIP: one source attacks many hosts",
        "Separate episodes of one source against five hosts or more within an hour.",
        {
            "type": "threshold",
            "language": "kuery",
            "query": OPENED,
            "threshold": {"field": ["source.ip"], "value": 2, "cardinality": [{"field": "destination.ip", "value": 5}]},
        },
        "high",
        since="now-65m",
    )
    kinds = _rule(
        "several-kinds",
        "PacketCLIP: several kinds of attack on one host",
        "Episodes of two missions or more against one host within six hours, from whatever source.",
        {"type": "esql", "language": "esql", "query": SEVERAL_KINDS},
        "high",
        interval="15m",
        since="now-375m",
    )
    sick = _rule(
        "sensor-failing",
        "PacketCLIP: a sensor is not well",
        "A sensor reported five times in ten minutes that it is not well; `packetclip.health.reasons` says why. Attacks may go "
        "unseen.",
        {
            "type": "threshold",
            "language": "kuery",
            "query": f'data_stream.dataset: "{HEALTH}" and service.state: "failing"',
            "threshold": {"field": ["observer.name"], "value": 5, "cardinality": []},
        },
        "low",
        since="now-10m",
        note="The sensor's page /health and `packetclip check --config FILE` name the remedy.",
    )
    known = {mission.name for mission in missions}
    return [promoted, *([guessed] if {GUESSING, SCANNING} <= known else []), many, kinds, sick]


def _rule(
    key: str,
    name: str,
    description: str,
    query: Json,
    severity: str,
    *,
    since: str,
    interval: str = "5m",
    techniques: tuple[str, ...] = (),
    tags: list[str] | None = None,
    note: str = GUIDE,
    **more: Any,
) -> Json:
    """A rule whose id is made from its key, so that it stays the same when its words change."""
    ident = str(uuid.uuid5(uuid.NAMESPACE_URL, f"packetclip/security-rule/{key}"))
    index = f"logs-{HEALTH if HEALTH in query['query'] else ALERTS}-*"
    attributes = {
        "author": ["PacketCLIP"],
        "description": description,
        "from": since,
        "interval": interval,
        "license": "Apache-2.0",
        "name": name,
        "note": note,
        "related_integrations": [{"package": "packetclip", "version": "^0.1.0"}],
        "risk_score": RISKS[severity],
        "rule_id": ident,
        "severity": severity,
        "tags": ["Data Source: PacketCLIP", "Domain: Network", *(tags or [])],
        "threat": [_threat(technique) for technique in techniques],
        "timestamp_override": "event.ingested",
        "version": 1,
        **({} if query["type"] == "esql" else {"index": [index]}),
        **query,
        **more,
    }
    return {"attributes": dict(sorted(attributes.items())), "id": ident, "references": [], "type": "security-rule"}


def _threat(technique: str) -> Json:
    """An ATT&CK technique with its tactic, as Elastic Security lists them."""
    table = attack_table()
    tactic = table["techniques"][technique]["tactic"]

    def named(kind: str, ident: str, name: str) -> Json:
        return {"id": ident, "name": name, "reference": f"https://attack.mitre.org/{kind}/{ident}/"}

    return {
        "framework": table["framework"],
        "tactic": named("tactics", tactic, table["tactics"][tactic]),
        "technique": [named("techniques", technique, table["techniques"][technique]["name"]) | {"subtechnique": []}],
    }
