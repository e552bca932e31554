"""Export: what is shipped is what was measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tiny import Words
from untrained import LENGTH, examples, features, untrained

from packetclip_sensor.hunt.text_encoder import FILE
from packetclip_sensor.model.bundle import MANIFEST, Bundle
from packetclip_sensor.model.encoder import EQUAL_ROWS
from packetclip_sensor.windows.packet_features import RELATIONS
from packetclip_sensor.windows.tokens import MASK, PAD, ROW_BYTES
from training.data.windows import CLASSES
from training.model.config import ModelConfig
from training.model.packetclip import PacketClip
from training.ship import export
from training.text import knowledge


@pytest.fixture(scope="module")
def model() -> PacketClip:
    return untrained(ModelConfig(window=LENGTH))


def exported(model: PacketClip, out: Path) -> dict[str, object]:
    """Export with 48 windows of 6 captures: benign, a flood, a port scan."""
    thresholds = {"DoS": 0.0, "Reconnaissance": 0.0, "Brute Force": 0.9}
    export.export(
        model, knowledge.load_all(), features, out, version="9", temperature=2.0, thresholds=thresholds, metrics={},
        examples=examples([0, 6, 3] * 2, 8), data={},
    )  # fmt: skip
    return json.loads((out / MANIFEST).read_text())


@pytest.fixture(scope="module")
def bundle(model: PacketClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real export; the tests below it exchange single steps."""
    out = tmp_path_factory.mktemp("export") / "model"
    exported(model, out)
    return out


@pytest.fixture
def ready(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports again take the ONNX files that are there."""

    def copied(module: object, inputs: object, path: Path, *names: object, **options: object) -> float:
        shutil.copyfile(bundle / path.name, path)
        return 1e-6

    monkeypatch.setattr(export, "_to_onnx", copied)


def test_the_manifest_tells_the_differences_and_a_ceiling_for_each_mission_with_attacks(
    bundle: Path, ready: None, model: PacketClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(model, tmp_path / "again")
    assert "onnxruntime against PyTorch on 48 windows of 6 captures, folded and whole: largest" in capsys.readouterr().out
    manifest = json.loads((bundle / MANIFEST).read_text())
    assert 0 < manifest["onnx_difference"] < 1e-3
    assert manifest["onnx_difference_of_probabilities"] < 1e-4
    assert set(manifest["ceilings"]) == {"DoS", "Reconnaissance"}
    assert Bundle.open(bundle).manifest.ceilings == manifest["ceilings"]


def test_a_short_window_needs_no_padding(bundle: Path) -> None:
    reasoner = Bundle.open(bundle)
    rng = np.random.default_rng(1)
    embedding = rng.normal(size=(3, LENGTH, 64)).astype(np.float32)
    relations = rng.random((3, LENGTH, len(RELATIONS)), np.float32)
    padding = np.arange(LENGTH) < np.array([[2], [3], [4]])
    inputs = {"embedding": embedding, "relations": relations, "padding": padding}
    whole = reasoner.reasoner.run(["logits"], inputs)[0]
    np.testing.assert_allclose(reasoner.logits(**inputs), whole, atol=1e-5)
    short = {name: each[:, 2:] for name, each in inputs.items()}
    np.testing.assert_allclose(reasoner.reasoner.run(["logits"], short)[0], whole, atol=1e-5)


def test_concepts_that_are_taken_away_of_one_graph_or_of_several_leave_what_the_whole_model_leaves(
    bundle: Path, model: PacketClip
) -> None:
    rng = np.random.default_rng(2)
    concepts, last = sum(model.sizes), [end - 1 for end in np.cumsum(model.sizes).tolist()]
    keep = np.ones((concepts + 3, concepts), np.float32)
    keep[1 : concepts + 1] -= np.eye(concepts, dtype=np.float32)
    keep[concepts + 1, [0, *last]] = 0.0
    keep[concepts + 2] = 0.0
    window = {
        "embedding": rng.normal(size=(1, LENGTH, 64)).astype(np.float32),
        "relations": rng.random((1, LENGTH, len(RELATIONS)), np.float32),
        "padding": np.arange(LENGTH)[None] < 1,
    }
    found = Bundle.open(bundle).explainer.run(["logits"], window | {"keep": keep})[0]
    embedding, relations, padding = map(torch.from_numpy, window.values())
    with torch.no_grad():
        sensor = model.eval().sensor(embedding, relations)
        whole = [model.reason(sensor, padding, torch.from_numpy(row[None]), last=True)[0][0, 0] for row in keep]
    np.testing.assert_allclose(found, torch.stack(whole).numpy(), atol=1e-4)
    assert len(np.unique(found.round(5), axis=0)) > concepts / 2


def test_rows_are_encoded_as_in_training_and_none_by_its_neighbours(bundle: Path, model: PacketClip) -> None:
    rng = np.random.default_rng(3)
    tokens = rng.integers(0, MASK + 1, (12, ROW_BYTES), np.int32)
    for row, length in zip(tokens, rng.integers(20, ROW_BYTES + 1, 12), strict=True):
        row[row == PAD], row[length:] = MASK, PAD
    run = Bundle.open(bundle).encoder.run
    found = run(["embedding"], {"tokens": tokens})[0]
    with torch.no_grad():
        np.testing.assert_allclose(found, model.encode(torch.from_numpy(tokens).long()).numpy(), atol=1e-6)
    for start in range(0, 12, EQUAL_ROWS):
        some = slice(start, start + EQUAL_ROWS)
        np.testing.assert_array_equal(run(["embedding"], {"tokens": tokens[some]})[0], found[some])


@pytest.mark.parametrize("name", ["reasoner.onnx", "explainer.onnx"])
def test_event_nodes_are_exported_without_their_sentences(name: str, bundle: Path, model: PacketClip) -> None:
    graph = onnx.load(bundle / name).graph
    constants = (a.t for node in graph.node if node.op_type == "Constant" for a in node.attribute)
    shapes = [tuple(tensor.dims) for tensor in (*graph.initializer, *constants)]
    assert tuple(model.events.sentences.shape) not in shapes
    assert {(len(CLASSES), model.config.embedding), (model.config.embedding, len(CLASSES))} & set(shapes)


@pytest.mark.parametrize("bound", ["MOST_LOGIT", "MOST_PROBABILITY"])
def test_an_export_that_differs_from_the_model_is_refused(
    bound: str, ready: None, model: PacketClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, bound, 0.0)
    with pytest.raises(RuntimeError, match=r"the exported model differs .* the bundle is not usable"):
        exported(model, tmp_path / "model")
    assert not (tmp_path / "model" / MANIFEST).exists()


class Worded(Words):
    """An encoder that the sensor can run."""

    def wordpieces(self) -> list[str]:
        return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "packet", "##s"]


def test_the_file_holds_head_vocabulary_probes_and_taught_sentences(tmp_path: Path) -> None:
    head = np.random.default_rng(1).normal(size=(Words.width, 8)).astype(np.float32)
    encode = Worded()
    assert export.write_text_encoder(head, encode, tmp_path)
    with np.load(tmp_path / FILE, allow_pickle=False) as arrays:
        made = {name: arrays[name] for name in arrays}
    assert np.array_equal(made["head"], head)
    assert made["vocabulary"].tobytes().decode().split("\n")[4:] == ["packet", "##s"]
    assert made["known"].shape == (10 * export.KNOWN_EACH,)
    kept = made["known_features"].astype(np.float32)
    wanted = encode(made["known"].tolist()).numpy()
    assert ((kept / np.linalg.norm(kept, axis=1, keepdims=True)) * wanted).sum(1).min() > 0.999
    assert np.allclose(encode(made["probes"].tolist()).numpy(), made["probe_features"])
    assert -1 < float(made["familiar"]) < 1


def test_a_model_of_another_text_encoder_has_no_file_and_leaves_no_older_one(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"of the model before")
    assert not export.write_text_encoder(np.zeros((12, 8), np.float32), Words(), tmp_path)
    assert not (tmp_path / FILE).exists()
