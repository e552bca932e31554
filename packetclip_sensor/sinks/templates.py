"""Puts the templates of `mappings/elasticsearch/` into the cluster and refuses one whose mapping would not take our documents.

Templates have to stand before the first document: a data stream made without them guesses types that cannot be changed later.
A site's own settings belong into the component template `logs-packetclip.alert@custom`, which is never touched here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from elastic_transport import ObjectApiResponse
from elasticsearch import ApiError, BadRequestError, Elasticsearch

from packetclip_sensor.documents import DATASET
from packetclip_sensor.errors import SinkError
from packetclip_sensor.resources import resource

TEMPLATE = f"logs-{DATASET}"
"""Name of the index template; its components are called the same, with @ and a word behind."""


def stream_name(namespace: str) -> str:
    """The data stream that alerts go to."""
    return f"logs-{DATASET}-{namespace}"


def load(kind: str) -> dict[str, dict[str, Any]]:
    """Templates of one kind ("component" or "index") as they stand in mappings/elasticsearch/, by their name in the cluster."""
    folder = resource("mappings") / "elasticsearch" / kind
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def ensure_templates(client: Elasticsearch, namespace: str) -> None:
    """Put component and index templates where they are missing or older; bring an existing data stream's mapping up to date.

    Idempotent, and safe with several sensors: a newer sensor's templates are left as they are.

    Raises:
        SinkError: another template takes the data stream's name, the mapping that comes out has other types than ours, or the
            existing data stream cannot take our documents.
        elasticsearch.ApiError, elasticsearch.TransportError: the cluster is not well or not there, or refuses these credentials.
    """
    stream = stream_name(namespace)
    quiet = client.options(ignore_status=404)
    try:
        for name, body in load("component").items():
            if _version(quiet.cluster.get_component_template(name=name)) <= body["version"]:
                client.cluster.put_component_template(name=name, body=body)
        for name, body in load("index").items():
            if _version(quiet.indices.get_index_template(name=name)) <= body["version"]:
                client.indices.put_index_template(name=name, body=body)
    except BadRequestError as err:
        raise SinkError(
            f"template {TEMPLATE}: Elasticsearch refuses it: {reason(err)}; remove the template that it names"
        ) from err
    mappings = _check_outcome(client, stream)
    _update_stream(client, stream, mappings)


def reason(err: ApiError) -> str:
    """What Elasticsearch says is wrong, in its own words."""
    body: Any = err.body
    error = body.get("error", body) if isinstance(body, Mapping) else body
    return str(error.get("reason", error) if isinstance(error, Mapping) else error)


def fields(properties: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every field of a mapping with its type, nested and plain objects opened: ("packetclip.mission", "keyword")."""
    for name, mapping in properties.items():
        if mapping.get("type") not in (None, "object"):
            yield prefix + name, mapping["type"]
        yield from fields(mapping.get("properties", {}), f"{prefix}{name}.")


def _version(found: ObjectApiResponse[Any]) -> int:
    """Version of an installed template; 0 where there is none or it has none."""
    for entry in found.get("component_templates", []) + found.get("index_templates", []):
        return int((entry.get("component_template") or entry["index_template"]).get("version", 0))
    return 0


def _check_outcome(client: Elasticsearch, stream: str) -> dict[str, Any]:
    """The mapping that a new index of the stream would get, after all templates; refused where it is not ours."""
    simulated = client.indices.simulate_index_template(name=stream)
    outcome = simulated["template"].get("mappings", {})
    # What overlaps is what lost.
    if "packetclip" not in outcome.get("_meta", {}) or TEMPLATE in [lost["name"] for lost in simulated["overlapping"]]:
        raise SinkError(
            f"{stream}: another index template of higher priority takes this name; lower its priority below that of {TEMPLATE}, "
            "or narrow its patterns"
        )
    got = dict(fields(outcome.get("properties", {})))
    wanted = {
        name: kind
        for body in load("component").values()
        for name, kind in fields(body["template"].get("mappings", {}).get("properties", {}))
    }
    wrong = [f"{name} is {got.get(name)}, not {kind}" for name, kind in wanted.items() if got.get(name) != kind]
    if wrong and outcome["_meta"]["packetclip"]["version"] <= load("index")[TEMPLATE]["version"]:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise SinkError(
            f"{stream}: {'; '.join(wrong[:3])}{more}; take these fields out of the component template {TEMPLATE}@custom"
        )
    return dict(outcome)


def _update_stream(client: Elasticsearch, stream: str, mappings: dict[str, Any]) -> None:
    """Give an existing stream's write index the fields that it lacks."""
    found = client.indices.resolve_index(name=stream + "*")
    if any(index["name"] == stream for index in found["indices"] + found["aliases"]):
        raise SinkError(f"{stream}: is a plain index or alias, alerts need a data stream; rename or delete it and start again")
    if not any(each["name"] == stream for each in found["data_streams"]):
        return
    try:
        client.indices.put_mapping(index=stream, write_index_only=True, properties=mappings["properties"])
    except BadRequestError as err:
        raise SinkError(
            f"{stream}: its mapping conflicts with ours: {reason(err)}; roll the data stream over "
            f"(POST /{stream}/_rollover) and start again: old alerts stay searchable"
        ) from err
