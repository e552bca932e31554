"""Elasticsearch as far as setup and check ask it, for what the test node lacks: ingest, lifecycle, ILM, security.

It keeps what is put and gives it back; of an index template it asks that the components are there. The real node has the last
word on everything that it can do.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from elastic_transport import ApiResponseMeta, HttpHeaders
from elastic_transport._node._base import NodeApiResponse
from factories import MISSIONS

from packetclip_sensor.elastic import templates
from packetclip_sensor.elastic.client import PackingNode

URL = "http://fake:9200"
STREAM = "logs-packetclip.alert-default"
KEPT = {
    "/_component_template/": lambda name, found: {"component_templates": [{"name": name, "component_template": found}]},
    "/_index_template/": lambda name, found: {"index_templates": [{"name": name, "index_template": found}]},
} | dict.fromkeys(("/_ingest/pipeline/", "/_ilm/policy/", "/_security/role/"), lambda name, found: {name: found})
"""What is kept by its path, and the form in which each is given back."""
NEEDS = {"/_ilm/": "ilm", "/_security/": "security", "/_data_stream/": "lifecycle"}
READS = ("/_count", "/_has_privileges", "/_resolve", "/_simulate_index")


@dataclass
class Cluster:
    """What it has and what it was asked. Every client of the sensor speaks with it while the test runs."""

    features: set[str] = field(default_factory=lambda: {"ingest", "lifecycle", "security"})
    things: dict[str, Any] = field(default_factory=dict)
    """Everything put, by path."""
    streams: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Data streams: mappings, settings, lifecycle, blocks."""
    keys: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    """All that changes something: method, path, body."""
    refuse: dict[str, tuple[int, Any]] = field(default_factory=dict)
    """Answers by the beginning of a path, before everything else."""
    privileges: set[str] | None = None
    """What `_has_privileges` grants; None for all."""
    logins: set[str] = field(default_factory=set)
    """Every Authorization header that came."""

    def start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take the place of the network."""

        def perform_request(
            node: PackingNode, method: str, target: str, body: bytes | None, headers: HttpHeaders, *_: Any, **__: Any
        ) -> NodeApiResponse:
            url = urlsplit(target)
            self.logins.add((headers or {}).get("authorization", ""))
            asked = dict(parse_qsl(url.query))
            status, answer = self.answer(method, unquote(url.path), asked, json.loads(body) if body else None)
            form = HttpHeaders({"x-elastic-product": "Elasticsearch", "content-type": "application/json"})
            return NodeApiResponse(ApiResponseMeta(status, "1.1", form, 0.0, node.config), json.dumps(answer).encode())

        monkeypatch.setattr(PackingNode, "perform_request", perform_request)

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        for start, refusal in self.refuse.items():
            if path.startswith(start):
                return refusal
        if any(path.startswith(start) and need not in self.features for start, need in NEEDS.items()):
            return 400, {"error": f"no handler found for uri [{path}] and method [{method}]"}
        if method != "GET" and not any(part in path for part in READS):
            self.requests.append((method, path, body))
        for start, form in KEPT.items():
            if path.startswith(start) and "_simulate_index" not in path:
                return self.keep(method, path, body, form)
        answer = self.own(method, path, query, body)
        return (404, {"error": {"reason": f"no such index [{path}]"}}) if answer is None else (200, answer)

    def keep(self, method: str, path: str, body: Any, form: Any) -> tuple[int, Any]:
        if method == "PUT":
            needed = set(body.get("composed_of", [])) - set(body.get("ignore_missing_component_templates", []))
            if missing := [name for name in needed if f"/_component_template/{name}" not in self.things]:
                return 400, {"error": {"reason": f"component templates {missing} do not exist"}}
            self.things[path] = body
        elif path not in self.things:
            return 404, {}
        elif method == "DELETE":
            del self.things[path]
        return 200, form(path.rsplit("/", 1)[1], self.things.get(path))

    def own(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:  # noqa: PLR0911, PLR0912
        """What is no kept thing; None where it is not there."""
        match (method, *path.strip("/").split("/")):
            case ("GET", "_cluster", "health"):
                return {"cluster_name": "fake", "status": "green"}
            case ("GET", "_nodes", "ingest"):
                return {"nodes": {"a": {"ingest": {"processors": [{"type": "set"}]}}}} if "ingest" in self.features else {}
            case ("GET", "_ilm", "status") | ("GET", "_security", "_authenticate"):
                return {}
            case ("GET", "_index_template"):
                found = [(path.rsplit("/", 1)[1], each) for path, each in self.things.items() if "_index_template" in path]
                return {"index_templates": [{"name": name, "index_template": each} for name, each in found]}
            case ("POST", "_index_template", "_simulate_index", name):
                composed_of = self.things[f"/_index_template/{name.rsplit('-', 1)[0]}"]["composed_of"]
                parts = [self.things.get(f"/_component_template/{each}", {"template": {}}) for each in composed_of]
                mappings = templates._merged(part["template"].get("mappings", {}) for part in parts)
                return {"template": {"mappings": mappings}, "overlapping": []}
            case (_, "_resolve", "index", pattern):
                found = [name for name in self.streams if fnmatchcase(name, pattern)]
                listed = [{"name": name, "backing_indices": [f".ds-{name}-1"]} for name in found]
                return {"indices": [], "aliases": [], "data_streams": listed}
            case ("GET", "_data_stream", name, "_lifecycle"):
                listed = [{"name": name, "lifecycle": self.streams[name].get("lifecycle", {})}] if name in self.streams else []
                return {"data_streams": listed}
            case ("PUT", "_data_stream", name, "_lifecycle"):
                self.streams[name]["lifecycle"] = body
                return {}
            case ("DELETE", "_data_stream", name):
                return self.streams.pop(name)
            case ("POST", "_security", "api_key"):
                key = {"id": f"id{len(self.keys)}", "name": body["name"], "metadata": body["metadata"], "invalidated": False}
                self.keys.append(key)
                return {**key, "encoded": base64.b64encode(f"{key['id']}:secret".encode()).decode()}
            case ("GET", "_security", "api_key"):
                return {"api_keys": [key for key in self.keys if all(key[name] == value for name, value in query.items())]}
            case ("DELETE", "_security", "api_key"):
                for key in self.keys:
                    key["invalidated"] = key["invalidated"] or key["id"] in body["ids"]
                return {}
            case ("POST", "_security", "user", "_has_privileges"):
                given = {right: self.privileges is None or right in self.privileges for right in body["index"][0]["privileges"]}
                cluster = {right: self.privileges is None or right in self.privileges for right in body["cluster"]}
                return {"index": dict.fromkeys(body["index"][0]["names"], given), "cluster": cluster}
            case (_, index, what, *part) if stream := self.streams.get(index.removeprefix(".ds-").removesuffix("-1")):
                if method == "PUT":
                    stream["settings"] |= body["index"]
                settings = {"settings": stream.get("blocks", {}) if part else {"index": stream["settings"]}}
                name = f".ds-{index.removeprefix('.ds-').removesuffix('-1')}-1"
                return {"count": 12} if what == "_count" else {name: {"mappings": stream["mappings"], **settings}}
        return None


FLEET = {"managed_by": "fleet", "managed": True, "package": {"name": "packetclip"}}
"""`_meta` of what Kibana's Fleet puts for an integration package."""


def packaged(cluster: Cluster, *lacking: str) -> None:
    """Put alerts' templates as Fleet does, without some fields of packetclip.*."""
    mappings = json.loads(json.dumps(templates.mapping(missions=MISSIONS)))
    mappings["_meta"] = FLEET
    for name in lacking:
        del mappings["properties"]["packetclip"]["properties"][name]
    name = "logs-packetclip.alert"
    cluster.things[f"/_component_template/{name}@package"] = {"_meta": FLEET, "template": {"mappings": mappings}}
    template = {"index_patterns": [f"{name}-*"], "priority": 200, "composed_of": [f"{name}@package"], "_meta": FLEET}
    cluster.things[f"/_index_template/{name}"] = template


def stream(**settings: str) -> dict[str, Any]:
    """A data stream as this version of the sensor makes it."""
    return {"mappings": templates.mapping(missions=MISSIONS), "settings": dict(settings)}
