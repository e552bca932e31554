"""Missions and classes to MITRE ATT&CK techniques, from mappings/attack.yaml."""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml

from packetclip_sensor.common.resources import resource


@cache
def attack_table() -> dict[str, Any]:
    """mappings/attack.yaml: `framework`, `tactics`, `techniques`, `missions` and `classes`."""
    table: dict[str, Any] = yaml.safe_load((resource("mappings") / "attack.yaml").read_text(encoding="utf-8"))
    return table


def technique_of(mission: str, klass: str) -> str:
    """ATT&CK technique id of a class, or of its mission where the class has none of its own, for example "T1499.001"."""
    table = attack_table()
    technique: str = table["classes"].get(klass) or table["missions"][mission]
    return technique
