"""Text from outside, made fit to show."""

from __future__ import annotations

import json

import pytest

from packetclip_sensor.common.text import counted, keep_secret, masked, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, with blanks: café — 漢", "plain, with blanks: café — 漢"),
        ("a\x1b[2Jb\u202ec\n", "a\\x1b[2Jb\\u202ec\\n"),
        ("\ud800", "\\ud800"),
        ("x" * 500, "x" * 19 + "…"),
        ("\n" * 500, "\\n" * 9 + "\\…"),
    ],
)
def test_what_does_not_print_is_escaped_and_what_is_long_is_cut(text: str, shown: str) -> None:
    assert printable(text, 40 if len(text) < 40 else 20) == shown
    json.dumps(shown, ensure_ascii=False).encode()  # a lone surrogate would not go through


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://user:word@es:9200, and https://word@es", "at https://***@es:9200, and https://***@es"),
        ("https://user:wo/rd@es:9200/x", "https://***@es:9200/x"),
        ("https://es.example.org/app/@timestamp by me@example.org", "https://es.example.org/app/@timestamp by me@example.org"),
        ("the key c2VjcmV0 and secr", "the key *** and secr"),
    ],
)
def test_logins_in_urls_and_secrets_in_use_are_masked(text: str, shown: str) -> None:
    keep_secret("c2VjcmV0", "secr")  # four characters are too few to be told from a word
    assert (masked(text), printable(text)) == (shown, shown)


def test_a_number_of_things_is_in_words() -> None:
    assert [counted(count, "file") for count in (0, 1, 12000)] == ["0 files", "1 file", "12,000 files"]
