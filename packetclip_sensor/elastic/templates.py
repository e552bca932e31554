"""Puts the templates of `mappings/elasticsearch/` into the cluster and refuses one whose mapping would not take our documents.

Templates have to stand before the first document: a data stream made without them guesses types that cannot be changed later.
The sensor's start and `packetclip setup elasticsearch` both use this. A data stream is known by its dataset: it is installed
where `index/logs-DATASET.json` is, with those components of its `composed_of` that have a file in `component/`. A site's own
settings belong into the component template `logs-DATASET@custom`, which is never touched here. Fields of missions and classes are
not in the files: they are those of the model, beside those that a sensor with another model has put.
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
from packetclip_sensor.elastic.steps import OURS, Step, get
from packetclip_sensor.errors import SinkError
from packetclip_sensor.sinks.documents import DATASET
from packetclip_sensor.sinks.hunt_documents import DATASET as FLOWS

DATASETS = (DATASET, FLOWS, "packetclip.health")
"""Data streams that we may write, each `logs-DATASET-NAMESPACE`."""
PARTS = {"component": ("component_templates", "_component_template"), "index": ("index_templates", "_index_template")}
REFUSED = "mend what it names, by hand, and start again"

log = structlog.get_logger()


def folder() -> Path:
    """Where the templates lie."""
    return resource("mappings") / "elasticsearch"


def installable() -> list[str]:
    """Those of DATASETS that this installation has templates for."""
    return [dataset for dataset in DATASETS if (folder() / "index" / f"logs-{dataset}.json").is_file()]


def stream_name(namespace: str, dataset: str = DATASET) -> str:
    """The data stream that a dataset's documents go to."""
    return f"logs-{dataset}-{namespace}"


def load(kind: str, dataset: str = DATASET, missions: Missions = NO_MISSIONS) -> dict[str, dict[str, Any]]:
    """A dataset's templates of one kind ("component" or "index") by their name in the cluster.

    Args:
        missions: those of the model, whose fields are no part of the files.
    """
    name = f"logs-{dataset}"
    index = _read("index", name)
    if kind == "index":
        return {name: index}
    parts = [part for part in index["composed_of"] if (folder() / kind / f"{part}.json").is_file()]
    return {part: of_model(_read(kind, part), missions) for part in parts}


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


def _with_other_models(body: Mapping[str, Any], there: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """A component template with the missions and classes that the cluster's has besides ours: a sensor with another model may
    write there too."""
    if there is None or "template" not in body:
        return body
    theirs = dict(_by_model(deepcopy(there)))
    joined = deepcopy(dict(body))
    for name, properties in _by_model(joined):
        properties.update(theirs.get(name, {}) | properties)
    return joined


def fields(properties: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every field of a mapping with its type, nested and plain objects opened: ("packetclip.mission", "keyword")."""
    for name, mapping in properties.items():
        if mapping.get("type") not in (None, "object"):
            yield prefix + name, mapping["type"]
        yield from fields(mapping.get("properties", {}), f"{prefix}{name}.")


def mapped(dataset: str, missions: Missions) -> dict[str, str]:
    """Every field of a dataset's components with its type."""
    return {name: kind for part in _mappings(dataset, missions) for name, kind in fields(part.get("properties", {}))}


def mapping_version(dataset: str = DATASET) -> int:
    """`_meta.packetclip.version` of a dataset's mapping, by which a stream's index tells what it was made with."""
    return max(version_of(part) for part in _mappings(dataset))


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
    for dataset in datasets or (DATASET,):
        _take(client, plan_templates(client, dataset, missions))
        check_outcome(client, dataset, namespace, missions)
        _take(client, plan_streams(client, dataset, namespace, missions))


def plan_templates(client: Elasticsearch, dataset: str, missions: Missions) -> list[Step]:
    """What is to be done with a dataset's component templates and index template, in the order that Elasticsearch needs.

    Raises:
        SinkError: a template of our name is not ours.
    """
    return [plan_part(client, kind, name, body) for kind in PARTS for name, body in load(kind, dataset, missions).items()]


def plan_part(client: Elasticsearch, kind: str, name: str, body: Mapping[str, Any]) -> Step:
    """What is to be done with one template.

    Args:
        kind: "component" or "index".
    Raises:
        SinkError: it is there and not ours.
    """
    listed, path = PARTS[kind]
    found = get(client, f"/{path}/{name}").get(listed, [])
    there = (found[0].get("component_template") or found[0].get("index_template")) if found else None
    return plan_versioned(f"{kind} template", name, f"/{path}/{name}", _with_other_models(body, there), there)


def plan_versioned(kind: str, name: str, path: str, body: Mapping[str, Any], there: Mapping[str, Any] | None) -> Step:
    """Put what is missing, older or altered; leave what is newer; refuse what is not ours.

    Args:
        there: what the cluster has under this name, None for nothing.
    """
    if there is None:
        return Step("new", kind, name, f"version {body['version']}", "PUT", path, body, REFUSED)
    if there.get("_meta", {}).get("managed_by") != OURS:
        raise SinkError(
            f"{kind} {name}: is there and not ours (no _meta.managed_by: {OURS}); nothing was changed; "
            f"look at it (GET {path}), and rename or delete it if nobody needs it"
        )
    found, ours = int(there.get("version") or 0), int(body["version"])
    if found > ours:
        return Step("left", kind, name, f"version {found} is newer than ours, {ours}: a newer sensor put it")
    if found < ours:
        return Step("upgrade", kind, name, f"version {found} becomes {ours}", "PUT", path, body, REFUSED)
    if not _same(body, there):
        return Step("renew", kind, name, f"version {ours} was altered", "PUT", path, body, REFUSED)
    return Step("same", kind, name, f"version {ours}")


def check_outcome(client: Elasticsearch, dataset: str, namespace: str, missions: Missions) -> None:
    """Look at the mapping that a new index of the stream would get, after all templates.

    Raises:
        SinkError: it is not ours.
    """
    stream, template = stream_name(namespace, dataset), f"logs-{dataset}"
    simulated = client.indices.simulate_index_template(name=stream)
    outcome = simulated["template"].get("mappings", {})
    # What overlaps is what lost.
    if not version_of(outcome) or template in [lost["name"] for lost in simulated["overlapping"]]:
        raise SinkError(
            f"{stream}: another index template of higher priority takes this name; lower its priority below that of {template}, "
            "or narrow its patterns"
        )
    got = dict(fields(outcome.get("properties", {})))
    wanted = mapped(dataset, missions)
    wrong = [f"{name} is {got.get(name)}, not {kind}" for name, kind in wanted.items() if got.get(name) != kind]
    if wrong and version_of(outcome) <= mapping_version(dataset):
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
    priority = load("index", dataset)[ours]["priority"]
    for each in get(client, "/_index_template").get("index_templates", []):
        theirs = each["index_template"]
        if (
            each["name"] != ours
            and theirs.get("priority", 0) >= priority
            and any(fnmatchcase(stream, pattern) for pattern in theirs["index_patterns"])
        ):
            raise SinkError(
                f"{stream}: index template {each['name']} takes this name with priority {theirs['priority']}, ours has "
                f"{priority}; nothing was changed; lower its priority or narrow its patterns"
            )


def plan_streams(client: Elasticsearch, dataset: str, namespace: str, missions: Missions, *, others: bool = False) -> list[Step]:
    """What is to be done with existing data streams: more fields for the write index, or a new one where a type changed.

    Args:
        others: look at the streams of other namespaces as well. What is wrong with them is told and stops nothing.
    Raises:
        SinkError: a plain index or alias has this namespace's name, or the stream's fields would not take our documents.
    """
    own, pattern = stream_name(namespace, dataset), stream_name("*" if others else namespace, dataset)
    found = client.indices.resolve_index(name=pattern if pattern.endswith("*") else pattern + "*")
    if any(each["name"] == own for each in found["indices"] + found["aliases"]):
        raise SinkError(
            f"{own}: is a plain index or alias, our documents need a data stream; nothing was changed; keep its data under "
            "another name (POST _reindex), delete it and start again"
        )
    steps = []
    for stream in (each for each in found["data_streams"] if fnmatchcase(each["name"], pattern)):
        try:
            steps.append(_plan_stream(client, dataset, stream["name"], stream["backing_indices"][-1], missions))
        except SinkError as err:
            if stream["name"] == own:
                raise
            steps.append(Step("left", "data stream", stream["name"], str(err).removeprefix(f"{stream['name']}: ")))
    return steps


def _plan_stream(client: Elasticsearch, dataset: str, stream: str, write_index: str, missions: Missions) -> Step:
    mapping = get(client, f"/{write_index}/_mapping")[write_index]["mappings"]
    got, wanted = dict(fields(mapping.get("properties", {}))), mapped(dataset, missions)
    found, ours = version_of(mapping), mapping_version(dataset)
    if found > ours:
        return Step("left", "data stream", stream, f"its mapping has version {found}, newer than ours, {ours}")
    changed = [f"{name} is {got[name]}, ours {kind}" for name, kind in wanted.items() if got.get(name, kind) != kind]
    missing = [name for name, kind in wanted.items() if name not in got]
    if changed:
        what = "; ".join(changed[:3])
        if not 0 < found < ours:
            raise SinkError(f"{stream}: its mapping conflicts with ours: {what}; {_roll_over(stream)}")
        words = f"mapping version {found} becomes {ours} in a new index, since {what}; old documents stay searchable"
        return Step("roll", "data stream", stream, words, "POST", f"/{stream}/_rollover")
    if not missing and found == ours:
        return Step("same", "data stream", stream, f"mapping version {ours}")
    body = {
        "_meta": {"packetclip": {"managed_by": OURS, "version": ours}},
        "properties": _merged(part.get("properties", {}) for part in _mappings(dataset, missions)),
    }
    words = f"mapping version {found or 'unknown'} becomes {ours}, {len(missing)} fields more"
    # Whether more than types changed (an index option, an object that was a field) only the server knows.
    instead: Step | str = _roll_over(stream)
    if 0 < found < ours:
        instead = Step("roll", "data stream", stream, f"{words} in a new index", "POST", f"/{stream}/_rollover")
    path = f"/{stream}/_mapping?write_index_only=true"
    return Step("upgrade", "data stream", stream, words, "PUT", path, body, instead)


def _roll_over(stream: str) -> str:
    return f"nothing is lost: roll the data stream over (POST /{stream}/_rollover) and start again, old documents stay searchable"


def _take(client: Elasticsearch, steps: Iterable[Step]) -> None:
    for step in steps:
        step.take(client)
        if step.method:
            log.info("elasticsearch_set_up", done=step.mark, kind=step.kind, name=step.name, words=step.words)


def _read(kind: str, name: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads((folder() / kind / f"{name}.json").read_text(encoding="utf-8"))
    return body


def _mappings(dataset: str, missions: Missions = NO_MISSIONS) -> list[dict[str, Any]]:
    parts = load("component", dataset, missions).values()
    return [part["template"]["mappings"] for part in parts if "mappings" in part["template"]]


def version_of(mapping: Mapping[str, Any]) -> int:
    """Our version in a mapping's `_meta`; 0 where it is not ours."""
    return int(mapping.get("_meta", {}).get("packetclip", {}).get("version") or 0)


def _merged(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Objects merged key by key, as Elasticsearch does with component templates."""
    out: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            both = isinstance(value, Mapping) and isinstance(out.get(name), Mapping)
            out[name] = _merged((out[name], value)) if both else value
    return out


def _same(ours: Any, there: Any, *, whole: bool = False) -> bool:
    """Whether the cluster has what we would put. It adds keys of its own, but no fields, and gives settings back as text."""
    match ours:
        case Mapping():
            if not isinstance(there, Mapping) or (whole and set(there) != set(ours)):
                return False
            return all(name in there and _same(value, there[name], whole=name == "properties") for name, value in ours.items())
        case list():
            return isinstance(there, list) and len(ours) == len(there) and all(map(_same, ours, there))
    return str(ours).lower() == str(there).lower()
