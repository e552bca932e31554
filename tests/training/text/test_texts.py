"""The bank of texts: varied, deterministic, true to the facts, and apart from the zero-shot prompts."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.missions import CLASS_MISSION
from training.text.bank import CORES, SERVICES, WORD_NEEDS, WORDS
from training.text.knowledge import load_mission
from training.text.texts import (
    TEXTS,
    bank,
    class_prompts,
    expand,
    held_out,
    normalised,
    pair_text,
    supported,
    tags,
    text_id,
)

ROOT = Path(__file__).parents[3]
Facts = dict[str, float | int | str | None]

SYN_FLOOD: Facts = {
    "packets": 30, "proto": "tcp", "distinct_orig_h": 30, "distinct_resp_h": 1, "distinct_resp_p": 1, "top_resp_p": 80,
    "distinct_uid": 30, "one_packet_connections_share": 1.0, "rate_pps": 5000.0, "max_gap_s": 0.001, "reply_share": 0.0,
    "completed_connections": 0, "syn_share": 1.0, "rst_share": 0.0, "odd_flags_share": 0.0, "payload_mean_bytes": 0.0,
}  # fmt: skip
UDP_FLOOD: Facts = SYN_FLOOD | {
    "proto": "udp", "syn_share": None, "rst_share": None, "odd_flags_share": None, "completed_connections": None,
    "top_resp_p": 7777, "payload_mean_bytes": 800.0, "distinct_orig_h": 1,
}  # fmt: skip
SSH_GUESSING: Facts = {
    "packets": 30, "proto": "tcp", "distinct_orig_h": 1, "distinct_resp_h": 1, "distinct_resp_p": 1, "top_resp_p": 22,
    "distinct_uid": 3, "one_packet_connections_share": 0.0, "rate_pps": 15.0, "max_gap_s": 0.8, "reply_share": 0.45,
    "completed_connections": 3, "syn_share": 0.07, "rst_share": 0.0, "odd_flags_share": 0.0, "payload_mean_bytes": 90.0,
}  # fmt: skip
NOTHING: Facts = {"packets": 3, "proto": None}


@pytest.mark.parametrize("klass", CLASS_MISSION)
def test_a_class_has_over_a_hundred_different_sentences(klass: str) -> None:
    assert len({normalised(t) for t in TEXTS[klass]}) == len(TEXTS[klass])
    assert len(TEXTS[klass]) >= 100
    assert all(re.fullmatch(r"[A-Z][^{}|]*\.", t) for t in TEXTS[klass])


def test_prompts_and_held_out_texts_are_in_no_training_text() -> None:
    everything = " / ".join(normalised(t) for texts in TEXTS.values() for t in texts)
    seen = {text_id(t) for texts in TEXTS.values() for t in texts} | {text_id(p) for k in CLASS_MISSION for p in class_prompts(k)}
    for klass in CLASS_MISSION:
        prompts, held = class_prompts(klass), held_out(klass)
        assert len(set(prompts)) >= 10
        whole = [p for p in prompts if len(p.split()) > 2]  # a class's bare name may occur within a sentence
        assert min(len({text_id(t) for t in texts}) for texts in (held.prompts, [s.text for s in held.sentences])) >= 8
        assert not seen & {text_id(t) for t in held.all}
        assert not [t for t in (*whole, *held.all) if normalised(t) in everything], klass


def test_held_out_texts_share_no_run_of_five_words_with_their_class() -> None:
    def runs(texts: list[str]) -> set[tuple[str, ...]]:
        split = [normalised(t).split() for t in texts]
        return {tuple(words[i : i + 5]) for words in split for i in range(len(words) - 4)}

    for klass in CLASS_MISSION:
        assert runs(held_out(klass).all) & runs(TEXTS[klass]) == set(), klass


def test_a_sentence_says_no_more_than_its_needs_of_the_window() -> None:
    """What a sentence claims about protocol or service stands in its needs, held-out sentences included."""
    implied = {"quic": {"udp"}} | {service: {"tcp"} for service in ("ssh", "ftp", "telnet", "http", "tls", "smb")}
    named = {"SYN Flood": {"tcp"}, "UDP Flood": {"udp"}, "ICMP Flood": {"icmp"}, "OS Scan": {"tcp", "udp", "icmp"}}
    for klass in set(CLASS_MISSION) - {"Benign"}:
        for s in [*bank(klass), *held_out(klass).sentences]:
            have = set(s.needs) | {t for need in s.needs for t in implied.get(need, ())}
            loose = {"icmp"} if have & {"mixed", "unreachable"} else set()
            loose |= {"tcp", "udp"} if have & {"mixed", "dns", "unreachable"} else set()
            assert claims(s.text) - have - named.get(klass, set()) - loose == set(), (klass, s.text)


def test_no_text_belongs_to_two_classes() -> None:
    seen: dict[str, str] = {}
    for klass, texts in TEXTS.items():
        for text in texts:
            assert seen.setdefault(normalised(text), klass) == klass


@pytest.mark.parametrize("klass", [k for k in CLASS_MISSION if k != "Benign"])
def test_enriching_words_come_from_the_missions_graph_and_enrich_half_of_the_texts(klass: str) -> None:
    assert set(WORDS[klass]) <= set(load_mission(CLASS_MISSION[klass]).words)
    assert not set(WORDS[klass][:2]) & set(WORD_NEEDS)
    enriched = [t for t in TEXTS[klass] if re.search(r"Associated words|involves|Signs of it|Concepts:|Concerning|relates to", t)]
    assert 0.4 < len(enriched) / len(TEXTS[klass]) < 0.6


def test_every_need_is_a_tag_that_facts_can_give() -> None:
    given = set(SERVICES.values()) | {"tcp", "udp", "icmp", "mixed", "other"}
    rng = random.Random(1)
    for _ in range(3000):
        given |= tags({name: rng.choice((0, 0.03, 0.3, 1, 2, 5, 50, 600, 1000)) for name in (*SYN_FLOOD, "icmp_echo_share",
                                                                                          "icmp_unreachable_share")})  # fmt: skip
    needed = {tag for cores in CORES.values() for needs, _ in cores for tag in needs.split()}
    needed |= {tag for klass in CLASS_MISSION for s in held_out(klass).sentences for tag in s.needs} | set(WORD_NEEDS.values())
    assert needed - given == set()


def test_the_tags_of_a_spoofed_syn_flood_are_what_its_facts_show_and_every_class_has_texts_without_facts() -> None:
    assert tags(SYN_FLOOD) == {
        "tcp", "http", "many_sources", "one_target", "one_port", "many_connections", "single_packets", "fast", "unanswered",
        "incomplete", "syn", "empty",
    }  # fmt: skip
    assert tags(NOTHING) == {"None"}
    assert all(len(supported(klass, NOTHING)) >= 8 for klass in CLASS_MISSION)


CLAIMS = {
    "udp": r"\budp\b|\bdatagrams?\b",
    "tcp": r"\btcp\b|\bsyn\b|handshakes?\b",
    "icmp": r"\bicmp\b|\bpings?\b|\becho requests\b",
    "ssh": r"\bssh\b",
    "ftp": r"\bftp\b",
    "telnet": r"\btelnet\b",
}
"""Words that claim a protocol or service."""


def claims(text: str) -> set[str]:
    return {name for name, pattern in CLAIMS.items() if re.search(pattern, text.lower())}


@pytest.mark.parametrize(("klass", "facts", "foreign"), [
    ("SYN Flood", SYN_FLOOD, {"udp", "icmp", "ssh", "ftp", "telnet"}),
    ("SYN Flood", UDP_FLOOD, {"icmp", "ssh", "ftp", "telnet"}),
    ("UDP Flood", UDP_FLOOD, {"tcp", "icmp", "ssh", "ftp", "telnet"}),
    ("Dictionary Attack", SSH_GUESSING, {"udp", "icmp", "ftp", "telnet"}),
    ("Port Scan", SYN_FLOOD, {"udp", "icmp", "ssh"}),
    ("Benign", SSH_GUESSING, {"udp", "icmp", "ftp", "telnet"}),
])  # fmt: skip
def test_a_text_claims_no_protocol_or_service_that_the_facts_do_not_show(klass: str, facts: Facts, foreign: set[str]) -> None:
    held = supported(klass, facts)
    assert len(held) >= 3
    assert not [s.text for s in held if claims(s.text) & foreign]


def test_one_source_is_never_called_many() -> None:
    assert not [
        s.text for s in supported("UDP Flood", UDP_FLOOD) if re.search(r"many senders|distributed|spoofed senders", s.text)
    ]
    many = supported("UDP Flood", UDP_FLOOD | {"distinct_orig_h": 9})
    assert [s.text for s in many if "many senders" in s.text]
    assert not [s.text for s in many if "single sender" in s.text]


def test_a_benign_text_is_of_the_kind_that_the_facts_show() -> None:
    ssh = {s.text for s in supported("Benign", SSH_GUESSING)}
    assert "An administrator works in an SSH session after a successful login." in ssh
    dns: Facts = {"packets": 2, "proto": "udp", "top_resp_p": 53, "reply_share": 0.5, "distinct_resp_p": 1}
    assert [s.text for s in supported("Benign", dns) if "DNS" in s.text]
    assert not [s.text for s in supported("Benign", dns) if "SSH" in s.text or "TCP" in s.text]


def test_pair_text_joins_a_class_sentence_with_the_facts_in_words() -> None:
    identity, text = pair_text("SYN Flood", SYN_FLOOD, random.Random(3))
    assert text.endswith(
        "Many TCP packets, sent very fast, over a thousand a second, from many hosts to one port of one host, in many "
        "connections of mostly a single packet; nearly all are SYN alone and no connection is completed; no payload; "
        "no answer comes."
    )
    assert text.split(". Many TCP packets")[0] + "." in {t if t.endswith(".") else t + "." for t in TEXTS["SYN Flood"]}
    assert re.fullmatch("[0-9a-f]{16}", identity)


def test_equal_draws_give_equal_texts_with_either_kind_of_generator_and_many_draws_many_sentences() -> None:
    for make in (random.Random, np.random.default_rng):
        assert pair_text("Port Scan", SYN_FLOOD, make(5)) == pair_text("Port Scan", SYN_FLOOD, make(5))
    rng = random.Random(0)
    assert len({pair_text("SYN Flood", SYN_FLOOD, rng)[0] for _ in range(300)}) >= 40


def test_text_ids_are_equal_for_equal_normalised_sentences_only() -> None:
    assert text_id("A SYN  flood, fast.") == text_id("a syn flood fast") != text_id("a syn flood slow")


def test_alternatives_are_expanded_in_order() -> None:
    assert expand("a {big|small} {cat|dog}") == ["a big cat", "a big dog", "a small cat", "a small dog"]


def test_the_bank_is_the_same_in_every_process() -> None:
    code = "from training.text.texts import *; print(text_id(' '.join(t for texts in TEXTS.values() for t in texts)))"
    printed = [
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, cwd=ROOT, capture_output=True, text=True, check=True
        )
        for seed in ("1", "2")
    ]
    assert printed[0].stdout == printed[1].stdout == text_id(" ".join(t for texts in TEXTS.values() for t in texts)) + "\n"
