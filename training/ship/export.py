"""Model to bundle: ONNX and JSON, each file with its hash, outputs compared with PyTorch on real windows."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn

from packetclip_sensor.model.bundle import FILES, FORMAT, MANIFEST, OPTIONAL, sealed
from packetclip_sensor.model.encoder import ENCODE_ROWS
from packetclip_sensor.model.judge import REASON_WINDOWS
from packetclip_sensor.windows.packet_features import RELATIONS
from packetclip_sensor.windows.tokens import ROW_BYTES
from packetclip_sensor.windows.windows import VIEWS, Window
from training.data.windows import CLASSES, GROUPS, Examples, TextTower
from training.missions import ALL
from training.model.graph_inference import FoldedGraph
from training.model.packetclip import PacketClip
from training.ship.missions import described
from training.text import text_encoder, texts
from training.text.knowledge import Graph

OPSET = 17
COMPARED = 512
"""Held-out windows, spread evenly, on which onnxruntime is compared with PyTorch."""
MOST_LOGIT, MOST_PROBABILITY = 1e-3, 1e-4
"""Bounds of the largest differences; beyond them nothing is shipped."""
KEPT_ATTACKS = 0.8
"""Share of the held-out attack captures told at the threshold that are told at the ceiling too."""
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
        self.model = model
        self.register_buffer("nodes", _event_nodes(model))
        with torch.no_grad():
            concepts = model.encode_text(model.concepts).split(model.sizes)
        ends = np.cumsum([graph.depth for graph in model.graphs])
        self.graphs = nn.ModuleList(
            FoldedGraph(graph, list(concepts[end - graph.depth : end])) for graph, end in zip(model.graphs, ends, strict=True)
        )

    def forward(self, embedding: Tensor, relations: Tensor, padding: Tensor) -> Tensor:
        sensor = self.model.sensor(embedding, relations)
        packets = sensor.flatten(0, 1)
        frames = torch.cat([graph(packets) for graph in self.graphs], dim=1)
        logits = self.model.temporal(frames.unflatten(0, (-1, padding.shape[1])), padding, last=True)
        return (logits + self.model.evidence(sensor, padding, nodes=self.nodes))[:, 0]


class ExplainerGraph(nn.Module):
    """The same with keep (B or 1, C), to logits, window embedding, node states and leaves: what an alert's explanation needs."""

    def __init__(self, model: PacketClip) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("nodes", _event_nodes(model))

    def forward(self, embedding: Tensor, relations: Tensor, padding: Tensor, keep: Tensor) -> tuple[Tensor, ...]:
        sensor = self.model.sensor(embedding, relations)
        logits, states, ends = self.model.reason(sensor, padding, keep, last=True, nodes=self.nodes)
        return logits[:, 0], self.model.window_embedding(sensor, padding), torch.cat(states, dim=2), torch.cat(ends, dim=2)


@torch.no_grad()
def _event_nodes(model: PacketClip) -> Tensor | None:
    """The nodes, so that no file holds the hundreds of sentences that they are made of."""
    return None if model.events is None else model.event_nodes()


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
    data: dict[str, Any],
) -> float:
    """Write a bundle folder and return the largest difference of logits between onnxruntime and PyTorch on real windows.

    Args:
        examples: held-out windows: the comparison and the ceilings are measured on them.
    Raises:
        RuntimeError: the difference is above a bound; the bundle would not be the model that was measured.
    """
    model.eval()
    # A wrapper of its own would be in training mode, and exporting would put the model back into it.
    encoder, reasoner, explainer = EncoderGraph(model).eval(), ReasonerGraph(model).eval(), ExplainerGraph(model).eval()
    out.mkdir(parents=True, exist_ok=True)
    at = np.unique(np.linspace(0, len(examples) - 1, COMPARED).astype(np.int64))
    sample = examples.take(at)
    padding = sample.rows < 0
    tokens = torch.from_numpy(examples.tokens[sample.rows[~padding].numpy()].astype(np.int32))
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
    with torch.no_grad():
        expected = softmax(reasoner(*window).numpy(), temperature)
    found = softmax(_chained(out, tokens.numpy(), sample.relations, padding), temperature)
    moved = float(np.abs(found - expected).max())
    print(
        f"onnxruntime against PyTorch on {len(sample)} windows of {len(set(sample.capture))} captures, folded and whole: "
        f"largest difference of outputs {max(differences):.2e}, of probabilities {moved:.2e}"
    )
    if max(differences) > MOST_LOGIT or moved > MOST_PROBABILITY:
        raise RuntimeError(
            f"the exported model differs from the trained one: outputs by {max(differences):.2e} (at most {MOST_LOGIT:g}), "
            f"probabilities by {moved:.2e} (at most {MOST_PROBABILITY:g}); the bundle is not usable"
        )

    _write_graphs(model, graphs, out / "graphs.json")
    _write_texts(model, tower, out / "texts.npz")
    text_encoder.write(model.text_head.weight.detach().T.cpu().numpy(), tower, out)
    ceilings = _ceilings(out, examples, temperature, thresholds)
    manifest = {
        "format": FORMAT,
        "version": version,
        "row_bytes": ROW_BYTES,
        "relations": list(RELATIONS),
        "views": list(VIEWS),
        "window": asdict(Window(packets=model.config.window)),
        "classes": CLASSES,
        "missions": described(ALL),
        "temperature": temperature,
        "thresholds": thresholds,
        "ceilings": ceilings,
        "embedding": model.config.embedding,
        "model": model.config.as_dict(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "onnx_difference": max(differences),
        "onnx_difference_of_probabilities": moved,
        "metrics": metrics,
        "data": data,
    }
    (out / MANIFEST).write_text(json.dumps(sealed(manifest, out), indent=1) + "\n")
    size = sum((out / name).stat().st_size for name in (*FILES, *OPTIONAL, MANIFEST) if (out / name).exists())
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


def softmax(logits: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float64]:
    """(N, M+1) logits to probabilities, as the sensor calibrates them."""
    z = logits.astype(np.float64) / temperature
    z = np.exp(z - z.max(1, keepdims=True))
    probabilities: npt.NDArray[np.float64] = z / z.sum(1, keepdims=True)
    return probabilities


def _session(path: Path) -> onnxruntime.InferenceSession:
    """A session as the sensor has it: one thread on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _encode(encoder: onnxruntime.InferenceSession, tokens: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """(U, W) token rows to (U, D) embeddings."""
    parts = np.split(tokens.astype(np.int32), range(ENCODE_ROWS, len(tokens), ENCODE_ROWS))
    return np.concatenate([encoder.run(["embedding"], {"tokens": part})[0] for part in parts])


def _rows_of(examples: Examples) -> npt.NDArray[np.int64]:
    """The distinct token rows of the windows, ascending."""
    rows = examples.rows.numpy()
    return np.unique(rows[rows >= 0])


def _windows_of(
    examples: Examples, table: npt.NDArray[np.float32], used: npt.NDArray[np.int64]
) -> Iterator[dict[str, npt.NDArray[np.generic]]]:
    """The reasoner's inputs; `table` holds the embeddings of the token rows `used`, ascending."""
    for start in range(0, len(examples), REASON_WINDOWS):
        rows = examples.rows[start : start + REASON_WINDOWS].numpy()
        padding = rows < 0
        embedding = np.zeros((*rows.shape, table.shape[1]), np.float32)
        embedding[~padding] = table[np.searchsorted(used, rows[~padding])]
        yield {
            "embedding": embedding,
            "relations": examples.relations[start : start + REASON_WINDOWS].numpy(),
            "padding": padding,
        }


def _chained(out: Path, tokens: npt.NDArray[np.uint16], relations: Tensor, padding: Tensor) -> npt.NDArray[np.float32]:
    """(N, M+1) logits of windows by the exported encoder and reasoner alone; `tokens` (P, W) are those of the real packets."""
    embedding = _encode(_session(out / "encoder.onnx"), tokens)
    whole = np.zeros((*padding.shape, embedding.shape[1]), np.float32)
    whole[~padding.numpy()] = embedding
    inputs = {"embedding": whole, "relations": relations.numpy(), "padding": padding.numpy()}
    logits: npt.NDArray[np.float32] = _session(out / "reasoner.onnx").run(["logits"], inputs)[0]
    return logits


def _ceilings(out: Path, examples: Examples, temperature: float, thresholds: dict[str, float]) -> dict[str, float]:
    """How far a site may raise each mission's threshold: KEPT_ATTACKS of the captures told at the threshold still are.

    A mission without held-out attacks that are told gets none.
    """
    used = _rows_of(examples)
    table = _encode(_session(out / "encoder.onnx"), examples.tokens[used])
    reasoner = _session(out / "reasoner.onnx")
    logits = np.concatenate([reasoner.run(["logits"], part)[0] for part in _windows_of(examples, table, used)])
    probabilities, group = softmax(logits, temperature), examples.group.numpy()
    found = {}
    for i, mission in enumerate(GROUPS[1:], 1):
        own = group == i
        peaks = np.array([probabilities[own & (examples.capture == c), i].max() for c in sorted(set(examples.capture[own]))])
        told = peaks[peaks >= thresholds[mission]]
        if len(told):
            found[mission] = float(np.quantile(told, 1 - KEPT_ATTACKS, method="lower"))
    return found


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
    sentences = [text for name in CLASSES for text in texts.TEXTS[name]]
    means = model.class_means(tower([*texts.TEXTS[name], *texts.class_prompts(name)]) for name in CLASSES)
    np.savez_compressed(
        path,
        texts=np.array(sentences),
        text_embeddings=model.encode_text(tower(sentences)).numpy().astype(np.float32),
        class_embeddings=means.numpy().astype(np.float32),
        logit_scale=np.float32(float(model.logit_scale)),
    )
