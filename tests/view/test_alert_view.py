"""One alert at a terminal: all of it, and nothing of it obeyed."""

from __future__ import annotations

import io
import pathlib
from typing import Any

import pytest
from factories import MISSIONS, SENSOR, WRONG, alert, every_text, flow, packet
from snapshot import compare

from packetclip_sensor.records import Concept, Evidence, Path
from packetclip_sensor.sinks.documents import document
from packetclip_sensor.view import alert_view

PRINTED = pathlib.Path(__file__).with_name("printed.txt")
HOSTILE = "\x1b[31m\x1b]0;owned\x07[bold red]x[/]\u202e\r\n"


def printed(one: dict[str, Any]) -> str:
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


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("an alert", {}),
        (
            "paths that begin alike share their beginning",
            {
                "paths": (
                    Path(("sensor", "flood", "rate", "embedding"), 0.5, "DoS"),
                    Path(("sensor", "flood", "volume", "embedding"), 0.25, "DoS"),
                    Path(("sensor", "retry", "embedding"), 0.125, "Brute Force"),
                )
            },
        ),
        ("weights of an older sensor are told as probabilities", {"concepts": (Concept("flood", 0.0123, 1),)}),
    ],
)
def test_all_of_an_explanation_is_printed(name: str, changed: dict[str, Any]) -> None:
    text = printed(whole(**changed))
    if changed:
        concepts, paths = text.index("Concepts:"), text.index("For experts: heaviest")
        text = text[concepts : text.index("+0.12 tcp")] + text[paths : text.index("For experts: nearest")].rstrip()
    compare(PRINTED, name, [line.rstrip() for line in text.splitlines()])


def test_concepts_that_the_transport_rules_out_come_last_and_what_is_for_experts_at_the_end() -> None:
    weighed = (Concept("login", 0.4, 1, "Brute Force"), Concept("keepalive", 0.3, 1, "DoS"), Concept("flooding", 0.2, 1, "DoS"))
    text = printed(whole(klass="UDP Flood", concepts=weighed))
    names = ("flooding DoS ", "login Brute Force, not over this transport", "keepalive DoS, not over this transport")
    assert sorted(map(text.index, names)) == [text.index(name) for name in names]
    assert text.index("Flow\n") < text.index("For experts: heaviest paths")
    text = printed(whole(concepts=weighed))
    assert "not over this transport" not in text
    assert text.index("login") < text.index("flooding DoS")


def test_hostile_strings_in_every_field_and_name_reach_the_terminal_as_text() -> None:
    one = every_text(whole(), HOSTILE)
    one["packetclip"]["evidence"][0]["data"] = HOSTILE.encode().hex()
    text = printed(one)
    assert not set(text) & {"\x1b", "\x07", "\r", "\u202e"}
    assert "\\x1b[31m\\x1b]0;owned\\x07[bold red]x[/]" in text


def test_a_field_of_any_type_makes_no_error() -> None:
    one = whole()
    for name, right in one["packetclip"].items():
        for wrong in WRONG:
            one["packetclip"][name] = wrong
            assert "Time (UTC)" in printed(one), (name, wrong)
        one["packetclip"][name] = right


@pytest.mark.parametrize("columns", [60, 100])
def test_sentences_and_paths_are_no_wider_than_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = printed(whole(reason="word " * 60))
    assert max(map(len, text[: text.index("Packets:")].splitlines())) <= columns
