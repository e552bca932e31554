"""The graph generator and the client for language models, against a real HTTP server on loopback that fails on cue."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from chat_server import ChatServer, Reply, completion

from training.text import knowledge
from training.text.knowledge import validate
from training.text.knowledge.__main__ import main
from training.text.knowledge.generate import generate, rubbish, words
from training.text.llm import Answer, Endpoint, EndpointError, Work

Start = Callable[[Callable[[str], Reply]], ChatServer]


def at(server: ChatServer) -> Endpoint:
    """The server as an endpoint for which nobody really waits."""
    return Endpoint(server.url, "tiny", timeout_s=5, sleep=lambda _: None)


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


def good(prompt: str) -> str:
    return "1. Flooding\n2. Spoofing\n3. Denial of service" if prompt.startswith("List") else ANSWERS[concept(prompt)]


def arguments(server: ChatServer, out: Path) -> list[str]:
    return ["generate", "--mission", "DoS", "--event-name", "Denial of Service (DoS) attack", "--endpoint", server.url,
            "--model", "tiny", "--vocabularies", "2", "--out", str(out)]  # fmt: skip


def test_two_rounds_of_the_papers_prompts_make_a_valid_graph(chat: Start, tmp_path: Path) -> None:
    server, out = chat(good), tmp_path / "made.yaml"
    assert main(arguments(server, out)) == 0
    graph = knowledge.load(out)
    assert graph.levels == [["flooding", "spoofing"], ["burst", "volume", "forged"], ["rate", "bandwidth", "random"]]
    assert ("spoofing", "burst") in graph.edges
    assert ("forged", "rate") in graph.edges
    assert validate(graph) == []
    assert graph.author_model == "tiny"
    assert server.asked[0] == (
        "/v1/chat/completions tiny List 2 typical vocabularies to represent Denial of Service (DoS) attack? "
        "Note: Everything should be a single word."
    )
    assert server.asked[1].startswith(
        "/v1/chat/completions tiny What are associated words with vocabularies in set K?\nK = {flooding}"
    )
    assert len(server.asked) == 1 + 2 + 3
    assert [p.name for p in tmp_path.iterdir()] == ["made.yaml"]


def test_a_key_concept_without_new_words_is_dropped(chat: Start) -> None:
    answers = {"flooding": "burst", "mute": "flooding", "spoofing": "forged", "": "flooding, mute, spoofing"}
    server = chat(lambda prompt: answers[concept(prompt)])
    graph = generate("DoS", "DoS", at(server), vocabularies=3, rounds=1)
    assert graph.key == ["flooding", "spoofing"]
    assert validate(graph) == []


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ((200, b"<html>hello</html>"), "not a chat completion: '<html>hello</html>'; is the endpoint OpenAI-compatible"),
        ((200, b'{"choices": []}'), "not a chat completion"),
        ((200, b'{"choices": [{"message": {"content": nu'), "not a chat completion"),
        (completion(None), "content is NoneType, not text"),
        ("I cannot help with this.", "named 0 single words"),
        ("the, and, word, vocabularies, hmmm, xkcdqz", "named 0 single words"),
        (401, "answered 401.*check the key"),
        (404, "answered 404.*check the address and the model's name"),
        ((302, b"", {"Location": "http://192.0.2.1/"}), "answered 302.*give the address that it points to, http://192.0.2.1/"),
        ((200, b"x" * 1_000_001), "over 1000000 bytes"),
    ],
)
def test_an_endpoint_that_answers_rubbish_is_refused_with_a_remedy(chat: Start, reply: Reply, message: str) -> None:
    server = chat(lambda _: reply)
    with pytest.raises(EndpointError, match=message):
        generate("DoS", "DoS", at(server))
    assert len(server.asked) == (3 if "named" in message else 1)  # only an answer without words is worth another temperature


@pytest.mark.parametrize("failure", [429, 503, 500, (200, completion("flooding")[1][:-20], {"Content-Length": "900"})])
def test_a_failure_that_passes_is_tried_again(chat: Start, failure: Reply) -> None:
    replies: list[Reply] = [failure, failure]
    server = chat(lambda prompt: replies.pop() if replies else good(prompt))
    assert generate("DoS", "DoS", at(server), vocabularies=2).key == ["flooding", "spoofing"]
    assert len(server.asked) == 2 + 6


def test_pauses_double_a_servers_own_wish_comes_first_and_an_endless_refusal_is_reported_without_the_key(chat: Start) -> None:
    replies: list[Reply] = [503, 503, (429, b"", {"Retry-After": "7"}), (429, b"", {"Retry-After": "9999"})]
    pauses: list[float] = []
    server = chat(lambda _: replies.pop(0) if replies else "fine")
    assert replace(at(server), sleep=pauses.append).ask("x").text == "fine"
    assert pauses == [1.0, 2.0, 7.0, 60.0]
    server = chat(lambda _: 429)
    where = replace(at(server), api_key="secret")
    with pytest.raises(EndpointError, match=r"answered 429 Too Many Requests \(5 tries\); what was answered .* kept") as caught:
        where.ask("x")
    assert len(server.asked) == 5
    assert "secret" not in f"{where!r} {caught.value}"


def test_a_slow_endpoint_and_one_that_drips_are_given_up_after_the_time_limit(chat: Start) -> None:
    released = threading.Event()

    server = chat(lambda _: "late" if released.wait(60) else "never")
    started = time.monotonic()
    with pytest.raises(EndpointError, match=r"no answer in 0.2 s.*\(2 tries\)"):
        replace(at(server), timeout_s=0.2, tries=2).ask("x")
    released.set()
    assert time.monotonic() - started < 20

    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
                for _ in range(1200):
                    try:
                        connection.sendall(b" ")
                    except OSError:
                        return
                    time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        dripping = Endpoint(f"http://127.0.0.1:{server.getsockname()[1]}/v1", "tiny", timeout_s=0.3, tries=1)
        started = time.monotonic()
        with pytest.raises(EndpointError, match=r"no answer in 0.3 s; a slow model needs a larger --timeout-s"):
            dripping.ask("x")
        assert time.monotonic() - started < 20


def test_an_endpoint_that_is_down_is_reported_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--mission", "DoS", "--endpoint", "http://127.0.0.1:9/v1", "--model", "m", "--tries", "1"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "is the endpoint running?" in errors[0]
    with pytest.raises(EndpointError, match="not an http address"):
        Endpoint("file:///etc", "m").ask("x")


def test_a_stopped_run_goes_on_where_it_was_and_overwrites_nothing_before_it_is_done(chat: Start, tmp_path: Path) -> None:
    broken = threading.Event()
    broken.set()
    server = chat(lambda prompt: 401 if broken.is_set() and "volume" in prompt else good(prompt))
    out = tmp_path / "dos.yaml"
    out.write_text("the graph from before\n")
    assert main(arguments(server, out)) == 2
    assert out.read_text() == "the graph from before\n"
    assert len(server.asked) == 1 + 2 + 2
    work = tmp_path / "dos.yaml.work"
    work.write_text(work.read_text() + '{"model": "tiny", "prompt": "half a li')  # a machine that went down while writing

    broken.clear()
    server.asked.clear()
    assert main(arguments(server, out)) == 0
    assert [concept(prompt) for prompt in server.asked] == ["volume", "forged"]
    assert knowledge.load(out).levels[2] == ["rate", "bandwidth", "random"]
    assert not work.exists()


def test_answers_of_another_model_are_not_taken(tmp_path: Path) -> None:
    one = Work(tmp_path / "w", "one")
    one.put("question", ["answer"])
    one.__exit__(KeyboardInterrupt)  # stopped before it was done
    assert Work(tmp_path / "w", "one").get("question") == ["answer"]
    assert Work(tmp_path / "w", "two").get("question") is None


def test_words_are_read_from_lists_of_all_kinds_and_without_a_last_entry_that_was_cut(chat: Start) -> None:
    assert words("1. Port-Scan\n2) **Banner** - what it does\n* echo.\nTwo words\n42\nbanner") == ["portscan", "banner", "echo"]
    assert words(Answer("1. scanning\n2. probing\n3. enumer", cut=True)) == ["scanning", "probing"]
    assert words(Answer("1. scanning\n2. probing\n3. enumer", cut=False)) == ["scanning", "probing", "enumer"]
    server = chat(lambda _: completion("flooding, spoo", finish="length"))
    assert at(server).ask("x") == Answer("flooding, spoo", cut=True)
    assert [w for w in ("ddos", "syn", "ssh", "https", "aaah", "bbbb", "bcdfgh", "the", "word") if rubbish(w)] == [
        "aaah", "bbbb", "bcdfgh", "the", "word",
    ]  # fmt: skip
