"""The sentences of `texts.py`, read from `training/text/sentences/`: what may be said of a class and what the facts must show.

Sentences are data, so they stand in YAML, one file a class; paraphrases by a language model are one more file (`paraphrase.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

from packetclip_sensor.errors import SensorError
from packetclip_sensor.records import CLASS_MISSION

FOLDER = Path(__file__).parent / "sentences"


class BankError(SensorError):
    """A file of the bank cannot be used; the message says what to mend."""


class _HeldOut(msgspec.Struct, forbid_unknown_fields=True):
    prompts: list[str]
    sentences: dict[str, list[str]]


class _Class(msgspec.Struct, forbid_unknown_fields=True, rename={"name": "class"}):
    name: str
    author: str
    date: Any
    cores: dict[str, list[str]]
    prompts: list[str]
    held_out: _HeldOut
    words: list[str] = []


class _Common(msgspec.Struct, forbid_unknown_fields=True):
    services: dict[str, dict[int, str]]
    enriched: list[str]
    enriched_benign: list[str]
    word_needs: dict[str, list[str]]


def read(path: Path, kind: type[Any]) -> Any:
    """A YAML file as the given struct. Raises BankError with the file, the place and what is wrong."""
    try:
        return msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), kind)
    except OSError as err:
        raise BankError(f"{path}: cannot be read ({err.strerror}); it belongs to the checkout") from err
    except (yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError) as err:
        raise BankError(f"{path}: {err}; mend the file, see training/text/sentences/syn_flood.yaml") from err


_COMMON: _Common = read(FOLDER / "common.yaml", _Common)
_CLASSES: dict[str, _Class] = {name: read(FOLDER / f"{name.lower().replace(' ', '_')}.yaml", _Class) for name in CLASS_MISSION}

SERVICES = {(proto, port): name for proto, ports in _COMMON.services.items() for port, name in ports.items()}
"""Service by protocol and responder port, for texts only; no model input has it."""

WORDS = {name: tuple(of.words) for name, of in _CLASSES.items() if of.words}
"""Words of the mission's graph that suit the class; one of the first two is in each enrichment."""

ENRICHED = tuple(_COMMON.enriched)
"""How words of a graph join a sentence: {s} is the sentence, {l} the same with a small first letter, {w} the words."""

ENRICHED_BENIGN = tuple(_COMMON.enriched_benign)
"""Benign has no graph; its sentences are enriched with these."""

WORD_NEEDS = {word: tag for tag, words in _COMMON.word_needs.items() for word in words}
"""The tag that a sentence must already need before the word may enrich it."""

CORES = {
    name: tuple((needs, template) for needs, templates in of.cores.items() for template in templates)
    for name, of in _CLASSES.items()
}
"""(needs, template) of each class: needs are tags of `texts.tags`, space separated; braces hold alternatives."""

PROMPTS = {name: tuple(of.prompts) for name, of in _CLASSES.items()}
"""Zero-shot prompts, kept out of the training texts: some name the class, some say what its packets look like."""

HELD_OUT_PROMPTS = {name: tuple(of.held_out.prompts) for name, of in _CLASSES.items()}
HELD_OUT_SENTENCES = {
    name: tuple((needs, text) for needs, texts in of.held_out.sentences.items() for text in texts)
    for name, of in _CLASSES.items()
}
"""For tests only: other words and other templates than all that training sees."""
