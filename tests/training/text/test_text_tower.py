"""The file by which a bundle reads sentences: what training writes, and that no stale one stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import Words

pytest.importorskip("torch")

from packetclip_sensor.hunt.text_encoder import FILE
from training.text import text_encoder


class Worded(Words):
    """An encoder that the sensor can run."""

    def wordpieces(self) -> list[str]:
        return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "packet", "##s"]


def test_the_file_holds_head_vocabulary_probes_and_taught_sentences(tmp_path: Path) -> None:
    head = np.random.default_rng(1).normal(size=(Words.width, 8)).astype(np.float32)
    tower = Worded()
    assert text_encoder.write(head, tower, tmp_path)  # type: ignore[arg-type]
    with np.load(tmp_path / FILE, allow_pickle=False) as arrays:
        made = {name: arrays[name] for name in arrays}
    assert np.array_equal(made["head"], head)
    assert made["vocabulary"].tobytes().decode().split("\n")[4:] == ["packet", "##s"]
    assert made["known"].shape == (10 * text_encoder.KNOWN_EACH,)
    kept = made["known_features"].astype(np.float32)
    wanted = tower(made["known"].tolist()).numpy()
    assert ((kept / np.linalg.norm(kept, axis=1, keepdims=True)) * wanted).sum(1).min() > 0.999
    assert np.allclose(tower(made["probes"].tolist()).numpy(), made["probe_features"])
    assert -1 < float(made["familiar"]) < 1


def test_a_model_of_another_text_encoder_has_no_file_and_leaves_no_older_one(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"of the model before")
    assert not text_encoder.write(np.zeros((12, 8), np.float32), Words(), tmp_path)  # type: ignore[arg-type]
    assert not (tmp_path / FILE).exists()
