"""Alerts read back from a real Elasticsearch: for the report by time, mission and number, for explain by id."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from elasticsearch import Elasticsearch
from factories import MISSIONS, SENSOR, T0, alert, episode, safe

from packetclip_sensor.cli.app import main
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config.settings import ElasticsearchConfig
from packetclip_sensor.elastic.streams import stream_name
from packetclip_sensor.errors import SinkError
from packetclip_sensor.sinks.elasticsearch import write
from packetclip_sensor.view import alert_reader
from packetclip_sensor.view.document_access import Document, text
from packetclip_sensor.view.next_steps import history

pytestmark = pytest.mark.elasticsearch


@pytest.fixture
def stored(elasticsearch_url: str, namespace: str, tmp_path: Path) -> ElasticsearchConfig:
    """Forty episodes of three documents each, ten seconds apart."""
    config = ElasticsearchConfig(hosts=[elasticsearch_url], namespace=namespace, dead_letter_path=tmp_path / "dead.ndjson")
    made = [
        alert(
            id=f"a{n:02}{state}",
            ts=T0 + 10 * n + at,
            state=state,
            mission=MISSIONS.names[n % 3],
            episode=episode(id=f"e{n:02}x", first=T0 + 10 * n, last=T0 + 10 * n + at),
        )
        for n in range(40)
        for at, state in enumerate(("open", "update", "close"))
    ]
    list(write([safe(*made)], config, SENSOR, Counters()))
    with Elasticsearch(elasticsearch_url) as client:
        client.indices.refresh(index=stream_name(namespace))
    return config


def ids(found: list[Document]) -> list[str]:
    return [text(one, "event.id") for one in found]


def test_of_each_episode_the_newest_document_is_read_over_many_pages(
    stored: ElasticsearchConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alert_reader, "PAGE", 7)
    assert ids(alert_reader.stored(stored)) == [f"a{n:02}close" for n in reversed(range(40))]
    assert ids(alert_reader.stored(stored, limit=2)) == ["a39close", "a38close"]
    assert len(alert_reader.stored(stored, mission="Brute Force")) == 13
    begin, end = (datetime.fromtimestamp(T0 + 10 * n - 1, UTC).isoformat() for n in (3, 5))
    assert ids(alert_reader.stored(stored, since=begin, until=end)) == ["a04close", "a03close"]
    with pytest.raises(SinkError, match="holds no alert of this time"):
        alert_reader.stored(stored, since="1h")


def test_an_alert_is_found_by_its_id_its_episode_and_their_beginnings(stored: ElasticsearchConfig) -> None:
    for name, expected in (("a07open", "a07open"), ("e07x", "a07close"), ("e07", "a07close")):
        assert text(alert_reader.stored_by_id(stored, name), "event.id") == expected
    with pytest.raises(alert_reader.UnknownAlertError, match=r"no alert `e07y`; near ones: .*`e07x`"):
        alert_reader.stored_by_id(stored, "e07y")
    with pytest.raises(alert_reader.UnknownAlertError, match="no alert `nothing like it`; the newest"):
        alert_reader.stored_by_id(stored, "nothing like it")


def test_the_cluster_counts_earlier_alerts_as_they_are_counted_in_a_file(stored: ElasticsearchConfig) -> None:
    one = alert_reader.stored_by_id(stored, "e07x")
    found = alert_reader.stored_before(stored, one)
    assert [(seen.episodes, seen.last) for seen in found] == [(7, T0 + 62)] * 4
    assert found == history.before(one, alert_reader.stored(stored))
    assert {seen.words for seen in alert_reader.stored_before(stored, alert_reader.stored_by_id(stored, "e00x"))} == {
        "not before"
    }


def test_report_and_explain_read_through_the_configuration(
    stored: ElasticsearchConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, page = tmp_path / "sensor.yaml", tmp_path / "report.html"
    config.write_text(f"namespace: {stored.namespace}\nsink: {{elasticsearch: {{hosts: ['{stored.hosts[0]}']}}}}\n")
    asked = ["report", "--from-elasticsearch", "--config", str(config), "--mission", "DoS", "--limit", "5", "--out", str(page)]
    assert main(asked) == 0
    assert "<b>5</b> episodes" in page.read_text()
    assert main(["explain", "e07x", "--config", str(config)]) == 0
    out = capsys.readouterr().out
    assert "SYN Flood on 10.0.0.9" in out
    assert f"Seen before (in {stream_name(stored.namespace)})" in out
    assert "in 7 earlier alerts, last 2025-10-09 08:54:22 UTC" in out
    config.write_text(f"namespace: {stored.namespace}no\nsink: {{elasticsearch: {{hosts: ['{stored.hosts[0]}']}}}}\n")
    assert main(["explain", "e07x", "--config", str(config)]) == 2
    assert "; is `namespace` right, and has the sensor written an alert yet?" in capsys.readouterr().err
    config.write_text("sink: {elasticsearch: {hosts: ['http://127.0.0.1:9']}}\n")
    assert main(["explain", "e07x", "--config", str(config)]) == 2
    assert "; check address, port and firewall, and that it runs" in capsys.readouterr().err


def test_an_analysts_verdict_goes_into_every_document_of_the_episode(
    stored: ElasticsearchConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "sensor.yaml"
    config.write_text(f"namespace: {stored.namespace}\nsink: {{elasticsearch: {{hosts: ['{stored.hosts[0]}']}}}}\n")
    assert alert_reader.stored(stored, marked=True) == []
    assert main(["mark", "e07x", "--false", "--comment", "a backup", "--config", str(config)]) == 0
    assert "marked as false positive in 3 documents, episode e07x" in capsys.readouterr().out
    (found,) = alert_reader.stored(stored, marked=True)
    assert (text(found, "event.id"), text(found, "packetclip.analyst.comment")) == ("a07close", "a backup")
    assert text(alert_reader.stored_by_id(stored, "a07open"), "packetclip.analyst.verdict") == "false_positive"
    assert not alert_reader.mark_of(found).true
