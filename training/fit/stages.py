"""The stages of training: masked bytes, words, contrast with text, reasoning. Each draws its batches and computes its loss.

A stage owns an optimiser, a schedule and its generators, so that `state` is all that its next step depends on; the engine runs,
watches and saves it. Random numbers are drawn for the whole batch by every process, which then works on its part.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from packetclip_sensor.windows.tokens import MASK, PAD, VOCABULARY
from training.data.sampling import Sampler, augmented, kept_bytes, masked
from training.data.training_set import TrainingSet
from training.data.windows import CLASSES, GROUPS
from training.fit import settings
from training.fit.distributed import gather, part, together, world
from training.fit.losses import contrastive_loss, paper_contrastive_loss, reasoner_loss, suppressed
from training.model.packetclip import PacketClip, seen_only


@dataclass(frozen=True)
class TrainingRun:
    """What all stages of a training run share."""

    model: PacketClip
    experiment: settings.Experiment
    data: TrainingSet


class Stage:
    """One stage of training."""

    name: ClassVar[str]

    def __init__(
        self,
        run: TrainingRun,
        chosen: settings.Bytes | settings.Words | settings.Contrast | settings.Reason,
        parameters: Iterable[nn.Parameter],
        seed: int,
        *,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        clip: float | None = None,
    ) -> None:
        self.run, self.model, self.data, self.device = run, run.model, run.data, run.model.device
        self.steps, self.batch, self.step = chosen.steps, chosen.batch, 0
        self.own = nn.ModuleDict()
        self.parameters = [p for p in parameters if p.requires_grad]
        self.clip = clip
        self.generator = torch.Generator().manual_seed(seed)
        self.sampler: Sampler | None = None
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=chosen.learning_rate, betas=chosen.betas, eps=eps, weight_decay=weight_decay
        )
        self.schedule = (
            torch.optim.lr_scheduler.OneCycleLR(self.optimiser, chosen.learning_rate, total_steps=max(self.steps, 1))
            if chosen.schedule == "one_cycle"
            else None
        )

    def loss(self) -> Tensor:
        """Draw the next batch and return this process's loss."""
        raise NotImplementedError

    def augmented(self, relations: Tensor, padding: Tensor) -> Tensor:
        """Random changes of relations, as the experiment wants them."""
        return augmented(relations, padding, self.generator, **msgspec.structs.asdict(self.run.experiment.augment))

    def kept_bytes(self, shape: torch.Size) -> Tensor:
        """0 where a packet's bytes are dropped at random, as the experiment wants it."""
        chosen = self.run.experiment.model
        return kept_bytes(shape, chosen.byte_dropout, chosen.packet_dropout, self.generator)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, but for the model's weights and the global generators."""
        return {
            "own": self.own.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else {},
            "generator": self.generator.get_state(),
            "sampler": json.dumps(self.sampler.rng.bit_generator.state) if self.sampler else "",
        }

    def load(self, state: dict[str, Any], step: int) -> None:
        """Go on from a `state` taken after `step` steps."""
        self.step = step
        self.own.load_state_dict(state["own"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.schedule:
            self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        if self.sampler:
            self.sampler.rng.bit_generator.state = json.loads(state["sampler"])


class BytesStage(Stage):
    """Masked-byte pre-training of the patch encoder."""

    name = "bytes"

    def __init__(self, run: TrainingRun) -> None:
        self.chosen = run.experiment.bytes
        config, encoder = run.model.config, run.model.packet_encoder
        decode = nn.Linear(config.width, config.patch * VOCABULARY).to(run.model.device)
        super().__init__(run, self.chosen, [*encoder.parameters(), *decode.parameters()], run.experiment.seed, eps=1e-8)
        self.own["decode"] = decode

    def loss(self) -> Tensor:
        """Cross-entropy of the hidden bytes, in nats a byte."""
        tokens = self.data.tokens
        rows = tokens[torch.randint(len(tokens), (self.batch,), generator=self.generator)].long()
        hidden = torch.rand(rows.shape, generator=self.generator) < self.chosen.hidden
        hidden &= rows < PAD
        total = int(hidden.sum())
        rows, hidden = part(rows).to(self.device), part(hidden).to(self.device)
        patches = self.model.packet_encoder.patches(torch.where(hidden, torch.full_like(rows, MASK), rows))
        # A hidden byte's logits come from its own slice of `decode`: most of the product is never needed.
        width = self.model.config.patch
        weight = self.own["decode"].weight.unflatten(0, (width, VOCABULARY))
        bias = self.own["decode"].bias.unflatten(0, (width, VOCABULARY))
        at, truth = hidden.unflatten(1, (-1, width)), rows.unflatten(1, (-1, width))
        losses = [
            F.cross_entropy(F.linear(patches[at[:, :, i]], weight[i], bias[i]), truth[:, :, i][at[:, :, i]], reduction="sum")
            for i in range(width)
        ]
        return torch.stack(losses).sum() * world() / max(total, 1)


class WordsStage(Stage):
    """Packets against the phrases for their payloads, each phrase drawn by the root of how often it occurs."""

    name = "words"

    def __init__(self, run: TrainingRun) -> None:
        self.chosen, model = run.experiment.words, run.model
        parts = [model.packet_encoder, model.packet_head, model.text_head]
        parameters = [*(p for m in parts for p in m.parameters()), model.log_logit_scale]
        super().__init__(run, self.chosen, parameters, run.experiment.seed + 2)
        count = torch.bincount(run.data.phrase_of).double()
        self.upto = (count.rsqrt()[run.data.phrase_of]).cumsum(0)

    def loss(self) -> Tensor:
        """Cross-entropy over all phrases, nats."""
        drawn = torch.rand(self.batch, generator=self.generator, dtype=torch.float64) * self.upto[-1]
        at = torch.searchsorted(self.upto, drawn).clamp(max=len(self.upto) - 1)
        seen, truth = part(masked(self.data.tokens[at], self.chosen.hidden, self.generator)), part(self.data.phrase_of[at])
        embedding = self.model.encode(seen.to(self.device).long())
        return phrase_loss(self.model, embedding, self.data.phrases, truth.to(self.device))


def phrase_loss(model: PacketClip, embedding: Tensor, phrases: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy of (N, D) packets over all phrases, whose (P, T) features are given; nats."""
    return F.cross_entropy(model.logit_scale * embedding @ model.encode_text(phrases).T, truth)


def texts_loss(
    run: TrainingRun, window: Tensor, batch: Tensor, texts: Tensor, step: int, kept: Tensor | slice = slice(None)
) -> Tensor:
    """Windows against their texts, at three levels.

    Equal texts are positives (facts and their meaning); with `class_weight` all sentences of a class are (whole texts, in every
    other step the bare sentences, as in prompts); with `facts_weight` equal words of facts are, whatever the class: from them a
    class that was never named can be recognised by a description of what it looks like.

    Args:
        window: (B, D) of all processes. batch: (B,) its windows. texts: (B,) a text of each. kept: which of them count.
    Returns:
        Scalar, nats.
    """
    chosen, model, data = run.experiment.contrast, run.model, run.data
    here, of_all = part(texts), together(texts).to(model.device)[kept]
    label = together(data.windows.label[batch]).to(model.device)[kept]
    window = window[kept]
    text = gather(model.encode_text(data.texts[here]))[kept]
    if chosen.loss == "paper":
        return paper_contrastive_loss(window, text, model.logit_scale)
    loss = contrastive_loss(window, text, model.logit_scale, of_all, label)
    if chosen.class_weight:
        sentence = gather(model.encode_text(data.sentences[data.sentence_of[here]]))[kept] if step % 2 else text
        loss = loss + chosen.class_weight * contrastive_loss(window, sentence, model.logit_scale, label, label)
    if chosen.facts_weight:
        look = together(data.facts_of[batch]).to(model.device)[kept]
        facts = gather(model.encode_text(data.facts[part(data.facts_of[batch])]))[kept]
        loss = loss + chosen.facts_weight * contrastive_loss(window, facts, model.logit_scale, look, look)
    return loss


class ContrastStage(Stage):
    """A window's embedding against its text, and its last packet against the phrase for its payload."""

    name = "contrast"

    def __init__(self, run: TrainingRun, table: Tensor | None) -> None:
        """`table`: (U, width) features of the frozen encoder; None where the encoder learns."""
        self.chosen, self.table, model = run.experiment.contrast, table, run.model
        parts = [model.packet_encoder, model.packet_head, model.text_head, model.window_head, model.sensor]
        parameters = [*(p for m in parts for p in m.parameters()), model.log_logit_scale]
        super().__init__(run, self.chosen, parameters, run.experiment.seed)
        self.sampler = Sampler(run.data.windows, run.experiment.seed, run.data.looks, self.chosen.without)
        self.with_bytes = run.experiment.model.bytes

    def loss(self) -> Tensor:
        """The window's loss and the packets', in nats."""
        data, chosen, generator = self.data, self.chosen, self.generator
        batch = self.sampler(self.batch, chosen.benign)
        rows, relations = data.rows[batch], data.windows.relations[batch]
        if self.table is None:
            chance = torch.rand(rows.shape, generator=generator) - (rows < 0).float() * 2
            chance[:, -1] += 1  # the window's last packet is always there: it is the one that the relations describe best
            at = chance.topk(min(chosen.packets, rows.shape[1]), dim=1).indices.sort(1).values
            rows, relations = rows.gather(1, at), relations.gather(1, at[:, :, None].expand(-1, -1, relations.shape[2]))
        relations = self.augmented(relations, rows < 0)
        phrase = part(data.phrase_of[rows[:, -1].clamp(min=0)])
        # A row that a batch holds several times is masked and encoded once.
        distinct, number = rows[rows >= 0].unique(return_inverse=True)
        numbers = torch.full_like(rows, -1).masked_scatter(rows >= 0, number)
        seen = masked(data.tokens[distinct], chosen.hidden, generator) if self.table is None and self.with_bytes else distinct
        kept = self.kept_bytes(rows.shape)
        texts = data.text_of[batch, torch.randint(data.text_of.shape[1], (len(batch),), generator=generator)]

        numbers, relations, kept = part(numbers), part(relations).to(self.device), part(kept).to(self.device)
        padding = (numbers < 0).to(self.device)
        embedding = self._embed(numbers, seen)
        # A frozen encoder's packets stay where their phrases put them; windows' classes would pull them to where they come from.
        taught = self.table is not None and self.run.experiment.model.encoder == "patch"
        sensor = self.model.sensor((embedding.detach() if taught else embedding) * kept, relations)
        loss = texts_loss(self.run, gather(self.model.pooled(sensor, padding)), batch, texts, self.step)
        if chosen.packet_weight and self.with_bytes:
            found = phrase_loss(self.model, embedding[:, -1], data.phrases, phrase.to(self.device))
            loss = loss + chosen.packet_weight * found
        return loss

    def _embed(self, numbers: Tensor, seen: Tensor) -> Tensor:
        """(b, n) numbers of distinct rows, and those rows' tokens (or numbers, where frozen), to (b, n, D)."""
        embedding = torch.zeros(*numbers.shape, self.model.config.embedding, device=self.device)
        if not self.with_bytes:
            return embedding
        own, number = numbers[numbers >= 0].unique(return_inverse=True)
        rows = seen[own]
        if self.table is None:
            found = self.model.encode(rows.to(self.device).long())
        else:
            found = self.model.project(self.table[rows].to(self.device))
        embedding[(numbers >= 0).to(self.device)] = found[number.to(self.device)]
        return embedding


class ReasonStage(Stage):
    """Byte embeddings are fixed; relations, graphs and temporal model learn; contrast goes on beside."""

    name = "reason"

    def __init__(self, run: TrainingRun, table: Tensor) -> None:
        """`table`: (U, D) embeddings of the rows."""
        self.chosen, self.table, model = run.experiment.reason, table, run.model
        parts = [model.sensor, model.graphs, model.temporal, model.text_head, model.window_head]
        parameters, seed = (p for m in parts for p in m.parameters()), run.experiment.seed
        super().__init__(run, self.chosen, parameters, seed, weight_decay=self.chosen.weight_decay, clip=self.chosen.clip)
        self.sampler = Sampler(run.data.windows, seed + 1, run.data.looks, self.chosen.without)
        self.group = run.data.windows.group
        self.weight = torch.ones(len(GROUPS), device=model.device)
        left_out = torch.tensor([name in run.experiment.contrast.without for name in CLASSES])
        self.contrasted = ~left_out[run.data.windows.label]

    def loss(self) -> Tensor:
        """Cross-entropy with its terms, and in every `contrast_every` steps the contrastive loss, in nats."""
        data, chosen = self.data, self.chosen
        batch = self.sampler(self.batch, chosen.benign)
        kept = self.kept_bytes(data.rows[batch].shape)
        beside = chosen.contrast > 0 and self.step % chosen.contrast_every == 0
        if beside:
            texts = data.text_of[batch, torch.randint(data.text_of.shape[1], (len(batch),), generator=self.generator)]
        relations = self.augmented(data.windows.relations[batch], data.rows[batch] < 0)
        own = part(batch)
        rows = data.rows[own].to(self.device)
        padding = rows < 0
        embedding = self.table[rows.clamp(min=0)] * (~padding)[:, :, None] * part(kept).to(self.device)
        sensor = self.model.sensor(embedding, part(relations).to(self.device))
        logits = self.model.logits(sensor, padding)
        target = self.group[own].to(self.device)
        if chosen.losses.decay:
            target = suppressed(logits[:, -1], target, chosen.losses.decay**self.step)
        seen, terms = seen_only(padding, self.model.config.packets), chosen.losses
        loss = reasoner_loss(logits, target, seen, self.weight, smoothing=terms.smoothing, sparsity=terms.sparsity)
        if beside:
            contrasted = together(self.contrasted[batch]).to(self.device)
            window = gather(self.model.window_embedding(sensor, padding))
            found = texts_loss(self.run, window, batch, texts, self.step // chosen.contrast_every, contrasted)
            loss = loss + chosen.contrast * found
        return loss
