"""Alert documents read back: files of any form, ids whole and begun, times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from factories import SENSOR, T0, alert, episode

from packetclip_sensor.common.time_parsing import moment, span
from packetclip_sensor.errors import ConfigError, LogFormatError
from packetclip_sensor.sinks.documents import document
from packetclip_sensor.view import alert_reader


def one(name: str, story: str, ts: float = T0, **changed: Any) -> dict[str, Any]:
    return document(alert(id=name, ts=ts, episode=episode(id=story), **changed), SENSOR)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(one("a1", "e1")),
        json.dumps(one("a1", "e1")) + "\n",
        json.dumps({"other": 1}) + "\n\n" + json.dumps(one("a1", "e1")),
        json.dumps(one("a1", "e1"), indent=2),
        json.dumps([one("a1", "e1")]),
        json.dumps({"_index": "x", "_id": "a1", "_source": one("a1", "e1")}, indent=1),
    ],
)
def test_lines_one_document_an_array_and_a_hit_are_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "alerts.ndjson"
    path.write_text(text)
    assert [found["event"]["id"] for found in alert_reader.read(path)] == ["a1"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty: there was no alert"),
        (b"\n", "holds no alert document"),
        (b'{"a": 1}\n', "holds no alert document"),
        (b'{"packetclip": {}}\nnot json\n', ":2: not a JSON line"),
        (b"\xff\xfe\n", ":1: not a JSON line"),
        (b"[" * 100_000, ":1: not a JSON line"),
    ],
)
def test_a_file_that_holds_no_alerts_is_refused_with_the_remedy(content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "alerts.ndjson"
    path.write_bytes(content)
    with pytest.raises(LogFormatError, match=expected):
        alert_reader.read(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogFormatError, match="No such file"):
        alert_reader.read(tmp_path / "none.ndjson")


STORED = [
    one("aaa111", "ccc111", T0),
    one("aaa222", "ccc111", T0 + 60),
    one("bbb333", "ccc444", T0 + 30),
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("aaa111", "aaa111"), ("ccc111", "aaa222"), ("ccc4", "bbb333"), ("aaa", "aaa222"), ("bbb", "bbb333")],
)
def test_an_id_or_its_beginning_finds_the_alert_and_an_episode_its_newest(name: str, expected: str) -> None:
    assert alert_reader.by_id(STORED, name, "x")["event"]["id"] == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ccc", "x: `ccc` begins 2 ids; give one whole: `ccc111`, `ccc444`"),
        ("ccc112", "x: no alert `ccc112`; near ones: `ccc111`"),
        ("zz", "x: no alert `zz`; the newest: `ccc444`, `bbb333`"),
        ("\x1b[31m", r"x: no alert `\\x1b\[31m`"),
    ],
)
def test_an_unknown_or_ambiguous_id_is_answered_with_near_ones(name: str, expected: str) -> None:
    with pytest.raises(alert_reader.UnknownAlertError, match=expected):
        alert_reader.by_id(STORED, name, "x")


def test_of_each_episode_the_newest_document_newest_first_within_the_limits() -> None:
    def left(**given: Any) -> list[str]:
        usual: dict[str, Any] = {"since": None, "until": None, "mission": None, "limit": 10, "where": "x"}
        return [found["event"]["id"] for found in alert_reader.newest(STORED, **(usual | given))]

    assert left() == ["aaa222", "bbb333"]
    assert left(limit=1) == ["aaa222"]
    assert left(until="2025-10-09T08:54:00") == left(until="2025-10-09T08:54:00Z") == ["bbb333", "aaa111"]
    assert left(since="2025-10-09T08:54:00Z", mission="DoS") == ["aaa222"]
    with pytest.raises(LogFormatError, match="no alert of this time"):
        left(since="1h")
    with pytest.raises(ConfigError, match=r"--since 1h is not before --until 2h; turn them round"):
        left(since="1h", until="2h")


@pytest.mark.parametrize("wrong", ["yesterday", "24", "5y", "-1h", "", "2026-13-01"])
def test_a_time_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match=r"--since .*: no time; write 24h or 7d"):
        moment("--since", wrong)


@pytest.mark.parametrize(
    "text", ["2025-10-09T10:53:20+02:00", "2025-10-09T08:53:20Z", "2025-10-09T08:53:20", "2025-10-09 08:53:20", "20251009T085320"]
)
def test_a_time_without_an_offset_is_utc_in_every_command(text: str) -> None:
    """The tests' own time zone is another (conftest.py)."""
    assert moment("--since", text) == span(text, None)[0] == 1_760_000_000.0


def test_a_day_begins_at_midnight_utc_and_so_long_ago_is_from_now(monkeypatch: pytest.MonkeyPatch) -> None:
    assert moment("--since", "2025-10-09") == 1_759_968_000.0
    monkeypatch.setattr("packetclip_sensor.common.time_parsing.time.time", lambda: 1_760_000_000.0)
    assert [moment("--until", text) for text in ("90s", "2m", "24h", "7d", "1w")] == [
        1_759_999_910.0, 1_759_999_880.0, 1_759_913_600.0, 1_759_395_200.0, 1_759_395_200.0,
    ]  # fmt: skip
