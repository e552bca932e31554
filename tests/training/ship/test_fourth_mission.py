"""A mission more: from its file to documents and to what lists missions, without a change of code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is only installed for training")

from factories import MISSIONS, alert, episode, safe

from packetclip_sensor.alerts import suppression_rules
from packetclip_sensor.cli.app import main
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import Missions
from packetclip_sensor.elastic import templates
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.sinks import zeek_notices

ROOT = Path(__file__).parents[3]
TOY = ROOT / "tests" / "support" / "exfiltration.yaml"
CAPTURE = ROOT / "tests" / "data" / "demo-dns-resperf"
POLICY = """
  thresholds: {DoS: 1, Reconnaissance: 1, Brute Force: 1, exfiltration: 0}
  least: {Exfiltration: {packets: 5}}
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of the three missions and of the toy mission, exported as training does."""
    folder = tmp_path_factory.mktemp("four")
    shutil.copytree(ROOT / "training" / "missions", folder / "missions", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    shutil.copy(TOY, folder / "missions")
    paths = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    subprocess.run(
        [sys.executable, ROOT / "tests" / "support" / "untrained.py", folder / "model"], check=True, capture_output=True,
        env=os.environ | {"PACKETCLIP_MISSIONS": str(folder / "missions"), "PYTHONPATH": paths},
    )  # fmt: skip
    return folder / "model"


@pytest.fixture(scope="module")
def missions(bundle: Path) -> Missions:
    return Bundle.open(bundle).manifest.missions


@pytest.fixture(scope="module")
def config(bundle: Path) -> Path:
    """A sensor in which every window is the fourth mission's."""
    path = bundle.parent / "sensor.yaml"
    path.write_text(f"sensor_name: s\nmodel: {bundle}\nsink: {{ndjson: {{path: alerts.ndjson}}}}\npolicy:{POLICY}")
    return path


@pytest.fixture(scope="module")
def documents(config: Path) -> list[dict[str, Any]]:
    assert main(["replay", str(CAPTURE), "--config", str(config)]) == 0
    return [json.loads(line) for line in (config.parent / "alerts.ndjson").read_text().splitlines()]


def names(value: Any, prefix: str = "") -> Iterator[str]:
    match value:
        case dict():
            for key, part in value.items():
                yield from names(part, f"{prefix}{key}.")
        case list():
            for part in value:
                yield from names(part, prefix)
        case _:
            yield prefix[:-1]


def test_its_names_technique_and_severity_stand_in_the_document(documents: list[dict[str, Any]]) -> None:
    assert documents
    for made in documents:
        ours, hosts = made["packetclip"], max(made["packetclip"]["episode"][f"{s}_count"] for s in ("source", "destination"))
        assert (ours["mission"], ours["class"]) == ("Exfiltration", "DNS Tunnel")
        assert list(ours["missions"]) == ["benign", "dos", "reconnaissance", "brute_force", "exfiltration"]
        assert list(ours["graphs"]) == ["dos", "reconnaissance", "brute_force", "exfiltration"]
        assert "DNS Tunnel" in [one["name"] for one in ours["classes"]]
        assert {path["graph"] for path in ours["paths"]} >= {"Exfiltration"}
        assert made["message"].startswith("DNS tunnel ")
        assert made["rule"] == {
            "id": "packetclip-exfiltration",
            "name": "PacketCLIP::Exfiltration",
            "category": "Exfiltration",
            "description": "Traffic that carries data out.",
            "ruleset": "packetclip",
            "version": "toy",
        }
        assert made["threat"]["technique"]["id"] == ["T1046"]
        assert made["event"]["severity"] in ({21, 47} if hosts >= 20 else {21})


def test_every_field_of_its_documents_is_mapped_for_this_model_and_not_for_the_shipped_one(
    documents: list[dict[str, Any]], missions: Missions
) -> None:
    held = {name for made in documents for name in names(made)}
    assert held <= set(templates.mapped("packetclip.alert", missions))
    assert held - set(templates.mapped("packetclip.alert", MISSIONS)) == {
        "packetclip.missions.exfiltration",
        "packetclip.graphs.exfiltration",
    }
    assert "packetclip.class_probabilities.dns_tunnel" in templates.mapped("packetclip.flow", missions)


def test_every_command_that_lists_missions_lists_it(
    documents: list[dict[str, Any]], config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    of_model = ["--config", str(config)]
    main(["check", *of_model])
    assert "Brute Force 1.000, Exfiltration 0.000" in capsys.readouterr().out
    assert main(["report", "alerts.ndjson", "--mission", "Exfiltration", *of_model]) == 0
    page = Path("report.html").read_text()
    assert '<div class="card count m-exfiltration">' in page
    assert ".m-exfiltration { --tone: #0b5cad; }" in page
    assert main(["explain", documents[0]["event"]["id"], *of_model]) == 0
    assert "Exfiltration" in capsys.readouterr().out
    assert main(["report", "alerts.ndjson", "--mission", "Exfil", *of_model]) == 2
    assert "missions: DoS, Reconnaissance, Brute Force, Exfiltration" in capsys.readouterr().err
    assert main(["report", "alerts.ndjson", "--mission", "Exfiltration"]) == 2  # the shipped model does not know it


def test_a_rule_of_the_site_may_name_it(missions: Missions) -> None:
    text = "- {comment: backup, expires: never, mission: Exfiltration, class: DNS Tunnel}"
    (rule,) = suppression_rules.parse(text, "suppress.yaml", missions)
    assert (rule.mission, rule.klass) == ("Exfiltration", "DNS Tunnel")


def test_zeek_gets_its_name(missions: Missions, tmp_path: Path) -> None:
    one = alert(mission="Exfiltration", klass="DNS Tunnel", episode=episode(mission="Exfiltration"))
    list(zeek_notices.write([safe(one)], tmp_path / "v.tsv", Counters(), missions, max_bytes=1 << 20))
    assert "\topen\tExfiltration\t21\t" in (tmp_path / "v.tsv").read_text()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("mappings/kibana/build.py", '\\"packetclip.missions.exfiltration\\"'),
        ("mappings/build_fields.py", "| `packetclip.missions.exfiltration` | double |"),
    ],
)
def test_dashboards_and_the_field_reference_are_made_for_it(command: str, words: str, bundle: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / command, "--model", bundle, "--out", tmp_path / "made"], check=True, cwd=ROOT)
    made = (tmp_path / "made").read_text()
    assert words in made
    assert "packetclip.missions.brute_force" in made
