"""The Elasticsearch sink against a scripted HTTP server: what a real node does not do on demand (busy, away, refusing)."""

from __future__ import annotations

import time
from email.utils import formatdate
from pathlib import Path

import pytest
from factories import SENSOR, alert, safe, told
from machine import free_port
from scripted_server import DROP, Answer, ScriptedServer
from sink_run import Run, StopWaitingError
from structlog.testing import capture_logs

from packetclip_sensor.errors import SinkError
from packetclip_sensor.sinks.delivery import classify
from packetclip_sensor.sinks.elasticsearch import write


def test_a_safe_comes_back_only_after_its_documents_are_acknowledged(server: ScriptedServer, run: Run) -> None:
    written = write([safe(alert(id="a")), safe(), safe(alert(id="b"))], run.config, SENSOR, run.counters)
    seen = [(next(written), list(server.calls))[1] for _ in range(3)]
    assert seen == [[["a"]], [["a"]], [["a"], ["b"]]]
    assert told(run.counters) == {"alerts_written": 2}


def test_requests_are_packed(server: ScriptedServer, run: Run) -> None:
    run.write(safe(*(alert(id=name) for name in "abcd")))
    headers = {name.lower(): value for name, value in server.headers[0].items()}
    assert (headers["content-encoding"], headers["accept-encoding"]) == ("gzip", "gzip")
    assert server.calls == [["a", "b", "c", "d"]]
    assert int(headers["content-length"]) < server.sizes_bytes[0] / 3


@pytest.mark.parametrize(
    ("status", "error", "outcome"),
    [
        (200, "", "written"),
        (201, "", "written"),
        (409, "version_conflict_engine_exception", "duplicate"),
        *((status, "", "retry") for status in (408, 429, 500, 502, 503, 504)),
        (403, "cluster_block_exception", "retry"),
        (403, "{'error': {'type': 'cluster_block_exception', 'reason': 'blocked by: [FORBIDDEN/8/index write (api)]'}}", "retry"),
        (401, "security_exception", "person"),
        (403, "security_exception", "person"),
        (404, "index_not_found_exception", "person"),
        (413, "", "too large"),
        (400, "document_parsing_exception", "refused"),
        (404, "", "refused"),
    ],
)
def test_what_an_answer_asks_for(status: int, error: str, outcome: str) -> None:
    assert classify(status, error) == outcome
    assert classify(status, error, failed_500=7) == outcome
    if status >= 400 and status != 409:
        assert classify(status, error, failed_500=8) == "refused"


@pytest.mark.parametrize("trouble", [429, 500, DROP])
def test_a_busy_or_lost_cluster_gets_the_same_batch_again(server: ScriptedServer, run: Run, trouble: Answer) -> None:
    server.answers = [trouble, trouble, trouble]
    with capture_logs() as logs:
        run.write(safe(alert(id="a"), alert(id="b")))
    assert server.calls == [["a", "b"]] * 4
    assert run.waits == [0.5, 1.0, 2.0]
    assert [entry["event"] for entry in logs] == ["elasticsearch_waiting", "elasticsearch_back"]
    assert told(run.counters) == {"alerts_written": 2, "es_retries": 3}


def test_waits_grow_to_thirty_seconds_and_jitter_halves_them_at_most(server: ScriptedServer, run: Run) -> None:
    server.answers = [503] * 9
    list(write([safe(alert())], run.config, SENSOR, run.counters, sleep=run.sleep, rng=lambda: 0.0))
    assert run.waits == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]


def test_only_the_items_that_were_refused_for_now_are_sent_again_with_growing_waits(server: ScriptedServer, run: Run) -> None:
    busy = (429, "es_rejected_execution_exception")
    server.answers = [[201, busy, 409, (503, "unavailable_shards_exception")], [busy, 201]]
    with capture_logs() as logs:
        run.write(safe(*(alert(id=name) for name in "abcd")))
    assert server.calls == [["a", "b", "c", "d"], ["b", "d"], ["b"]]
    assert run.waits == [0.5, 1.0]
    assert [entry["event"] for entry in logs] == ["elasticsearch_waiting", "elasticsearch_back"]
    assert told(run.counters) == {"alerts_written": 3, "alerts_duplicate": 1, "es_retries": 2}


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [("7", 7.0), ("0", 0.5), ("100000", 300.0), ("soon", 0.5), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.5), ("in a minute", 60.0)],
)
def test_a_server_that_asks_for_patience_gets_it(server: ScriptedServer, run: Run, header: str, wait_s: float) -> None:
    in_a_minute = header == "in a minute"
    server.answers, server.retry_after = [429], formatdate(time.time() + 60, usegmt=True) if in_a_minute else header
    run.write(safe(alert(id="a")))
    assert run.waits == [pytest.approx(wait_s, abs=10 if in_a_minute else 0)]
    assert told(run.counters) == {"alerts_written": 1, "es_retries": 1}


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


@pytest.mark.parametrize(("nodes", "waits"), [(1, 50), (3, 2)])
def test_nodes_that_never_come_are_waited_for_without_end_after_each_had_its_try(tmp_path: Path, nodes: int, waits: int) -> None:
    urls = [f"http://127.0.0.1:{free_port()}" for _ in range(nodes)]
    run = Run(urls[0], tmp_path, hosts=urls)

    def stop(count: int) -> None:
        if count == waits:
            raise StopWaitingError

    run.on_wait = stop
    with capture_logs() as logs, pytest.raises(StopWaitingError):
        run.write(safe(alert()))
    assert [entry["event"] for entry in logs] == ["elasticsearch_next_node"] * (nodes - 1) + ["elasticsearch_waiting"]
    assert run.waits == [min(30.0, 0.5 * 2**n) for n in range(waits)]
    assert not run.dead_letters.exists()


def test_the_outside_is_told_why_nothing_can_be_written_and_when_it_goes_on(server: ScriptedServer, run: Run) -> None:
    server.answers = [503, 429]
    said: list[str | None] = []
    list(write([safe(alert())], run.config, SENSOR, run.counters, sleep=run.sleep, waiting=said.append))
    assert said == ["503 status 503", "429 status 429", None]


def test_a_key_revoked_while_the_sensor_runs_is_waited_for_with_the_remedy_in_the_log(server: ScriptedServer, run: Run) -> None:
    server.answers = [[201], 401, [(403, "security_exception")], [(404, "index_not_found_exception")], [201]]
    with capture_logs() as logs:
        run.write(safe(alert(id="a")), safe(alert(id="b")))
    assert server.calls == [["a"], ["b"], ["b"], ["b"], ["b"]]
    assert "check sink.elasticsearch: it names no api_key_env" in logs[0]["reason"]
    assert told(run.counters) == {"alerts_written": 2, "es_retries": 3}


def test_a_restart_that_finds_its_documents_written_proves_the_key_too(server: ScriptedServer, run: Run) -> None:
    """A 409 says that the key may write; a key revoked later is waited for, whatever the order of a bulk answer's items."""
    server.answers = [[409], 401, [(403, "security_exception"), 409], [201]]
    with capture_logs() as logs:
        run.write(safe(alert(id="a")), safe(alert(id="b"), alert(id="c")))
    assert server.calls == [["a"], ["b", "c"], ["b", "c"], ["b"]]
    assert [entry["event"] for entry in logs] == ["elasticsearch_waiting", "elasticsearch_back"]
    assert "check sink.elasticsearch: it names no api_key_env" in logs[0]["reason"]
    assert told(run.counters) == {"alerts_written": 1, "alerts_duplicate": 2, "es_retries": 2}


def test_a_health_document_proves_the_key_for_the_first_alert_of_a_calm_night(server: ScriptedServer, run: Run) -> None:
    server.answers = [401, [(403, "security_exception")], [201]]
    batches = [safe(alert(id="a"))]
    list(write(batches, run.config, SENSOR, run.counters, sleep=run.sleep, accepted=lambda: True))
    assert told(run.counters) == {"alerts_written": 1, "es_retries": 2}


def test_one_accepted_item_of_an_answer_proves_the_key_for_the_others(server: ScriptedServer, run: Run) -> None:
    server.answers = [[(403, "security_exception"), 201], [201]]
    run.write(safe(alert(id="a"), alert(id="b")))
    assert server.calls == [["a", "b"], ["a"]]


@pytest.mark.parametrize(
    ("when", "status", "error", "remedy"),
    [
        *((when, 401, "security_exception", "check sink.elasticsearch: it names no") for when in ("start", "bulk", "item")),
        *((when, 403, "security_exception", "give the key create_doc, auto_configure") for when in ("start", "bulk", "item")),
        ("item", 404, "index_not_found_exception", "manage_templates: true"),
    ],
)
def test_wrong_credentials_missing_rights_and_a_deleted_template_stop_with_the_remedy(
    server: ScriptedServer, run: Run, when: str, status: int, error: str, remedy: str
) -> None:
    if when == "start":
        server.health = (status, {"error": {"type": error, "reason": "no"}})
    server.answers = [[(status, error)] if when == "item" else status]
    with pytest.raises(SinkError, match=remedy):
        run.write(safe(alert()))
    assert run.waits == []
    assert not run.dead_letters.exists()


def test_a_key_that_may_not_monitor_may_still_write(server: ScriptedServer, run: Run) -> None:
    server.health = (403, {"error": {"type": "security_exception", "reason": "no monitor"}})
    run.write(safe(alert()))
    assert told(run.counters) == {"alerts_written": 1}


def test_a_write_block_is_waited_out_although_it_is_a_403(server: ScriptedServer, run: Run) -> None:
    block = {"status": 403, "error": {"type": "cluster_block_exception", "reason": "blocked by: [FORBIDDEN/8/index write (api)]"}}
    server.answers = [block, [(403, "cluster_block_exception")]]
    run.write(safe(alert()))
    assert told(run.counters) == {"alerts_written": 1, "es_retries": 2}


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
