"""The data views, with formats and links of their fields, and the saved searches."""

from __future__ import annotations

import objects as kibana

from packetclip_sensor.common.missions import Missions

ALERTS, LOGS = "packetclip-alerts", "packetclip-all-logs"
WINDOWS = "packetclip-windows"
"""Judged windows kept for hunting (docs/hunt.md)."""
EPISODE = "packetclip.episode.id"
# The value is encoded; Kibana sets what comes before "discover", the space included (kbn field_formats, url.ts).
_LINK = "discover#/?_g=(time:(from:now-90d,to:now))&_a=({view},query:(language:kuery,query:'{field}:%20%22{value}%22'))"
# Discover names its data view `dataSource` since 8.15, `index` before; each ignores the other.
_VIEW = "index:{0},dataSource:(dataViewId:{0},type:dataView)"
_CLICKED = "{{encodeURIComponent event.value}}"


def _link(view: str, field: str) -> kibana.Json:
    template = _LINK.format(view=_VIEW.format(view), field=field, value="{{value}}")
    return {"id": "url", "params": {"labelTemplate": "{{value}}", "type": "a", "urlTemplate": template}}


def clicked(view: str) -> str:
    """Discover on `view`, filtered by the field and the value of the click, over the panel's time."""
    time = "time:(from:'{{context.panel.timeRange.from}}',to:'{{context.panel.timeRange.to}}')"
    query = f"query:(language:kuery,query:'{{{{event.key}}}}:%20%22{_CLICKED}%22')"
    return f"{{{{kibanaUrl}}}}/app/discover#/?_g=({time})&_a=({_VIEW.format(view)},{query})"


def data_views(missions: Missions) -> list[kibana.Json]:
    percent = {"id": "percent", "params": {"pattern": "0.0%"}}
    seconds = {"id": "number", "params": {"pattern": "0,0.[000]"}}
    names = {"21": "low", "47": "medium", "73": "high", "99": "critical"}
    shares = ["one_packet_connections", "reply", "payload", "syn", "synack", "rst", "fin", "ack", "push", "odd_flags"]
    shares += ["icmp_echo", "icmp_reply", "icmp_unreachable"]
    formats: dict[str, kibana.Json] = {
        "event.severity": {
            "id": "static_lookup",
            "params": {"lookupEntries": [{"key": key, "value": name} for key, name in names.items()], "unknownKeyValue": None},
        },
        "event.duration": {
            "id": "duration",
            "params": {
                "inputFormat": "nanoseconds",
                "outputFormat": "humanizePrecise",
                "outputPrecision": 1,
                "useShortSuffix": True,
            },
        },
        EPISODE: _link(ALERTS, EPISODE),
        "network.community_id": _link(LOGS, "network.community_id"),
        "zeek.session_id": _link(LOGS, "zeek.session_id"),
        "packetclip.facts.mean_size_bytes": {"id": "bytes", "params": {"pattern": "0,0.[0]b"}},
        "threat.technique.reference": {"id": "url", "params": {"type": "a"}},
    }
    formats |= dict.fromkeys(["packetclip.probability", "packetclip.episode.peak"], percent)
    formats |= {f"packetclip.missions.{name}": percent for name in missions.by_id}
    formats |= {f"packetclip.facts.{name}_share": percent for name in shares}
    formats |= {f"packetclip.facts.{name}": seconds for name in ("duration_s", "mean_gap_s", "max_gap_s")}
    labels = {EPISODE: "episode", "packetclip.concept_names": "concepts for", "packetclip.episode.peak": "peak probability"}
    return [
        kibana.data_view(ALERTS, "PacketCLIP alerts", "logs-packetclip.alert-*", formats, labels),
        kibana.data_view(WINDOWS, "PacketCLIP windows (hunt)", "logs-packetclip.flow-*", _of_windows(formats), {}),
        kibana.data_view(LOGS, "All logs (PacketCLIP drill-downs)", "logs-*", {}, {}),
    ]


def _of_windows(formats: dict[str, kibana.Json]) -> dict[str, kibana.Json]:
    return {name: shown for name, shown in formats.items() if name.startswith(("packetclip.facts.", "packetclip.missions."))} | {
        name: formats[name] for name in ("event.duration", "network.community_id", "zeek.session_id", "packetclip.probability")
    }


def searches() -> list[kibana.Json]:
    short = [
        "event.severity",
        "packetclip.class",
        "source.ip",
        "destination.ip",
        "packetclip.probability",
        "event.reason",
        EPISODE,
    ]
    why = ["packetclip.episode.state", "event.reason", "packetclip.concept_names", "packetclip.evidence", "packetclip.texts"]
    newest = [("@timestamp", "desc")]
    return [
        kibana.search(
            "packetclip-open-episodes",
            "PacketCLIP: open episodes",
            "Episodes with a sign of life in the last five minutes. An open one has a document a minute.",
            ALERTS,
            ["packetclip.episode.state", *short],
            'packetclip.episode.state: ("open" or "update")',
            newest,
            last="now-5m",
        ),
        kibana.search(
            "packetclip-by-episode",
            "PacketCLIP: documents by episode",
            "All documents of each episode together, with evidence packets and nearest texts.",
            ALERTS,
            [EPISODE, *why, "zeek.session_id", "network.community_id"],
            "",
            [(EPISODE, "asc"), ("@timestamp", "asc")],
        ),
        kibana.search(
            "packetclip-high-severity",
            "PacketCLIP: high and critical",
            "Alerts of severity high or critical.",
            ALERTS,
            short,
            "event.severity >= 73",
            newest,
        ),
        kibana.search(
            "packetclip-low-probability",
            "PacketCLIP: least sure first",
            "Closed episodes, lowest peak probability first: look here first for false alerts.",
            ALERTS,
            ["packetclip.episode.peak", *short],
            'packetclip.episode.state: "close"',
            [("packetclip.episode.peak", "asc")],
        ),
        kibana.search(
            "packetclip-strong-concept",
            "PacketCLIP: one concept decides",
            "Alerts where a single concept moved the log-odds by more than 1 (odds 2.7 times): a query into nested objects.",
            ALERTS,
            ["packetclip.concepts", *short],
            "packetclip.concepts: { weight > 1 }",
            newest,
        ),
        kibana.search(
            "packetclip-near-windows",
            "PacketCLIP: windows near an alert",
            "Judged windows whose probability reached half of a mission's threshold (needs hunt.enabled).",
            WINDOWS,
            ["message", "packetclip.class", "packetclip.mission", "packetclip.probability", "zeek.session_id"],
            "packetclip.near: true",
            newest,
        ),
    ]
