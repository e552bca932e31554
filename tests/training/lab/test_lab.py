"""The lab's plan and labels, and the finding of pcaps: everything that needs neither root nor a recording."""

from __future__ import annotations

import gzip
import ipaddress
import json
import re
from pathlib import Path

import pytest

from training.missions import CLASS_MISSION
from training.data import replay
from training.lab import __main__ as lab
from training.lab.attacks import MODES
from training.lab.benign import mixed
from training.lab.catalogue import captures
from training.lab.clients import HABITS
from training.lab.plan import Capture
from training.lab.record import LabError, _stretch, finished, record, tidy
from training.lab.services import MAKERS

FIRST, DEMO, MIXED = captures("first", 1), captures("demo", 1), mixed("first", 1)


def networks(found: list[Capture]) -> set[ipaddress.IPv4Network]:
    return {ipaddress.ip_network(f"{capture.host('web').address}/24", strict=False) for capture in found}


def tools(found: list[Capture], label: str) -> set[str]:
    return {attack.tool for capture in found for attack in capture.attacks if attack.label == label}


def test_the_same_seed_plans_the_same_captures_and_another_seed_others() -> None:
    assert captures("first", 1) == FIRST
    assert captures("first", 2)[0].hosts != FIRST[0].hosts


@pytest.mark.parametrize("label", [label for label in CLASS_MISSION if label != "Benign"])
def test_each_attack_class_has_four_training_captures_and_two_tools(label: str) -> None:
    having = [capture for capture in FIRST if any(attack.label == label for attack in capture.attacks)]
    assert len(having) >= 4
    assert len({tool.split()[0] for tool in tools(FIRST, label)}) >= 2
    assert any(attack.label == label for capture in DEMO for attack in capture.attacks)


def test_forty_eight_training_captures_are_benign_and_together_hold_every_habit() -> None:
    benign = [capture for capture in FIRST if not capture.attacks]
    acts = {habit.name for capture in benign + MIXED for habit in capture.habits}
    assert (len(benign), len(MIXED)) == (18, 30)
    later = {habit.name for profile in ("breadth", "chatter") for capture in mixed(profile, 1) for habit in capture.habits}
    assert acts | later == HABITS.keys()
    assert acts >= {name for name, act in HABITS.items() if not act.__module__.endswith(".chatter")} - {"dns_stub"}
    assert len([capture for capture in DEMO if not capture.attacks]) == 3


def test_profiles_share_no_network_and_a_third_of_the_demo_has_tools_unknown_to_training() -> None:
    assert not networks(FIRST) & networks(DEMO)
    known = {attack.tool for capture in FIRST for attack in capture.attacks}
    attacked = [capture for capture in DEMO if capture.attacks]
    new = [capture for capture in attacked if capture.attacks[0].tool not in known]
    assert len(new) * 3 >= len(attacked)


def test_every_label_service_and_habit_is_known() -> None:
    for capture in FIRST + DEMO + MIXED:
        assert {attack.label for attack in capture.attacks} <= CLASS_MISSION.keys()
        assert {service.name for host in capture.hosts for service in host.services} <= MAKERS.keys()
        assert {habit.name for habit in capture.habits} <= HABITS.keys()
        assert len({address for host in capture.hosts for address in host.plain()}) == sum(
            len(h.addresses) for h in capture.hosts
        )


def test_word_lists_named_in_a_command_are_in_the_capture() -> None:
    for capture in FIRST + DEMO:
        for attack in capture.attacks:
            named = set(re.findall(r"\{work\}/([\w-]+\.txt)", attack.command))
            assert named <= capture.words.keys(), capture.name


def test_every_flood_is_bounded_by_a_count_or_a_time() -> None:
    for capture in FIRST + DEMO:
        for attack in capture.attacks:
            assert 0 < attack.limit_s <= 25
            for command in re.findall(r"(?:hping3|nping) [^;&]*", attack.command):
                timed = f"timeout {'0.' if '--flood' in command else ''}" in attack.command
                assert timed or re.search(r" (-c \d+|--scan) ", command), command


def test_a_mode_over_ipv6_attacks_an_ipv6_address() -> None:
    names = {name.replace("_", "-") for name, mode in MODES.items() if mode.six and mode.of("first")}
    found = [capture for capture in FIRST if capture.name in names]
    assert len(found) == len(names) == 10
    assert all(":" in address for capture in found for address in capture.attacks[0].attacker + capture.attacks[0].victim)


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
    for capture, plan in ((MIXED[0], MIXED[0].described()), (MIXED[1], MIXED[1].described() | {"mtu": 700})):
        (tmp_path / f"{capture.name}.pcap").write_bytes(b"x")
        (tmp_path / f"{capture.name}.labels.json").write_text(json.dumps({"plan": plan}))
    assert lab._missing(MIXED[:3], tmp_path, again=False) == [MIXED[2]]
    said = "recorded by an older plan and kept (--again records them anew): m01-mistypes-pages\n"
    assert capsys.readouterr().err == said
    assert lab._missing(MIXED[:3], tmp_path, again=True) == MIXED[1:3]


def test_the_next_start_removes_work_and_half_pcaps_of_a_killed_run_but_neither_keys_nor_captures(tmp_path: Path) -> None:
    for name in (".work/m00/x.log", ".work/shared/client", "m00.part", "m01.pcap"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    tidy(tmp_path)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == [".work/shared/client", "m01.pcap"]


def test_a_capture_is_not_begun_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.lab.record.LEAST_FREE", 1 << 60)
    with pytest.raises(LabError, match=r"^m00-logins-names: .* MB free, the lab wants 1099511627776; make room and start again$"):
        record(MIXED[0], tmp_path)


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
    except replay.ReplayError as err:
        pytest.skip(str(err))
    with gzip.open(tmp_path / "x.pcap.gz", "wb") as file:
        file.write(b"no pcap at all, but long enough to be read")
    with pytest.raises(replay.ReplayError, match=r"x\.pcap\.gz: zeek exit code"):
        replay.replay(tmp_path / "x.pcap.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()
