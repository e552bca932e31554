"""Secrets from environment variables, or from files that nobody else may read."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from packetclip_sensor.common.text import HIDDEN
from packetclip_sensor.errors import ConfigError


def from_environment(name: str, option: str) -> str:
    """The value of an environment variable.

    Raises:
        ConfigError: it is not set; the message names `option`, the key of the configuration that names the variable.
    """
    value = os.environ.get(name)
    if not value:
        variable = f"the environment variable {name}"
        if not re.fullmatch("[A-Z_][A-Z0-9_]*", name):
            variable = "the environment variable that it names (not shown, it may be the secret itself)"
        raise ConfigError(f"{option}: {variable} is not set; export it before the start")
    return value


def from_file(file: Path, option: str, what: str, max_bytes: int) -> tuple[str, str]:
    """The text of a file that is regular and that none but its owner may read, and how messages name the file.

    A file of root's may be readable by its group, for that is how root gives a secret to a service: `root:packetclip` 0640, and
    systemd's credentials.

    Args:
        option: the key of the configuration that names the file. what: what the file holds, for messages.
        max_bytes: no more is read, but for one byte.
    Raises:
        ConfigError: it cannot be read, or others may read or change it.
    """
    name = HIDDEN if re.fullmatch("[A-Za-z0-9+]{16,}={1,2}|[A-Za-z0-9+=]{40,}", file.name) else str(file)
    named = f"{option} {name}"
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as opened:
            found = os.fstat(opened.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"{named}: is no regular file; put {what} into a file and name that")
            content = opened.read(max_bytes + 1)
    except OSError as err:
        remedy = "give it to the user that runs the sensor: chown" if isinstance(err, PermissionError) else f"put {what} there"
        raise ConfigError(f"{named}: cannot be read: {err.strerror}; {remedy}") from err
    by_group = stat.S_IRGRP * (found.st_uid == 0 and (os.geteuid() != 0 or found.st_gid != 0))
    if found.st_mode & 0o077 & ~by_group:
        raise ConfigError(f"{named}: mode {stat.S_IMODE(found.st_mode):04o} lets others read or change it; chmod 600")
    return content.decode("latin-1").strip(), named
