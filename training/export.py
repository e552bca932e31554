"""Model to bundle: ONNX and JSON, each file with its hash, outputs compared with PyTorch on real windows."""

from __future__ import annotations

import hashlib
import json
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
from training.model import PacketClip

OPSET = 17


class EncoderGraph(nn.Module):
    """tokens (N, W) int32 to embedding (N, D)."""

    def __init__(self, model: PacketClip) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model.encode(tokens.long())


class ReasonerGraph(nn.Module):
    """embedding (B, A, D), relations (B, A, R), padding (B, A), keep (B or 1, C) to logits, window embedding, node states and leaves."""

    def __init__(self, model: PacketClip) -> None:
        super().__init__()
        self.model = model

    def forward(self, embedding: Tensor, relations: Tensor, padding: Tensor, keep: Tensor) -> tuple[Tensor, ...]:
        sensor = self.model.sensor(embedding, relations)
        logits, states, ends = self.model.reason(sensor, padding, keep)
        return logits[:, -1], self.model.window_embedding(sensor, padding), torch.cat(states, dim=2), torch.cat(ends, dim=2)


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
    # A wrapper of its own would be in training mode, and exporting would put the model back into it.
    encoder, reasoner = EncoderGraph(model).eval(), ReasonerGraph(model).eval()
    out.mkdir(parents=True, exist_ok=True)
    at = np.linspace(0, len(examples) - 1, 64).astype(np.int64)
    sample = examples.take(at)
    padding = sample.rows < 0
    tokens = table_tokens[sample.rows[~padding]].to(torch.int32)
    with torch.no_grad():
        embedding = torch.zeros(*sample.rows.shape, model.config.embedding)
        embedding[~padding] = encoder(tokens)
    keep = torch.ones(1, sum(model.sizes))
    torch.onnx.export(
        encoder,
        (tokens[:3],),
        str(out / "encoder.onnx"),
        opset_version=OPSET,
        dynamo=False,
        input_names=["tokens"],
        output_names=["embedding"],
        dynamic_axes={"tokens": {0: "n"}, "embedding": {0: "n"}},
    )
    inputs = (embedding, sample.relations, padding, keep)
    torch.onnx.export(
        reasoner,
        tuple(x[:5] if i < 3 else x for i, x in enumerate(inputs)),
        str(out / "reasoner.onnx"),
        opset_version=OPSET,
        dynamo=False,
        input_names=["embedding", "relations", "padding", "keep"],
        output_names=["logits", "window_embedding", "states", "arrived"],
        dynamic_axes={
            name: {0: "b"} for name in ("embedding", "relations", "padding", "logits", "window_embedding", "states", "arrived")
        }
        | {"keep": {0: "k"}},
    )
    with torch.no_grad():
        expected = reasoner(*inputs)
        encoded = encoder(tokens)
    run_encoder = onnxruntime.InferenceSession(str(out / "encoder.onnx"), providers=["CPUExecutionProvider"])
    run_reasoner = onnxruntime.InferenceSession(str(out / "reasoner.onnx"), providers=["CPUExecutionProvider"])
    found = run_reasoner.run(
        None, {n: x.numpy() for n, x in zip(("embedding", "relations", "padding", "keep"), inputs, strict=True)}
    )
    differences = [float(np.abs(run_encoder.run(None, {"tokens": tokens.numpy()})[0] - encoded.numpy()).max())]
    differences += [float(np.abs(a - b.numpy()).max()) for a, b in zip(found, expected, strict=True)]
    print(f"largest difference of onnxruntime and PyTorch on {len(sample)} windows: {max(differences):.2e}")
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
