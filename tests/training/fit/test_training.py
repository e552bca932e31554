"""Losses against slow or literal references; a short training run from pairs to a bundle."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from tiny import Words
from torch.nn import functional as F

from packetclip_sensor.cli import app as cli
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.windows.tokens import MASK, PAD
from training.common import DataError
from training.data.sampling import masked
from training.data.windows import load, split
from training.fit import train
from training.fit.losses import contrastive_loss, paper_contrastive_loss, reasoner_loss

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
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of the test captures, made by the command that a trainer uses."""
    out = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    names = (
        "syn-hping syn-trafgen port-pnscan port-zmap dict-patator-ftp dict-nmap-ssh b00-startup-discovery b01-monitoring-rollout"
    )
    captures = [DATA / f"demo-{name}" for name in names.split()]
    assert cli.main(["pairs", *map(str, captures), "--out", str(out)]) == 0
    return out


def test_pairs_open_in_pandas_with_a_row_a_window_and_every_column_is_documented(pairs: Path) -> None:
    frame = pytest.importorskip("pandas").read_parquet(pairs)
    assert {"SYN Flood", "Port Scan", "Dictionary Attack", "Benign"} <= set(frame.label.dropna())
    assert frame.tokens.map(len).eq(30 * 128).all()
    assert frame.relations.map(len).eq(30 * 40).all()
    assert frame.packets.between(4, 30).all()
    assert frame.text.str.len().min() > 20
    assert not frame.text.str.contains("flood|attack|scan", case=False).any()  # the text of facts must not tell the label
    text = (DATA.parents[1] / "docs" / "pairs.md").read_text()
    assert [name for name in frame.columns if f"`{name}`" not in text] == []


def test_a_split_keeps_captures_whole(pairs: Path) -> None:
    examples = load([pairs])
    at_train, at_held = split(examples)
    assert set(examples.capture[at_train]).isdisjoint(examples.capture[at_held])
    assert len(at_train) + len(at_held) == len(examples)


def test_pairs_that_were_cut_short_are_named(pairs: Path, tmp_path: Path) -> None:
    (short := tmp_path / "short.parquet").write_bytes(pairs.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"short\.parquet: no Parquet file, or one that was cut short"):
        load([pairs, short])


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
    monkeypatch.setattr(train, "TextEncoder", lambda *_: Words())
    settings = ("bytes.steps=2", "words.steps=2", "contrast.steps=3", "reason.steps=3")
    steps = [word for setting in settings for word in ("--set", setting)]
    assert train.main(["--pairs", str(pairs), "--out", str(tmp_path / "model"), *steps]) == 0
    bundle = Bundle.open(tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert manifest["onnx_difference"] < 1e-3
    assert set(bundle.manifest.thresholds) == {"DoS", "Reconnaissance", "Brute Force"}


def test_pairs_that_are_missing_or_of_single_captures_are_refused(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, path = pq.read_table(pairs), tmp_path / "one.parquet"
    for message in ("one.parquet", "give the pairs of more captures"):
        assert train.main(["--pairs", str(path), "--out", str(tmp_path / "model")]) == 2
        assert message in capsys.readouterr().err
        pq.write_table(table.filter([c == "demo-syn-hping" for c in table["capture"].to_pylist()]), path)
