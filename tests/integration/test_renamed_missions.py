"""No name of a mission or a class stands in the sensor: with all of them renamed its documents are the same but for the names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from factories import MISSIONS, T0, episode

from packetclip_sensor import pipeline
from packetclip_sensor.cli.app import main
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.resources import resource
from packetclip_sensor.config.settings import Config
from packetclip_sensor.elastic import templates
from packetclip_sensor.model.bundle import MANIFEST, Bundle, sealed
from packetclip_sensor.records import Batch
from packetclip_sensor.service import checkpoint

DATA = Path(__file__).parents[1] / "data"
CAPTURES = [DATA / f"demo-{name}" for name in ("syn-hping", "port-zmap", "dict-patator-ftp", "b01-monitoring-rollout")]
MADE_OF_NAMES = ("event.id", "packetclip.episode.id", "zeek.notice.identifier")
"""Ids are hashes in which the mission's name is."""


def renamed(manifest: dict[str, Any]) -> dict[str, str]:
    """Rename everything that a mission and a class is called in a manifest; returns old by new, no two alike.

    Classes of equal probability stand in a document in the order of their names, so the new ones are in the old ones' order.
    """
    rank = {name: n for n, name in enumerate(sorted(manifest["classes"]))}
    old: dict[str, str] = {}

    def call(thing: dict[str, Any], key: str, new: str) -> None:
        old[new] = thing[key]
        thing[key] = new

    for n, mission in enumerate(manifest["missions"]):
        for key, new in (("name", f"Goal <{n}>"), ("id", f"goal_{n}"), ("note", f"Noted{n}"), ("title", f"Titled {n}")):
            call(mission, key, new)
        call(mission, "description", f"Described {n}.")
        for klass in mission["classes"]:
            number = rank[klass["name"]]
            for key, new in (("name", f"Kind {number:02}"), ("id", f"kind_{number:02}"), ("title", f"Doing {number:02}")):
                call(klass, key, new)
    new_name = {name: new for new, name in old.items() if new.startswith(("Kind ", "Goal "))}
    manifest["classes"] = [new_name.get(name, name) for name in manifest["classes"]]
    for key in ("thresholds", "ceilings"):
        manifest[key] = {new_name[name]: value for name, value in manifest[key].items()}
    return old


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A copy of the shipped bundle with other names, and the shipped names by those."""
    path = Path(shutil.copytree(resource("model/shipped"), tmp_path_factory.mktemp("renamed") / "model"))
    manifest = json.loads((path / MANIFEST).read_text())
    old = renamed(manifest)
    new = {name: other for other, name in old.items() if other.startswith("Goal ")}
    graphs = json.loads((path / "graphs.json").read_text())
    (path / "graphs.json").write_text(json.dumps([graph | {"mission": new[graph["mission"]]} for graph in graphs]))
    evidence = json.loads((path / "evidence.json").read_text())
    (path / "evidence.json").write_text(json.dumps(evidence | {"missions": [new[name] for name in evidence["missions"]]}))
    (path / MANIFEST).write_text(json.dumps(sealed(manifest, path)))
    return path, old


@pytest.fixture(scope="module")
def documents(bundle: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """Lines of the shipped bundle's documents, and of the renamed one's."""
    folder = tmp_path_factory.mktemp("replayed")
    found = []
    for model in (resource("model/shipped"), bundle[0]):
        (folder / "sensor.yaml").write_text(f"sensor_name: s\nmodel: {model}\n")
        out = folder / f"{len(found)}.ndjson"
        assert main(["replay", *map(str, CAPTURES), "--config", str(folder / "sensor.yaml"), "--out", str(out)]) == 0
        found.append(out.read_text().splitlines())
    return found


def without_ids(line: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(line)
    for path in MADE_OF_NAMES:
        *way, last = path.split(".")
        part = made
        for name in way:
            part = part[name]
        assert part.pop(last)
    return made


def leaves(value: Any, prefix: str = "") -> Iterator[str]:
    """The dotted names of a document's fields."""
    parts = value.items() if isinstance(value, dict) else [("", one) for one in value] if isinstance(value, list) else []
    for name, part in parts:
        yield from leaves(part, f"{prefix}{name}." if name else prefix)
    if not isinstance(value, dict | list):
        yield prefix[:-1]


def test_the_documents_are_the_same_but_for_the_names(bundle: tuple[Path, dict[str, str]], documents: list[list[str]]) -> None:
    shipped, other = documents
    assert len(shipped) > 3
    assert len(other) == len(shipped)
    for ours, theirs in zip(shipped, other, strict=True):
        translated = theirs
        for new, old in bundle[1].items():
            assert json.dumps(new)[1:-1] not in ours
            translated = translated.replace(json.dumps(new)[1:-1], old)
        translated = translated.replace("packetclip-goal-", "packetclip-")
        for n, mission in enumerate(MISSIONS):
            translated = translated.replace(f'"packetclip-{n}"', f'"{mission.rule_id}"')
        assert json.dumps(without_ids(translated)) == json.dumps(without_ids(ours))
    assert len({json.loads(line)["packetclip"]["mission"] for line in other}) == 3


def test_nothing_of_the_shipped_names_is_left_but_what_attack_and_the_texts_say(
    bundle: tuple[Path, dict[str, str]], documents: list[list[str]]
) -> None:
    for line in documents[1]:
        made = json.loads(line)
        del made["threat"], made["packetclip"]["texts"]
        left = json.dumps(made)
        assert not [old for old in bundle[1].values() if len(old) > 4 and old in left]
        assert "DoS" not in left


def test_an_episode_that_a_model_with_other_missions_left_open_is_let_go(
    bundle: tuple[Path, dict[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    opened, known = Bundle.open(bundle[0]), "Goal <1>"
    state = checkpoint.State(episodes=(episode(id="gone"), episode(id="kept", mission=known)), judged=int(T0) + 2)
    steps = pipeline.alerts([Batch([], [], idle=True)], opened, Config(sensor_name="s"), Counters(), state)
    assert [one.id for one in next(iter(steps)).episodes] == ["kept"]
    assert "episodes_of_unknown_missions" in capsys.readouterr().out


def test_the_mapping_of_the_renamed_missions_takes_their_documents(
    bundle: tuple[Path, dict[str, str]], documents: list[list[str]]
) -> None:
    missions = Bundle.open(bundle[0]).manifest.missions
    mapped = set(templates.mapped("packetclip.alert", missions))
    assert {name for line in documents[1] for name in leaves(json.loads(line))} <= mapped
    assert "packetclip.missions.goal_0" in mapped
    assert "packetclip.missions.dos" not in mapped
