"""The table of alerts and the totals below it."""

from __future__ import annotations

import io

import pytest
from factories import MISSIONS, alert, episode

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.records import Alert, Concept
from packetclip_sensor.view.terminal import Episodes, progress, summary


def printed(*alerts: Alert, columns: int | None = None, monkeypatch: pytest.MonkeyPatch, **counts: int) -> str:
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", str(columns))
    episodes = Episodes(MISSIONS)
    for capture in ("quiet", "loud"):
        episodes.begin(capture)
    for one in alerts:
        episodes.add(one)
    file = io.StringIO()
    summary(episodes, Counters(**counts), where="alerts.ndjson", file=file)
    return file.getvalue()


def words(text: str) -> str:
    """What is printed without the line breaks of the columns."""
    return " ".join(text.split())


def test_an_episode_is_one_row_with_its_newest_state(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = alert(id="a2", state="close", episode=episode(verdicts=7, packets=1234))
    text = printed(alert(), closed, monkeypatch=monkeypatch, packets=2000, flows=1)
    assert text.count("SYN Flood") == 1
    assert "1,234 packets, 1.5 s, in loud]" in words(text)
    assert "No alert in quiet\n" in text
    assert "so far" not in text
    assert text.endswith("2,000 packets and 1 flow in 2 captures: 1 episode, 2 documents -> alerts.ndjson\n")


def test_a_row_says_when_what_how_sure_who_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    text = words(printed(alert(), monkeypatch=monkeypatch))
    for part in ("2025-10-09", "08:53:20", "DoS", "SYN Flood", "0.970", "10.0.0.5", "→ 10.0.0.9", "flood +0.41", "none"):
        assert part in text
    assert "handshake" not in text  # it spoke against


@pytest.mark.parametrize("columns", [60, 80, 119, 120, 200])
def test_no_line_is_wider_than_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    long = alert(
        mission="Reconnaissance",
        klass="Vulnerability Scan",
        reason="word " * 60,
        concepts=(Concept("enumeration", 0.41, 1),),
        episode=episode(sources=["2001:db8:1234:5678:9abc:def0:1234:5678"], source_count=12_345),
    )
    text = printed(alert(), long, columns=columns, monkeypatch=monkeypatch)
    assert max(map(len, text.splitlines()[:-1])) <= columns
    assert "+12,344" in text
    assert "Vulnerability Scan" in text


def test_markup_and_control_characters_are_shown_and_not_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(alert(reason="[bold red]x[/] \x1b[31m\x07"), monkeypatch=monkeypatch)
    assert "[bold red]x[/] \\x1b[31m\\x07" in text
    assert "\x1b" not in text


def test_the_same_id_in_two_captures_is_two_rows() -> None:
    episodes = Episodes(MISSIONS)
    for capture in ("one", "two"):
        episodes.begin(capture)
        episodes.add(alert())
    assert [capture for capture, _ in episodes.rows()] == ["one", "two"]
    assert len(episodes) == 2


def test_concepts_that_weigh_nothing_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(alert(concepts=(Concept("flood", 0.004, 1), Concept("handshake", -0.2, 1))), monkeypatch=monkeypatch)
    assert "none alone" in text
    assert "flood" not in text


def test_without_alerts_there_are_only_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(monkeypatch=monkeypatch, packets=3)
    assert text == "3 packets and 0 flows in 2 captures: 0 episodes, 0 documents -> alerts.ndjson\n"


def test_lines_that_could_not_be_read_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(monkeypatch=monkeypatch, packets=3, rejects=1, alerts_duplicate=2)
    assert "1 line could not be read; `rejects_path`" in text
    assert "2 documents had been written before" in text


def test_progress_says_nothing_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(2) as shown:
        shown.unit("a")
        shown.packets(10)
    assert capsys.readouterr().err == ""
