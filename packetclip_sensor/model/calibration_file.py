"""The file of a site's own thresholds: which model they were fitted for, on which logs, to which budget.

`packetclip calibrate` writes it and `policy.calibration` in the configuration names it. Thresholds of one model mean nothing to
another, so the file carries the hash of the bundle's manifest, which holds the hashes of all its other files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import yaml
from msgspec import Meta

from packetclip_sensor.common import durable
from packetclip_sensor.config.schema import YAML_ERRORS
from packetclip_sensor.config.settings import Margin, Probability
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.model.bundle import fingerprint, manifest_of, renamed

FORMAT = 1
REMEDY = "make it again: packetclip calibrate --logs DIR"
HEAD = """\
# Thresholds for this site's own traffic, written by `packetclip calibrate`. The sensor takes them where its configuration says
#   policy:
#     calibration: {name}
"""

Count = Annotated[int, Meta(ge=0)]


class Covered(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The logs that were looked at."""

    paths: list[str]
    first: str
    """Time of the first packet, ISO 8601, UTC; `last` of the last one."""
    last: str
    hours: float
    """Event time covered; an hour or more without a packet counts as an hour."""
    packets: Count
    windows: Count
    excluded: list[str] = []
    """Hosts and networks that were left out."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of the file."""

    format: int = FORMAT
    model_version: str
    model_sha256: str
    """SHA-256 of the bundle's manifest.json."""
    made: str
    """Date, UTC."""
    alerts_per_day: float
    """The budget: episodes that may open in a day of such traffic, all missions together."""
    logs: Covered
    thresholds: dict[str, Probability]
    thresholds_before: dict[str, Probability]
    """The bundle's own."""
    margins: dict[str, Margin] = {}
    """How far below its threshold, in logits, a window counts towards an alert together with others; a mission that is not named
    has none."""
    margins_before: dict[str, Margin] = {}
    """The bundle's own."""
    alerts: dict[str, Count]
    """Episodes by mission that open in the logs at these thresholds."""
    alerts_before: dict[str, Count]
    suppressed: Count = 0
    """Windows that the rules of `policy.suppress` suppressed; the thresholds know nothing of them."""


def load(path: Path, model: Path) -> Calibration:
    """Read and check a calibration file for the bundle in `model`.

    Raises:
        ConfigError: not readable, not of the form, or made for another model.
        ModelBundleError: the bundle's manifest cannot be read.
    """
    sha256, missions = fingerprint(model), manifest_of(model).missions.names
    try:
        found = msgspec.convert(renamed(yaml.safe_load(path.read_text(encoding="utf-8"))), Calibration)
    except OSError as err:
        raise ConfigError(f"policy.calibration {path}: cannot be read: {err.strerror}; {REMEDY}") from err
    except YAML_ERRORS as err:  # msgspec.ValidationError and bad UTF-8 are ValueErrors
        raise ConfigError(f"policy.calibration {path}: not a calibration file: {' '.join(str(err).split())}; {REMEDY}") from err
    if found.format != FORMAT:
        raise ConfigError(f"policy.calibration {path}: format {found.format}, this sensor reads format {FORMAT}; {REMEDY}")
    if set(found.thresholds) != set(missions):
        raise ConfigError(
            f"policy.calibration {path}: thresholds are of {', '.join(found.thresholds) or 'no mission'}, "
            f"the missions are {', '.join(missions)}; {REMEDY}"
        )
    if found.model_sha256 != sha256:
        raise ConfigError(
            f"policy.calibration {path}: made for model version {found.model_version} ({found.model_sha256[:12]}...), the model "
            f"in {model} is another ({sha256[:12]}...) and its probabilities mean something else; {REMEDY}, or take the key out"
        )
    return found


def save(calibration: Calibration, path: Path) -> None:
    """Write the file, all at once: a sensor that starts meanwhile reads the old one or the new one.

    Raises:
        ConfigError: it cannot be written.
    """
    text = HEAD.format(name=path.name) + yaml.safe_dump(
        msgspec.to_builtins(calibration), sort_keys=False, allow_unicode=True, width=1000
    )
    try:
        durable.replace(path, text.encode(), 0o644)  # no packets in it, and the sensor's user must read what root made
    except OSError as err:
        raise ConfigError(f"{path}: cannot be written: {err.strerror}; name a file that you may write by --out") from err
