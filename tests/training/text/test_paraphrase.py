"""What a paraphrase may say, and the command that asks for them, against a small HTTP server on loopback."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from chat_server import ChatServer, Reply

from packetclip_sensor.alerts.sentences import window_text
from training.missions import MissionError
from training.text import paraphrase, texts
from training.text.llm import Answer, Endpoint, Work
from training.text.paraphrase import candidates, main
from training.text.paraphrase_check import fault
from training.text.texts import bank, held_out, normalised, pair_text

Start = Callable[[Callable[[str], Reply]], ChatServer]
SYN = "SYN segments from many spoofed sources flood one server. Associated words: handshake and backlog."
WINDOW = (
    "Many TCP packets, sent fast, hundreds a second, from one host to many ports of one host, in many connections; "
    "most are SYN alone and no connection is completed; no payload; few answers come."
)


NUMBER, NAME = "a number that is not the source's", "a name that is not the source's"
HOSTS, AMOUNT = "hosts that are not the source's", "an amount that is not the source's"
THEY = "SYN segments from many spoofed sources flood one server"


@pytest.mark.parametrize(
    ("source", "text", "reason"),
    [
        (SYN, "One server is flooded with SYN segments that come from many spoofed sources, with handshake and backlog.", None),
        (WINDOW, "From one host come many TCP packets, hundreds a second and fast, to many ports of one host, "
         "in many connections; most carry SYN alone, no connection is completed, no payload and few answers.", None),
        (SYN, "500 SYN segments from many spoofed sources flood one server with handshake and backlog.", NUMBER),
        (SYN, "Dozens of SYN segments from many spoofed sources flood one server with its backlog.", NUMBER),
        (WINDOW, WINDOW.replace("hundreds a second", "at a high pace"), "a number left out"),
        (SYN, "UDP datagrams from many spoofed sources flood one server with handshake and backlog.", NAME),
        (SYN, "SYN segments of hping3 from many spoofed sources flood one server and its backlog.", NUMBER),
        (SYN, "SYN segments of nmap from many spoofed sources flood one server and its backlog.", NAME),
        (SYN, THEY + " of Contoso and its backlog.", NAME),
        (SYN, "SYN segments from many spoofed sources flood the ssh service of one server.", NAME),
        (SYN, "SYN segments from a botnet of many spoofed sources flood one server and its backlog.", HOSTS),
        ("TCP connection requests flood the target", "TCP connection requests of many clients flood the target.", HOSTS),
        (SYN, "SYN segments from many spoofed sources do not flood one server and its backlog.", "a negation turned round"),
        ("No answer comes to the ICMP packets of the flood.", "An answer comes to the ICMP packets of the flood.",
         "a negation turned round"),
        (WINDOW, WINDOW.replace("few answers", "many answers"), AMOUNT),
        (WINDOW, WINDOW.replace("from one host to many ports", "from many hosts to many ports"), AMOUNT),
        (SYN, THEY + " to scan its handshake and backlog.", "a word of scan that the source has not"),
        (SYN, THEY + " in normal use with its backlog.", "a word of benign that the source has not"),
        (SYN, "Slow SYN segments from many spoofed sources flood one server with handshake and backlog.",
         "a word of slow that the source has not"),
        (SYN, "The SYN segments of one server tell who sends the most of all.", "something else than the source"),
        (SYN, THEY + " to crawl its handshake and backlog for a banner.", "a concept that the source has not"),
        (SYN, "SYN flood.", "too short or too long"),
        (SYN, SYN + " " + "It goes on and on to flood the server. " * 6, "too short or too long"),
        (SYN, SYN.upper(), "the source itself"),
        (SYN, "SYN-Segmente vieler Quellen überfluten einen Server.", "characters that no sentence of the bank has"),
        (SYN, "Viele SYN Segmente fluten einen Server mit Handshake und Backlog bis er steht.", "not an English sentence"),
        (SYN, "Sure, here is a paraphrase: " + THEY, "talk about the task"),
        (SYN, "the the the SYN the the many the the sources the the the flood", "words over and over"),
    ],
)  # fmt: skip
def test_a_paraphrase_may_say_only_what_its_source_says(source: str, text: str, reason: str | None) -> None:
    assert fault(source, text) == reason


@pytest.mark.parametrize("klass", ["SYN Flood", "Port Scan", "Dictionary Attack", "Benign"])
def test_a_sentence_of_another_class_is_never_taken_for_a_paraphrase(klass: str) -> None:
    others = [s.text for name in ("ICMP Flood", "OS Scan", "Slowloris", "DNS Flood") for s in bank(name)[::6]]
    taken = [(s.text, other) for s in bank(klass)[::12] for other in others if fault(s.text, other) is None]
    assert len(taken) <= 0.02 * len(bank(klass)[::12]) * len(others), taken[:5]


def test_candidates_are_lines_without_marks_and_without_a_half_one() -> None:
    assert candidates(Answer('1. One line.\n\n- "Two lines."\n3) Thr', cut=True)) == ["One line.", "Two lines."]
    assert candidates(Answer("", cut=False)) == []


def reworded(prompt: str) -> str:
    """Two good paraphrases of any source, one of them twice, and two bad ones."""
    source = prompt.rsplit("\n", 1)[1].rstrip(".")
    good = f"It is seen that {source[0].lower() + source[1:]}."
    bad = f"{source} with 77 of them.\n5. {source} and Hydra of Contoso is seen."
    return f"1. {good}\n2. {good}\n3. It is so that {source}.\n4. {bad}"


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Makes the texts look for paraphrases at a path and forget what they read before; everything is as before after the test."""

    def look(path: Path) -> None:
        monkeypatch.setattr(texts, "PARAPHRASES", path)
        texts.paraphrases.cache_clear()
        bank.cache_clear()

    yield look
    monkeypatch.undo()
    texts.paraphrases.cache_clear()
    bank.cache_clear()


def test_accepted_paraphrases_are_written_and_used_by_pair_text(chat: Start, at, tmp_path: Path, capsys) -> None:
    server = chat(reworded)
    facts = {"packets": 30, "proto": "udp", "rate_pps": 900.0, "reply_share": 0.0, "top_resp_p": 4444, "payload_mean_bytes": 20.0}
    pq.write_table(pa.table({"facts": [json.dumps(facts)] * 3, "tokens": [[0xDEAD, 0xBEEF]] * 3}), tmp_path / "p.parquet")
    out = tmp_path / "paraphrases.yaml"
    arguments = ["--endpoint", server.url, "--model", "tiny", "--out", str(out), "--classes", "UDP Flood", "--every", "20",
                 "--pairs", str(tmp_path / "p.parquet")]  # fmt: skip
    assert main(arguments) == 0
    made = yaml.safe_load(out.read_text())
    assert made["model"] == "tiny"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", made["date"])
    assert len(server.asked) == 9 + 1
    assert made["rejected"] == {NUMBER: 10, NAME: 10, "repeated": 10}
    assert (len(made["sentences"]), len(made["windows"])) == (18, 2)
    assert made["windows"][0]["source"] == window_text(facts)
    assert not re.search("4444|dead", "".join(server.asked).lower())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.parquet", "paraphrases.yaml"]

    capsys.readouterr()
    at(out)
    drawn = {pair_text("UDP Flood", facts, random.Random(i))[1] for i in range(400)}
    assert [t for t in drawn if t.startswith("It is seen that")]
    assert [t for t in drawn if "It is seen that many UDP packets" in t]
    assert capsys.readouterr().err == (
        f"texts: 18 sentences and 2 window texts paraphrased by tiny ({made['date']}) are used too; paraphrases.yaml\n"
    )
    # A paraphrase needs what its source needs: the file cannot bring UDP to a TCP window.
    assert not [s for s in bank("UDP Flood") if "It is seen that" in s.text and "UDP" in s.text and "tcp" in s.needs]
    own = {normalised(s.text): s.needs for s in bank("UDP Flood")}
    assert all(own[normalised(p["text"])] == own[normalised(p["source"])] for p in made["sentences"])


def test_a_stopped_run_goes_on_and_writes_nothing_before_it_is_done(chat: Start, tmp_path: Path, capsys) -> None:
    server = chat(lambda prompt: 401 if len(server.asked) == 3 else reworded(prompt))
    out = tmp_path / "new" / "out.yaml"
    arguments = ["--endpoint", server.url, "--model", "tiny", "--out", str(out), "--classes", "ICMP Flood", "--every", "40"]
    assert main(arguments) == 2
    assert "answered 401 Unauthorized; check the key" in capsys.readouterr().err
    assert not out.exists()
    assert main(arguments) == 0
    assert len(server.asked) == 3 + 4 - 2
    assert len(yaml.safe_load(out.read_text())["sentences"]) == 8


def test_a_model_that_repeats_the_prompt_leaves_the_file_as_it_was(chat: Start, tmp_path: Path, capsys) -> None:
    url = chat(lambda prompt: prompt).url
    out = tmp_path / "out.yaml"
    out.write_text("from before\n")
    assert main(["--endpoint", url, "--model", "parrot", "--out", str(out), "--classes", "Benign", "--every", "200"]) == 1
    printed = capsys.readouterr()
    assert out.read_text() == "from before\n"
    assert "0 sentences and 0 window texts accepted, 6 refused" in printed.out
    assert "error: nothing of parrot was accepted" in printed.err


def test_a_held_out_sentence_is_never_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = held_out("UDP Flood").sentences[0].text
    monkeypatch.setattr(paraphrase, "ask", lambda *_: {"accepted": [wanted, "a new sentence"], "rejected": {}})

    made = paraphrase.paraphrase(Endpoint("", "m"), ["A source."], [], 2, Work(None, "m"))
    assert [p.text for p in made.sentences] == ["a new sentence"]
    assert made.rejected == {"in the bank or held out": 1}


def test_a_file_that_is_no_paraphrases_is_refused(at: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("model: m\nsentences: none\n")
    at(path)
    with pytest.raises(MissionError, match=r"p.yaml: .*mend the file"):
        texts.paraphrases()


def test_nothing_to_paraphrase_is_a_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--endpoint", "http://127.0.0.1:9/v1", "--model", "m", "--only", "windows"]) == 2
    assert "window texts come from --pairs" in capsys.readouterr().err
