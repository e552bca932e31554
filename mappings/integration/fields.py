"""Field definitions of the integration package: names and types from component templates, meanings from mappings/fields.yaml.

ECS fields name ECS (`external: ecs`), as the public repository of integrations wants them. A package that Kibana takes has
their types instead: `elastic-package build` fills them in there, `resolved` does it here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packetclip_sensor.common.metrics import Counters, meanings
from packetclip_sensor.common.missions import Missions
from packetclip_sensor.elastic import templates
from packetclip_sensor.elastic.streams import ALERTS
from packetclip_sensor.sinks.documents import ECS_VERSION

Json = dict[str, Any]
_ECS_FILE = Path(__file__).parents[1] / "ecs" / f"ecs-{ECS_VERSION}.json"
ECS: dict[str, Json] = json.loads(_ECS_FILE.read_text(encoding="utf-8"))["fields"]
CONSTANT = ("data_stream.type", "data_stream.dataset", "data_stream.namespace")
UNITS = {"bytes": "byte", "s": "s", "ms": "ms", "ns": "nanos"}
ADDED = {"error.message": "why the ingest pipeline failed", "event.ingested": "when Elasticsearch took the document"}
"""ECS fields that the package's pipeline writes, besides those of the documents."""
OF_THE_AGENT = {"input.type": ("keyword", "kind of input"), "log.offset": ("long", "where in the file the line begins")}
"""What Elastic Agent adds to an alert that it reads from a file, and ECS has not."""


def of_stream(dataset: str, missions: Missions, described: Mapping[str, Json]) -> dict[str, list[Json]]:
    """The files of a data stream's folder `fields`, each a list of definitions.

    Args:
        described: meaning, unit and example of each field, from mappings/fields.yaml.
    """
    properties = templates.mapping(dataset, missions)["properties"]
    names = [name for name, _ in templates.fields(properties)]
    base: list[Json] = [
        {"name": name, "type": "constant_keyword", "description": described[name]["meaning"].replace(ALERTS, dataset)}
        for name in CONSTANT
    ]
    base.append({"name": "@timestamp", "type": "date", "description": described["@timestamp"]["meaning"]})
    ecs = sorted({name for name in names if name in ECS} | set(ADDED))
    files = {
        "base-fields": base,
        "ecs": [{"name": name, "external": "ecs"} for name in ecs if name not in (*CONSTANT, "@timestamp")],
        "fields": list(_tree(properties, described)),
    }
    if dataset == ALERTS:
        files["agent"] = [{"name": name, "type": kind, "description": words} for name, (kind, words) in OF_THE_AGENT.items()]
    return files


def _tree(properties: Mapping[str, Json], described: Mapping[str, Json], prefix: str = "") -> Iterator[Json]:
    """Definitions of the fields that ECS has not, groups within groups as in the mapping."""
    for name, mapping in properties.items():
        path = prefix + name
        if path == "packetclip.health.totals":
            totals = [{"name": key, "type": "long", "description": words} for key, words in meanings(Counters).items()]
            yield {"name": name, "type": "group", "fields": totals}
        elif mapping.get("type", "object") == "object":
            if fields := list(_tree(mapping["properties"], described, f"{path}.")):
                # A newer sensor's or another model's field is kept and not indexed. `strict`, as in our own templates, would
                # refuse its documents until somebody uploads a newer package.
                yield {"name": name, "type": "group", **({"dynamic": False} if path == "packetclip" else {}), "fields": fields}
        elif mapping["type"] == "nested":
            fields = list(_tree(mapping["properties"], described, f"{path}."))
            yield {"name": name, "type": "nested", "description": described[path]["meaning"], "fields": fields}
        elif path not in ECS:
            yield {"name": name, **_leaf(path, mapping, described)}


def _leaf(path: str, mapping: Json, described: Mapping[str, Json]) -> Json:
    about = described.get(path, {})
    made: Json = {"type": mapping["type"], "description": about.get("meaning", path)}
    if mapping["type"] == "dense_vector":
        # Packages cannot have vectors. The numbers stay in the document; docs/kibana.md says how to index them for a search.
        return made | {"type": "float", "index": False, "doc_values": False}
    if unit := UNITS.get(about.get("unit", "")):
        made["unit"] = unit
    return made | {key: mapping[key] for key in ("index", "doc_values", "ignore_malformed") if key in mapping}


def resolved(definition: Json, described: Mapping[str, Json]) -> Json:
    """A definition with ECS's type in place of its name."""
    if "external" not in definition:
        return definition
    name = definition["name"]
    ecs = ECS[name]
    words = described[name]["meaning"] if name in described else ADDED[name]
    made: Json = {"name": name, "type": ecs["type"], "description": words}
    made |= {key: ecs[key] for key in ("ignore_above", "scaling_factor") if key in ecs}
    if "multi_fields" in ecs:
        made["multi_fields"] = [{"name": key, "type": kind} for key, kind in ecs["multi_fields"].items()]
    return made


def table(files: Mapping[str, list[Json]], described: Mapping[str, Json]) -> str:
    """A Markdown table of a data stream's fields."""
    rows = sorted(row for definitions in files.values() for each in definitions for row in _rows(resolved(each, described)))
    return "\n".join(["| Field | Type | Meaning |", "| --- | --- | --- |", *rows]) + "\n"


def _rows(definition: Json, prefix: str = "") -> Iterator[str]:
    name = prefix + definition["name"]
    if definition["type"] != "group":
        yield f"| {name} | {definition['type']} | {definition['description'].replace('|', chr(92) + '|')} |"
    for each in definition.get("fields", []):
        yield from _rows(each, f"{name}.")
