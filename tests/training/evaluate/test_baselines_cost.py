"""Parameters and FLOPs: the count agrees with arithmetic, and the goals of issue B hold for the default model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from training.evaluate.baselines import cost


def test_a_multiply_add_counts_as_two() -> None:
    layer = nn.Linear(3, 5)
    assert cost.flops(lambda: layer(torch.zeros(2, 3))) == 2 * 2 * 3 * 5


def test_a_recurrent_layer_is_counted() -> None:
    layer = nn.LSTM(32, 32, num_layers=2, bidirectional=True, batch_first=True)
    lower, upper = 4 * 32 * (32 + 32), 4 * 32 * (64 + 32)
    assert cost.flops(lambda: layer(torch.zeros(1, 10, 32))) == 10 * 2 * 2 * (lower + upper)


@pytest.fixture(scope="module")
def costs() -> dict[str, cost.Cost]:
    return cost.measure()


def test_et_bert_costs_what_its_released_configuration_says(costs: dict[str, cost.Cost]) -> None:
    layer = 2 * 128 * (4 * 768**2 + 2 * 768 * 3072) + 2 * 2 * 128 * 128 * 768
    assert costs["ET-BERT, 128 tokens"].packet == 12 * layer + 2 * (768 * 768 + 768 * 4)
    embeddings = (60_005 + 512 + 3) * 768 + 2 * 768
    encoder = 12 * (4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768)
    assert costs["ET-BERT, 128 tokens"].parameters == embeddings + encoder + 768 * 768 + 768 + 768 * 4 + 4


def test_byte_graph_networks_have_the_sizes_that_are_known_of_them(costs: dict[str, cost.Cost]) -> None:
    assert costs["TFE-GNN"].parameters == pytest.approx(44.3e6, rel=0.005)
    # "about 1/14 of ET-BERT" for a flow, says CLE-TFE's abstract; ours is an upper bound, with random payload.
    assert 10 < costs["ET-BERT, 128 tokens"].packet / costs["CLE-TFE"].window < 18


def test_whole_model_is_below_one_percent_of_parameters_and_a_thousandth_of_flops(costs: dict[str, cost.Cost]) -> None:
    theirs = costs[cost.REFERENCE]
    for name in ("ours, amortised", "ours, not amortised", "ours, three views"):
        assert costs[name].parameters < theirs.parameters / 100
        assert costs[name].packet < theirs.packet / 1000


def test_verdict_says_where_a_goal_does_not_hold() -> None:
    costs = {
        "ours": cost.Cost(5, 1, 30),
        cost.REFERENCE: cost.Cost(1000, 999, 30),
        "ET-BERT, 64 tokens": cost.Cost(1000, 2000, 30),
    }
    first, second = cost.verdict(costs)
    assert "0.500% of the parameters, 1/999 of the FLOPs" in first
    assert first.endswith("does not hold")
    assert second.endswith("1/1,000 holds")


def test_the_paper_counts_its_head_but_runs_its_encoder_too(costs: dict[str, cost.Cost]) -> None:
    head, whole = costs["paper's head alone"], costs["paper's whole model"]
    assert head.parameters < 100_000
    assert whole.packet == head.packet + costs[cost.REFERENCE].packet


def test_figure_is_drawn(costs: dict[str, cost.Cost], tmp_path: Path) -> None:
    cost.draw(tmp_path / "figures" / "cost.png", costs)
    assert (tmp_path / "figures" / "cost.png").read_bytes().startswith(b"\x89PNG")
