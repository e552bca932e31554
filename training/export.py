"""Model to bundle: ONNX and JSON, each file with its hash, outputs compared with PyTorch on real windows."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from packetclip_sensor.bundle import FILES, FORMAT, MANIFEST
from packetclip_sensor.records import MISSIONS
from packetclip_sensor.tokens import ROW_BYTES
from packetclip_sensor.windows import RELATIONS, VIEWS, Window
from training import texts
from training.data import CLASSES, Examples, TextTower
from training.knowledge import Graph
from training.model import FoldedGraph, PacketClip

OPSET = 17
INPUTS = ("embedding", "relations", "padding")


class EncoderGraph(nn.Module):
    """tokens (N, W) int32 to embedding (N, D)."""

    def __init__(self, model: PacketClip) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model.encode(tokens.long())


class ReasonerGraph(nn.Module):
    """embedding (B, A, D), relations (B, A, R), padding (B, A) to logits (B, M+1): what every window goes through."""

    def __init__(self, model: PacketClip) -> None:
        super().__init__()
        self.sensor, self.temporal = model.sensor, model.temporal
        with torch.no_grad():
            concepts = model.encode_text(model.concepts).split(model.sizes)
        ends = np.cumsum([graph.depth for graph in model.graphs])
        self.graphs = nn.ModuleList(
            FoldedGraph(graph, list(concepts[end - graph.depth : end])) for graph, end in zip(model.graphs, ends, strict=True)
        )

    def forward(self, embedding: Tensor, relations: Tensor, padding: Tensor) -> Tensor:
        sensor = self.sensor(embedding, relations).flatten(0, 1)
        frames = torch.cat([graph(sensor) for graph in self.graphs], dim=1)
        return self.temporal(frames.unflatten(0, (-1, padding.shape[1])), padding, last=True)[:, 0]


class ExplainerGraph(nn.Module):
    """The same with keep (B or 1, C), to logits, window embedding, node states and leaves: what an alert's explanation needs."""

    def __init__(self, model: PacketClip) -> None:
        super().__init__()
        self.model = model

    def forward(self, embedding: Tensor, relations: Tensor, padding: Tensor, keep: Tensor) -> tuple[Tensor, ...]:
        sensor = self.model.sensor(embedding, relations)
        logits, states, ends = self.model.reason(sensor, padding, keep, last=True)
        return logits[:, 0], self.model.window_embedding(sensor, padding), torch.cat(states, dim=2), torch.cat(ends, dim=2)


def export(
    model: PacketClip,
    graphs: list[Graph],
    tower: TextTower,
    out: Path,
    *,
    version: str,
    temperature: float,
    thresholds: dict[str, float],
    metrics: dict[str, float],
    examples: Examples,
    table_tokens: Tensor,
    data: dict[str, Any],
) -> float:
    """Write a bundle folder and return the largest difference between onnxruntime and PyTorch on 64 real windows.

    Raises:
        RuntimeError: the difference is above 1e-3; the bundle would not be the model that was measured.
    """
    model.eval()
    # A wrapper of its own would be in training mode, and exporting would put the model back into it.
    encoder, reasoner, explainer = EncoderGraph(model).eval(), ReasonerGraph(model).eval(), ExplainerGraph(model).eval()
    out.mkdir(parents=True, exist_ok=True)
    at = np.linspace(0, len(examples) - 1, 64).astype(np.int64)
    sample = examples.take(at)
    padding = sample.rows < 0
    tokens = table_tokens[sample.rows[~padding]].to(torch.int32)
    with torch.no_grad():
        embedding = torch.zeros(*sample.rows.shape, model.config.embedding)
        embedding[~padding] = encoder(tokens)
    window = (embedding, sample.relations, padding)
    keep = torch.ones(1, sum(model.sizes))
    differences = [
        _to_onnx(encoder, (tokens,), out / "encoder.onnx", {"tokens": "n"}, {"embedding": "n"}),
        _to_onnx(reasoner, window, out / "reasoner.onnx", dict.fromkeys(INPUTS, "b"), {"logits": "b"}),
        _to_onnx(
            explainer,
            (*window, keep),
            out / "explainer.onnx",
            dict.fromkeys(INPUTS, "b") | {"keep": "k"},
            dict.fromkeys(("logits", "window_embedding", "states", "arrived"), "b"),
        ),
    ]
    with torch.no_grad():
        differences.append(float((reasoner(*window) - explainer(*window, keep)[0]).abs().max()))
    print(
        f"largest difference of onnxruntime and PyTorch, and of the folded and the whole reasoner, on {len(sample)} windows: "
        f"{max(differences):.2e}"
    )
    if max(differences) > 1e-3:
        raise RuntimeError(f"the exported model differs from the trained one by {max(differences):.2e}; the bundle is not usable")

    _write_graphs(model, graphs, out / "graphs.json")
    _write_texts(model, tower, out / "texts.npz")
    manifest = {
        "format": FORMAT,
        "version": version,
        "sha256": {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in FILES},
        "row_bytes": ROW_BYTES,
        "relations": list(RELATIONS),
        "views": list(VIEWS),
        "window": {"packets": model.config.window, "seconds": Window().seconds, "min_packets": Window().min_packets},
        "classes": CLASSES,
        "missions": list(MISSIONS),
        "temperature": temperature,
        "thresholds": thresholds,
        "embedding": model.config.embedding,
        "model": model.config.as_dict(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "onnx_difference": max(differences),
        "metrics": metrics,
        "data": data,
    }
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    size = sum((out / name).stat().st_size for name in (*FILES, MANIFEST))
    print(f"bundle {out}: {size / 1e6:.2f} MB, version {version}")
    return max(differences)


def _to_onnx(module: nn.Module, inputs: tuple[Tensor, ...], path: Path, into: dict[str, str], outof: dict[str, str]) -> float:
    """Export with the first axis of every input and output free, run on `inputs`, and return the largest difference."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer doubts every Python number; the comparison below is the test
        torch.onnx.export(
            module, tuple(x[:5] for x in inputs), str(path), opset_version=OPSET, dynamo=False,
            input_names=list(into), output_names=list(outof),
            dynamic_axes={name: {0: axis} for name, axis in (into | outof).items()},
        )  # fmt: skip
    with torch.no_grad():
        expected = module(*inputs)
    found = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
        list(outof), {name: x.numpy() for name, x in zip(into, inputs, strict=True)}
    )
    expected = expected if isinstance(expected, tuple) else (expected,)
    return max(float(np.abs(a - b.numpy()).max()) for a, b in zip(found, expected, strict=True))


@torch.no_grad()
def _write_graphs(model: PacketClip, graphs: list[Graph], path: Path) -> None:
    concepts = model.encode_text(model.concepts).split(model.sizes)
    at, out = 0, []
    for graph, module in zip(graphs, model.graphs, strict=True):
        own = module.constants(list(concepts[at : at + module.depth]))
        at += module.depth
        out.append(
            {
                "mission": graph.mission,
                "levels": [list(level) for level in graph.levels],
                "edges": [list(e) for e in graph.edges],
                "leaves": graph.to_embedding(),
                "own": [[[round(float(x), 6) for x in row] for row in level] for level in own],
            }
        )
    path.write_text(json.dumps(out) + "\n")


@torch.no_grad()
def _write_texts(model: PacketClip, tower: TextTower, path: Path) -> None:
    """All texts of the bank with their embeddings, and each class's mean, from its texts and its prompts."""
    sentences: list[str] = []
    means = []
    for name in CLASSES:
        own = [*texts.TEXTS[name], *texts.class_prompts(name)]
        means.append(nn.functional.normalize(model.encode_text(tower(own)).mean(0), dim=0))
        sentences += texts.TEXTS[name]
    np.savez_compressed(
        path,
        texts=np.array(sentences),
        text_embeddings=model.encode_text(tower(sentences)).numpy().astype(np.float32),
        class_embeddings=torch.stack(means).numpy().astype(np.float32),
        logit_scale=np.float32(float(model.logit_scale)),
    )
