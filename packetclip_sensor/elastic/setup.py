"""What `packetclip setup elasticsearch` puts into a cluster: everything that one has to be an administrator for.

The sensor then needs a key that may only write. Servers differ in what they can: ingest processors, data stream lifecycle, ILM
and security are used where they are, and told where they are not. Plans are made whole before the first request (`steps.Step`).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from elasticsearch import ApiError, Elasticsearch

from packetclip_sensor.common.missions import Missions
from packetclip_sensor.elastic import templates
from packetclip_sensor.elastic.steps import OURS, Step, get, has, reason
from packetclip_sensor.elastic.templates import plan_versioned
from packetclip_sensor.errors import ConfigError, SinkError

PIPELINE = "logs-packetclip@ingested"
POLICY = "logs-packetclip"
ROLE = "packetclip-sensor"
ROLLOVER = {"max_age": "30d", "max_primary_shard_size": "50gb"}
_META = {"managed_by": OURS, "version": 1}


@dataclass(frozen=True, slots=True)
class Features:
    """What the server can beyond data streams and templates."""

    ingest: bool
    """It has the processor `set`, so it can say when it took a document."""
    lifecycle: bool
    """It rolls data streams over and deletes old data by itself (data stream lifecycle)."""
    ilm: bool
    security: bool


def features(client: Elasticsearch) -> Features:
    """Ask the server what it can; nothing is changed.

    Raises:
        elasticsearch.ApiError, elasticsearch.TransportError: it refuses these credentials, is not well or not there.
    """
    nodes = get(client, "/_nodes/ingest?filter_path=nodes.*.ingest.processors.type").get("nodes", {}).values()
    return Features(
        ingest=any(each["type"] == "set" for node in nodes for each in node["ingest"]["processors"]),
        lifecycle=has(client, f"/_data_stream/{templates.stream_name('*')}/_lifecycle"),
        ilm=has(client, "/_ilm/status"),
        security=has(client, "/_security/_authenticate"),
    )


def plan(client: Elasticsearch, can: Features, namespace: str, missions: Missions, retention: str | None) -> list[Step]:
    """Everything but the role and the key, in the order in which it is to be done.

    Args:
        namespace: of this sensor; other namespaces' data streams are brought up to date as well.
        missions: those of the sensor's model.
        retention: how long documents are kept, in Elasticsearch's form ("365d"); None for what is there, or for ever.
    Raises:
        SinkError: something of another's is in the way.
        elasticsearch.ApiError, elasticsearch.TransportError: see `features`.
    """
    datasets = templates.installable()
    for dataset in datasets:
        templates.refuse_rivals(client, dataset, namespace)
    steps = [*_pipeline(client, can), *_policy(client, can, retention)]
    for dataset in datasets:
        components, index = templates.load("component", dataset, missions), templates.load("index", dataset)
        planned = {step.name for step in steps}  # streams share components
        steps += [
            templates.plan_part(client, "component", name, body) for name, body in components.items() if name not in planned
        ]
        steps += _optional_components(client, can, dataset, retention)
        steps += [templates.plan_part(client, "index", name, body) for name, body in index.items()]
        steps += templates.plan_streams(client, dataset, namespace, missions, others=True)
        steps += _stream_settings(client, can, dataset, retention)
    return steps


def plan_role(client: Elasticsearch) -> Step:
    """The role that may only write our data streams.

    Raises:
        SinkError: a role of this name is not ours.
    """
    there = get(client, f"/_security/role/{ROLE}").get(ROLE)
    if there is not None:
        meta = there.get("metadata", {})
        there = {**there, "_meta": meta, "version": meta.get("version")}
    step = plan_versioned("role", ROLE, f"/_security/role/{ROLE}", role() | {"version": role()["metadata"]["version"]}, there)
    return Step(step.mark, step.kind, step.name, step.words, step.method, step.path, role() if step.method else None)


def plan_key(client: Elasticsearch, file: Path) -> Step:
    """An API key with the role's rights, for `file`.

    Raises:
        ConfigError: the file is there, and holds no key that this cluster knows.
    """
    if file.exists():
        key_id = _key_id(file)
        found = get(client, f"/_security/api_key?id={key_id}").get("api_keys", []) if key_id else []
        if not any(not key["invalidated"] for key in found):
            raise ConfigError(f"--api-key {file}: holds no key that this cluster knows; name a new file, or delete this one")
        had, ours = found[0].get("metadata", {}).get("version", 0), role()["metadata"]["version"]
        if had < ours:
            words = f"has the rights of version {had}, this version needs {ours}; name a new file to make a new key"
            return Step("left", "API key", found[0]["name"], words)
        return Step("same", "API key", found[0]["name"], f"id {key_id} in {file}")
    rights = {name: role()[name] for name in ("cluster", "indices")}
    body = {"name": ROLE, "role_descriptors": {ROLE: rights}, "metadata": role()["metadata"]}
    return Step("new", "API key", ROLE, f"goes to {file}", "POST", "/_security/api_key", body, "log in as a user (--user)")


@contextmanager
def key_file(file: Path) -> Iterator[TextIO]:
    """A new file that only its owner may read, made before the key is, so that none is lost; taken away where that fails.

    Raises:
        ConfigError: the file cannot be made.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as err:
        raise ConfigError(
            f"--api-key {file}: cannot be made: {err.strerror}; name a file in a folder that you may write"
        ) from err
    with os.fdopen(fd, "w") as out:
        try:
            yield out
        except BaseException:
            file.unlink(missing_ok=True)
            raise


def role() -> dict[str, Any]:
    """The rights that a sensor needs once everything else is set up."""
    body: dict[str, Any] = json.loads((templates.folder() / "role" / f"{ROLE}.json").read_text(encoding="utf-8"))
    return body


def by_hand(host: str) -> str:
    """Commands that make role and key on a server, for whoever may."""
    rights = {name: role()[name] for name in ("cluster", "indices")}
    key = {"name": ROLE, "role_descriptors": {ROLE: rights}, "metadata": role()["metadata"]}
    head = "-u elastic -H 'content-type: application/json'"
    return (
        f"curl -X PUT  {head} '{host}/_security/role/{ROLE}' -d '{json.dumps(role())}'\n"
        f"curl -X POST {head} '{host}/_security/api_key' -d '{json.dumps(key)}'\n"
    )


def take(client: Elasticsearch, steps: list[Step]) -> Iterator[tuple[Step, Any]]:
    """Take each step, and yield it with the server's answer.

    Raises:
        SinkError: the server refuses one; those before it are done, and a second run goes on.
    """
    for step in steps:
        try:
            yield step, step.take(client)
        except ApiError as err:
            if err.status_code in (401, 403):
                raise
            raise SinkError(
                f"{step.kind} {step.name}: Elasticsearch answers {err.status_code}: {reason(err)}; what stands above is done, "
                "mend this and run the command again"
            ) from err


def _pipeline(client: Elasticsearch, can: Features) -> list[Step]:
    if not can.ingest:
        words = "this server has no ingest processors; event.ingested stays empty, rules fall back to @timestamp"
        return [Step("skip", "pipeline", PIPELINE, words)]
    body = json.loads((templates.folder() / "pipeline" / f"{PIPELINE}.json").read_text(encoding="utf-8"))
    return [plan_versioned("pipeline", PIPELINE, f"/_ingest/pipeline/{PIPELINE}", body, there_pipeline(client))]


def _policy(client: Elasticsearch, can: Features, retention: str | None) -> list[Step]:
    """An ILM policy, only where the server has no data stream lifecycle."""
    if can.lifecycle:
        return []
    if not can.ilm:
        words = "this server has neither data stream lifecycle nor ILM; delete old backing indices yourself"
        return [Step("skip", "lifecycle", POLICY, words)]
    there = there_policy(client)
    if there is not None and retention is None and there.get("_meta", {}).get("managed_by") == OURS:
        return [Step("same", "ILM policy", POLICY, "as it is; --retention changes it")]
    phases: dict[str, Any] = {"hot": {"min_age": "0ms", "actions": {"rollover": ROLLOVER}}}
    if retention:
        phases["delete"] = {"min_age": retention, "actions": {"delete": {}}}
    step = plan_versioned("ILM policy", POLICY, f"/_ilm/policy/{POLICY}", {"_meta": _META, "version": 1, "phases": phases}, there)
    body = {"policy": {"_meta": _META, "phases": phases}} if step.method else None
    return [Step(step.mark, step.kind, step.name, step.words, step.method, step.path, body)]


def _optional_components(client: Elasticsearch, can: Features, dataset: str, retention: str | None) -> list[Step]:
    """The two components that depend on the server: the pipeline's name, and the lifecycle."""
    made: dict[str, dict[str, Any]] = {}
    if can.ingest:
        made[f"logs-{dataset}@pipeline"] = {"settings": {"index": {"default_pipeline": PIPELINE}}}
    if can.lifecycle:
        made[f"logs-{dataset}@lifecycle"] = {
            "lifecycle": {"enabled": True} | ({"data_retention": retention} if retention else {})
        }
    elif can.ilm:
        made[f"logs-{dataset}@lifecycle"] = {"settings": {"index": {"lifecycle": {"name": POLICY}}}}
    steps = []
    for name, template in made.items():
        if not _composed(dataset, name):
            continue
        step = templates.plan_part(client, "component", name, {"version": 1, "_meta": _META, "template": template})
        if step.mark == "renew" and name.endswith("@lifecycle") and retention is None:
            step = Step("same", step.kind, name, "as it is; --retention changes it")
        steps.append(step)
    return steps


def _stream_settings(client: Elasticsearch, can: Features, dataset: str, retention: str | None) -> list[Step]:
    """Templates make new data streams only; existing ones get pipeline and retention by themselves."""
    steps = []
    streams = client.indices.resolve_index(name=templates.stream_name("*", dataset))["data_streams"]
    for stream in streams:
        name, write_index = stream["name"], stream["backing_indices"][-1]
        if can.ingest and _composed(dataset, f"logs-{dataset}@pipeline"):
            settings = get(client, f"/{write_index}/_settings")[write_index]["settings"]["index"]
            theirs = settings.get("default_pipeline")
            body = {"index": {"default_pipeline": PIPELINE}}
            if theirs is None:
                steps.append(Step("upgrade", "settings", name, f"pipeline {PIPELINE}", "PUT", f"/{name}/_settings", body))
            elif theirs != PIPELINE:
                steps.append(Step("left", "settings", name, f"its pipeline {theirs} is yours"))
        if can.lifecycle and retention is not None:
            found = get(client, f"/_data_stream/{name}/_lifecycle")["data_streams"][0].get("lifecycle", {})
            if found.get("data_retention") != retention:
                path = f"/_data_stream/{name}/_lifecycle"
                steps.append(Step("upgrade", "lifecycle", name, f"keeps {retention}", "PUT", path, {"data_retention": retention}))
    return steps


def _composed(dataset: str, component: str) -> bool:
    """Whether a dataset's index template takes this component in; health documents have no pipeline."""
    return component in templates.load("index", dataset)[f"logs-{dataset}"]["composed_of"]


def there_pipeline(client: Elasticsearch) -> Mapping[str, Any] | None:
    """Our pipeline as the server has it."""
    found: Mapping[str, Any] | None = get(client, f"/_ingest/pipeline/{PIPELINE}").get(PIPELINE)
    return found


def there_policy(client: Elasticsearch) -> Mapping[str, Any] | None:
    """Our ILM policy as the server has it."""
    found = get(client, f"/_ilm/policy/{POLICY}").get(POLICY)
    return {**found["policy"], "version": found["policy"].get("_meta", {}).get("version")} if found else None


def _key_id(file: Path) -> str:
    """The id in an encoded API key; empty where the file holds none."""
    try:
        return base64.b64decode(file.read_text(encoding="utf-8").strip(), validate=True).decode().partition(":")[0]
    except (OSError, ValueError, binascii.Error):
        return ""
