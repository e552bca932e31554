"""The lab's recordings and its command, and the finding of pcaps: everything that needs neither root nor a recording."""

from __future__ import annotations

import gzip
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from packetclip_sensor.errors import SensorError
from training.data import replay
from training.lab import __main__ as lab
from training.lab import record as recording
from training.lab.catalogue import captures
from training.lab.plan import Capture
from training.lab.record import LabError, _stretch, finished, paths, record, tidy

DEMO = captures("demo", 1)


def test_an_interval_runs_on_until_the_next_attack_on_the_same_victim() -> None:
    runs = [
        {"start": 10.0, "end": 15.0, "victim": ["10.0.0.1"]},
        {"start": 20.0, "end": 25.0, "victim": ["10.0.0.2"]},
        {"start": 30.0, "end": 35.0, "victim": ["10.0.0.1"]},
    ]
    _stretch(runs, 50.0)
    assert [(run["stopped"], run["end"]) for run in runs] == [(15.0, 30.0), (25.0, 50.0), (35.0, 50.0)]


def test_a_range_of_victims_overlaps_any_victim() -> None:
    runs = [{"start": 10.0, "end": 15.0, "victim": ["10.0.0.0/24"]}, {"start": 20.0, "end": 25.0, "victim": ["10.0.0.2"]}]
    _stretch(runs, 50.0)
    assert runs[0]["end"] == 20.0


def test_a_capture_without_labels_is_not_finished(tmp_path: Path) -> None:
    (tmp_path / "one.pcap").write_bytes(b"x")
    assert not finished(tmp_path, "one")
    (tmp_path / "one.labels.json").write_text("{}")
    assert finished(tmp_path, "one")


def test_a_capture_recorded_by_another_plan_is_named_and_recorded_anew_only_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for capture, plan in ((DEMO[0], DEMO[0].described()), (DEMO[1], DEMO[1].described() | {"mtu": 700})):
        (tmp_path / f"{capture.name}.pcap").write_bytes(b"x")
        (tmp_path / f"{capture.name}.labels.json").write_text(json.dumps({"plan": plan}))
    assert lab._missing(DEMO[:3], tmp_path, again=False) == [DEMO[2]]
    said = f"recorded by an older plan and kept (--again records them anew): {DEMO[1].name}\n"
    assert capsys.readouterr().err == said
    assert lab._missing(DEMO[:3], tmp_path, again=True) == DEMO[1:3]


def test_slow_captures_are_recorded_beside_one_another_and_beside_the_quick_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three slow ones and a quick one meet while only one quick job is allowed; each goes to its folder."""
    met, seen = threading.Barrier(4, timeout=20), []
    every = [replace(DEMO[at], name=f"c{at}", duration_s=lasts) for at, lasts in enumerate((500, 10, 600, 700, 12))]

    def recorded(capture: Capture, out: Path) -> dict[str, object]:
        seen.append((capture.name, out))
        if capture.name != "c4":
            met.wait()
        return {"capture": capture.name, "packets": 1, "intervals": []}

    monkeypatch.setattr(lab, "record", recorded)
    assert lab._record_all([(one, tmp_path / one.name) for one in every], 1, Console(quiet=True)) == 0
    assert sorted(seen) == [(f"c{at}", tmp_path / f"c{at}") for at in range(5)]


def test_several_profiles_are_planned_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.main(["--plan", "--profile", "demo", "unseen", "--only", "dns-resperf"]) == 0
    names = [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
    assert names == ["demo-dns-resperf", "unseen-dns-resperf-long"]


def test_the_next_start_removes_work_and_half_pcaps_of_a_killed_run_but_neither_keys_nor_captures(tmp_path: Path) -> None:
    for name in (".work/m00/x.log", ".work/shared/client", "m00.part", "m01.pcap"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    tidy(tmp_path)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == [".work/shared/client", "m01.pcap"]


def test_a_capture_is_not_begun_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.lab.record.LEAST_FREE", 1 << 60)
    with pytest.raises(LabError, match=rf"^{DEMO[0].name}: .* MB free, the lab wants 1099511627776; make room and start again$"):
        record(DEMO[0], tmp_path)


def test_a_capture_in_which_the_machines_accounts_changed_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation that replaces /etc/passwd takes away the lab's own accounts: right passwords are refused from then on."""
    files = paths(tmp_path, DEMO[0].name)

    def run(*_: object) -> dict[str, object]:
        for path in files:
            path.touch()
        return {}

    for name in ("remove", "build"):
        monkeypatch.setattr(recording.network, name, lambda *_: None)
    monkeypatch.setattr(recording, "_run", run)
    accounts = iter([1, 1, 1, 2])
    monkeypatch.setattr(recording, "_accounts_files", lambda: next(accounts))
    assert record(DEMO[0], tmp_path) == {}
    with pytest.raises(LabError, match="accounts changed meanwhile"):
        record(DEMO[0], tmp_path)
    assert not any(path.exists() for path in files)


def test_without_root_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert lab.main(["--out", str(tmp_path / "lab")]) == 2
    assert capsys.readouterr().err == "error: the lab makes network namespaces and needs root; run it with sudo\n"
    assert not (tmp_path / "lab").exists()


def test_plan_prints_one_json_line_a_capture_without_the_password(capsys: pytest.CaptureFixture[str]) -> None:
    assert lab.main(["--plan", "--only", "syn-hping-many"]) == 0
    (plan,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert plan["name"] == "syn-hping-many"
    assert plan["attacks"][0]["tool"] == "hping3 -S, many hosts"
    assert "password" not in plan


def test_pcaps_are_found_in_depth_and_named_by_their_path(tmp_path: Path) -> None:
    for name in ("a.pcap", "deep/er/b.pcapng", "c/capture.pcap.gz", ".work/d.pcap", "e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = replay.pcaps(tmp_path)
    assert [replay.name_of(path, tmp_path) for path in found] == ["a", "c", "deep/er/b"]


def test_replay_without_folder_names_it_and_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay.main([str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'} is no folder; record one with python -m training.lab\n"


@pytest.mark.zeek
def test_a_broken_pcap_leaves_no_logs(tmp_path: Path) -> None:
    try:
        replay.find_zeek()
    except SensorError as err:
        pytest.skip(str(err))
    with gzip.open(tmp_path / "x.pcap.gz", "wb") as file:
        file.write(b"no pcap at all, but long enough to be read")
    with pytest.raises(SensorError, match=r"x\.pcap\.gz is no whole pcap or pcapng"):
        replay.replay(tmp_path / "x.pcap.gz", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
