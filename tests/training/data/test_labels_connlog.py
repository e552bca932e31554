"""Zeek's conn.log with labels: IoT-23's spelling and JSON lines, by uid and by ends and time."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from label_logs import T0, below, connection, kinds, labels_of, recorded

from packetclip_sensor.errors import ConfigError
from training.data.labels import connlog, mapping
from training.data.labels.match import ByConnection, Matcher
from training.data.labels.report import Report

A, B = "192.168.1.195", "10.0.0.9"
SCAN = connection(T0, "CAAA", A, 4000, B, 23)
TALK = connection(T0 + 2, "CBBB", A, 4001, B, 80)
FIELDS = """ts uid id.orig_h id.orig_p id.resp_h id.resp_p proto service duration orig_bytes resp_bytes conn_state local_orig
local_resp missed_bytes history orig_pkts orig_ip_bytes resp_pkts resp_ip_bytes""".split()  # noqa: SIM905
VISIT = {"uid": "CBBB", "sport": 4001, "dport": 80}
SCANS = "-   Malicious   PartOfAHorizontalPortScan"


def line(label: str, *, ts: float = T0, uid: str = "CAAA", sport: int = 4000, dport: int = 23, duration: str = "5.0") -> str:
    """A row up to resp_ip_bytes, then what `label` says."""
    start = [f"{ts:.6f}", uid, A, str(sport), B, str(dport), "udp", "-", duration, "0", "0", "S0", "-", "-", "0", "D", "6", "192"]
    return "\t".join([*start, "0", "0", label]) + "\n"


def log(rows: str, glue: str = "   ") -> str:
    """IoT-23's header, with its last three columns glued by three spaces or parted by tabs."""
    head = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n#open\t2019\n"
    fields = "\t".join([*FIELDS, glue.join(["tunnel_parents", "label", "detailed-label"])])
    return f"{head}#fields\t{fields}\n#types\ttime\n{rows}#close\t2019-01-01-00-00-01\n"


def labelled(
    tmp_path: Path, text: str | bytes, names: str = "iot_23", name: str = "conn.log.labeled"
) -> tuple[ByConnection, Matcher, Report]:
    path, report = tmp_path / name, Report("test")
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    connections = recorded(tmp_path / "capture", [*SCAN, *TALK])
    matcher = Matcher(connections)
    connlog.read(path, matcher, report, mapping.ten_classes() if names == "classes" else mapping.load(names))
    return ByConnection(connections), matcher, below(report, tmp_path)


@pytest.mark.parametrize(("glue", "header"), [("   ", "   "), ("\t", "\t"), ("   ", "\t")])
def test_iot_23s_labels_are_read_whether_glued_or_parted(tmp_path: Path, glue: str, header: str) -> None:
    rows = line(glue.join(["-", "Malicious", "PartOfAHorizontalPortScan"]))
    rows += line(glue.join(["(empty)", "benign", "-"]), ts=T0 + 2, duration="-", **VISIT)
    truth, matcher, report = labelled(tmp_path, log(rows, header))
    assert labels_of(truth, [SCAN[0], TALK[5]]) == ["Port Scan", None]
    assert (matcher.matched, kinds(report), report.named) == (2, [], {"Port Scan": 1, "Benign": 1})


@pytest.mark.parametrize(
    ("uid", "ts", "labels"),
    [
        ("COther", T0, ["Port Scan", ""]),  # a replay has other uids, so ends and time count
        ("CAAA", T0 + 500, ["Port Scan", ""]),  # the same uid counts whatever the time
        ("CBBB", T0 + 500, ["", ""]),  # but not with other ends: a replay with fixed seeds gives uids again
    ],
)
def test_a_connection_is_known_by_its_uid_and_ends_or_by_ends_and_time(
    tmp_path: Path, uid: str, ts: float, labels: list[str]
) -> None:
    assert labels_of(labelled(tmp_path, log(line(SCANS, uid=uid, ts=ts)))[0], [SCAN[0], TALK[0]]) == labels


def test_labels_of_no_class_and_contradictory_ones_label_nothing(tmp_path: Path) -> None:
    rows = line("-   Malicious   C&C-HeartBeat") + line("-   Benign   DDoS", **VISIT)
    truth, _, report = labelled(tmp_path, log(rows))
    assert labels_of(truth, [SCAN[0], TALK[0]]) == ["", ""]
    assert report.unused == {"C&C-HeartBeat": 1}
    assert [(p.where, p.text) for p in report.problems] == [
        ("conn.log.labeled:10", "label 'Benign, but DDoS' is none that the mapping has")
    ]
    truth, _, report = labelled(tmp_path, log(line(SCANS) + line("-   Benign   -", ts=T0 + 3)))
    assert labels_of(truth, SCAN[:1]) == [""]
    assert kinds(report) == [("ambiguous", "conn.log.labeled:10")]


def test_json_lines_are_read_with_their_own_classes(tmp_path: Path) -> None:
    row = {
        "ts": T0,
        "uid": "x",
        "id.orig_h": A,
        "id.orig_p": 4000,
        "id.resp_h": B,
        "id.resp_p": 23,
        "proto": "udp",
        "duration": 5,
    }
    iso = row | {"ts": "2023-11-14T22:13:22.000000Z", "id.orig_p": 4001, "id.resp_p": 80}
    rows = (row | {"label": "port_scan"}, iso | {"label": "benign", "detailed-label": None})
    text = "".join(json.dumps(r) + "\n" for r in rows) + '[1]\n{"half\n'
    truth, _, report = labelled(tmp_path, text, "classes")
    assert labels_of(truth, [SCAN[0], TALK[0]]) == ["Port Scan", None]
    assert kinds(report) == [("row", "conn.log.labeled:3"), ("row", "conn.log.labeled:4")]


@pytest.mark.parametrize(
    ("row", "kind", "reason"),
    [
        (line("-   Malicious"), "row", "22 values under 23 columns"),
        ("\udcff\udcfe\n", "row", "1 values under 23 columns"),
        (line("-   Benign   -", duration="-3"), "backwards", "ends 3 s before it starts"),
        (line("-   Benign   -", duration="nan"), "time", "'nan' is not a number"),
        (line("-   Benign   -").replace(A, "fe80::\x1b[31m"), "address", r"'fe80::\x1b[31m' is no address"),
        (line("-   Benign   -").replace(f"{T0:.6f}", "yesterday"), "time", "neither epoch seconds"),
    ],
)
def test_a_row_that_cannot_be_used_is_reported_with_its_line(tmp_path: Path, row: str, kind: str, reason: str) -> None:
    text = log(row + line("-   Benign   -", ts=T0 + 2, **VISIT)).encode(errors="surrogateescape")
    truth, _, report = labelled(tmp_path, text)
    assert labels_of(truth, [SCAN[0], TALK[0]]) == ["", None]
    assert kinds(report) == [(kind, "conn.log.labeled:9")]
    assert reason in report.problems[0].text
    assert report.problems[0].text.isprintable()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "neither a TSV log of Zeek"),
        ("a,b\n1,2\n", "neither a TSV log of Zeek"),
        ("#fields\tts\tuid\n#types\ttime\tstring\n", "no column id.orig_h.*label; give a conn.log with labels"),
        ('{"ts": 1, "uid": "x"}\n', "no column id.orig_h"),
    ],
)
def test_a_file_that_is_no_labelled_conn_log_stops_the_start(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        labelled(tmp_path, text)


def test_packed_logs_are_read_and_named_by_their_own_name(tmp_path: Path) -> None:
    packed = gzip.compress(log(line("-   Malicious   Weird")).encode())
    _, _, report = labelled(tmp_path, packed, name="conn.log.labeled.gz")
    assert report.unknown == {"Weird": (1, f"{tmp_path}/conn.log.labeled.gz:9")}
    assert connlog.logs(tmp_path, "conn*.log.labeled*") == [tmp_path / "conn.log.labeled.gz"]
    with pytest.raises(ConfigError, match="no file x\\* in it or below"):
        connlog.logs(tmp_path, "x*")
