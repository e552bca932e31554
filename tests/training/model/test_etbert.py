"""ET-BERT: its words of two bytes, and its published checkpoint against a literal forward pass of UER-py's arithmetic."""

from __future__ import annotations

import math
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


def published(words: int) -> dict[str, torch.Tensor]:
    """Weights in the layout of UER-py with BertTarget, as ET-BERT's pre-trained file has them."""
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g) * 0.3

    width, inner = 8, 16
    out = {
        "embedding.word_embedding.weight": normal(words, width),
        "embedding.position_embedding.weight": normal(20, width),
        "embedding.segment_embedding.weight": normal(3, width),
        "embedding.layer_norm.gamma": 1 + normal(width),
        "embedding.layer_norm.beta": normal(width),
        "target.mlm_linear_1.weight": normal(width, width),
        "target.mlm_linear_1.bias": normal(width),
        "target.layer_norm.gamma": normal(width),
        "target.layer_norm.beta": normal(width),
        "target.mlm_linear_2.weight": normal(words, width),
        "target.mlm_linear_2.bias": normal(words),
        "target.nsp_linear_1.weight": normal(width, width),
        "target.nsp_linear_1.bias": normal(width),
        "target.nsp_linear_2.weight": normal(2, width),
        "target.nsp_linear_2.bias": normal(2),
    }
    for i in range(2):
        at = f"encoder.transformer.{i}."
        for name in (
            "self_attn.linear_layers.0",
            "self_attn.linear_layers.1",
            "self_attn.linear_layers.2",
            "self_attn.final_linear",
        ):
            out[f"{at}{name}.weight"], out[f"{at}{name}.bias"] = normal(width, width), normal(width)
        out[f"{at}feed_forward.linear_1.weight"], out[f"{at}feed_forward.linear_1.bias"] = normal(inner, width), normal(inner)
        out[f"{at}feed_forward.linear_2.weight"], out[f"{at}feed_forward.linear_2.bias"] = normal(width, inner), normal(width)
        for norm in ("layer_norm_1", "layer_norm_2"):
            out[f"{at}{norm}.gamma"], out[f"{at}{norm}.beta"] = 1 + normal(width), normal(width)
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


def checkpoint(tmp_path: Path, weights: dict[str, torch.Tensor]) -> str:
    path = tmp_path / "pretrained_model.bin"
    torch.save(weights, path)
    return str(path)


def row(*tokens: int) -> torch.Tensor:
    return torch.tensor([[*tokens, *[PAD] * (ROW_BYTES - len(tokens))]])


def test_a_published_checkpoint_computes_what_uer_computes(tmp_path: Path, vocabulary: Path) -> None:
    weights = published(len(VOCABULARY))
    made = EtBertEncoder(EtBert(**SMALL, checkpoint=checkpoint(tmp_path, weights), vocabulary=str(vocabulary))).eval()
    rows = torch.cat([row(0x45, 0x00, 0x01, 0x02, 0x03), row(0x01, 0x02)])
    found = made(rows)
    # The first row: [CLS] 4500 0001 0102 0203; the second: [CLS] 0102 and three of padding.
    assert torch.allclose(found[0], literal(weights, [2, 5, 6, 9, 10], held=5), atol=1e-5)
    assert torch.allclose(found[1], literal(weights, [2, 9, 0, 0, 0], held=2), atol=1e-5)


def test_every_weight_of_the_encoder_comes_from_the_checkpoint(tmp_path: Path, vocabulary: Path) -> None:
    weights = published(len(VOCABULARY))
    torch.manual_seed(1)
    one = EtBertEncoder(EtBert(**SMALL, checkpoint=checkpoint(tmp_path, weights), vocabulary=str(vocabulary)))
    torch.manual_seed(2)
    two = EtBertEncoder(EtBert(**SMALL, checkpoint=checkpoint(tmp_path, weights), vocabulary=str(vocabulary)))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    held = sum(value.numel() for name, value in weights.items() if not name.startswith("target."))
    assert sum(p.numel() for p in one.parameters()) == held


def test_names_of_later_versions_and_of_data_parallel_are_known(tmp_path: Path, vocabulary: Path) -> None:
    later = {"word_embedding": "word.embedding", "position_embedding": "pos.embedding", "segment_embedding": "seg.embedding"}
    weights = published(len(VOCABULARY))
    renamed = {f"module.{re.sub('|'.join(later), lambda m: later[m[0]], k)}": v for k, v in weights.items()}
    made = EtBertEncoder(EtBert(**SMALL, checkpoint=checkpoint(tmp_path, renamed), vocabulary=str(vocabulary)))
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
    ("change", "said"),
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
def test_a_checkpoint_that_does_not_fit_is_refused_by_the_key(change, said: str, tmp_path: Path, vocabulary: Path) -> None:
    weights = published(len(VOCABULARY))
    change(weights)
    with pytest.raises(ConfigError, match=said):
        EtBertEncoder(EtBert(**SMALL, checkpoint=checkpoint(tmp_path, weights), vocabulary=str(vocabulary)))


def test_files_that_are_no_checkpoint_or_no_vocab_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.bin").write_text("not weights")
    with pytest.raises(ConfigError, match=r"text.bin: cannot be read"):
        EtBertEncoder(EtBert(**SMALL, checkpoint=str(tmp_path / "text.bin")))
    (tmp_path / "vocab.txt").write_text("[PAD]\n4500\n")
    with pytest.raises(ConfigError, match=r"lacks \[SEP\], \[CLS\], \[UNK\], \[MASK\]"):
        read_vocabulary(tmp_path / "vocab.txt")


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple:
            return (print, ("run",))

    (tmp_path / "evil.bin").write_bytes(pickle.dumps({"embedding.word_embedding.weight": Evil()}, protocol=2))
    with pytest.raises(ConfigError, match=r"evil.bin: cannot be read"):
        EtBertEncoder(EtBert(**SMALL, checkpoint=str(tmp_path / "evil.bin")))
