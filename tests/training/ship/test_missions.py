"""The missions' files: what is wrong is told, and the shipped bundle has what they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from packetclip_sensor.common.resources import resource
from packetclip_sensor.model.bundle import MANIFEST, Bundle, fingerprint
from training.missions import ALL, FOLDER, MissionError, missions
from training.ship.missions import described, main, renewed

TOY = Path(__file__).parents[2] / "support" / "exfiltration.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The missions' files, and the toy's."""
    for path in (*FOLDER.glob("*.yaml"), TOY):
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The shipped bundle as it was before manifests had more than the missions' names."""
    path = Path(shutil.copytree(resource("model/shipped"), tmp_path / "model"))
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps(manifest | {"format": 1, "missions": list(ALL.names)}, indent=1) + "\n")
    return path


def test_the_shipped_manifest_has_what_the_files_say() -> None:
    manifest = json.loads((resource("model/shipped") / MANIFEST).read_text())
    assert renewed(manifest, ALL) == manifest, (
        "write it anew: python -m training.ship.missions --bundle packetclip_sensor/model/shipped"
    )


def test_the_command_gives_a_bundle_its_missions_and_changes_nothing_else(bundle: Path) -> None:
    assert main(["--bundle", str(bundle)]) == 0
    assert (bundle / MANIFEST).read_bytes() == (resource("model/shipped") / MANIFEST).read_bytes()
    assert Bundle.open(bundle).manifest.missions.names == ALL.names
    assert fingerprint(bundle) == fingerprint(resource("model/shipped"))


def test_a_bundle_that_learned_other_missions_is_left_as_it_is(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps(manifest | {"missions": ["DoS", "Brute Force"]}))
    before = (bundle / MANIFEST).read_bytes()
    assert main(["--bundle", str(bundle)]) == 2
    assert "its missions are DoS, Brute Force, those of training/missions DoS, Reconnaissance" in capsys.readouterr().err
    assert (bundle / MANIFEST).read_bytes() == before
    assert main(["--bundle", str(bundle / "nowhere")]) == 2
    assert "name the folder of a bundle" in capsys.readouterr().err


def test_a_file_more_is_a_mission_more_and_what_it_leaves_out_is_made_from_its_names(folder: Path) -> None:
    found = missions(folder)
    assert found.names == (*ALL.names, "Exfiltration")
    assert found.classes == (*ALL.classes, "DNS Tunnel")
    toy = found["Exfiltration"]
    assert (toy.id, toy.note, toy.title, toy.one_target) == ("exfiltration", "Exfiltration", "Exfiltration", "against")
    assert (toy.classes[0].id, toy.classes[0].technique) == ("dns_tunnel", toy.technique)


def change(raw: dict[str, Any], key: str, value: Any) -> None:
    *way, last = key.split(".")
    for name in way:
        raw = raw[int(name) if isinstance(raw, list) else name]
    raw[last] = value


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda raw: change(raw, "order", 3), "orders must be 1, 2, 3, ...: dos.yaml 1, reconnaissance.yaml 2, "),
        (lambda raw: change(raw, "name", "DoS"), "mission 'DoS' stands twice"),
        (lambda raw: change(raw, "id", "brute_force"), "mission id 'brute_force' stands twice"),
        (lambda raw: change(raw, "name", "Benign"), "mission 'Benign' stands twice"),
        (lambda raw: change(raw, "classes.0.label", 9), "the classes have the labels 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, not 1 to 10"),
        (lambda raw: change(raw, "classes.0.name", "SYN Flood"), "class 'SYN Flood' stands twice"),
        (lambda raw: change(raw, "severity", "grave"), r"exfiltration.yaml: Invalid enum value 'grave' - at `\$.severity`; mend"),
        (
            lambda raw: change(raw, "technique", "1046"),
            r"matching regex '\^T.*mend the missions' files, see training/missions/dos",
        ),
        (lambda raw: change(raw, "classes.0.sentences", {}), r"unknown field `sentences` - at `\$.classes\[0\]`"),
        (lambda raw: raw.pop("graph"), r"exfiltration.yaml: Object missing required field `graph`"),
    ],
)
def test_what_is_wrong_in_a_file_is_told(folder: Path, damage: Callable[[dict[str, Any]], object], words: str) -> None:
    raw = yaml.safe_load(TOY.read_text())
    damage(raw)
    (folder / TOY.name).write_text(yaml.safe_dump(raw))
    with pytest.raises(MissionError, match=words):
        missions(folder)


def test_the_example_of_the_documentation_is_a_mission(folder: Path) -> None:
    page = (TOY.parents[2] / "docs" / "missions.md").read_text()
    (folder / TOY.name).write_text(page.partition("```yaml\n")[2].partition("```")[0])
    shown = missions(folder)["Tunnelling"]
    (folder / TOY.name).write_text((FOLDER / "examples" / "tunnelling.yaml").read_text())
    whole = missions(folder)["Tunnelling"]
    assert [klass.name for klass in whole.classes] == ["DNS Tunnel", "ICMP Tunnel"]
    assert (shown.description, shown.classes[0], shown.least) == (whole.description, whole.classes[0], whole.least)


def test_a_folder_without_files_and_a_technique_without_a_name_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissionError, match=r"must be 1, 2, 3, \.\.\.: no file"):
        missions(tmp_path / "none")
    (folder / TOY.name).write_text(TOY.read_text().replace("T1046", "T1048"))
    with pytest.raises(MissionError, match=r"Exfiltration: technique T1048 has no name in mappings/attack\.yaml; add it there"):
        described(missions(folder))


def test_a_command_ends_with_one_line_where_a_file_cannot_be_used(folder: Path) -> None:
    (folder / "dos.yaml").write_text("order: first\n")
    command = [sys.executable, "-m", "training.ship.missions", "--bundle", str(folder)]
    ended = subprocess.run(
        command, env=os.environ | {"PACKETCLIP_MISSIONS": str(folder)}, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"error: .*dos\.yaml: .*\n", ended.stderr)
