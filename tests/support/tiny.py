"""A few made-up windows, an experiment of a few steps and a text encoder without a network, for tests of training."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch
from torch.nn import functional as F

from packetclip_sensor.windows.packet_features import RELATIONS
from packetclip_sensor.windows.tokens import MASK, PAD, ROW_BYTES
from training.data.windows import CLASSES, Examples
from training.fit.experiment import changed
from training.fit.settings import Experiment

WINDOW = 6
SETTINGS = """
    model.width=8 model.layers=1 model.heads=2 model.patch=16 model.embedding=8 bytes.batch=8 words.batch=8 contrast.batch=16
    contrast.packets=3 reason.batch=16 bytes.steps=8 words.steps=8 contrast.steps=8 reason.steps=8 data.minimum_windows=5
    run.checkpoint_steps=4 run.log_steps=4 run.device=cpu run.validate_windows=3 run.validate_steps=4
"""
TINY = SETTINGS.split()


class Words:
    """In place of the text encoder: features of a sentence from its hash, the same in every process."""

    width = 12

    def __call__(self, sentences: list[str]) -> torch.Tensor:
        seeds = [int.from_bytes(hashlib.sha256(s.encode()).digest()[:4]) for s in sentences]
        rows = np.array([np.random.default_rng(s).normal(size=self.width) for s in seeds], dtype=np.float32)
        return F.normalize(torch.from_numpy(rows), dim=1)


def windows(seed: int = 0, each: int = 12) -> Examples:
    """Windows of three classes, two captures each; an attack's packets hold its own byte, and packets are of four protocols."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([CLASSES.index(c) for c in ("Benign", "SYN Flood", "Port Scan")], each)
    n = len(labels)
    tokens = rng.integers(0, 256, (4 * n, ROW_BYTES)).astype(np.uint16)
    tokens[:, 0], tokens[:, 6:8], tokens[:, 100:], tokens[:, 12:20] = 0x45, 0, PAD, MASK
    tokens[:, 9] = 200 + np.arange(4 * n) % 4
    rows = rng.integers(0, 4, (n, WINDOW)) + 4 * np.arange(n)[:, None]
    tokens[rows, 40] = labels[:, None]
    rows[::3, :2] = -1
    relations = rng.random((n, WINDOW, len(RELATIONS))).astype(np.float32)
    relations[:, :, 1] = relations[:, :, 1] / 4 + labels[:, None] / len(CLASSES)
    captures = np.array([f"c{k}-{i % 2}" for i, k in enumerate(labels)], dtype=object)
    facts = [json.dumps({"proto": "tcp", "packets": 10, "rate_pps": float(10 ** (i % 4))}) for i in range(n)]
    tool, view = np.array([""] * n, object), np.array(["pair"] * n, object)
    return Examples(
        tokens, torch.from_numpy(rows), torch.from_numpy(relations), torch.from_numpy(labels), captures, tool, facts, view
    )


def tiny(*overrides: str) -> Experiment:
    return changed(Experiment(), *TINY, *overrides)
