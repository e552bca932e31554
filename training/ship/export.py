"""Model to bundle: ONNX and JSON, each file with its hash, outputs compared with PyTorch on real windows."""

import json
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn

from packetclip_sensor.hunt.text_encoder import FILE
from packetclip_sensor.model.bundle import FILES, FORMAT, MANIFEST, OPTIONAL, sealed, softmax
from packetclip_sensor.model.encoder import ENCODE_ROWS
from packetclip_sensor.model.judge import REASON_WINDOWS
from packetclip_sensor.windows.packet_features import RELATIONS
from packetclip_sensor.windows.tokens import ROW_BYTES
from packetclip_sensor.windows.windows import TRAINED, VIEWS
from training.common import write_arrays, write_whole
from training.data.windows import CLASSES, Examples
from training.missions import ALL
from training.model.inference import Encoder, Explainer, Reasoner
from training.model.packetclip import PacketClip
from training.ship.calibration import ceilings
from training.ship.missions import described
from training.text import texts
from training.text.knowledge import Graph
from training.text.text_encoder import TextEncoder

OPSET = 17
COMPARED = 512
"""Held-out windows, spread evenly, on which onnxruntime is compared with PyTorch."""
MOST_LOGIT, MOST_PROBABILITY = 1e-3, 1e-4
"""Bounds of the largest differences; beyond them nothing is shipped."""
INPUTS = ("embedding", "relations", "padding")
ENCODER = "all-MiniLM-L6-v2"
KNOWN_EACH = 24
"""Training sentences of each class whose features are kept, to measure how near a question is to them."""
FAMILIAR_SHARE = 0.95
"""Share of the held-out sentences that count as familiar."""


def export(
    model: PacketClip,
    graphs: list[Graph],
    encode: TextEncoder,
    out: Path,
    *,
    version: str,
    temperature: float,
    thresholds: dict[str, float],
    metrics: dict[str, float],
    examples: Examples,
    data: dict[str, Any],
) -> None:
    """Write a bundle folder.

    Args:
        examples: held-out windows: the comparison and the ceilings are measured on them.
        metrics, data: what was measured and on what, for the manifest.
    Raises:
        RuntimeError: a difference to PyTorch is above its bound; the bundle would not be the model that was measured.
    """
    model.eval()
    # A wrapper of its own would be in training mode, and exporting would put the model back into it.
    encoder, reasoner, explainer = Encoder(model).eval(), Reasoner(model).eval(), Explainer(model).eval()
    out.mkdir(parents=True, exist_ok=True)
    at = np.unique(np.linspace(0, len(examples) - 1, COMPARED).astype(np.int64))
    sample = examples.take(at)
    padding = sample.rows < 0
    tokens = torch.from_numpy(examples.tokens[sample.rows[~padding].numpy()].astype(np.int32))
    with torch.no_grad():
        embedding = torch.zeros(*sample.rows.shape, model.config.embedding)
        embedding[~padding] = model.encode(tokens.long())
    window = (embedding, sample.relations, padding)
    keep = torch.ones(1, sum(model.sizes))
    explained = ("logits", "window_embedding", "states", "arrived")
    differences = [
        _to_onnx(encoder, (tokens,), out / "encoder.onnx", {"tokens": "n"}, {"embedding": "n"}),
        _to_onnx(reasoner, window, out / "reasoner.onnx", dict.fromkeys(INPUTS, "b"), {"logits": "b"}, any_length=True),
        _to_onnx(
            explainer,
            (*window, keep),
            out / "explainer.onnx",
            dict.fromkeys(INPUTS, "b") | {"keep": "k"},
            dict.fromkeys(explained, "b"),
        ),
    ]
    with torch.no_grad():
        logits = reasoner(*window)
        differences.append(float((logits - explainer(*window, keep)[0]).abs().max()))
    probabilities = softmax(_onnx_logits(out, examples), temperature)
    moved = float(np.abs(probabilities[at] - softmax(logits.numpy(), temperature)).max())
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
    _write_texts(model, encode, out / "texts.npz")
    write_text_encoder(model.text_head.weight.detach().T.cpu().numpy(), encode, out)
    manifest = {
        "format": FORMAT,
        "version": version,
        "row_bytes": ROW_BYTES,
        "relations": list(RELATIONS),
        "views": list(VIEWS),
        "window": asdict(replace(TRAINED, packets=model.config.window)),
        "classes": CLASSES,
        "missions": described(ALL),
        "temperature": temperature,
        "thresholds": thresholds,
        "ceilings": ceilings(probabilities, examples.group.numpy(), examples.capture, thresholds),
        "embedding": model.config.embedding,
        "model": model.config.as_dict(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "onnx_difference": max(differences),
        "onnx_difference_of_probabilities": moved,
        "metrics": metrics,
        "data": data,
    }
    write_whole(out / MANIFEST, json.dumps(sealed(manifest, out), indent=1) + "\n")
    size = sum((out / name).stat().st_size for name in (*FILES, *OPTIONAL, MANIFEST) if (out / name).exists())
    print(f"bundle {out}: {size / 1e6:.2f} MB, version {version}")


def _to_onnx(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    path: Path,
    into: dict[str, str],
    outof: dict[str, str],
    *,
    any_length: bool = False,
) -> float:
    """Export with the first axis of every input and output free, with `any_length` the second of inputs too; run on `inputs`, and
    return the largest difference."""
    free = {name: {0: axis, 1: "a"} if any_length else {0: axis} for name, axis in into.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer doubts every Python number; the comparison below is the test
        torch.onnx.export(
            module, tuple(x[:5] for x in inputs), str(path), opset_version=OPSET, dynamo=False,
            input_names=list(into), output_names=list(outof),
            dynamic_axes=free | {name: {0: axis} for name, axis in outof.items()},
        )  # fmt: skip
    with torch.no_grad():
        expected = module(*inputs)
    found = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
        list(outof), {name: x.numpy() for name, x in zip(into, inputs, strict=True)}
    )
    expected = expected if isinstance(expected, tuple) else (expected,)
    return max(float(np.abs(a - b.numpy()).max()) for a, b in zip(found, expected, strict=True))


def _onnx_logits(out: Path, examples: Examples) -> npt.NDArray[np.float32]:
    """(N, M+1) logits of windows by the exported encoder and reasoner alone, with sessions as the sensor has them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    encoder, reasoner = (
        onnxruntime.InferenceSession(str(out / name), options, providers=["CPUExecutionProvider"])
        for name in ("encoder.onnx", "reasoner.onnx")
    )
    rows = examples.rows.numpy()
    used = np.unique(rows[rows >= 0])
    parts = np.split(examples.tokens[used].astype(np.int32), range(ENCODE_ROWS, len(used), ENCODE_ROWS))
    table = np.concatenate([encoder.run(["embedding"], {"tokens": part})[0] for part in parts])
    logits = []
    for start in range(0, len(examples), REASON_WINDOWS):
        here = rows[start : start + REASON_WINDOWS]
        padding = here < 0
        embedding = np.zeros((*here.shape, table.shape[1]), np.float32)
        embedding[~padding] = table[np.searchsorted(used, here[~padding])]
        inputs = (embedding, examples.relations[start : start + REASON_WINDOWS].numpy(), padding)
        logits.append(reasoner.run(["logits"], dict(zip(INPUTS, inputs, strict=True)))[0])
    return np.concatenate(logits)


@torch.no_grad()
def _write_graphs(model: PacketClip, graphs: list[Graph], path: Path) -> None:
    concepts = model.encode_text(model.concepts).split(model.sizes)
    out = [
        {
            "mission": graph.mission,
            "levels": [list(level) for level in graph.levels],
            "edges": [list(e) for e in graph.edges],
            "leaves": graph.to_embedding(),
            "own": [[[round(float(x), 6) for x in row] for row in level] for level in module.constants(list(concepts[levels]))],
        }
        for graph, (module, levels) in zip(graphs, model.by_mission(), strict=True)
    ]
    path.write_text(json.dumps(out) + "\n")


@torch.no_grad()
def _write_texts(model: PacketClip, encode: TextEncoder, path: Path) -> None:
    """All texts of the bank with their embeddings, and each class's mean, from its texts and its prompts."""
    sentences = [text for name in CLASSES for text in texts.TEXTS[name]]
    means = model.class_means(encode([*texts.TEXTS[name], *texts.class_prompts(name)]) for name in CLASSES)
    write_arrays(
        path,
        compressed=True,
        texts=np.array(sentences),
        text_embeddings=model.encode_text(encode(sentences)).numpy().astype(np.float32),
        class_embeddings=means.numpy().astype(np.float32),
        logit_scale=np.float32(float(model.logit_scale)),
    )


def write_text_encoder(head: npt.NDArray[np.float32], encode: TextEncoder, out: Path) -> bool:
    """Write what a sensor needs to embed sentences; False, and no file, where the text encoder is not one that a sensor can run.

    Args:
        head: (T, D), features to embedding before the norm.
    """
    path = out / FILE
    vocabulary = getattr(encode, "wordpieces", lambda: None)()
    if vocabulary is None:
        path.unlink(missing_ok=True)
        return False
    known = [s for name in CLASSES for s in texts.spread([*texts.TEXTS[name], *texts.class_prompts(name)], KNOWN_EACH)]
    held = [s for name in CLASSES for s in texts.held_out(name).all]
    features = encode([*known, *held]).numpy()
    trained, asked = features[: len(known)], features[len(known) :]
    likeness = (asked @ trained.T).max(1)
    probes = held[:: max(1, len(held) // 4)][:4]
    write_arrays(
        path,
        compressed=True,
        head=head.astype(np.float32),
        vocabulary=np.frombuffer("\n".join(vocabulary).encode(), np.uint8),
        encoder=np.array(ENCODER),
        probes=np.array(probes),
        probe_features=encode(probes).numpy().astype(np.float32),
        known=np.array(known),
        known_features=np.round(trained / np.abs(trained).max() * 127).astype(np.int8),
        familiar=np.float32(np.quantile(likeness, 1 - FAMILIAR_SHARE)),
    )
    return True
