"""docs/alerts_and_pairs.ipynb runs as it stands, on what the commands in its first cell write."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from shown import ROOT

from packetclip_sensor.cli.app import main

CAPTURES = ("demo-dict-patator-ftp", "demo-udp-hping")


def test_the_notebook_makes_its_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zat", reason="reads Zeek's logs in the notebook; pip install zat")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    Path("logs").mkdir()
    for log in ("packetclip_packet.log", "packetclip_flow.log"):
        files = (ROOT / "tests" / "data" / name / f"{log}.gz" for name in CAPTURES)
        Path("logs", log).write_bytes(b"".join(gzip.decompress(file.read_bytes()) for file in files))
    cells = json.loads((ROOT / "docs" / "alerts_and_pairs.ipynb").read_text(encoding="utf-8"))["cells"]
    for line in "".join(cells[0]["source"]).splitlines():
        if line.startswith("    packetclip "):
            assert main(line.split()[1:]) == 0
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []  # so that no result of another model stands there
            exec("".join(cell["source"]), names)
    assert Path("picture.png").stat().st_size > 10_000
    assert len(names["alerts"]) == 2  # type: ignore[arg-type]
    assert names["pairs"]["accused"].nunique() == 2  # type: ignore[index]
