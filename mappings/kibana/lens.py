"""Lens panels: what a column counts or groups by, and how a panel draws its columns.

Lens aggregates flat fields only, never nested ones. A column's data type is that of its field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise

from objects import Json, Panel, kql, reference


def count(label: str, only: str = "") -> Json:
    """Documents, all or those that `only` (KQL) matches."""
    return _column(label, "number", "count", "___records___", {"emptyAsNull": False}, only)


def unique(label: str, source: str, only: str = "") -> Json:
    """Distinct values of a field."""
    return _column(label, "number", "unique_count", source, {"emptyAsNull": False}, only)


def statistic(label: str, operation: str, source: str, data_type: str = "number") -> Json:
    """`min`, `max` or `median` of a numeric field or a date."""
    return _column(label, data_type, operation, source, {"emptyAsNull": True})


def newest(label: str, source: str, data_type: str = "string") -> Json:
    """The value in the newest document that has one; arrays are shown whole."""
    return _column(label, data_type, "last_value", source, {"showArrayValues": True, "sortField": "@timestamp"}, f"{source}: *")


def terms(label: str, source: str, size: int, data_type: str = "string") -> Json:
    """The `size` values with the highest first metric of the panel that has an order, which a newest value has not."""
    params = {
        "missingBucket": False,
        "orderBy": {"columnId": "", "type": "column"},
        "orderDirection": "desc",
        "otherBucket": False,
        "parentFormat": {"id": "terms"},
        "size": size,
    }
    return _column(label, data_type, "terms", source, params, bucketed=True)


def time_histogram() -> Json:
    params = {"dropPartials": False, "includeEmptyRows": True, "interval": "auto"}
    return _column("Time", "date", "date_histogram", "@timestamp", params, bucketed=True)


def ranges(label: str, source: str, edges: Sequence[float]) -> Json:
    """One bucket between each two neighbouring edges; the last one is open upwards, since `to` is exclusive."""
    made: list[Json] = [{"from": low, "label": f"{low:g} to {high:g}", "to": high} for low, high in pairwise(edges)]
    made[-1]["to"] = None
    params = {"maxBars": "auto", "ranges": made, "type": "range"}
    return _column(label, "string", "range", source, params, bucketed=True)


def filters(label: str, named: Mapping[str, str]) -> Json:
    """One bucket per KQL query."""
    params = {"filters": [{"input": kql(query), "label": name} for name, query in named.items()]}
    column = _column(label, "string", "filters", "", params, bucketed=True)
    del column["sourceField"]
    return column


def _column(
    label: str, data_type: str, operation: str, source: str, params: Json, only: str = "", bucketed: bool = False
) -> Json:
    # The number of a bucketed string or address is no quantity; Lens calls its scale ordinal, a time's interval.
    scale = ("interval" if data_type == "date" else "ordinal") if bucketed or data_type in ("string", "ip") else "ratio"
    column: Json = {
        "customLabel": True,
        "dataType": data_type,
        "isBucketed": bucketed,
        "label": label,
        "operationType": operation,
        "params": params,
        "scale": scale,
        "sourceField": source,
    }
    return column | ({"filter": kql(only)} if only else {})


def lens(
    key: str, title: str, view: str, shape: str, columns: Sequence[Json], look: Json, drilldowns: Sequence[Json] = ()
) -> Panel:
    """A Lens panel by value. `look` is the visualization's own state; "c0", "c1", ... in it name the columns."""
    ids = [f"c{index}" for index in range(len(columns))]
    ordered = [not column["isBucketed"] and column["operationType"] != "last_value" for column in columns]
    metric = ids[ordered.index(True)]
    made = json.loads(json.dumps(dict(zip(ids, columns, strict=True))))
    for column in made.values():
        if column["operationType"] == "terms":
            column["params"]["orderBy"]["columnId"] = metric
    references = [reference(f"indexpattern-datasource-layer-{key}", "index-pattern", view)]
    state = {
        "adHocDataViews": {},
        "datasourceStates": {
            "formBased": {"layers": {key: {"columnOrder": ids, "columns": made, "incompleteColumns": {}, "sampling": 1}}},
            "textBased": {"layers": {}},
        },
        "filters": [],
        "internalReferences": [],
        "query": kql(),
        "visualization": look,
    }
    attributes = {"references": references, "state": state, "title": "", "type": "lens", "visualizationType": shape}
    return Panel(key, title, "lens", {"attributes": attributes}, references, drilldowns)


def metric(key: str, title: str, view: str, column: Json) -> Panel:
    return lens(key, title, view, "lnsMetric", [column], {"layerId": key, "layerType": "data", "metricAccessor": "c0"})


def bars(
    key: str, title: str, view: str, columns: Sequence[Json], kind: str, drilldowns: Sequence[Json] = (), split: bool = False
) -> Panel:
    """Bars or lines. The first column is the axis; with `split` the second colours; the rest are heights."""
    heights = [f"c{index}" for index in range(2 if split else 1, len(columns))]
    layer: Json = {"accessors": heights, "layerId": key, "layerType": "data", "seriesType": kind, "xAccessor": "c0"}
    if split:
        layer["splitAccessor"] = "c1"
    look = {
        "fittingFunction": "None",
        "layers": [layer],
        "legend": {"isVisible": split or len(heights) > 1, "position": "right"},
        "preferredSeriesType": kind,
        "valueLabels": "hide",
    }
    return lens(key, title, view, "lnsXY", columns, look, drilldowns)


def donut(key: str, title: str, view: str, columns: Sequence[Json], drilldowns: Sequence[Json] = ()) -> Panel:
    """The first column cuts, the second is the size."""
    layer = {
        "categoryDisplay": "default",
        "layerId": key,
        "layerType": "data",
        "legendDisplay": "default",
        "metrics": ["c1"],
        "nestedLegend": False,
        "numberDisplay": "value",
        "primaryGroups": ["c0"],
    }
    return lens(key, title, view, "lnsPie", columns, {"layers": [layer], "shape": "donut"}, drilldowns)


def table(key: str, title: str, view: str, columns: Sequence[Json], drilldowns: Sequence[Json] = ()) -> Panel:
    """A row per combination of the bucketed columns, which a click filters by; the others are cells."""
    cells = [
        {"columnId": f"c{i}"} | ({"oneClickFilter": True} if column["isBucketed"] else {}) for i, column in enumerate(columns)
    ]
    look = {"columns": cells, "layerId": key, "layerType": "data", "paging": {"enabled": True, "size": 10}}
    return lens(key, title, view, "lnsDatatable", columns, look, drilldowns)
