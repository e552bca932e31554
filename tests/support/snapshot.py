"""Texts that tests compare with a kept file, so that a person reads all of them, and their differences, in one place."""

from __future__ import annotations

import os
from pathlib import Path


def kept(file: Path) -> dict[str, str]:
    """A file's texts by their headings: what is not indented heads what is."""
    texts, heading = dict[str, str](), ""
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []:
        if line.startswith("    "):
            texts[heading] += line
        else:
            heading = line.rstrip("\n")
            texts[heading] = ""
    return texts


def compare(file: Path, heading: str, lines: list[str]) -> None:
    """The text must be what the file holds. `SNAPSHOT=write pytest -n 0 ...` keeps a new one; read its difference."""
    text = "".join(f"    {line}\n" for line in lines)
    if os.environ.get("SNAPSHOT") == "write":
        texts = kept(file) | {heading: text}
        file.write_text("".join(f"{name}\n{each}" for name, each in texts.items()), encoding="utf-8")
    assert text == kept(file)[heading]
