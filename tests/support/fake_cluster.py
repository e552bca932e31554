"""Elasticsearch as far as setup and check ask it, for what the test node lacks: ingest, lifecycle, ILM, security.

It keeps what is put and gives it back; it judges nothing. The real node has the last word on everything that it can do.
"""

from __future__ import annotations

import base64
import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

KEPT = ("/_component_template/", "/_index_template/", "/_ingest/pipeline/", "/_ilm/policy/", "/_security/role/")
NEEDS = {"/_ilm/": "ilm", "/_security/": "security"}


@dataclass
class Cluster:
    """What it has and what it was asked."""

    features: set[str] = field(default_factory=lambda: {"ingest", "lifecycle", "security"})
    things: dict[str, Any] = field(default_factory=dict)
    """Everything put, by path."""
    streams: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Data streams: mappings, settings, lifecycle, count."""
    keys: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    """All that changes something: method, path, body."""
    refuse: dict[str, tuple[int, Any]] = field(default_factory=dict)
    """Answers by the beginning of a path, before everything else."""
    privileges: set[str] | None = None
    """What `_has_privileges` grants; None for all."""
    logins: set[str] = field(default_factory=set)
    """Every Authorization header that came."""
    url: str = ""

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        for start, refusal in self.refuse.items():
            if path.startswith(start):
                return refusal
        missing = next((need for start, need in NEEDS.items() if path.startswith(start) and need not in self.features), None)
        if missing or (path.startswith("/_data_stream/") and "lifecycle" not in self.features):
            return 400, {"error": f"no handler found for uri [{path}] and method [{method}]"}
        if method != "GET" and not any(part in path for part in ("/_count", "/_has_privileges", "/_resolve", "_simulate_index")):
            self.requests.append((method, path, body))
        if any(path.startswith(start) for start in KEPT) and "_simulate_index" not in path:
            return self.keep(method, path, body)
        return self.other(method, path, query, body)

    def keep(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if method == "PUT":
            self.things[path] = body
            return 200, {"acknowledged": True}
        if path not in self.things:
            return 404, {"error": {"reason": f"{path} is not there"}}
        if method == "DELETE":
            del self.things[path]
            return 200, {"acknowledged": True}
        name, found = path.rsplit("/", 1)[1], self.things[path]
        match path.split("/")[1]:
            case "_component_template":
                return 200, {"component_templates": [{"name": name, "component_template": found}]}
            case "_index_template":
                return 200, {"index_templates": [{"name": name, "index_template": found}]}
        return 200, {name: found}

    def other(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:  # noqa: PLR0911, PLR0912
        parts = path.strip("/").split("/")
        match (method, *parts):
            case ("GET", "_cluster", "health"):
                return 200, {"cluster_name": "fake", "status": "green"}
            case ("GET", "_nodes", "ingest"):
                return 200, {"nodes": {"a": {"ingest": {"processors": [{"type": "set"}]}}}} if "ingest" in self.features else {}
            case ("GET", "_ilm" | "_security", *_) if parts[1] in ("status", "_authenticate"):
                return 200, {}
            case ("GET", "_index_template"):
                found = [(path, thing) for path, thing in self.things.items() if path.startswith("/_index_template/")]
                return 200, {"index_templates": [{"name": p.rsplit("/", 1)[1], "index_template": t} for p, t in found]}
            case ("POST", "_index_template", "_simulate_index", name):
                return 200, {"template": {"mappings": self.merged(name)}, "overlapping": []}
            case (_, "_resolve", "index", pattern):
                found_streams = [name for name in self.streams if name.startswith(pattern.rstrip("*"))]
                listed = [{"name": name, "backing_indices": [f".ds-{name}-1"]} for name in found_streams]
                return 200, {"indices": [], "aliases": [], "data_streams": listed}
            case ("GET", "_data_stream", name, "_lifecycle"):
                listed = [{"name": n, "lifecycle": s.get("lifecycle", {})} for n, s in self.streams.items() if n == name]
                return 200, {"data_streams": listed}
            case ("PUT", "_data_stream", name, "_lifecycle"):
                self.streams[name]["lifecycle"] = body
                return 200, {}
            case ("DELETE", "_data_stream", name):
                del self.streams[name]
                return 200, {}
            case ("POST", "_security", "api_key"):
                key = {"id": f"id{len(self.keys)}", "name": body["name"], "metadata": body["metadata"], "invalidated": False}
                self.keys.append(key)
                return 200, {**key, "encoded": base64.b64encode(f"{key['id']}:secret".encode()).decode()}
            case ("GET", "_security", "api_key"):
                asked = {name: values[0] for name, values in query.items()}
                return 200, {"api_keys": [key for key in self.keys if all(key[name] == value for name, value in asked.items())]}
            case ("DELETE", "_security", "api_key"):
                for key in self.keys:
                    key["invalidated"] = key["invalidated"] or key["id"] in body["ids"]
                return 200, {}
            case ("POST", "_security", "user", "_has_privileges"):
                granted = {p: self.privileges is None or p in self.privileges for i in body["index"] for p in i["privileges"]}
                cluster = {p: self.privileges is None or p in self.privileges for p in body.get("cluster", [])}
                return 200, {"index": {i["names"][0]: granted for i in body["index"]}, "cluster": cluster}
        name = parts[0].removeprefix(".ds-").removesuffix("-1")
        if name not in self.streams:
            return 404, {"error": {"type": "index_not_found_exception", "reason": f"no such index [{name}]"}}
        stream = self.streams[name]
        match (method, parts[1]):
            case ("GET", "_settings") if len(parts) > 2:
                return 200, {f".ds-{name}-1": {"settings": stream.get("blocks", {})}}
            case ("GET", "_mapping"):
                return 200, {f".ds-{name}-1": {"mappings": stream["mappings"]}}
            case ("GET", "_settings"):
                return 200, {f".ds-{name}-1": {"settings": {"index": stream["settings"]}}}
            case ("PUT", "_settings"):
                stream["settings"] |= body["index"]
                return 200, {}
            case (_, "_count"):
                return 200, {"count": stream.get("count", 0)}
        return 500, {"error": {"reason": f"the fake does not know {method} {path}"}}

    def merged(self, name: str) -> dict[str, Any]:
        """The mapping of the components that the index template for this name takes in."""
        out: dict[str, Any] = {}
        for path, template in self.things.items():
            if path.startswith("/_index_template/") and any(fnmatchcase(name, each) for each in template["index_patterns"]):
                for part in template["composed_of"]:
                    merge(out, self.things.get(f"/_component_template/{part}", {}).get("template", {}).get("mappings", {}))
        return out


def merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, dict):
            merge(into.setdefault(name, {}), value)
        else:
            into[name] = value


@contextmanager
def running(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster behind a port of its own on loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def respond(self) -> None:
            parts = urlsplit(self.path)
            cluster.logins.add(self.headers.get("authorization", ""))
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            raw = gzip.decompress(raw) if self.headers.get("content-encoding") == "gzip" else raw
            status, answer = cluster.answer(
                self.command, unquote(parts.path), parse_qs(parts.query), json.loads(raw) if raw else None
            )
            payload = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in (
                ("content-type", "application/json"),
                ("content-length", str(len(payload))),
                ("x-elastic-product", "Elasticsearch"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = respond  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.block_on_close = False
        cluster.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield cluster
        finally:
            server.shutdown()
            thread.join()
