"""The sensor as a systemd service: the unit with an installation's own paths, and what the running sensor reports to systemd.

Source: systemd.exec(5), systemd.service(5), sd_notify(3).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from packetclip_sensor.common.resources import resource
from packetclip_sensor.config.settings import Config
from packetclip_sensor.sources.discovery import archives_of

OWN = (Path("/var/lib/packetclip"), Path("/var/log/packetclip"))
"""Writable by the unit's StateDirectory and LogsDirectory."""


def unit(config: Config, path: Path, user: str, command: str = "run") -> str:
    """systemd/packetclip.service with the program, its command, the configuration's file and folders, and the user filled in."""
    readable = [*config.logs, *archives_of(config.logs, config.archives)]
    readable += [folder.resolve() for folder in config.logs if folder.resolve() not in readable]
    # Paths that are not there yet must not keep the service from starting: hence the minus.
    fields = {
        "ExecStart": f"{program()} {command} --config {_quoted(path.resolve())}",
        "User": user,
        "ReadOnlyPaths": " ".join(dict.fromkeys(_quoted(folder, "-") for folder in readable)),
    }
    text = (resource("systemd") / "packetclip.service").read_text(encoding="utf-8")
    for name, value in fields.items():
        text = re.sub(rf"^{name}=.*$", lambda _, line=f"{name}={value}": line, text, flags=re.MULTILINE)  # type: ignore[misc]
    outside = [folder for folder in _written(config) if not any(folder.is_relative_to(own) for own in OWN)]
    if outside:
        paths = " ".join(dict.fromkeys(_quoted(folder, "-") for folder in outside))
        text = text.replace("StateDirectory=", f"ReadWritePaths={paths}\nStateDirectory=", 1)
    return text


def program() -> str:
    """The command that starts this installation."""
    script = Path(sys.executable).parent / "packetclip"
    return _quoted(script) if script.exists() else f"{_quoted(Path(sys.executable))} -m packetclip_sensor"


def notify(*lines: str) -> None:
    """Tell systemd; nothing happens where the sensor is not its service."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
        line.settimeout(1.0)
        line.sendto("\n".join(lines).encode(), address)


def _written(config: Config) -> Iterable[Path]:
    """Folders that the sensor writes to."""
    yield config.state_dir
    if config.rejects_path is not None:
        yield config.rejects_path.parent
    if config.sink.ndjson is not None:
        yield config.sink.ndjson.path.parent
    if config.sink.cluster is not None:
        yield config.sink.cluster.dead_letter_path.parent
    if config.zeek_feedback.path is not None:
        yield config.zeek_feedback.path.parent


def _quoted(path: Path, before: str = "") -> str:
    """A path as a unit file wants it: % and $ doubled, quoted where a space or quote stands in it."""
    text = str(path).replace("%", "%%").replace("$", "$$")
    if re.search(r"[\s\"'\\]", text):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{before}{escaped}"'
    return before + text
