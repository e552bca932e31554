"""Losses, graphs and the folded reasoner against slow or literal references; a short training run from pairs to a bundle."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is only installed for training")

from torch.nn import functional as F  # noqa: E402

from packetclip_sensor.cli import app as cli  # noqa: E402
from packetclip_sensor.model.bundle import Bundle  # noqa: E402
from packetclip_sensor.windows.packet_features import RELATIONS  # noqa: E402
from packetclip_sensor.windows.tokens import MASK, PAD  # noqa: E402
from training.common import DataError  # noqa: E402
from training.data.sampling import masked  # noqa: E402
from training.data.windows import CLASSES, GROUP_OF_CLASS, Examples, load, split  # noqa: E402
from training.evaluate.altered_graphs import EVENTLESS, MUTE, SHUFFLED, SILENT, WAYS, altered  # noqa: E402
from training.fit import train  # noqa: E402
from training.fit.losses import contrastive_loss, paper_contrastive_loss, reasoner_loss  # noqa: E402
from training.model.config import TEXT_DIM, ModelConfig  # noqa: E402
from training.model.graphs import EventNodes, without_concepts  # noqa: E402
from training.model.inference import Reasoner  # noqa: E402
from training.model.packetclip import PacketClip  # noqa: E402
from training.text import knowledge  # noqa: E402

DATA = Path(__file__).parents[2] / "data"


def unit(rows: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


def test_contrastive_loss_is_its_definition() -> None:
    packets, texts = unit(5, 1), unit(5, 2)
    text_id, label = [0, 0, 1, 2, 3], [0, 0, 0, 1, 2]
    scale = 3.0

    def way(a: torch.Tensor, b: torch.Tensor) -> float:
        total = 0.0
        for i in range(5):
            allowed = [j for j in range(5) if text_id[j] == text_id[i] or label[j] != label[i]]
            denominator = sum(math.exp(scale * float(a[i] @ b[j])) for j in allowed)
            positives = [j for j in range(5) if text_id[j] == text_id[i]]
            total -= sum(math.log(math.exp(scale * float(a[i] @ b[j])) / denominator) for j in positives) / len(positives)
        return total / 5

    found = contrastive_loss(packets, texts, torch.tensor(scale), torch.tensor(text_id), torch.tensor(label))
    assert float(found) == pytest.approx((way(packets, texts) + way(texts, packets)) / 2)


def test_contrastive_gradient_is_the_numeric_one() -> None:
    packets, texts = unit(4, 3).requires_grad_(), unit(4, 4).requires_grad_()
    ids, labels = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 0, 1])
    assert torch.autograd.gradcheck(lambda p, t: contrastive_loss(p, t, torch.tensor(2.0), ids, labels), (packets, texts))


def test_paper_loss_leaves_the_positive_out_of_the_denominator() -> None:
    packets, texts = unit(3, 5), unit(3, 6)
    expected = 0.0
    for i in range(3):
        z = [4.0 * float(texts[i] @ packets[j]) for j in range(3)]
        expected -= z[i] - math.log(sum(math.exp(z[j]) for j in range(3) if j != i))
    assert float(paper_contrastive_loss(packets, texts, torch.tensor(4.0))) == pytest.approx(expected / 3)


def test_reasoner_loss_counts_no_padding() -> None:
    logits = torch.randn(2, 4, 3)
    padding = torch.tensor([[True, True, False, False], [False] * 4])
    other = logits.clone()
    other[0, :2] += 10
    target, weight = torch.tensor([1, 0]), torch.ones(3)
    assert torch.allclose(reasoner_loss(logits, target, padding, weight), reasoner_loss(other, target, padding, weight))


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


def test_graphs_altered_after_training_change_what_they_say_and_nothing_else(model: PacketClip) -> None:
    torch.manual_seed(1)
    sensor, padding = F.normalize(torch.randn(8, 6, 64), dim=-1), torch.zeros(8, 6, dtype=torch.bool)
    whole = model.logits(sensor, padding)
    said = {way: altered(model, knowledge.load_all(), way, 1) for way in WAYS}
    assert torch.equal(model.logits(sensor, padding), whole)
    logits = {way: other.logits(sensor, padding) for way, other in said.items()}
    assert all(not torch.allclose(found, whole, atol=1e-3) for found in logits.values())
    # Silent: every packet hears the same of the graphs, so only its place in the window tells them apart.
    mute = logits[MUTE]
    assert torch.allclose(mute, mute[:1].expand_as(mute), atol=1e-5)
    assert torch.allclose(logits[SILENT] - mute, model.evidence(sensor, padding).expand_as(mute), atol=1e-5)
    assert torch.allclose(logits[EVENTLESS] + model.evidence(sensor, padding), whole, atol=1e-5)
    for way in (SHUFFLED, MUTE):
        assert torch.equal(said[way].encode_text(model.concepts), model.encode_text(model.concepts))
    with pytest.raises(KeyError):
        altered(model, knowledge.load_all(), "graphs upside down", 1)


def test_a_window_like_the_texts_of_an_attack_speaks_for_its_mission(model: PacketClip) -> None:
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


def test_the_exported_reasoner_hears_the_events(model: PacketClip) -> None:
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


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of the test captures, made by the command that a trainer uses."""
    out = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    names = (
        "syn-hping syn-trafgen port-pnscan port-zmap dict-patator-ftp dict-nmap-ssh b00-startup-discovery b01-monitoring-rollout"
    )
    captures = [DATA / f"demo-{name}" for name in names.split()]
    assert cli.main(["pairs", *map(str, captures), "--out", str(out)]) == 0
    return out


def test_pairs_open_in_pandas_with_a_row_a_window(pairs: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(pairs)
    assert {"SYN Flood", "Port Scan", "Dictionary Attack", "Benign"} <= set(frame.label.dropna())
    assert frame.tokens.map(len).eq(30 * 128).all()
    assert frame.relations.map(len).eq(30 * 40).all()
    assert frame.packets.between(4, 30).all()
    assert frame.text.str.len().min() > 20
    assert not frame.text.str.contains("flood|attack|scan", case=False).any()  # the text of facts must not tell the label


def test_the_documentation_names_every_column_of_the_pairs(pairs: Path) -> None:
    import pyarrow.parquet as pq

    text = (Path(__file__).parents[3] / "docs" / "pairs.md").read_text()
    for name in pq.ParquetFile(pairs).schema_arrow.names:
        assert f"`{name}`" in text


def test_a_split_keeps_captures_whole(pairs: Path) -> None:
    examples = load([pairs])
    at_train, at_held = split(examples)
    assert set(examples.capture[at_train]).isdisjoint(examples.capture[at_held])
    assert len(at_train) + len(at_held) == len(examples)


def test_pairs_without_labels_are_refused(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    source = DATA / "demo-b00-startup-discovery" / "packetclip_packet.log.gz"
    (tmp_path / "logs" / "packetclip_packet.log.gz").write_bytes(source.read_bytes())
    out = tmp_path / "pairs.parquet"
    assert cli.main(["pairs", str(tmp_path / "logs"), "--out", str(out)]) == 0
    with pytest.raises(DataError, match="no labelled window"):
        load([out])


def test_masking_by_chance_leaves_padding_alone() -> None:
    tokens = torch.randint(0, 256, (50, 128))
    tokens[:, 60:] = PAD
    seen = masked(tokens, 0.5, torch.Generator().manual_seed(0))
    assert (seen[:, 60:] == PAD).all()
    assert 0.4 < (seen[:, :60] == MASK).float().mean() < 0.6


def test_a_short_training_run_makes_a_bundle_that_opens(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Words:
        """Stands in for the text tower: downloading or running it is not what is tested."""

        def __init__(self, *_: object) -> None: ...

        def __call__(self, sentences: list[str]) -> torch.Tensor:
            rows = [np.random.default_rng(abs(hash(s)) % 2**32).normal(size=TEXT_DIM) for s in sentences]
            return F.normalize(torch.tensor(np.array(rows), dtype=torch.float32), dim=1)

    monkeypatch.setattr(train, "TextEncoder", Words)
    settings = ("bytes.steps=2", "words.steps=2", "contrast.steps=3", "reason.steps=3")
    steps = [word for setting in settings for word in ("--set", setting)]
    assert train.main(["--pairs", str(pairs), "--out", str(tmp_path / "model"), *steps]) == 0
    bundle = Bundle.open(tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert manifest["onnx_difference"] < 1e-3
    assert set(bundle.manifest.thresholds) == {"DoS", "Reconnaissance", "Brute Force"}


def test_pairs_of_single_captures_cannot_be_calibrated(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(pairs)
    one = table.filter([c == "demo-syn-hping" for c in table["capture"].to_pylist()])
    pq.write_table(one, tmp_path / "one.parquet")
    assert train.main(["--pairs", str(tmp_path / "one.parquet"), "--out", str(tmp_path / "model")]) == 2
    assert "give the pairs of more captures" in capsys.readouterr().err


def test_training_without_pairs_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--pairs", str(tmp_path / "none.parquet"), "--out", str(tmp_path / "model")]) == 2
    assert "none.parquet" in capsys.readouterr().err


def test_examples_know_their_mission() -> None:
    examples = Examples(
        np.zeros((1, 128), np.uint16), torch.zeros(3, 30, dtype=torch.long), torch.zeros(3, 30, 40), torch.tensor([0, 5, 9]),
        np.array(["a", "b", "c"], object), np.array(["", "", ""], object), ["{}"] * 3,
        np.array(["pair", "source", "destination"], object),
    )  # fmt: skip
    assert examples.group.tolist() == [0, 1, 3]
