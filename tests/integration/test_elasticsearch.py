"""The Elasticsearch sink against a real node: templates, data stream, ids, queries as Kibana makes them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from elasticsearch import Elasticsearch
from factories import MISSIONS, SENSOR, T0, alert, episode, flow, packet, safe, told

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config.settings import ElasticsearchConfig
from packetclip_sensor.elastic import templates
from packetclip_sensor.elastic.plan import Thing
from packetclip_sensor.elastic.streams import stream_name
from packetclip_sensor.elastic.templates import ensure_templates
from packetclip_sensor.errors import SinkError
from packetclip_sensor.records import Alert, Evidence
from packetclip_sensor.sinks.elasticsearch import redeliver, write

pytestmark = pytest.mark.elasticsearch


@pytest.fixture
def client(elasticsearch_url: str) -> Iterator[Elasticsearch]:
    with Elasticsearch(elasticsearch_url) as running:
        yield running
        # What a test put over our templates must not reach the next one.
        running.options(ignore_status=404).indices.delete_index_template(name="packetclip-test-other")
        running.options(ignore_status=404).cluster.put_component_template(name="logs-packetclip.alert@custom", template={})


@pytest.fixture
def config(elasticsearch_url: str, namespace: str, tmp_path: Path) -> ElasticsearchConfig:
    return ElasticsearchConfig(hosts=[elasticsearch_url], namespace=namespace, dead_letter_path=tmp_path / "dead.ndjson")


def run(config: ElasticsearchConfig, *alerts: Alert) -> Counters:
    counters = Counters()
    list(write([safe(*alerts)], config, SENSOR, counters))
    return counters


def hits(client: Elasticsearch, config: ElasticsearchConfig, query: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    stream = stream_name(config.namespace)
    client.indices.refresh(index=stream)
    answer = client.search(index=stream, query=query or {"match_all": {}}, size=2000)
    return sorted(answer["hits"]["hits"], key=lambda hit: hit["_id"])


def varied(count: int) -> list[Alert]:
    """Alerts that together fill every field: scopes, flow rows, missions, IPv6, ICMP, many hosts."""
    made = []
    for n in range(count):
        spread = {"source_count": n + 1, "sources": [f"10.1.{n // 200}.{n % 200 + 1 + i}" for i in range(min(n + 1, 20))]}
        ping = packet(proto="icmp", orig_h="2001:db8::5", resp_h="2001:db8::9", orig_p=128, resp_p=129, data=b"\x60")
        made.append(
            alert(
                id=f"alert-{n:03}",
                ts=T0 + n,
                state=("open", "update", "close")[n % 3],
                mission=("DoS", "Reconnaissance", "Brute Force")[n % 3],
                episode=episode(id=f"e{n // 3}", peak=n / count, **(spread if n % 2 else {})),
                flow=flow(service="http", duration=1.5, vlan=7, orig_size_mean=60.0) if n % 4 == 0 else None,
                flow_text="One SYN of 60 bytes, no answer." if n % 4 == 0 else None,
                evidence=(Evidence(ping if n % 5 == 0 else packet(n=n + 1), 0.1, "an echo request"),),
                technique=("T1499.001", "T1046", "T1110.001")[n % 3],
                probability=n / count,
            )
        )
    return made


def test_fifty_alerts_written_twice_are_fifty_documents_with_the_same_ids(
    client: Elasticsearch, config: ElasticsearchConfig
) -> None:
    assert told(run(config, *varied(50))) == {"alerts_written": 50}
    first = hits(client, config)
    assert [hit["_id"] for hit in first] == [f"alert-{n:03}" for n in range(50)]
    assert told(run(config, *varied(50))) == {"alerts_duplicate": 50}
    assert hits(client, config) == first


def test_kill_9_in_the_middle_and_a_restart_leave_the_same_documents(client: Elasticsearch, config: ElasticsearchConfig) -> None:
    """The child sends 300 alerts one by one and is killed on the way; the restart sends all of them again."""
    child = (
        "import sys, msgspec; from packetclip_sensor.common.metrics import Counters; from factories import SENSOR, alert, safe\n"
        "from packetclip_sensor.config.settings import ElasticsearchConfig\n"
        "from packetclip_sensor.sinks.elasticsearch import write\n"
        "config = msgspec.json.decode(sys.argv[1], type=ElasticsearchConfig, dec_hook=lambda kind, value: kind(value))\n"
        "for _ in write((safe(alert(id=f'{n:03}')) for n in range(300)), config, SENSOR, Counters()): print('.', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", child, msgspec.json.encode(config, enc_hook=str).decode()],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    dots = (line for line in process.stdout if line == b".\n")  # the log says there what was set up
    acknowledged = sum(1 for _ in zip(range(40), dots, strict=False))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert acknowledged == 40
    before = [hit["_id"] for hit in hits(client, config)]
    assert 40 <= len(before) < 300
    counters = run(config, *(alert(id=f"{n:03}") for n in range(300)))
    assert told(counters) == {"alerts_written": 300 - len(before), "alerts_duplicate": len(before)}
    assert [hit["_id"] for hit in hits(client, config)] == [f"{n:03}" for n in range(300)]


def test_an_alert_is_searchable_soon_without_a_refresh(client: Elasticsearch, config: ElasticsearchConfig) -> None:
    ensure_templates(client, config.namespace, MISSIONS)
    run(config, alert(id="first"))
    start = time.monotonic()
    run(config, alert(id="second"))
    while client.count(index=stream_name(config.namespace))["count"] < 2:
        assert time.monotonic() - start < 20.0  # one second, and what a busy machine adds; never without a refresh
        time.sleep(0.02)


def test_the_external_alerts_rule_finds_every_alert_with_title_severity_and_risk(
    client: Elasticsearch, config: ElasticsearchConfig
) -> None:
    """The query of Elastic's prebuilt rule "External Alerts", and the fields that it maps."""
    run(config, *varied(50))
    query = {
        "bool": {
            "filter": [{"term": {"event.kind": "alert"}}, {"range": {"@timestamp": {"gte": "2025-10-09", "lt": "2025-10-10"}}}],
            "must_not": [{"terms": {"event.module": ["endgame", "endpoint", "cloud_defend"]}}],
        }
    }
    found = [hit["_source"] for hit in hits(client, config, query)]
    assert len(found) == 50
    assert {source["event"]["severity"] for source in found} == {21, 47, 73, 99}
    assert all(0 <= source["event"]["risk_score"] <= 100 and 0 < len(source["message"]) <= 160 for source in found)
    assert all("outcome" not in source["event"] for source in found)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"term": {"packetclip.mission": "DoS"}}, 4),
        ({"range": {"packetclip.missions.dos": {"gte": 0.9}}}, 10),
        ({"term": {"packetclip.concept_names": "flood"}}, 10),
        ({"term": {"destination.ip": "10.0.0.0/24"}}, 10),
        ({"term": {"threat.technique.subtechnique.id": "T1110.001"}}, 3),
        ({"range": {"packetclip.facts.rate_pps": {"gt": 19, "lt": 20}}}, 10),
        ({"term": {"packetclip.flow.conn_state": "S0"}}, 3),
        ({"term": {"zeek.notice.note": "PacketCLIP::Brute_Force"}}, 3),
        ({"match": {"packetclip.flow.text": "bytes answer"}}, 3),
        ({"nested": {"path": "packetclip.evidence", "query": {"term": {"packetclip.evidence.orig_h": "2001:db8::5"}}}}, 2),
        (
            {
                "nested": {
                    "path": "packetclip.concepts",
                    "query": {
                        "bool": {
                            "filter": [
                                {"term": {"packetclip.concepts.name": "handshake"}},
                                {"range": {"packetclip.concepts.weight": {"gt": 0.1}}},
                            ]
                        }
                    },
                }
            },
            0,
        ),
    ],
)
def test_the_explanation_can_be_filtered_field_by_field(
    client: Elasticsearch, elasticsearch_url: str, tmp_path: Path, query: dict[str, Any], count: int
) -> None:
    config = ElasticsearchConfig(hosts=[elasticsearch_url], namespace="fields", dead_letter_path=tmp_path / "dead.ndjson")
    run(config, *varied(10))
    assert len(hits(client, config, query)) == count


def test_the_field_types_of_two_streams_do_not_conflict_and_nothing_is_guessed(
    client: Elasticsearch, config: ElasticsearchConfig, elasticsearch_url: str, tmp_path: Path
) -> None:
    """A field caps call over both, as Kibana makes for a data view: one type per field, and just the fields of our templates."""
    other = ElasticsearchConfig(hosts=[elasticsearch_url], namespace="other", dead_letter_path=tmp_path / "dead.ndjson")
    run(config, *varied(50)[:25])
    run(other, *varied(50)[25:])
    streams = [stream_name(config.namespace), stream_name("other")]
    caps = client.field_caps(index=streams, fields="*", filters="-metadata")["fields"]
    assert {name: list(kinds) for name, kinds in caps.items() if len(kinds) > 1} == {}
    in_templates = json.dumps([body["template"] for body in templates.components().values()])
    guessed = [name for name in caps if f'"{name.rsplit(".", 1)[-1]}":' not in in_templates]
    assert guessed == []


def conflicting_template(client: Elasticsearch, namespace: str) -> None:
    """Somebody else's template for our stream: ours, but the flow's service a number."""
    client.indices.put_index_template(
        name="packetclip-test-other",
        index_patterns=[stream_name(namespace)],
        data_stream={},
        composed_of=list(templates.components()),
        priority=500,
        template={
            "mappings": {"properties": {"packetclip": {"properties": {"flow": {"properties": {"service": {"type": "long"}}}}}}}
        },
    )


def test_a_mapping_conflict_sends_that_document_to_the_dead_letters_and_writes_the_others(
    client: Elasticsearch, config: ElasticsearchConfig, elasticsearch_url: str
) -> None:
    ensure_templates(client, config.namespace, MISSIONS)
    conflicting_template(client, config.namespace)
    careless = ElasticsearchConfig(
        hosts=[elasticsearch_url],
        namespace=config.namespace,
        dead_letter_path=config.dead_letter_path,
        manage_templates=False,
    )
    bad = alert(id="b", flow=flow(service="http"))
    assert told(run(careless, alert(id="a"), bad, alert(id="c"))) == {"alerts_written": 2, "dead_letters": 1}
    assert [hit["_id"] for hit in hits(client, config)] == ["a", "c"]
    letter = json.loads(config.dead_letter_path.read_text())
    assert (letter["id"], letter["status"], letter["type"]) == ("b", 400, "document_parsing_exception")
    assert "failed to parse field [packetclip.flow.service] of type [long]" in letter["reason"]
    assert letter["document"]["packetclip"]["flow"]["service"] == "http"

    # The administrator removes the other template and rolls over; the dead letter then finds its place.
    client.indices.delete_index_template(name="packetclip-test-other")
    ensure_templates_and_roll_over(client, config.namespace)
    assert redeliver(config, Counters(), MISSIONS) == 1
    assert [hit["_id"] for hit in hits(client, config)] == ["a", "b", "c"]
    assert not config.dead_letter_path.exists()


def ensure_templates_and_roll_over(client: Elasticsearch, namespace: str) -> None:
    with pytest.raises(
        SinkError, match=r"packetclip\.flow\.service is long, ours keyword; nothing is lost: roll the data stream"
    ):
        ensure_templates(client, namespace, MISSIONS)
    client.indices.rollover(alias=stream_name(namespace))
    ensure_templates(client, namespace, MISSIONS)


def test_a_template_of_higher_priority_is_refused_at_start(client: Elasticsearch, config: ElasticsearchConfig) -> None:
    conflicting_template(client, config.namespace)
    with pytest.raises(SinkError, match="another index template of higher priority takes this name"):
        run(config, alert())


def test_a_template_of_the_same_priority_and_pattern_is_refused_by_name(
    client: Elasticsearch, config: ElasticsearchConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours is in place; the same one under another name is the second comer that Elasticsearch refuses."""
    ensure_templates(client, config.namespace, MISSIONS)
    second = [Thing("index template", "packetclip-test-other", templates.read("index", "logs-packetclip.alert"))]
    monkeypatch.setattr(templates, "templates", lambda dataset, missions: second)
    with pytest.raises(SinkError, match=r"matching patterns from existing templates \[logs-packetclip\.alert\]"):
        ensure_templates(client, config.namespace, MISSIONS)


def test_a_sites_own_component_may_add_fields_but_not_change_ours(client: Elasticsearch, config: ElasticsearchConfig) -> None:
    ensure_templates(client, config.namespace, MISSIONS)
    custom = "logs-packetclip.alert@custom"
    client.cluster.put_component_template(name=custom, template={"mappings": {"properties": {"site": {"type": "keyword"}}}})
    ensure_templates(client, config.namespace, MISSIONS)
    wrong = {"mappings": {"properties": {"packetclip": {"properties": {"probability": {"type": "keyword"}}}}}}
    client.cluster.put_component_template(name=custom, template=wrong)
    with pytest.raises(SinkError, match=r"packetclip\.probability is keyword, not double; take these fields out of .*@custom"):
        ensure_templates(client, config.namespace, MISSIONS)


def test_a_stream_of_an_older_sensor_gets_the_fields_that_it_lacks(client: Elasticsearch, config: ElasticsearchConfig) -> None:
    stream = stream_name(config.namespace)
    client.indices.put_index_template(
        name="packetclip-test-other",
        index_patterns=[stream],
        data_stream={},
        priority=500,
        template={
            "mappings": {"properties": {"packetclip": {"dynamic": "strict", "properties": {"mission": {"type": "keyword"}}}}}
        },
    )
    client.index(index=stream, op_type="create", document={"@timestamp": "2025-10-09", "packetclip": {"mission": "DoS"}})
    client.indices.delete_index_template(name="packetclip-test-other")
    assert told(run(config, alert(id="new"))) == {"alerts_written": 1}
    assert len(hits(client, config, {"term": {"packetclip.class": "SYN Flood"}})) == 1


def test_an_alias_of_the_streams_name_is_refused(client: Elasticsearch, config: ElasticsearchConfig) -> None:
    client.indices.create(index=f"plain-{config.namespace}", aliases={stream_name(config.namespace): {}})
    with pytest.raises(SinkError, match="is a plain index or alias, our documents need a data stream"):
        run(config, alert())
    client.indices.delete(index=f"plain-{config.namespace}")
