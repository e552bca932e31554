"""Exports an untrained model for the missions of training/missions, or of the folder in PACKETCLIP_MISSIONS: `untrained.py OUT`.

A script, since training reads its missions once in a process.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from packetclip_sensor.windows.packet_features import RELATIONS
from packetclip_sensor.windows.tokens import ROW_BYTES
from training.data.windows import CLASSES, GROUP_OF_CLASS, GROUPS, Examples
from training.model.config import TEXT_DIM, ModelConfig
from training.model.graphs import EventNodes
from training.model.packetclip import PacketClip
from training.ship import export
from training.text import knowledge, texts

EACH, LENGTH = 4, 30


def tower(sentences: list[str]) -> torch.Tensor:
    return torch.randn(len(sentences), TEXT_DIM, generator=torch.Generator().manual_seed(7))


def examples() -> Examples:
    """A few windows of every class, each class a capture."""
    rng = np.random.default_rng(1)
    count = EACH * len(CLASSES)
    label = np.repeat(np.arange(len(CLASSES)), EACH)
    return Examples(
        rng.integers(0, 256, (100, ROW_BYTES)).astype(np.uint16),
        torch.from_numpy(rng.integers(0, 100, (count, LENGTH))),
        torch.from_numpy(rng.standard_normal((count, LENGTH, len(RELATIONS))).astype(np.float32)),
        torch.from_numpy(label),
        np.array([f"c{k}" for k in label], dtype=object),
        np.full(count, "tool", dtype=object),
        ["{}"] * count,
        np.full(count, "pair", dtype=object),
    )


def main(out: Path) -> None:
    torch.manual_seed(3)
    graphs = knowledge.load_all()
    concepts = tower([c for g in graphs for level in g.levels for c in level])
    events = EventNodes([tower(texts.event_sentences(name)[:2]) for name in CLASSES], GROUP_OF_CLASS, 1.0)
    model = PacketClip(graphs, concepts, ModelConfig(window=LENGTH, width=16, layers=1, heads=2, patch=32), events=events).eval()
    export.export(
        model, graphs, tower, out, version="toy", temperature=1.0, thresholds=dict.fromkeys(GROUPS[1:], 0.5), metrics={},
        examples=examples(), data={},
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
