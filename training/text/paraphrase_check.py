"""The claim check: why a paraphrase is refused, which is everything that it says and its source does not.

The rules are closed lists of words (`training/text/sentences/words.yaml`) and patterns, not a model: a doubt is a refusal,
because a lost paraphrase costs nothing and a false one teaches a false thing.
"""

from __future__ import annotations

import re

import msgspec

from training.missions import read
from training.text.bank import FOLDER, SERVICES
from training.text.knowledge import load_all
from training.text.texts import normalised


class _Words(msgspec.Struct, forbid_unknown_fields=True):
    grammar: str
    common: str
    numbers: str
    names: str
    hosts: str
    groups: dict[str, str]


_WORDS: _Words = read(FOLDER / "words.yaml", _Words)
_GRAMMAR, _NUMBERS, _HOSTS = (frozenset(text.split()) for text in (_WORDS.grammar, _WORDS.numbers, _WORDS.hosts))
_NAMES = frozenset(_WORDS.names.split()) | set(SERVICES.values()) - {"control", "voice", "video", "mail", "desktop"}
_GROUPS = {group: frozenset(words.split()) for group, words in _WORDS.groups.items()}
"""Words for one kind of traffic, which may stand for each other, by the kind's name."""
_CONCEPTS = frozenset(word for graph in load_all() for word in graph.words) - frozenset(_WORDS.common.split())
"""Words of the mission graphs: each of them stands for a class or a few."""

_NEGATION = re.compile(
    r"\b(?:no|not|never|none|nothing|nobody|neither|nor|without|cannot|lack\w*|absen\w*|fail\w*|refus\w*|reject\w*|denie[sd]|"
    r"un(?:answered|finished|completed|acknowledged|established|successful\w*)|incomplete\w*|miss(?:ing|es))\b|n't\b"
)
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
    return _form(source, text) or _figures(source, text) or _meaning(source, text)


def _tokens(text: str) -> list[str]:
    """Runs of letters and digits, lower case."""
    return re.findall(r"[a-z0-9]+", text.lower())


def _form(source: str, text: str) -> str | None:
    """Characters, length, language, and talk about the task."""
    words, own = _tokens(text), _tokens(source)
    checks = {
        "characters that no sentence of the bank has": not _CHARACTERS.fullmatch(text),
        "the source itself": normalised(text) == normalised(source),
        "too short or too long": not 0.5 * len(own) <= len(words) <= 2 * len(own) + 4 or not 4 <= len(words) <= 70,
        "talk about the task": bool(_TALK.search(text.lower()) and not _TALK.search(source.lower())),
        "not an English sentence": sum(word in _GRAMMAR for word in words) < 0.12 * len(words),
        "words over and over": len(set(words)) < 0.5 * len(words),
    }
    return next((reason for reason, holds in checks.items() if holds), None)


def _figures(source: str, text: str) -> str | None:
    """Numbers and names."""
    found, own = _numbers(text), _numbers(source)
    # A capital letter within a sentence begins a name.
    names = {word.lower() for word in re.findall(r"(?<![.;:] )(?<!^)\b[A-Za-z]*[A-Z][A-Za-z]*", text)}
    names |= set(_tokens(text)) & _NAMES
    checks = {
        "a number that is not the source's": found - own,
        "a number left out": own - found,
        "a name that is not the source's": names - set(_tokens(source)),
    }
    return next((reason for reason, those in checks.items() if those), None)


def _numbers(text: str) -> set[str]:
    """Numbers, addresses and everything else that holds a digit, and numbers in words."""
    runs = (run.strip(".:").lower() for run in re.findall(r"[A-Za-z0-9:.]+", text))
    return {run for run in runs if any(c.isdigit() for c in run) or run in _NUMBERS or _is_address(run)}


def _is_address(run: str) -> bool:
    return run.count(":") > 1 and re.fullmatch(r"[0-9a-f:.]+", run) is not None


def _meaning(source: str, text: str) -> str | None:
    """Subject, negation, amounts, hosts, pace, and words of another class."""
    words, own = set(_tokens(text)), set(_tokens(source))
    stems = {w[:5] for w in own - _GRAMMAR}
    foreign = [group for group, those in _GROUPS.items() if those & words and not those & own]
    checks = {
        "something else than the source": len(stems & {w[:5] for w in words}) < 0.4 * len(stems),
        "a negation turned round": bool(_NEGATION.search(text.lower())) != bool(_NEGATION.search(source.lower())),
        "hosts that are not the source's": bool((words & _HOSTS) - own) or any("host" in group for group in foreign),
        "an amount that is not the source's": not all(_supported(one, _amounts(source)) for one in _amounts(text)),
        f"a word of {' and '.join(foreign)} that the source has not": bool(foreign),
        "a concept that the source has not": any(w[:5] not in stems for w in words & _CONCEPTS),
    }
    return next((reason for reason, holds in checks.items() if holds), None)


def _amounts(text: str) -> set[tuple[str, str, str]]:
    """(way, amount, thing) of every "from many hosts", "no payload", ...; the way is "" where none is given."""
    out = set()
    for match in _AMOUNT.finditer(text.lower()):
        named = match.groupdict()
        amount, thing = (next(name for name in of if named[name]) for of in (_AMOUNTS, _THINGS))
        way = named["way"] or ""
        out.add((_WAYS.get(way, way), amount, thing))
    return out


def _supported(amount: tuple[str, str, str], known: set[tuple[str, str, str]]) -> bool:
    """Whether the source has the same amount of the same thing, and the same way where both have one; "one" may be new."""
    way, count, thing = amount
    alike = {c for w, c, t in known if t == thing and (not way or w in ("", way))}
    return count in alike or (count == "one" and not alike)
