"""Writes the tables of metrics in docs/operations.md anew, from the meanings in `packetclip_sensor.common.metrics`.

python -m mappings.build_metrics            write them
python -m mappings.build_metrics --check    exit code 1 where they are stale
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from packetclip_sensor.common.metrics import Counters, Gauges, meanings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operations.md"


def table(kind: type, suffix: str) -> str:
    """One row for each metric."""
    rows = [f"| `packetclip_{name}{suffix}` | {meaning} |" for name, meaning in meanings(kind).items()]
    return "\n".join(["| metric | meaning |", "| --- | --- |", *rows])


def page(text: str) -> str:
    """The page with both tables renewed: that of the gauges comes first."""
    tables = iter((table(Gauges, ""), table(Counters, "_total")))
    return re.sub(r"\| metric \| meaning \|\n(?:\|.*\n)+", lambda _: next(tables) + "\n", text)


def main() -> int:
    text = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        if text != page(text):
            print("docs/operations.md is stale; write its tables anew: python -m mappings.build_metrics", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(page(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
