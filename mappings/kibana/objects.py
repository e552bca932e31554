"""How Kibana stores what `build.py` names: data view, saved searches, dashboards with Lens panels, controls and drill-downs.

Written in the shapes of Kibana 8.9, which later ones up to 9.x migrate on import; `shapes.json` keeps what was found of them, and
where. Lens panels (`lens.py`) are stored by value, so a dashboard is one object; saved searches, which Discover opens too, by
reference. Nothing depends on time or chance: the same definition makes the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
CORE_VERSION = "8.8.0"
"""`coreMigrationVersion` of every export since Kibana 8.8."""
TYPE_VERSIONS = {"index-pattern": "8.0.0", "search": "8.0.0", "dashboard": "8.9.0"}
"""`typeMigrationVersion`: an importing Kibana migrates upwards from it, and refuses what is newer than itself."""
PANEL_VERSION = "8.9.0"
FILTER = "kibanaSavedObjectMeta.searchSourceJSON.filter[0].meta.index"
"""Name of a reference: the data view of a dashboard's own filter."""


def dumps(value: object) -> str:
    """JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def kql(query: str = "") -> Json:
    return {"language": "kuery", "query": query}


def saved(kind: str, ident: str, attributes: Json, references: Iterable[Json] = ()) -> Json:
    """One saved object, one line of the NDJSON file."""
    return {
        "attributes": attributes,
        "coreMigrationVersion": CORE_VERSION,
        "id": ident,
        "managed": False,
        "references": sorted(references, key=lambda reference: reference["name"]),
        "type": kind,
        "typeMigrationVersion": TYPE_VERSIONS[kind],
    }


def reference(name: str, kind: str, ident: str) -> Json:
    return {"id": ident, "name": name, "type": kind}


def data_view(ident: str, name: str, pattern: str, formats: Mapping[str, Json], labels: Mapping[str, str]) -> Json:
    """A data view over `pattern`, with display formats and labels by field."""
    attributes = {
        "allowNoIndex": True,
        "fieldAttrs": dumps({key: {"customLabel": label} for key, label in labels.items()}),
        "fieldFormatMap": dumps(formats),
        "fields": "[]",
        "name": name,
        "runtimeFieldMap": "{}",
        "sourceFilters": "[]",
        "timeFieldName": "@timestamp",
        "title": pattern,
        "typeMeta": "{}",
    }
    return saved("index-pattern", ident, attributes)


def search(
    ident: str,
    title: str,
    description: str,
    view: str,
    columns: Sequence[str],
    query: str,
    sort: Sequence[tuple[str, str]],
    last: str = "",
) -> Json:
    """A saved search. `last` ("now-5m") pins its time range; without it the range of Discover or of the dashboard counts."""
    source = {
        "filter": [],
        "highlightAll": True,
        "indexRefName": "kibanaSavedObjectMeta.searchSourceJSON.index",
        "query": kql(query),
        "version": True,
    }
    attributes: Json = {
        "columns": list(columns),
        "description": description,
        "grid": {},
        "hideChart": False,
        "isTextBasedQuery": False,
        "kibanaSavedObjectMeta": {"searchSourceJSON": dumps(source)},
        "sort": [list(pair) for pair in sort],
        "timeRestore": bool(last),
        "title": title,
    }
    if last:
        attributes["timeRange"] = {"from": last, "to": "now"}
    return saved("search", ident, attributes, [reference("kibanaSavedObjectMeta.searchSourceJSON.index", "index-pattern", view)])


@dataclass
class Panel:
    """One panel: its configuration, the references of that configuration, and what a click may open."""

    key: str
    title: str
    kind: str
    config: Json
    references: list[Json] = field(default_factory=list)
    drilldowns: Sequence[Json] = ()
    by_reference: str = ""


def markdown(key: str, title: str, text: str) -> Panel:
    vis = {
        "data": {"aggs": [], "searchSource": {"filter": [], "query": kql()}},
        "description": "",
        "params": {"fontSize": 12, "markdown": text, "openLinksInNewTab": False},
        "title": "",
        "type": "markdown",
        "uiState": {},
    }
    return Panel(key, title, "visualization", {"savedVis": vis})


def embedded(key: str, title: str, search_id: str) -> Panel:
    """A saved search by reference."""
    return Panel(key, title, "search", {}, by_reference=search_id)


def to_dashboard(key: str, label: str, dashboard_id: str) -> Json:
    """A click opens a dashboard with the value as filter, the filters and the time range kept."""
    config = {"openInNewTab": False, "useCurrentDateRange": True, "useCurrentFilters": True}
    action = {"config": config, "factoryId": "DASHBOARD_TO_DASHBOARD_DRILLDOWN", "name": label}
    return {"event": {"action": action, "eventId": key, "triggers": ["FILTER_TRIGGER"]}, "dashboard": dashboard_id}


def to_url(key: str, label: str, template: str) -> Json:
    """A click opens an address; the template encodes its values itself."""
    config = {"encodeUrl": False, "openInNewTab": True, "url": {"template": template}}
    action = {"config": config, "factoryId": "URL_DRILLDOWN", "name": label}
    return {"event": {"action": action, "eventId": key, "triggers": ["VALUE_CLICK_TRIGGER"]}, "dashboard": ""}


def control(view: str, label: str, source: str, kind: str = "optionsList") -> Json:
    """A control above the dashboard: a list of values ("optionsList") or, for numbers, a slider ("rangeSlider")."""
    return {"view": view, "label": label, "field": source, "kind": kind}


def dashboard(
    ident: str,
    title: str,
    description: str,
    rows: Sequence[tuple[int, Sequence[tuple[int, Panel]]]],
    only: tuple[str, str, str],
    controls: Sequence[Json] = (),
) -> Json:
    """A dashboard of rows: (height, [(width, panel), ...]), widths adding up to 48.

    Args:
        only: data view, field and value that all panels are filtered by, as integration packages must.
    """
    view, name, value = only
    panels, references, top = [], [reference(FILTER, "index-pattern", view)], 0
    for height, cells in rows:
        left = 0
        for width, panel in cells:
            grid = {"h": height, "i": panel.key, "w": width, "x": left, "y": top}
            made, used = _stored(panel, grid)
            panels.append(made)
            references += used
            left += width
        top += height
    attributes = {
        "description": description,
        "kibanaSavedObjectMeta": {"searchSourceJSON": dumps({"filter": [_phrase(name, value)], "query": kql()})},
        "optionsJSON": dumps(
            {"hidePanelTitles": False, "syncColors": True, "syncCursor": True, "syncTooltips": False, "useMargins": True}
        ),
        "panelsJSON": dumps(panels),
        "timeFrom": "now-24h",
        "timeRestore": True,
        "timeTo": "now",
        "title": title,
        "version": 1,
    }
    if controls:
        attributes["controlGroupInput"], used = _controls(controls)
        references += used
    return saved("dashboard", ident, attributes, references)


def _phrase(name: str, value: str) -> Json:
    """A filter that analysts see above the dashboard: the field has this value."""
    meta = {"disabled": False, "field": name, "indexRefName": FILTER, "key": name, "negate": False, "type": "phrase"}
    query = {"match_phrase": {name: value}}
    return {"$state": {"store": "appState"}, "meta": meta | {"alias": None, "params": {"query": value}}, "query": query}


def _stored(panel: Panel, grid: Json) -> tuple[Json, list[Json]]:
    """A panel as `panelsJSON` has it, and the dashboard's references for it, each under the panel's prefix."""
    config: Json = dict(panel.config) | {"enhancements": {}}
    references = [entry | {"name": f"{panel.key}:{entry['name']}"} for entry in panel.references]
    if panel.drilldowns:
        config["enhancements"] = {"dynamicActions": {"events": [drilldown["event"] for drilldown in panel.drilldowns]}}
    for drilldown in panel.drilldowns:
        if drilldown["dashboard"]:
            name = f"{panel.key}:drilldown:DASHBOARD_TO_DASHBOARD_DRILLDOWN:{drilldown['event']['eventId']}:dashboardId"
            references.append(reference(name, "dashboard", drilldown["dashboard"]))
    made = {
        "embeddableConfig": config,
        "gridData": grid,
        "panelIndex": panel.key,
        "title": panel.title,
        "type": panel.kind,
        "version": PANEL_VERSION,
    }
    if panel.by_reference:
        made["panelRefName"] = f"panel_{panel.key}"
        references.append(reference(f"{panel.key}:panel_{panel.key}", panel.kind, panel.by_reference))
    return made, references


def _controls(controls: Sequence[Json]) -> tuple[Json, list[Json]]:
    panels, references = {}, []
    for order, wanted in enumerate(controls):
        ident = "control-" + wanted["field"].replace(".", "-")
        explicit: Json = {"enhancements": {}, "fieldName": wanted["field"], "id": ident, "title": wanted["label"]}
        if wanted["kind"] == "optionsList":
            explicit["selectedOptions"] = []
        panels[ident] = {
            "explicitInput": explicit,
            "grow": True,
            "order": order,
            "type": f"{wanted['kind']}Control",
            "width": "small",
        }
        references.append(reference(f"controlGroup_{ident}:{wanted['kind']}DataView", "index-pattern", wanted["view"]))
    ignore = {"ignoreFilters": False, "ignoreQuery": False, "ignoreTimerange": False, "ignoreValidations": False}
    group = {
        "chainingSystem": "HIERARCHICAL",
        "controlStyle": "oneLine",
        "ignoreParentSettingsJSON": dumps(ignore),
        "panelsJSON": dumps(panels),
    }
    return group, references
