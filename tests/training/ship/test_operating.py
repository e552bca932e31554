"""The table of operating points: fewer attacks are detected as thresholds rise, and only held-out captures are looked at."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from packetclip_sensor.model.bundle import Bundle
from training.missions import MISSIONS
from training.ship import operating_point

DATA = Path(__file__).parents[2] / "data"
MODEL = Path(operating_point.resource("model/shipped"))


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    for name in ("demo-icmp-fping", "demo-b00-startup-discovery"):
        found = next(DATA.rglob(f"{name}/labels.json")).parent
        (folder / name).symlink_to(found)
    return folder


def test_fewer_are_detected_as_thresholds_rise_and_more_with_a_margin(logs: Path) -> None:
    bundle = Bundle.open(MODEL)
    captures = operating_point.judge(operating_point.held_out(MODEL, [], [logs]), bundle, reach=12.0)
    assert sorted(len(one.truth.intervals) for one in captures) == [0, 1]

    def at(shift: float, margin: float = 0.0, captures: Sequence[operating_point.HeldOut] = captures) -> operating_point.Point:
        return operating_point.point(captures, bundle.manifest.thresholds, dict.fromkeys(MISSIONS, shift), margin)

    def detected(shift: float, margin: float) -> int:
        return sum(at(shift, margin).detected.values())

    assert detected(0, 0) == 1
    assert detected(12, 0) == 0
    assert detected(12, 14) >= detected(12, 0)
    benign = at(-12, captures=[one for one in captures if not one.truth.intervals])
    assert benign.false > 0
    assert not any(benign.detected.values())
    assert not benign.other


def test_of_what_was_trained_on_nothing_is_taken(logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"data": {"held out": ["demo-icmp-fping"]}}))
    assert [truth.folder.name for truth in operating_point.held_out(tmp_path, [logs], [])] == ["demo-icmp-fping"]
    assert operating_point.main(["--logs", str(logs)]) == 2
    assert "none of the captures is among the 1" in capsys.readouterr().err


def test_the_table_has_a_line_for_each_point(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert operating_point.main(["--whole", str(logs), "--shifts", "0", "1", "--margins", "0", "2"]) == 0
    printed = capsys.readouterr().out
    assert (
        "1 held-out captures with attacks (DoS 1, Reconnaissance 0, Brute Force 0), 1 benign ones with 3,593 packets" in printed
    )
    assert len([line for line in printed.splitlines() if line.startswith(("| +0", "| +1"))]) == 4


Counts = dict[str, list[tuple[float, int, int]]]


def chosen(counts: Counts, allowed: float, monkeypatch: pytest.MonkeyPatch, extra: int = 0) -> dict[str, float]:
    """The shifts chosen where each mission has these (shift, detected, false); `extra` false alerts where all stay."""

    def point(captures: object, own: object, shifts: dict[str, float], margin: float = 0.0) -> operating_point.Point:
        rows = [next(row for row in counts[m] if row[0] == shift) for m, shift in shifts.items()]
        stay = len(rows) == len(MISSIONS) and not any(shifts.values())
        detected = {m: row[1] for m, row in zip(shifts, rows, strict=True)}
        return operating_point.Point(shifts, {}, margin, detected, 0, sum(row[2] for row in rows) + extra * stay)

    monkeypatch.setattr(operating_point, "point", point)
    return dict(operating_point.choose([], {}, (-1, 0, 1), allowed).shifts)


def test_each_mission_s_threshold_is_moved_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {
        "DoS": [(-1, 9, 4), (0, 9, 2), (1, 8, 1)],
        "Reconnaissance": [(-1, 7, 0), (0, 5, 0), (1, 5, 0)],
        "Brute Force": [(-1, 6, 3), (0, 4, 1), (1, 1, 0)],
    }
    assert chosen(counts, 3, monkeypatch) == {"DoS": 0, "Reconnaissance": -1, "Brute Force": 0}
    assert chosen(counts, 2, monkeypatch) == {"DoS": 1, "Reconnaissance": -1, "Brute Force": 0}
    # None has so few: the fewest that there are.
    assert chosen(counts, 0, monkeypatch) == {"DoS": 1, "Reconnaissance": -1, "Brute Force": 1}


def test_of_several_the_highest_and_the_next_where_the_whole_has_more_false_alerts_than_its_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts: Counts = {m: [(-1, 5, 0), (0, 5, 0), (1, 4, 0)] for m in MISSIONS}
    assert set(chosen(counts, 1, monkeypatch).values()) == {0}
    assert sorted(chosen(counts, 1, monkeypatch, extra=9).values()) == [-1, 0, 0]


def test_what_is_written_opens_and_a_second_run_starts_from_what_training_fitted(tmp_path: Path) -> None:
    bundle = shutil.copytree(MODEL, tmp_path / "model")
    trained, _ = operating_point.trained_thresholds(bundle)
    for shift in (1.0, -0.5):
        shifts = dict.fromkeys(MISSIONS, 0.25) | {"DoS": shift}
        thresholds = {m: operating_point.moved(trained[m], shifts[m]) for m in MISSIONS}
        operating_point.write(bundle, operating_point.Point(shifts, thresholds, 0.0, {"DoS": 3}, 1, 0), 5000)
        again, moved = operating_point.trained_thresholds(bundle)
        assert again == pytest.approx(trained)
        assert moved == shifts
    before = Bundle.open(bundle).manifest
    raised = {m: before.ceilings[m] + 1e-5 for m in MISSIONS}
    operating_point.write(bundle, operating_point.Point(dict.fromkeys(MISSIONS, 2.0), raised, 0.0, {"DoS": 3}, 1, 0), 5000)
    after = Bundle.open(bundle).manifest
    assert after.thresholds == after.ceilings == raised  # no ceiling is below its threshold
    assert after.sha256 == before.sha256
    assert json.loads((bundle / "manifest.json").read_bytes())["operating"]["told"] == {"DoS": 3}


def test_a_threshold_moves_by_logits() -> None:
    assert operating_point.moved(0.5, 1.0) == pytest.approx(0.7311, abs=1e-4)
    assert operating_point.moved(operating_point.moved(0.9, 2.0), -2.0) == pytest.approx(0.9)
