"""The model bundle: what is altered, missing or of another version is refused with the remedy."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from packetclip_sensor.common.resources import resource
from packetclip_sensor.errors import ModelBundleError
from packetclip_sensor.model.bundle import FILES, MANIFEST, Bundle, fingerprint, graphs_of


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the shipped bundle."""
    return Path(shutil.copytree(resource("model/shipped"), tmp_path / "model"))


def change(path: Path, key: str, value: object) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    manifest[key] = value
    (path / MANIFEST).write_text(json.dumps(manifest))


def of_mission(path: Path, key: str, value: object) -> None:
    """Change the first mission."""
    missions = json.loads((path / MANIFEST).read_text())["missions"]
    change(path, "missions", [missions[0] | {key: value}, *missions[1:]])


LABELS = [{"name": "New", "id": "new", "label": 10, "title": "New", "technique": "T1498"}]


def test_the_shipped_bundle_opens_and_is_small(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    assert len(opened.graphs) == 3
    assert sum(f.stat().st_size for f in bundle.iterdir()) < 6_000_000


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_refused(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(
        ModelBundleError, match=rf"{name} has SHA-256 .* the manifest says .* the file was changed or cut, install"
    ):
        Bundle.open(bundle)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(ModelBundleError, match=f"cannot read {name}: No such file or directory"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: change(p, "format", 99), "format 99, this sensor reads format 2; install"),
        (
            lambda p: change(p, "relations", ["one"]),
            r"relations \(1 of them\) lack is_orig, log_size, log_payload and more and hold one, unlike",
        ),
        (lambda p: change(p, "format", 1), "format 1, .* give it its missions: python -m training.ship.missions --bundle /"),
        (lambda p: change(p, "classes", []), "its classes are of nothing, its missions say Benign, OS Scan, "),
        (lambda p: change(p, "thresholds", {"DoS": 0.9}), "its thresholds are of DoS, its missions say Brute Force, DoS, Rec"),
        (lambda p: of_mission(p, "name", "Brute Force"), r"mission 'Brute Force' stands twice - at `\$.missions`"),
        (lambda p: of_mission(p, "id", "brute_force"), r"mission id 'brute_force' stands twice - at `\$.missions`"),
        (lambda p: of_mission(p, "id", "Denial"), r"Expected `str` matching regex .* - at `\$\[0\].id` - at `\$.missions`"),
        (lambda p: of_mission(p, "classes", []), r"Expected `array` of length >= 1 - at `\$\[0\].classes` - at `\$.missions`"),
        (lambda p: of_mission(p, "color", "red"), r"contains unknown field `color` - at `\$\[0\]` - at `\$.missions`"),
        (lambda p: of_mission(p, "classes", LABELS), "the classes have the labels 1, 2, 3, 9, 10, not 1 to 5"),
        (lambda p: change(p, "missions", ["DoS"]), r"Expected `object`, got `str` - at `\$\[0\]` - at `\$.missions`"),
        (
            lambda p: change(p, "temperature", "hot"),
            r"manifest.json is not valid: Expected `float`, got `str` - at `\$.temperature`",
        ),
        (lambda p: (p / MANIFEST).write_text("{"), "manifest.json is not valid"),
        (lambda p: (p / MANIFEST).write_bytes(b"\xff"), "manifest.json is not valid"),
    ],
)
def test_a_wrong_manifest_is_refused(bundle: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(bundle)
    with pytest.raises(ModelBundleError, match=message):
        Bundle.open(bundle)


def test_what_a_mission_is_called_beside_its_name_makes_no_other_model_of_a_bundle(bundle: Path) -> None:
    """A calibration is for one fingerprint; that of the shipped bundle is what it was in format 1."""
    raw = json.loads((bundle / MANIFEST).read_text())
    raw["sha256"] |= raw.pop("same_as")  # exported anew with the same weights
    before = json.dumps(raw | {"format": 1, "missions": [mission["name"] for mission in raw["missions"]]}, indent=1) + "\n"
    assert fingerprint(bundle) == hashlib.sha256(before.encode()).hexdigest()
    of_mission(bundle, "title", "Something else")
    assert fingerprint(bundle) == hashlib.sha256(before.encode()).hexdigest()
    change(bundle, "temperature", 1.0)
    assert fingerprint(bundle) != hashlib.sha256(before.encode()).hexdigest()


GRAPH = {
    "mission": "DoS",
    "levels": [["a", "b"], ["c"]],
    "edges": [["a", "c"]],
    "leaves": ["c"],
    "own": [[[1], [2]], [[3]], [[4]]],
}


@pytest.mark.parametrize(
    "changed",
    [
        {"edges": [["a", "nothing"]]},
        {"leaves": ["nothing"]},
        {"own": [[[1]], [[3]], [[4]]]},
        {"own": [[[1], [2]], [[3]]]},
        {"levels": [["a", "b"]]},
    ],
)
def test_a_graph_that_does_not_hold_together_is_refused(changed: dict[str, object]) -> None:
    assert graphs_of(Path("b"), json.dumps([GRAPH]).encode())[0].leaves == ["c"]
    with pytest.raises(ModelBundleError, match=r"b: the graph of 'DoS' in graphs\.json does not hold together"):
        graphs_of(Path("b"), json.dumps([GRAPH | changed]).encode())


def test_opening_a_bundle_leaves_no_trace_outside_and_calls_nobody(tmp_path: Path) -> None:
    """onnxruntime's telemetry keeps a device id and a database in the user's cache, and sends them."""
    code = (
        "from packetclip_sensor.model.bundle import Bundle; from packetclip_sensor.common.resources import resource\n"
        "Bundle.open(resource('model/shipped'))"
    )
    places = {name: str(tmp_path / name) for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "TMPDIR")}
    for folder in places.values():
        Path(folder).mkdir()
    quiet = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    subprocess.run([sys.executable, "-c", code], env=quiet | places, check=True)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []
