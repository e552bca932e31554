"""OpenSearch, asked by its own client in the calls, answers and errors of Elasticsearch's, so that all that is shared stays one.

What differs is made to fit here: a vector is kept and not searched, a component template that an index template
names must be there (an empty one is put), and a bulk request cannot ask for a data stream.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import SimpleNamespace
from typing import Any, Self, cast

import urllib3
from elastic_transport import (
    ApiResponseMeta,
    ConnectionError,
    HttpHeaders,
    NodeConfig,
    ObjectApiResponse,
    SerializationError,
    TlsError,
)
from elasticsearch import ApiError, Elasticsearch

from packetclip_sensor.config.settings import ElasticsearchConfig
from packetclip_sensor.errors import ConfigError

try:
    import opensearchpy
except ImportError as err:  # an extra
    raise ConfigError("sink.opensearch needs its client: pip install '.[opensearch]' in a clone") from err

PLACEHOLDER = {"version": 0, "_meta": {"managed_by": "packetclip-sensor"}, "template": {}}
LEFT_OUT = frozenset({"mode", "ignore_missing_component_templates"})
"""Keys that OpenSearch does not know: an index has one mode."""
VECTOR = {"type": "float", "index": False, "doc_values": False}


def connect(config: ElasticsearchConfig, options: Mapping[str, Any]) -> Elasticsearch:
    """A client; nothing is sent yet.

    Args:
        options: as of elasticsearch.Elasticsearch.
    Raises:
        ConfigError: an API key is named; OpenSearch's security plugin has none.
    """
    if "api_key" in options:
        raise ConfigError("sink.opensearch: has no API keys; name a user by username and password_env")
    tls = {name: value for name, value in options.items() if name in ("verify_certs", "ssl_show_warn", "ca_certs")}
    client = opensearchpy.OpenSearch(
        config.hosts, http_auth=options.get("basic_auth"), timeout=config.timeout_s, max_retries=0, http_compress=True, **tls
    )
    return cast(Elasticsearch, Client(client))


def form(value: Any) -> Any:
    """A template, or a part of one, as OpenSearch takes it."""
    if isinstance(value, Mapping):
        if value.get("type") == "dense_vector":
            return VECTOR
        return {name: form(each) for name, each in value.items() if name not in LEFT_OUT}
    return [form(each) for each in value if each != "ecs@mappings"] if isinstance(value, list) else value


class Client:
    """The calls that the sensor makes."""

    form = staticmethod(form)
    pipelines = False
    """Its ingest pipelines have no `_meta`, by which setup knows its own."""

    def __init__(self, client: Any, ignore: Collection[int] = (), login: tuple[str, str] | None = None, **options: Any) -> None:
        self._client, self._ignore, self._login, self._options = client, ignore, login, options
        self.cluster = SimpleNamespace(health=lambda: self.perform_request("GET", "/_cluster/health"))
        self.indices = SimpleNamespace(
            # Under a name of its own: OpenSearch 3.4 answers 500 where a data stream of the name is there.
            simulate_index_template=lambda name: self.perform_request("POST", f"/_index_template/_simulate_index/{name}-new"),
            resolve_index=lambda name: self.perform_request("GET", f"/_resolve/index/{name}"),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def options(
        self,
        *,
        ignore_status: int | Collection[int] = (),
        basic_auth: tuple[str, str] | None = None,
        request_timeout: float | None = None,
    ) -> Client:
        """The same client with other options."""
        ignore = [ignore_status] if isinstance(ignore_status, int) else ignore_status
        timeout = {"timeout": request_timeout} if request_timeout else self._options
        return Client(self._client, ignore, basic_auth or self._login, **timeout)

    def perform_request(
        self, method: str, path: str, *, headers: Any = None, body: Any = None, params: Mapping[str, Any] | None = None
    ) -> ObjectApiResponse[Any]:
        """One request.

        Raises:
            elasticsearch.ApiError, elastic_transport.TransportError: as of Elasticsearch's client.
        """
        if method == "PUT" and path.startswith("/_index_template/"):
            for name in body["composed_of"]:
                at = f"/_component_template/{name}"
                if self.options(ignore_status=404).perform_request("GET", at).meta.status == 404:
                    self.perform_request("PUT", at, body=PLACEHOLDER)
        sent = {"content-type": "application/x-ndjson" if isinstance(body, bytes) else "application/json"}
        if self._login:
            sent |= urllib3.make_headers(basic_auth=":".join(self._login))
        node = NodeConfig("http", "opensearch", 9200)
        try:
            answer = self._client.transport.perform_request(
                method, path, params=dict(params or {}), body=body, headers=sent, **self._options
            )
            return ObjectApiResponse(body=answer, meta=ApiResponseMeta(200, "1.1", HttpHeaders(), 0.0, node))
        except opensearchpy.ConnectionError as err:
            kind = TlsError if isinstance(err, opensearchpy.SSLError) else ConnectionError
            raise kind(str(err.info)) from err
        except opensearchpy.SerializationError as err:  # of a proxy between, say
            raise SerializationError(f"an answer that is no JSON: {err}") from err
        except opensearchpy.TransportError as err:
            meta = ApiResponseMeta(int(err.status_code), "1.1", HttpHeaders(), 0.0, node)
            if meta.status in self._ignore:
                return ObjectApiResponse(body=err.info, meta=meta)
            raise ApiError(str(err.error), meta, err.info or str(err.error)) from err

    def bulk(self, *, index: str, operations: Collection[bytes], require_data_stream: bool, filter_path: str) -> Any:
        body = b"".join(line + b"\n" for line in operations)
        return self.perform_request("POST", f"/{index}/_bulk", body=body, params={"filter_path": filter_path})

    def index(self, *, index: str, document: Any, op_type: str, require_data_stream: bool) -> Any:
        return self.perform_request("POST", f"/{index}/_doc", body=document, params={"op_type": op_type})

    def search(self, *, index: str, **body: Any) -> Any:
        asked = {"_source" if name == "source" else name: value for name, value in body.items() if value is not None}
        return self.perform_request("POST", f"/{index}/_search", body=asked)

    def count(self, *, index: str) -> Any:
        return self.perform_request("GET", f"/{index}/_count")
