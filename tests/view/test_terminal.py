"""The table of alerts and the totals below it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from factories import MISSIONS, alert, episode
from snapshot import compare

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.records import Alert, Concept
from packetclip_sensor.view.terminal import Episodes, progress, summary

PRINTED = Path(__file__).with_name("printed.txt")


def printed(*alerts: Alert, **counts: int) -> str:
    """A summary of two captures: no alert in the first, all in the second."""
    episodes = Episodes(MISSIONS)
    for capture in ("quiet", "loud"):
        episodes.begin(capture)
    for one in alerts:
        episodes.add(one)
    file = io.StringIO()
    summary(episodes, Counters(**counts), where="alerts.ndjson", file=file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "alerts", "counts"),
    [
        (
            "an episode is one row with its newest state",
            (alert(), alert(id="a2", state="close", episode=episode(verdicts=7, packets=1234))),
            {"packets": 2000, "flows": 1},
        ),
        (
            "concepts that weigh nothing are not shown",
            (alert(concepts=(Concept("flood", 0.004, 1), Concept("handshake", -0.2, 1))),),
            {},
        ),
        ("markup and control characters are shown and not obeyed", (alert(reason="[bold red]x[/] \x1b[31m\x07"),), {}),
        ("without alerts there are only totals", (), {"packets": 3}),
        ("documents that were written before are told", (), {"packets": 3, "alerts_duplicate": 2}),
    ],
)
def test_the_summary_is_one_row_for_each_episode_and_the_totals(name: str, alerts: tuple[Alert], counts: dict[str, int]) -> None:
    text = printed(*alerts, **counts)
    assert "\x1b" not in text
    compare(PRINTED, name, [line.rstrip() for line in text.splitlines()])


@pytest.mark.parametrize("columns", [60, 80, 119, 120, 200])
def test_no_line_is_wider_than_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    long = alert(
        mission="Reconnaissance",
        klass="Vulnerability Scan",
        reason="word " * 60,
        concepts=(Concept("enumeration", 0.41, 1),),
        episode=episode(sources=["2001:db8:1234:5678:9abc:def0:1234:5678"], source_count=12_345),
    )
    monkeypatch.setenv("COLUMNS", str(columns))
    text = printed(alert(), long)
    assert max(map(len, text.splitlines())) <= columns
    assert "+12,344" in text
    assert "Vulnerability Scan" in text


def test_concepts_that_the_transport_rules_out_are_not_shown_first() -> None:
    named = ("login", 0.4, "Brute Force"), ("flooding", 0.3, "DoS"), ("datagram", 0.2, "DoS"), ("rate", 0.1, "DoS")
    concepts = tuple(Concept(name, weight, 1, graph) for name, weight, graph in named)
    assert "login" not in printed(alert(klass="UDP Flood", concepts=concepts))
    assert "login +0.40" in printed(alert(klass="SYN Flood", concepts=concepts))


def test_the_same_id_in_two_captures_is_two_rows() -> None:
    episodes = Episodes(MISSIONS)
    for capture in ("one", "two"):
        episodes.begin(capture)
        episodes.add(alert())
    assert [capture for capture, _ in episodes.rows()] == ["one", "two"]
    assert len(episodes) == 2


def test_progress_says_nothing_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(2) as shown:
        shown.unit("a")
        shown.packets(10)
    assert capsys.readouterr().err == ""
