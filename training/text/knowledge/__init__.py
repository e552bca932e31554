"""Mission graphs: the concepts that the reasoner walks through, in each mission's file with the prompts that made them.

Source: PacketCLIP section III-A. Key concepts K come from the first prompt, associated words from the second, over N rounds.
A graph is layered: an edge goes from a word to a word of the next level only, so it cannot have a cycle.

Rule for the embedding node: every associated word of the last level, and every associated word of an earlier level that has no
child, has an edge to the embedding node. Key concepts never have one, so a key concept without a child is an error: nothing that
the sensor node sends it could reach the verdict.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import networkx as nx
import yaml

from packetclip_sensor.errors import SensorError
from training.missions import FILES

SENSOR = "(sensor)"
EMBEDDING = "(embedding)"
"""Names of the two extra nodes. The brackets keep them apart from every word."""

KEY_PROMPT = "List {V} typical vocabularies to represent {event}? Note: Everything should be a single word."
ASSOCIATED_PROMPT = "What are associated words with vocabularies in set K?"
"""The paper's two prompts, verbatim, with V and the event name to fill in."""

_WORD = re.compile(r"[a-z]{2,24}\Z")


class KnowledgeError(SensorError):
    """A graph file cannot be read as a graph."""


@dataclass(frozen=True)
class Graph:
    """A mission's graph, without the sensor and the embedding node, which `full_edges` adds.

    `levels[0]` is `key`; an alert's concept level is the index here plus 1. Edges go from level h to level h + 1.
    """

    mission: str
    key: list[str]
    levels: list[list[str]]
    edges: list[tuple[str, str]]
    event_name: str = ""
    author_model: str = ""
    date: str = ""
    prompts: dict[str, str] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """All words, level by level: the order of the node features."""
        return [word for level in self.levels for word in level]

    @property
    def rounds(self) -> int:
        """N: rounds of expansion."""
        return len(self.levels) - 1

    def to_embedding(self) -> list[str]:
        """Words with an edge to the embedding node, in the order of `words`; see the module's rule."""
        parents = {parent for parent, _ in self.edges}
        last = len(self.levels) - 1
        return [w for h, level in enumerate(self.levels) if h > 0 for w in level if h == last or w not in parents]

    def full_edges(self) -> list[tuple[str, str]]:
        """Edges with the sensor node (to every key concept) and the embedding node (from `to_embedding`)."""
        return [
            *((SENSOR, word) for word in self.key),
            *self.edges,
            *((word, EMBEDDING) for word in self.to_embedding()),
        ]

    def digraph(self) -> nx.DiGraph:
        """The graph for networkx, sensor and embedding node included; node attribute `level` is 1 for key concepts."""
        out = nx.DiGraph(mission=self.mission)
        out.add_node(SENSOR, level=0)
        for h, level in enumerate(self.levels, start=1):
            out.add_nodes_from(level, level=h)
        out.add_node(EMBEDDING, level=len(self.levels) + 1)
        out.add_edges_from(self.full_edges())
        return out


def load(path: str | Path) -> Graph:
    """Read a graph from YAML: from a mission's file, or from a file of the graph alone, as `generate` writes it.

    Raises:
        KnowledgeError: the file is missing, is not YAML, or has not the shape of a graph. Faults of content are `validate`'s.
    """
    path = Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as err:
        raise KnowledgeError(f"{path}: cannot be read ({err.strerror}); name a graph file") from err
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        raise KnowledgeError(f"{path}: not YAML ({err}); mend the file or generate it anew") from err
    if isinstance(raw, dict) and isinstance(raw.get("graph"), dict):
        raw = raw["graph"] | {"mission": raw.get("name")}
    return from_dict(raw, str(path))


class _File(msgspec.Struct):
    """A graph as a YAML file holds it; `associated` maps the words of each round to their parents."""

    mission: str
    key: list[str]
    associated: list[dict[str, list[str]]]
    event_name: str = ""
    author_model: str = ""
    date: Any = ""
    prompts: dict[str, str] = {}


def from_dict(raw: Any, name: str) -> Graph:
    """A graph from the mapping that a YAML file holds; `name` stands in error messages. Raises KnowledgeError."""
    try:
        file = msgspec.convert(raw, _File)
    except msgspec.ValidationError as err:
        raise KnowledgeError(f"{name}: {err}; see training/missions/dos.yaml") from err
    levels = [file.key, *(list(level) for level in file.associated)]
    edges = [(parent, word) for level in file.associated for word, parents in level.items() for parent in parents]
    return Graph(file.mission, file.key, levels, edges, file.event_name, file.author_model, str(file.date), file.prompts)


def to_dict(graph: Graph) -> dict[str, Any]:
    """The mapping that a YAML file holds; `from_dict` reads it back."""
    return {
        "mission": graph.mission,
        "event_name": graph.event_name,
        "author_model": graph.author_model,
        "date": graph.date,
        "rounds": graph.rounds,
        "prompts": dict(graph.prompts),
        "key": list(graph.key),
        "associated": [{w: [p for p, child in graph.edges if child == w] for w in level} for level in graph.levels[1:]],
    }


def load_mission(mission: str) -> Graph:
    """The graph of a mission ("DoS")."""
    if mission not in FILES:
        raise KnowledgeError(f"no graph for mission {mission!r}; there are {', '.join(FILES)}")
    path, file = FILES[mission]
    return from_dict(file.graph | {"mission": mission}, str(path))


def load_all() -> list[Graph]:
    """The graphs of all missions, in the order of the reasoner's logits."""
    return [load_mission(mission) for mission in FILES]


def _levels(graph: Graph) -> tuple[dict[str, int], list[str]]:
    """Each word's first level, from 0, and a sentence for every word that stands twice."""
    problems: list[str] = []
    level_of: dict[str, int] = {}
    for h, level in enumerate(graph.levels):
        for word in level:
            if word not in level_of:
                level_of[word] = h
            elif level_of[word] == h:
                problems.append(f"{word!r} stands twice in level {h + 1}")
            elif level_of[word] == 0:
                problems.append(f"{word!r} is a key concept and an associated concept")
            else:
                problems.append(f"{word!r} stands in levels {level_of[word] + 1} and {h + 1}")
    return level_of, problems


def validate(graph: Graph) -> list[str]:
    """What is wrong with a graph, one sentence each; empty when nothing is."""
    problems: list[str] = []
    if not graph.key:
        problems.append("there is no key concept")
    if len(graph.levels) < 2:
        problems.append("there is no associated concept")
    problems += [f"{w!r} is not a single lower-case word" for w in graph.words if not _WORD.match(w)]
    problems += [f"level {h} has no word" for h, level in enumerate(graph.levels, start=1) if not level]

    level_of, twice = _levels(graph)
    problems += twice

    good: list[tuple[str, str]] = []
    for parent, child in graph.edges:
        absent = [w for w in (parent, child) if w not in level_of]
        if absent:
            problems.append(f"edge {parent} -> {child} names {absent[0]!r}, which is in no level")
        elif level_of[child] != level_of[parent] + 1:
            problems.append(f"edge {parent} -> {child} goes from level {level_of[parent] + 1} to {level_of[child] + 1}")
        else:
            good.append((parent, child))
    if len(set(graph.edges)) != len(graph.edges):
        problems.append("an edge stands twice")
    children = {child for _, child in good}
    parents = {parent for parent, _ in good}
    problems += [f"{w!r} has no parent in level {h}" for w, h in level_of.items() if h > 0 and w not in children]
    problems += [
        f"key concept {w!r} has no child, so nothing from it reaches the embedding node" for w in graph.key if w not in parents
    ]

    full = graph.digraph()
    if not nx.is_directed_acyclic_graph(full):
        problems.append("there is a cycle")
    reaching = nx.ancestors(full, EMBEDDING)
    problems += [f"{w!r} does not reach the embedding node" for w in level_of if w not in reaching and level_of[w] > 0]
    return problems
