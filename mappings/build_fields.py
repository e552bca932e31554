"""Writes docs/fields.md: meanings, units and examples from mappings/fields.yaml, types from the component templates, missions and
classes from a model's manifest.

python mappings/build_fields.py                      write docs/fields.md anew, for the model that comes with the sensor
python mappings/build_fields.py --check              exit code 1 if it is not what this file makes, with what is wrong
python mappings/build_fields.py --model DIR --out FILE     the same page for another bundle
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from packetclip_sensor.common.missions import Missions
from packetclip_sensor.common.resources import resource
from packetclip_sensor.elastic.templates import of_model
from packetclip_sensor.model.bundle import manifest_of

HERE = Path(__file__).resolve().parent
FIELDS = HERE / "fields.yaml"
PAGE = HERE.parent / "docs" / "fields.md"
HEAD = "<!-- Made from mappings/fields.yaml by `python mappings/build_fields.py`; change it there. -->\n"
COLUMNS = ("field", "type", "unit", "meaning", "example")


def of_missions(text: str, missions: Missions) -> Any:
    """fields.yaml for these missions: {missions} and the like become their names, and a field of {mission} or {class} one of
    each."""
    lists = {
        "{missions}": _or(f"`{mission.name}`" for mission in missions),
        "{notes}": _or(f"`PacketCLIP::{mission.note}`" for mission in missions),
        "{rules}": _or(f"`{mission.rule_id}`" for mission in missions),
        "{severities}": ", ".join(f"{mission.name} {mission.severity}" for mission in missions),
    }
    for written, names in lists.items():
        text = text.replace(written, names)
    reference = yaml.safe_load(text)
    each = {
        "{mission}": [(mission.id, mission.name) for mission in missions],
        "{class}": [(klass.id, klass.name) for mission in missions for klass in mission.classes],
    }
    for section in reference["sections"]:
        fields = {}
        for path, field in section.get("fields", {}).items():
            written = next((one for one in each if one in path), "")
            for key, name in each.get(written, [("", "")]):
                named = {**field, "meaning": str(field.get("meaning") or "").replace("{name}", name)} if written else field
                fields[path.replace(written, key) if written else path] = named
        if fields:
            section["fields"] = fields
    return reference


def _or(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def types(missions: Missions, folder: Path = HERE / "elasticsearch" / "component") -> dict[str, str]:
    """Every mapped field of every component template with its type."""
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        template = of_model(json.loads(path.read_text(encoding="utf-8")), missions)["template"]
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
    parser.add_argument("--model", type=Path, metavar="DIR", help="model bundle; by default the sensor's own")
    parser.add_argument("--out", type=Path, default=PAGE, metavar="FILE", help="the page; by default docs/fields.md")
    args = parser.parse_args()
    missions = manifest_of(args.model or resource("model/shipped")).missions
    reference, mapped = of_missions(FIELDS.read_text(encoding="utf-8"), missions), types(missions)
    wrong = list(faults(reference, mapped))
    if not wrong and not args.check:
        args.out.write_text(page(reference, mapped), encoding="utf-8")
    if not wrong and args.out.read_text(encoding="utf-8") != page(reference, mapped):
        wrong = ["docs/fields.md is stale; write it anew: python mappings/build_fields.py"]
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
