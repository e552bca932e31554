"""The inference graph against the graph that it is made of, and its products against arithmetic."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from training.evaluate.baselines.cost import flops
from training.model.config import ModelConfig
from training.model.graphs import MissionGraph
from training.model.inference import InferenceGraph, elu
from training.text import knowledge
from training.text.knowledge import Graph

DEEP = Graph(
    mission="leaves on three levels",
    key=["a", "b", "c"],
    levels=[["a", "b", "c"], ["d", "e", "f", "g"], ["h", "i", "j"], ["k", "l"]],
    edges=[(a, b) for a, b in ("ad", "ae", "be", "bf", "ce", "cg", "dh", "ei", "fi", "fj", "hk", "il", "hl")],
)
GRAPHS = {graph.mission: graph for graph in (*knowledge.load_all(), DEEP)}


def trained(mission: str, message: str) -> tuple[MissionGraph, list[torch.Tensor]]:
    """A graph whose normalisations are as if trained, and its concepts' embeddings."""
    torch.manual_seed(5)
    graph = MissionGraph(GRAPHS[mission], ModelConfig(message=message))
    for norm in graph.norm:
        torch.nn.init.normal_(norm.weight, 1.0, 0.3)
        torch.nn.init.normal_(norm.bias, 0.0, 0.3)
    concepts = [torch.nn.functional.normalize(torch.randn(len(level), 64), dim=1) for level in graph.levels]
    for _ in range(20):
        graph(torch.randn(4, 30, 64), concepts)
    return graph.eval(), concepts


@pytest.mark.parametrize("message", ["similarity", "product"])
@pytest.mark.parametrize("mission", GRAPHS)
@torch.no_grad()
def test_the_inference_graph_is_the_graph(mission: str, message: str) -> None:
    graph, concepts = trained(mission, message)
    inference = InferenceGraph(graph, concepts)
    for packets in (1, 7, 300):
        sensor = torch.randn(packets, 64)
        whole = graph(sensor[None], concepts)[0][0]
        assert whole.std() > 0.1
        assert torch.allclose(inference(sensor), whole, rtol=0, atol=1e-5)
        assert torch.allclose(inference(sensor), graph.frames(sensor, concepts), rtol=0, atol=1e-5)


@pytest.mark.parametrize("message", ["similarity", "product"])
@pytest.mark.parametrize("mission", GRAPHS)
@torch.no_grad()
def test_the_inference_graph_without_concepts_is_the_graph_without_them(mission: str, message: str) -> None:
    graph, concepts = trained(mission, message)
    sizes = [len(level) for level in graph.levels]
    sensor, keep = torch.randn(7, 64), torch.cat([1 - torch.eye(sum(sizes)), torch.rand(3, sum(sizes)).round()])
    rows = list(keep.split(sizes, 1))
    whole = graph(sensor[None].expand(len(keep), -1, -1), concepts, rows)[0]
    found = InferenceGraph(graph, concepts)(sensor, rows).unflatten(0, (len(keep), 7))
    assert torch.allclose(found, whole, rtol=0, atol=1e-5)
    assert (whole - graph(sensor[None], concepts)[0]).abs().amax((1, 2)).min() > 1e-4


def test_leaves_stand_on_several_levels() -> None:
    found = {mission: MissionGraph(graph, ModelConfig()).has_leaves for mission, graph in GRAPHS.items()}
    assert found[DEEP.mission] == [False, True, True, True]
    assert found["DoS"] == [False, True, True]


@pytest.mark.parametrize("mission", GRAPHS)
def test_a_packet_costs_what_its_nodes_and_edges_of_levels_say(mission: str) -> None:
    graph, concepts = trained(mission, "similarity")
    n, width = [len(level) for level in graph.levels], graph.width
    steps = 64 * n[0] * width + sum(here * before * width + here * width * width for before, here in pairwise(n))
    ends = sum(nodes * width + width * width for nodes, leaves in zip(n, graph.has_leaves, strict=True) if leaves)
    inference = InferenceGraph(graph, concepts)
    assert flops(lambda: inference(torch.zeros(10, 64))) == 10 * 2 * (steps + ends)


def test_elu_is_elu() -> None:
    x = torch.cat([torch.linspace(-200, 200, 4001), torch.tensor([-1e-6, -0.0, 1e-6, 1e30, -1e30])])
    assert torch.allclose(elu(x), torch.nn.functional.elu(x), rtol=0, atol=1e-7)
