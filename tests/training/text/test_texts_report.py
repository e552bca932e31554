"""The text encoder tells the classes of the bank apart, and the report on the bank says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import Words

from training.common import DataError
from training.missions import CLASS_MISSION
from training.text import report
from training.text.report import nearest, similarity
from training.text.text_encoder import TextEncoder
from training.text.texts import TEXTS, held_out


def test_similarity_counts_pairs_of_different_sentences_only() -> None:
    rows = {"a": np.array([[1, 0], [0.6, 0.8]], np.float32), "b": np.array([[0, 1], [0, 1], [1, 0]], np.float32)}
    assert np.round(similarity(rows), 6).tolist() == [[0.6, round((0 + 0 + 1 + 0.8 + 0.8 + 0.6) / 6, 6)],
                                                     [round(3.2 / 6, 6), round(1 / 3, 6)]]  # fmt: skip


def test_a_text_is_found_where_its_class_mean_is_nearest() -> None:
    rows = {"a": np.array([[1, 0], [0.8, 0.6]], np.float32), "b": np.array([[0, 1], [0, 1]], np.float32)}
    assert nearest(rows, {"a": np.array([[1, 0], [0, 1]], np.float32), "b": rows["b"]}) == {"a": 0.5, "b": 1.0}


def test_the_text_encoder_finds_the_class_of_most_held_out_sentences() -> None:
    """Sixteen training sentences a class make its mean; 0.80 were right with all of them, and chance is 0.10."""
    encode = TextEncoder()
    trained = [t for name in CLASS_MISSION for t in TEXTS[name][:: len(TEXTS[name]) // 16][:16]]
    asked = [s.text for name in CLASS_MISSION for s in held_out(name).sentences]
    try:
        features = encode(trained + asked).numpy()
    except DataError:
        pytest.skip("no text encoder installed")
    names = list(CLASS_MISSION)
    means = {name: features[16 * i : 16 * i + 16] for i, name in enumerate(names)}
    found = nearest(means, {name: features[160 + 8 * i : 168 + 8 * i] for i, name in enumerate(names)})
    assert np.mean(list(found.values())) >= 0.70, found
    assert min(found.values()) >= 0.25, found


def test_the_report_names_each_class_and_draws_the_similarities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "TextEncoder", lambda _: Words())
    assert report.main(["--figure", str(tmp_path / "f.png")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line[:19].strip() for line in printed[1:11]] == list(CLASS_MISSION)
    assert f"{sum(len(t) for t in TEXTS.values())} distinct sentences" in printed[11]
    assert (tmp_path / "f.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("name", ["cache.npz", "folder"])
def test_features_are_kept_between_runs_in_a_file_or_a_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def features(_: TextEncoder, sentences: Sequence[str]) -> torch.Tensor:
        asked.extend(sentences)
        return torch.tensor([[float(len(s)), 1.0] for s in sentences])

    monkeypatch.setattr(TextEncoder, "_features", features)
    TextEncoder(cache=tmp_path / name)(["a", "bb", "a"])
    TextEncoder(cache=tmp_path / name)(["ccc", "a"])
    assert TextEncoder(cache=tmp_path / name)(["ccc", "a", "bb", "ccc"]).tolist() == [[3, 1], [1, 1], [2, 1], [3, 1]]
    assert asked == ["a", "bb", "ccc"]


@pytest.mark.parametrize("name", ["cache.npz", "folder"])
def test_features_of_another_encoder_are_not_taken_from_the_cache(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two encoders of equal width, at the same path one after the other: nothing but the files' content tells them apart."""
    encoder, asked = tmp_path / "encoder", []

    def features(_: TextEncoder, sentences: Sequence[str]) -> torch.Tensor:
        asked.append((encoder / "weights").read_text())
        return torch.tensor([[float(asked[-1]), 1.0] for _ in sentences])

    monkeypatch.setattr(TextEncoder, "_features", features)
    encoder.mkdir()
    for weights in ("1", "2", "2"):
        (encoder / "weights").write_text(weights)
        assert TextEncoder(str(encoder), tmp_path / name)(["a"]).tolist() == [[float(weights), 1]]
    assert asked == ["1", "2"]
    (encoder / "weights").write_text("1")
    kept = TextEncoder(str(encoder), None, next(tmp_path.glob("**/*.npz")))(["a"]).tolist()
    assert kept == [[1.0, 1.0]]


def test_a_missing_encoder_is_reported_on_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert report.main(["--text-encoder", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
