"""Logs to windows: which files are written, with which windows, and what is refused."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from captures import pcap as pcap_of

from packetclip_sensor.pairs.parquet import PACKETS
from packetclip_sensor.windows.windows import TRAINED
from training.common import DataError
from training.data import prepare
from training.data.replay import find_zeek

DATA = Path(__file__).parents[2] / "data"
LOG = "packetclip_packet.log"


def lab(folder: Path, *names: str) -> Path:
    """A lab's logs: the packet log of demo captures and their labels."""
    for name in names:
        own = folder / name
        own.mkdir(parents=True)
        (own / LOG).write_bytes(gzip.decompress((DATA / f"demo-{name}" / f"{LOG}.gz").read_bytes()))
        shutil.copy(DATA / f"demo-{name}" / "labels.json", own)
    return folder


def captures(folder: Path, rows: list[str], pcap: str = "") -> Path:
    """A folder of captures by others; files are named in the manifest, and need not be there where their logs are."""
    folder.mkdir()
    (folder / "MANIFEST.csv").write_text("\n".join(["file,label,use,source", *rows]) + "\n")
    if pcap:
        shutil.copy(DATA / pcap / "capture.pcap.gz", folder / "own.pcap.gz")
    return folder


def windows(path: Path) -> tuple[int, set[str], set[str]]:
    """(windows, captures, labels) of a file."""
    found = pq.read_table(path, columns=["capture", "label"])
    return len(found), set(found["capture"].to_pylist()), set(found["label"].to_pylist())


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_each_lab_is_a_file_and_what_is_judged_is_cut_once_a_second(tmp_path: Path) -> None:
    first, more, unseen = (
        lab(tmp_path / name, capture)
        for name, capture in (("first", "icmp-fping"), ("more", "port-zmap"), ("unseen", "os-nping"))
    )
    out, judged = tmp_path / "pairs", tmp_path / "judged"
    given = ["--lab", str(first), "--also", f"more={more}", "--test", f"unseen={unseen}", "--judged", str(judged)]
    assert prepare.main([*given, "--out", str(out)]) == 0
    assert names(out) == ["lab.parquet", "more.parquet"]
    assert names(judged) == ["lab.parquet", "unseen.parquet"]
    assert windows(out / "more.parquet")[1] == {"port-zmap"}
    assert "Port Scan" in windows(out / "more.parquet")[2]
    assert windows(judged / "unseen.parquet")[1] == {"os-nping"}
    for folder, period in ((out, 0.1), (judged, 1.0)):
        found = pq.read_table(folder / "lab.parquet", columns=["second", "view", "sources", "destinations"]).to_pylist()
        keys = [json.dumps(row) for row in found]
        most = max(keys.count(key) for key in keys)
        # A second in which heavy connections may hide others has a window for each look, and one of light packets.
        assert (most <= TRAINED.looks + 1) is (period == 1.0), most
    assert windows(out / "lab.parquet")[0] > windows(judged / "lab.parquet")[0] > 0


def test_captures_by_others_are_a_file_a_class_and_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        "a/scan.pcap,Port Scan,train or test,north",
        "a/other.pcap,Port_Scan,train or test,the south/2",
        "b/quiet.pcap,Benign protocols,train or test,north",
        "b/held.pcap,Port Scan,train or test,west",
        "b/last.pcap,Port Scan,test only,north",
        "b/odd.pcap,Worm,train or test,north",
    ]
    others = captures(tmp_path / "others", rows)
    for name, demo in (("scan.pcap", "port-zmap"), ("other.pcap", "port-zmap"), ("quiet.pcap", "icmp-fping")):
        logs = lab(tmp_path / "logs", demo) / demo  # logs that are there are not made again
        shutil.move(logs, tmp_path / "captures" / name)
    out, judged = tmp_path / "pairs", tmp_path / "judged"
    given = ["--lab", str(lab(tmp_path / "lab", "icmp-fping")), "--captures", str(others), "--without", "west"]
    assert prepare.main([*given, "--attack-windows", "7", "--out", str(out), "--judged", str(judged)]) == 0
    own = ["captures-Benign-north.parquet", "captures-Port-Scan-north.parquet", "captures-Port-Scan-the-south-2.parquet"]
    assert names(out) == names(judged) == [*own, "lab.parquet"]
    assert windows(out / own[0])[1:] == ({"quiet.pcap"}, {"Benign"})
    assert windows(out / own[1]) == (7, {"scan.pcap"}, {"Port Scan"})
    assert windows(out / own[2]) == (7, {"other.pcap"}, {"Port Scan"})
    assert "pairs/captures-Port-Scan-north.parquet: 7 windows of 1 captures" in capsys.readouterr().out


@pytest.mark.zeek
def test_zeek_reads_the_captures_of_the_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One without IP, which gives no log, ends nothing."""
    try:
        find_zeek()
    except DataError as err:
        pytest.skip(str(err))
    rows = ["arp.pcap,Benign,train or test,north", "own.pcap.gz,Benign,train or test,north"]
    others = captures(tmp_path / "others", rows, pcap="demo-icmp-fping")
    (others / "arp.pcap").write_bytes(pcap_of([(1.7e9, bytes(12) + b"\x08\x06" + bytes(28))]))
    given = ["--lab", str(lab(tmp_path / "lab", "icmp-fping")), "--captures", str(others), "--benign-windows", "5"]
    assert prepare.main([*given, "--out", str(tmp_path / "pairs")]) == 0
    assert windows(tmp_path / "pairs" / "captures-Benign-north.parquet") == (5, {"own.pcap.gz"}, {"Benign"})
    assert "Zeek saw no IP packet in it; give another capture; left out" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--also", "more"], "--also more: write NAME=LOGS with a folder of logs, for example unseen=lab-unseen/logs"),
        (["--test", "=lab"], "--test =lab: write NAME=LOGS"),
        (["--also", "more=nowhere"], "--also more=nowhere: write NAME=LOGS"),
        (["--also", "a/b=lab"], "--also a/b=lab: write NAME=LOGS"),
        (["--also", "lab=lab"], "--also lab=lab: the name lab is taken; choose another one"),
        (["--also", "a=lab", "a=lab"], "--also a=lab: the name a is taken"),
        (["--test", "a=lab"], "--test and --unreadable need --judged, the folder for windows as the sensor cuts them"),
        ([], "lab: no folder with packetclip_packet.log; run `make lab` first"),
    ],
)
def test_what_cannot_be_prepared_is_refused(
    given: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lab").mkdir()
    assert prepare.main(["--lab", "lab", "--out", "out", *given]) == 2
    assert f"error: {message}" in capsys.readouterr().err


def test_captures_without_a_manifest_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "others").mkdir()
    given = ["--lab", str(lab(tmp_path / "lab", "icmp-fping")), "--captures", str(tmp_path / "others")]
    assert prepare.main([*given, "--out", str(tmp_path / "pairs")]) == 2
    assert "others" in capsys.readouterr().err


def test_altered_copies_stand_beside_and_unreadable_ones_are_a_test(tmp_path: Path) -> None:
    """The same captures, so that no split has a capture on both sides; records are as a sensor has them, each packet once."""
    first = lab(tmp_path / "first", "icmp-fping", "dict-patator-ftp")
    out, judged = tmp_path / "pairs", tmp_path / "judged"
    given = ["--lab", str(first), "--judged", str(judged), "--altered", "9", "--unreadable", f"hidden={first}"]
    assert prepare.main([*given, "--out", str(out)]) == 0
    assert names(out) == ["lab-altered.parquet", "lab.parquet"]
    assert names(judged) == ["hidden.parquet", "lab.parquet"]
    assert windows(out / "lab-altered.parquet")[1] == windows(out / "lab.parquet")[1] == {"icmp-fping", "dict-patator-ftp"}
    labels = pq.read_table(out / "lab-altered.parquet", columns=["capture", "label"]).to_pylist()
    assert max(labels.count(row) for row in labels) <= 9
    assert windows(judged / "hidden.parquet")[0] == windows(judged / "lab.parquet")[0]
    packets = json.loads(pq.read_metadata(judged / "lab.parquet").metadata[b"packets"])
    assert packets.keys() == {"icmp-fping", "dict-patator-ftp"}
    assert min(packets.values()) > 100


def test_captures_to_choose_with_are_judged_and_train_nothing(tmp_path: Path) -> None:
    others = captures(tmp_path / "others", ["a/scan.pcap,Port Scan,validate,north"])
    shutil.move(lab(tmp_path / "logs", "port-zmap") / "port-zmap", tmp_path / "captures" / "scan.pcap")
    out, judged = tmp_path / "pairs", tmp_path / "judged"
    given = ["--lab", str(lab(tmp_path / "lab", "icmp-fping")), "--captures", str(others), "--judged", str(judged)]
    assert prepare.main([*given, "--out", str(out)]) == 0
    assert names(out) == ["lab.parquet"]
    assert names(judged) == ["lab.parquet", "validate-Port-Scan-north.parquet"]


def test_workers_cut_what_one_process_does_and_nothing_twice(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    first = lab(tmp_path / "first", "icmp-fping", "os-nping")
    given = ["--lab", str(first), "--judged", str(tmp_path / "judged"), "--altered", "50", "--attack-windows", "60"]
    found, written = [], []
    for out, more in (("one", []), ("two", ["--workers", "2"]), ("two", ["--workers", "1"])):
        assert prepare.main([*given, "--out", str(tmp_path / out), *more]) == 0
        files = {path.name: path for path in (tmp_path / out).glob("*.parquet")}
        packets = {name: pq.read_metadata(path).metadata[PACKETS.encode()] for name, path in files.items()}
        found.append({name: (pq.read_table(path).to_pylist(), packets[name]) for name, path in files.items()})
        written.append({path: path.stat().st_mtime_ns for path in (tmp_path / out / "cuts").glob("*/*.parquet")})
    assert found[0] == found[1] == found[2]
    assert found[0].keys() == {"lab.parquet", "lab-altered.parquet"}
    assert len(written[1]) == 4
    assert written[1] == written[2], "the last run made a capture again"
