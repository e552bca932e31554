"""The mission graphs, their validator and their figures."""

from __future__ import annotations

import itertools
from pathlib import Path

import networkx as nx
import pytest
import yaml

from training.missions import MISSIONS
from training.text import knowledge
from training.text.knowledge import EMBEDDING, SENSOR, Graph, KnowledgeError, draw, load_all, load_mission, validate
from training.text.knowledge.__main__ import main


def small(**changes: object) -> Graph:
    """flood, scan -> burst, probe -> drop; probe has no child and goes to the embedding node itself."""
    fields: dict[str, object] = {
        "mission": "DoS",
        "key": ["flood", "scan"],
        "levels": [["flood", "scan"], ["burst", "probe"], ["drop"]],
        "edges": [("flood", "burst"), ("scan", "probe"), ("burst", "drop")],
    }
    return Graph(**(fields | changes))  # type: ignore[arg-type]


def test_the_checked_in_graphs_have_no_problem_and_are_in_the_order_of_the_logits() -> None:
    graphs = load_all()
    assert tuple(g.mission for g in graphs) == MISSIONS
    assert [validate(g) for g in graphs] == [[], [], []]


@pytest.mark.parametrize("mission", MISSIONS)
def test_a_checked_in_graph_has_two_rounds_its_author_and_the_papers_prompts(mission: str) -> None:
    graph = load_mission(mission)
    assert [len(level) for level in graph.levels] == {
        "DoS": [12, 22, 13],
        "Reconnaissance": [12, 21, 13],
        "Brute Force": [12, 20, 13],
    }[mission]
    assert graph.author_model == "Claude (Anthropic)"
    assert graph.date == "2026-11-21"
    assert graph.prompts["key"] == (
        f"List 12 typical vocabularies to represent {graph.event_name}? Note: Everything should be a single word."
    )
    assert graph.prompts["associated"] == "What are associated words with vocabularies in set K?"


def test_the_last_level_and_words_without_a_child_lead_to_the_embedding_node() -> None:
    assert small().to_embedding() == ["probe", "drop"]
    first, last = [(SENSOR, "flood"), (SENSOR, "scan")], [("probe", EMBEDDING), ("drop", EMBEDDING)]
    assert small().full_edges() == [*first, *small().edges, *last]
    assert validate(small()) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"levels": [["flood", "scan"], ["burst", "probe", "flood"], ["drop"]]},
         "'flood' is a key concept and an associated concept"),
        ({"levels": [["flood", "scan"], ["burst", "probe"], ["drop", "burst"]]}, "'burst' stands in levels 2 and 3"),
        ({"levels": [["flood", "scan"], ["burst", "probe", "probe"], ["drop"]]}, "'probe' stands twice in level 2"),
        ({"levels": [["flood", "scan"], ["burst", "probe"], ["packet drop"]]}, "'packet drop' is not a single lower-case word"),
        ({"levels": [["flood", "scan"], ["burst", "probe", "orphan"], ["drop"]]}, "'orphan' has no parent in level 1"),
        ({"edges": [("flood", "burst"), ("flood", "probe"), ("burst", "drop")]},
         "key concept 'scan' has no child, so nothing from it reaches the embedding node"),
        ({"edges": [("flood", "burst"), ("scan", "probe"), ("burst", "drop"), ("flood", "drop")]},
         "edge flood -> drop goes from level 1 to 3"),
        ({"edges": [("flood", "burst"), ("scan", "probe"), ("burst", "drop"), ("probe", "lost")]},
         "edge probe -> lost names 'lost', which is in no level"),
        ({"edges": [("flood", "burst"), ("scan", "probe"), ("burst", "drop"), ("drop", "burst")]}, "there is a cycle"),
        ({"edges": [("flood", "burst"), ("flood", "burst"), ("scan", "probe"), ("burst", "drop")]}, "an edge stands twice"),
        ({"levels": [["flood", "scan"], ["burst", "probe"], ["drop"], []]}, "level 4 has no word"),
        ({"key": [], "levels": [[], ["burst"]], "edges": []}, "there is no key concept"),
    ],
)  # fmt: skip
def test_a_fault_is_named(changes: dict[str, object], problem: str) -> None:
    assert problem in validate(small(**changes))


def test_a_graph_survives_yaml(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    graph = load_mission("DoS")
    path.write_text(yaml.safe_dump(knowledge.to_dict(graph), sort_keys=False), encoding="utf-8")
    again = knowledge.load(path)
    assert again.levels == graph.levels
    assert again.edges == graph.edges


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", r"Expected `object`, got `array`; see training/missions/dos.yaml"),
        ("mission: DoS\nkey: [a]\n", "missing required field `associated`"),
        ("mission: DoS\nkey: a\nassociated: []\n", r"Expected `array`, got `str` - at `\$.key`"),
        ("mission: DoS\nkey: [a]\nassociated: [[b]]\n", r"Expected `object`, got `array` - at `\$.associated\[0\]`"),
        ("mission: [\n", "not YAML"),
    ],
)
def test_a_file_that_is_no_graph_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(KnowledgeError, match=message):
        knowledge.load(path)


def test_validate_prints_problems_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "g.yaml"
    path.write_text("mission: DoS\nkey: [flood, scan]\nassociated:\n  - {burst: [flood]}\n", encoding="utf-8")
    assert main(["validate"]) == 0
    assert main(["validate", str(path)]) == 1
    assert "key concept 'scan' has no child" in capsys.readouterr().out


@pytest.mark.parametrize("mission", MISSIONS)
def test_every_word_lies_on_a_way_from_sensor_to_embedding_node_and_ways_count_each_once(mission: str) -> None:
    graph = load_mission(mission)
    assert nx.descendants(graph.digraph(), SENSOR) & nx.ancestors(graph.digraph(), EMBEDDING) == set(graph.words)
    whole = list(nx.all_simple_paths(graph.digraph(), SENSOR, EMBEDDING))
    assert draw.ways(graph) == {word: sum(word in way for way in whole) for word in graph.words}
    assert draw.ways(small()) == {"flood": 1, "scan": 1, "burst": 1, "probe": 1, "drop": 1}


def test_the_order_of_a_drawn_level_leaves_fewer_crossings_and_loses_no_word() -> None:
    def crossings(levels: list[list[str]], edges: list[tuple[str, str]]) -> int:
        place = {w: i for level in levels for i, w in enumerate(level)}
        level_of = {w: h for h, level in enumerate(levels) for w in level}
        pairs = [(level_of[p], place[p], place[c]) for p, c in edges]
        return sum(a[0] == b[0] and (a[1] - b[1]) * (a[2] - b[2]) < 0 for a, b in itertools.combinations(pairs, 2))

    graph = load_mission("DoS")
    drawn = draw.order(graph)
    assert [sorted(level) for level in drawn] == [sorted(level) for level in graph.levels]
    assert crossings(drawn, graph.edges) < crossings(graph.levels, graph.edges)


def test_figures_are_equal_for_equal_graphs_and_name_every_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = draw.draw(load_mission("Brute Force"), "brute_force", tmp_path / "one")
    again = draw.draw(load_mission("Brute Force"), "brute_force", tmp_path / "two")
    assert [p.name for p in first] == ["brute-force-graph.svg", "brute-force-top10.svg", "brute-force-cloud.svg"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in again]
    # Letters are paths, and matplotlib names each text in a comment.
    assert all(f"<!-- {word} -->" in first[0].read_text() for word in load_mission("Brute Force").words)
    assert all(f"<!-- {word} -->" in first[2].read_text() for word in load_mission("Brute Force").words)
    bad = tmp_path / "g.yaml"
    bad.write_text("mission: DoS\nkey: [flood, scan]\nassociated:\n  - {burst: [flood]}\n", encoding="utf-8")
    assert main(["draw", "--out", str(tmp_path / "three"), str(bad)]) == 2
    assert "key concept 'scan' has no child" in capsys.readouterr().err
