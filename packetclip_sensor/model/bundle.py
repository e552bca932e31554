"""Opens and checks the model bundle: a few files, each known by its hash, and nothing that could run code.

`manifest.json` names the version, the SHA-256 of every other file, token and window settings, classes, thresholds, what it was
trained on and how it measured. A wrong hash, a missing file or an unknown format version is refused before a packet is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from packetclip_sensor.common.missions import Mission, Missions
from packetclip_sensor.config.settings import Margin, Probability
from packetclip_sensor.errors import ModelBundleError
from packetclip_sensor.model.onnx_file import names_other_files
from packetclip_sensor.records import FloatArray
from packetclip_sensor.windows import tokens
from packetclip_sensor.windows.packet_features import RELATIONS
from packetclip_sensor.windows.windows import VIEWS, Window

if TYPE_CHECKING:
    import onnxruntime

FORMAT = 2
"""1 had the missions by name alone."""
FILES = ("encoder.onnx", "reasoner.onnx", "explainer.onnx", "graphs.json", "texts.npz")
OPTIONAL = ("text_tower.npz", "evidence.json")
"""Files that a bundle may lack: what `packetclip hunt` reads (see `hunt/text_encoder.py`), and `evidence/model.py`'s."""
MANIFEST = "manifest.json"
REMEDY = "install the wheel again, or point `model:` at a folder made by `make model`"
MOST_SCALE = 1e4
OLD = "give it its missions: python -m training.ship.missions --bundle"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """manifest.json, typed. Unknown keys (metrics, training data) stay in the file for people."""

    format: int
    version: str
    sha256: dict[str, str]
    row_bytes: int
    relations: list[str]
    views: list[str]
    window: Window
    classes: list[str]
    """By label, as `texts.npz` has them."""
    missions: Missions
    temperature: Annotated[float, Meta(gt=0.0, le=1000.0)]
    thresholds: dict[str, Probability]
    """Probability from which each mission's verdict counts, fitted for a stated false-alert budget; in the missions' order."""
    embedding: Annotated[int, Meta(ge=1, le=4096)]
    margins: dict[str, Margin] = {}
    """How far below its threshold, in logits, a window counts towards an alert together with others; none by default."""
    ceilings: dict[str, Probability] = {}
    """How far a site may raise each threshold: above it more than a fifth of the held-out attacks would no longer be detected."""


class Graph(msgspec.Struct, frozen=True):
    """One mission's graph as the reasoner uses it."""

    mission: str
    levels: list[list[str]]
    """Concepts by level, key concepts first."""
    edges: list[tuple[str, str]]
    leaves: list[str]
    """Concepts with an edge to the embedding node."""
    own: list[list[list[float]]]
    """The constant h of each level's concepts, (n, H) each, for the exact shares of the paths."""


def softmax(logits: npt.NDArray[np.floating], temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """(..., n) logits to probabilities; the temperature is a divisor that is fitted after training."""
    z = logits.astype(np.float64) / temperature
    z = np.exp(z - z.max(-1, keepdims=True))
    return np.asarray(z / z.sum(-1, keepdims=True))


@dataclass(frozen=True)
class Bundle:
    """An opened bundle; the models are onnxruntime sessions on the CPU."""

    path: Path
    manifest: Manifest
    encoder: onnxruntime.InferenceSession
    reasoner: onnxruntime.InferenceSession
    """Logits of a window, folded for speed."""
    explainer: onnxruntime.InferenceSession
    """The same reasoner with its inner states, and with concepts that can be removed."""
    graphs: tuple[Graph, ...]
    texts: tuple[str, ...]
    text_embeddings: FloatArray
    """(T, D) unit norm, one for each of `texts`."""
    class_embeddings: FloatArray
    """(classes, D) unit norm, the mean of each class's texts."""
    logit_scale: float

    def logits(self, embedding: FloatArray, relations: FloatArray, padding: npt.NDArray[np.bool_]) -> FloatArray:
        """The reasoner's (B, M + 1) logits of B windows: (B, A, D), (B, A, R), (B, A). What is padding in front of all of them is
        left out, unless the reasoner was exported for one length."""
        free = isinstance(self.reasoner.get_inputs()[0].shape[1], str)
        start = int(padding.all(0).argmin()) if free else 0
        window = {"embedding": embedding, "relations": relations, "padding": padding}
        out: FloatArray = self.reasoner.run(["logits"], {name: each[:, start:] for name, each in window.items()})[0]
        return out

    @property
    def concepts(self) -> list[tuple[int, int, str]]:
        """(mission, level, name) of every concept in the order of the explainer's `keep` input."""
        return [(m, i, c) for m, g in enumerate(self.graphs) for i, level in enumerate(g.levels, 1) for c in level]

    def classes(self, embedding: FloatArray) -> dict[str, float]:
        """Each class's probability: softmax over the cosines of a (D,) unit norm window embedding with the classes' texts."""
        shares = softmax(self.logit_scale * (self.class_embeddings @ embedding).astype(np.float64))
        return {name: round(float(p), 6) for name, p in zip(self.manifest.classes, shares, strict=True)}

    @staticmethod
    def open(path: Path) -> Bundle:
        """Read and check a bundle folder.

        Raises:
            ModelBundleError: a file is missing or altered, or the bundle was made for another version of the sensor.
        """
        import onnxruntime  # noqa: PLC0415  (who asks for the missions only, as many commands do, starts sooner without)

        manifest = _manifest(path)
        content = {name: _checked(path, name, manifest) for name in FILES}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # A batch's size changes all the time; keeping an arena for the largest would only hold memory.
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 3
        graphs = graphs_of(path, content["graphs.json"])
        _agree(path, "graphs", [graph.mission for graph in graphs], manifest.missions.names)
        sessions = []
        for name in ("encoder.onnx", "reasoner.onnx", "explainer.onnx"):
            with _understood(path, name):
                if names_other_files(content[name]):
                    raise ValueError("names data in another file, which no hash vouches for")
                session = onnxruntime.InferenceSession(content[name], options, providers=["CPUExecutionProvider"])
                _fits(session, manifest, sum(len(level) for graph in graphs for level in graph.levels))
                sessions.append(session)
        with _understood(path, "texts.npz"):
            texts = _texts(content["texts.npz"], manifest)
        encoder, reasoner, explainer = sessions
        return Bundle(path, manifest, encoder, reasoner, explainer, graphs, *texts)


@contextlib.contextmanager
def _understood(path: Path, name: str) -> Iterator[None]:
    """Whatever goes wrong with a file of the bundle is reported with its name."""
    try:
        yield
    except Exception as err:  # onnxruntime raises classes of its own, numpy ValueError, KeyError or BadZipFile
        words = err.args[0] if isinstance(err, KeyError) and err.args else err
        raise ModelBundleError(f"model bundle {path}: {name}: {words}; {REMEDY}") from err


def _fits(session: onnxruntime.InferenceSession, manifest: Manifest, concepts: int) -> None:
    """Raises ValueError where a model takes or gives arrays of other sizes than the manifest says."""
    window = [manifest.window.packets]
    sizes = {
        "tokens": [manifest.row_bytes],
        "embedding": [manifest.embedding],
        "relations": [*window, len(manifest.relations)],
        "padding": window,
        "keep": [concepts],
        "logits": [1 + len(manifest.missions)],
        "window_embedding": [manifest.embedding],
    }
    for given in (*session.get_inputs(), *session.get_outputs()):
        found = given.shape[1:]
        wanted = window + sizes["embedding"] if given.name == "embedding" and len(found) > 1 else sizes.get(given.name)
        # A size that the model leaves open has a name.
        if (
            wanted is not None
            and [size if isinstance(size, int) else of for size, of in zip(found, wanted, strict=False)] != wanted
        ):
            raise ValueError(f"has {given.name} of {found}, by {MANIFEST} they are {wanted}")


def _texts(content: bytes, manifest: Manifest) -> tuple[tuple[str, ...], FloatArray, FloatArray, float]:
    """Texts, their embeddings, the classes' embeddings and the scale of logits; KeyError or ValueError where one does not fit."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        texts = tuple(str(text) for text in arrays["texts"])
        of_texts, of_classes, scale = arrays["text_embeddings"], arrays["class_embeddings"], float(arrays["logit_scale"])
    for name, found, count in (("texts", of_texts, len(texts)), ("classes", of_classes, len(manifest.classes))):
        if found.shape != (count, manifest.embedding) or not np.isfinite(found).all():
            raise ValueError(f"embeddings of {name} are not {count} times {manifest.embedding} finite numbers")
    if not 0 < scale <= MOST_SCALE:
        raise ValueError(f"logit_scale is {scale}, not above 0 and at most {MOST_SCALE:g}")
    return texts, of_texts, of_classes, scale


def renamed(content: Any) -> Any:
    """The content of a manifest or a calibration file, with margins by their name of today where it has them as `leeways`."""
    return {key.replace("leeways", "margins"): value for key, value in content.items()} if isinstance(content, dict) else content


def fingerprint(path: Path) -> str:
    """SHA-256 of a bundle's manifest, which holds the hashes of all its other files: the name of exactly this model.

    Of a mission only the name counts, as in a manifest of format 1: another title or colour makes no calibration void, and a
    calibration made before format 2 holds. So does one made before a file was exported anew with the same weights: `same_as` has
    the hash that it had.

    Raises:
        ModelBundleError: the manifest cannot be read.
    """
    names, raw = {"format": 1, "missions": _manifest(path).missions.names}, _raw(path)
    raw["sha256"] |= raw.pop("same_as", {})
    return hashlib.sha256((json.dumps(raw | names, indent=1) + "\n").encode()).hexdigest()


def sealed(manifest: dict[str, Any], path: Path) -> dict[str, Any]:
    """The content of a manifest with the hashes of the files that lie in `path` now."""
    names = [*FILES, *(name for name in OPTIONAL if (path / name).exists())]
    return manifest | {"sha256": {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in names}}


def manifest_of(path: Path) -> Manifest:
    """The checked manifest of a bundle, without opening its models.

    Raises:
        ModelBundleError: it cannot be read, or is of another version of the sensor.
    """
    return _manifest(path)


def graphs_of(path: Path, content: bytes) -> tuple[Graph, ...]:
    """The graphs in the text of graphs.json, whole: every concept that an edge or a leaf names has a level and an h.

    Raises:
        ModelBundleError: they are not.
    """
    try:
        graphs = tuple(msgspec.json.decode(content, type=list[Graph]))
    except (ValueError, RecursionError) as err:  # msgspec's and Unicode's errors are ValueErrors
        raise ModelBundleError(f"model bundle {path}: graphs.json is not valid: {err}; {REMEDY}") from err
    for graph in graphs:
        concepts = {concept for level in graph.levels for concept in level}
        named = {end for edge in graph.edges for end in edge} | set(graph.leaves)
        sizes = [len(level) for level in graph.levels]
        if not named <= concepts or [len(level) for level in graph.own[: len(sizes)]] != sizes or len(graph.own) <= len(sizes):
            raise ModelBundleError(
                f"model bundle {path}: the graph of {graph.mission!r} in graphs.json does not hold together; {REMEDY}"
            )
    return graphs


def optional(path: Path, name: str) -> bytes | None:
    """A checked file of OPTIONAL; None where the bundle has none.

    Raises:
        ModelBundleError: the manifest names it and it is missing or altered.
    """
    manifest = _manifest(path)
    return _checked(path, name, manifest) if name in manifest.sha256 else None


def _raw(path: Path) -> Any:
    """What manifest.json holds, of our format."""
    try:
        raw: Any = renamed(json.loads((path / MANIFEST).read_bytes()))
    except OSError as err:
        raise ModelBundleError(f"model bundle {path}: cannot read {MANIFEST}: {err.strerror}; {REMEDY}") from err
    except ValueError as err:
        raise ModelBundleError(f"model bundle {path}: {MANIFEST} is not valid: {err}; {REMEDY}") from err
    if isinstance(raw, dict) and (found := raw.get("format")) != FORMAT:
        remedy = f"{OLD} {path}, or {REMEDY}" if found == 1 else REMEDY
        raise ModelBundleError(f"model bundle {path}: format {found!r}, this sensor reads format {FORMAT}; {remedy}")
    return raw


def _missions(kind: type, value: Any) -> Missions:
    """The missions of a manifest, as `msgspec.convert` asks for them."""
    if kind is not Missions:
        raise NotImplementedError(f"no reader for {kind}")
    try:
        return Missions(msgspec.convert(value, tuple[Mission, ...]))
    except msgspec.ValidationError as err:
        raise ValueError(str(err)) from err  # so that msgspec says of which key of the manifest it is


def _manifest(path: Path) -> Manifest:
    try:
        manifest = msgspec.convert(_raw(path), Manifest, dec_hook=_missions)
    except msgspec.ValidationError as err:
        words, missing = re.subn("Object missing required field (`[^`]*`)", r"lacks the key \1", str(err))
        raise ModelBundleError(f"model bundle {path}: {MANIFEST} {'' if missing else 'is not valid: '}{words}; {REMEDY}") from err
    missions = manifest.missions
    if manifest.window.min_packets > manifest.window.packets:
        raise ModelBundleError(f"model bundle {path}: {MANIFEST}: window.min_packets is above window.packets; {REMEDY}")
    for key, named in (("margins", manifest.margins), ("ceilings", manifest.ceilings)):
        if unknown := sorted(set(named) - set(missions.names)):
            raise ModelBundleError(f"model bundle {path}: {MANIFEST}: {key} names {unknown[0]!r}, which is no mission; {REMEDY}")
    expected = {
        "row_bytes": (manifest.row_bytes, tokens.ROW_BYTES),
        "relations": (manifest.relations, list(RELATIONS)),
        "views": (manifest.views, list(VIEWS)),
    }
    for key, (found, wanted) in expected.items():
        if found != wanted:
            raise ModelBundleError(
                f"model bundle {path}: {key} {_difference(found, wanted)}; they must be of one version, {REMEDY}"
            )
    _agree(path, "classes", manifest.classes, missions.classes)
    _agree(path, "thresholds", sorted(manifest.thresholds), sorted(missions.names))
    return msgspec.structs.replace(manifest, thresholds={name: manifest.thresholds[name] for name in missions.names})


def _agree(path: Path, what: str, found: Sequence[str], wanted: Sequence[str]) -> None:
    if list(found) != list(wanted):
        have, want = ", ".join(found) or "nothing", ", ".join(wanted)
        raise ModelBundleError(f"model bundle {path}: its {what} are of {have}, its missions say {want}; {REMEDY}")


def _checked(path: Path, name: str, manifest: Manifest) -> bytes:
    try:
        content = (path / name).read_bytes()
    except OSError as err:
        raise ModelBundleError(f"model bundle {path}: cannot read {name}: {err.strerror}; {REMEDY}") from err
    if name not in manifest.sha256:
        raise ModelBundleError(f"model bundle {path}: {MANIFEST} lacks the key `sha256.{name}`; {REMEDY}")
    found = hashlib.sha256(content).hexdigest()
    if found != manifest.sha256[name]:
        raise ModelBundleError(
            f"model bundle {path}: {name} has SHA-256 {found[:12]}..., the manifest says "
            f"{manifest.sha256[name][:12]}...; "
            f"the file was changed or cut, {REMEDY}"
        )
    return content


def _difference(found: object, wanted: object) -> str:
    """What a bundle says otherwise than this sensor, in a few words however long the lists are."""
    if not (isinstance(found, list) and isinstance(wanted, list)):
        return f"is {found!r}, this sensor has {wanted!r}"
    lacking = [str(x) for x in wanted if x not in found]
    unknown = [str(x) for x in found if x not in wanted]
    parts = [
        f"{what} {', '.join(names[:3])}{' and more' * (len(names) > 3)}"
        for what, names in (("lack", lacking), ("hold", unknown))
        if names
    ]
    return (
        f"({len(found)} of them) {' and '.join(parts)}, unlike this sensor's {len(wanted)}" if parts else "stand in another order"
    )
