"""How the sink reaches a cluster and logs in: hosts, TLS, keys, passwords, and what is no Elasticsearch."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import msgspec
import pytest
from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig, TlsError
from elastic_transport import ConnectionError as TransportConnectionError
from elasticsearch import ApiError, TransportError, UnsupportedProductError
from factories import alert, safe
from receivers import certificate, server_context
from scripted_server import ScriptedServer
from sink_run import Run
from snapshot import compare
from structlog.testing import capture_logs

from packetclip_sensor.cli.app import main
from packetclip_sensor.config.settings import ElasticsearchConfig
from packetclip_sensor.elastic.client import connect, trouble
from packetclip_sensor.errors import ConfigError, SinkError

MESSAGES = Path(__file__).parent / "messages.txt"


def settings(options: dict[str, object]) -> ElasticsearchConfig:
    return msgspec.convert(options, ElasticsearchConfig, dec_hook=lambda kind, value: kind(value))


def test_a_server_that_is_no_elasticsearch_is_named(server: ScriptedServer, tmp_path: Path) -> None:
    server.product = "OpenSearch"
    with pytest.raises(SinkError, match=r"is not Elasticsearch; correct sink\.elasticsearch\.hosts"):
        Run(server.url, tmp_path).write(safe(alert()))


def test_an_elasticsearch_8_is_named_and_what_is_needed(
    server: ScriptedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its answer to a client of 9, as elastic/elasticsearch-py issue 2927 has it."""
    error = {"type": "media_type_header_exception", "reason": "Invalid media-type value on headers [Accept]"}
    server.health = (400, {"error": error, "status": 400})
    needed = "this is an older Elasticsearch; the sensor needs Elasticsearch 9"
    with pytest.raises(SinkError, match=needed):
        Run(server.url, tmp_path).write(safe(alert()))
    (tmp_path / "sensor.yaml").write_text(f"sink: {{elasticsearch: {{hosts: ['{server.url}']}}}}\n")
    server.answers = [{"status": 400, "error": error}] * 9
    assert main(["check", "--config", str(tmp_path / "sensor.yaml")]) == 1
    assert needed in capsys.readouterr().out


def test_tls_to_a_server_that_speaks_none_stops_at_start(server: ScriptedServer, tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="this port does not speak TLS; write http://"):
        Run(server.url.replace("http:", "https:"), tmp_path).write(safe(alert()))


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes its certificate with openssl")
def test_tls_is_verified_by_default_and_trusts_the_given_authority(server: ScriptedServer, tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    server.socket = server_context(pem).wrap_socket(server.socket, server_side=True)
    url = server.url.replace("http:", "https:")
    with pytest.raises(SinkError, match=r"authority is unknown to this machine; set sink\.elasticsearch\.ca_certs"):
        Run(url, tmp_path).write(safe(alert()))
    assert server.calls == []
    Run(url, tmp_path, ca_certs=pem).write(safe(alert(id="a")))
    with capture_logs() as logs:
        Run(url, tmp_path, verify_certs=False).write(safe(alert(id="b")))
    assert server.calls == [["a"], ["b"]]
    assert [entry["event"] for entry in logs] == ["certificates_not_verified"]


def test_the_api_key_comes_from_the_environment_or_a_file(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_ES_KEY", "c2VjcmV0")
    Run(server.url, tmp_path, api_key_env="TEST_ES_KEY").write(safe(alert()))
    (tmp_path / "key").write_text("ZmlsZQ==\n")
    (tmp_path / "key").chmod(0o600)
    Run(server.url, tmp_path, api_key_file=tmp_path / "key").write(safe(alert()))
    monkeypatch.setenv("TEST_ES_PASSWORD", "p")
    Run(server.url, tmp_path, username="u", password_env="TEST_ES_PASSWORD").write(safe(alert()))
    sent = [{name.lower(): value for name, value in headers.items()}["authorization"] for headers in server.headers]
    assert sent == ["ApiKey c2VjcmV0", "ApiKey ZmlsZQ==", "Basic dTpw"]


@pytest.mark.parametrize(
    "options",
    [
        {"hosts": ["elastic.example.org"]},
        {"hosts": []},
        {"api_key_env": "PACKETCLIP_NO_SUCH"},
        {"api_key_file": "/no/such/key"},
        {"api_key_env": "A", "username": "b"},
        {"username": "b"},
        {"hosts": ["https://localhost:9200"], "ca_certs": "/no/such.pem"},
        {"namespace": "a-b"},
    ],
    ids=str,
)
def test_a_wrong_configuration_is_named_with_its_remedy(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        connect(settings({"hosts": ["http://es:9200"]} | options))
    compare(MESSAGES, str(options), [re.sub(": .*; write them", ": ...; write them", str(caught.value))])  # a library's words


@pytest.mark.parametrize("namespace", ["", "Prod", "a b", "x" * 101])
def test_a_namespace_that_elasticsearch_refuses_is_refused_at_start(namespace: str) -> None:
    with pytest.raises(ConfigError, match="use 1 to 100 lower-case"):
        connect(settings({"hosts": ["http://es:9200"], "namespace": namespace}))


def answer(status: int, body: object) -> ApiError:
    return ApiError("", ApiResponseMeta(status, "1.1", HttpHeaders(), 0.0, NodeConfig("http", "es", 9200)), body)


@pytest.mark.parametrize(
    "err",
    [
        answer(401, {"error": {"reason": "unable to authenticate"}}),
        answer(403, {"error": {"reason": "unauthorized for\nthis user"}}),
        answer(404, {"error": "no handler found"}),
        answer(502, "<html>bad gateway</html>"),
        answer(400, "The plain HTTP request was sent to HTTPS port"),
        UnsupportedProductError("no product", answer(200, {}).meta, {}),
        TlsError("certificate verify failed: IP address mismatch, certificate is not valid for '127.0.0.1'"),
        TlsError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired"),
        TlsError("[SSL: WRONG_VERSION_NUMBER]"),
        TlsError("[SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer certificate"),
        TlsError("handshake  failure"),
        TransportConnectionError("[Errno 111] Connection refused"),
    ],
    ids=str,
)
def test_an_answer_that_is_none_is_said_with_its_remedy(err: ApiError | TransportError | UnsupportedProductError) -> None:
    logins = ({"api_key_file": "key"}, {"ca_certs": "ca.pem", "username": "u", "password_env": "P"})
    configs = [settings({"hosts": ["https://es:9200"]} | login) for login in logins]
    heading = f"{type(err).__name__} {getattr(err, 'status_code', err.message)}"
    compare(MESSAGES, heading, list(dict.fromkeys(trouble(err, config) for config in configs)))
