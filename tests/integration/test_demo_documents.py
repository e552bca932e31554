"""Documents of real traffic: every field is ECS's or described by us, and Elastic Security's rule finds every alert of them."""

from __future__ import annotations

import ipaddress
import json
import re
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from elasticsearch import Elasticsearch
from factories import MISSIONS, leaves

from packetclip_sensor.cli.app import main
from packetclip_sensor.common.resources import resource
from packetclip_sensor.elastic import templates
from packetclip_sensor.elastic.streams import stream_name
from packetclip_sensor.elastic.templates import ensure_templates
from packetclip_sensor.sinks.documents import ECS_VERSION

pytestmark = pytest.mark.xdist_group("demo")
ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
ECS = json.loads((resource("mappings") / "ecs" / f"ecs-{ECS_VERSION}.json").read_text(encoding="utf-8"))["fields"]
REFERENCE = {
    path.replace("{mission}", mission.id)
    for section in yaml.safe_load((resource("mappings") / "fields.yaml").read_text(encoding="utf-8"))["sections"]
    for path in section.get("fields", {})
    for mission in MISSIONS
}
FAMILY = {"constant_keyword": "keyword", "wildcard": "keyword", "match_only_text": "text", "scaled_float": "float"}
"""ECS types that the test node has not, and what Elasticsearch searches in the same way."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of all alerts of all recorded traffic."""
    out = tmp_path_factory.mktemp("demo") / "alerts.ndjson"
    assert main(["replay", str(ROOT / "tests" / "data"), "--config", str(GOLDEN / "sensor.yaml"), "--out", str(out)]) == 0
    return out.read_bytes()


@pytest.fixture(scope="module")
def documents(written: bytes) -> list[dict[str, Any]]:
    """Every document of all recorded traffic."""
    return [json.loads(line) for line in written.splitlines()]


def test_documents_are_the_golden_ones_byte_for_byte(written: bytes) -> None:
    """A change that alters them on purpose makes the file anew and names the difference (tests/golden/README.md)."""
    golden = (GOLDEN / "alerts.ndjson").read_bytes()
    changed = [n for n, (a, b) in enumerate(zip(written.splitlines(), golden.splitlines(), strict=False), 1) if a != b]
    assert changed == [], f"documents {changed} differ"
    assert written == golden


def test_what_a_document_of_one_pair_names_counts_and_shows_are_the_same_hosts(documents: list[dict[str, Any]]) -> None:
    pairs = [d for d in documents if d["packetclip"]["episode"]["scope"] == "pair"]
    assert len(pairs) > 20
    for document in pairs:
        hosts, ours = {document["source"]["ip"], document["destination"]["ip"]}, document["packetclip"]
        assert {packet[side] for packet in ours["evidence"] for side in ("orig_h", "resp_h")} <= hosts
        assert ours["facts"]["distinct_orig_h"] <= 2 >= ours["facts"]["distinct_resp_h"]
        if "flow" in ours:
            assert {ours["flow"]["id"]["orig_h"], ours["flow"]["id"]["resp_h"]} == hosts
        assert document["related"]["ip"] == [document["source"]["ip"], document["destination"]["ip"]]


def fits(kind: str, value: Any) -> bool:
    """Whether ECS's type takes the value as it stands."""
    match kind:
        case "long":
            return type(value) is int
        case "float" | "double" | "scaled_float":
            return type(value) in (int, float)
        case "date":
            return bool(datetime.fromisoformat(value))
        case "ip":
            return bool(ipaddress.ip_address(value))
    return type(value) is str


def test_every_field_of_real_documents_is_of_ecs_with_its_type_or_ours_and_described(documents: list[dict[str, Any]]) -> None:
    assert len(documents) > 20
    seen = {(name, value) for document in documents for name, value in leaves(document)}
    assert {name for name, _ in seen} <= REFERENCE
    foreign = [(name, value) for name, value in seen if not name.startswith(("packetclip.", "zeek."))]
    assert {name for name, _ in foreign} <= set(ECS)
    assert [(name, value) for name, value in foreign if not fits(ECS[name]["type"], value)] == []
    too_long = [(name, len(value)) for name, value in foreign if len(str(value)) > ECS[name].get("ignore_above", 32766)]
    assert too_long == []
    allowed = [(name, value) for name, value in foreign if value not in ECS[name].get("allowed_values", [value])]
    assert allowed == []


NAMESPACE = f"t{uuid.uuid4().hex[:12]}"
STREAM = stream_name(NAMESPACE)


@pytest.fixture
def client(elasticsearch_url: str, documents: list[dict[str, Any]]) -> Iterator[Elasticsearch]:
    """A client of the node, which holds all documents; every second one with the time that an ingest pipeline would have set."""
    with Elasticsearch(elasticsearch_url) as running:
        if not running.indices.resolve_index(name=f"{STREAM}*")["data_streams"]:
            ensure_templates(running, NAMESPACE, MISSIONS)
            operations: list[Any] = []
            for number, document in enumerate(documents):
                event = document["event"] | ({"ingested": "2026-12-01T00:00:00Z"} if number % 2 else {})
                made = document | {"event": event, "data_stream": document["data_stream"] | {"namespace": NAMESPACE}}
                operations += [{"create": {"_id": document["event"]["id"]}}, made]
            answer = running.bulk(index=STREAM, operations=operations, refresh=True, require_data_stream=True)
            assert not answer["errors"], answer
        yield running


def blocks() -> list[tuple[str, str, dict[str, Any] | None]]:
    """Heading, request line and body of every example in docs/queries.md."""
    text = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
    found = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        for block in re.findall(r"^```console\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL):
            line, _, body = block.partition("\n")
            found.append((section.partition("\n")[0], line, json.loads(body) if body.strip() else None))
    return found


BLOCKS = blocks()


def asked(client: Elasticsearch, line: str, body: dict[str, Any] | None) -> Any:
    """The answer to an example, asked of the test's own stream."""
    method, path = line.split()
    path = re.sub(r"logs-packetclip\.[a-z.*]*(-\*)?", STREAM, path, count=1)
    headers = {"accept": "application/json", "content-type": "application/json"}
    return client.perform_request(method, f"/{path}", headers=headers, body=body).body


def found(aggregations: dict[str, Any]) -> bool:
    """Whether every aggregation, the innermost too, has something in its first bucket."""
    for value in aggregations.values():
        if not isinstance(value, dict):
            continue
        if "buckets" in value and not (value["buckets"] and found(value["buckets"][0])):
            return False
        if value.get("doc_count") == 0 or not found({k: v for k, v in value.items() if k != "buckets"}):
            return False
    return True


@pytest.mark.elasticsearch
@pytest.mark.parametrize(("title", "line", "body"), BLOCKS, ids=[f"{n}: {block[0]}" for n, block in enumerate(BLOCKS)])
def test_every_documented_query_finds_something(
    client: Elasticsearch, title: str, line: str, body: dict[str, Any] | None
) -> None:
    answer = asked(client, line, body)
    if "_search" in line:
        assert answer["hits"]["total"]["value"] > 0
        assert found(answer.get("aggregations", {}))
    else:
        assert {"packetclip.mission", "packetclip.concepts.name", "source.ip"} <= set(answer["fields"])


@pytest.mark.elasticsearch
def test_the_external_alerts_rule_finds_every_alert_with_its_severity_and_name(
    client: Elasticsearch, documents: list[dict[str, Any]]
) -> None:
    """By event.ingested and, where it is missing, by @timestamp; the query is the one in docs/queries.md. What was ingested late
    it sees only by event.ingested: a window after the traffic finds the documents that a pipeline has stamped, and no other."""
    (_, line, body) = next(block for block in BLOCKS if block[0].startswith("The External Alerts rule"))
    assert body is not None
    hits = asked(client, line, body | {"size": 1000})["hits"]["hits"]
    ids = [document["event"]["id"] for document in documents]
    assert sorted(hit["_id"] for hit in hits) == sorted(ids)
    sources = [hit["_source"] for hit in hits]
    assert {source["event"]["severity"] for source in sources} <= {21, 47, 73, 99}
    assert all(0 < len(source["message"]) <= 160 and 0 <= source["event"]["risk_score"] <= 100 for source in sources)
    late = json.loads(json.dumps(body).replace('"2020-01-01"', '"2026-11-30"'))
    hits = asked(client, line, late | {"size": 1000})["hits"]["hits"]
    assert sorted(hit["_id"] for hit in hits) == sorted(ids[1::2])


@pytest.mark.elasticsearch
def test_field_capabilities_show_no_conflict_with_ecs(client: Elasticsearch) -> None:
    """Beside an index with ECS's own types for every ECS field that we map, each field has one type."""
    ours = [name for name in templates.mapped("packetclip.alert", MISSIONS) if name in ECS]
    types = {name: {"type": FAMILY.get(ECS[name]["type"], ECS[name]["type"])} for name in ours}
    other = f"ecs-{NAMESPACE}"
    client.indices.create(index=other, mappings={"properties": types})
    try:
        caps = client.field_caps(index=[STREAM, other], fields="*", filters="-metadata")["fields"]
    finally:
        client.indices.delete(index=other)
    assert {name: sorted(kinds) for name, kinds in caps.items() if len(kinds) > 1} == {}
    assert set(ours) <= set(caps)
    assert len(ours) > 45
