"""The Elasticsearch sink against a real node: templates, data stream, ids, queries as Kibana makes them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from factories import MISSIONS, SENSOR, T0, alert, episode, flow, packet, safe, told
from msgspec.structs import replace

from packetclip_sensor.cli.app import main
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
DATA = Path(__file__).parents[1] / "data"


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


def test_a_replay_repeated_or_killed_and_started_again_leaves_the_same_documents(
    client: Elasticsearch, config: ElasticsearchConfig, tmp_path: Path
) -> None:
    captures = [str(folder) for folder in sorted(DATA.glob("demo-[dosi]*"))]  # six of the attack classes
    settings = tmp_path / "sensor.yaml"

    def replay(namespace: str) -> list[str]:
        sink = f"{{elasticsearch: {{hosts: ['{config.hosts[0]}'], batch_documents: 5}}}}"
        settings.write_text(f"sensor_name: test\nnamespace: {namespace}\nsink: {sink}\n")
        return ["replay", *captures, "--config", str(settings)]

    def documents(namespace: str) -> dict[str, str]:
        found = hits(client, replace(config, namespace=namespace))
        return {hit["_id"]: hit["_source"]["message"] + hit["_source"]["packetclip"]["episode"]["state"] for hit in found}

    assert main(replay(config.namespace)) == 0
    once = documents(config.namespace)
    assert len(once) >= 18
    assert main(replay(config.namespace)) == 0
    assert documents(config.namespace) == once

    again = config.namespace + "k"
    process = subprocess.Popen([sys.executable, "-m", "packetclip_sensor", *replay(again)], stdout=subprocess.DEVNULL)
    watching = client.options(ignore_status=[404, 503])  # a stream that is just being made answers 503 for a moment
    stream = stream_name(again)
    while process.poll() is None and watching.count(index=stream).get("count", 0) < 4:
        time.sleep(0.02)
        watching.indices.refresh(index=stream)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 0 < len(documents(again)) < len(once)
    assert main(replay(again)) == 0
    assert documents(again) == once


def test_an_alert_is_searchable_soon_without_a_refresh(client: Elasticsearch, config: ElasticsearchConfig) -> None:
    ensure_templates(client, config.namespace, MISSIONS)
    run(config, alert(id="first"))
    start = time.monotonic()
    run(config, alert(id="second"))
    while client.count(index=stream_name(config.namespace))["count"] < 2:
        assert time.monotonic() - start < 20.0  # one second, and what a busy machine adds; never without a refresh
        time.sleep(0.02)


DECISIVE = [{"term": {"packetclip.concepts.name": "handshake"}}, {"range": {"packetclip.concepts.weight": {"gt": 0.1}}}]
QUERIES = (
    ({"term": {"packetclip.mission": "DoS"}}, 17),
    ({"range": {"packetclip.missions.dos": {"gte": 0.9}}}, 50),
    ({"term": {"packetclip.concept_names": "flood"}}, 50),
    ({"term": {"destination.ip": "10.0.0.0/24"}}, 50),
    ({"term": {"threat.technique.subtechnique.id": "T1110.001"}}, 16),
    ({"range": {"packetclip.facts.rate_pps": {"gt": 19, "lt": 20}}}, 50),
    ({"term": {"packetclip.flow.conn_state": "S0"}}, 13),
    ({"term": {"zeek.notice.note": "PacketCLIP::Brute_Force"}}, 16),
    ({"match": {"packetclip.flow.text": "bytes answer"}}, 13),
    ({"nested": {"path": "packetclip.evidence", "query": {"term": {"packetclip.evidence.orig_h": "2001:db8::5"}}}}, 10),
    ({"nested": {"path": "packetclip.concepts", "query": {"bool": {"filter": DECISIVE}}}}, 0),
)
"""Each with the number of varied(50) that it finds."""


def test_the_explanation_can_be_filtered_field_by_field_and_no_type_is_guessed(
    client: Elasticsearch, config: ElasticsearchConfig
) -> None:
    """A field caps call, as Kibana makes for a data view, gives just the fields of our templates."""
    run(config, *varied(50))
    assert [(query, len(hits(client, config, query))) for query, _ in QUERIES] == list(QUERIES)
    caps = client.field_caps(index=stream_name(config.namespace), fields="*", filters="-metadata")["fields"]
    in_templates = json.dumps([body["template"] for body in templates.components(missions=MISSIONS).values()])
    assert [name for name in caps if f'"{name.rsplit(".", 1)[-1]}":' not in in_templates] == []


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
    client: Elasticsearch, config: ElasticsearchConfig
) -> None:
    ensure_templates(client, config.namespace, MISSIONS)
    conflicting_template(client, config.namespace)
    careless = replace(config, manage_templates=False)
    bad = alert(id="b", flow=flow(service="http"))
    assert told(run(careless, alert(id="a"), bad, alert(id="c"))) == {"alerts_written": 2, "dead_letters": 1}
    assert [hit["_id"] for hit in hits(client, config)] == ["a", "c"]
    letter = json.loads(config.dead_letter_path.read_text())
    assert (letter["id"], letter["status"], letter["type"]) == ("b", 400, "document_parsing_exception")
    assert "failed to parse field [packetclip.flow.service] of type [long]" in letter["reason"]
    assert letter["document"]["packetclip"]["flow"]["service"] == "http"

    # The administrator removes the other template and rolls over; the dead letter then finds its place.
    client.indices.delete_index_template(name="packetclip-test-other")
    with pytest.raises(
        SinkError, match=r"packetclip\.flow\.service is long, ours keyword; nothing is lost: roll the data stream"
    ):
        ensure_templates(client, config.namespace, MISSIONS)
    client.indices.rollover(alias=stream_name(config.namespace))
    ensure_templates(client, config.namespace, MISSIONS)
    assert redeliver(config, Counters(), MISSIONS) == 1
    assert [hit["_id"] for hit in hits(client, config)] == ["a", "b", "c"]
    assert not config.dead_letter_path.exists()


def test_anothers_template_of_higher_or_the_same_priority_is_refused_at_start(
    client: Elasticsearch, config: ElasticsearchConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    conflicting_template(client, config.namespace)
    with pytest.raises(SinkError, match="another index template of higher priority takes this name"):
        run(config, alert())
    client.indices.delete_index_template(name="packetclip-test-other")
    ensure_templates(client, config.namespace, MISSIONS)
    # Ours is in place; the same one under another name is the second comer that Elasticsearch refuses.
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
