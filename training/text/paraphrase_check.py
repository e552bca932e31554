"""Why a paraphrase is refused: everything that it says and its source does not.

The rules are closed lists of words (`training/text/sentences/words.yaml`, and those that the sensor checks wordings with,
`training/text/claim_check.py`) and patterns, not a model: a doubt is a refusal, for a lost
paraphrase costs nothing and a false one teaches a false thing.
"""

from __future__ import annotations

import re

import msgspec

from training.missions import read
from training.text import claim_check
from training.text.bank import FOLDER, SERVICES
from training.text.knowledge import load_all
from training.text.texts import normalised


class _Words(msgspec.Struct, forbid_unknown_fields=True):
    grammar: str
    common: str


_READ: _Words = read(FOLDER / "words.yaml", _Words)
_NAMES = claim_check.names() | set(SERVICES.values()) - {"control", "voice", "video", "mail", "desktop"}
_GRAMMAR = frozenset(_READ.grammar.split())

_CONCEPTS = frozenset(word for graph in load_all() for word in graph.words) - frozenset(_READ.common.split())
"""Words of the mission graphs: each of them stands for a class or a few."""

_CHARACTERS = re.compile(r"[A-Za-z0-9 ,.;:'()%/-]+")
_TALK = re.compile(
    r"\b(?:paraphras\w*|sentence|rewrit\w*|rephras\w*|here (?:is|are)|sure|certainly|as an ai|language model|description|"
    r"i|you|we)\b"
)
_AMOUNTS = {
    "no": "no|without", "one": "one|an?(?: single)?|single|the same", "few": "a few|few|two|three", "several": "several",
    "many": "many|numerous|countless|multiple|dozens of|hundreds of",
}  # fmt: skip
_THINGS = {
    "host": "hosts?|machines?|senders?|sources?|clients?|servers?|receivers?|targets?", "port": "ports?",
    "connection": "connections?|sessions?", "payload": "payloads?", "answer": "answers?|repl(?:y|ies)|responses?",
}  # fmt: skip
_AMOUNT = re.compile(
    r"(?:\b(?P<way>from|by|to|against|at)\s+)?\b(?:" + "|".join(f"(?P<{name}>{words})" for name, words in _AMOUNTS.items())
    + r")\s+(?:\w+\s+)?(?:" + "|".join(f"(?P<{name}>{words})" for name, words in _THINGS.items()) + r")\b"
)  # fmt: skip
_WAYS = {"by": "from", "against": "to", "at": "to"}


def fault(source: str, text: str) -> str | None:
    """The first reason against `text` as a paraphrase of `source`, in words that can be counted; None when there is none."""
    return _form(source, text) or claim_check.figures(source, text, _NAMES) or _meaning(source, text)


def _amounts(text: str) -> set[tuple[str, str, str]]:
    """(way, amount, thing) of every "from many hosts", "no payload", ...; the way is "" where none is said."""
    out = set()
    for match in _AMOUNT.finditer(text.lower()):
        named = match.groupdict()
        amount, thing = (next(name for name in of if named[name]) for of in (_AMOUNTS, _THINGS))
        way = named["way"] or ""
        out.add((_WAYS.get(way, way), amount, thing))
    return out


def _form(source: str, text: str) -> str | None:
    """Characters, length, language, and talk about the task."""
    words, own = claim_check.tokens(text), claim_check.tokens(source)
    checks = {
        "characters that no sentence of the bank has": not _CHARACTERS.fullmatch(text),
        "the source itself": normalised(text) == normalised(source),
        "too short or too long": not 0.5 * len(own) <= len(words) <= 2 * len(own) + 4 or not 4 <= len(words) <= 70,
        "talk about the task": bool(_TALK.search(text.lower()) and not _TALK.search(source.lower())),
        "not an English sentence": sum(word in _GRAMMAR for word in words) < 0.12 * len(words),
        "words over and over": len(set(words)) < 0.5 * len(words),
    }
    return next((reason for reason, holds in checks.items() if holds), None)


def _meaning(source: str, text: str) -> str | None:
    """Subject, negation, amounts, hosts, pace, and words of another class."""
    words, own = set(claim_check.tokens(text)), set(claim_check.tokens(source))
    stems = {w[:5] for w in own - _GRAMMAR}
    if len(stems & {w[:5] for w in words}) < 0.4 * len(stems):
        return "something else than the source"
    if claim_check.turned(source, text):
        return claim_check.TURNED
    foreign = claim_check.foreign(source, text)
    checks = {
        "hosts that are not the source's": bool((words & claim_check.hosts()) - own) or any("host" in group for group in foreign),
        "an amount that is not the source's": not all(_supported(one, _amounts(source)) for one in _amounts(text)),
        f"a word of {' and '.join(foreign)} that the source has not": bool(foreign),
        "a concept that the source has not": any(w[:5] not in stems for w in words & _CONCEPTS),
    }
    return next((reason for reason, holds in checks.items() if holds), None)


def _supported(amount: tuple[str, str, str], known: set[tuple[str, str, str]]) -> bool:
    """Whether the source says the same amount of the same thing, and the same way where both say which; "one" may be new."""
    way, count, thing = amount
    alike = {c for w, c, t in known if t == thing and (not way or w in ("", way))}
    return count in alike or (count == "one" and not alike)
