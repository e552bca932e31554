"""Documents that Elasticsearch refuses for good: kept with the reason, sent again, bounded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from factories import MISSIONS, SENSOR, alert, safe, told
from machine import no_room
from scripted_server import ScriptedServer
from sink_run import Run
from structlog.testing import capture_logs

from packetclip_sensor.errors import SinkError
from packetclip_sensor.sinks import dead_letters
from packetclip_sensor.sinks.documents import document
from packetclip_sensor.sinks.elasticsearch import redeliver


def test_a_document_that_is_refused_goes_to_the_dead_letters_and_the_others_are_written(server: ScriptedServer, run: Run) -> None:
    server.answers = [[201, (400, "document_parsing_exception"), 201]]
    run.write(safe(alert(id="a"), alert(id="b"), alert(id="c")))
    assert told(run.counters) == {"alerts_written": 2, "dead_letters": 1}
    kind, refused = "document_parsing_exception", document(alert(id="b"), SENSOR)
    assert run.letters() == [{"id": "b", "status": 400, "type": kind, "reason": f"{kind} says no", "document": refused}]


def test_dead_letters_are_sent_again_and_the_file_is_gone(server: ScriptedServer, run: Run) -> None:
    server.answers = [[(400, "x"), (400, "x")], [201, (400, "still no")]]
    run.write(safe(alert(id="a"), alert(id="b")))
    assert redeliver(run.config, run.counters, MISSIONS) == 2
    assert [(letter["id"], letter["type"]) for letter in run.letters()] == [("b", "still no")]
    assert redeliver(run.config, run.counters, MISSIONS) == 1
    assert not run.dead_letters.exists()
    assert server.calls == [["a", "b"], ["a", "b"], ["b"]]
    assert redeliver(run.config, run.counters, MISSIONS) == 0


def test_redelivering_goes_on_where_it_was_killed(server: ScriptedServer, run: Run) -> None:
    server.answers = [[(400, "x")], 401]
    run.write(safe(alert(id="a")))
    with pytest.raises(SinkError):
        redeliver(run.config, run.counters, MISSIONS)
    assert redeliver(run.config, run.counters, MISSIONS) == 1
    assert server.calls == [["a"], ["a"], ["a"]]


def test_a_letter_written_while_others_are_redelivered_is_kept(server: ScriptedServer, run: Run) -> None:
    """A sensor runs beside `packetclip redeliver`, and the same document is refused by both."""
    server.answers = [[(400, "x")], [(400, "x")]]
    run.write(safe(alert(id="a")))
    with dead_letters.taken(run.dead_letters) as files:
        run.write(safe(alert(id="b")))
        assert [letter.id for file in files for letter in dead_letters.read(file)] == ["a"]
        with pytest.raises(SinkError, match="another packetclip redeliver is sending it"):
            redeliver(run.config, run.counters, MISSIONS)
    assert [letter["id"] for letter in run.letters()] == ["b"]
    assert redeliver(run.config, run.counters, MISSIONS) == 2
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
    assert redeliver(run.config, run.counters, MISSIONS) == len(kept)
    assert list(tmp_path.glob("dead.ndjson*")) == []


def test_a_letter_that_a_kill_left_half_written_is_cut_off(server: ScriptedServer, run: Run) -> None:
    server.answers = [[(400, "x")]]
    run.write(safe(alert(id="a")))
    whole = run.dead_letters.read_bytes()
    run.dead_letters.write_bytes(whole + whole[:50])
    assert redeliver(run.config, run.counters, MISSIONS) == 1
    run.dead_letters.write_bytes(whole + whole[:50])
    server.answers = [[(400, "x")]]
    run.write(safe(alert(id="b")))
    assert [letter["id"] for letter in run.letters()] == ["a", "b"]


def test_a_full_disk_holds_the_position_until_the_letter_is_written(server: ScriptedServer, run: Run) -> None:
    server.answers = [[(400, "x")]]
    with no_room(100) as make_room, capture_logs():  # pytest keeps what is logged in a file
        run.on_wait = lambda count: make_room() if count == 2 else None
        run.write(safe(alert(id="a")))
    assert [letter["id"] for letter in run.letters()] == ["a"]
    assert len(run.waits) == 2


def test_a_document_that_always_breaks_the_server_does_not_hold_back_the_others(server: ScriptedServer, run: Run) -> None:
    server.answers = [[201, (500, "null_pointer_exception")]] + [[(500, "null_pointer_exception")]] * 7
    run.write(safe(alert(id="a"), alert(id="b")), safe(alert(id="c")))
    assert told(run.counters) == {"alerts_written": 2, "dead_letters": 1, "es_retries": 7}
    assert run.letters()[0]["id"] == "b"


def test_a_request_that_is_too_large_is_halved_and_a_lone_document_dead_lettered(server: ScriptedServer, run: Run) -> None:
    server.answers = [413, 413]
    run.write(safe(*(alert(id=name) for name in "abcd")))
    assert server.calls == [["a", "b", "c", "d"], ["a", "b"], ["a"], ["b"], ["c", "d"]]
    server.answers = [413]
    run.write(safe(alert(id="e")))
    assert [(letter["id"], letter["status"]) for letter in run.letters()] == [("e", 413)]


def test_the_dead_letter_file_that_cannot_be_written_stops_before_the_position_moves(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.answers = [[(400, "x")]]
    run = Run(server.url, tmp_path, dead_letter_path=tmp_path)
    with pytest.raises(SinkError, match="name a file that this user may write"):
        run.write(safe(alert()))
