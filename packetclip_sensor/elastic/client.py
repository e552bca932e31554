"""Which Elasticsearch cluster, how to log in to it, and what its refusals ask of a person."""

from __future__ import annotations

import base64
import contextlib
import gzip
import re
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import structlog
from elastic_transport import HttpHeaders, TlsError, Urllib3HttpNode
from elastic_transport.client_utils import DEFAULT, DefaultType
from elasticsearch import ApiError, Elasticsearch, TransportError, UnsupportedProductError

from packetclip_sensor.common.text import MAX_TEXT_CHARS, keep_secret, printable
from packetclip_sensor.config import secrets
from packetclip_sensor.config.settings import ElasticsearchConfig, OpenSearchConfig, check_hosts, check_namespace
from packetclip_sensor.errors import ConfigError, SinkError

MAX_KEY_BYTES = 1024
YOUNG_WAIT_S, YOUNG_TRIES = 2.0, 30
"""A cluster that starts answers 503 for some seconds; setup asks again for a minute."""
JSON = {"accept": "application/json", "content-type": "application/json"}

T = TypeVar("T")
ClusterError = ApiError | TransportError | UnsupportedProductError

log = structlog.get_logger()


class PackingNode(Urllib3HttpNode):
    """Packs requests at gzip's lowest level: the highest, which the client's own `http_compress` takes, saves a third of the
    bytes at three times the cost."""

    def perform_request(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: HttpHeaders | None = None,
        request_timeout: DefaultType | float | None = DEFAULT,
    ) -> Any:
        """As the base class."""
        headers = HttpHeaders(headers or {})
        headers["accept-encoding"] = "gzip"
        if body:
            body, headers["content-encoding"] = gzip.compress(body, 1), "gzip"
        return super().perform_request(method, target, body, headers, request_timeout)


class PatientNode(PackingNode):
    """Sends again what a cluster answers with 503 while it starts, elects a master or has no shard ready yet; a bounded time."""

    def perform_request(self, *request: Any, **more: Any) -> Any:
        """As the base class."""
        for left in range(YOUNG_TRIES, -1, -1):
            answer = super().perform_request(*request, **more)
            if answer.meta.status != 503 or not left:
                break
            if left == YOUNG_TRIES:
                log.warning("elasticsearch_starting", url=self.base_url, status=503, tried_for_s=YOUNG_TRIES * YOUNG_WAIT_S)
            time.sleep(YOUNG_WAIT_S)
        return answer


def connect(config: ElasticsearchConfig, node: type[PackingNode] = PackingNode) -> Elasticsearch:
    """A client; nothing is sent yet.

    Args:
        node: PackingNode never sends anything again, PatientNode what a young cluster refuses.
    Raises:
        ConfigError: a host is no URL, a secret is missing, or there are two ways to log in.
    """
    check_namespace(config.namespace)
    check_hosts(config.hosts, "elasticsearch.hosts")
    options: dict[str, Any] = {"request_timeout": config.timeout_s, "max_retries": 0, "node_class": node}
    if any(host.startswith("https:") for host in config.hosts):
        options["verify_certs"] = config.verify_certs
        options["ssl_show_warn"] = False
        if (authority := config.ca_certs) is not None:
            if not authority.is_file():
                raise ConfigError(
                    f"elasticsearch.ca_certs {authority}: no such file; name the PEM file of the cluster's authority"
                )
            options["ca_certs"] = str(authority)
    if [config.api_key_env, config.api_key_file, config.username].count(None) < 2:
        raise ConfigError("elasticsearch: api_key_env, api_key_file and username exclude each other; keep one")
    for event, reason_ in exposed(config):
        log.warning(event, hosts=config.hosts, reason=reason_)
    if config.api_key_env is not None:
        options["api_key"] = _key(
            secrets.from_environment(config.api_key_env, "elasticsearch.api_key_env"), "api_key_env: its variable"
        )
    elif config.api_key_file is not None:
        key, option = secrets.from_file(config.api_key_file, "elasticsearch.api_key_file", "the encoded key", MAX_KEY_BYTES)
        options["api_key"] = _key(key, option.removeprefix("elasticsearch."))
    elif config.username is not None:
        if config.password_env is None:
            raise ConfigError(
                f"elasticsearch.username {config.username} has no password_env; name the variable with the password"
            )
        password = secrets.from_environment(config.password_env, "elasticsearch.password_env")
        keep_secret(password, base64.b64encode(f"{config.username}:{password}".encode()).decode())
        options["basic_auth"] = (config.username, password)
    if isinstance(config, OpenSearchConfig):
        from packetclip_sensor.elastic import opensearch  # noqa: PLC0415  (its client is an extra)

        return opensearch.connect(config, options)
    try:
        return Elasticsearch(config.hosts, **options)
    except ValueError as err:
        raise ConfigError(f"elasticsearch.hosts {config.hosts}: {err}; write them like https://elastic.example.org:9200") from err


def exposed(config: ElasticsearchConfig) -> Iterator[tuple[str, str]]:
    """What lets others on the way read or change what is sent: a name, and the words with the remedy."""
    plain = [host for host in config.hosts if host.startswith("http:")]
    if plain and (config.api_key_env or config.api_key_file or config.username):
        yield (
            "login_unencrypted",
            f"{', '.join(plain)}: the key or password travels unencrypted, and whoever is on the way reads it; write https://",
        )
    if not config.verify_certs:
        yield (
            "certificates_not_verified",
            "verify_certs: false: whoever is on the way may be the cluster, and gets the key and all alerts; set ca_certs and "
            "verify_certs: true",
        )


def get(client: Elasticsearch, path: str) -> Any:
    """The body of a GET; an empty dict where there is nothing at this path.

    Raises:
        elasticsearch.ApiError, elasticsearch.TransportError: the cluster refuses it or is not there.
    """
    answer = client.options(ignore_status=404).perform_request("GET", path, headers=JSON)
    return answer.body if answer.meta.status != 404 else {}


def form(client: Elasticsearch, template: T) -> T:
    """A template, or a part of one, as this cluster takes it."""
    made: T = getattr(client, "form", lambda same: same)(template)
    return made


def reason(err: ApiError) -> str:
    """What Elasticsearch says is wrong, in its own words."""
    body: Any = err.body
    error = body.get("error", body) if isinstance(body, Mapping) else body
    return _in_a_line(str(error.get("reason", error) if isinstance(error, Mapping) else error), MAX_TEXT_CHARS)


def trouble(err: ClusterError, config: ElasticsearchConfig, remedies: Mapping[int, str] = MappingProxyType({})) -> str:
    """What went wrong with the cluster and the remedy, on one line: the thing, the value, what to do.

    Args:
        remedies: what to do about an HTTP status, in place of the usual.
    """
    at = f"{config.product} {', '.join(config.hosts)}"
    match err:
        case UnsupportedProductError():
            return f"{at}: answers, but is not Elasticsearch; correct {config.key}.hosts"
        case ApiError():
            return refusal(config, err.status_code, reason(err), remedies)
        case TlsError():
            return f"{at}: TLS: {_tls_remedy(err.message, config)}"
    return f"{at}: {_in_a_line(str(err.message))}; check address, port and firewall, and that it runs"


def refusal(config: ElasticsearchConfig, status: int, why: str, remedies: Mapping[int, str] = MappingProxyType({})) -> str:
    """As `trouble`, of an answer's (or a bulk item's) HTTP status and reason."""
    usual = _STATUS_REMEDY.get(status, "look into the server's log").format(login=_login(config))
    if "plain HTTP request was sent to HTTPS port" in why and status not in _STATUS_REMEDY:  # nginx's words
        usual = f"this port speaks TLS: write https:// in {config.key}.hosts"
    remedy = remedies.get(status, usual)
    if "Invalid media-type value on headers" in why:  # the words of 8 for a client of 9; its own remedies would mislead
        remedy = "this is an older Elasticsearch; the sensor needs Elasticsearch 9, or OpenSearch 3 (sink.opensearch)"
    return f"{config.product} {', '.join(config.hosts)}: answers {status}: {_in_a_line(why)}; {remedy}"


def unreadable(
    err: ApiError | TransportError, config: ElasticsearchConfig, stream: str, remedies: Mapping[int, str]
) -> SinkError:
    """Why a search in a data stream gave nothing, for a reader, whose rights are not those of a sensor."""
    reader = {403: f"give the key the index privileges `read` and `view_index_metadata` on {stream}"}
    return SinkError(trouble(err, config, {**reader, **remedies}))


_STATUS_REMEDY = {
    401: "check {login}, and that it has not expired or been taken back",
    403: "its right does not reach: see `packetclip setup elasticsearch --help` for who needs which",
    502: "the proxy does not reach Elasticsearch; look into the proxy's log",
    503: "it is starting, has no master or no shard ready; wait until its health is yellow or green",
}


def _login(config: ElasticsearchConfig) -> str:
    """Where the secret comes from, for messages."""
    if config.api_key_env is not None:
        return f"the API key in the environment variable {config.api_key_env}"
    if config.api_key_file is not None:
        return f"the API key in {config.api_key_file}"
    if config.username is not None:
        return f"user {config.username} and the password"
    return f"{config.key}: it names no api_key_env, api_key_file or username"


def _tls_remedy(error: str, config: ElasticsearchConfig) -> str:
    """OpenSSL's words (by way of Python's ssl) as what to do."""
    if "mismatch" in error or "not valid for" in error or "doesn't match" in error:
        return f"the certificate is for another name; write the name that it carries in {config.key}.hosts, or renew it"
    if "expired" in error or "not yet valid" in error:
        return "the certificate is not valid now; renew it, or set this machine's clock"
    if "WRONG_VERSION_NUMBER" in error or "record layer failure" in error:
        return f"this port does not speak TLS; write http:// in {config.key}.hosts, or its TLS port"
    if "CERTIFICATE_VERIFY_FAILED" in error:
        if config.ca_certs is None:
            return f"the certificate's authority is unknown to this machine; set {config.key}.ca_certs to its PEM file"
        return (
            f"the certificate is not signed by the authority in ca_certs {config.ca_certs}; name the PEM file of the one that did"
        )
    return f"{_in_a_line(error)}; check ca_certs and the server's certificate"


def _in_a_line(words: str, max_chars: int = 300) -> str:
    """The words of a server or library, in a line of ours."""
    return printable(" ".join(words.split()), max_chars)


def _key(key: str, option: str) -> str:
    """An encoded API key, kept out of logs from now on. What is no such key is not repeated: it may be another secret."""
    if not re.fullmatch(f"[!-~]{{1,{MAX_KEY_BYTES}}}", key):
        raise ConfigError(f"elasticsearch.{option} holds not one line with one encoded key; put the `encoded` one there, alone")
    keep_secret(key)
    with contextlib.suppress(ValueError):
        keep_secret(base64.b64decode(key, validate=True).decode().partition(":")[2])
    return key
