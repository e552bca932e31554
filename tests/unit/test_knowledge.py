"""The mission graphs, their validator, and the generator against a small HTTP server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import networkx as nx
import pytest
import yaml

from packetclip_sensor.records import MISSIONS
from training import knowledge
from training.knowledge import EMBEDDING, SENSOR, Graph, KnowledgeError, load_all, load_mission, validate
from training.knowledge.__main__ import main
from training.knowledge.generate import Endpoint, EndpointError, generate, words


def small(**changes: object) -> Graph:
    """flood, scan -> burst, probe -> drop; probe has no child and goes to the embedding node itself."""
    fields: dict[str, object] = {
        "mission": "DoS",
        "key": ["flood", "scan"],
        "levels": [["flood", "scan"], ["burst", "probe"], ["drop"]],
        "edges": [("flood", "burst"), ("scan", "probe"), ("burst", "drop")],
    }
    return Graph(**(fields | changes))  # type: ignore[arg-type]


def test_the_checked_in_graphs_have_no_problem_and_stand_in_the_order_of_the_logits() -> None:
    graphs = load_all()
    assert tuple(g.mission for g in graphs) == MISSIONS
    assert [validate(g) for g in graphs] == [[], [], []]


@pytest.mark.parametrize("mission", MISSIONS)
def test_a_checked_in_graph_has_two_rounds_its_author_and_the_papers_prompts(mission: str) -> None:
    graph = load_mission(mission)
    assert [len(level) for level in graph.levels] == {
        "DoS": [12, 22, 13],
        "Reconnaissance": [12, 21, 13],
        "Brute Force": [12, 20, 13],
    }[mission]
    assert graph.author_model == "Claude (Anthropic)"
    assert graph.date == "2026-11-21"
    assert graph.prompts["key"] == (
        f"List 12 typical vocabularies to represent {graph.event_name}? Note: Everything should be a single word."
    )
    assert graph.prompts["associated"] == "What are associated words with vocabularies in set K?"


@pytest.mark.parametrize("mission", MISSIONS)
def test_every_word_lies_on_a_way_from_the_sensor_to_the_embedding_node(mission: str) -> None:
    graph = load_mission(mission)
    whole = graph.digraph()
    on_a_way = nx.descendants(whole, SENSOR) & nx.ancestors(whole, EMBEDDING)
    assert on_a_way == set(graph.words)


def test_the_embedding_node_hears_the_last_level_and_associated_words_without_a_child() -> None:
    assert small().to_embedding() == ["probe", "drop"]
    assert small().full_edges() == [
        ("(sensor)", "flood"),
        ("(sensor)", "scan"),
        ("flood", "burst"),
        ("scan", "probe"),
        ("burst", "drop"),
        ("probe", "(embedding)"),
        ("drop", "(embedding)"),
    ]
    assert validate(small()) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"levels": [["flood", "scan"], ["burst", "probe", "flood"], ["drop"]]},
         "'flood' is a key concept and an associated concept"),
        ({"levels": [["flood", "scan"], ["burst", "probe"], ["drop", "burst"]]}, "'burst' stands in levels 2 and 3"),
        ({"levels": [["flood", "scan"], ["burst", "probe", "probe"], ["drop"]]}, "'probe' stands twice in level 2"),
        ({"levels": [["flood", "scan"], ["burst", "probe"], ["packet drop"]]}, "'packet drop' is not a single lower-case word"),
        ({"levels": [["flood", "scan"], ["burst", "probe", "orphan"], ["drop"]]}, "'orphan' has no parent in level 1"),
        ({"edges": [("flood", "burst"), ("flood", "probe"), ("burst", "drop")]},
         "key concept 'scan' has no child, so nothing from it reaches the embedding node"),
        ({"edges": [("flood", "burst"), ("scan", "probe"), ("burst", "drop"), ("flood", "drop")]},
         "edge flood -> drop goes from level 1 to 3"),
        ({"edges": [("flood", "burst"), ("scan", "probe"), ("burst", "drop"), ("probe", "lost")]},
         "edge probe -> lost names 'lost', which is in no level"),
        ({"edges": [("flood", "burst"), ("scan", "probe"), ("burst", "drop"), ("drop", "burst")]}, "there is a cycle"),
        ({"edges": [("flood", "burst"), ("flood", "burst"), ("scan", "probe"), ("burst", "drop")]}, "an edge stands twice"),
        ({"levels": [["flood", "scan"], ["burst", "probe"], ["drop"], []]}, "level 4 has no word"),
        ({"key": [], "levels": [[], ["burst"]], "edges": []}, "there is no key concept"),
    ],
)  # fmt: skip
def test_a_fault_is_named(changes: dict[str, object], problem: str) -> None:
    assert problem in validate(small(**changes))


def test_a_graph_survives_yaml(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    graph = load_mission("DoS")
    path.write_text(yaml.safe_dump(knowledge.to_dict(graph), sort_keys=False), encoding="utf-8")
    again = knowledge.load(path)
    assert again.levels == graph.levels
    assert again.edges == graph.edges


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- b\n", "holds list, not a mapping"),
        ("mission: DoS\nkey: [a]\n", "key 'associated' is missing"),
        ("mission: DoS\nkey: a\nassociated: []\n", "must be lists"),
        ("mission: DoS\nkey: [a]\nassociated: [[b]]\n", "round 1 of 'associated' must map each word"),
        ("mission: [\n", "not YAML"),
    ],
)
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(KnowledgeError, match=said):
        knowledge.load(path)


def test_validate_prints_problems_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "g.yaml"
    path.write_text("mission: DoS\nkey: [flood, scan]\nassociated:\n  - {burst: [flood]}\n", encoding="utf-8")
    assert main(["validate"]) == 0
    assert main(["validate", str(path)]) == 1
    assert "key concept 'scan' has no child" in capsys.readouterr().out


# --- generator ---


@pytest.fixture
def endpoint() -> Iterator[Callable[[Callable[[str], tuple[int, bytes]]], tuple[Endpoint, list[str]]]]:
    """Starts an OpenAI-shaped server: the given function turns a prompt into (status, body)."""
    servers: list[HTTPServer] = []

    def start(answer: Callable[[str], tuple[int, bytes]]) -> tuple[Endpoint, list[str]]:
        asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked.append(f"{self.path} {body['model']} {body['messages'][0]['content']}")
                status, raw = answer(body["messages"][0]["content"])
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return Endpoint(f"http://127.0.0.1:{server.server_port}/v1/", "tiny", timeout_s=5), asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def chat(text: str) -> tuple[int, bytes]:
    return 200, json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def concept(prompt: str) -> str:
    """The concept in "K = {concept}"."""
    return prompt.partition("{")[2].partition("}")[0]


ANSWERS = {
    "flooding": "1. Burst\n2. **Volume**: lots of it\n3. two words",
    "spoofing": "- Forged\n- burst\n- flooding",
    "burst": "rate",
    "volume": "bandwidth, spoofing",
    "forged": "rate; random",
}


def test_two_rounds_of_the_papers_prompts_make_a_valid_graph(endpoint, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def answer(prompt: str) -> tuple[int, bytes]:
        if prompt.startswith("List"):
            return chat("1. Flooding\n2. Spoofing\n3. Denial of service")
        return chat(ANSWERS[concept(prompt)])

    where, asked = endpoint(answer)
    out = tmp_path / "made.yaml"
    code = main(["generate", "--mission", "DoS", "--event-name", "Denial of Service (DoS) attack", "--endpoint", where.url,
                 "--model", "tiny", "--vocabularies", "2", "--out", str(out)])  # fmt: skip
    assert code == 0
    graph = knowledge.load(out)
    assert graph.levels == [["flooding", "spoofing"], ["burst", "volume", "forged"], ["rate", "bandwidth", "random"]]
    assert ("spoofing", "burst") in graph.edges
    assert ("forged", "rate") in graph.edges
    assert validate(graph) == []
    assert graph.author_model == "tiny"
    assert asked[0] == (
        "/v1/chat/completions tiny List 2 typical vocabularies to represent Denial of Service (DoS) attack? "
        "Note: Everything should be a single word."
    )
    assert asked[1].startswith("/v1/chat/completions tiny What are associated words with vocabularies in set K?\nK = {flooding}")
    assert len(asked) == 1 + 2 + 3


def test_a_key_concept_without_new_words_is_dropped(endpoint) -> None:  # type: ignore[no-untyped-def]
    def answer(prompt: str) -> tuple[int, bytes]:
        if prompt.startswith("List"):
            return chat("flooding, mute, spoofing")
        return chat(
            {"flooding": "burst", "mute": "flooding", "spoofing": "forged"}[prompt.split("{")[1].split("}", maxsplit=1)[0]]
        )

    where, _ = endpoint(answer)
    graph = generate("DoS", "DoS", where, vocabularies=3, rounds=1)
    assert graph.key == ["flooding", "spoofing"]
    assert validate(graph) == []


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((200, b"<html>hello</html>"), "not a chat completion.*OpenAI-compatible"),
        ((200, b'{"choices": []}'), "not a chat completion"),
        ((200, b'{"choices": [{"message": {"content": null}}]}'), "content is NoneType, not text"),
        ((200, json.dumps({"choices": [{"message": {"content": "I cannot help with this."}}]}).encode()), "named 0 single words"),
        ((401, b"{}"), "answered 401.*check the key"),
        ((404, b"{}"), "answered 404.*check the address and the model's name"),
        ((200, b"x" * 1_000_001), "over 1000000 bytes"),
    ],
)
def test_an_endpoint_that_answers_rubbish_is_refused_with_a_remedy(endpoint, reply, said: str) -> None:  # type: ignore[no-untyped-def]
    where, _ = endpoint(lambda _: reply)
    with pytest.raises(EndpointError, match=said):
        generate("DoS", "DoS", where)


def test_an_endpoint_that_is_down_is_reported_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--mission", "DoS", "--endpoint", "http://127.0.0.1:9/v1", "--model", "m", "--timeout-s", "2"]) == 1
    assert capsys.readouterr().err.endswith("is the endpoint running?\n")
    with pytest.raises(EndpointError, match="not an http address"):
        Endpoint("file:///etc", "m").ask("x")


def test_words_are_read_from_lists_of_all_kinds() -> None:
    assert words("1. Port-Scan\n2) **Banner** - what it says\n* echo.\nTwo words\n42\nbanner") == ["portscan", "banner", "echo"]
