"""Webhook and syslog: the form of what is sent, and that each document is sent until it is acknowledged and then no more."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from factories import SENSOR, alert, episode, safe, told
from receivers import SyslogReceiver, WebhookReceiver, certificate
from structlog.testing import capture_logs

from packetclip_sensor.cli.app import main
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config.settings import SyslogConfig, WebhookConfig
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.records import AlertBatch
from packetclip_sensor.sinks.documents import document
from packetclip_sensor.sinks.forward import forwarding
from packetclip_sensor.sinks.forward.forwarding import MAX_IDS, BusyError, Sent, Target
from packetclip_sensor.sinks.forward.syslog import Syslog
from packetclip_sensor.sinks.forward.webhook import Webhook

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="makes its certificate with openssl")


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def hook() -> Iterator[WebhookReceiver]:
    running = WebhookReceiver()
    yield running
    running.down()


@pytest.fixture
def syslog(pem: Path) -> Iterator[SyslogReceiver]:
    running = SyslogReceiver(pem)
    yield running
    running.down()


def to_syslog(receiver: SyslogReceiver, pem: Path, **options: Any) -> Syslog:
    return Syslog(SyslogConfig(host="127.0.0.1", port=receiver.port, ca_certs=pem, timeout_s=5.0, **options), "edge 1\n")


class Run:
    """Waits are counted instead of waited."""

    def __init__(self, target: Target, folder: Path) -> None:
        self.target, self.folder, self.waits, self.counters = target, folder, list[float](), Counters()
        self.on_wait: Any = lambda: None

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.on_wait()

    def write(self, *batches: AlertBatch) -> list[AlertBatch]:
        return list(forwarding.write(batches, self.target, self.folder, SENSOR, self.counters, sleep=self.sleep, rng=lambda: 1.0))


def test_a_webhook_gets_each_document_signed(hook: WebhookReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Signature as the specification of Standard Webhooks 1.0.0 has it."""
    key = bytes(range(24))
    monkeypatch.setenv("HOOK", f"whsec_{base64.b64encode(key).decode()}")
    target = Webhook(WebhookConfig(url=hook.url, secret_env="HOOK"), now=lambda: 1_760_000_000.9)
    run = Run(target, tmp_path)
    run.write(safe(alert(id="a"), alert(id="b")), safe())
    assert hook.ids == ["a", "b"]
    headers, body = hook.requests[0]
    assert json.loads(body) == document(alert(id="a"), SENSOR)
    signed = hmac.new(key, b"a.1760000000." + body, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(signed).decode()}"
    assert (headers["webhook-timestamp"], headers["content-type"]) == ("1760000000", "application/json")
    assert told(run.counters) == {"alerts_forwarded": 2}


@pytest.mark.parametrize("status", [500, 503, 429, 401, 404, 302])
def test_a_webhook_that_takes_nothing_gets_the_same_document_again(hook: WebhookReceiver, tmp_path: Path, status: int) -> None:
    hook.answers = [204, status, status, status]
    run = Run(Webhook(WebhookConfig(url=hook.url)), tmp_path)
    with capture_logs() as logs:
        run.write(safe(alert(id="a"), alert(id="b"), alert(id="c")))
    assert (hook.ids, hook.asked, run.waits) == (["a", "b", "c"], 6, [0.5, 1.0, 2.0])
    assert [entry["event"] for entry in logs] == ["webhook_waiting", "webhook_back"]
    assert told(run.counters) == {"alerts_forwarded": 3, "forward_retries": 3}


def test_a_webhook_that_asks_for_patience_gets_it(hook: WebhookReceiver, tmp_path: Path) -> None:
    hook.answers, hook.retry_after = [503], "7"
    run = Run(Webhook(WebhookConfig(url=hook.url)), tmp_path)
    run.write(safe(alert()))
    assert run.waits == [7.0]


def test_what_a_webhook_refuses_for_good_is_kept_and_can_be_sent_again(
    hook: WebhookReceiver, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hook.answers = [422]
    run = Run(Webhook(WebhookConfig(url=hook.url)), tmp_path / "state")
    assert len(run.write(safe(alert(id="a"), alert(id="b")))) == 1
    assert (hook.ids, told(run.counters)) == (["b"], {"alerts_forwarded": 1, "dead_letters": 1})
    config = tmp_path / "sensor.yaml"
    config.write_text(f"sink: {{webhook: {{url: '{hook.url}'}}}}\n")
    capsys.readouterr()
    assert main(["redeliver", "--config", str(config)]) == 0
    assert capsys.readouterr().out == "1 documents read, 0 refused again\n"
    assert hook.ids == ["b", "a"]
    assert main(["redeliver", "--config", str(config)]) == 0
    assert hook.ids == ["b", "a"]


def test_a_template_makes_another_json_and_may_leave_documents_out(hook: WebhookReceiver, tmp_path: Path) -> None:
    template = tmp_path / "slack.j2"
    template.write_text(
        '{% if packetclip.episode.state == "open" %}{"text": {{ ("%s: %s" % (message, event.reason)) | tojson }}}{% endif %}'
    )
    run = Run(Webhook(WebhookConfig(url=hook.url, body=template)), tmp_path)
    run.write(safe(alert(id="a"), alert(id="b", state="close")))
    assert [json.loads(body)["text"].partition(":")[0] for _, body in hook.requests] == [document(alert(), SENSOR)["message"]]
    assert told(run.counters) == {"alerts_forwarded": 2}


@pytest.mark.parametrize("heading", ["Slack", "Teams", "TheHive"])
def test_the_templates_of_the_docs_give_json_of_every_document(heading: str, hook: WebhookReceiver, tmp_path: Path) -> None:
    section = (Path(__file__).parents[2] / "docs" / "forwarding.md").read_text().split(f"### {heading}\n")[1].split("\n#")[0]
    template = tmp_path / "body.j2"
    template.write_text("\n".join(line[4:] for line in section.splitlines() if line.startswith("    ")))
    many = episode(sources=["10.0.0.1", "10.0.0.2"])
    run = Run(Webhook(WebhookConfig(url=hook.url, body=template)), tmp_path)
    run.write(safe(alert(id="a"), alert(id="b", state="update"), alert(id="c", episode=many)))
    assert [id_ for id_ in hook.ids if id_ != "b"] == ["a", "c"]
    assert all(json.loads(body) for _, body in hook.requests)
    assert told(run.counters) == {"alerts_forwarded": 3}


@pytest.mark.parametrize("template", ["not JSON", "{{ nothing | tojson }}", "{{ 1 / 0 }}"])
def test_a_template_that_gives_no_json_holds_nothing_up(hook: WebhookReceiver, tmp_path: Path, template: str) -> None:
    file = tmp_path / "body.j2"
    file.write_text(template)
    run = Run(Webhook(WebhookConfig(url=hook.url, body=file)), tmp_path)
    run.write(safe(alert()))
    assert (hook.asked, told(run.counters)) == (0, {"dead_letters": 1})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "names no address, or two; give it url or url_file"),
        ({"url": "soc.example.org/x"}, "is no URL; write it like https://"),
        (
            {"url": "https://h/x", "secret_env": "NOT_SET"},
            r"sink\.webhook\.secret_env: the environment variable NOT_SET is not set",
        ),
        ({"url": "https://h/x", "token_file": Path("/nonexistent")}, "token_file /nonexistent: cannot be read"),
        ({"url": "https://h/x", "ca_certs": Path("/nonexistent")}, "sink.webhook: /nonexistent: No such file"),
        ({"url": "https://h/x", "body": Path("/nonexistent")}, "name a Jinja template that gives JSON"),
    ],
)
def test_a_webhook_that_cannot_work_is_refused_at_start(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Webhook(WebhookConfig(**options))


def test_a_token_travels_encrypted_only_and_is_masked(pem: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "open-sesame")
    with pytest.raises(ConfigError, match="the token would travel unencrypted; write https://"):
        Webhook(WebhookConfig(url="http://127.0.0.1:9/x", token_env="TOKEN"))
    hook = WebhookReceiver(pem)
    Run(Webhook(WebhookConfig(url=hook.url, token_env="TOKEN", ca_certs=pem)), tmp_path).write(safe(alert(id="a")))
    hook.down()
    assert [headers["authorization"] for headers, _ in hook.requests] == ["Bearer open-sesame"]
    with pytest.raises(BusyError, match=r"127\.0\.0\.1") as caught:
        Webhook(WebhookConfig(url=f"http://127.0.0.1:{hook.port}/open-sesame")).send([document(alert(), SENSOR)])
    assert "sesame" not in str(caught.value)


def test_a_certificate_that_nobody_vouches_for_gets_nothing(pem: Path, syslog: SyslogReceiver, tmp_path: Path) -> None:
    hook = WebhookReceiver(pem)
    for target in (Webhook(WebhookConfig(url=hook.url)), Syslog(SyslogConfig(host="127.0.0.1", port=syslog.port), "s")):
        with pytest.raises(BusyError, match=rf"set sink\.{target.name}\.ca_certs to the PEM file"):
            target.send([document(alert(), SENSOR)])
    hook.down()
    assert (hook.requests, syslog.messages) == ([], [])


def test_syslog_messages_have_the_form_of_rfc_5424(syslog: SyslogReceiver, pem: Path, tmp_path: Path) -> None:
    run = Run(to_syslog(syslog, pem, facility=21), tmp_path)
    run.write(safe(alert(id="a"), alert(id="b", state="close", episode=episode(sources=["2001:db8::5"]))), safe(alert(id="c")))
    assert syslog.ids == ["a", "b", "c"]
    assert told(run.counters) == {"alerts_forwarded": 3}
    found = re.fullmatch(
        r"<(\d+)>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) edge1 packetclip (\d+) open - (\{.*\})", syslog.messages[0]
    )
    assert found
    whole, sent = document(alert(id="a"), SENSOR), json.loads(found[4])
    assert int(found[1]) == 21 * 8 + {99: 2, 73: 3, 47: 4, 21: 5}[whole["event"]["severity"]]
    assert found[2] == whole["@timestamp"]
    assert sent == whole | {"packetclip": {name: whole["packetclip"][name] for name in sent["packetclip"]}}
    assert {"mission", "class", "probability", "episode"} <= sent["packetclip"].keys()
    assert max(map(len, syslog.messages)) < 8192
    assert " close - {" in syslog.messages[1]


def test_syslog_that_was_cut_before_it_was_read_is_sent_again(syslog: SyslogReceiver, pem: Path, tmp_path: Path) -> None:
    syslog.cuts = 2
    run = Run(to_syslog(syslog, pem), tmp_path)
    run.write(safe(*(alert(id=f"a{n}") for n in range(600))))
    assert syslog.ids == [f"a{n}" for n in range(600)]
    assert (run.waits, told(run.counters)) == ([0.5, 1.0], {"alerts_forwarded": 600, "forward_retries": 2})


def test_a_syslog_receiver_that_closes_without_tls_word_has_read_everything(
    syslog: SyslogReceiver, pem: Path, tmp_path: Path
) -> None:
    syslog.silent = True
    run = Run(to_syslog(syslog, pem), tmp_path)
    run.write(safe(alert(id="a")))
    assert (syslog.ids, run.waits) == (["a"], [])


def test_a_syslog_receiver_may_ask_for_a_certificate(pem: Path, tmp_path: Path) -> None:
    receiver = SyslogReceiver(pem, client=pem)
    with pytest.raises(BusyError):
        to_syslog(receiver, pem).send([document(alert(id="a"), SENSOR)])
    to_syslog(receiver, pem, certificate=pem).send([document(alert(id="b"), SENSOR)])
    receiver.down()
    assert receiver.ids == ["b"]


@pytest.mark.parametrize("kind", ["webhook", "syslog"])
def test_a_receiver_that_was_away_gets_everything_once_and_a_restart_sends_nothing_again(
    kind: str, hook: WebhookReceiver, syslog: SyslogReceiver, pem: Path, tmp_path: Path
) -> None:
    receiver: Any = hook if kind == "webhook" else syslog
    target: Target = Webhook(WebhookConfig(url=hook.url)) if kind == "webhook" else to_syslog(syslog, pem)
    run = Run(target, tmp_path)
    run.write(safe(alert(id="a")))
    receiver.down()
    run.on_wait = lambda: receiver.up() if len(run.waits) == 4 else None
    run.write(safe(alert(id="a"), alert(id="b")), safe(alert(id="c"), alert(id="b")))
    assert receiver.ids == ["a", "b", "c"]
    assert run.waits == [0.5, 1.0, 2.0, 4.0]
    assert told(run.counters) == {"alerts_forwarded": 3, "forward_retries": 4}


def test_ids_survive_a_kill_in_the_middle_of_a_line_and_stay_few(tmp_path: Path) -> None:
    path = tmp_path / "sent.txt"
    path.write_text("a\nb\nhalf")
    known = Sent(path)
    assert list(known.ids) == ["a", "b"]
    known.add(["c"])
    known.add(f"{n}" for n in range(2 * MAX_IDS))
    known.add(["last"])
    known.close()
    assert list(Sent(path).ids)[-2:] == [f"{2 * MAX_IDS - 1}", "last"]
    assert len(path.read_text().splitlines()) == MAX_IDS + 1
