"""Secrets: where they are refused, and that one that is used stands in no log, message, page, document or file."""

from __future__ import annotations

import base64
import io
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog
from factories import MISSIONS, SENSOR, alert, safe
from scripted_server import ScriptedServer
from sink_run import Run

from packetclip_sensor.cli.app import main
from packetclip_sensor.cli.common import set_up_logs
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config import config_file
from packetclip_sensor.config.settings import Config, ElasticsearchConfig, HealthConfig, SinkConfig
from packetclip_sensor.elastic.client import connect
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.pipeline import sink
from packetclip_sensor.service.health import Health
from packetclip_sensor.service.health_documents import document

SECRET = "marked-hunter2-7f3a"
KEY = base64.b64encode(f"an-id:{SECRET}".encode()).decode()
MARKS = (SECRET, KEY, base64.b64encode(f"elastic:{SECRET}".encode()).decode())


def clean(*texts: object) -> None:
    """None of these holds a marked secret in any of its forms."""
    assert [mark for text in texts for mark in MARKS if mark in str(text)] == []


@pytest.mark.parametrize(
    ("sink_text", "remedy"),
    [
        (f"{{hosts: ['https://elastic:{SECRET}@es:9200']}}", "hosts: holds more than scheme, host, port and path"),
        (f"{{hosts: ['https://elastic:{SECRET}/x@es:9200']}}", "hosts: holds more than scheme"),
        (f"{{hosts: ['https://{SECRET}@es:9200']}}", "hosts: holds more than scheme"),
        (f"{{hosts: ['https://es:9200?api_key={SECRET}']}}", "hosts: holds more than scheme"),
        (f"{{hosts: 'https://elastic:{SECRET}@es:9200'}}", 'hosts is "https://\\*\\*\\*@es:9200"; expected a list'),
        (f"https://elastic:{SECRET}@es:9200", "expected key: value lines"),
        (f"{{hosts: ['https://es:9200'], 'https://elastic:{SECRET}@es': 1}}", "no such key"),
        (f"{{hosts: ['https://es:9200'], password: {SECRET}}}", "no such key"),
        (f"{{hosts: ['https://es:9200'], password_env: [{SECRET}]}}", "is a value that is not shown"),
        (f"{{hosts: ['https://es:9200'], api_key_env: {{{SECRET}: 1}}}}", "is a value that is not shown"),
        (f"{{hosts: ['https://es:9200'], username: elastic, password_env: '{SECRET}}}", "not valid YAML: found unexpected end"),
        (f"{{hosts: ['https://es:9200'], password_env: {SECRET}: x}}", "not valid YAML"),
    ],
)
def test_a_configuration_that_holds_a_secret_is_refused_without_showing_it(sink_text: str, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=remedy) as caught:
        config_file.parse(f"sink:\n  elasticsearch: {sink_text}\n", "sensor.yaml", tmp_path)
    clean(caught.value)


def test_a_login_in_a_url_on_the_command_line_is_refused_without_showing_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--out", str(tmp_path / "a.ndjson")]):
        assert main(["replay", str(tmp_path), "--elasticsearch", f"https://elastic:{SECRET}@es:9200", *more]) == 2
        said = capsys.readouterr()
        assert "--elasticsearch: holds more than scheme, host, port and path" in said.err
        clean(said.out, said.err)


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (f"{KEY}\n{KEY}\n", 0o600, "holds not one line with one encoded key"),
        (f"id: an-id\napi_key: {SECRET}\n", 0o600, "holds not one line with one encoded key"),
        (f"ApiKey {KEY}\n", 0o600, "holds not one line with one encoded key"),
        (f"{KEY}\r\nX-Header: {SECRET}", 0o600, "holds not one line with one encoded key"),
        (f"{KEY}\x00", 0o600, "holds not one line with one encoded key"),
        (KEY * 100, 0o600, "holds not one line with one encoded key"),
        ("\n", 0o600, "holds not one line with one encoded key"),
        (KEY, 0o644, "mode 0644 lets others read or change it; chmod 600"),
        (KEY, 0o640, "mode 0640 lets others read or change it; chmod 600"),
        (KEY, 0o604, "mode 0604 lets others read or change it; chmod 600"),
        (KEY, 0o620, "mode 0620 lets others read or change it; chmod 600"),
    ],
)
def test_a_key_file_that_is_no_secret_of_one_line_is_refused_without_its_content(
    content: str, mode: int, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_bytes(content.encode("latin-1"))
    file.chmod(mode)
    with pytest.raises(ConfigError, match=words) as caught:
        connect(ElasticsearchConfig(hosts=["https://es:9200"], api_key_file=file))
    clean(caught.value)
    assert str(file) in str(caught.value)


def test_a_key_file_that_root_gives_to_a_service_by_its_group_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `root:packetclip 0640`, and systemd's credentials, whose ACL shows as the group's right."""
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    file.chmod(0o440)
    if file.stat().st_uid != 0:
        pytest.skip("only root makes files of root's")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    connect(ElasticsearchConfig(hosts=["https://es:9200"], api_key_file=file)).close()


def test_a_key_file_that_setup_made_for_root_is_answered_with_whose_it_must_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", denied)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied; give it to the user that runs the sensor: chown"):
        connect(ElasticsearchConfig(hosts=["https://es:9200"], api_key_file=tmp_path / "key"))


@pytest.mark.parametrize(
    ("login", "words"),
    [
        ({"api_key_env": KEY}, "the environment variable that it names"),
        ({"username": "elastic", "password_env": SECRET}, "the environment variable that it names"),
        ({"api_key_file": Path("/nowhere") / KEY}, r"api_key_file \*\*\*: cannot be read"),
        ({"api_key_file": Path("/dev/null")}, "is no regular file"),
    ],
)
def test_a_secret_in_place_of_its_name_is_not_shown(login: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        connect(ElasticsearchConfig(hosts=["https://es:9200"], **login))
    clean(caught.value)


def test_a_variable_that_holds_no_key_is_refused_without_its_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", f"{KEY}\n{SECRET}")
    with pytest.raises(ConfigError, match="api_key_env: its variable holds not one line") as caught:
        connect(ElasticsearchConfig(hosts=["https://es:9200"], api_key_env="KEY"))
    clean(caught.value)


@pytest.fixture(params=["key", "password"])
def login(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The two ways to log in."""
    if request.param == "key":
        (tmp_path / "key").write_text(KEY)
        (tmp_path / "key").chmod(0o600)
        return {"api_key_file": tmp_path / "key"}
    monkeypatch.setenv("PASSWORD", SECRET)
    return {"username": "elastic", "password_env": "PASSWORD"}


@pytest.mark.parametrize("terminal", [True, False])
def test_a_secret_in_use_stands_in_no_log_page_document_or_file(
    server: ScriptedServer, tmp_path: Path, login: dict[str, Any], terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a proxy that repeats the Authorization header in every error, as debugging ones do."""
    said = io.StringIO()
    said.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", said)
    set_up_logs("debug")
    server.echoes = True
    server.answers = [[201], 401, 503, [(403, "security_exception"), (400, "mapper_parsing_exception")], [201]]
    run = Run(server.url, tmp_path, **login)
    pages: list[object] = []

    class Told(Health):
        def waiting(self, why: str | None) -> None:
            super().waiting(why)
            pages.extend([why, self.as_json()[1], document(self, SENSOR, "run", 1e9)])

    monkeypatch.setattr("packetclip_sensor.pipeline.time.sleep", lambda _: None)
    health = Told(HealthConfig(max_wait_s=1e-9), Counters(), state_dir=tmp_path)
    config = Config(sink=SinkConfig(elasticsearch=run.config), state_dir=tmp_path)
    list(sink([safe(alert(id="a")), safe(alert(id="b"), alert(id="c"))], config, Counters(), MISSIONS, health=health))
    log = structlog.get_logger()
    try:
        sent = dict(server.headers[0])
        raise ValueError(f"a library quotes {sent}")
    except ValueError:
        log.exception("failed", headers=sent, listed=[sent])
        logging.getLogger("elastic_transport").exception("also %s", sent)
    assert "sink_waiting" in str(pages)
    assert "sent: " in str(pages)
    assert "sent: " in run.dead_letters.read_text()
    assert "a library quotes" in said.getvalue()
    clean(said.getvalue(), *pages, run.dead_letters.read_text())


def test_a_refused_login_is_said_without_the_login(
    server: ScriptedServer, tmp_path: Path, login: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """As a running sensor's end, and by `check`."""
    server.echoes, server.health = True, (401, {})
    text = {name: str(value) for name, value in login.items()} | {"hosts": [server.url]}
    (tmp_path / "sensor.yaml").write_text(json.dumps({"logs": ["logs"], "sink": {"elasticsearch": text}}))
    for command in ("check", "setup elasticsearch"):
        assert main([*command.split(), "--config", str(tmp_path / "sensor.yaml")]) in (1, 2)
        said = capsys.readouterr()
        assert "answers 401: no (sent: " in said.out + said.err
        clean(said.out, said.err)
    run = Run(server.url, tmp_path, **login)
    with pytest.raises(Exception, match="answers 401") as caught:
        run.write(safe(alert()))
    clean(caught.value)


def test_what_lets_others_listen_is_said_in_every_check(
    server: ScriptedServer, tmp_path: Path, login: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    options = {name: str(value) for name, value in login.items()} | {"hosts": [server.url], "verify_certs": False}
    (tmp_path / "sensor.yaml").write_text(json.dumps({"logs": ["logs"], "sink": {"elasticsearch": options}}))
    for _ in range(2):
        main(["check", "--config", str(tmp_path / "sensor.yaml")])
        out = capsys.readouterr().out
        assert f"look  sink     {server.url}: the key or password travels unencrypted" in out
        assert "look  sink     verify_certs: false: whoever is on the way may be the cluster" in out
    options |= {"hosts": ["https://127.0.0.1:9"], "verify_certs": True}
    (tmp_path / "sensor.yaml").write_text(json.dumps({"logs": ["logs"], "sink": {"elasticsearch": options}}))
    main(["check", "--config", str(tmp_path / "sensor.yaml")])
    assert "unencrypted" not in (out := capsys.readouterr().out)
    assert "verify_certs" not in out
