"""What `packetclip setup elasticsearch --remove` takes away again: what is ours, and never a document that was not asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from elasticsearch import Elasticsearch

from packetclip_sensor.elastic import templates
from packetclip_sensor.elastic.setup import PIPELINE, POLICY, ROLE, Features, there_pipeline, there_policy
from packetclip_sensor.elastic.steps import OURS, Step, get


def plan_removal(client: Elasticsearch, can: Features, *, delete_data: bool) -> list[Step]:
    """Take away what setup put, in the order that Elasticsearch needs.

    What a data stream uses cannot go before it: without `delete_data` its templates and the pipeline stay, and that is told. What
    is not ours, and every `@custom`, stays.
    """
    steps: list[Step] = []
    kept: dict[tuple[str, str], str] = {}
    """Why each template stays; empty where nothing uses it. Index templates first: components cannot go before them."""
    for dataset in templates.installable():
        found = client.indices.resolve_index(name=templates.stream_name("*", dataset))["data_streams"]
        streams = [each["name"] for each in found]
        for stream in streams:
            if delete_data:
                path, instead = f"/_data_stream/{stream}", "this server deletes no data streams: delete its backing indices"
                steps.append(Step("remove", "data stream", stream, "with all its documents", "DELETE", path, instead=instead))
            else:
                steps.append(Step("left", "data stream", stream, "its documents stay"))
        why = f"data stream {streams[0]} uses it; --delete-data removes both" if streams and not delete_data else ""
        names = [*templates.load("component", dataset), f"logs-{dataset}@pipeline", f"logs-{dataset}@lifecycle"]
        for kind, name in [("index", f"logs-{dataset}"), *(("component", name) for name in names)]:
            kept[kind, name] = kept.get((kind, name)) or why
    for (kind, name), why in sorted(kept.items(), reverse=True):
        listed, path = templates.PARTS[kind]
        found = get(client, f"/{path}/{name}").get(listed, [])
        there = (found[0].get("component_template") or found[0].get("index_template")) if found else None
        steps += _removal(f"{kind} template", name, f"/{path}/{name}", there, why)
    why = next((each for each in kept.values() if each), "")
    steps += _removal("pipeline", PIPELINE, f"/_ingest/pipeline/{PIPELINE}", there_pipeline(client), why)
    if can.ilm:
        steps += _removal("ILM policy", POLICY, f"/_ilm/policy/{POLICY}", there_policy(client), why)
    if can.security:
        keys = get(client, f"/_security/api_key?name={ROLE}").get("api_keys", [])
        ids = [key["id"] for key in keys if not key["invalidated"] and key.get("metadata", {}).get("managed_by") == OURS]
        if ids:
            body = {"ids": ids}
            steps.append(Step("remove", "API key", ROLE, f"{len(ids)} invalidated", "DELETE", "/_security/api_key", body))
        there = get(client, f"/_security/role/{ROLE}").get(ROLE)
        there = there and {"_meta": there.get("metadata", {})}
        steps += _removal("role", ROLE, f"/_security/role/{ROLE}", there, "")
    return steps


def _removal(kind: str, name: str, path: str, there: Mapping[str, Any] | None, kept: str) -> list[Step]:
    if there is None:
        return []
    if there.get("_meta", {}).get("managed_by") != OURS:
        return [Step("left", kind, name, "is not ours")]
    if kept:
        return [Step("left", kind, name, kept)]
    return [Step("remove", kind, name, "", "DELETE", path)]
