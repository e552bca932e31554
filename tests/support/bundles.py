"""Copies of bundles that are not quite as they ship."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from packetclip_sensor.evidence.model import FILE
from packetclip_sensor.model.bundle import MANIFEST, sealed


def without_evidence(bundle: Path, copy: Path) -> Path:
    """A copy in which single windows decide of every mission."""
    shutil.copytree(bundle, copy, ignore=shutil.ignore_patterns(FILE))
    manifest = json.loads((copy / MANIFEST).read_bytes())
    (copy / MANIFEST).write_text(json.dumps(sealed(manifest, copy)))
    return copy
