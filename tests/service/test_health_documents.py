"""Health documents: their fields stand in the template with fitting types, and a cluster that is away costs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from elasticsearch import Elasticsearch
from factories import MISSIONS, SENSOR, told
from machine import free_port
from structlog.testing import capture_logs

from packetclip_sensor.common.metrics import Counters, Gauges, meanings
from packetclip_sensor.config.settings import ElasticsearchConfig, HealthConfig
from packetclip_sensor.elastic.templates import ensure_templates, mapped
from packetclip_sensor.service import health_stream
from packetclip_sensor.service.health import Health
from packetclip_sensor.service.health_documents import HealthFile, document
from packetclip_sensor.service.health_stream import HealthStream
from packetclip_sensor.sources.backlog import Backlog

ROOT = Path(__file__).parents[2]
ECS = json.loads((ROOT / "mappings" / "ecs" / "ecs-9.4.0.json").read_text())["fields"]
NOT_ECS = {"system.process.memory.rss.bytes", "system.process.cpu.total.value", "system.process.fd.open"}
"""Metricbeat's names, module system, metric set process."""
NOW = 1763725904.25


@pytest.fixture
def health(tmp_path: Path) -> Health:
    made = Health(HealthConfig(), Counters(lines=5, shed_lines=2), sensor="s", state_dir=tmp_path)
    made.moved()
    made.judged, made.last_packet, made.lag_s, made.model_version = 1763725900, 1763725901.5, 75.0, "2026.1"
    return made


def leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{prefix}.{name}" if prefix else name)
    else:
        yield prefix, value


def test_a_document_tells_state_reasons_and_every_number(health: Health) -> None:
    made = document(health, SENSOR, "run-1", NOW)
    assert made["@timestamp"] == "2025-11-21T11:51:44.250Z"
    assert made["event"]["kind"] == "metric"
    assert made["service"]["state"] == "failing"
    assert made["message"] == "behind: 0 bytes of log are unread, the oldest line is 75 s old"
    found = made["packetclip"]["health"]
    assert found["reasons"] == ["behind"]
    assert found["totals"]["shed_lines"] == 2
    assert found["judged_timestamp_seconds"] == "2025-11-21T11:51:40.000Z"
    health.lag_s = 0.0
    assert document(health, SENSOR, "run-1", NOW)["message"] == "all is well"
    health.backlog = Backlog()
    health.backlog.remarks = {Path("/zeek"): "/zeek: nothing was logged since"}
    made = document(health, SENSOR, "run-1", NOW)
    assert (made["message"], made["service"]["state"]) == ("/zeek: nothing was logged since", "ok")


def test_template_and_document_have_the_same_fields_and_ecs_its_types(health: Health) -> None:
    types = mapped("packetclip.health", MISSIONS)
    made = dict(leaves(document(health, SENSOR, "run-1", NOW)))
    totals = {name for name in made if name.startswith("packetclip.health.totals.")}
    assert {name.rpartition(".")[2] for name in totals} == set(Counters().as_dict())
    assert set(made) - totals == set(types) - {"event.ingested"}
    for name, value in made.items():
        if name in totals:
            assert isinstance(value, int)
            continue
        fits = {"long": int, "double": int | float, "keyword": str | list, "text": str, "date": str}[types[name]]
        assert isinstance(value, fits), name
    same = {"match_only_text": "text", "constant_keyword": "keyword"}
    for name in set(types) - NOT_ECS:
        if not name.startswith("packetclip."):
            assert same.get(ECS[name]["type"], ECS[name]["type"]) == types[name], name


def test_the_field_reference_says_what_the_code_says() -> None:
    sections = yaml.safe_load((ROOT / "mappings" / "fields.yaml").read_text())["sections"]
    said = {name: field["meaning"] for section in sections for name, field in section.get("fields", {}).items()}
    for name, meaning in meanings(Gauges).items():
        if name != "healthy" and not name.endswith("_timestamp_seconds"):
            assert said[f"packetclip.health.{name}"].lower() == meaning.rstrip(".").lower(), name


def test_a_cluster_that_is_away_is_counted_and_said_once(health: Health) -> None:
    config = ElasticsearchConfig(hosts=[f"http://127.0.0.1:{free_port()}"])
    sender = HealthStream(config, health, SENSOR)
    with capture_logs() as logs:
        for _ in range(3):
            sender.send()
    sender.close()
    assert [entry["event"] for entry in logs] == ["health_unsent"]
    assert told(health.counters) == {"lines": 5, "shed_lines": 2, "health_unsent": 3}


def test_a_document_that_is_taken_says_that_the_login_is_right(health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a key revoked before the first alert of a calm night is waited for."""
    sent = HealthStream(ElasticsearchConfig(hosts=["http://127.0.0.1:9"], manage_templates=False), health, SENSOR)
    sent.send()
    assert not health.accepted
    monkeypatch.setattr(sent._client, "index", lambda **_: {})
    sent.send()
    assert health.accepted


def test_with_a_file_sink_the_newest_document_stands_in_a_file(health: Health, tmp_path: Path) -> None:
    path = tmp_path / "health.json"
    at = [NOW]
    file = HealthFile(path, health, SENSOR, now=lambda: at[0])
    file.send()
    at[0] += 60
    file.send()
    made = json.loads(path.read_text())
    assert made["@timestamp"] == "2025-11-21T11:52:44.250Z"
    assert made["packetclip"]["health"]["totals"]["lines"] == 5
    assert [each.name for each in tmp_path.iterdir()] == ["health.json"]
    path.unlink()
    path.mkdir()
    file.send()
    assert health.counters.health_unsent == 1


@pytest.mark.elasticsearch
def test_a_real_cluster_takes_the_documents_and_answers_questions_about_them(
    elasticsearch_url: str, namespace: str, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_stream, "TIMEOUT_S", 60.0)  # a node that has just started, on a busy machine
    config = ElasticsearchConfig(hosts=[elasticsearch_url], namespace=namespace)
    sender = HealthStream(config, health, SENSOR, now=lambda: NOW)
    sender.send()
    sender.send()
    sender.close()
    assert told(health.counters) == {"lines": 5, "shed_lines": 2}
    stream = f"logs-packetclip.health-{namespace}"
    with Elasticsearch(elasticsearch_url) as client:
        client.indices.refresh(index=stream)
        query = {"bool": {"filter": [{"term": {"packetclip.health.reasons": "behind"}}, {"term": {"service.state": "failing"}}]}}
        assert client.count(index=stream, query=query)["count"] == 2
        found = client.search(index=stream, aggs={"shed": {"max": {"field": "packetclip.health.totals.shed_lines"}}}, size=0)
        assert found["aggregations"]["shed"]["value"] == 2.0
        ensure_templates(client, namespace, MISSIONS, "packetclip.health")  # a second start changes nothing
