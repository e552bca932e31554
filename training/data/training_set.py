"""What the stages of training learn from: windows, their texts, and the words for what packets say."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from packetclip_sensor.alerts.sentences import window_text
from packetclip_sensor.windows import payload
from packetclip_sensor.windows.tokens import PAD
from training.data.windows import Examples, TextTower, pair_texts
from training.fit import experiment as settings
from training.fit.experiment import Experiment
from training.model.packetclip import PacketClip
from training.text import texts


@dataclass
class Material:
    """What all stages learn from."""

    model: PacketClip
    experiment: settings.Experiment
    train: Examples
    looks: npt.NDArray[np.object_]
    """(N,) text of each window's facts"""
    tokens: Tensor
    """(U, W) int, the rows that training windows hold"""
    rows: Tensor
    """(N, A) into `tokens`, -1 is padding"""
    features: Tensor
    """(S, T) frozen features of the distinct texts"""
    text_of: Tensor
    """(N, each) texts of each window"""
    bare: Tensor
    """(B, T) frozen features of the same texts' sentences without the window's facts: what prompts are like"""
    bare_of: Tensor
    """(S,) bare sentence of each text"""
    seen: Tensor
    """(L, T) frozen features of the distinct `looks`"""
    seen_of: Tensor
    """(N,) look of each window"""
    phrases: Tensor
    """(P, T) frozen features of what packets say"""
    phrase_of: Tensor
    """(U,) what each row says"""
    device: torch.device

    @property
    def hears(self) -> bool:
        """Whether bytes reach the model at all."""
        return self.experiment.model.bytes and self.experiment.model.encoder != "none"


def hears(experiment: Experiment) -> bool:
    """Whether bytes reach the model at all."""
    return experiment.model.bytes and experiment.model.encoder != "none"


def gathered(model: PacketClip, experiment: Experiment, train: Examples, tower: TextTower, device: torch.device) -> Material:
    """What the stages learn from: texts, their features, and the rows that training windows hold."""
    looks = np.array([window_text(json.loads(facts)) for facts in train.facts], dtype=object)
    sentences, text_of = pair_texts(train, experiment.seed, experiment.data.texts)
    rows = train.rows
    if model.config.packets is not None:
        rows = rows.clone()
        rows[:, : -model.config.packets] = -1
    used, number = rows[rows >= 0].unique(return_inverse=True)
    rows = torch.full_like(rows, -1).masked_scatter(rows >= 0, number)
    tokens = torch.from_numpy(train.tokens[used.numpy()].astype(np.int16))
    phrases, phrase_of = (
        phrased(train.tokens[used.numpy()]) if hears(experiment) else (["nothing"], np.zeros(len(used), np.int64))
    )
    features, said = tower(sentences).to(device), tower([texts.packet_prompt(p) for p in phrases]).to(device)
    bare, bare_of = without_facts(sentences, text_of, looks)
    seen, seen_of = np.unique(looks.astype(str), return_inverse=True)
    return Material(
        model,
        experiment,
        train,
        looks,
        tokens,
        rows,
        features=features,
        text_of=text_of,
        bare=tower(bare).to(device),
        bare_of=bare_of,
        seen=tower(seen.tolist()).to(device),
        seen_of=torch.from_numpy(seen_of.astype(np.int64)),
        phrases=said,
        phrase_of=torch.from_numpy(phrase_of),
        device=device,
    )


def without_facts(sentences: list[str], text_of: Tensor, looks: npt.NDArray[np.object_]) -> tuple[list[str], Tensor]:
    """The sentences of texts without the facts that follow them: the distinct ones, and the (S,) number of each text's."""
    look_of = dict(zip(text_of.flatten().tolist(), np.repeat(looks, text_of.shape[1]), strict=True))
    bare = [text.removesuffix(look_of.get(i, "")).strip() for i, text in enumerate(sentences)]
    number = {text: i for i, text in enumerate(dict.fromkeys(bare))}
    return list(number), torch.tensor([number[text] for text in bare])


def phrased(rows: npt.NDArray[np.uint16]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """What packets say: (U, W) tokens to the distinct phrases and the (U,) number of each row's."""
    data, captured = np.where(rows < PAD, rows, 0).astype(np.uint8), (rows != PAD).sum(1)
    said = payload.words_of([row[:n].tobytes() for row, n in zip(data, captured, strict=True)])
    phrases, number = np.unique(np.array(said, dtype=object).astype(str), return_inverse=True)
    return phrases.tolist(), number.astype(np.int64)
