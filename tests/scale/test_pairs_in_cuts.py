"""`pairs --workers`: the rows of one process, also where a worker is killed; what is there is not made again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import long_logs
import pytest
from killed_worker import killing_one

from packetclip_sensor.cli.app import main
from packetclip_sensor.scale.cuts import Cut, cuts_of
from packetclip_sensor.sources.discovery import Unit
from packetclip_sensor.windows.windows import TRAINED

pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("distributed")
from packetclip_sensor.scale import cluster  # noqa: E402  (only where there is Dask)
from packetclip_sensor.scale.pairs import write_cuts  # noqa: E402

DATA = Path(__file__).parents[1] / "data"


def rows(folder: Path) -> list[dict]:
    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return long_logs.write(tmp_path_factory.mktemp("long") / "logs", captures=8)


@pytest.fixture(scope="module")
def alone(long_log: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What one process writes."""
    out = tmp_path_factory.mktemp("alone") / "pairs.parquet"
    assert main(["pairs", str(long_log), "--out", str(out)]) == 0
    return pq.read_table(out).to_pylist()


def cuts(folder: Path) -> list[tuple[Cut, Path | None]]:
    unit = Unit(folder.name, "logs", (folder,))
    return [(cut, folder / "labels.json") for cut in cuts_of(unit, memory_s=TRAINED.seconds, length_s=30)]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_workers_writes_the_rows_of_one_process(
    count: int, long_log: Path, alone: list[dict], tmp_path: Path
) -> None:
    with cluster.workers(count, None) as running:
        made = write_cuts(running, cuts(long_log), tmp_path / "out", (), None)
    assert rows(tmp_path / "out") == alone
    assert (made.rows, made.rejects) == (len(alone), 0)
    assert all(file.stat().st_mode & 0o777 == 0o640 for file in (tmp_path / "out").iterdir())


def test_a_killed_worker_costs_its_cut_once_more(long_log: Path, alone: list[dict], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with cluster.workers(2, None) as running:
        with killing_one(running, out) as killed:
            write_cuts(running, cuts(long_log), out, (), None)
        assert killed[0] not in running.run(os.getpid).values()
    assert rows(out) == alone


def test_a_second_run_makes_what_is_missing_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders, out = [str(DATA / name) for name in ("demo-b02-flash-slow", "demo-syn-hping")], tmp_path / "out"
    command = ["pairs", *folders, "--out", str(out), "--workers", "1"]
    assert main(command) == 0
    first, _ = capsys.readouterr()
    before = {file: file.stat().st_mtime_ns for file in out.iterdir()}
    gone = min(before)
    gone.unlink()
    (out / f"{gone.name}.0123.new").write_bytes(b"left by a kill")
    assert main(command) == 0
    assert capsys.readouterr().out == first
    after = {file: file.stat().st_mtime_ns for file in out.iterdir()}
    assert after.keys() == before.keys()
    assert {file for file in after if after[file] != before[file]} == {gone}
    assert main([*command[:1], folders[0], *command[3:]]) == 2
    assert "of other logs or options than these" in capsys.readouterr().err


def test_without_dask_one_line_says_what_to_install(tmp_path: Path) -> None:
    without = "import runpy, sys; sys.modules['distributed'] = None; runpy.run_module('packetclip_sensor', run_name='__main__')"
    program, folder = [sys.executable, "-c", without], DATA / "demo-syn-hping"
    for command in (["pairs", folder, "--out", "p"], ["replay", folder, "--out", "a"], ["calibrate", "--logs", folder]):
        done = subprocess.run([*program, *command, "--workers", "2"], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.stderr.endswith("packetclip: dask is not installed: pip install '.[scale]' in a clone\n")
        assert done.returncode == 2
        alone = subprocess.run([*program, *command], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert alone.returncode in (0, 1), "one process needs none"


def test_workers_and_scheduler_exclude_each_other_and_a_scheduler_must_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 1)
    folder = str(DATA / "demo-syn-hping")
    assert main(["pairs", folder, "--workers", "1", "--scheduler", "tcp://127.0.0.1:1"]) == 2
    assert "give either --workers N or --scheduler ADDRESS" in capsys.readouterr().err
    assert main(["pairs", folder, "--scheduler", "tcp://127.0.0.1:1"]) == 2
    assert "--scheduler tcp://127.0.0.1:1: " in capsys.readouterr().err


def test_the_workers_of_a_scheduler_do_it_too(tmp_path: Path) -> None:
    from distributed import LocalCluster

    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "protocol": "tcp", "dashboard_address": None}
    command = ["pairs", str(DATA / "demo-syn-hping"), "--out"]
    with LocalCluster(host="127.0.0.1", **options) as running:
        assert main([*command, str(tmp_path / "cuts"), "--scheduler", running.scheduler_address]) == 0
    assert main([*command, str(tmp_path / "pairs.parquet")]) == 0
    assert rows(tmp_path / "cuts") == pq.read_table(tmp_path / "pairs.parquet").to_pylist()
