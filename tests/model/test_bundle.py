"""The model bundle: what is altered, missing or of another version is refused with the remedy."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from packetclip_sensor.common.resources import resource
from packetclip_sensor.errors import ModelBundleError
from packetclip_sensor.model.bundle import FILES, MANIFEST, Bundle, fingerprint, graphs_of, sealed
from packetclip_sensor.model.onnx_file import names_other_files


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
    raw["sha256"] |= raw.pop("same_as", {})  # exported anew with the same weights
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


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        ("temperature", (0, -1.0, 1e9, math.nan, math.inf), "temperature"),
        ("thresholds", ({"DoS": 1.5},), "thresholds"),
        ("thresholds", (dict.fromkeys(["DoS", "Reconnaissance", "Brute Force"], math.nan),), "thresholds"),
        ("margins", ({"DoS": -1.0}, {"DoS": 1e9}, {"DoS": math.nan}), "margins"),
        ("margins", ({"Floods": 1.0},), "margins names 'Floods', which is no mission"),
        ("ceilings", ({"DoS": 2.0}, {"DoS": -math.inf}), "ceilings"),
        ("ceilings", ({"Floods": 0.9},), "ceilings names 'Floods', which is no mission"),
        ("embedding", (0, -64, 10**9), "embedding"),
        ("embedding", (32,), r"encoder.onnx: has embedding of \[64\], by manifest.json they are \[32\]"),
        ("row_bytes", (-1, 10**30), "row_bytes"),
        ("window", ({"packets": 0}, {"packets": 10**12}, {"seconds": 0.0}, {"seconds": math.nan}, {"seconds": 1e9}), "window"),
        ("window", ({"min_packets": -4}, {"connections": 0}, {"connections": 10**9}), "window"),
        ("window", ({"packets": 3, "min_packets": 4},), "window.min_packets is above window.packets"),
        ("window", ({"packets": 29},), r"explainer.onnx: has embedding of \[30, 64\], by manifest.json they are \[29, 64\]"),
    ],
)
def test_every_number_of_the_manifest_has_a_range(bundle: Path, key: str, values: tuple[object, ...], words: str) -> None:
    for value in values:
        change(bundle, key, value)
        with pytest.raises(ModelBundleError, match=words):
            Bundle.open(bundle)


@pytest.mark.parametrize(("key", "value"), [("least", {"packets": 0}), ("least", {"connections": 10**12})])
def test_every_number_of_a_mission_has_a_range(bundle: Path, key: str, value: object) -> None:
    of_mission(bundle, key, value)
    with pytest.raises(ModelBundleError, match=r"Expected `int` [<>]= 1"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    "key",
    ["version", "sha256", "row_bytes", "relations", "window", "classes", "missions", "temperature", "thresholds", "embedding"],
)
def test_a_key_that_the_manifest_lacks_is_named_with_the_file(bundle: Path, key: str) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    del manifest[key]
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ModelBundleError, match=f"manifest.json lacks the key `{key}`; install the wheel again"):
        Bundle.open(bundle)


def test_a_key_that_a_mission_or_the_hashes_lack_is_named(bundle: Path) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    del manifest["sha256"]["graphs.json"]
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ModelBundleError, match=r"manifest\.json lacks the key `sha256\.graphs\.json`"):
        Bundle.open(bundle)
    del manifest["missions"][0]["severity"]
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ModelBundleError, match=r"manifest.json lacks the key `severity` - at `\$\[0\]` - at `\$.missions`"):
        Bundle.open(bundle)


def reseal(path: Path) -> None:
    (path / MANIFEST).write_text(json.dumps(sealed(json.loads((path / MANIFEST).read_text()), path)))


@pytest.mark.parametrize("change_of", ["logit_scale", "class_embeddings", "text_embeddings", "texts"])
def test_texts_that_lack_an_array_or_hold_no_finite_numbers_are_refused_by_name(bundle: Path, change_of: str) -> None:
    with np.load(bundle / "texts.npz") as arrays:
        kept = {name: arrays[name] for name in arrays}
    lacking = {name: array for name, array in kept.items() if name != change_of}
    for content, words in (
        (lacking, change_of),
        (lacking | {change_of: kept[change_of] * np.nan} if change_of != "texts" else {}, ""),
    ):
        np.savez(bundle / "texts.npz", **content)
        reseal(bundle)
        with pytest.raises(ModelBundleError, match=f"texts.npz: .*{words}"):
            Bundle.open(bundle)


@pytest.mark.parametrize("name", ["encoder.onnx", "reasoner.onnx", "explainer.onnx"])
@pytest.mark.parametrize("where", ["initializer", "subgraph", "attribute", "function", "sparse"])
def test_a_model_that_names_data_in_another_file_is_refused(bundle: Path, name: str, where: str) -> None:
    """The sensor would read any file that it may: here one of this machine's."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(bundle / name)
    outside = onnx.TensorProto(name="outside", data_type=onnx.TensorProto.UINT8, dims=[4], data_location=1)
    outside.external_data.add(key="location", value="../../../../../../etc/passwd")
    if where == "initializer":
        model.graph.initializer.append(outside)
    elif where == "subgraph":
        branch = onnx.helper.make_graph([], "g", [], [], [outside])
        model.graph.node.append(onnx.helper.make_node("If", ["c"], ["o"], then_branch=branch, else_branch=branch))
    elif where == "attribute":
        model.graph.node.append(onnx.helper.make_node("Constant", [], ["o"], value=outside))
    elif where == "function":
        node = onnx.helper.make_node("Constant", [], ["o"], value=outside)
        model.functions.append(onnx.FunctionProto(name="f", domain="d", node=[node]))
    else:
        model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=outside, dims=[4]))
    (bundle / name).write_bytes(model.SerializeToString())
    reseal(bundle)
    with pytest.raises(ModelBundleError, match=f"{name}: names data in another file, which no hash vouches for; install"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    "content", [b"", b"\x3a", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\xff" * 40, b"\x3b", b"text"]
)
def test_a_model_that_is_none_is_refused_by_name(bundle: Path, content: bytes) -> None:
    (bundle / "reasoner.onnx").write_bytes(content)
    reseal(bundle)
    with pytest.raises(ModelBundleError, match=r"reasoner\.onnx: .*; install the wheel again"):
        Bundle.open(bundle)
    nested = b""
    for _ in range(100):
        nested = bytes([0x32]) + _length(nested) + nested  # attribute: graph
        nested = bytes([0x2A]) + _length(nested) + nested  # node: attribute
        nested = bytes([0x0A]) + _length(nested) + nested  # graph: node
    with pytest.raises(ValueError, match="nested too deeply"):
        names_other_files(bytes([0x3A]) + _length(nested) + nested)


def _length(message: bytes) -> bytes:
    size, out = len(message), b""
    while size > 127:
        out, size = out + bytes([size & 127 | 128]), size >> 7
    return out + bytes([size])
