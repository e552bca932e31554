"""What the stages of training learn from: windows, their texts, and the phrases for their packets' payloads."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from packetclip_sensor.alerts.sentences import window_text
from packetclip_sensor.windows import payload
from packetclip_sensor.windows.tokens import PAD
from training.data.growing import Growing
from training.data.windows import STEP, Examples, pair_texts
from training.text import texts

Encode = Callable[[Sequence[str]], Tensor]
"""N sentences to (N, T) frozen features."""


@dataclass
class TrainingSet:
    """N windows of A packets over U distinct packet rows, with features of their texts."""

    windows: Examples
    looks: npt.NDArray[np.object_]
    """(N,) text of each window's facts"""
    tokens: Tensor
    """(U, W) int, the rows that the windows hold"""
    rows: Tensor
    """(N, A) into `tokens`, -1 is padding"""
    texts: Tensor
    """(S, T) frozen features of the distinct texts"""
    text_of: Tensor
    """(N, each) texts of each window"""
    sentences: Tensor
    """(B, T) frozen features of the same texts without the window's facts: what prompts are like"""
    sentence_of: Tensor
    """(S,) sentence of each text"""
    facts: Tensor
    """(L, T) frozen features of the distinct `looks`"""
    facts_of: Tensor
    """(N,) look of each window"""
    phrases: Tensor
    """(P, T) frozen features of the phrases for payloads"""
    phrase_of: Tensor
    """(U,) phrase of each row"""


def gather(
    windows: Examples, encode: Encode, *, packets: int | None, each: int, seed: int, with_bytes: bool, device: torch.device
) -> TrainingSet:
    """Everything that is computed once before training.

    Args:
        packets: the window's last packets that are seen; None is all. each: texts of a window.
        with_bytes: False: the model sees no byte, so no row has a phrase. device: of the features.
    """
    looks = np.array([window_text(json.loads(facts)) for facts in windows.facts], dtype=object)
    pair, text_of = pair_texts(windows, seed, each)
    rows = windows.rows
    if packets is not None:
        rows = rows.clone()
        rows[:, :-packets] = -1
    used, number = rows[rows >= 0].unique(return_inverse=True)
    rows = torch.full_like(rows, -1).masked_scatter(rows >= 0, number)
    own = Growing(windows.folder)
    for part in used.split(STEP):
        own.append(windows.tokens[part.numpy()].astype(np.int16))
    tokens = own.array()
    phrases, phrase_of = phrased(tokens) if with_bytes else (["nothing"], np.zeros(len(tokens), np.int64))
    sentences, sentence_of = without_facts(pair, text_of, looks)
    facts, facts_of = np.unique(looks.astype(str), return_inverse=True)
    return TrainingSet(
        windows=windows,
        looks=looks,
        tokens=torch.from_numpy(tokens),
        rows=rows,
        texts=encode(pair).to(device),
        phrases=encode([texts.packet_prompt(p) for p in phrases]).to(device),
        sentences=encode(sentences).to(device),
        facts=encode(facts.tolist()).to(device),
        text_of=text_of,
        phrase_of=torch.from_numpy(phrase_of),
        sentence_of=sentence_of,
        facts_of=torch.from_numpy(facts_of.astype(np.int64)),
    )


def without_facts(pair: list[str], text_of: Tensor, looks: npt.NDArray[np.object_]) -> tuple[list[str], Tensor]:
    """The sentences of texts without the facts that follow them: the distinct ones, and the (S,) number of each text's."""
    look_of = dict(zip(text_of.flatten().tolist(), np.repeat(looks, text_of.shape[1]), strict=True))
    bare = [text.removesuffix(look_of.get(i, "")).strip() for i, text in enumerate(pair)]
    number = {text: i for i, text in enumerate(dict.fromkeys(bare))}
    return list(number), torch.tensor([number[text] for text in bare])


def phrased(rows: npt.NDArray[np.int16]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Phrases for payloads: (U, W) tokens to the distinct phrases and the (U,) number of each row's."""
    found: list[str] = []
    for start in range(0, len(rows), STEP):
        some = rows[start : start + STEP]
        data, captured = np.where(some < PAD, some, 0).astype(np.uint8), (some != PAD).sum(1)
        found += [c.words for c in payload.contents([row[:n].tobytes() for row, n in zip(data, captured, strict=True)])]
    phrases, number = np.unique(np.array(found, dtype=object).astype(str), return_inverse=True)
    return phrases.tolist(), number.astype(np.int64)
