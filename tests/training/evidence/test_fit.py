"""The operating point: rows of labelled captures to evidence and thresholds of a bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.resources import resource
from packetclip_sensor.evidence.stage import Evidence
from packetclip_sensor.model.bundle import Bundle
from tests.support.bundles import without_evidence
from training.evidence import collect, fit

DATA = Path(__file__).parents[2] / "data"
SHIPPED = Path(resource("model/shipped"))
BENIGN, FLOOD, GUESSES = "demo-b00-startup-discovery", "demo-icmp-fping", "demo-dict-nmap-ssh"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    logs, out = tmp_path_factory.mktemp("logs"), tmp_path_factory.mktemp("rows")
    for name in (BENIGN, FLOOD, GUESSES):
        (logs / name).symlink_to(DATA / name)
    assert collect.main(["--out", str(out), "--logs", str(logs)]) == 0
    return out


def bundle(folder: Path) -> Path:
    return without_evidence(SHIPPED, folder / "model")


def test_single_windows_name_what_stands_above_every_benign_row(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = bundle(tmp_path)
    assert fit.main(["--rows", str(rows), "--missions", "--write", str(model)]) == 0
    assert "2 of 2, mean over classes 1.000, 0 false" in capsys.readouterr().out
    opened = Bundle.open(model)
    manifest = json.loads((model / "manifest.json").read_bytes())
    assert manifest["operating"]["named"] == {"Dictionary Attack": [1, 1], "ICMP Flood": [1, 1]}
    assert manifest["operating"]["benign_packets"] > 3000
    assert all(opened.manifest.ceilings[m] >= p for m, p in opened.manifest.thresholds.items())
    assert Evidence.of(opened, Counters()) is None
    stricter = fit.Curve(captures := fit.load(rows), [fit.of_windows(c) for c in captures])
    assert stricter.at([99.0] * 3).total == 0
    assert stricter.at([-99.0] * 3).false > 0


def test_evidence_is_written_with_thresholds_of_its_missions(rows: Path, tmp_path: Path) -> None:
    model = bundle(tmp_path)
    before = Bundle.open(model).manifest.sha256
    assert fit.main(["--rows", str(rows), "--folds", "2", "--write", str(model)]) == 0
    evidence = Evidence.of(opened := Bundle.open(model), Counters())
    assert evidence is not None
    assert evidence.missions == {"Brute Force"}
    assert opened.manifest.sha256 != before


def test_without_benign_rows_nothing_is_chosen(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(rows / f"{FLOOD}.npz", tmp_path)
    assert fit.main(["--rows", str(tmp_path)]) == 2
    assert "no rows of benign captures" in capsys.readouterr().err


def test_of_what_was_trained_on_nothing_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--out", str(tmp_path), "--logs", str(DATA), "--held-out"]
    assert collect.main(args) == 2
    assert "no labelled logs" in capsys.readouterr().err
