"""Pairs in Parquet are an extra: what the command says without it, and that nothing else needs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DATA = Path(__file__).parents[1] / "data" / "demo-b02-flash-slow"
WITHOUT = "import runpy, sys; sys.modules['pyarrow'] = None; runpy.run_module('packetclip_sensor', run_name='__main__')"


def without_pyarrow(command: str, out: Path) -> tuple[int, str]:
    arguments = {"pairs": [DATA, "--out", out], "calibrate": ["--logs", DATA, "--out", out]}[command]
    done = subprocess.run([sys.executable, "-c", WITHOUT, command, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_without_pyarrow_pairs_says_in_one_line_what_to_install(tmp_path: Path) -> None:
    assert without_pyarrow("pairs", tmp_path / "p.parquet") == (
        2,
        "packetclip: pairs are written by pyarrow, which is not installed: pip install '.[pairs]' in a clone\n",
    )


def test_without_pyarrow_logs_with_labels_are_calibrated_on(tmp_path: Path) -> None:
    code, said = without_pyarrow("calibrate", tmp_path / "c.yaml")
    assert code == 0, said
    assert (tmp_path / "c.yaml").exists()
