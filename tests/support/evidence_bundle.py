"""A bundle whose evidence decides, by a rule of a few inputs, for the captures of tests/data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec

from packetclip_sensor.common.resources import resource
from packetclip_sensor.evidence.model import FILE
from packetclip_sensor.model.bundle import MANIFEST, sealed
from tests.evidence.test_evidence import model

RULE = {"odds 0": 0.5, "odds 0 600s": 1.0, "flow unanswered 3600s": 0.5, "flow orig_bytes spread 600s": 0.3}
"""Weights of windows and of finished connections."""


def with_evidence(path: Path, rule: dict[str, float] = RULE, least: float = 0.018) -> Path:
    """The shipped model with an evidence model in which all missions have the weighted sum of some inputs, and `least` as the
    probability from which a window is a verdict."""
    shutil.copytree(resource("model/shipped"), path)
    (path / FILE).write_bytes(msgspec.json.encode(model(rule)))
    manifest = json.loads((path / MANIFEST).read_bytes())
    manifest["thresholds"] = dict.fromkeys(manifest["thresholds"], least)
    (path / MANIFEST).write_text(json.dumps(sealed(manifest, path)))
    return path
