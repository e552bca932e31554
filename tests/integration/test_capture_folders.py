"""Recorded attacks as capture programs leave them, through the real Zeek and the whole sensor."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from captures import rotated

from packetclip_sensor.cli.app import main
from packetclip_sensor.sources.pcap import find_zeek

DATA = Path(__file__).parents[1] / "data"
pytestmark = [
    pytest.mark.zeek,
    pytest.mark.skipif(find_zeek() is None, reason="no zeek on PATH or in /opt/zeek/bin"),
]


@pytest.mark.parametrize("name", ["demo-dict-patator-ftp", "demo-port-zmap", "demo-udp-hping"])
def test_rotated_captures_give_the_documents_of_the_whole_one_and_odd_files_between_them_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """`tcpdump -G 2`. Of all 18 attacks cut so 17 are detected and nothing else is, as of the whole captures."""
    capture = gzip.decompress((DATA / name / "capture.pcap.gz").read_bytes())
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "x.pcap").write_bytes(capture)
    (tmp_path / "parts").mkdir()
    for number, part in enumerate(rotated(capture, 2.0)):
        (tmp_path / "parts" / f"dump-{number:05}.pcap").write_bytes(part)
    (tmp_path / "parts" / "dump-99999.pcap").write_bytes(capture[:24])
    assert main(["replay", str(tmp_path / "whole"), "--out", str(tmp_path / "whole.ndjson")]) == 0
    assert main(["replay", str(tmp_path / "parts"), "--out", str(tmp_path / "parts.ndjson")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == f"packetclip: {tmp_path}/parts/dump-99999.pcap holds no packet; give another capture"
    assert all(line.startswith("captures are read by Zeek") for line in said[:-1])
    whole = (tmp_path / "whole.ndjson").read_bytes()
    assert whole.count(b"\n") >= 2
    assert (tmp_path / "parts.ndjson").read_bytes() == whole
