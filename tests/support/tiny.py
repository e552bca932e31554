"""A few made-up windows, an experiment of a few steps and a text encoder without a network, for tests of training."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.nn import functional as F

from packetclip_sensor.pairs.parquet import schema
from packetclip_sensor.windows.packet_features import RELATIONS
from packetclip_sensor.windows.tokens import MASK, PAD, ROW_BYTES
from packetclip_sensor.windows.windows import Window
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
    tool, view, source = (np.array([text] * n, object) for text in ("", "pair", "lab"))
    return Examples(
        tokens, torch.from_numpy(rows), torch.from_numpy(relations), torch.from_numpy(labels), captures, tool, facts, view, source
    )


def tiny(*overrides: str) -> Experiment:
    return changed(Experiment(), *TINY, *overrides)


SYN = bytes.fromhex("4500003c12344000400600000a0000050a000009 c350005000000001000000005002faf000000000020405b4".replace(" ", ""))
"""IPv4, hop limit 64, TCP with flags SYN, window 0xfaf0 and an MSS option of 4 bytes."""


def write_windows(path: Path, captures: dict[str, str], windows: int = 6) -> None:
    """Windows of 15 to 22 packets; a class has a flags relation and a byte of its own, so that it can be learned."""
    form, window, rng = schema(Window()), Window(), np.random.default_rng(1)
    names = sorted(set(captures.values()))
    out = []
    for capture, label in captures.items():
        for i in range(windows):
            n = 15 + (i * 3) % 8
            relations = np.zeros((window.packets, len(RELATIONS)), np.float32)
            relations[-n:, names.index(label)] = 1.0
            tokens = np.full((window.packets, ROW_BYTES), PAD, np.uint16)
            tokens[-n:, : len(SYN)] = np.frombuffer(SYN, np.uint8)
            tokens[-n:, 40] = rng.integers(0, 200, n) // 50 + 10 * names.index(label)
            out.append(
                {
                    "capture": capture, "second": i, "view": ("pair", "source", "destination")[i % 3], "sources": [],
                    "destinations": [], "first": 0.0, "last": 1.0, "packets": n, "uids": [], "label": label, "tool": "t",
                    "attack_share": 1.0, "text": "",
                    "facts": json.dumps({"proto": "tcp", "packets": n, "view": "pair"}),
                    "relations": relations.ravel(), "tokens": tokens.ravel(),
                }
            )  # fmt: skip
    pq.write_table(pa.Table.from_pylist(out, schema=form), path)
