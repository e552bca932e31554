"""Writes docs/fields.md: meanings, units and examples from mappings/fields.yaml, types from the component templates.

python mappings/build_fields.py            write docs/fields.md anew
python mappings/build_fields.py --check    exit code 1 if it is not what this file makes, with what is wrong
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
FIELDS = HERE / "fields.yaml"
PAGE = HERE.parent / "docs" / "fields.md"
HEAD = "<!-- Made from mappings/fields.yaml by `python mappings/build_fields.py`; change it there. -->\n"
COLUMNS = ("field", "type", "unit", "meaning", "example")


def types(folder: Path = HERE / "elasticsearch" / "component") -> dict[str, str]:
    """Every mapped field of every component template with its type."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        template = json.loads(path.read_text(encoding="utf-8"))["template"]
        found |= _walk(template.get("mappings", {}).get("properties", {}))
    return found


def described(reference: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every described field."""
    return {path: field for section in reference["sections"] for path, field in section.get("fields", {}).items()}


def faults(reference: Mapping[str, Any], mapped: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with the reference, a line each."""
    known = described(reference)
    for path in sorted(set(mapped) - set(known)):
        yield f"{path}: mapped, but not described in mappings/fields.yaml"
    for path, field in known.items():
        if path not in mapped:
            yield f"{path}: described, but mapped nowhere in mappings/elasticsearch/component"
        elif not str(field.get("meaning") or "").strip():
            yield f"{path}: has no meaning"
        elif field.get("example") is None and mapped[path] != "nested":
            yield f"{path}: has no example"
        if unknown := set(field) - {"meaning", "unit", "example"}:
            yield f"{path}: unknown key {', '.join(sorted(unknown))}"


def page(reference: Mapping[str, Any], mapped: Mapping[str, str]) -> str:
    """The whole page."""
    parts = []
    for number, section in enumerate(reference["sections"]):
        lines = [f"{'#' if number == 0 else '##'} {section['title']}", ""]
        if number == 0:
            lines[1:1] = ["", HEAD.strip()]
        if "text" in section:
            lines += [section["text"].strip("\n"), ""]
        if "fields" in section:
            lines += [_row(COLUMNS), _row(["---"] * len(COLUMNS))]
            lines += [_row(_cells(path, mapped.get(path, ""), field)) for path, field in section["fields"].items()] + [""]
        parts.append("\n".join(lines))
    return "\n".join(parts).rstrip("\n") + "\n"


def _walk(properties: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found = {}
    for name, mapping in properties.items():
        if mapping.get("type") not in (None, "object"):
            found[prefix + name] = mapping["type"]
        found |= _walk(mapping.get("properties", {}), f"{prefix}{name}.")
    return found


def _cells(path: str, kind: str, field: Mapping[str, Any]) -> list[str]:
    example = field.get("example")
    shown = "" if example is None else f"`{example if isinstance(example, str) else json.dumps(example)}`"
    return [f"`{path}`", kind, field.get("unit", ""), field["meaning"], shown]


def _row(cells: Any) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether docs/fields.md is up to date")
    check = parser.parse_args().check
    reference, mapped = yaml.safe_load(FIELDS.read_text(encoding="utf-8")), types()
    wrong = list(faults(reference, mapped))
    if not wrong and not check:
        PAGE.write_text(page(reference, mapped), encoding="utf-8")
    if not wrong and PAGE.read_text(encoding="utf-8") != page(reference, mapped):
        wrong = ["docs/fields.md is stale; write it anew: python mappings/build_fields.py"]
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
