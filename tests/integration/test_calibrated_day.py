"""A benign day gives no document after calibrating on it, and few after calibrating on a part of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from packetclip_sensor.bundle import MANIFEST
from packetclip_sensor.cli import main
from packetclip_sensor.records import MISSIONS
from packetclip_sensor.resources import resource

BENIGN = sorted((Path(__file__).parents[1] / "data").glob("demo-b0*"))


@pytest.fixture
def sensor(tmp_path: Path) -> Path:
    """A sensor whose model alarms far too soon, so that there is something to calibrate away."""
    model = Path(shutil.copytree(resource("model"), tmp_path / "model"))
    manifest = json.loads((model / MANIFEST).read_text())
    (model / MANIFEST).write_text(json.dumps(manifest | {"thresholds": dict.fromkeys(MISSIONS, 0.1)}))
    path = tmp_path / "sensor.yaml"
    path.write_text("{model: model, sensor_name: s}")
    return path


def documents(sensor: Path, *captures: Path) -> int:
    out = sensor.parent / "alerts.ndjson"
    out.unlink(missing_ok=True)
    assert main(["replay", *map(str, captures), "--config", str(sensor), "--out", str(out)]) == 0
    return len(out.read_text().splitlines()) if out.exists() else 0


def calibrated(sensor: Path, *captures: Path) -> None:
    logs = [part for capture in captures for part in ("--logs", str(capture))]
    assert main(["calibrate", *logs, "--config", str(sensor), "--out", str(sensor.parent / "calibration.yaml")]) == 0
    sensor.write_text("{model: model, sensor_name: s, policy: {calibration: calibration.yaml}}")


def test_a_benign_day_gives_no_document_after_calibrating_on_it(sensor: Path) -> None:
    assert len(BENIGN) == 3
    assert documents(sensor, *BENIGN) > 20
    calibrated(sensor, *BENIGN)
    assert documents(sensor, *BENIGN) == 0


def test_thresholds_of_one_benign_capture_leave_few_alerts_in_the_others(sensor: Path) -> None:
    before = documents(sensor, *BENIGN[:2])
    calibrated(sensor, BENIGN[2])
    assert documents(sensor, BENIGN[2]) == 0
    assert documents(sensor, *BENIGN[:2]) <= before / 4
