"""Outputs that the pages show, compared with what the commands print as far as it is stable: not what a new model changes."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def block(page: str, begin: str) -> list[str]:
    """The lines of the block of a page in which a line begins so."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (found,) = (each for each in blocks if any(line.strip().startswith(begin) for line in each.splitlines()))
    return [line for line in found.splitlines() if line.strip() and not line.startswith("$ ")]


def width(lines: list[str]) -> int:
    """How wide the terminal was: that of the table's line."""
    return max(len(line.rstrip()) for line in lines if "───" in line)


def stable(line: str, *, of_the_model: bool = False) -> str:
    """A line without what differs from model to model: probabilities, weights, concepts; and ids. Where all that a line says is
    `of_the_model`, which hosts alarm and how often, only its words are left."""
    line = re.sub(r"\b[0-9a-f]{20}\b", "ID", " ".join(line.split()))
    line = re.sub(r"^\w+ [+-]\d\.\d\d(, \w+ [+-]\d\.\d\d)*$", "CONCEPTS", line)
    line = re.sub(r"[+-]?(?<![\d.:])\d+\.\d+(?![\d.])|─+", "#", line)
    return re.sub(r"\d[\d.,:TZ-]*", "#", line) if of_the_model else line


def unprinted(lines: list[str], printed: str, *, of_the_model: bool = False) -> list[str]:
    """The shown lines that are not printed, in this order; `...` stands for any."""
    left, missing = [stable(line, of_the_model=of_the_model) for line in printed.splitlines()], []
    for line in (stable(line, of_the_model=of_the_model) for line in lines):
        if line == "...":
            continue
        if line not in left:
            missing.append(line)
        else:
            left = left[left.index(line) + 1 :]
    return missing
