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

LENGTH = 30


def features(sentences: list[str]) -> torch.Tensor:
    """In place of the text encoder."""
    return torch.randn(len(sentences), TEXT_DIM, generator=torch.Generator().manual_seed(7))


def examples(labels: list[int], each: int) -> Examples:
    """So many windows of each class given, each of them a capture; one window in five is padded."""
    rng = np.random.default_rng(1)
    label = np.repeat(labels, each)
    rows = torch.from_numpy(rng.integers(0, 100, (len(label), LENGTH)))
    rows[::5, :20] = -1
    relations = torch.from_numpy(rng.standard_normal((len(label), LENGTH, len(RELATIONS))).astype(np.float32))
    return Examples(
        rng.integers(0, 256, (100, ROW_BYTES)).astype(np.uint16),
        rows,
        relations * (rows >= 0)[:, :, None],
        torch.from_numpy(label),
        np.array([f"c{i // each}" for i in range(len(label))], dtype=object),
        np.full(len(label), "tool", dtype=object),
        ["{}"] * len(label),
        np.full(len(label), "pair", dtype=object),
        np.full(len(label), "lab", dtype=object),
    )


def untrained(config: ModelConfig) -> PacketClip:
    """A model of fresh weights for the missions that there are."""
    torch.manual_seed(3)
    graphs = knowledge.load_all()
    concepts = features([c for g in graphs for level in g.levels for c in level])
    events = EventNodes([features(texts.event_sentences(name)[:2]) for name in CLASSES], GROUP_OF_CLASS, 1.0)
    return PacketClip(graphs, concepts, config, events=events).eval()


def main(out: Path) -> None:
    export.export(
        untrained(ModelConfig(window=LENGTH, width=16, layers=1, heads=2, patch=32)), knowledge.load_all(), features, out,
        version="toy", temperature=1.0, thresholds=dict.fromkeys(GROUPS[1:], 0.5), metrics={},
        examples=examples(list(range(len(CLASSES))), 4), data={},
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]))
