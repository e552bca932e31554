"""`python -m training.data.labels`: from a folder of captures to pairs and a report, with recorded logs and the real Zeek."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from captures import pcap
from label_logs import T0, connection, write

from packetclip_sensor.errors import ConfigError
from packetclip_sensor.sources.pcap import find_zeek
from training.data.labels import mapping
from training.data.labels.__main__ import main

DATA = Path(__file__).parents[2] / "data"
A, B, C = "10.0.0.66", "10.0.0.9", "10.0.0.7"
NAMES = "file,label,start,end,attacker,victim,tool\n"
needs_zeek = pytest.mark.skipif(find_zeek() is None, reason="zeek is neither on PATH nor in /opt/zeek/bin")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two captures: a flood beside a visit, and a day of quiet."""
    write(tmp_path / "in" / "monday", [*connection(T0, "C1", A, 4000, B, 53), *connection(T0 + 2, "C2", C, 4001, "10.0.0.8", 53)])
    write(tmp_path / "in" / "tuesday", connection(T0 + 86400, "C3", C, 4000, B, 53))
    return tmp_path / "in"


def windows(out: Path) -> dict[tuple[str, str | None], int]:
    """(capture, label): windows."""
    table = pq.read_table(out, columns=["capture", "label"]).to_pylist()
    found: dict[tuple[str, str | None], int] = {}
    for row in table:
        at = (row["capture"], row["label"])
        found[at] = found.get(at, 0) + 1
    return found


def test_a_table_labels_windows_and_the_rest_stays_unknown_unless_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, out = folder.parent / "l.csv", folder.parent / "out" / "p.parquet"
    table.write_text(NAMES + f"monday,UDP Flood,+0,+10,{A},{B},hping3\ntuesday,Benign,,,,,\nmonday,Slowloris,+0,+1,{A},{C},x\n")
    assert main(["pcaps", str(folder), "--labels", str(table), "--out", str(out)]) == 0
    found = windows(out)
    assert {k for k, v in found.items() if v} == {("in/monday", "UDP Flood"), ("in/monday", None), ("in/tuesday", "Benign")}
    report = json.loads((out.parent / "p.report.json").read_text())
    assert report["windows"]["UDP Flood"] == {"windows": found["in/monday", "UDP Flood"], "captures": 1, "labels": 1}
    assert [(p["kind"], p["where"]) for p in report["problems"]] == [
        ("no packet", f"{table}:4"),
        ("few windows", "Benign"),
        ("empty class", "Slowloris"),
        ("few windows", "UDP Flood"),
    ]
    assert report["captures"][0]["packets"] == 12
    assert "labels, but no window of it" in " ".join(capsys.readouterr().out.split())
    assert main(["pcaps", str(folder), "--labels", str(table), "--out", str(out), "--rest", "Benign"]) == 0
    assert ("in/monday", "Benign") in windows(out)
    assert list(out.parent.glob(".*")) == []


def test_a_labels_file_beside_the_logs_needs_no_table(folder: Path) -> None:
    interval = {"label": "UDP Flood", "attacker": [A], "victim": [B], "start": T0, "end": T0 + 10, "tool": "hping3"}
    (folder / "monday" / "labels.json").write_text(json.dumps({"capture": "monday", "intervals": [interval]}))
    out = folder.parent / "p.parquet"
    assert main(["pcaps", str(folder), "--out", str(out)]) == 0
    assert set(windows(out)) == {("in/monday", "UDP Flood"), ("in/monday", "Benign"), ("in/tuesday", None)}
    report = json.loads((folder.parent / "p.report.json").read_text())
    assert ("capture", "in/tuesday") in [(p["kind"], p["where"]) for p in report["problems"]]


def test_flows_and_conn_logs_take_the_same_way(folder: Path) -> None:
    csv, log = folder.parent / "f.csv", folder / "conn.log.labeled"
    header = "Src IP,Src Port,Dst IP,Dst Port,Protocol,Timestamp,Flow Duration,Label\n"
    csv.write_text(header + f"{A},4000,{B},53,17,14/11/2023 10:13:20 PM,5000000,UDP Flood\n")
    out = folder.parent / "p.parquet"
    assert main(["cicflowmeter", str(folder), "--csv", str(csv), "--out", str(out)]) == 0
    assert set(windows(out)) == {("in/monday", "UDP Flood"), ("in/monday", None), ("in/tuesday", None)}
    row = {"ts": T0 + 86400, "uid": "x", "id.orig_h": C, "id.orig_p": 4000, "id.resp_h": B, "id.resp_p": 53, "proto": "udp"}
    log.write_text(json.dumps(row | {"label": "Benign", "detailed-label": "-"}) + "\n")
    assert main(["zeek", str(folder), "--out", str(out)]) == 0
    assert set(windows(out)) == {("in/monday", None), ("in/tuesday", "Benign")}


def test_when_nothing_is_labelled_the_exit_code_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv, out = folder.parent / "f.csv", folder.parent / "p.parquet"
    csv.write_text("Src IP,Src Port,Dst IP,Dst Port,Protocol,Timestamp,Flow Duration,Label\n")
    assert main(["cicflowmeter", str(folder), "--csv", str(csv), "--out", str(out)]) == 1
    assert "error: not one window has a label" in capsys.readouterr().err
    report = json.loads((folder.parent / "p.report.json").read_text())
    assert report["problem_counts"] == {"row": 1, "nothing matched": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pcaps", "nowhere"], "nowhere does not exist; name the folder"),
        (["pcaps", "in", "--labels", "none.csv"], "none.csv is no file; name the CSV or YAML"),
        (["pcaps", "empty"], "holds no packetclip_packet.log"),
        (["cicflowmeter", "in", "--csv", "none.csv"], "none.csv: no such file"),
        (["cicflowmeter", "in", "--csv", "in", "--timezone", "Moon/Crater"], "time zone 'Moon/Crater' is not known"),
        (["cicflowmeter", "in", "--csv", "in", "--clock", "12"], "--clock 12 needs --afternoon-before HOUR"),
        (["zeek", "in", "--mapping", "none"], "no file conn"),
        (
            ["zeek", "in", "--log", "f.log", "--mapping", "none"],
            "mapping 'none': .* cannot be read .*; there are aci_iot_2023, iot_23",
        ),
    ],
)
def test_a_bad_start_is_one_line_and_exit_code_2(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("empty").mkdir()
    Path("f.log").write_text("x")
    assert main([*arguments, "--out", "p.parquet"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(err)
    assert not Path("p.parquet").exists()


def test_a_full_disk_is_reported_and_leaves_the_older_pairs(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    out = folder.parent / "p.parquet"
    out.write_bytes(b"older")
    monkeypatch.setattr("training.data.labels.__main__.write_pairs", full)
    assert main(["pcaps", str(folder), "--out", str(out)]) == 2
    assert f"error: {out}: No space left on device; free some space" in capsys.readouterr().err
    assert out.read_bytes() == b"older"


def test_every_mapping_that_is_shipped_can_be_read() -> None:
    aci, iot = mapping.load("aci_iot_2023"), mapping.load("iot_23")
    assert set(aci.classes.values()) == set(mapping.CLASS_MISSION)
    assert aci.classes["pingflood"] == "ICMP Flood"
    assert iot.classes["partofahorizontalportscan"] == "Port Scan"
    assert "ddos" in iot.unused


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("classes: {SYN Flod: {mission: DoS, aliases: []}}", "class 'SYN Flod' is none of Benign"),
        ("classes: {SYN Flood: {mission: Benign, aliases: []}}", "SYN Flood has mission 'Benign', it is DoS"),
        (
            "classes: {SYN Flood: {mission: DoS, aliases: [x]}, UDP Flood: {mission: DoS, aliases: [X]}}",
            "'X' stands for two classes",
        ),
        ("classes: {SYN Flood: {mission: DoS, aliases: [x]}}\nunused: {x: why}", "'x' is both a class and unused"),
        ("[1]", "is no label mapping"),
        ("!!python/object/apply:os.system [id]", "is no label mapping"),
    ],
)
def test_a_mapping_that_contradicts_itself_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        mapping.load(str(path))


@needs_zeek
@pytest.mark.zeek
def test_real_zeek_replays_whole_and_cut_captures_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """patator on FTP, from nothing but its pcap, a CSV table and the command."""
    source = DATA / "demo-dict-patator-ftp" / "capture.pcap.gz"
    folder, out = tmp_path / "in", tmp_path / "out" / "mine.parquet"
    folder.mkdir()
    shutil.copy(source, folder / "whole.pcap.gz")
    raw = gzip.decompress(source.read_bytes())
    (folder / "cut.pcap").write_bytes(raw[: len(raw) // 2])
    (folder / "text.pcap").write_text("not a capture")
    (folder / "headless.pcap").write_bytes(pcap([]))
    table = tmp_path / "l.csv"
    table.write_text(
        NAMES
        + "whole.pcap.gz,Dictionary Attack,1795264915.03,1795264927.36,172.25.134.222,172.25.134.234,patator\n"
        + "cut.pcap,dictionary_attack,2026-11-21T12:41:55.03Z,2026-11-21T12:42:07.36Z,172.25.134.222,172.25.134.0/24,patator\n"
    )
    command = ["pcaps", str(folder), "--labels", str(table), "--rest", "Benign", "--most", "60", "--out", str(out)]
    assert main(command) == 0
    found = windows(out)
    assert found["in/whole", "Dictionary Attack"] >= 40
    assert 0 < found["in/cut", "Dictionary Attack"] < found["in/whole", "Dictionary Attack"]
    assert {label for _, label in found} <= {"Dictionary Attack", "Benign", None}
    report = json.loads((out.parent / "mine.report.json").read_text())
    problems = {Path(p["where"]).name: p["text"] for p in report["problems"] if p["kind"] == "capture"}
    assert re.search(r"cut in the middle of packet [0-9]+$", problems["cut.pcap"])
    assert "does not begin like a pcap" in problems["text.pcap"]
    assert problems["headless.pcap"] == f"{folder / 'headless.pcap'} holds no packet; give another capture; left out"
    assert "what is wrong" in capsys.readouterr().out
    kept = out.parent / "mine-logs" / "in" / "whole" / "packetclip_packet.log"
    before = kept.stat().st_mtime_ns
    assert main(command) == 0
    assert kept.stat().st_mtime_ns == before
    assert windows(out) == found
