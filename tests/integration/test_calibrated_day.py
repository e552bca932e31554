"""A benign day, the benign captures one after another, gives no document after calibrating; the shipped model, and no rule.

What is left of more captures than lie here, and what recall that costs, prints `python -m benchmarks.benign_day`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from factories import MISSIONS

from packetclip_sensor.cli.app import main
from packetclip_sensor.common.resources import resource
from packetclip_sensor.model.bundle import MANIFEST

DATA = Path(__file__).parents[1] / "data"
BENIGN = sorted(DATA.glob("demo-b0*"))


def sensor_with(tmp_path: Path, thresholds: float | None) -> Path:
    """A sensor with the shipped model, whose thresholds may be so low that there is something to calibrate away."""
    model = Path(shutil.copytree(resource("model/shipped"), tmp_path / "model"))
    manifest = json.loads((model / MANIFEST).read_text())
    if thresholds is not None:
        (model / MANIFEST).write_text(json.dumps(manifest | {"thresholds": dict.fromkeys(MISSIONS.names, thresholds)}))
    path = tmp_path / "sensor.yaml"
    path.write_text("{model: model, sensor_name: s}")
    return path


def documents(sensor: Path, *captures: Path) -> int:
    out = sensor.parent / "alerts.ndjson"
    out.unlink(missing_ok=True)
    assert main(["replay", *map(str, captures), "--config", str(sensor), "--out", str(out)]) == 0
    return len(out.read_text().splitlines()) if out.exists() else 0


def calibrated(sensor: Path, *captures: Path) -> dict[str, float]:
    logs = [part for capture in captures for part in ("--logs", str(capture))]
    out = sensor.parent / "calibration.yaml"
    assert main(["calibrate", *logs, "--config", str(sensor), "--out", str(out)]) == 0
    sensor.write_text("{model: model, sensor_name: s, policy: {calibration: calibration.yaml}}")
    thresholds: dict[str, float] = yaml.safe_load(out.read_text())["thresholds"]
    return thresholds


def test_a_benign_day_gives_no_document_after_calibrating_on_it_and_attacks_are_still_told(tmp_path: Path) -> None:
    """Fitted from far below, so that the benign captures alone decide where the thresholds stand; an attack of each mission."""
    sensor = sensor_with(tmp_path, 0.05)
    assert len(BENIGN) == 3
    assert documents(sensor, *BENIGN) > 40
    limits = calibrated(sensor, *BENIGN)
    own = json.loads((tmp_path / "model" / MANIFEST).read_text())["ceilings"]
    assert all(0.05 < limits[m] < own[m] for m in MISSIONS.names)
    assert documents(sensor, *BENIGN) == 0
    for name in ("demo-syn-hping", "demo-port-pnscan", "demo-dict-patator-ftp"):
        assert documents(sensor, DATA / name) >= 2, name


@pytest.mark.parametrize("held_out", range(3))
def test_captures_that_calibrating_did_not_see_give_no_document_either(held_out: int, tmp_path: Path) -> None:
    sensor = sensor_with(tmp_path, None)
    calibrated(sensor, *(capture for capture in BENIGN if capture != BENIGN[held_out]))
    assert documents(sensor, *BENIGN) == 0


def test_what_two_captures_teach_silences_a_third_that_alarmed_before(tmp_path: Path) -> None:
    sensor = sensor_with(tmp_path, 0.1)
    assert documents(sensor, BENIGN[0]) > 0
    calibrated(sensor, BENIGN[1], BENIGN[2])
    assert documents(sensor, BENIGN[0]) == 0
