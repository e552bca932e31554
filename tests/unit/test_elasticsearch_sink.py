"""The Elasticsearch sink against a scripted HTTP server: what a real node does not do on demand (busy, away, refusing)."""

from __future__ import annotations

import json
import resource
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from conftest import free_port
from factories import SENSOR, alert, safe, told
from scripted_server import DROP, Answer, ScriptedServer
from structlog.testing import capture_logs

from packetclip_sensor.documents import document
from packetclip_sensor.errors import ConfigError, SinkError
from packetclip_sensor.metrics import Counters
from packetclip_sensor.records import Safe
from packetclip_sensor.sinks import dead_letters, elasticsearch
from packetclip_sensor.sinks.elasticsearch import ElasticsearchConfig, connect, redeliver, write


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running
        running.shutdown()


class Run:
    """One run of the sink with waits counted instead of waited."""

    def __init__(self, url: str, folder: Path, **options: Any) -> None:
        self.dead_letters = folder / "dead.ndjson"
        given = {"hosts": [url], "manage_templates": False, "dead_letter_path": str(self.dead_letters)}
        self.config = ElasticsearchConfig(**(given | options))
        self.counters: Counters = Counters()
        self.waits: list[float] = []
        self.on_wait: Callable[[int], None] = lambda _: None

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.on_wait(len(self.waits))

    def write(self, *batches: Safe) -> list[Safe]:
        return list(write(batches, self.config, SENSOR, self.counters, sleep=self.sleep, rng=lambda: 1.0))

    def letters(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.dead_letters.read_text().splitlines()]


class StopWaitingError(Exception):
    """Ends a run that would wait for ever."""


def test_a_safe_comes_back_only_after_its_documents_are_acknowledged(server: ScriptedServer, tmp_path: Path) -> None:
    run = Run(server.url, tmp_path)
    written = write([safe(alert(id="a")), safe(), safe(alert(id="b"))], run.config, SENSOR, run.counters)
    seen = [(next(written), list(server.calls))[1] for _ in range(3)]
    assert seen == [[["a"]], [["a"]], [["a"], ["b"]]]
    assert told(run.counters) == {"alerts_written": 2}


def test_requests_are_packed(server: ScriptedServer, tmp_path: Path) -> None:
    Run(server.url, tmp_path).write(safe(*(alert(id=name) for name in "abcd")))
    headers = {name.lower(): value for name, value in server.headers[0].items()}
    assert (headers["content-encoding"], headers["accept-encoding"]) == ("gzip", "gzip")
    assert server.calls == [["a", "b", "c", "d"]]
    assert int(headers["content-length"]) < server.sizes_bytes[0] / 3


@pytest.mark.parametrize("trouble", [429, 500, 502, 503, 504, DROP])
def test_a_busy_or_lost_cluster_gets_the_same_batch_again(server: ScriptedServer, tmp_path: Path, trouble: Answer) -> None:
    server.answers = [trouble, trouble, trouble]
    run = Run(server.url, tmp_path)
    with capture_logs() as logs:
        run.write(safe(alert(id="a"), alert(id="b")))
    assert server.calls == [["a", "b"]] * 4
    assert run.waits == [0.5, 1.0, 2.0]
    assert [entry["event"] for entry in logs] == ["elasticsearch_waiting", "elasticsearch_back"]
    assert told(run.counters) == {"alerts_written": 2, "es_retries": 3}


def test_waits_grow_to_thirty_seconds_and_jitter_halves_them_at_most(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [503] * 9
    run = Run(server.url, tmp_path)
    list(write([safe(alert())], run.config, SENSOR, run.counters, sleep=run.sleep, rng=lambda: 0.0))
    assert run.waits == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]


def test_only_the_items_that_were_refused_for_now_are_sent_again_with_growing_waits(
    server: ScriptedServer, tmp_path: Path
) -> None:
    busy = (429, "es_rejected_execution_exception")
    server.answers = [[201, busy, 409, (503, "unavailable_shards_exception")], [busy, 201]]
    run = Run(server.url, tmp_path)
    with capture_logs() as logs:
        run.write(safe(*(alert(id=name) for name in "abcd")))
    assert server.calls == [["a", "b", "c", "d"], ["b", "d"], ["b"]]
    assert run.waits == [0.5, 1.0]
    assert [entry["event"] for entry in logs] == ["elasticsearch_waiting", "elasticsearch_back"]
    assert told(run.counters) == {"alerts_written": 3, "alerts_duplicate": 1, "es_retries": 2}


@pytest.mark.parametrize(
    ("header", "wait_s"), [("7", 7.0), ("0", 0.5), ("100000", 300.0), ("soon", 0.5), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.5)]
)
def test_a_server_that_asks_for_patience_gets_it(server: ScriptedServer, tmp_path: Path, header: str, wait_s: float) -> None:
    server.answers, server.retry_after = [429], header
    run = Run(server.url, tmp_path)
    run.write(safe(alert(id="a")))
    assert run.waits == [wait_s]
    assert told(run.counters) == {"alerts_written": 1, "es_retries": 1}


def test_a_date_to_come_back_at_is_understood(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers, server.retry_after = [503], formatdate(time.time() + 60, usegmt=True)
    run = Run(server.url, tmp_path)
    run.write(safe(alert(id="a")))
    assert 50 < run.waits[0] <= 60


@pytest.mark.parametrize("trouble", [502, 503, DROP, "away"])
def test_the_next_node_is_tried_at_once_before_any_waiting(server: ScriptedServer, tmp_path: Path, trouble: Answer) -> None:
    with ScriptedServer() as second:
        if trouble == "away":
            second.shutdown()
            second.server_close()
        else:
            second.answers = [trouble] * 20
            second.health = (503, {})
        run = Run(server.url, tmp_path, hosts=[server.url, second.url])
        with capture_logs() as logs:
            for name in "abcdef":
                run.write(safe(alert(id=name)))
        second.shutdown()
    assert sorted(id_ for call in server.calls for id_ in call) == list("abcdef")
    assert run.waits == []
    assert {entry["event"] for entry in logs} <= {"elasticsearch_next_node"}


def test_with_all_nodes_away_waiting_begins_after_each_had_its_try(tmp_path: Path) -> None:
    urls = [f"http://127.0.0.1:{free_port()}" for _ in range(3)]
    run = Run(urls[0], tmp_path, hosts=urls)

    def stop(count: int) -> None:
        if count == 2:
            raise StopWaitingError

    run.on_wait = stop
    with capture_logs() as logs, pytest.raises(StopWaitingError):
        run.write(safe(alert()))
    assert [entry["event"] for entry in logs] == ["elasticsearch_next_node"] * 2 + ["elasticsearch_waiting"]
    assert run.waits == [0.5, 1.0]


def test_the_outside_is_told_why_nothing_can_be_written_and_when_it_goes_on(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [503, 429]
    run = Run(server.url, tmp_path)
    said: list[str | None] = []
    list(write([safe(alert())], run.config, SENSOR, run.counters, sleep=run.sleep, waiting=said.append))
    assert said == ["503 status 503", "429 status 429", None]


def test_a_key_revoked_while_the_sensor_runs_is_waited_for_with_the_remedy_in_the_log(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.answers = [[201], 401, [(403, "security_exception")], [(404, "index_not_found_exception")], [201]]
    run = Run(server.url, tmp_path)
    with capture_logs() as logs:
        run.write(safe(alert(id="a")), safe(alert(id="b")))
    assert server.calls == [["a"], ["b"], ["b"], ["b"], ["b"]]
    assert "check sink.elasticsearch: it names no api_key_env" in logs[0]["reason"]
    assert told(run.counters) == {"alerts_written": 2, "es_retries": 3}


def test_a_server_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    run = Run(f"http://127.0.0.1:{port}", tmp_path)
    started: list[ScriptedServer] = []
    run.on_wait = lambda count: started.append(ScriptedServer(port)) if count == 3 else None
    run.write(safe(alert(id="a")))
    assert started[0].calls == [["a"]]
    assert len(run.waits) == 3
    started[0].shutdown()
    started[0].server_close()


def test_a_server_that_never_comes_is_waited_for_without_end_and_nothing_is_lost(tmp_path: Path) -> None:
    run = Run(f"http://127.0.0.1:{free_port()}", tmp_path)

    def stop(count: int) -> None:
        if count == 50:
            raise StopWaitingError

    run.on_wait = stop
    with capture_logs() as logs, pytest.raises(StopWaitingError):
        run.write(safe(alert()))
    assert [entry["event"] for entry in logs] == ["elasticsearch_waiting"]
    assert not run.dead_letters.exists()
    assert max(run.waits) == 30.0


@pytest.mark.parametrize("when", ["start", "bulk", "item"])
@pytest.mark.parametrize(
    ("status", "remedy"),
    [(401, "check sink.elasticsearch: it names no"), (403, "give the key create_doc, auto_configure")],
)
def test_wrong_credentials_and_missing_rights_stop_with_the_remedy(
    server: ScriptedServer, tmp_path: Path, when: str, status: int, remedy: str
) -> None:
    if when == "start":
        server.health = (status, {"error": {"type": "security_exception", "reason": "no"}})
    server.answers = [[(status, "security_exception")] if when == "item" else status]
    run = Run(server.url, tmp_path)
    with pytest.raises(SinkError, match=remedy):
        run.write(safe(alert()))
    assert run.waits == []
    assert not run.dead_letters.exists()


def test_a_key_that_may_not_monitor_may_still_write(server: ScriptedServer, tmp_path: Path) -> None:
    server.health = (403, {"error": {"type": "security_exception", "reason": "no monitor"}})
    run = Run(server.url, tmp_path)
    run.write(safe(alert()))
    assert told(run.counters) == {"alerts_written": 1}


def test_a_write_block_is_waited_out_although_it_is_a_403(server: ScriptedServer, tmp_path: Path) -> None:
    block = {"status": 403, "error": {"type": "cluster_block_exception", "reason": "blocked by: [FORBIDDEN/8/index write (api)]"}}
    server.answers = [block, [(403, "cluster_block_exception")]]
    run = Run(server.url, tmp_path)
    run.write(safe(alert()))
    assert told(run.counters) == {"alerts_written": 1, "es_retries": 2}


def test_a_document_that_is_refused_goes_to_the_dead_letters_and_the_others_are_written(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.answers = [[201, (400, "document_parsing_exception"), 201]]
    run = Run(server.url, tmp_path)
    run.write(safe(alert(id="a"), alert(id="b"), alert(id="c")))
    assert told(run.counters) == {"alerts_written": 2, "dead_letters": 1}
    assert run.letters() == [
        {
            "id": "b",
            "status": 400,
            "type": "document_parsing_exception",
            "reason": "document_parsing_exception says no",
            "document": document(alert(id="b"), SENSOR),
        }
    ]


def test_dead_letters_are_sent_again_and_the_file_is_gone(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [[(400, "x"), (400, "x")], [201, (400, "still no")]]
    run = Run(server.url, tmp_path)
    run.write(safe(alert(id="a"), alert(id="b")))
    assert redeliver(run.config, run.counters) == 2
    assert [(letter["id"], letter["type"]) for letter in run.letters()] == [("b", "still no")]
    assert redeliver(run.config, run.counters) == 1
    assert not run.dead_letters.exists()
    assert server.calls == [["a", "b"], ["a", "b"], ["b"]]
    assert redeliver(run.config, run.counters) == 0


def test_redelivering_goes_on_where_it_was_killed(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [[(400, "x")], 401]
    run = Run(server.url, tmp_path)
    run.write(safe(alert(id="a")))
    with pytest.raises(SinkError):
        redeliver(run.config, run.counters)
    assert redeliver(run.config, run.counters) == 1
    assert server.calls == [["a"], ["a"], ["a"]]


def test_a_letter_written_while_others_are_redelivered_is_kept(server: ScriptedServer, tmp_path: Path) -> None:
    """A sensor runs beside `packetclip redeliver`, and the same document is refused by both."""
    server.answers = [[(400, "x")], [(400, "x")]]
    run = Run(server.url, tmp_path)
    run.write(safe(alert(id="a")))
    with dead_letters.taken(run.dead_letters) as files:
        run.write(safe(alert(id="b")))
        assert [letter.id for file in files for letter in dead_letters.read(file)] == ["a"]
        with pytest.raises(SinkError, match="another packetclip redeliver is sending it"):
            redeliver(run.config, run.counters)
    assert [letter["id"] for letter in run.letters()] == ["b"]
    assert redeliver(run.config, run.counters) == 2
    assert server.calls == [["a"], ["b"], ["a"], ["b"]]


def test_dead_letters_are_bounded_and_what_is_given_up_is_counted(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [[(400, "x")]] * 9
    size = len(json.dumps(document(alert(), SENSOR)))
    run = Run(server.url, tmp_path, dead_letter_bytes=5 * size)
    for name in "abcdefghi":
        run.write(safe(alert(id=name)))
    files = sorted(tmp_path.glob("dead.ndjson*"))
    assert sum(file.stat().st_size for file in files) <= 5 * size
    kept = [json.loads(line)["id"] for file in reversed(files) for line in file.read_text().splitlines()]
    assert kept == list("abcdefghi")[-len(kept) :]
    assert told(run.counters) == {"dead_letters": 9, "dead_letters_dropped": 9 - len(kept)}
    assert redeliver(run.config, run.counters) == len(kept)
    assert list(tmp_path.glob("dead.ndjson*")) == []


def test_a_letter_that_a_kill_left_half_written_is_cut_off(server: ScriptedServer, tmp_path: Path) -> None:
    run = Run(server.url, tmp_path)
    server.answers = [[(400, "x")]]
    run.write(safe(alert(id="a")))
    whole = run.dead_letters.read_bytes()
    run.dead_letters.write_bytes(whole + whole[:50])
    assert redeliver(run.config, run.counters) == 1
    run.dead_letters.write_bytes(whole + whole[:50])
    server.answers = [[(400, "x")]]
    run.write(safe(alert(id="b")))
    assert [letter["id"] for letter in run.letters()] == ["a", "b"]


def test_a_full_disk_holds_the_position_until_the_letter_is_written(server: ScriptedServer, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    server.answers = [[(400, "x")]]
    run = Run(server.url, tmp_path)
    run.on_wait = lambda count: resource.setrlimit(resource.RLIMIT_FSIZE, limits) if count == 2 else None
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with capture_logs():
            run.write(safe(alert(id="a")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [letter["id"] for letter in run.letters()] == ["a"]
    assert len(run.waits) == 2


def test_a_document_that_always_breaks_the_server_does_not_hold_back_the_others(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [[201, (500, "null_pointer_exception")]] + [[(500, "null_pointer_exception")]] * 7
    run = Run(server.url, tmp_path)
    run.write(safe(alert(id="a"), alert(id="b")), safe(alert(id="c")))
    assert told(run.counters) == {"alerts_written": 2, "dead_letters": 1, "es_retries": 7}
    assert run.letters()[0]["id"] == "b"


def test_a_request_that_is_too_large_is_halved_and_a_lone_document_dead_lettered(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [413, 413]
    run = Run(server.url, tmp_path)
    run.write(safe(*(alert(id=name) for name in "abcd")))
    assert server.calls == [["a", "b", "c", "d"], ["a", "b"], ["a"], ["b"], ["c", "d"]]
    server.answers = [413]
    run.write(safe(alert(id="e")))
    assert [(letter["id"], letter["status"]) for letter in run.letters()] == [("e", 413)]


def test_a_template_that_was_deleted_meanwhile_stops_the_sensor(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [[(404, "index_not_found_exception")]]
    with pytest.raises(SinkError, match="manage_templates: true"):
        Run(server.url, tmp_path).write(safe(alert()))


def test_a_server_that_is_no_elasticsearch_is_named(server: ScriptedServer, tmp_path: Path) -> None:
    server.product = "OpenSearch"
    with pytest.raises(SinkError, match=r"is not Elasticsearch; mend sink\.elasticsearch\.hosts"):
        Run(server.url, tmp_path).write(safe(alert()))


def test_tls_to_a_server_that_speaks_none_stops_at_start(server: ScriptedServer, tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="this port does not speak TLS; write http://"):
        Run(server.url.replace("http:", "https:"), tmp_path).write(safe(alert()))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "ca.pem", folder / "key.pem"
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    options += " -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(["openssl", *options.split(), "-keyout", str(key), "-out", str(made)], check=True, capture_output=True)
    return made, key


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes its certificate with openssl")
def test_tls_is_verified_by_default_and_trusts_the_given_authority(
    server: ScriptedServer, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = server.url.replace("http:", "https:")
    with pytest.raises(SinkError, match=r"authority is unknown to this machine; set sink\.elasticsearch\.ca_certs"):
        Run(url, tmp_path).write(safe(alert()))
    assert server.calls == []
    Run(url, tmp_path, ca_certs=str(certificate[0])).write(safe(alert(id="a")))
    with capture_logs() as logs:
        Run(url, tmp_path, verify_certs=False).write(safe(alert(id="b")))
    assert server.calls == [["a"], ["b"]]
    assert [entry["event"] for entry in logs] == ["certificates_not_verified"]


def test_batches_are_cut_by_count_and_by_bytes(server: ScriptedServer, tmp_path: Path) -> None:
    run = Run(server.url, tmp_path, batch_documents=2)
    run.write(safe(*(alert(id=name) for name in "abcde")))
    assert server.calls == [["a", "b"], ["c", "d"], ["e"]]
    server.calls.clear()
    server.sizes_bytes.clear()
    run = Run(server.url, tmp_path, batch_bytes=8000)
    run.write(safe(*(alert(id=name, nearest_texts=(("ü" * 1000, 0.5),)) for name in "abcde")))
    assert len(server.calls) > 1
    assert [each for call in server.calls for each in call] == list("abcde")
    assert max(server.sizes_bytes) <= 8000


def test_the_dead_letter_file_that_cannot_be_written_stops_before_the_position_moves(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.answers = [[(400, "x")]]
    run = Run(server.url, tmp_path, dead_letter_path=str(tmp_path))
    with pytest.raises(SinkError, match="name a file that this user may write"):
        run.write(safe(alert()))


def test_the_api_key_comes_from_the_environment_or_a_file(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_ES_KEY", "c2VjcmV0")
    Run(server.url, tmp_path, api_key_env="TEST_ES_KEY").write(safe(alert()))
    (tmp_path / "key").write_text("ZmlsZQ==\n")
    Run(server.url, tmp_path, api_key_file=str(tmp_path / "key")).write(safe(alert()))
    monkeypatch.setenv("TEST_ES_PASSWORD", "p")
    Run(server.url, tmp_path, username="u", password_env="TEST_ES_PASSWORD").write(safe(alert()))
    sent = [{name.lower(): value for name, value in headers.items()}["authorization"] for headers in server.headers]
    assert sent == ["ApiKey c2VjcmV0", "ApiKey ZmlsZQ==", "Basic dTpw"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hosts": ["elastic.example.org"]}, "write them like https://elastic.example.org:9200"),
        ({"hosts": []}, "write them like https://elastic.example.org:9200"),
        ({"api_key_env": "PACKETCLIP_NO_SUCH"}, "PACKETCLIP_NO_SUCH is not set; export it"),
        ({"api_key_file": "/no/such/key"}, "put the encoded key there"),
        ({"api_key_env": "A", "username": "b"}, "exclude each other; keep one"),
        ({"username": "b"}, "has no password_env"),
        ({"hosts": ["https://localhost:9200"], "ca_certs": "/no/such.pem"}, "no such file; name the PEM file"),
        ({"namespace": "a-b"}, "use 1 to 100 lower-case"),
    ],
)
def test_a_wrong_configuration_is_named_with_its_remedy(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        connect(ElasticsearchConfig(**({"hosts": ["http://localhost:9200"]} | options)))


def test_the_sink_module_offers_what_its_callers_use() -> None:
    assert set(elasticsearch.__all__) == {"ElasticsearchConfig", "connect", "ensure_templates", "redeliver", "write"}
