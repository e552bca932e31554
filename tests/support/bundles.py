"""Copies of the shipped bundle with evidence of a known rule, or without any."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec

from packetclip_sensor.common.resources import resource
from packetclip_sensor.evidence.model import FILE, EvidenceModel, Layer
from packetclip_sensor.evidence.streams import input_names
from packetclip_sensor.model.bundle import MANIFEST, sealed
from tests.support.factories import MISSIONS

RULE = {"odds 0": 0.5, "odds 0 600s": 1.0, "flow unanswered 3600s": 0.5, "flow orig_bytes spread 600s": 0.3}
"""Weights of windows and of finished connections."""


def evidence_model(weights: dict[str, float]) -> EvidenceModel:
    """A model in which all missions have the weighted sum of a few inputs."""
    missions, names = len(MISSIONS), input_names(len(MISSIONS))
    direct = Layer([[weights.get(name, 0.0)] * missions for name in names], [0.0] * missions)
    nothing = [Layer([[0.0]] * len(names), [0.0]), Layer([[0.0] * missions], [0.0] * missions)]
    return EvidenceModel(names, [0.0] * len(names), [1.0] * len(names), direct, nothing, list(MISSIONS.names))


def with_evidence(path: Path, rule: dict[str, float] = RULE, least: float = 0.018) -> Path:
    """The shipped model with `evidence_model(rule)`, and `least` as the probability from which a window is a verdict."""
    shutil.copytree(resource("model/shipped"), path)
    (path / FILE).write_bytes(msgspec.json.encode(evidence_model(rule)))
    manifest = json.loads((path / MANIFEST).read_bytes())
    manifest["thresholds"] = dict.fromkeys(manifest["thresholds"], least)
    (path / MANIFEST).write_text(json.dumps(sealed(manifest, path)))
    return path


def without_evidence(bundle: Path, copy: Path) -> Path:
    """A copy in which single windows decide of every mission."""
    shutil.copytree(bundle, copy, ignore=shutil.ignore_patterns(FILE))
    manifest = json.loads((copy / MANIFEST).read_bytes())
    (copy / MANIFEST).write_text(json.dumps(sealed(manifest, copy)))
    return copy
