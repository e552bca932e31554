"""What `packetclip setup elasticsearch` puts into a cluster, all that needs an administrator, and takes away again.

The sensor then needs a key that may only write. Ingest processors, data stream lifecycle, ILM and security are used where the
server has them, and reported where it has not. Plans are made whole before the first request (`plan.Step`).
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from elasticsearch import ApiError, Elasticsearch

from packetclip_sensor.common.missions import Missions
from packetclip_sensor.elastic import streams, templates
from packetclip_sensor.elastic.client import get
from packetclip_sensor.elastic.plan import OURS, Step, Thing
from packetclip_sensor.errors import ConfigError

PIPELINE = "logs-packetclip@ingested"
POLICY = "logs-packetclip"
ROLE, READER = "packetclip-sensor", "packetclip-reader"
"""Roles, and the names of keys with their rights: to write, and to read for explain, report, hunt and similar."""
ROLLOVER = {"max_age": "30d", "max_primary_shard_size": "50gb"}
_META = {"managed_by": OURS, "version": 1}


class Server:
    """What a cluster can beyond data streams and templates, each asked once. Asking changes nothing.

    Raises:
        elasticsearch.ApiError, elasticsearch.TransportError: it refuses these credentials, is not well or not there.
    """

    def __init__(self, client: Elasticsearch) -> None:
        self.client = client

    @cached_property
    def ingest(self) -> bool:
        """It has the processor `set`, so it can say when it took a document, in a pipeline that says that it is ours."""
        if not getattr(self.client, "pipelines", True):
            return False
        nodes = get(self.client, "/_nodes/ingest?filter_path=nodes.*.ingest.processors.type").get("nodes", {}).values()
        return any(each["type"] == "set" for node in nodes for each in node["ingest"]["processors"])

    @cached_property
    def lifecycle(self) -> bool:
        """It rolls data streams over and deletes old data by itself (data stream lifecycle)."""
        return self._has(f"/_data_stream/{streams.stream_name('*')}/_lifecycle")

    @cached_property
    def ilm(self) -> bool:
        return self._has("/_ilm/status")

    @cached_property
    def security(self) -> bool:
        return self._has("/_security/_authenticate")

    def lacks(self) -> list[Step]:
        """What cannot be set up here, and what that means."""
        no_ingest = "this server has no ingest processors; event.ingested stays empty, rules fall back to @timestamp"
        no_lifecycle = "this server has neither data stream lifecycle nor ILM; delete old backing indices yourself"
        steps = [] if self.ingest else [Step("skip", "pipeline", PIPELINE, no_ingest)]
        return steps if self.lifecycle or self.ilm else [*steps, Step("skip", "lifecycle", POLICY, no_lifecycle)]

    def _has(self, path: str) -> bool:
        """Whether there is a handler for this path at all: Elasticsearch answers 400 "no handler found" or 405 without it."""
        try:
            get(self.client, path)
        except ApiError as err:
            if err.status_code == 405 or (err.status_code == 400 and "no handler found" in str(err.body)):
                return False
            raise
        return True


def wanted(server: Server, missions: Missions, retention: str | None, datasets: Sequence[str]) -> list[Thing]:
    """Everything but role and key that this server can hold, in the order that Elasticsearch needs.

    Args:
        datasets: those whose templates are ours to put.
        retention: how long documents are kept, in Elasticsearch's form ("365d"); None for what is there, or for ever.
    """
    if not datasets:
        return []
    unless = "" if retention else "as it is; --retention changes it"
    things: list[Thing] = []
    optional: dict[str, dict[str, Any]] = {}
    if server.ingest:
        things.append(Thing("pipeline", PIPELINE, templates.read("pipeline", PIPELINE)))
        optional["pipeline"] = {"settings": {"index": {"default_pipeline": PIPELINE}}}
    if server.lifecycle:
        optional["lifecycle"] = {"lifecycle": {"enabled": True} | ({"data_retention": retention} if retention else {})}
    elif server.ilm:
        phases: dict[str, Any] = {"hot": {"min_age": "0ms", "actions": {"rollover": ROLLOVER}}}
        if retention:
            phases["delete"] = {"min_age": retention, "actions": {"delete": {}}}
        things.append(Thing("ILM policy", POLICY, {"_meta": _META, "phases": phases}, unless))
        optional["lifecycle"] = {"settings": {"index": {"lifecycle": {"name": POLICY}}}}
    for dataset in datasets:
        *parts, index = templates.templates(dataset, missions)
        things += [part for part in parts if part not in things]  # streams share components
        for name, template in optional.items():
            if (component := f"{index.name}@{name}") in index.body["composed_of"]:
                body = {"version": 1, "_meta": _META, "template": template}
                things.append(Thing("component template", component, body, unless if name == "lifecycle" else ""))
        things.append(index)
    return things


def plan(server: Server, namespace: str, missions: Missions, retention: str | None) -> list[Step]:
    """Everything but the role and the key, in the order in which it is to be done.

    Args:
        namespace: of this sensor; other namespaces' data streams are brought up to date as well.
        retention: as in `wanted`.
    Raises:
        SinkError: something of another's is in the way.
        elasticsearch.ApiError, elasticsearch.TransportError: see `Server`.
    """
    packaged = {dataset: step for dataset in streams.DATASETS if (step := templates.of_package(server.client, dataset))}
    datasets = [dataset for dataset in streams.DATASETS if dataset not in packaged]
    for dataset in datasets:
        templates.refuse_rivals(server.client, dataset, namespace)
    steps = [*packaged.values(), *(server.lacks() if datasets else [])]
    steps += [thing.put(server.client) for thing in wanted(server, missions, retention, datasets)]
    for dataset in datasets:
        steps += templates.plan_streams(server.client, dataset, namespace, missions, others=True)
        steps += _stream_settings(server, dataset, retention)
    return steps


def _stream_settings(server: Server, dataset: str, retention: str | None) -> list[Step]:
    """Templates make new data streams only; existing ones get pipeline and retention by themselves."""
    steps = []
    pipeline = f"logs-{dataset}@pipeline" in templates.read("index", f"logs-{dataset}")["composed_of"]
    for name, write_index in _streams(server.client, dataset).items():
        if server.ingest and pipeline:
            settings = get(server.client, f"/{write_index}/_settings")[write_index]["settings"]["index"]
            theirs = settings.get("default_pipeline")
            body = {"index": {"default_pipeline": PIPELINE}}
            if theirs is None:
                steps.append(Step("upgrade", "settings", name, f"pipeline {PIPELINE}", "PUT", f"/{name}/_settings", body))
            elif theirs != PIPELINE:
                steps.append(Step("left", "settings", name, f"its pipeline {theirs} is yours"))
        if server.lifecycle and retention is not None:
            path = f"/_data_stream/{name}/_lifecycle"
            found = get(server.client, path)["data_streams"][0].get("lifecycle", {})
            if found.get("data_retention") != retention:
                steps.append(Step("upgrade", "lifecycle", name, f"keeps {retention}", "PUT", path, {"data_retention": retention}))
    return steps


def _streams(client: Elasticsearch, dataset: str) -> dict[str, str]:
    """The data streams of a dataset, of every namespace, each with the index that it writes to."""
    found = client.indices.resolve_index(name=streams.stream_name("*", dataset))["data_streams"]
    return {each["name"]: each["backing_indices"][-1] for each in found}


def plan_removal(server: Server, namespace: str, key_id: str, *, everything: bool, delete_data: bool) -> list[Step]:
    """Take away what is this sensor's alone, or with `everything` all that setup ever put, in the order that Elasticsearch needs;
    never a document that was not asked for.

    What a data stream uses cannot go before it: without `delete_data` its templates and the pipeline stay. What is not ours, and
    every `@custom`, stays.

    Args:
        namespace: of this sensor, whose data streams are its own. key_id: of its API key, empty where none is known.
        everything: also keys and data streams of other sensors, and what all sensors share.
        delete_data: the data streams with their documents too.
    """
    steps: list[Step] = []
    used: dict[str, str] = {}
    """What uses each component template; empty where nothing does. Index templates go first, components cannot before them."""
    for dataset in streams.DATASETS:
        names = list(_streams(server.client, dataset))
        for stream in names:
            if not everything and stream != streams.stream_name(namespace, dataset):
                continue
            if delete_data:
                path, instead = f"/_data_stream/{stream}", "this server deletes no data streams: delete its backing indices"
                steps.append(Step("remove", "data stream", stream, "with all its documents", "DELETE", path, instead=instead))
            else:
                steps.append(Step("left", "data stream", stream, "its documents stay"))
        if not everything:
            continue
        why = f"data stream {names[0]} uses it; --delete-data removes both" if names and not delete_data else ""
        index = templates.templates(dataset)[-1]
        steps += index.remove(server.client, why)
        for name in index.body["composed_of"]:
            if name.startswith("logs-packetclip") and not name.endswith("@custom"):
                used[name] = used.get(name) or why
    if server.security:
        which = [f"name={name}" for name in (ROLE, READER)] if everything else [f"id={key_id}" if key_id else ""]
        steps += [step for one in which for step in _plan_key_removal(server.client, one)]
    if not everything:
        return [*steps, Step("left", "templates, role", ROLE, "other sensors may use what is shared; --all removes it")]
    why = next(filter(None, used.values()), "")
    things = [(Thing("component template", name, {}), user) for name, user in used.items()]
    things.append((Thing("pipeline", PIPELINE, {}), why))
    if server.ilm:
        things.append((Thing("ILM policy", POLICY, {}), why))
    if server.security:
        things += [(Thing("role", name, {}), "") for name in (ROLE, READER)]
    return steps + [step for thing, user in things for step in thing.remove(server.client, user)]


def _plan_key_removal(client: Elasticsearch, which: str) -> list[Step]:
    """Invalidate the API keys of ours that a query finds; empty for a sensor of which no key is known."""
    if not which:
        words = "the configuration names none (api_key_file, api_key_env); name its file by --api-key"
        return [Step("left", "API key", ROLE, words)]
    keys = [key for key in get(client, f"/_security/api_key?{which}").get("api_keys", []) if not key["invalidated"]]
    ids = [key["id"] for key in keys if key.get("metadata", {}).get("managed_by") == OURS]
    if ids:
        words = f"{', '.join(ids)} invalidated"
        return [Step("remove", "API key", keys[0]["name"], words, "DELETE", "/_security/api_key", {"ids": ids})]
    return [Step("left", "API key", key["name"], f"{key['id']} is not ours") for key in keys]


def plan_login(client: Elasticsearch, file: Path, name: str = ROLE) -> list[Step]:
    """The role that may only write our data streams, or (READER) only read them, and an API key with its rights, for `file`.

    Raises:
        SinkError: a role of this name is not ours.
        ConfigError: the file is there, and holds no key that this cluster knows.
    """
    role = templates.read("role", name)
    put = Thing("role", name, role).put(client)
    if file.exists():
        key_id = key_id_of(file)
        found = get(client, f"/_security/api_key?id={key_id}").get("api_keys", []) if key_id else []
        if not any(not key["invalidated"] for key in found):
            raise ConfigError(f"{file}: holds no key that this cluster knows; name a new file, or delete this one")
        if found[0]["name"] != name:
            raise ConfigError(f"{file}: holds a key {found[0]['name']}, not {name}; name another file")
        had, ours = found[0].get("metadata", {}).get("version", 0), role["metadata"]["version"]
        if had < ours:
            words = f"has the rights of version {had}, this version needs {ours}; name a new file to make a new key"
            return [put, Step("left", "API key", name, words)]
        return [put, Step("same", "API key", name, f"id {key_id} in {file}")]
    words, as_user = f"goes to {file}", "log in as a user (--user)"
    return [put, Step("new", "API key", name, words, "POST", "/_security/api_key", _key(name, role), as_user)]


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
        raise ConfigError(f"{file}: cannot be made: {err.strerror}; name a file in a writable folder") from err
    with os.fdopen(fd, "w") as out:
        try:
            yield out
        except BaseException:
            file.unlink(missing_ok=True)
            raise


def key_id_of(source: Path | str) -> str:
    """The id, which is no secret, in an encoded API key, or in that of a file; empty where there is none."""
    try:
        encoded = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
        found = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")[0]
    except (OSError, ValueError):
        return ""
    return found if re.fullmatch(r"[\w-]+", found) else ""


def _key(name: str, role: dict[str, Any]) -> dict[str, Any]:
    """The request for a key with a role's rights."""
    rights = {key: value for key, value in role.items() if key != "metadata"}
    return {"name": name, "role_descriptors": {name: rights}, "metadata": role["metadata"]}


def by_hand(host: str) -> str:
    """Commands that make role and key on a server, for whoever may."""
    head, role = "-u elastic -H 'content-type: application/json'", templates.read("role", ROLE)
    return (
        f"curl -X PUT  {head} '{host}/_security/role/{ROLE}' -d '{json.dumps(role)}'\n"
        f"curl -X POST {head} '{host}/_security/api_key' -d '{json.dumps(_key(ROLE, role))}'\n"
    )
