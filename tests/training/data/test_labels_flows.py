"""Flow tables of CICFlowMeter: which connections get which label, and what is reported of flows that cannot be used."""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_logs import T0, below, connection, kinds, labels_of, recorded

from packetclip_sensor.errors import ConfigError
from training.data.labels import cicflowmeter, mapping
from training.data.labels.captures import Capture, Connection, scan
from training.data.labels.cicflowmeter import Clock
from training.data.labels.match import ByConnection, Matcher
from training.data.labels.report import Report
from training.data.labels.times import zone

DATA = Path(__file__).parents[2] / "data"
HEADER = "Flow ID,Src IP,Src Port,Dst IP,Dst Port,Protocol,Timestamp,Flow Duration,Tot Fwd Pkts,Label\n"
NEW_YORK = ZoneInfo("America/New_York")
LOCAL = Clock(NEW_YORK)
A, B = "10.0.0.66", "10.0.0.9"
FLOOD = connection(T0, "C1", A, 4000, B, 53)
VISIT = connection(T0 + 2, "C2", "10.0.0.7", 4001, B, 53)
PINGS = connection(T0 + 20, "C3", A, 8, B, 0, "icmp")


def row(
    label: str, time: str = "14/11/2023 05:13:20 PM", src: str = A, sport: int = 4000, proto: str = "17", us: str = "5000000"
) -> str:
    """A flow to port 53 of B that begins with FLOOD, in New York's time."""
    return f"{src}-{B}-{sport}-53-{proto},{src},{sport},{B},53,{proto},{time},{us},6,{label}\n"


def labelled(
    tmp_path: Path, table: str, clock: Clock = LOCAL, header: str = HEADER, slack: float = 0.0
) -> tuple[ByConnection, Matcher, Report]:
    """The truth that a table gives to a capture of a flood, a visit and pings."""
    path, report = tmp_path / "l.csv", Report("test")
    path.write_text(header + table)
    connections = recorded(tmp_path / "capture", [*FLOOD, *VISIT, *PINGS])
    matcher = Matcher(connections, slack)
    cicflowmeter.read(path, matcher, report, mapping.load("aci_iot_2023"), clock)
    cicflowmeter.report_offset(matcher, clock, report, str(path))
    matcher.settle(report)
    return ByConnection(connections), matcher, below(report, tmp_path)


def test_a_flow_labels_the_connection_with_its_ends_and_time_and_silence_is_not_benign(tmp_path: Path) -> None:
    truth, matcher, report = labelled(tmp_path, row("UDP Flood"))
    assert labels_of(truth, [FLOOD[0], FLOOD[5], VISIT[0], PINGS[0]]) == ["UDP Flood", "UDP Flood", "", ""]
    assert kinds(report) == []
    assert matcher.summary() == {
        "flows of the source": 1,
        "flows that met a connection": 1,
        "flows that met none": 0,
        "of these, between ends of no connection": 0,
        "connections in the captures": 3,
        "connections labelled": 1,
        "connections with a label of no class": 0,
        "connections ambiguous": 0,
        "connections without a flow": 2,
    }


@pytest.mark.parametrize(
    ("flow", "labels"),
    [
        (f"x,{B},53,{A},4000,17.0,14/11/2023 05:13:22 PM,1000,1,UDP Flood\n", ["UDP Flood", ""]),  # from the other side
        (f"x,{A},0,{B},0,0,14/11/2023 05:13:41 PM,1000,1,ICMP Flood\n", ["", "ICMP Flood"]),  # 0 without ports is ICMP
        (row("UDP Flood") + row("udp_flood", "14/11/2023 05:13:24 PM"), ["UDP Flood", ""]),  # cut by a timeout
        (row("UDP Flood", "14/11/2023 17:13:20"), ["UDP Flood", ""]),  # an hour past twelve settles the clock
    ],
)
def test_flows_meet_their_connection(tmp_path: Path, flow: str, labels: list[str]) -> None:
    truth, _, report = labelled(tmp_path, flow)
    assert labels_of(truth, [FLOOD[0], PINGS[0]]) == labels
    assert kinds(report) == []


@pytest.mark.parametrize(
    "header",
    [
        "Flow ID, Source IP, Source Port, Destination IP, Destination Port, Protocol, Timestamp, Flow Duration, Bwd, Label\n",
        "flow_id,src_ip,src_port,dst_ip,dst_port,protocol,timestamp,flow_duration,tot_fwd_pkts,label\n",
        "\ufeffFlow ID,Src IP,Src Port,Dst IP,Dst Port,Protocol,Timestamp,Flow Duration,Total Fwd Packet,Label\n",
    ],
)
def test_the_headers_of_all_versions_are_known(tmp_path: Path, header: str) -> None:
    assert labels_of(labelled(tmp_path, row("UDP Flood"), header=header)[0], FLOOD[:1]) == ["UDP Flood"]


@pytest.mark.parametrize(
    ("time", "us"),
    [
        ("14/11/2023 05:13:15 PM", "3000000"),  # ends at 19 s past 22:13, the connection begins at 20
        ("14/11/2023 05:13:28 PM", "0"),  # the connection's last packet is at 25
        ("14/11/2023 05:13:20 AM", "5000000"),
        ("15/11/2023 05:13:20 PM", "5000000"),
    ],
)
def test_a_flow_of_another_time_labels_nothing_unless_clocks_may_differ_by_as_much(tmp_path: Path, time: str, us: str) -> None:
    truth, matcher, _ = labelled(tmp_path, row("UDP Flood", time, us=us))
    assert labels_of(truth, FLOOD[:1]) == [""]
    assert (matcher.flows, matcher.matched, matcher.strangers) == (1, 0, 0)
    near = time.endswith(("15 PM", "28 PM"))
    assert labels_of(labelled(tmp_path, row("UDP Flood", time, us=us), slack=3.0)[0], FLOOD[:1]) == ["UDP Flood" if near else ""]


def test_a_connection_with_flows_of_two_labels_is_reported_with_both_places_and_gets_none(tmp_path: Path) -> None:
    table = row("UDP Flood") + row("Benign", "14/11/2023 05:13:24 PM") + row("UDP Flood", "14/11/2023 05:13:25 PM")
    truth, matcher, report = labelled(tmp_path, table)
    assert labels_of(truth, FLOOD) == [""] * 6
    assert kinds(report) == [("ambiguous", "l.csv:3")]
    assert report.problems[0].text == (
        f"says Benign, {tmp_path}/l.csv:2 says UDP Flood, of connection C1 in capture; it gets no label"
    )
    assert matcher.summary()["connections ambiguous"] == 1


def test_labels_left_out_on_purpose_and_unknown_ones_label_nothing_and_are_counted(tmp_path: Path) -> None:
    table = row("Ping Sweep") + row("Heartbleed", src="10.0.0.7", sport=4001) * 2
    truth, matcher, report = labelled(tmp_path, table)
    assert labels_of(truth, [FLOOD[0], VISIT[0]]) == ["", ""]
    assert report.unused == {"Ping Sweep": 1}
    assert report.unknown == {"Heartbleed": (2, f"{tmp_path}/l.csv:3")}
    assert matcher.summary()["connections with a label of no class"] == 2
    truth, _, report = labelled(tmp_path, row("Ping Sweep") + row("Benign"))  # ambiguous, and not benign
    assert labels_of(truth, FLOOD[:1]) == [""]
    assert kinds(report) == [("ambiguous", "l.csv:3")]


def test_the_offset_that_would_match_is_reported_and_not_applied(tmp_path: Path) -> None:
    table = row("UDP Flood") + row("Benign", src="10.0.0.7", sport=4001)
    table += f"x,{A},0,{B},0,1,14/11/2023 05:13:40 PM,1,1,ICMP Flood\n"
    truth, _, report = labelled(tmp_path, table, Clock())
    assert labels_of(truth, [FLOOD[0], VISIT[0], PINGS[0]]) == ["", "", ""]
    assert kinds(report) == [("offset", "l.csv")]
    assert report.problems[0].text == (
        "as the times are read now, 0 of 3 flows between known ends meet a connection; 5 h later 3 would: "
        "is it --timezone=-05:00 (or the zone's name)?"
    )
    truth, *_ = labelled(tmp_path, table, Clock(zone("-05:00")))
    assert labels_of(truth, [FLOOD[0], PINGS[0]]) == ["UDP Flood", "ICMP Flood"]


MORNINGLESS = row("UDP Flood", "14/11/2023 05:13:20") + row("Benign", "14/11/2023 10:13:20", src="10.0.0.7", sport=4001)


def test_a_clock_of_twelve_hours_without_am_and_pm_is_ambiguous_until_the_user_gives_its_meaning(tmp_path: Path) -> None:
    truth, matcher, report = labelled(tmp_path, MORNINGLESS)
    assert labels_of(truth, FLOOD[:1]) == [""]
    assert (matcher.flows, [k for k, _ in kinds(report)]) == (0, ["time"])
    assert "so 2 flows are left out; give --clock 24 if the hours are right" in report.problems[0].text
    truth, matcher, report = labelled(tmp_path, MORNINGLESS, Clock(NEW_YORK, hours=12, afternoon_before=8))
    assert labels_of(truth, FLOOD[:1]) == ["UDP Flood"]
    assert (matcher.flows, matcher.matched, kinds(report)) == (2, 1, [])
    assert labels_of(labelled(tmp_path, MORNINGLESS, Clock(NEW_YORK, hours=24))[0], FLOOD[:1]) == [""]


@pytest.mark.parametrize(
    ("bad", "kind", "reason"),
    [
        (row("UDP Flood", "noon"), "time", "'noon' is not a time"),
        (row("UDP Flood", "11/14/2023 05:13:20 PM"), "time", "give --date-order mdy"),
        (row("UDP Flood", us="Infinity"), "time", "'Infinity' is not a number"),
        (row("UDP Flood", us="-7"), "backwards", "ends 7e-06 s before it starts"),
        (row("UDP Flood", src="8.6.0"), "address", "'8.6.0' is no address"),
        (row("UDP Flood", sport=70000), "address", "'70000' is no port"),
        ("1,2,3\n", "row", "3 cells, at least 10 are needed"),
    ],
)
def test_a_flow_that_cannot_be_used_is_reported_with_its_line_and_the_others_count(
    tmp_path: Path, bad: str, kind: str, reason: str
) -> None:
    truth, _, report = labelled(tmp_path, bad + HEADER + row("UDP Flood"))
    assert labels_of(truth, FLOOD[:1]) == ["UDP Flood"]
    assert kinds(report) == [(kind, "l.csv:2")]
    assert reason in report.problems[0].text


@pytest.mark.parametrize("bad", [row("Benign", "noon"), row("Benign", us="-7"), row("Ping Sweep", "")])
def test_a_flow_whose_time_cannot_be_read_puts_other_labels_of_its_ends_in_doubt(tmp_path: Path, bad: str) -> None:
    truth, _, report = labelled(tmp_path, row("UDP Flood") + bad + row("Benign", src="10.0.0.7", sport=4001))
    assert labels_of(truth, [FLOOD[0], VISIT[0]]) == ["", None]
    assert kinds(report)[1] == ("ambiguous", "l.csv:3")
    assert f"at a time that cannot be read, {tmp_path}/l.csv:2 says UDP Flood, of connection C1" in report.problems[1].text


def test_hostile_cells_are_escaped_and_cannot_break_the_table(tmp_path: Path) -> None:
    evil = row('"\x1b[2J\x00=cmd|calc\u202e\nBenign"') + row("UDP Flood", "\x1b]0;x\x07") + b"\xff\xfe,\x80\n".decode("latin-1")
    truth, _, report = labelled(tmp_path, evil + row("UDP Flood", src="10.0.0.7", sport=4001))
    assert labels_of(truth, [FLOOD[0], VISIT[0]]) == ["", "UDP Flood"]
    assert len(report.problems) == 4
    assert all(p.text.isprintable() and p.where.isprintable() for p in report.problems)
    counts = {"unknown label": 1, "time": 1, "row": 1, "ambiguous": 1}
    assert json.loads(json.dumps(report.as_dict()))["problem_counts"] == counts


def test_a_table_without_addresses_or_label_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"l.csv: no column timestamp among 3; .*tables made for machine learning lack them"):
        labelled(tmp_path, "", header="Destination Port,Flow Duration,Label\n")
    with pytest.raises(ConfigError, match=r"no CSV file in it; name the flow tables"):
        cicflowmeter.tables([tmp_path / "capture"])


def test_a_packed_table_is_read_and_a_cut_one_stops_with_its_name(tmp_path: Path) -> None:
    path, matcher = tmp_path / "l.csv.gz", Matcher(recorded(tmp_path / "capture", FLOOD))
    packed = gzip.compress((HEADER + row("UDP Flood") * 500).encode())
    path.write_bytes(packed)
    cicflowmeter.read(path, matcher, Report("test"), mapping.load("aci_iot_2023"), LOCAL)
    assert matcher.flows == 500
    path.write_bytes(packed[:-12])
    with pytest.raises(ConfigError, match=r"l.csv.gz cannot be read .*; copy it again"):
        cicflowmeter.read(path, matcher, Report("test"), mapping.load("aci_iot_2023"), LOCAL)


def test_a_table_made_of_a_recorded_capture_labels_it_as_the_lab_did(tmp_path: Path) -> None:
    """patator's twelve connections to the FTP server of demo-dict-patator-ftp, all others benign."""
    source = DATA / "demo-dict-patator-ftp"
    table = ""
    for line in gzip.decompress((source / "packetclip_flow.log.gz").read_bytes()).splitlines():
        f = json.loads(line)
        if f["final"]:
            time = datetime.fromtimestamp(f["ts"], NEW_YORK).strftime("%d/%m/%Y %I:%M:%S %p")
            proto = {"tcp": 6, "udp": 17}.get(f["proto"], 0)
            ports = (f["id.orig_p"], f["id.resp_p"]) if proto else (0, 0)
            label = "Dictionary Attack" if f["id.orig_h"] == "172.25.134.222" and f["id.resp_p"] == 2021 else "Benign"
            duration = int(f.get("duration", 0) * 1e6)
            table += f"x,{f['id.orig_h']},{ports[0]},{f['id.resp_h']},{ports[1]},{proto},{time},{duration},1,{label}\n"
    path = tmp_path / "l.csv"
    path.write_text(HEADER + table)
    capture = Capture("c", source, (source,))
    connections = scan(capture)
    matcher, report = Matcher(connections), Report("test")
    cicflowmeter.read(path, matcher, report, mapping.load("aci_iot_2023"), LOCAL)
    assert capture.packets == 1097
    assert report.named == {"Dictionary Attack": 12, "Benign": len(connections) - 12}
    assert matcher.summary()["connections labelled"] == len(connections)
    attacks = {c.key[1:] for c in connections if c.label == "Dictionary Attack"}
    assert {end[0] for ends in attacks for end in ends} == {"172.25.134.222", "172.25.134.234"}
    assert kinds(report) == []


def test_offsets_agree_with_trying_each_one() -> None:
    """Slow reference beside `offsets`: shift the flows and count what meets."""
    connections = [Connection("c", f"C{i}", ("udp", (A, i), (B, 53)), T0 + 700 * i, T0 + 700 * i + 40) for i in range(30)]
    matcher, report = Matcher(connections), Report("test")
    flows = [cicflowmeter.Flow(c.key, c.first - 3600, c.last - 3590, "UDP Flood", "UDP Flood", "x") for c in connections]
    for flow in flows:
        matcher.give(flow, report)
    met, tried = matcher.offsets()
    assert (tried, met[3600]) == (30, 30)
    for step in (-4, 0, 3, 4, 5):
        fresh = Matcher([Connection("c", c.uid, c.key, c.first, c.last) for c in connections])
        for f in flows:
            fresh.give(cicflowmeter.Flow(f.key, f.start + 900 * step, f.end + 900 * step, f.label, f.claim, f.where), report)
        assert fresh.matched == met[900 * step]


NAMES = {"UDP Flood": "UDP Flood", "Benign": None, "Ping Sweep": "", "Nonsense": "", "Slowloris": "Slowloris"}


@given(st.lists(st.tuples(st.sampled_from(sorted(NAMES)), st.integers(0, 2), st.integers(-8, 12)), max_size=10))
@settings(max_examples=60, deadline=None)
def test_no_connection_gets_a_label_that_not_all_its_flows_have(
    tmp_path_factory: pytest.TempPathFactory, flows: list[tuple[str, int, int]]
) -> None:
    """Slow reference: all flows of the same ends whose second meets the connection's six."""
    connections = [Connection("c", f"C{i}", ("udp", (A, 4000 + i), (B, 53)), T0, T0 + 5) for i in range(2)]
    path = tmp_path_factory.mktemp("p") / "l.csv"
    path.write_text(HEADER + "".join(row(name, str(int(T0) + s), sport=4000 + port, us="500000") for name, port, s in flows))
    matcher, report = Matcher(connections), Report("test")
    cicflowmeter.read(path, matcher, report, mapping.load("aci_iot_2023"), Clock())
    for i, c in enumerate(connections):
        names = {name for name, port, s in flows if port == i and 0 <= s <= 5}
        label = next(iter(names)) if len(names) == 1 else ""
        packets = connection(T0, f"C{i}", A, 4000 + i, B, 53)[:1]
        assert labels_of(ByConnection(connections), packets) == [NAMES.get(label, "")], c
