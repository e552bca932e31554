"""What Kibana shows of the alerts: one data view, saved searches, an overview and an explorer, linked by drill-downs.

    python mappings/kibana/build.py            write packetclip.ndjson anew, for the model that comes with the sensor
    python mappings/kibana/build.py --check    exit code 1 if it is not what this file makes
    python mappings/kibana/build.py --model DIR --out FILE     the same for another bundle

Lens cannot read nested fields, so panels use flat ones (`packetclip.concept_names`); saved searches show evidence and texts.
An episode has several documents: wherever a panel says "episodes" it counts `packetclip.episode.id`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import lens
import objects as kibana
from views import ALERTS, EPISODE, LOGS, clicked, data_views, searches

from packetclip_sensor.common.missions import Missions
from packetclip_sensor.common.resources import resource
from packetclip_sensor.model.bundle import manifest_of

FILE = Path(__file__).resolve().parent / "packetclip.ndjson"
OVERVIEW, EXPLORER = "packetclip-overview", "packetclip-explorer"
ONLY = (ALERTS, "data_stream.dataset", "packetclip.alert")
SEVERITIES = {
    "critical": "event.severity >= 99",
    "high": "event.severity >= 73 and event.severity < 99",
    "medium": "event.severity >= 47 and event.severity < 73",
    "low": "event.severity < 47",
}

EPISODES = lens.unique("Episodes", EPISODE)
RISK = lens.statistic("Highest risk", "max", "event.risk_score")
LAST = lens.statistic("Last seen", "max", "@timestamp", "date")
TO_EXPLORER = kibana.to_dashboard("to-explorer", "Explore these alerts", EXPLORER)
TO_ALERTS = kibana.to_url("to-alerts", "Alert documents with this value in Discover", clicked(ALERTS))
TO_LOGS = kibana.to_url("to-logs", "All logs with this value in Discover", clicked(LOGS))


def overview(missions: Missions) -> kibana.Json:
    text = (
        "**Overview** · [Alert explorer](#/view/packetclip-explorer)\n\nAn episode has several documents. "
        "Click a bar, a slice or a cell: it becomes a filter, or opens the explorer or Discover with it."
    )
    numbers = [
        ("episodes", "Episodes", EPISODES),
        ("documents", "Documents", lens.count("Documents")),
        ("severe", "High or critical", lens.unique("Episodes", EPISODE, "event.severity >= 73")),
        ("closed", "Closed", lens.unique("Episodes", EPISODE, 'packetclip.episode.state: "close"')),
        ("sources", "Sources", lens.unique("Addresses", "source.ip")),
        ("destinations", "Destinations", lens.unique("Addresses", "destination.ip")),
    ]
    time, mission = lens.time_histogram(), lens.terms("Mission", "packetclip.mission", len(missions))
    pairs = [
        lens.terms("Source", "source.ip", 20, "ip"),
        lens.terms("Destination", "destination.ip", 5, "ip"),
        mission,
        EPISODES,
        RISK,
        LAST,
    ]
    techniques = [
        lens.terms("Technique", "threat.technique.id", 20),
        lens.terms("Name", "threat.technique.name", 1),
        EPISODES,
    ]
    worst = [
        lens.terms("Episode", EPISODE, 20),
        RISK,
        lens.newest("Class", "packetclip.class"),
        lens.newest("Source", "source.ip", "ip"),
        lens.newest("Destination", "destination.ip", "ip"),
    ]
    go = [TO_EXPLORER, TO_LOGS]
    rows = [
        (4, [(48, kibana.markdown("guide", "How to read this", text))]),
        (6, [(8, lens.metric(key, title, ALERTS, column)) for key, title, column in numbers]),
        (
            13,
            [
                (
                    32,
                    lens.bars(
                        "missions", "Episodes by mission", ALERTS, [time, mission, EPISODES], "bar_stacked", [TO_EXPLORER], True
                    ),
                ),
                (
                    16,
                    lens.donut("severity", "Severity", ALERTS, [lens.filters("Severity", SEVERITIES), EPISODES], [TO_EXPLORER]),
                ),
            ],
        ),
        (
            14,
            [
                (28, lens.table("pairs", "Top pairs", ALERTS, pairs, go)),
                (20, lens.table("worst", "Episodes of highest risk", ALERTS, worst, [TO_EXPLORER, TO_ALERTS])),
            ],
        ),
        (
            14,
            [
                (16, _bars("classes", "Classes", lens.terms("Class", "packetclip.class", len(missions.classes)))),
                (16, _bars("concepts", "Concepts that spoke for it", lens.terms("Concept", "packetclip.concept_names", 15))),
                (16, lens.table("techniques", "ATT&CK techniques", ALERTS, techniques, [TO_EXPLORER])),
            ],
        ),
        (
            12,
            [
                (24, lens.bars("load", "Episodes and documents", ALERTS, [time, EPISODES, lens.count("Documents")], "line")),
                (24, lens.table("sensors", "Sensors", ALERTS, _sensors(), [TO_EXPLORER])),
            ],
        ),
        (16, [(48, kibana.embedded("high", "High and critical alerts", "packetclip-high-severity"))]),
    ]
    return kibana.dashboard(
        OVERVIEW, "PacketCLIP: overview", "What the sensors saw: how much, how bad, who, and why.", rows, ONLY
    )


def _bars(key: str, title: str, by: kibana.Json) -> kibana.Panel:
    return lens.bars(key, title, ALERTS, [by, EPISODES], "bar_horizontal", [TO_EXPLORER])


def _sensors() -> list[kibana.Json]:
    named = [lens.terms("Sensor", "observer.name", 20), lens.terms("Model", "packetclip.model.version", 3)]
    return [*named, EPISODES, lens.count("Documents"), LAST]


def explorer() -> kibana.Json:
    text = (
        "**Alert explorer** · [Overview](#/view/packetclip-overview)\n\nNarrow down with the controls. A click on an episode, "
        "an address or a community id filters, or opens Discover: the episode's documents, or all its logs (Zeek, Suricata, ...)."
    )
    controls = [
        kibana.control(ALERTS, "Mission", "packetclip.mission"),
        kibana.control(ALERTS, "Class", "packetclip.class"),
        kibana.control(ALERTS, "Severity (21 to 99)", "event.severity", "rangeSlider"),
        kibana.control(ALERTS, "Source", "source.ip"),
        kibana.control(ALERTS, "Destination", "destination.ip"),
        kibana.control(ALERTS, "Concept", "packetclip.concept_names"),
    ]
    alerts = [
        lens.terms("Episode", EPISODE, 100),
        LAST,
        lens.newest("Severity", "event.severity", "number"),
        lens.newest("Mission", "packetclip.mission"),
        lens.newest("Class", "packetclip.class"),
        lens.newest("Source", "source.ip", "ip"),
        lens.newest("Destination", "destination.ip", "ip"),
        lens.statistic("Peak", "max", "packetclip.episode.peak"),
        lens.statistic("Packets", "max", "packetclip.episode.packets"),
        lens.newest("State", "packetclip.episode.state"),
        lens.newest("What happened", "event.reason"),
        lens.newest("Concepts", "packetclip.concept_names"),
    ]
    facts = [lens.terms("Episode", EPISODE, 100), lens.newest("Class", "packetclip.class")]
    for label, name in [
        ("Packets/s", "rate_pps"),
        ("SYN", "syn_share"),
        ("Replies", "reply_share"),
        ("Payload", "payload_share"),
        ("Mean size", "mean_size_bytes"),
        ("Sources", "distinct_orig_h"),
        ("Destinations", "distinct_resp_h"),
        ("Ports", "distinct_resp_p"),
        ("Connections", "distinct_uid"),
        ("Completed", "completed_connections"),
    ]:
        facts.append(lens.statistic(label, "median", f"packetclip.facts.{name}"))
    connections = [
        lens.terms("Community id", "network.community_id", 50),
        EPISODES,
        lens.newest("Zeek uid", "zeek.session_id"),
        lens.newest("Service", "network.protocol"),
        LAST,
    ]
    edges = [0, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1]
    probability = lens.ranges("Probability", "packetclip.probability", edges)
    ports = lens.terms("Port", "destination.port", 15, "number")
    rows = [
        (4, [(48, kibana.markdown("guide", "How to read this", text))]),
        (16, [(48, lens.table("alerts", "Alerts, one row per episode", ALERTS, alerts, [TO_ALERTS, TO_LOGS]))]),
        (
            12,
            [
                (16, lens.bars("probability", "Probability", ALERTS, [probability, lens.count("Documents")], "bar")),
                (16, lens.bars("concepts", "Concepts that spoke for it", ALERTS, _by_concept(), "bar_horizontal")),
                (16, lens.bars("ports", "Destination ports", ALERTS, [ports, EPISODES], "bar_horizontal")),
            ],
        ),
        (14, [(48, lens.table("facts", "Facts of the judged windows (medians)", ALERTS, facts, [TO_ALERTS]))]),
        (14, [(48, lens.table("connections", "Connections of the evidence", ALERTS, connections, [TO_LOGS, TO_ALERTS]))]),
        (20, [(48, kibana.embedded("documents", "Documents: evidence packets and nearest texts", "packetclip-by-episode"))]),
    ]
    return kibana.dashboard(
        EXPLORER, "PacketCLIP: alert explorer", "From an alert to its packets and its connections.", rows, ONLY, controls
    )


def _by_concept() -> list[kibana.Json]:
    return [lens.terms("Concept", "packetclip.concept_names", 15), EPISODES]


def ndjson(missions: Missions) -> str:
    """The whole file, for a model with these missions. A data view comes before what refers to it."""
    return "".join(kibana.dumps(made) + "\n" for made in [*data_views(missions), *searches(), explorer(), overview(missions)])


def main() -> int:
    """Exit codes: 0 done, 1 `--check` found a difference."""
    parser = argparse.ArgumentParser(
        description="Write packetclip.ndjson, Kibana's saved objects.", epilog="example: build.py --check"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 if the file is not what would be written"
    )
    parser.add_argument("--model", type=Path, metavar="DIR", help="model bundle; by default the sensor's own")
    parser.add_argument("--out", type=Path, default=FILE, metavar="FILE", help="by default packetclip.ndjson")
    args = parser.parse_args()
    made, out = ndjson(manifest_of(args.model or resource("model/shipped")).missions), args.out
    if args.check:
        same = out.exists() and out.read_text(encoding="utf-8") == made
        print(f"{out.name} is {'up to date' if same else 'not what build.py makes: run build.py'}")
        return 0 if same else 1
    out.write_text(made, encoding="utf-8", newline="\n")
    print(f"{out.name}: {made.count(chr(10))} saved objects")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
