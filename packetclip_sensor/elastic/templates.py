"""Puts the templates of `mappings/elasticsearch/` into the cluster and refuses one whose mapping would not take our documents.

Templates come before the first document: a data stream made without them guesses types that cannot be changed later. A data
stream is known by its dataset: its index template is `index/logs-DATASET.json`, with those components of its `composed_of` that
have a file in `component/`. A site's own settings belong into the component template `logs-DATASET@custom`, never touched here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import structlog
from elasticsearch import Elasticsearch

from packetclip_sensor.common.missions import NO_MISSIONS, Missions
from packetclip_sensor.common.resources import resource
from packetclip_sensor.elastic.client import form, get
from packetclip_sensor.elastic.plan import Step, Thing
from packetclip_sensor.elastic.streams import ALERTS, stream_name
from packetclip_sensor.errors import SinkError

log = structlog.get_logger()
FLEET = "fleet"
"""`_meta.managed_by` of what Kibana's Fleet puts for an integration package, in templates and in the mappings made from them."""


def folder() -> Path:
    """Where the templates lie."""
    return resource("mappings") / "elasticsearch"


def read(kind: str, name: str) -> dict[str, Any]:
    """The file of one template, pipeline or role."""
    body: dict[str, Any] = json.loads((folder() / kind / f"{name}.json").read_text(encoding="utf-8"))
    return body


def components(dataset: str = ALERTS, missions: Missions = NO_MISSIONS) -> dict[str, dict[str, Any]]:
    """A dataset's component templates by their name in the cluster: the files, with the fields of the model's missions."""
    names = read("index", f"logs-{dataset}")["composed_of"]
    files = [name for name in names if (folder() / "component" / f"{name}.json").is_file()]
    return {name: of_model(read("component", name), missions) for name in files}


def of_model(template: dict[str, Any], missions: Missions) -> dict[str, Any]:
    """A component template with the fields of a model's missions and classes, which its file does not have."""
    graphs = [mission.id for mission in missions]
    ids = {"missions": missions.ids.values(), "graphs": graphs, "class_probabilities": missions.class_ids.values()}
    for name, properties in _by_model(template):
        properties.update({each: {"type": "double"} for each in ids[name]})
    return template


def _by_model(template: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and fields of each object of a component template whose fields are the model's missions or classes."""
    properties = template["template"].get("mappings", {}).get("properties", {}).get("packetclip", {}).get("properties", {})
    for name in ("missions", "graphs", "class_probabilities"):
        if name in properties:
            yield name, properties[name].setdefault("properties", {})


def _with_other_models(ours: Mapping[str, Any], there: Mapping[str, Any]) -> Mapping[str, Any]:
    """A component template with the missions and classes that the cluster's has besides ours: a sensor with another model may
    write there too."""
    theirs = dict(_by_model(deepcopy(dict(there))))
    joined = deepcopy(dict(ours))
    for name, properties in _by_model(joined):
        properties.update(theirs.get(name, {}) | properties)
    return joined


def templates(dataset: str, missions: Missions = NO_MISSIONS) -> list[Thing]:
    """A dataset's component templates and index template, in the order that Elasticsearch needs."""
    index = f"logs-{dataset}"
    parts = components(dataset, missions).items()
    made = [Thing("component template", name, body, join=_with_other_models) for name, body in parts]
    return [*made, Thing("index template", index, read("index", index))]


def fields(properties: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every field of a mapping with its type, nested and plain objects opened: ("packetclip.mission", "keyword")."""
    for name, mapping in properties.items():
        if mapping.get("type") not in (None, "object"):
            yield prefix + name, mapping["type"]
        yield from fields(mapping.get("properties", {}), f"{prefix}{name}.")


def mapping(dataset: str = ALERTS, missions: Missions = NO_MISSIONS) -> dict[str, Any]:
    """`_meta` and `properties` of a dataset's components, merged as Elasticsearch does."""
    return _merged(part["template"].get("mappings", {}) for part in components(dataset, missions).values())


def mapped(dataset: str, missions: Missions, client: Elasticsearch | None = None) -> dict[str, str]:
    """Every field of a dataset with its type, or with that which it has in a client's cluster."""
    properties = mapping(dataset, missions)["properties"]
    return dict(fields(form(client, properties) if client else properties))


def version_of(mappings: Mapping[str, Any]) -> int:
    """Our version in a mapping's `_meta`, by which a stream's index tells what it was made with; 0 where it is not ours."""
    return int(mappings.get("_meta", {}).get("packetclip", {}).get("version") or 0)


def ensure_templates(client: Elasticsearch, namespace: str, missions: Missions, *datasets: str) -> None:
    """Put templates where they are missing or older, and bring an existing data stream up to date: the sensor's start.

    Idempotent, and safe with several sensors: a newer sensor's templates are left as they are.

    Args:
        namespace: last part of the data streams' names.
        missions: those of the model.
        datasets: those that will be written; alerts where none is named.
    Raises:
        SinkError: another template takes the data stream's name, the mapping that comes out has other types than ours, or the
            existing data stream cannot take our documents.
        elasticsearch.ApiError, elasticsearch.TransportError: the cluster is not well or not there, or refuses these credentials.
    """
    for dataset in datasets or (ALERTS,):
        if left := of_package(client, dataset):
            log.info("elasticsearch_set_up", done=left.mark, kind=left.kind, name=left.name, words=left.words)
            continue
        _take(client, [thing.put(client) for thing in templates(dataset, missions)])
        check_outcome(client, dataset, namespace, missions)
        _take(client, plan_streams(client, dataset, namespace, missions))


def of_package(client: Elasticsearch, dataset: str) -> Step | None:
    """Why there is nothing to put for a dataset: our integration package is installed, and Fleet manages its index template."""
    index = Thing("index template", f"logs-{dataset}", {})
    found = index.found(client) or {}
    if found.get("_meta", {}).get("managed_by") != FLEET:
        return None
    words = "the integration package is installed: templates, pipeline and lifecycle are Fleet's and stay as they are"
    return Step("left", index.kind, index.name, words)


def _take(client: Elasticsearch, steps: Iterable[Step]) -> None:
    for step in steps:
        step.take(client)
        if step.method:
            log.info("elasticsearch_set_up", done=step.mark, kind=step.kind, name=step.name, words=step.words)


def check_outcome(client: Elasticsearch, dataset: str, namespace: str, missions: Missions) -> None:
    """Look at the mapping that a new index of the stream would get, after all templates.

    Raises:
        SinkError: it is neither ours nor that of our integration package.
    """
    stream, template = stream_name(namespace, dataset), f"logs-{dataset}"
    simulated = client.indices.simulate_index_template(name=stream)
    outcome = simulated["template"].get("mappings", {})
    lost = template in [each["name"] for each in simulated["overlapping"]]
    if not lost and outcome.get("_meta", {}).get("managed_by") == FLEET:
        return
    if lost or not version_of(outcome):
        raise SinkError(
            f"{stream}: another index template of higher priority takes this name; lower its priority below that of {template}, "
            "or narrow its patterns"
        )
    got = dict(fields(outcome.get("properties", {})))
    wanted = mapped(dataset, missions, client)
    wrong = [f"{name} is {got.get(name)}, not {kind}" for name, kind in wanted.items() if got.get(name) != kind]
    if wrong and version_of(outcome) <= version_of(mapping(dataset)):
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise SinkError(
            f"{stream}: {'; '.join(wrong[:3])}{more}; take these fields out of the component template {template}@custom"
        )


def refuse_rivals(client: Elasticsearch, dataset: str, namespace: str) -> None:
    """Look before anything is put for another's index template that takes the stream's name.

    Raises:
        SinkError: there is one of our priority or above.
    """
    stream, ours = stream_name(namespace, dataset), f"logs-{dataset}"
    priority = read("index", ours)["priority"]
    for each in get(client, "/_index_template").get("index_templates", []):
        theirs = each["index_template"]
        matches = any(fnmatchcase(stream, pattern) for pattern in theirs["index_patterns"])
        if matches and each["name"] != ours and theirs.get("priority", 0) >= priority:
            raise SinkError(
                f"{stream}: index template {each['name']} takes this name with priority {theirs['priority']}, ours has "
                f"{priority}; nothing was changed; lower its priority or narrow its patterns"
            )


def plan_streams(client: Elasticsearch, dataset: str, namespace: str, missions: Missions, *, others: bool = False) -> list[Step]:
    """What is to be done with existing data streams: more fields for the write index, or a new one where a type changed.

    Args:
        others: look at the streams of other namespaces as well. What is wrong with them is reported and stops nothing.
    Raises:
        SinkError: a plain index or alias has this namespace's name, or the stream's fields would not take our documents.
    """
    own = stream_name(namespace, dataset)
    found = client.indices.resolve_index(name=stream_name("*", dataset))
    if any(each["name"] == own for each in found["indices"] + found["aliases"]):
        raise SinkError(
            f"{own}: is a plain index or alias, our documents need a data stream; nothing was changed; keep its data under "
            "another name (POST _reindex), delete it and start again"
        )
    steps = []
    for stream in found["data_streams"]:
        name = stream["name"]
        try:
            if others or name == own:
                steps.append(_plan_stream(client, dataset, name, stream["backing_indices"][-1], missions))
        except SinkError as err:
            if name == own:
                raise
            steps.append(Step("left", "data stream", name, str(err).removeprefix(f"{name}: ")))
    return steps


def _plan_stream(client: Elasticsearch, dataset: str, stream: str, write_index: str, missions: Missions) -> Step:
    there, ours = get(client, f"/{write_index}/_mapping")[write_index]["mappings"], form(client, mapping(dataset, missions))
    got, wanted = dict(fields(there.get("properties", {}))), mapped(dataset, missions, client)
    found, version = version_of(there), version_of(ours)
    if found > version:
        return Step("left", "data stream", stream, f"its mapping has version {found}, newer than ours, {version}")
    roll = f"nothing is lost: roll the data stream over (POST /{stream}/_rollover) and start again, old documents stay searchable"
    changed = [f"{name} is {got[name]}, ours {kind}" for name, kind in wanted.items() if got.get(name, kind) != kind]
    missing = [name for name in wanted if name not in got]
    if changed:
        what = "; ".join(changed[:3])
        # A stream whose integration package was removed goes on in an index of ours.
        if (not found or found == version) and there.get("_meta", {}).get("managed_by") != FLEET:
            raise SinkError(f"{stream}: its mapping conflicts with ours: {what}; {roll}")
        becomes = f"mapping version {found or 'unknown'} becomes {version} in a new index"
        words = f"{becomes}, since {what}; old documents stay searchable"
        return Step("roll", "data stream", stream, words, "POST", f"/{stream}/_rollover")
    if not missing and found == version:
        return Step("same", "data stream", stream, f"mapping version {version}")
    body = {"_meta": ours["_meta"], "properties": ours["properties"]}
    words = f"mapping version {found or 'unknown'} becomes {version}, {len(missing)} fields more"
    # Whether more than types changed (an index option, an object that was a field) only the server knows.
    instead: Step | str = roll
    if 0 < found < version:
        instead = Step("roll", "data stream", stream, f"{words} in a new index", "POST", f"/{stream}/_rollover")
    path = f"/{stream}/_mapping?write_index_only=true"
    return Step("upgrade", "data stream", stream, words, "PUT", path, body, instead)


def _merged(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Objects merged key by key."""
    out: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            both = isinstance(value, Mapping) and isinstance(out.get(name), Mapping)
            out[name] = _merged((out[name], value)) if both else value
    return out
