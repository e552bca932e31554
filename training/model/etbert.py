"""ET-BERT as packet encoder: its architecture, its words of two bytes, and its published checkpoint by path.

Sources: Lin et al. 2022, arXiv:2202.06335; linwhitehat/ET-BERT at 2afe5b3 (uer/layers, uer/encoders, data_process,
models/bert/base_config.json, fine-tuning/run_classifier.py) and dbiir/UER-py for names of parameters. Facts taken from there:
post-norm BERT with GELU; segment 1 for tokens and 0 for padding, which is masked; input is [CLS] and then overlapping words of
two bytes, one byte apart, as four hex digits, cut by WordPiece where the vocab file lacks a word; UER's LayerNorm divides by the
unbiased deviation, which a factor on its weight makes equal to BERT's.

Rows come masked by `packetclip_sensor.windows.tokens`, so a word with a masked byte is [MASK] and one with padding is [PAD].
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from packetclip_sensor.errors import ConfigError
from packetclip_sensor.windows.tokens import MASK, PAD
from training.model.config import EtBert

SPECIAL = ("[PAD]", "[SEP]", "[CLS]", "[UNK]", "[MASK]")
"""First lines of the published vocab file, and all that comes before the words where no file is named."""
WORDS = 65536
SEGMENTS = 3
"""UER: 0 padding, 1 first text, 2 second text."""

_EMBEDDING = {
    # UER-py as ET-BERT was trained with, and the names of its later versions.
    "embedding.word_embedding.weight": "embeddings.word_embeddings.weight",
    "embedding.position_embedding.weight": "embeddings.position_embeddings.weight",
    "embedding.segment_embedding.weight": "embeddings.token_type_embeddings.weight",
    "embedding.word.embedding.weight": "embeddings.word_embeddings.weight",
    "embedding.pos.embedding.weight": "embeddings.position_embeddings.weight",
    "embedding.seg.embedding.weight": "embeddings.token_type_embeddings.weight",
    "embedding.layer_norm.gamma": "embeddings.LayerNorm.weight",
    "embedding.layer_norm.beta": "embeddings.LayerNorm.bias",
}
_LAYER = {
    "self_attn.linear_layers.0": "attention.self.query",
    "self_attn.linear_layers.1": "attention.self.key",
    "self_attn.linear_layers.2": "attention.self.value",
    "self_attn.final_linear": "attention.output.dense",
    "feed_forward.linear_1": "intermediate.dense",
    "feed_forward.linear_2": "output.dense",
    "layer_norm_1": "attention.output.LayerNorm",
    "layer_norm_2": "output.LayerNorm",
}
_NORM = {"gamma": "weight", "beta": "bias", "weight": "weight", "bias": "bias"}
_HEADS = re.compile(r"target\.(mlm_linear_[12]|nsp_linear_[12]|layer_norm)\.|target\.(mlm|nsp|sp)\.|output_layer(_[12])?\.")
"""Heads of pre-training and of fine-tuning, which an encoder does not have."""


class EtBertEncoder(nn.Module):
    """f_P: (N, ROW_BYTES) tokens of the sensor to (N, width)."""

    def __init__(self, settings: EtBert) -> None:
        """Build the encoder, and fill it from `settings.checkpoint` where one is named. Raises ConfigError."""
        from transformers import BertConfig, BertModel  # noqa: PLC0415  (two seconds that only this encoder needs)

        super().__init__()
        self.settings = settings
        vocabulary = read_vocabulary(Path(settings.vocabulary)) if settings.vocabulary else None
        ids, self.mask_id, self.cls_id, size = word_ids(vocabulary)
        self.register_buffer("ids", ids, persistent=False)
        state = read_checkpoint(Path(settings.checkpoint), settings) if settings.checkpoint else None
        if state is not None:
            size = len(state["embeddings.word_embeddings.weight"])
            if vocabulary and len(vocabulary) != size:
                raise ConfigError(
                    f"checkpoint {settings.checkpoint}: {size} words, vocabulary {settings.vocabulary} has {len(vocabulary)}; "
                    "they must be of one model"
                )
            if int(ids.max()) >= size:
                raise ConfigError(
                    f"checkpoint {settings.checkpoint}: {size} words; name its vocab file in model.etbert.vocabulary"
                )
        if settings.tokens > settings.positions:
            raise ConfigError(f"model.etbert.tokens {settings.tokens} exceeds positions {settings.positions}; lower it")
        config = BertConfig(
            vocab_size=size,
            hidden_size=settings.width,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            intermediate_size=settings.inner,
            max_position_embeddings=settings.positions,
            type_vocab_size=SEGMENTS,
        )
        self.bert = BertModel(config, add_pooling_layer=False)
        if state is not None:
            fill(self.bert, state, settings.checkpoint or "")

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, ROW_BYTES) to (N, width)."""
        words, held = self.words(tokens)
        hidden = self.bert(input_ids=words, attention_mask=held.long(), token_type_ids=held.long()).last_hidden_state
        if self.settings.pooling == "first":
            return hidden[:, 0]
        weight = held.to(hidden.dtype)[:, :, None]
        return (hidden * weight).sum(1) / weight.sum(1)

    def words(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(N, ROW_BYTES) tokens to (N, L) ids, [CLS] first, and (N, L) bool, False where padding; L is what the longest needs."""
        tokens = tokens[:, self.settings.skip_bytes :].long()
        first, second = tokens[:, :-1], tokens[:, 1:]
        padded = (first == PAD) | (second == PAD)
        hidden = ((first == MASK) | (second == MASK)) & ~padded
        plain = ~padded & ~hidden
        ids = self.ids[torch.where(plain, first * 256 + second, torch.zeros_like(first))]
        ids = torch.where(plain[:, :, None], ids, torch.full_like(ids, -1))
        ids[:, :, 0] = torch.where(hidden, torch.full_like(first, self.mask_id), ids[:, :, 0])
        ids = ids.flatten(1)
        # Pieces that are there move to the left in their order; behind them is padding.
        order = torch.argsort((ids < 0).to(torch.uint8), dim=1, stable=True)[:, : self.settings.tokens - 1]
        ids = ids.gather(1, order)
        held = ids >= 0
        longest = max(int(held.sum(1).max()), 1)
        ids, held = ids[:, :longest], held[:, :longest]
        ids = torch.cat([ids.new_full((len(ids), 1), self.cls_id), ids.clamp(min=0)], dim=1)
        return ids, torch.cat([held.new_ones(len(held), 1), held], dim=1)


def read_vocabulary(path: Path) -> dict[str, int]:
    """A vocab file, a word a line, to numbers. Raises ConfigError."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"vocabulary {path}: cannot be read: {err}; name ET-BERT's vocab file") from err
    # UER numbers every line, and the file ends with a newline.
    words = {line.strip().split(" ")[0]: i for i, line in enumerate(lines[:-1] if lines[-1] == "" else lines)}
    if missing := [word for word in SPECIAL if word not in words]:
        raise ConfigError(f"vocabulary {path}: lacks {', '.join(missing)}; name ET-BERT's vocab file")
    return words


def word_ids(vocabulary: Mapping[str, int] | None) -> tuple[Tensor, int, int, int]:
    """Numbers of all words of two bytes.

    Returns:
        (65536, K) int64, the pieces of each word and then -1; the number of [MASK], of [CLS]; the vocabulary's size. [PAD] is 0.
    """
    if vocabulary is None:
        ids = torch.arange(WORDS)[:, None] + len(SPECIAL)
        return ids, SPECIAL.index("[MASK]"), SPECIAL.index("[CLS]"), WORDS + len(SPECIAL)
    pieces = [_pieces(f"{word:04x}", vocabulary) for word in range(WORDS)]
    longest = max(map(len, pieces))
    ids = torch.tensor([p + [-1] * (longest - len(p)) for p in pieces])
    return ids, vocabulary["[MASK]"], vocabulary["[CLS]"], len(vocabulary)


def _pieces(word: str, vocabulary: Mapping[str, int]) -> list[int]:
    """WordPiece: the longest piece that fits, from the left; [UNK] where none does. Source: Wu et al. 2016, arXiv:1609.08144."""
    out: list[int] = []
    at = 0
    while at < len(word):
        for end in range(len(word), at, -1):
            found = vocabulary.get(("##" if at else "") + word[at:end])
            if found is not None:
                out.append(found)
                at = end
                break
        else:
            return [vocabulary["[UNK]"]]
    return out


def bert_name(name: str) -> str | None:
    """BertModel's name of a parameter of UER-py; None where there is none."""
    if name in _EMBEDDING:
        return _EMBEDDING[name]
    match = re.fullmatch(r"encoder\.transformer\.(\d+)\.(.+)\.(\w+)", name)
    if not match or match[2] not in _LAYER or match[3] not in _NORM:
        return None
    return f"encoder.layer.{match[1]}.{_LAYER[match[2]]}.{_NORM[match[3]]}"


def read_checkpoint(path: Path, settings: EtBert) -> dict[str, Tensor]:
    """A checkpoint in UER-py's layout as BertModel's parameters. Raises ConfigError, which names keys that have no place."""
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as err:  # torch.load raises a dozen kinds for a file that is no checkpoint
        raise ConfigError(f"checkpoint {path}: cannot be read: {err}; name a file of weights in UER-py's layout") from err
    if not isinstance(raw, Mapping) or not all(isinstance(value, Tensor) for value in raw.values()):
        raise ConfigError(f"checkpoint {path}: holds no mapping of names to weights; name a file of weights in UER-py's layout")
    out: dict[str, Tensor] = {}
    extra: list[str] = []
    for key, value in raw.items():
        name = key.removeprefix("module.")
        target = bert_name(name)
        if target:
            # UER divides by the unbiased deviation.
            out[target] = value * math.sqrt((len(value) - 1) / len(value)) if name.endswith(".gamma") else value
        elif not _HEADS.match(name):
            extra.append(key)
    if extra:
        raise ConfigError(f"checkpoint {path}: unknown keys {_some(extra)}; it is not in the layout of UER-py's BERT")
    if "embeddings.word_embeddings.weight" not in out:
        raise ConfigError(f"checkpoint {path}: lacks embedding.word_embedding.weight; it is not in the layout of UER-py's BERT")
    return out


def fill(bert: nn.Module, state: Mapping[str, Tensor], path: str) -> None:
    """Put every weight into its parameter. Raises ConfigError naming what lacks, is too much, or has another shape."""
    wanted = dict(bert.named_parameters())
    if missing := [name for name in wanted if name not in state]:
        raise ConfigError(f"checkpoint {path}: lacks {_some(missing)}; set model.etbert.layers to the checkpoint's")
    if extra := [name for name in state if name not in wanted]:
        raise ConfigError(f"checkpoint {path}: has no place for {_some(extra)}; set model.etbert.layers to the checkpoint's")
    for name, parameter in wanted.items():
        if parameter.shape != state[name].shape:
            raise ConfigError(
                f"checkpoint {path}: {name} is {tuple(state[name].shape)}, this model's {tuple(parameter.shape)}; "
                "set the sizes in model.etbert to the checkpoint's"
            )
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(state[name])


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
