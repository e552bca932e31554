"""What the pages show of commands is what these print: the same words, facts and form, on the same data."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from shown import ROOT, block, unprinted, width

from packetclip_sensor.cli.app import main
from packetclip_sensor.common.resources import resource
from packetclip_sensor.model.bundle import MANIFEST, sealed

DATA = ROOT / "tests" / "data"


def logs(folder: Path, *captures: str) -> Path:
    """The logs of captures, in a folder of their names."""
    for capture in captures:
        (folder / capture).mkdir(parents=True)
        for log in (DATA / capture).glob("*.log.gz"):
            shutil.copy(log, folder / capture)
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_table_of_the_demo(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    *table, totals = block("README.md", "Time (UTC)")
    monkeypatch.setenv("COLUMNS", str(width(table)))
    (here / "demo").mkdir()
    folder = logs(here / "data", "demo-dict-patator-ftp", "demo-udp-hping")
    assert main(["replay", str(folder), "--out", "demo/alerts.ndjson"]) == 0
    assert unprinted(table, capsys.readouterr().out) == []
    golden = [json.loads(line) for line in (ROOT / "tests" / "golden" / "alerts.ndjson").read_text().splitlines()]
    episodes = {one["packetclip"]["episode"]["id"] for one in golden}
    assert totals.endswith(f" in 21 captures: {len(episodes)} episodes, {len(golden)} documents -> demo/alerts.ndjson")


def test_the_list_of_rules(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = block("docs/tuning.md", "Line   Rule")
    monkeypatch.setenv("COLUMNS", str(width(lines) + 1))
    monkeypatch.setattr("time.time", lambda: datetime(2027, 1, 15, tzinfo=UTC).timestamp())
    (here / "sensor.yaml").write_text("state_dir: .\npolicy: {suppress: suppress.yaml}\n")
    (here / "suppress.yaml").write_text("\n".join(block("docs/tuning.md", "# suppress.yaml")))
    counted = {"df46f0b2": {"verdicts": 1204, "last": datetime(2026, 11, 21, 12, 40, tzinfo=UTC).timestamp().__int__()}}
    (here / "suppressed.json").write_text(json.dumps(counted))
    assert main(["suppressions", "--config", "sensor.yaml"]) == 1
    assert unprinted(lines, capsys.readouterr().out) == []


def test_the_calibration_of_a_week(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = block("docs/tuning.md", "Mission          threshold before")
    monkeypatch.setenv("COLUMNS", "128")
    model = Path(shutil.copytree(resource("model/shipped"), here / "model"))
    manifest = json.loads((model / MANIFEST).read_text())
    manifest["thresholds"] = dict.fromkeys(manifest["thresholds"], 0.1)
    (model / MANIFEST).write_text(json.dumps(sealed(manifest, model)))
    (here / "sensor.yaml").write_text("model: model\n")
    logs(here / "logs", "demo-b00-startup-discovery", "demo-b01-monitoring-rollout", "demo-b02-flash-slow")
    assert main(["calibrate", "--logs", "logs", "--config", "sensor.yaml", "--alerts-per-day", "1"]) == 0
    assert unprinted(lines, capsys.readouterr().out.replace(str(here), "/etc/packetclip"), of_the_model=True) == []
