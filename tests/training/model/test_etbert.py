"""ET-BERT: its words of two bytes, and its published checkpoint against a literal forward pass of UER-py's arithmetic."""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from packetclip_sensor.errors import ConfigError
from packetclip_sensor.windows.tokens import MASK, PAD, ROW_BYTES
from training.model.config import EtBert
from training.model.etbert import EtBertEncoder, read_vocabulary, word_ids

SMALL = {"layers": 2, "width": 8, "heads": 2, "inner": 16, "positions": 20, "tokens": 12}
VOCABULARY = ["[PAD]", "[SEP]", "[CLS]", "[UNK]", "[MASK]", "4500", "0001", "01", "##02", "0102", "0203"]


def published(words: int, width: int = 8, inner: int = 16) -> dict[str, torch.Tensor]:
    """Weights in the layout of UER-py with BertTarget, as ET-BERT's pre-trained file has them."""
    g = torch.Generator().manual_seed(0)
    out: dict[str, torch.Tensor] = {}

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g) * 0.3

    def linear(name: str, rows: int, columns: int) -> None:
        out[f"{name}.weight"], out[f"{name}.bias"] = normal(rows, columns), normal(rows)

    def norm(name: str) -> None:
        out[f"{name}.gamma"], out[f"{name}.beta"] = 1 + normal(width), normal(width)

    for name, rows in (("word", words), ("position", 20), ("segment", 3)):
        out[f"embedding.{name}_embedding.weight"] = normal(rows, width)
    norm("embedding.layer_norm")
    norm("target.layer_norm")
    for name, rows in (("mlm_linear_1", width), ("mlm_linear_2", words), ("nsp_linear_1", width), ("nsp_linear_2", 2)):
        linear(f"target.{name}", rows, width)
    for i in range(2):
        at = f"encoder.transformer.{i}."
        for name in ("linear_layers.0", "linear_layers.1", "linear_layers.2", "final_linear"):
            linear(f"{at}self_attn.{name}", width, width)
        linear(f"{at}feed_forward.linear_1", inner, width)
        linear(f"{at}feed_forward.linear_2", width, inner)
        norm(f"{at}layer_norm_1")
        norm(f"{at}layer_norm_2")
    return out


def literal(w: dict[str, torch.Tensor], words: list[int], held: int) -> torch.Tensor:
    """[CLS]'s state by UER-py's arithmetic, head after head: `held` words are real, the others padding of segment 0."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return w[name + ".gamma"] * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + w[name + ".beta"]

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    segment = torch.tensor([1 if i < held else 0 for i in range(len(words))])
    x = w["embedding.word_embedding.weight"][words] + w["embedding.position_embedding.weight"][: len(words)]
    x = norm(x + w["embedding.segment_embedding.weight"][segment], "embedding.layer_norm")
    blocked = torch.where(segment > 0, 0.0, -10000.0)
    for i in range(2):
        at = f"encoder.transformer.{i}."
        q, k, v = (linear(x, f"{at}self_attn.linear_layers.{j}") for j in range(3))
        heads = []
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            scores = q[:, part] @ k[:, part].T / math.sqrt(4) + blocked
            heads.append(scores.softmax(1) @ v[:, part])
        x = norm(linear(torch.cat(heads, 1), at + "self_attn.final_linear") + x, at + "layer_norm_1")
        x = norm(linear(F.gelu(linear(x, at + "feed_forward.linear_1")), at + "feed_forward.linear_2") + x, at + "layer_norm_2")
    return x[0]


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(VOCABULARY) + "\n")
    return path


def encoder(tmp_path: Path, vocabulary: Path, weights: dict[str, torch.Tensor]) -> EtBertEncoder:
    """The encoder of a checkpoint with these weights."""
    path = tmp_path / "pretrained_model.bin"
    torch.save(weights, path)
    return EtBertEncoder(EtBert(**SMALL, checkpoint=str(path), vocabulary=str(vocabulary))).eval()


def row(*tokens: int) -> torch.Tensor:
    return torch.tensor([[*tokens, *[PAD] * (ROW_BYTES - len(tokens))]])


def test_a_published_checkpoint_computes_what_uer_computes(tmp_path: Path, vocabulary: Path) -> None:
    weights = published(len(VOCABULARY))
    made = encoder(tmp_path, vocabulary, weights)
    rows = torch.cat([row(0x45, 0x00, 0x01, 0x02, 0x03), row(0x01, 0x02)])
    found = made(rows)
    # The first row: [CLS] 4500 0001 0102 0203; the second: [CLS] 0102 and three of padding.
    assert torch.allclose(found[0], literal(weights, [2, 5, 6, 9, 10], held=5), atol=1e-5)
    assert torch.allclose(found[1], literal(weights, [2, 9, 0, 0, 0], held=2), atol=1e-5)


def test_every_weight_of_the_encoder_comes_from_the_checkpoint(tmp_path: Path, vocabulary: Path) -> None:
    weights = published(len(VOCABULARY))
    one, two = (encoder(tmp_path, vocabulary, weights) for _ in range(2))  # what is not read would differ by chance
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    held = sum(value.numel() for name, value in weights.items() if not name.startswith("target."))
    assert sum(p.numel() for p in one.parameters()) == held


def test_names_of_later_versions_and_of_data_parallel_are_known(tmp_path: Path, vocabulary: Path) -> None:
    later = {"word_embedding": "word.embedding", "position_embedding": "pos.embedding", "segment_embedding": "seg.embedding"}
    weights = published(len(VOCABULARY))
    renamed = {f"module.{re.sub('|'.join(later), lambda m: later[m[0]], k)}": v for k, v in weights.items()}
    made = encoder(tmp_path, vocabulary, renamed)
    assert torch.equal(made.bert.embeddings.word_embeddings.weight, weights["embedding.word_embedding.weight"])


def test_masked_bytes_hide_their_words_and_padding_ends_the_row(vocabulary: Path) -> None:
    made = EtBertEncoder(EtBert(**SMALL, vocabulary=str(vocabulary)))
    words, held = made.words(row(0x45, 0x00, MASK, 0x02, 0x03))
    assert words.tolist() == [[2, 5, 4, 4, 10]]
    assert held.tolist() == [[True] * 5]
    words, held = made.words(torch.cat([row(0x45, 0x00), row(0x45, 0x00, 0x01)]))
    assert words.tolist() == [[2, 5, 0], [2, 5, 6]]
    assert held.tolist() == [[True, True, False], [True] * 3]


def test_a_word_that_the_vocabulary_lacks_is_cut_in_pieces_or_unknown() -> None:
    pieces, mask, cls, size = word_ids({word: i for i, word in enumerate(VOCABULARY) if word != "0102"})
    assert pieces[0x0102].tolist() == [7, 8]
    assert pieces[0xFFFF].tolist() == [3, -1]
    assert (mask, cls, size) == (4, 2, 10)


def test_without_a_vocab_file_every_word_of_two_bytes_has_a_number() -> None:
    pieces, mask, cls, size = word_ids(None)
    assert size == 65541
    assert (mask, cls) == (4, 2)
    assert pieces[[0, 0x4500, 65535], 0].tolist() == [5, 5 + 0x4500, 65540]


def test_long_rows_are_cut_and_bytes_can_be_skipped() -> None:
    made = EtBertEncoder(EtBert(layers=1, width=8, heads=2, inner=16, positions=20, tokens=12, skip_bytes=24))
    words, held = made.words(torch.arange(ROW_BYTES)[None])
    assert words.shape == (1, 12)
    assert held.all()
    assert int(words[0, 1]) == 5 + 24 * 256 + 25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("encoder.transformer.1.layer_norm_2.gamma"), r"lacks encoder.layer.1.output.LayerNorm.weight"),
        (lambda w: w.pop("embedding.word_embedding.weight"), r"lacks embedding.word_embedding.weight"),
        (lambda w: w.update({"encoder.margin": torch.zeros(1)}), r"unknown keys encoder.margin"),
        (
            lambda w: w.update({"encoder.transformer.2.layer_norm_1.beta": torch.zeros(8)}),
            r"has no place for encoder.layer.2.attention.output.LayerNorm.bias",
        ),
        (
            lambda w: w.update({"encoder.transformer.0.feed_forward.linear_1.weight": torch.zeros(17, 8)}),
            r"encoder.layer.0.intermediate.dense.weight is \(17, 8\), this model's \(16, 8\)",
        ),
        (
            lambda w: w.update({"embedding.word_embedding.weight": torch.zeros(4, 8)}),
            r"4 words, vocabulary .* has 11; they must be of one model",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_the_key(change, message: str, tmp_path: Path, vocabulary: Path) -> None:
    weights = published(len(VOCABULARY))
    change(weights)
    with pytest.raises(ConfigError, match=message):
        encoder(tmp_path, vocabulary, weights)


def test_files_that_are_no_checkpoint_or_would_run_code_or_are_no_vocab_file_are_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (print, ("run",))

    evil = pickle.dumps({"embedding.word_embedding.weight": Evil()}, protocol=2)
    for name, content in (("text.bin", b"not weights"), ("evil.bin", evil)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=f"{name}: cannot be read"):
            EtBertEncoder(EtBert(**SMALL, checkpoint=str(tmp_path / name)))
    (tmp_path / "vocab.txt").write_text("[PAD]\n4500\n")
    with pytest.raises(ConfigError, match=r"lacks \[SEP\], \[CLS\], \[UNK\], \[MASK\]"):
        read_vocabulary(tmp_path / "vocab.txt")
