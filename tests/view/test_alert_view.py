"""One alert at a terminal: all of it, and nothing of it obeyed."""

from __future__ import annotations

import io
from typing import Any

import pytest
from factories import MISSIONS, SENSOR, alert, flow, packet

from packetclip_sensor.records import Concept, Evidence, Path
from packetclip_sensor.sinks.documents import document
from packetclip_sensor.view import alert_view

HOSTILE = "\x1b[31m\x1b]0;owned\x07[bold red]x[/]\u202e\r\n"


def printed(one: dict[str, Any], monkeypatch: pytest.MonkeyPatch, columns: int | None = None) -> str:
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(columns))
    file = io.StringIO()
    alert_view.show(one, file, MISSIONS)
    return file.getvalue()


def whole(**changed: Any) -> dict[str, Any]:
    evidence = (
        Evidence(
            packet(data=bytes.fromhex("45000028000000004006000001020304050607080050138800000001000000005002ffff")), 0.12, "a SYN"
        ),
    )
    return document(alert(**({"evidence": evidence, "flow": flow(), "flow_text": "A flow."} | changed)), SENSOR)


def test_all_of_an_explanation_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(whole(), monkeypatch)
    for part in (
        "SYN Flood on 10.0.0.9 from 10.0.0.5  DoS  SYN Flood",
        "30 packets in 1.5 s from 10.0.0.5 to 10.0.0.9, all SYN, none answered.",
        "2025-10-09 08:53:20 to 2025-10-09 08:53:21 (1.5 s)",
        "high, risk",
        "T1499.001 OS Exhaustion Flood",
        "CAb1c23",
        "Brute Force     0.005",
        "flood DoS      +0.41  ████████████████████████",
        "handshake DoS  -0.02  ░",
        "Reconnaissance  -0.25  ░░",
        "+0.12 tcp 10.0.0.5:40000 → 10.0.0.9:80, packet 1 of CAb1c23, 60 bytes",
        "0000  45 00 00 28 00 00 00 00 40 06 00 00 01 02 03 04  E..(....@.......",
        "time to live 64; source port 80; destination port 5000; flags SYN; window 65535",
        "0.71 A host sends many SYN packets",
        "rate_pps 19.33",
        "A flow.",
    ):
        assert part in text


def test_paths_that_begin_alike_share_their_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = (
        Path(("sensor", "flood", "rate", "embedding"), 0.5, "DoS"),
        Path(("sensor", "flood", "volume", "embedding"), 0.25, "DoS"),
        Path(("sensor", "retry", "embedding"), 0.125, "Brute Force"),
    )
    text = printed(whole(paths=paths), monkeypatch)
    tree = text[text.index("DoS: sensor") : text.index("Packets:")]
    assert [line.rstrip() for line in tree.splitlines()] == [
        "DoS: sensor",
        "└── flood +0.41",
        "    ├── rate",
        "    │   └── embedding  +0.500 ▬▬▬▬▬▬▬▬▬▬▬▬",
        "    └── volume",
        "        └── embedding  +0.250 ▬▬▬▬▬▬",
        "Brute Force: sensor",
        "└── retry",
        "    └── embedding  +0.125 ▬▬▬",
        "",
    ]


def spoiled(value: Any) -> Any:
    match value:
        case dict():
            return {key: spoiled(part) for key, part in value.items()} | {HOSTILE: HOSTILE}
        case list():
            return [spoiled(part) for part in value]
        case str():
            return HOSTILE
    return value


def test_hostile_strings_in_every_field_and_name_reach_the_terminal_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    one = spoiled(whole())
    one["packetclip"]["evidence"][0]["data"] = HOSTILE.encode().hex()
    text = printed(one, monkeypatch)
    assert not set(text) & {"\x1b", "\x07", "\r", "\u202e"}
    assert "\\x1b[31m\\x1b]0;owned\\x07[bold red]x[/]" in text


@pytest.mark.parametrize("wrong", [None, 3, "x", [], {}, [None], {"a": None}, float("nan"), 1e300, True])
def test_a_field_of_any_type_makes_no_error(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in whole()["packetclip"]:
        one = whole()
        one["packetclip"][name] = wrong
        assert "Time (UTC)" in printed(one, monkeypatch)


@pytest.mark.parametrize("columns", [60, 100])
def test_sentences_and_paths_are_no_wider_than_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(whole(reason="word " * 60), monkeypatch, columns)
    lines = text[: text.index("Packets:")].splitlines()
    assert max(map(len, lines)) <= columns


def test_weights_of_an_older_sensor_are_told_as_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    old = printed(whole(concepts=(Concept("flood", 0.0123, 1),)), monkeypatch)
    assert "Concepts: probability lost when one is silenced\nflood  +0.012" in old
    assert "Packets: probability lost" in old
    assert "Concepts: log-odds lost" in printed(whole(), monkeypatch)
