"""The sentences of `texts.py`: the sentences of a class and what the facts must show.

Sentences are data, so they stand in YAML: those of an attack in its mission's file (`training/missions/`), those of Benign and
what all share in `training/text/sentences/`.
"""

from pathlib import Path

import msgspec

from packetclip_sensor.common.missions import BENIGN
from training.missions import CLASS_MISSION, FILES, Texts, read

FOLDER = Path(__file__).parent / "sentences"


class _Benign(Texts, forbid_unknown_fields=True, kw_only=True, rename={"name": "class"}):
    name: str


class _Common(msgspec.Struct, forbid_unknown_fields=True):
    services: dict[str, dict[int, str]]
    enriched: list[str]
    enriched_benign: list[str]
    word_needs: dict[str, list[str]]


_COMMON = read(FOLDER / "common.yaml", _Common)
_FILES: dict[str, Texts] = {klass.name: klass for _, file in FILES.values() for klass in file.classes}
_FILES[BENIGN] = read(FOLDER / "benign.yaml", _Benign)
_CLASSES = {name: _FILES[name] for name in CLASS_MISSION}

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
