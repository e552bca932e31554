"""Where the files that are not Python lie: inside the installed package, or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

from packetclip_sensor.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parents[1]


def resource(name: str) -> Path:
    """The folder or file `name` ("zeek_scripts", "mappings", "model/shipped"): the package's own first, then the checkout's.

    Raises:
        ConfigError: it is in neither place.
    """
    for root in (_PACKAGE, _PACKAGE.parent):
        path = root / name
        if path.exists():
            return path
    raise ConfigError(f"{name} is missing from {_PACKAGE}; the installation is incomplete: install packetclip-sensor again")
