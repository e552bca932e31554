"""Writes the list of ECS fields that the tests hold documents against, from ECS's own generated list.

git clone --depth 1 --branch v9.4.0 https://github.com/elastic/ecs
python mappings/ecs/build.py ecs/generated/ecs/ecs_flat.yml 9.4.0
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml


def field(described: dict[str, Any]) -> dict[str, Any]:
    """What a test asks of a field: type, whether it is an array, its limits, allowed values and sub-fields."""
    made: dict[str, Any] = {"type": described["type"], "array": "array" in described.get("normalize", [])}
    if "ignore_above" in described:
        made["ignore_above"] = described["ignore_above"]
    if allowed := described.get("allowed_values"):
        made["allowed_values"] = [value["name"] for value in allowed]
        expected = {value["name"]: value["expected_event_types"] for value in allowed if "expected_event_types" in value}
        made |= {"expected_event_types": expected} if expected else {}
    if expected_values := described.get("expected_values"):
        made["expected_values"] = expected_values
    if multi := described.get("multi_fields"):
        made["multi_fields"] = {each["name"]: each["type"] for each in multi}
    return made


def text(flat: dict[str, dict[str, Any]], version: str) -> str:
    """The file, one field a line."""
    about = {
        "what": "Every ECS field with type, limits and allowed values.",
        "source": f"https://github.com/elastic/ecs, tag v{version}, generated/ecs/ecs_flat.yml, by mappings/ecs/build.py",
        "version": version,
        "licence": "Apache-2.0",
    }
    lines = [f"    {json.dumps(name)}: {json.dumps(field(described))}" for name, described in sorted(flat.items())]
    return f'{{\n  "about": {json.dumps(about)},\n  "fields": {{\n' + ",\n".join(lines) + "\n  }\n}\n"


if __name__ == "__main__":
    source, release = sys.argv[1:]
    out = Path(__file__).parent / f"ecs-{release}.json"
    out.write_text(text(yaml.safe_load(Path(source).read_text(encoding="utf-8")), release), encoding="utf-8")
    print(out)
