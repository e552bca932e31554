"""The commented configuration file that `packetclip init` writes: every key with its meaning (`##`), a few of them set.

The others stand behind `# ` at their default, so that a later version's better defaults reach a file written today.
"""

from __future__ import annotations

import textwrap
from typing import Any

import yaml

from packetclip_sensor.config import schema
from packetclip_sensor.config.settings import Config

HEAD = "# packetclip sensor. A line that starts with `# ` is off and shows the default; take the mark away to set it.\n\n"
PROSE_CHARS = 100


def first_settings() -> dict[str, Any]:
    """What `packetclip init` sets: what a Zeek from the usual packages needs, and what must be looked at."""
    return {
        "logs": ["/opt/zeek/logs/current"],
        "state_dir": "/var/lib/packetclip",
        "sensor_name": Config().sensor_name,
        "sink": {"ndjson": {"path": "/var/log/packetclip/alerts.ndjson"}},
        "health": {"port": 9758},
    }


def commented(settings: dict[str, Any]) -> str:
    """The text of a configuration file in which `settings`, values by key (a dict for a group of keys), are live."""
    parts = [_lines(key, settings, live=True) for key in schema.keys(Config).values()]
    return HEAD + "\n\n".join("\n".join(part) for part in parts) + "\n"


def _lines(key: schema.Key, settings: dict[str, Any], *, live: bool) -> list[str]:
    """A key's meaning and value. In a group that is not live nothing is marked: its whole text gets the mark."""
    alive = key.name in settings
    if key.group is None:
        body = [f"{key.name}: {_yaml(settings.get(key.name, key.default))}"]
    else:
        inner = schema.keys(key.group).values()
        parts = [_lines(one, settings.get(key.name, {}), live=live and alive) for one in inner]
        body = [f"{key.name}:", *("  " + line for part in parts for line in part)]
    meaning = [f"## {line}" for line in textwrap.wrap(key.meaning, PROSE_CHARS)]
    return meaning + (["# " + line for line in body] if live and not alive else body)


def _yaml(value: Any) -> str:
    """One value in YAML's flow style, on one line."""
    if isinstance(value, tuple | list):
        value = [str(v) for v in value]
    elif not isinstance(value, bool | int | float | dict | None):
        value = str(value)
    return yaml.safe_dump(value, default_flow_style=True, width=1000).replace("\n...", "").strip()
