"""The integration package on the real node, put there as Fleet would: its mapping takes real documents, its dashboards,
searches and rules find them, and the sensor leaves its templates alone.

Queries are asked in KQL as they stand, by Elastic's own module; the rules in EQL and ES|QL, which this node has not, in
test_rules_esql_eql.py. Kibana, Fleet, ILM and ingest processors are not to be had: of those only the form is tested
(tests/mappings/test_integration.py).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import BadRequestError, Elasticsearch
from factories import MISSIONS
from fleet import Package, types
from structlog.testing import capture_logs

from mappings.integration import build
from packetclip_sensor.cli.app import main
from packetclip_sensor.config.settings import ElasticsearchConfig
from packetclip_sensor.elastic import streams, templates
from packetclip_sensor.elastic.inspection import findings
from packetclip_sensor.elastic.templates import ensure_templates

pytestmark = [pytest.mark.elasticsearch, pytest.mark.xdist_group("package")]
ROOT = Path(__file__).parents[2]
GOLDEN = [json.loads(line) for line in (ROOT / "tests/golden/alerts.ndjson").read_text(encoding="utf-8").splitlines()]
NAME = f"t{uuid.uuid4().hex[:10]}"
"""Takes the place of "packetclip.alert" and so on: other tests put templates of these names."""
FILES = build.package(MISSIONS, built=True)
PACKAGE = Package({path: content.replace(b"packetclip.alert", f"{NAME}.alert".encode()) for path, content in FILES.items()})
PACKAGE = PACKAGE.renamed("packetclip.flow", f"{NAME}.flow").renamed("packetclip.health", f"{NAME}.health")
ALERTS, HEALTH = f"logs-{NAME}.alert-default", f"logs-{NAME}.health-default"
DASHBOARDS = PACKAGE.objects("dashboard")
PANELS = {
    f"{made['id']}/{panel['panelIndex']}": panel
    for made in DASHBOARDS
    for panel in json.loads(made["attributes"]["panelsJSON"])
    if panel["type"] == "lens"
}
RULES = {rule["attributes"]["name"].removeprefix("PacketCLIP: "): rule["attributes"] for rule in PACKAGE.objects("security_rule")}
Json = dict[str, Any]


def alerts() -> Iterator[Json]:
    """The golden documents, and a source that goes on to six more hosts."""
    yield from GOLDEN
    opening = next(each for each in GOLDEN if each["packetclip"]["episode"]["state"] == "open")
    for n in range(6):
        yield opening | {
            "event": opening["event"] | {"id": f"again-{n}"},
            "destination": {"ip": f"198.51.100.{n}", "port": 22},
            "packetclip": opening["packetclip"] | {"episode": opening["packetclip"]["episode"] | {"id": f"again-{n}"}},
        }


def healths() -> Iterator[Json]:
    """A sensor that is not well for five minutes, one for two, and one that is well."""
    (sample,) = [PACKAGE.json("data_stream/health/sample_event.json")]
    for name, state, count in (("sick", "failing", 5), ("dizzy", "failing", 2), ("well", "ok", 9)):
        for n in range(count):
            yield sample | {
                "@timestamp": f"2026-11-21T12:4{n}:00Z",
                "observer": sample["observer"] | {"name": name},
                "service": sample["service"] | {"state": state},
            }


def renamed(document: Json) -> Json:
    return dict(json.loads(json.dumps(document).replace("packetclip.alert", f"{NAME}.alert")))


@pytest.fixture
def client(elasticsearch_url: str) -> Iterator[Elasticsearch]:
    """A client of the node, with the package's templates and what its streams hold."""
    with Elasticsearch(elasticsearch_url, request_timeout=60) as running:
        if not running.indices.exists_index_template(name=f"logs-{NAME}.alert"):
            for stream in ("alert", "flow", "health"):
                PACKAGE.install(running, stream, f"{NAME}.{stream}")
            for stream, documents in ((ALERTS, map(renamed, alerts())), (HEALTH, healths())):
                operations: list[Any] = []
                for document in documents:
                    operations += [{"create": {}}, document]
                answer = running.bulk(index=stream, operations=operations, refresh=True, require_data_stream=True)
                assert not answer["errors"], answer
        yield running


def test_the_mapping_takes_every_golden_document_and_types_its_fields_as_the_package_says(client: Elasticsearch) -> None:
    found = client.field_caps(index=ALERTS, fields="*", filters="-metadata")["fields"]
    family = {"constant_keyword": "keyword", "wildcard": "keyword", "match_only_text": "text"}
    wanted = {name: family.get(kind, kind) for name, kind in types(PACKAGE.fields("alert")).items()}
    assert {name: kind for name, kind in wanted.items() if kind not in found.get(name, {})} == {}
    grown = {name for name, kinds in found.items() if "object" not in kinds} - set(wanted)
    assert grown <= {"threat.technique.name.text", "threat.technique.subtechnique.name.text"}


def test_what_a_newer_sensor_writes_is_kept_and_not_refused(client: Elasticsearch) -> None:
    newer = renamed(GOLDEN[0])
    newer["packetclip"] = newer["packetclip"] | {"invented": "later", "missions": {"exfiltration": 0.9}}
    made = client.index(index=ALERTS, document=newer, op_type="create", refresh=True)
    try:
        assert client.get(index=made["_index"], id=made["_id"])["_source"]["packetclip"]["invented"] == "later"
        assert client.count(index=ALERTS, query={"exists": {"field": "packetclip.invented"}})["count"] == 0
    finally:
        client.delete(index=made["_index"], id=made["_id"], refresh=True)


def test_a_component_template_of_the_sites_own_makes_vectors_searchable(client: Elasticsearch) -> None:
    """As docs/integration.md prints it, for `packetclip hunt` and `similar`."""
    page = (ROOT / "docs" / "integration.md").read_text(encoding="utf-8")
    _, _, block = page.partition("PUT _component_template/logs-packetclip.alert@custom\n")
    name, stream = f"logs-{NAME}.alert@custom", f"logs-{NAME}.alert-vectors"
    knn = {"field": "packetclip.embedding", "query_vector": GOLDEN[0]["packetclip"]["embedding"], "k": 1, "num_candidates": 10}
    client.cluster.put_component_template(name=name, **json.loads(block.partition("```")[0]))
    client.index(index=stream, document=renamed(GOLDEN[0]), op_type="create", refresh=True)
    assert client.search(index=stream, knn=knn)["hits"]["hits"][0]["_score"] == pytest.approx(1, abs=0.01)
    with pytest.raises(BadRequestError, match="dense_vector"):
        client.search(index=ALERTS, knn=knn)


def kql(query: str) -> Json:
    return {"kql": {"query": query}} if query else {"match_all": {}}


def dashboard_filter(made: Json) -> Json:
    (only,) = json.loads(made["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])["filter"]
    return dict(only["query"])


def metric(column: Json) -> Json:
    """The aggregation of a Lens column that is no bucket, inside a filter where it has one."""
    field = column["sourceField"]
    made: Json
    match column["operationType"]:
        case "count":
            made = {"value_count": {"field": "_index"}}
        case "unique_count":
            made = {"cardinality": {"field": field}}
        case "median":
            made = {"percentiles": {"field": field, "percents": [50], "keyed": False}}
        case "last_value":
            made = {"top_hits": {"size": 1, "sort": [{"@timestamp": "desc"}], "fields": [field], "_source": False}}
        case operation:
            made = {operation: {"field": field}}
    if "filter" in column:
        made = {"filter": kql(column["filter"]["query"]), "aggs": {"of": made}}
    return made


def buckets(column: Json, columns: Json) -> Json:
    """The aggregation of a Lens column that groups."""
    params = column["params"]
    match column["operationType"]:
        case "date_histogram":
            return {"date_histogram": {"field": column["sourceField"], "fixed_interval": "30s"}}
        case "filters":
            return {"filters": {"filters": {each["label"]: kql(each["input"]["query"]) for each in params["filters"]}}}
        case "range":
            ends = [{key: each[key] for key in ("from", "to") if each[key] is not None} for each in params["ranges"]]
            return {"range": {"field": column["sourceField"], "ranges": ends}}
    by = params["orderBy"]["columnId"]
    path = by + (".50" if columns[by]["operationType"] == "median" else "")
    return {"terms": {"field": column["sourceField"], "size": params["size"], "order": {path: params["orderDirection"]}}}


def aggregations(columns: Json) -> Json:
    """A panel's columns as Lens asks them: groups inside each other, each with all metrics, by which it is sorted."""
    metrics = {name: metric(column) for name, column in columns.items() if not column["isBucketed"]}
    made = metrics
    for name, column in reversed([item for item in columns.items() if item[1]["isBucketed"]]):
        made = {name: {**buckets(column, columns), "aggs": metrics | made}}
    return made


def filled(answer: Json) -> Iterator[str]:
    """The columns that have a value in some bucket."""
    for name, value in answer.items():
        if not isinstance(value, dict):
            continue
        found = value.get("of", value)
        groups = found.get("buckets", [])
        for group in groups.values() if isinstance(groups, dict) else groups:
            if group["doc_count"]:
                yield name
                yield from filled(group)
        numbers = [found.get("value"), *(each["value"] for each in found.get("values", []))]
        if any(number is not None for number in numbers) or found.get("hits", {}).get("hits"):
            yield name


@pytest.mark.parametrize("name", PANELS)
def test_a_panel_of_a_dashboard_shows_every_column(client: Elasticsearch, name: str) -> None:
    attributes = PANELS[name]["embeddableConfig"]["attributes"]
    (layer,) = attributes["state"]["datasourceStates"]["formBased"]["layers"].values()
    columns = {key: layer["columns"][key] for key in layer["columnOrder"]}
    (dashboard,) = [made for made in DASHBOARDS if made["id"] == name.partition("/")[0]]
    query = {"bool": {"filter": [dashboard_filter(dashboard), kql(attributes["state"]["query"]["query"])]}}
    answer = client.search(index=ALERTS, size=0, query=query, aggs=aggregations(columns))
    assert answer["hits"]["total"]["value"] == len(list(alerts()))
    assert set(filled(answer["aggregations"])) == set(columns)


@pytest.mark.parametrize("made", PACKAGE.objects("search"), ids=lambda made: made["id"])
def test_a_saved_search_runs_with_its_sort_and_shows_its_columns(client: Elasticsearch, made: Json) -> None:
    attributes = made["attributes"]
    query = json.loads(attributes["kibanaSavedObjectMeta"]["searchSourceJSON"])["query"]["query"]
    index = f"logs-{NAME}.{'flow' if made['id'] == 'packetclip-near-windows' else 'alert'}-default"
    if "flow" in index:
        sample = PACKAGE.json("data_stream/flow/sample_event.json")
        client.index(index=index, document=sample, op_type="create", refresh=True)
    sort = [{field: order} for field, order in attributes["sort"]]
    hits = client.search(index=index, query=kql(query), sort=sort, fields=attributes["columns"], size=100)["hits"]["hits"]
    assert hits
    shown = {column for hit in hits for column in hit["fields"]}
    nested = {column for column in attributes["columns"] if types(PACKAGE.fields("alert")).get(column) == "nested"}
    assert shown | nested == set(attributes["columns"])


def test_the_promotion_finds_each_episode_once(client: Elasticsearch) -> None:
    hits = client.search(index=ALERTS, query=kql(RULES["external alerts"]["query"]), size=100)["hits"]["hits"]
    episodes = [hit["_source"]["packetclip"]["episode"]["id"] for hit in hits]
    assert sorted(episodes) == sorted({each["packetclip"]["episode"]["id"] for each in alerts()})
    assert {hit["_source"]["event"]["kind"] for hit in hits} == {"alert"}


@pytest.mark.parametrize(
    ("name", "stream", "found"),
    [("one source attacks many hosts", ALERTS, {GOLDEN[0]["source"]["ip"]}), ("a sensor is not well", HEALTH, {"sick"})],
    ids=["alerts", "health"],  # the streams' names differ by process
)
def test_a_threshold_rule_finds_who_reaches_it_and_nobody_else(
    client: Elasticsearch, name: str, stream: str, found: set[str]
) -> None:
    """As Elastic Security asks: documents by field, then the number of other values."""
    rule, threshold = RULES[name], RULES[name]["threshold"]
    (field,) = threshold["field"]
    counts = {f"of{n}": {"cardinality": {"field": each["field"]}} for n, each in enumerate(threshold["cardinality"])}
    groups = {"terms": {"field": field, "size": 100, "min_doc_count": threshold["value"]}, "aggs": counts}
    assert rule["index"] == [stream.replace("default", "*")]
    answer = client.search(index=stream, size=0, query=kql(rule["query"]), aggs={"groups": groups})
    wanted = [each["value"] for each in threshold["cardinality"]]
    reached = [
        group["key"]
        for group in answer["aggregations"]["groups"]["buckets"]
        if all(group[f"of{n}"]["value"] >= value for n, value in enumerate(wanted))
    ]
    assert set(reached) == found


@pytest.fixture
def packaged(client: Elasticsearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The dataset whose templates are Fleet's; the sensor's own are files of this name."""
    source, folder = templates.folder(), tmp_path / "templates"
    for path in source.rglob("*.json"):
        copied = folder / path.relative_to(source).with_name(path.name.replace("packetclip.alert", f"{NAME}.alert"))
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_text(path.read_text().replace("packetclip.alert", f"{NAME}.alert"))
    monkeypatch.setattr(templates, "folder", lambda: folder)
    monkeypatch.setattr(streams, "DATASETS", (f"{NAME}.alert",))
    return f"{NAME}.alert"


def test_setup_and_sensor_leave_the_packages_templates_alone_and_say_so(
    client: Elasticsearch, elasticsearch_url: str, packaged: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def state() -> Any:
        found = client.indices.get_index_template(name=f"logs-{NAME}.*").body, client.cluster.get_component_template().body
        return json.dumps([*found, client.indices.get_mapping(index=ALERTS).body])

    before = state()
    with capture_logs() as logs:
        ensure_templates(client, "default", MISSIONS, packaged)
    assert [entry["done"] for entry in logs] == ["left"]
    config = tmp_path / "sensor.yaml"
    config.write_text(f"sink: {{elasticsearch: {{hosts: ['{elasticsearch_url}'], manage_templates: true}}}}\n")
    assert main(["setup", "elasticsearch", "--config", str(config), "--retention", "30d"]) == 0
    out = capsys.readouterr().out
    assert f"logs-{NAME}.alert" in out
    assert "the integration package is installed: templates, pipeline and lifecycle are Fleet's and stay as they are" in out
    assert state() == before


def test_check_calls_the_package_in_order_and_names_fields_that_it_has_not(
    client: Elasticsearch, elasticsearch_url: str, packaged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ElasticsearchConfig(hosts=[elasticsearch_url], manage_templates=True)
    found = list(findings(config, MISSIONS, [packaged]))
    assert (True, f"{ALERTS}: its templates are the integration package's") in found
    ours = templates.mapped(packaged, MISSIONS)
    monkeypatch.setattr(templates, "mapped", lambda *_: {**ours, "packetclip.later": "long"})
    (look,) = [words for mark, words in findings(config, MISSIONS, [packaged]) if mark is None]
    assert f"{ALERTS}: the integration package has no packetclip.later: kept, but not searchable; upload the package" in look
