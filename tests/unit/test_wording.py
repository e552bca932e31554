"""An alert's sentence in a language model's words: what is taken, what is refused, and that nothing waits for it."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from factories import SENSOR, alert, packet, safe, told

from packetclip_sensor import alerts, pipeline, said, wording
from packetclip_sensor import config as configs
from packetclip_sensor.documents import document
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.metrics import Counters
from packetclip_sensor.records import Evidence
from packetclip_sensor.wording import WordingConfig, fault, worded

SENTENCE = (
    "10.0.0.5 sent 20 TCP packets in 5 ms to port 8081 of 10.0.0.9 and got 10 back; 33 % carry SYN alone and no connection was "
    "completed."
)
GOOD = (
    "Host 10.0.0.5 sent 20 TCP packets within 5 ms to port 8081 on 10.0.0.9 and received 10 in return; 33 % were SYN alone, and "
    "no connection was ever completed."
)
FACTS = "DoS, SYN Flood. flood, handshake"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD, None),
        (GOOD.replace("20", "25"), said.NUMBER),
        (GOOD.replace("10.0.0.9", "10.0.0.8"), said.NUMBER),
        (GOOD.replace("20 TCP", "twenty TCP"), said.NUMBER),
        (GOOD.replace("33 % were SYN alone, and ", ""), said.LEFT_OUT),
        (GOOD.replace("10.0.0.5", "X").replace("10.0.0.9", "10.0.0.5").replace("X", "10.0.0.9"), said.ORDER),
        (GOOD.replace("5 ms", "5 minutes"), said.UNIT),
        (GOOD.replace("5 ms", "5"), said.UNIT),
        (GOOD.replace("33 %", "33"), said.UNIT),
        (GOOD.replace("20 TCP", "20 UDP"), said.NAME),
        (GOOD.replace("Host", "The Mirai host"), said.NAME),
        (GOOD.replace("packets within", "packets with nmap within"), said.NAME),
        (GOOD.replace("no connection was ever completed", "each connection was completed"), said.TURNED),
        (GOOD.replace("sent", "received").replace("received 10 in return", "sent 10 in return"), said.SENDER),
        (GOOD.replace("no connection", "no login"), "words of login"),
        (GOOD.replace("Host", "Attacker"), "words of attack"),
        (GOOD.replace("Host", "The router"), "what hosts are"),
        ("10.0.0.5 20 5 8081 10.0.0.9 10 33", "too short or too long"),
        (GOOD + " " + GOOD * 3, "too short or too long"),
        (GOOD + "\x1b[31m", "characters that no sentence has"),
    ],
)
def test_a_wording_may_say_only_what_the_facts_say(text: str, reason: str | None) -> None:
    assert fault(FACTS, SENTENCE, text) == reason


def test_words_of_the_verdict_and_its_concepts_may_be_used() -> None:
    assert fault(FACTS, SENTENCE, GOOD.replace("20 TCP", "a flood of 20 TCP")) is None


Serve = Callable[[Callable[[dict[str, Any]], Any]], tuple[str, list[tuple[dict[str, str], str]]]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a chat server: the function turns a request into text, a status, bytes, or seconds of a trickle."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Callable[[dict[str, Any]], Any]) -> tuple[str, list[tuple[dict[str, str], str]]]:
        asked: list[tuple[dict[str, str], str]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"])).decode()
                asked.append((dict(self.headers), raw))
                what = answer(json.loads(raw))
                if isinstance(what, str):
                    what = json.dumps({"choices": [{"message": {"content": what}, "finish_reason": "stop"}]}).encode()
                self.send_response(what if isinstance(what, int) else 200)
                if isinstance(what, int) and 300 <= what < 400:
                    self.send_header("Location", "http://127.0.0.1:9/")
                self.end_headers()
                if isinstance(what, float):
                    for _ in range(int(what * 50)):
                        time.sleep(0.02)
                        self.wfile.write(b" ")
                        self.wfile.flush()
                elif isinstance(what, bytes):
                    self.wfile.write(what)

            def log_message(self, *_: Any) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/v1", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def run(url: str, count: int = 1, **changed: Any) -> tuple[list[tuple[str, str] | None], Counters]:
    counters = Counters()
    config = WordingConfig(**({"endpoint": url, "model": "m", "timeout_s": 20.0} | changed))
    batches = [safe(*(alert(id=f"a{n}", reason=SENTENCE) for n in range(count)))]
    (out,) = worded(batches, config, counters)
    return [one.wording for one in out.alerts], counters


def test_a_good_answer_stands_in_a_field_of_its_own_and_changes_nothing_else(serve: Serve) -> None:
    url, _ = serve(lambda request: f'"{GOOD}"')
    wordings, counters = run(url)
    assert wordings == [(GOOD, "m")]
    assert told(counters) == {"wordings": 1}
    plain = document(alert(reason=SENTENCE), SENSOR)
    with_words = document(alert(reason=SENTENCE, wording=(GOOD, "m")), SENSOR)
    assert with_words["packetclip"].pop("wording") == {"text": GOOD, "model": "m"}
    assert with_words == plain


def test_the_prompt_holds_facts_and_never_a_byte_of_a_packet(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORDING_KEY", "secret-1")
    url, asked = serve(lambda request: GOOD)
    secret = b"USER alice PASS hunter2"
    evidence = (Evidence(packet(data=secret), 0.1, "PSH-ACK with payload: command PASS"),)
    config = WordingConfig(endpoint=url, model="m", api_key_env="WORDING_KEY")
    list(worded([safe(alert(reason=SENTENCE, evidence=evidence))], config, Counters()))
    ((headers, raw),) = asked
    assert headers["Authorization"] == "Bearer secret-1"
    body = json.loads(raw)
    assert (body["model"], body["temperature"]) == ("m", 0)
    said_to_it = body["messages"][-1]["content"]
    assert SENTENCE in said_to_it
    assert "Verdict: DoS, SYN Flood. Concepts: flood." in said_to_it
    for hidden in (secret.decode(), "hunter2", secret.hex(), "command PASS", "CAb1c23"):
        assert hidden not in raw


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        (GOOD.replace("20", "21"), "wordings_refused"),
        ("", "wordings_refused"),
        (b"<html>hello</html>", "wordings_refused"),
        (b"{}", "wordings_refused"),
        (b'{"choices": [{"message": {"content": 5}}]}', "wordings_refused"),
        (json.dumps({"choices": [{"message": {"content": GOOD}, "finish_reason": "length"}]}).encode(), "wordings_refused"),
        (b" " * 200_000, "wordings_refused"),
        (500, "wordings_failed"),
        (401, "wordings_failed"),
        (302, "wordings_failed"),
    ],
)
def test_rubbish_and_errors_leave_the_alert_as_it_was(answer: Any, counted: str, serve: Serve) -> None:
    url, _ = serve(lambda request: answer)
    wordings, counters = run(url)
    assert wordings == [None]
    assert told(counters) == {counted: 1}


def test_an_endpoint_that_is_down_is_asked_once_and_then_left_alone() -> None:
    wordings, counters = run("http://127.0.0.1:9/v1", 5)
    assert wordings == [None] * 5
    assert told(counters) == {"wordings_failed": 1, "wordings_skipped": 4}


def test_a_server_that_trickles_holds_alerts_no_longer_than_the_bound(serve: Serve) -> None:
    url, _ = serve(lambda request: 60.0)
    began = time.monotonic()
    wordings, counters = run(url, 50, timeout_s=0.5)
    assert time.monotonic() - began < 15.0  # fifty bounds would be 25 s
    assert wordings == [None] * 50
    assert told(counters) == {"wordings_failed": 1, "wordings_skipped": 49}


def test_a_minutes_time_is_shared_by_all_alerts_and_comes_back_with_the_next_minute(serve: Serve) -> None:
    url, _ = serve(lambda request: GOOD)
    now = [1000.0]
    counters = Counters()
    worder = wording.Worder(WordingConfig(endpoint=url, model="m", timeout_s=5.0), counters, clock=lambda: now[0])
    one = alert(reason=SENTENCE)

    def slow(*_: Any) -> bytes:
        now[0] += 2.0
        return json.dumps({"choices": [{"message": {"content": GOOD}}]}).encode()

    worder._sent = slow  # type: ignore[method-assign]
    assert [worder.worded(one).wording is not None for _ in range(5)] == [True, True, True, False, False]
    now[0] += 60
    assert worder.worded(one).wording == (GOOD, "m")
    assert told(counters) == {"wordings": 4, "wordings_skipped": 2}


def test_without_an_endpoint_alerts_pass_untouched() -> None:
    given = safe(alert())
    assert list(worded([given], WordingConfig(), Counters())) == [given]
    assert msgspec.to_builtins(given.alerts[0])["wording"] is None


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (WordingConfig(endpoint="ftp://x/v1", model="m"), "no web address"),
        (WordingConfig(endpoint="http://127.0.0.1:1/v1"), "needs the name of a model"),
        (WordingConfig(endpoint="http://127.0.0.1:1/v1", model="m", api_key_env="NOT_SET_ANYWHERE"), "holds no key"),
    ],
)
def test_a_wrong_setting_is_said_at_the_start(config: WordingConfig, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        list(worded([], config, Counters()))


def test_a_running_sensor_asks_and_a_replay_does_not(serve: Serve, tmp_path: Path) -> None:
    def answer(request: dict[str, Any]) -> str:
        sentence: str = request["messages"][-1]["content"].partition("<<<")[2].removesuffix(">>>")
        return sentence.replace(" sent ", " has sent ", 1)

    url, asked = serve(answer)
    (tmp_path / "logs").mkdir()
    recorded = Path(__file__).parents[1] / "data" / "demo-dict-patator-ftp" / "packetclip_packet.log.gz"
    (tmp_path / "logs" / "packetclip_packet.log").write_bytes(gzip.decompress(recorded.read_bytes()))
    text = f"logs: [logs]\nsink: {{ndjson: {{path: OUT}}}}\nsensor_name: s\nwording: {{endpoint: '{url}', model: tiny}}\n"
    config = configs.parse(text.replace("OUT", "run.ndjson"), "sensor.yaml", tmp_path)
    stop, counters = threading.Event(), Counters()
    thread = threading.Thread(target=pipeline.run, args=(config, stop, counters))
    thread.start()
    try:
        end = time.monotonic() + 120
        while not counters.alerts_written and time.monotonic() < end:
            time.sleep(0.05)
    finally:
        stop.set()
        thread.join()
    ran = alerts.read(tmp_path / "run.ndjson")
    assert [one["packetclip"]["wording"]["model"] for one in ran] == ["tiny"]
    assert " has sent " in ran[0]["packetclip"]["wording"]["text"]
    requests = len(asked)
    pipeline.replay([[tmp_path / "logs"]], configs.parse(text.replace("OUT", "replay.ndjson"), "sensor.yaml", tmp_path))
    replayed = alerts.read(tmp_path / "replay.ndjson")
    assert len(asked) == requests
    ran[0]["packetclip"].pop("wording")
    assert replayed[0] == ran[0]
