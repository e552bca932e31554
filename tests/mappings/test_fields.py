"""The field reference: complete, and the page is what its data make."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = "mappings/build_fields.py"


def checked(root: Path) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-B", root / COMMAND, "--check"], capture_output=True, text=True, check=False, cwd=root
    )
    return done.returncode, done.stderr.splitlines()


def copied(folder: Path) -> Path:
    shutil.copytree(ROOT / "mappings", folder / "mappings", ignore=shutil.ignore_patterns("kibana", "__pycache__"))
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "fields.md", folder / "docs" / "fields.md")
    return folder


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_every_mapped_field_is_described_with_meaning_and_example_and_the_page_is_fresh() -> None:
    assert checked(ROOT) == (0, [""])


def test_a_stale_page_is_told_and_written_anew(tmp_path: Path) -> None:
    root = copied(tmp_path)
    edit(root / "docs" / "fields.md", "first to last packet |", "first to last |")
    assert checked(root) == (1, ["docs/fields.md is stale; write it anew: python mappings/build_fields.py"])
    subprocess.run([sys.executable, "-B", root / COMMAND], check=True, capture_output=True)
    assert checked(root) == (0, [""])
    assert (root / "docs" / "fields.md").read_bytes() == (ROOT / "docs" / "fields.md").read_bytes()


def test_a_field_without_description_meaning_or_mapping_is_told_by_name(tmp_path: Path) -> None:
    root = copied(tmp_path)
    edit(
        root / "mappings" / "fields.yaml",
        'packetclip.facts.duration_s: {meaning: "first to last packet"',
        "packetclip.facts.x: {a: 1",
    )
    edit(root / "mappings" / "fields.yaml", '{meaning: "mean payload", unit: "bytes"', '{meaning: "", unit: "bytes"')
    code, lines = checked(root)
    assert code == 1
    assert lines == [
        "packetclip.facts.duration_s: mapped, but not described in mappings/fields.yaml",
        "packetclip.facts.x: described, but mapped nowhere in mappings/elasticsearch/component",
        "packetclip.facts.x: unknown key a",
        "packetclip.facts.payload_mean_bytes: has no meaning",
    ]
