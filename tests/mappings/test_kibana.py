"""Kibana's saved objects: references resolve, fields exist with a fitting type, shapes are those that Kibana reads."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from factories import MISSIONS

from packetclip_sensor.common.resources import resource
from packetclip_sensor.elastic import templates

KIBANA = resource("mappings") / "kibana"
SHAPES = json.loads((KIBANA / "shapes.json").read_text())
OBJECTS = [json.loads(line) for line in (KIBANA / "packetclip.ndjson").read_text(encoding="utf-8").splitlines()]
DASHBOARDS = [made for made in OBJECTS if made["type"] == "dashboard"]
SEARCHES = [made for made in OBJECTS if made["type"] == "search"]


def _types() -> dict[str, str]:
    """Field name to Elasticsearch type, from the component templates; nested objects have type "nested"."""
    found: dict[str, str] = {}

    def walk(properties: dict[str, Any], prefix: str) -> None:
        for name, mapping in properties.items():
            if "type" in mapping:
                unsearchable = mapping.get("index") is False or mapping.get("doc_values") is False
                found[prefix + name] = "unsearchable" if unsearchable else mapping["type"]
            walk(mapping.get("properties", {}), f"{prefix}{name}.")

    for part in ("flow@packetclip", "alert@ecs", "alert@packetclip"):
        path = resource("mappings") / "elasticsearch" / "component" / f"logs-packetclip.{part}.json"
        walk(templates.of_model(json.loads(path.read_text()), MISSIONS)["template"]["mappings"]["properties"], "")
    return found


TYPES = _types()
NESTED = {name for name, kind in TYPES.items() if kind == "nested"}


def _is_flat(field: str) -> bool:
    return field in TYPES and not any(field == root or field.startswith(root + ".") for root in NESTED)


def parse_kql(query: str) -> list[tuple[str, str]]:
    """(field, operator) of every clause of a KQL query, fields in braces with their nested root; ValueError where it is no KQL.

    The part of the language that the objects use: and, or, not, groups, values, lists of values, ranges, nested groups.
    Source: elastic.co/docs/reference/query-languages/kql.
    """
    token = re.compile(r'\s*(<=|>=|[:<>(){}]|"(?:[^"\\]|\\.)*"|[^\s:<>(){}"]+)')
    tokens: list[str] = []
    position = 0
    while position < len(query.rstrip()):
        match = token.match(query, position)
        if not match:
            raise ValueError(f"no KQL at {query[position:]!r}")
        tokens.append(match[1])
        position = match.end()
    found: list[tuple[str, str]] = []

    def take(*wanted: str) -> str:
        if not tokens or (wanted and tokens[0] not in wanted):
            raise ValueError(f"{wanted or 'more'} expected before {tokens} in {query!r}")
        return tokens.pop(0)

    def value() -> None:
        if take() in (*":<>(){}", "<=", ">=", "and", "or", "not"):
            raise ValueError(f"value expected in {query!r}")

    def clauses(prefix: str, end: str) -> None:
        while True:
            if tokens[:1] == ["not"]:
                take()
            if tokens[:1] == ["("]:
                take()
                clauses(prefix, ")")
                take(")")
            else:
                clause(prefix)
            if not tokens or tokens[0] == end:
                return
            take("and", "or")

    def clause(prefix: str) -> None:
        field = prefix + take()
        operator = take(":", "<", ">", "<=", ">=")
        if operator == ":" and tokens[:1] == ["{"]:
            take()
            found.append((field, "{"))
            clauses(field + ".", "}")
            take("}")
            return
        found.append((field, operator))
        if operator == ":" and tokens[:1] == ["("]:
            take()
            value()
            while take("or", "and", ")") != ")":
                value()
        else:
            value()

    if tokens:
        clauses("", "")
    return found


def check_kql(query: str) -> None:
    """Every field of `query` is mapped; ranges are over numbers and dates; nested fields stand in braces, and only they."""
    for field, operator in parse_kql(query):
        root = next((root for root in NESTED if field.startswith(root + ".")), None)
        assert field in TYPES, f"{field} of {query!r} is not mapped"
        assert (operator == "{") == (TYPES[field] == "nested"), f"{field} of {query!r}: braces are for nested objects"
        assert root is None or f"{root}: {{" in query, f"{field} of {query!r} is nested"
        if operator in ("<", ">", "<=", ">="):
            assert TYPES[field] in ("long", "double", "float", "date"), f"{field} of {query!r} has no order"


def _panels() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for made in DASHBOARDS:
        for panel in json.loads(made["attributes"]["panelsJSON"]):
            yield made, panel


def _lens() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(name, attributes, layer) of every Lens panel."""
    for made, panel in _panels():
        if panel["type"] == "lens":
            attributes = panel["embeddableConfig"]["attributes"]
            (layer,) = attributes["state"]["datasourceStates"]["formBased"]["layers"].values()
            yield f"{made['id']}/{panel['panelIndex']}", attributes, layer


def _drilldowns() -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    for made, panel in _panels():
        events = panel["embeddableConfig"]["enhancements"].get("dynamicActions", {}).get("events", [])
        yield from ((made, panel, event) for event in events)


def _references(made: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {reference["name"]: (reference["type"], reference["id"]) for reference in made["references"]}


def _columns_named(value: object) -> Iterator[str]:
    """Every "c0", "c1", ... in a visualization's state."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _columns_named(part)
    elif isinstance(value, str) and re.fullmatch(r"c\d+", value):
        yield value


def test_the_file_is_what_the_definition_makes() -> None:
    done = subprocess.run([sys.executable, "-B", KIBANA / "build.py", "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "packetclip.ndjson is up to date\n")


def test_it_holds_three_views_six_searches_and_two_dashboards() -> None:
    assert [(made["type"], made["id"]) for made in OBJECTS] == [
        ("index-pattern", "packetclip-alerts"),
        ("index-pattern", "packetclip-windows"),
        ("index-pattern", "packetclip-all-logs"),
        ("search", "packetclip-open-episodes"),
        ("search", "packetclip-by-episode"),
        ("search", "packetclip-high-severity"),
        ("search", "packetclip-low-probability"),
        ("search", "packetclip-strong-concept"),
        ("search", "packetclip-near-windows"),
        ("dashboard", "packetclip-explorer"),
        ("dashboard", "packetclip-overview"),
    ]


@pytest.mark.parametrize("made", OBJECTS, ids=lambda made: made["id"])
def test_an_object_has_the_shape_that_kibana_reads(made: dict[str, Any]) -> None:
    shape = SHAPES["types"][made["type"]]
    assert sorted(made) == SHAPES["object"]
    assert made["coreMigrationVersion"] == SHAPES["coreMigrationVersion"]
    assert made["typeMigrationVersion"] in shape["typeMigrationVersions"]
    assert set(made["attributes"]) <= set(shape["attributes"])
    assert set(shape["required"]) <= set(made["attributes"])


@pytest.mark.parametrize("made", OBJECTS, ids=lambda made: made["id"])
def test_every_reference_leads_to_an_object_of_the_file(made: dict[str, Any]) -> None:
    known = {(other["type"], other["id"]) for other in OBJECTS}
    names = [reference["name"] for reference in made["references"]]
    assert len(names) == len(set(names))
    assert set(_references(made).values()) <= known
    links = re.findall(r"#/view/([\w-]+)", json.dumps(made)) + re.findall(r"dataViewId:([\w-]+)", json.dumps(made))
    assert set(links) <= {other["id"] for other in OBJECTS}


def test_every_panel_finds_its_references_and_none_is_left_over() -> None:
    for made in DASHBOARDS:
        expected = {}
        for owner, panel in _panels():
            if owner is not made:
                continue
            prefix = panel["panelIndex"] + ":"
            if "panelRefName" in panel:
                expected[prefix + panel["panelRefName"]] = panel["type"]
            for reference in panel["embeddableConfig"].get("attributes", {}).get("references", []):
                assert _references(made)[prefix + reference["name"]] == (reference["type"], reference["id"])
                expected[prefix + reference["name"]] = "index-pattern"
            for event in panel["embeddableConfig"]["enhancements"].get("dynamicActions", {}).get("events", []):
                if event["action"]["factoryId"] == "DASHBOARD_TO_DASHBOARD_DRILLDOWN":
                    name = SHAPES["drilldowns"]["DASHBOARD_TO_DASHBOARD_DRILLDOWN"]["reference"].format(eventId=event["eventId"])
                    expected[prefix + name] = "dashboard"
        for ident, control in json.loads(made["attributes"].get("controlGroupInput", {}).get("panelsJSON", "{}")).items():
            expected[f"controlGroup_{ident}:{SHAPES['controls'][control['type']]['reference']}"] = "index-pattern"
        assert {name: kind for name, (kind, _) in _references(made).items()} == expected


def test_panels_fill_the_grid_without_overlap() -> None:
    for made in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        height = 0
        for owner, panel in _panels():
            if owner is made:
                assert set(panel) <= set(SHAPES["panel"]["keys"])
                assert panel["type"] in SHAPES["panel"]["types"]
                grid = panel["gridData"]
                assert grid["i"] == panel["panelIndex"]
                cells = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
                assert not cells & taken
                taken |= cells
                height = max(height, grid["y"] + grid["h"])
        assert taken == {(x, y) for x in range(SHAPES["panel"]["columns"]) for y in range(height)}


@pytest.mark.parametrize(
    ("name", "attributes", "layer"), list(_lens()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_lens_panel_aggregates_what_elasticsearch_can(name: str, attributes: dict[str, Any], layer: dict[str, Any]) -> None:
    shape, columns, state = SHAPES["lens"], layer["columns"], attributes["state"]
    assert sorted(attributes) == shape["attributes"]
    assert sorted(state) == shape["state"]
    assert attributes["visualizationType"] in shape["visualizations"]
    assert attributes["references"][0]["name"] == f"indexpattern-datasource-layer-{name.rpartition('/')[2]}"
    assert sorted(layer["columnOrder"]) == sorted(columns)
    assert set(_columns_named(state["visualization"])) == set(columns)
    for series in state["visualization"].get("layers", []):
        assert series.get("seriesType", "bar") in shape["series"]
    for column in columns.values():
        operation, field = shape["operations"][column["operationType"]], column.get("sourceField", "")
        assert column["isBucketed"] == operation["bucketed"]
        if operation["types"]:
            assert _is_flat(field), f"{field} is not mapped, or nested"
            assert TYPES[field] in operation["types"]
            wanted = "string" if column["operationType"] == "range" else shape["dataTypes"][TYPES[field]]
            assert column["operationType"] == "unique_count" or column["dataType"] == wanted
        if column["operationType"] == "terms":
            assert not columns[column["params"]["orderBy"]["columnId"]]["isBucketed"]
        check_kql(column.get("filter", {}).get("query", ""))
        for bucket in column["params"].get("filters", []):
            check_kql(bucket["input"]["query"])


def test_severity_filters_name_each_level_once() -> None:
    """21, 47, 73 and 99 fall into low, medium, high and critical, each into one."""
    (column,) = [c for _, _, layer in _lens() for c in layer["columns"].values() if c["operationType"] == "filters"]
    python = {
        bucket["label"]: re.sub(r"event\.severity", "severity", bucket["input"]["query"])
        for bucket in column["params"]["filters"]
    }
    hits = {value: [label for label, test in python.items() if eval(test, {"severity": value})] for value in (21, 47, 73, 99)}
    assert hits == {21: ["low"], 47: ["medium"], 73: ["high"], 99: ["critical"]}


@pytest.mark.parametrize("made", SEARCHES, ids=lambda made: made["id"])
def test_a_saved_search_shows_and_sorts_by_mapped_fields(made: dict[str, Any]) -> None:
    attributes = made["attributes"]
    source = json.loads(attributes["kibanaSavedObjectMeta"]["searchSourceJSON"])
    assert source["indexRefName"] in _references(made)
    assert set(attributes["columns"]) <= set(TYPES)
    for field, direction in attributes["sort"]:
        assert _is_flat(field)
        assert TYPES[field] in SHAPES["lens"]["dataTypes"]
        assert direction in ("asc", "desc")
    check_kql(source["query"]["query"])


def test_controls_offer_fields_that_have_values_to_list_or_a_range() -> None:
    (explorer,) = [made for made in DASHBOARDS if "controlGroupInput" in made["attributes"]]
    group = explorer["attributes"]["controlGroupInput"]
    assert set(group) <= set(SHAPES["controlGroupInput"])
    controls = json.loads(group["panelsJSON"])
    fields = [
        controls[ident]["explicitInput"]["fieldName"] for ident in sorted(controls, key=lambda ident: controls[ident]["order"])
    ]
    assert fields == [
        "packetclip.mission",
        "packetclip.class",
        "event.severity",
        "source.ip",
        "destination.ip",
        "packetclip.concept_names",
    ]
    for ident, control in controls.items():
        assert control["explicitInput"]["id"] == ident
        assert TYPES[control["explicitInput"]["fieldName"]] in SHAPES["controls"][control["type"]]["types"]


def test_drilldowns_have_the_shape_and_the_variables_that_kibana_knows() -> None:
    for _, panel, event in _drilldowns():
        action = event["action"]
        shape = SHAPES["drilldowns"][action["factoryId"]]
        assert sorted(action["config"]) == shape["config"]
        assert set(event["triggers"]) <= set(shape["triggers"])
        if action["factoryId"] == "URL_DRILLDOWN":
            variables = re.findall(r"{{(?:encodeURIComponent )?([^}]+)}}", action["config"]["url"]["template"])
            assert set(variables) <= set(shape["variables"])
            # The field of a click must be one that Discover can search: a table's or a pie's, never a time axis.
            assert panel["embeddableConfig"]["attributes"]["visualizationType"] in ("lnsDatatable", "lnsPie")


def test_an_episode_and_a_connection_lead_on_from_the_explorer() -> None:
    """The overview's episodes open the explorer; the explorer's episodes and community ids open Discover."""
    ways = {(made["id"], panel["panelIndex"], event["eventId"]) for made, panel, event in _drilldowns()}
    assert {
        ("packetclip-overview", "worst", "to-explorer"),
        ("packetclip-explorer", "alerts", "to-alerts"),
        ("packetclip-explorer", "connections", "to-logs"),
    } <= ways
    layers = {name: layer for name, _, layer in _lens()}
    first = {
        name: layers[name]["columns"]["c0"]["sourceField"]
        for name in ("packetclip-explorer/alerts", "packetclip-explorer/connections")
    }
    assert first == {
        "packetclip-explorer/alerts": "packetclip.episode.id",
        "packetclip-explorer/connections": "network.community_id",
    }


def test_a_clicked_value_becomes_a_query_that_discover_reads() -> None:
    """Community ids hold /, + and =, which must arrive as they are."""
    (template,) = {event["action"]["config"]["url"]["template"] for _, _, event in _drilldowns() if event["eventId"] == "to-logs"}
    made = template.replace("{{event.key}}", "network.community_id")
    made = made.replace("{{encodeURIComponent event.value}}", "1%3ALQU9qZlK%2BB5F3KDmev6m5PMibrg%3D")
    query = re.search(r"query:'([^']*)'", unquote(made))
    assert query is not None
    assert query[1] == 'network.community_id: "1:LQU9qZlK+B5F3KDmev6m5PMibrg="'
    check_kql(query[1])


def test_formats_and_labels_are_for_mapped_fields() -> None:
    view = OBJECTS[0]["attributes"]
    assert (view["title"], view["timeFieldName"]) == ("logs-packetclip.alert-*", "@timestamp")
    formats = json.loads(view["fieldFormatMap"])
    assert set(formats) | set(json.loads(view["fieldAttrs"])) <= set(TYPES)
    assert {entry["id"] for entry in formats.values()} <= set(SHAPES["formats"])
    for name in ("packetclip.episode.id", "network.community_id", "zeek.session_id"):
        template = formats[name]["params"]["urlTemplate"]
        assert template.startswith("discover#/"), "a leading / would leave the space"
        query = re.search(r"query:'([^']*)'", unquote(template.replace("{{value}}", "x")))
        assert query is not None
        assert query[1] == f'{name}: "x"'


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", []),
        ('packetclip.episode.state: ("open" or "update")', [("packetclip.episode.state", ":")]),
        ("event.severity >= 73 and not (a: 1 or b: *)", [("event.severity", ">="), ("a", ":"), ("b", ":")]),
        (
            'p.concepts: { name: "f" and weight > 0.1 }',
            [("p.concepts", "{"), ("p.concepts.name", ":"), ("p.concepts.weight", ">")],
        ),
    ],
)
def test_kql_names_its_fields(query: str, found: list[tuple[str, str]]) -> None:
    assert parse_kql(query) == found


@pytest.mark.parametrize("query", ["a:", "a: 1 and", "a: (1 or", "a: { b: 1", "a == 1", 'a: "x', "a: 1 b: 2"])
def test_broken_kql_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match=r"KQL|expected"):
        parse_kql(query)


@pytest.mark.parametrize(
    "query", ["packetclip.nothing: 1", "packetclip.concepts.weight > 0.1", "packetclip.class > 3", "packetclip.class: { a: 1 }"]
)
def test_kql_over_fields_that_cannot_be_asked_so_is_noticed(query: str) -> None:
    with pytest.raises(AssertionError):
        check_kql(query)


def test_nothing_depends_on_the_place_of_the_checkout(tmp_path: Path) -> None:
    """A copy elsewhere makes the same bytes."""
    for source in KIBANA.glob("*.py"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    subprocess.run([sys.executable, "-B", tmp_path / "build.py"], check=True, capture_output=True)
    assert (tmp_path / "packetclip.ndjson").read_bytes() == (KIBANA / "packetclip.ndjson").read_bytes()


def test_queries_of_the_docs_can_be_asked() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "kibana.md"
    (block,) = re.findall(r"```kql\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    queries = block.splitlines()
    assert len(queries) == 5
    for query in queries:
        check_kql(query)
    graphs = json.loads((resource("model/shipped") / "graphs.json").read_text())
    concepts = {name for graph in graphs for level in graph["levels"] for name in level}
    named = re.findall(r'concepts: \{ name: "(\w+)"', block)
    assert named
    assert set(named) <= concepts  # of the shipped model, so that the example finds something


def test_the_docs_say_how_many_objects_an_import_brings() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "kibana.md"
    text = page.read_text(encoding="utf-8")
    assert f'`"successCount": {len(OBJECTS)}`' in text
    assert len(OBJECTS) == 11  # as the words below say
    assert re.findall(r"(?:the|replaces the) (\w+) objects", text) == ["eleven", "eleven"]


def test_the_search_of_windows_uses_fields_of_windows_alone() -> None:
    (made,) = [made for made in SEARCHES if made["id"] == "packetclip-near-windows"]
    mapped = templates.mapped("packetclip.flow", MISSIONS)
    assert set(made["attributes"]["columns"]) <= set(mapped)
    assert mapped["packetclip.near"] == "boolean"
    assert made["references"][0]["id"] == "packetclip-windows"
