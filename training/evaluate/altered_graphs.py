"""What a trained reasoner loses when its graphs are altered and nothing is learned anew: how much its verdicts rest on them.

A model that was trained without graphs had all labels to make up for them; this asks what the model that was trained with them
would do if they were wrong, or zero.
"""

import copy

import torch

from training.data.windows import GROUP_OF_CLASS
from training.model.graphs import EventNodes, MissionGraph, shuffled
from training.model.packetclip import PacketClip
from training.text.knowledge import Graph

SHUFFLED, SILENT, EVENTLESS, MUTE = "graphs shuffled", "concepts silent", "attacks silent", "concepts and attacks silent"
WAYS = (SHUFFLED, SILENT, EVENTLESS, MUTE)
"""The ways, by the names that stored predictions have."""


def shown(way: str) -> str:
    """A way's name in the report."""
    return way.replace("silent", "zeroed")


@torch.no_grad()
def altered(model: PacketClip, graphs: list[Graph], way: str, seed: int) -> PacketClip:
    """A copy of the model with altered graphs; every learned weight stays but the one that is set to zero.

    Shuffled: concepts, edges and the attacks' sentences trade places as in the ablation of that name (`shuffled`). Silent
    concepts: the embedding nodes receive zero from their graphs, because a message is multiplied with the node's state. Silent
    attacks: the event nodes add nothing to the logits.

    Raises:
        KeyError: not one of WAYS. ValueError: the model has no graphs or no event nodes.
    """
    if way not in WAYS:
        raise KeyError(way)
    missions = [graph for graph in model.graphs if isinstance(graph, MissionGraph)]
    if model.events is None or len(missions) != len(model.graphs):
        raise ValueError("this model has no graphs that end in their attacks")
    changed = copy.deepcopy(model)
    assert changed.events is not None
    if way == SHUFFLED:
        counts = [int(n) for n in (model.events.mean > 0).sum(1)]
        drawn, concepts, sentences = shuffled(
            graphs, model.concepts.cpu(), list(model.events.sentences.cpu().split(counts)), seed
        )
        changed.concepts = concepts.to(model.concepts.device)
        changed.events = EventNodes(sentences, GROUP_OF_CLASS, model.events.weight).to(model.concepts.device)
        for graph, new in zip(changed.graphs, drawn, strict=True):
            for name, matrix in MissionGraph(new, model.config).named_buffers(recurse=False):
                if name.startswith("adjacency_"):
                    getattr(graph, name).copy_(matrix)
    if way in (SILENT, MUTE):
        for graph in changed.graphs:
            graph.embedding_node.zero_()  # type: ignore[operator,union-attr]
    if way in (EVENTLESS, MUTE):
        changed.events.weight = 0.0
    return changed
