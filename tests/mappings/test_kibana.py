"""Kibana's saved objects: references resolve, fields exist with a fitting type, shapes are those that Kibana reads."""

from __future__ import annotations

import json
import os
import re
import shutil
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

ROOT = Path(__file__).parents[2]
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


def check_kql(query: str, inside: str = "") -> None:
    """Every field of a KQL query is mapped; fields of nested objects stand in braces behind these, and only they; ranges are over
    what has an order. `inside` is the nested object. Whether the rest is KQL only Kibana knows."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", query)
    for root, within in re.findall(r"([\w.@]+): \{([^}]*)\}", bare):
        assert TYPES[root] == "nested", f"{root} of {query!r}: braces are for nested objects"
        check_kql(within, f"{root}.")
    for field, operator in re.findall(r"([\w.@]+)\s*(<=|>=|[:<>])(?! \{)", re.sub(r"\{[^}]*\}", "{", bare)):
        assert inside + field in TYPES, f"{inside + field} of {query!r} is not mapped"
        assert inside or _is_flat(field), f"{field} of {query!r} is nested"
        assert operator == ":" or TYPES[inside + field] in ("long", "double", "float", "date"), (
            f"{field} of {query!r} has no order"
        )


def discover_query(template: str) -> str:
    """The query in the address of a view of Discover."""
    (query,) = re.findall(r"query:'([^']*)'", unquote(template))
    return str(query)


def _panels(*dashboards: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for made in dashboards or DASHBOARDS:
        yield from ((made, panel) for panel in json.loads(made["attributes"]["panelsJSON"]))


def _layer(panel: dict[str, Any]) -> dict[str, Any]:
    (layer,) = panel["embeddableConfig"]["attributes"]["state"]["datasourceStates"]["formBased"]["layers"].values()
    return dict(layer)


LENS = {f"{made['id']}/{panel['panelIndex']}": panel for made, panel in _panels() if panel["type"] == "lens"}


def _events(panel: dict[str, Any]) -> list[dict[str, Any]]:
    """What a click may open."""
    found: list[dict[str, Any]] = panel["embeddableConfig"]["enhancements"].get("dynamicActions", {}).get("events", [])
    return found


def _references(made: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {reference["name"]: (reference["type"], reference["id"]) for reference in made["references"]}


def _own_filters(made: dict[str, Any]) -> list[dict[str, Any]]:
    """What a dashboard is filtered by from the start."""
    found: list[dict[str, Any]] = json.loads(made["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])["filter"]
    return found


def _columns_named(value: object) -> Iterator[str]:
    """Every "c0", "c1", ... in a visualization's state."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _columns_named(part)
    elif isinstance(value, str) and re.fullmatch(r"c\d+", value):
        yield value


def test_the_file_is_what_the_definition_makes_wherever_the_checkout_lies(tmp_path: Path) -> None:
    shutil.copytree(KIBANA, tmp_path / "kibana")
    for arguments, said in (("--check",), "up to date"), (("--out", tmp_path / "packetclip.ndjson"), "11 saved objects"):
        build = [sys.executable, "-B", tmp_path / "kibana" / "build.py", *arguments]
        done = subprocess.run(build, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True)
        assert said in done.stdout
    assert (tmp_path / "packetclip.ndjson").read_bytes() == (KIBANA / "packetclip.ndjson").read_bytes()


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
def test_an_object_has_the_shape_that_kibana_reads_and_its_references_lead_to_objects_of_the_file(made: dict[str, Any]) -> None:
    shape = SHAPES["types"][made["type"]]
    assert sorted(made) == SHAPES["object"]
    assert made["coreMigrationVersion"] == SHAPES["coreMigrationVersion"]
    assert made["typeMigrationVersion"] in shape["typeMigrationVersions"]
    assert set(shape["required"]) <= set(made["attributes"]) <= set(shape["attributes"])
    assert len(_references(made)) == len(made["references"])
    assert set(_references(made).values()) <= {(other["type"], other["id"]) for other in OBJECTS}
    links = re.findall(r"(?:#/view/|dataViewId:)([\w-]+)", json.dumps(made))
    assert set(links) <= {other["id"] for other in OBJECTS}


def test_every_panel_finds_its_references_and_none_is_left_over() -> None:
    for made in DASHBOARDS:
        expected = {part["meta"]["indexRefName"]: "index-pattern" for part in _own_filters(made)}
        for _, panel in _panels(made):
            prefix = panel["panelIndex"] + ":"
            if "panelRefName" in panel:
                expected[prefix + panel["panelRefName"]] = panel["type"]
            for reference in panel["embeddableConfig"].get("attributes", {}).get("references", []):
                assert _references(made)[prefix + reference["name"]] == (reference["type"], reference["id"])
                expected[prefix + reference["name"]] = "index-pattern"
            for event in _events(panel):
                if event["action"]["factoryId"] == "DASHBOARD_TO_DASHBOARD_DRILLDOWN":
                    name = SHAPES["drilldowns"]["DASHBOARD_TO_DASHBOARD_DRILLDOWN"]["reference"].format(eventId=event["eventId"])
                    expected[prefix + name] = "dashboard"
        for ident, control in json.loads(made["attributes"].get("controlGroupInput", {}).get("panelsJSON", "{}")).items():
            expected[f"controlGroup_{ident}:{SHAPES['controls'][control['type']]['reference']}"] = "index-pattern"
        assert {name: kind for name, (kind, _) in _references(made).items()} == expected


def test_a_dashboard_shows_alerts_alone_by_a_filter_of_its_own() -> None:
    """As integration packages must; a click that leads from one dashboard to the other keeps it."""
    for made in DASHBOARDS:
        (only,) = _own_filters(made)
        assert only["query"] == {"match_phrase": {"data_stream.dataset": "packetclip.alert"}}
        assert _references(made)[only["meta"]["indexRefName"]] == ("index-pattern", "packetclip-alerts")
        assert TYPES[only["meta"]["key"]] == "keyword"


def test_panels_fill_the_grid_without_overlap() -> None:
    for made in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        height = 0
        for _, panel in _panels(made):
            assert set(panel) <= set(SHAPES["panel"]["keys"])
            assert panel["type"] in SHAPES["panel"]["types"]
            grid = panel["gridData"]
            assert grid["i"] == panel["panelIndex"]
            cells = {(x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])}
            assert not cells & taken
            taken |= cells
            height = max(height, grid["y"] + grid["h"])
        assert taken == {(x, y) for x in range(SHAPES["panel"]["columns"]) for y in range(height)}


@pytest.mark.parametrize("name", LENS)
def test_a_lens_panel_aggregates_what_elasticsearch_can(name: str) -> None:
    attributes, shape, columns = LENS[name]["embeddableConfig"]["attributes"], SHAPES["lens"], _layer(LENS[name])["columns"]
    state = attributes["state"]
    assert sorted(attributes) == shape["attributes"]
    assert sorted(state) == shape["state"]
    assert attributes["visualizationType"] in shape["visualizations"]
    assert attributes["references"][0]["name"] == f"indexpattern-datasource-layer-{name.rpartition('/')[2]}"
    assert sorted(_layer(LENS[name])["columnOrder"]) == sorted(columns)
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
            by = columns[column["params"]["orderBy"]["columnId"]]
            assert not by["isBucketed"]
            assert by["operationType"] != "last_value"  # Elasticsearch cannot sort groups by a newest value
        check_kql(column.get("filter", {}).get("query", ""))
        for bucket in column["params"].get("filters", []):
            check_kql(bucket["input"]["query"])


def test_severity_filters_name_each_level_once() -> None:
    """21, 47, 73 and 99 fall into low, medium, high and critical, each into one."""
    (column,) = [c for panel in LENS.values() for c in _layer(panel)["columns"].values() if c["operationType"] == "filters"]
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
    ordered = sorted(controls.values(), key=lambda control: control["order"])
    assert [control["explicitInput"]["fieldName"] for control in ordered] == [
        *("packetclip.mission", "packetclip.class", "event.severity", "source.ip", "destination.ip", "packetclip.concept_names")
    ]
    for ident, control in controls.items():
        assert control["explicitInput"]["id"] == ident
        assert TYPES[control["explicitInput"]["fieldName"]] in SHAPES["controls"][control["type"]]["types"]


def test_drilldowns_have_the_shape_and_the_variables_that_kibana_knows() -> None:
    for _, panel in _panels():
        for event in _events(panel):
            action, shape = event["action"], SHAPES["drilldowns"][event["action"]["factoryId"]]
            assert sorted(action["config"]) == shape["config"]
            assert set(event["triggers"]) <= set(shape["triggers"])
            if action["factoryId"] == "URL_DRILLDOWN":
                variables = re.findall(r"{{(?:encodeURIComponent )?([^}]+)}}", action["config"]["url"]["template"])
                assert set(variables) <= set(shape["variables"])
                # The field of a click must be one that Discover can search: a table's or a pie's, never a time axis.
                assert panel["embeddableConfig"]["attributes"]["visualizationType"] in ("lnsDatatable", "lnsPie")


def test_an_episode_and_a_connection_lead_on_from_the_explorer() -> None:
    """The overview's episodes open the explorer; the explorer's episodes and community ids open Discover, with a query for the
    clicked value: community ids hold /, + and =, which must arrive as they are."""
    ways = {(f"{made['id']}/{panel['panelIndex']}", event["eventId"]) for made, panel in _panels() for event in _events(panel)}
    assert ("packetclip-overview/worst", "to-explorer") in ways
    for way, field in (
        (("packetclip-explorer/alerts", "to-alerts"), "packetclip.episode.id"),
        (("packetclip-explorer/connections", "to-logs"), "network.community_id"),
    ):
        assert way in ways
        assert _layer(LENS[way[0]])["columns"]["c0"]["sourceField"] == field
    (event,) = [event for event in _events(LENS["packetclip-explorer/connections"]) if event["eventId"] == "to-logs"]
    made = event["action"]["config"]["url"]["template"].replace("{{event.key}}", "network.community_id")
    made = made.replace("{{encodeURIComponent event.value}}", "1%3ALQU9qZlK%2BB5F3KDmev6m5PMibrg%3D")
    assert discover_query(made) == 'network.community_id: "1:LQU9qZlK+B5F3KDmev6m5PMibrg="'


def test_formats_and_labels_are_for_mapped_fields() -> None:
    view = OBJECTS[0]["attributes"]
    assert (view["title"], view["timeFieldName"]) == ("logs-packetclip.alert-*", "@timestamp")
    formats = json.loads(view["fieldFormatMap"])
    assert set(formats) | set(json.loads(view["fieldAttrs"])) <= set(TYPES)
    assert {entry["id"] for entry in formats.values()} <= set(SHAPES["formats"])
    for name in ("packetclip.episode.id", "network.community_id", "zeek.session_id"):
        template = formats[name]["params"]["urlTemplate"]
        assert template.startswith("discover#/"), "a leading / would leave the space"
        assert discover_query(template.replace("{{value}}", "x")) == f'{name}: "x"'


@pytest.mark.parametrize(
    "query", ["packetclip.nothing: 1", "packetclip.concepts.weight > 0.1", "packetclip.class > 3", "packetclip.class: { a: 1 }"]
)
def test_kql_over_fields_that_cannot_be_asked_so_is_noticed(query: str) -> None:
    with pytest.raises(AssertionError):
        check_kql(query)


def test_the_docs_name_the_objects_of_an_import_and_queries_that_can_be_asked() -> None:
    page = (ROOT / "docs" / "kibana.md").read_text(encoding="utf-8")
    block = "".join(re.findall(r"```kql\n(.*?)```", page, re.DOTALL))
    assert len(block.splitlines()) == 6
    for query in block.splitlines():
        check_kql(query)
    graphs = json.loads((resource("model/shipped") / "graphs.json").read_text())
    named = set(re.findall(r'concepts: \{ name: "(\w+)"', block))
    assert named
    assert named <= {
        name for graph in graphs for level in graph["levels"] for name in level
    }  # so that the example finds something
    assert f'`"successCount": {len(OBJECTS)}`' in page
    assert len(OBJECTS) == 11  # as the words below say
    assert re.findall(r"(?:the|replaces the) (\w+) objects", page) == ["eleven", "eleven"]


def test_the_search_of_windows_uses_fields_of_windows_alone() -> None:
    (made,) = [made for made in SEARCHES if made["id"] == "packetclip-near-windows"]
    mapped = templates.mapped("packetclip.flow", MISSIONS)
    assert set(made["attributes"]["columns"]) <= set(mapped)
    assert mapped["packetclip.near"] == "boolean"
    assert made["references"][0]["id"] == "packetclip-windows"
