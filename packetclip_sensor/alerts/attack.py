"""Names of MITRE ATT&CK techniques and tactics, from mappings/attack.yaml; which class is which technique says the model."""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml

from packetclip_sensor.common.resources import resource


@cache
def attack_table() -> dict[str, Any]:
    """mappings/attack.yaml: `framework`, `tactics` and `techniques`."""
    table: dict[str, Any] = yaml.safe_load((resource("mappings") / "attack.yaml").read_text(encoding="utf-8"))
    return table
