"""Labels by time interval and address: which packets get which, and what is reported of rows that cannot be right."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_logs import T0, below, kinds, labels_of, packet

from packetclip_sensor.errors import ConfigError
from packetclip_sensor.pairs.labels import NOT_KNOWN, Interval
from training.data.labels import intervals
from training.data.labels.captures import Capture
from training.data.labels.intervals import ByInterval
from training.data.labels.mapping import ten_classes
from training.data.labels.report import Report

HEADER = "file,label,start,end,attacker,victim,tool\n"
A, B, C = "10.0.0.66", "10.0.0.9", "10.0.0.7"


def capture(name: str = "day/monday", seconds: float = 100.0) -> Capture:
    return Capture(name, Path(f"{name}.pcap"), (), first=T0, last=T0 + seconds)


def labelled(tmp_path: Path, table: str, suffix: str = ".csv", rest: Interval | None = None) -> tuple[ByInterval, Report]:
    """The truth of capture day/monday, T0 to T0 + 100 s; the table's file is called l.csv in messages."""
    path, report, monday = tmp_path / f"l{suffix}", Report("test"), capture()
    path.write_text(HEADER + table if suffix == ".csv" else table)
    rows = intervals.owners(intervals.read(path, report), [monday], report)["day/monday"]
    rules = intervals.check(intervals.rules(rows, monday, ten_classes(), report), monday, report)
    return ByInterval(rules, rest), below(report, tmp_path)


def at(second: float, src: str = A, dst: str = B) -> list:
    return [packet(T0 + second, "C1", src, 1000, dst, 2000)]


def test_a_row_labels_the_packets_between_its_hosts_in_its_time_whoever_sends(tmp_path: Path) -> None:
    truth, report = labelled(tmp_path, f"monday.pcap,udp flood,+10,+20,{A},{B},hping3\n")
    packets = [*at(9.9), *at(10.0), *at(20.0, B, A), *at(20.1), *at(15, A, C)]
    assert labels_of(truth, packets) == [None, "UDP Flood", "UDP Flood", None, None]
    assert truth.of(packets[1]) == Interval("UDP Flood", [A], [B], T0 + 10, T0 + 20, "hping3")
    assert kinds(report) == []
    assert report.named["UDP Flood"] == 1


def test_a_yaml_table_says_the_same_with_lists_and_keeps_plus_signs(tmp_path: Path) -> None:
    text = "intervals:\n"
    text += f"- {{file: day/monday.pcap, label: Port Scan, start: +10, end: +20, attacker: [{A}, {C}], victim: 10.0.0.0/24}}\n"
    text += f"- {{file: monday, label: Port Skan, start: +30, end: +40, attacker: {A}, victim: {B}}}\n"
    truth, report = labelled(tmp_path, text, ".yaml")
    assert labels_of(truth, [*at(15, C, "10.0.0.200"), *at(15, "10.0.1.1", C), *at(35), *at(45)]) == ["Port Scan", None, "", None]
    assert kinds(report) == [("unknown label", "l.yaml:3")]


def test_an_unknown_label_is_named_with_its_place_and_count_and_its_packets_are_not_benign(tmp_path: Path) -> None:
    table = "".join(f"monday,SYN Flod,+{s},+{s + 5},{A},{B},x\n" for s in (10, 20, 30))
    truth, report = labelled(tmp_path, table)
    assert labels_of(truth, [*at(12), *at(17), *at(32)]) == ["", None, ""]
    assert report.unknown == {"SYN Flod": (3, f"{tmp_path}/l.csv:2")}
    assert kinds(report) == [("unknown label", "l.csv:2")]
    assert report.counts["unknown label"] == 3


def test_intervals_of_different_labels_that_overlap_are_reported_with_both_places_and_label_nothing(tmp_path: Path) -> None:
    table = f"monday,UDP Flood,+10,+30,{A},{B},x\nmonday,DNS Flood,+20,+40,*,{B},y\nmonday,Port Scan,+10,+40,{C},10.9.0.0/16,z\n"
    truth, report = labelled(tmp_path, table)
    assert labels_of(truth, [*at(15), *at(25), *at(35), *at(25, B, A)]) == ["UDP Flood", "", "DNS Flood", ""]
    assert kinds(report) == [("overlap", "l.csv:2 and l.csv:3")]
    assert report.problems[0].text == "UDP Flood and DNS Flood for 10.0 s; packets in both get no label"


@pytest.mark.parametrize(
    ("table", "packets", "labels", "problems"),
    [
        (f"monday,UDP Flood,+10,+30,{A},{B},x\nmonday,UDP Flood,+20,+40,{A},{B},y\n", at(25), ["UDP Flood"], []),
        (f"monday,UDP Flood,+20,+10,{A},{B},x\n", [*at(5), *at(15), *at(15, C, B)], ["", "", None], ["backwards"]),
        (
            f"monday,UDP Flood,+10,+20,{A},{A},x\nmonday,Port Scan,+30,+40,{A},10.0.0.0/24,x\n",
            [*at(15, A, A), *at(35)],
            ["", "Port Scan"],  # a scan of its own network is none of itself
            ["attacker is victim"],
        ),
    ],
)
def test_intervals_that_contradict_themselves_label_nothing(
    tmp_path: Path, table: str, packets: list, labels: list[str | None], problems: list[str]
) -> None:
    truth, report = labelled(tmp_path, table)
    assert labels_of(truth, packets) == labels
    assert kinds(report) == [(kind, "l.csv:2") for kind in problems]


def test_times_outside_the_capture_are_reported_with_their_distance(tmp_path: Path) -> None:
    table = f"monday,UDP Flood,+150,+160,{A},{B},x\nmonday,UDP Flood,1600000000,1600000001,{A},{B},x\n"
    table += f"monday,DNS Flood,+90,+300,{A},{C},x\n"
    _, report = labelled(tmp_path, table)
    assert kinds(report) == [("outside", "l.csv:2"), ("outside", "l.csv:3"), ("outside", "l.csv:4")]
    assert [p.text for p in report.problems] == [
        "lies 50.0 s after the capture's end (day/monday)",
        "lies 99,999,999.0 s before the capture's start (day/monday)",
        "reaches beyond its capture (day/monday) by more than 60 s",
    ]


@pytest.mark.parametrize(
    ("row", "kind", "reason", "labels"),
    [
        (f"monday,UDP Flood,12.5,+20,{A},{B},x", "time", "write +12.5 for seconds", ["", None]),
        (f"monday,UDP Flood,2023-11-14T22:13:20,+20,{A},{B},x", "time", "has no time zone", ["", None]),
        (f"monday,UDP Flood,+10,+20,10.0.0.666,{B},x", "address", "attacker '10.0.0.666' is neither", ["", ""]),
        (f"monday,UDP Flood,+10,+20,{A},,x", "address", "no victim; write *", ["", ""]),
        (f"monday,UDP Flood,+10,+20,spoofed,{B},x", "address", "spoofed needs to know", ["", ""]),
        (f"tuesday,UDP Flood,+10,+20,{A},{B},x", "capture", "file 'tuesday' is none of the 1 captures", [None, None]),
        (f"monday,,+10,+20,{A},{B},x", "row", "no label; the row is left out", [None, None]),
        (f"monday,UDP Flood,+10,+20,{A},{B},x,y,z", "row", "9 cells under 7 columns", ["", ""]),
    ],
)
def test_a_row_that_cannot_be_used_is_reported_and_what_it_may_have_meant_is_not_benign(
    tmp_path: Path, row: str, kind: str, reason: str, labels: list[str | None]
) -> None:
    truth, report = labelled(tmp_path, row + "\n")
    assert kinds(report)[0] == (kind, "l.csv:2")
    assert reason in report.problems[0].text
    assert labels_of(truth, [*at(15), *at(15, C, "10.0.0.8")]) == labels


def test_an_interval_without_any_packet_is_reported(tmp_path: Path) -> None:
    truth, report = labelled(tmp_path, f"monday,UDP Flood,+10,+20,{A},{B},x\nmonday,DNS Flood,+10,+20,{C},{B},x\n")
    labels_of(truth, at(15))
    intervals.without_packets(truth, capture(), report)
    assert [(p.kind, p.text) for p in report.problems] == [
        ("no packet", "DNS Flood: no packet in day/monday between its hosts in its time")
    ]


def test_a_name_of_two_captures_labels_neither(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text(HEADER + f"monday,UDP Flood,+10,+20,{A},{B},x\nb/monday.pcap.gz,UDP Flood,+30,+40,{A},{B},x\n")
    report = Report("test")
    both = [capture("a/monday"), capture("b/monday")]
    rows = intervals.owners(intervals.read(path, report), both, report)
    assert [(r.label, r.start) for r in rows["a/monday"]] == [("", "+10")]
    assert [(r.label, r.start) for r in rows["b/monday"]] == [("", "+10"), ("UDP Flood", "+30")]
    assert report.problems[0].text == "file 'monday' is 2 captures: a/monday, b/monday; write its folder too"


def test_a_table_without_its_columns_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("file,label,from,to\n")
    with pytest.raises(ConfigError, match="no column start, end, attacker, victim; the first line must be file,label,start"):
        intervals.read(path, Report("test"))
    yaml = tmp_path / "l.yaml"
    yaml.write_text("intervals: [[[")
    with pytest.raises(ConfigError, match="is not YAML"):
        intervals.read(yaml, Report("test"))


def test_control_characters_of_a_table_are_escaped_in_problems(tmp_path: Path) -> None:
    row = f'monday,"SYN\x1b[31m\nFlood",+10,+20,{A},{B},x\n"\x07evil",UDP Flood,+10,+20,{A},\x1b]0;{B},x\n'
    _, report = labelled(tmp_path, row)
    texts = [p.text for p in report.problems]
    assert all(t.isprintable() for t in texts)
    assert texts[0] == r"file '\x07evil' is none of the 1 captures; the row is left out"
    assert texts[1] == r"label 'SYN\x1b[31m\nFlood' is none that the mapping has"


LABELS = ["UDP Flood", "Port Scan", "Benign", "Nonsense", ""]
HOSTS = [A, B, C, "10.0.0.0/30", "*", "nobody", ""]
TIMES = ["+0", "+3", "+7", "-1", "1700000004", "tomorrow", ""]


@given(
    st.lists(st.tuples(*(st.sampled_from(s) for s in (LABELS, TIMES, TIMES, HOSTS, HOSTS))), max_size=6),
    st.lists(st.tuples(st.floats(0, 10), st.sampled_from([A, B, C]), st.sampled_from([A, B, C])), max_size=12),
)
@settings(max_examples=80, deadline=None)
def test_no_packet_gets_a_label_that_no_row_gives_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], packets: list[tuple[float, str, str]]
) -> None:
    """Slow reference: a label needs a row with that label whose times can be read and hold the packet's."""
    table = "".join(f"monday,{','.join(row)},t\n" for row in rows)
    truth, _ = labelled(tmp_path_factory.mktemp("p"), table, rest=NOT_KNOWN)
    seconds = {"+0": 0.0, "+3": 3.0, "+7": 7.0, "1700000004": 4.0}
    for second, src, dst in packets:
        (label,) = labels_of(truth, [packet(T0 + second, "C", src, 1, dst, 2)])
        holding = {
            r[0]
            for r in rows
            if (r[1] in seconds and r[2] in seconds and seconds[r[1]] <= second + 1e-6 and second <= seconds[r[2]] + 1e-6)
            or (r[0] == "Benign" and not r[1] and not r[2])
        }
        assert label == "" or (label or "Benign") in holding
