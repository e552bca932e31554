"""The whole model: evidence of attacks' texts, padding, altered graphs, and the form that is exported."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from packetclip_sensor.windows.packet_features import RELATIONS
from packetclip_sensor.windows.tokens import ROW_BYTES, VOCABULARY
from training.data.windows import CLASSES, GROUP_OF_CLASS
from training.evaluate.altered_graphs import EVENTLESS, MUTE, SHUFFLED, SILENT, WAYS, altered
from training.model.config import TEXT_DIM, ModelConfig
from training.model.graphs import EventNodes, without_concepts
from training.model.inference import Reasoner
from training.model.packetclip import PacketClip
from training.text import knowledge


@pytest.fixture(scope="module")
def model() -> PacketClip:
    """An untrained model with batch statistics of random packets."""
    torch.manual_seed(0)
    graphs = knowledge.load_all()
    concepts = torch.randn(sum(len(level) for g in graphs for level in g.levels), TEXT_DIM)
    events = EventNodes([torch.randn(3, TEXT_DIM) for _ in CLASSES], GROUP_OF_CLASS, 1.0)
    made = PacketClip(graphs, concepts, ModelConfig(window=6), events=events)
    made.train()
    for _ in range(5):
        made.reason(torch.randn(16, 6, 64), torch.zeros(16, 6, dtype=torch.bool))
    return made.eval()


def test_graphs_altered_after_training_change_their_part_and_nothing_else(model: PacketClip) -> None:
    torch.manual_seed(1)
    sensor, padding = F.normalize(torch.randn(8, 6, 64), dim=-1), torch.zeros(8, 6, dtype=torch.bool)
    whole = model.logits(sensor, padding)
    models = {way: altered(model, knowledge.load_all(), way, 1) for way in WAYS}
    assert torch.equal(model.logits(sensor, padding), whole)
    logits = {way: other.logits(sensor, padding) for way, other in models.items()}
    assert all(not torch.allclose(found, whole, atol=1e-3) for found in logits.values())
    # Silent: every packet gets the same of the graphs, so only its place in the window tells them apart.
    mute = logits[MUTE]
    assert torch.allclose(mute, mute[:1].expand_as(mute), atol=1e-5)
    assert torch.allclose(logits[SILENT] - mute, model.evidence(sensor, padding).expand_as(mute), atol=1e-5)
    assert torch.allclose(logits[EVENTLESS] + model.evidence(sensor, padding), whole, atol=1e-5)
    for way in (SHUFFLED, MUTE):
        assert torch.equal(models[way].encode_text(model.concepts), model.encode_text(model.concepts))
    with pytest.raises(KeyError):
        altered(model, knowledge.load_all(), "graphs upside down", 1)


def test_a_window_like_the_texts_of_an_attack_is_evidence_for_its_mission(model: PacketClip) -> None:
    nodes = model.event_nodes()
    evidence = model.events(nodes, nodes)
    assert evidence.argmax(1).tolist() == GROUP_OF_CLASS
    assert torch.allclose(evidence.exp().sum(1), torch.ones(len(CLASSES)))
    assert torch.allclose(EventNodes([torch.randn(2, 4)] * len(CLASSES), GROUP_OF_CLASS, 0.5)(nodes, nodes), evidence / 2)


def test_a_concept_taken_away_leaves_the_window_nothing_of_it() -> None:
    concepts = torch.eye(5)[:3]
    concepts = torch.cat([concepts, concepts[:1]])
    window = torch.nn.functional.normalize(torch.tensor([[0.6, 0.3, -0.4, 0.5, 0.1]]), dim=1)
    assert torch.allclose(without_concepts(window, concepts, torch.ones(1, 4)), window)
    keep = 1 - torch.tensor([[1.0, 0, 0, 0], [0, 0, 1, 0], [1, 1, 0, 0], [1, 0, 0, 1]])
    one, against, both, twice = without_concepts(window.expand(4, -1), concepts, keep)
    assert float(one[0]) == pytest.approx(0, abs=1e-6)
    assert one[1] / one[3] == pytest.approx(0.6)
    assert torch.allclose(against, window[0])  # nothing in common with it
    assert torch.allclose(both[:2], torch.zeros(2), atol=1e-6)
    assert torch.allclose(twice, one)  # two that are alike count once


def test_the_exported_reasoner_has_the_evidence_of_texts(model: PacketClip) -> None:
    embedding, relations = torch.randn(4, 6, 64), torch.rand(4, 6, len(RELATIONS))
    padding = torch.zeros(4, 6, dtype=torch.bool)
    padding[:2, :3] = True
    sensor = model.sensor(embedding, relations)
    whole = model.reason(sensor, padding, last=True)[0][:, 0]
    evidence = model.evidence(sensor, padding)[:, 0]
    assert evidence.std(1).min() > 1e-3
    assert torch.allclose(Reasoner(model).eval()(embedding, relations, padding), whole, atol=1e-5)
    assert torch.allclose(model.logits(sensor, padding)[:, -1], whole, atol=1e-5)


def test_every_concept_reaches_the_embedding_node(model: PacketClip) -> None:
    sensor, padding = torch.randn(4, 6, 64), torch.zeros(4, 6, dtype=torch.bool)
    keep = torch.ones(1, sum(model.sizes), requires_grad=True)
    logits, _, _ = model.reason(sensor, padding, keep)
    logits.square().sum().backward()
    assert keep.grad is not None
    assert (keep.grad.abs() > 0).all()


def test_padding_changes_nothing(model: PacketClip) -> None:
    sensor = torch.randn(3, 6, 64)
    padding = torch.zeros(3, 6, dtype=torch.bool)
    padding[:, :2] = True
    other = sensor.clone()
    other[:, :2] = 99.0
    one, _, _ = model.reason(sensor, padding, last=True)
    two, _, _ = model.reason(other, padding, last=True)
    assert torch.allclose(one, two, atol=1e-5)


def test_only_the_last_position_is_the_last_of_all(model: PacketClip) -> None:
    sensor, padding = torch.randn(3, 6, 64), torch.zeros(3, 6, dtype=torch.bool)
    whole, _, _ = model.reason(sensor, padding)
    last, _, _ = model.reason(sensor, padding, last=True)
    assert torch.allclose(whole[:, -1:], last, atol=1e-5)


def test_a_packet_has_unit_norm(model: PacketClip) -> None:
    rows = torch.randint(0, VOCABULARY, (8, ROW_BYTES))
    assert torch.allclose(model.encode(rows).norm(dim=1), torch.ones(8))
