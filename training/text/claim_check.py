"""What a text says that its source does not: numbers, addresses, names, negations, words for other kinds of traffic.

For texts that a language model wrote. The rules are closed lists of words (`words.yaml`) and patterns, not a model: a doubt is a
refusal, for a lost rewording costs nothing and a false one misleads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import msgspec

NEGATION = re.compile(
    r"\b(?:no|not|never|none|nothing|nobody|neither|nor|without|cannot|lack\w*|absen\w*|fail\w*|refus\w*|reject\w*|denie[sd]|"
    r"un(?:answered|finished|completed|acknowledged|established|successful\w*)|incomplete\w*|miss(?:ing|es))\b|n't\b"
)
NUMBER, LEFT_OUT = "a number that is not the source's", "a number left out"
NAME, TURNED = "a name that is not the source's", "a negation turned round"
_RUN = re.compile(r"[A-Za-z0-9:.]+")


class _Words(msgspec.Struct, forbid_unknown_fields=True):
    numbers: str
    names: str
    hosts: str
    groups: dict[str, str]


@cache
def _words() -> _Words:
    import yaml  # noqa: PLC0415  (only who checks a text needs the lists)

    raw = yaml.safe_load((Path(__file__).parent / "claim_words.yaml").read_text(encoding="utf-8"))
    return msgspec.convert(raw, _Words)


@cache
def number_words() -> frozenset[str]:
    """Numbers in words."""
    return frozenset(_words().numbers.split())


@cache
def names() -> frozenset[str]:
    """Protocols, services, tools and makers."""
    return frozenset(_words().names.split())


@cache
def hosts() -> frozenset[str]:
    """What a host may be besides a host."""
    return frozenset(_words().hosts.split())


@cache
def groups() -> Mapping[str, frozenset[str]]:
    """Words for one kind of traffic, which may stand for each other, by the kind's name."""
    return {group: frozenset(words.split()) for group, words in _words().groups.items()}


def tokens(text: str) -> list[str]:
    """Runs of letters and digits, lower case."""
    return re.findall(r"[a-z0-9]+", text.lower())


def numbers(text: str) -> list[str]:
    """Numbers, addresses and everything else that holds a digit, and numbers in words, in the order of the text."""
    runs = (run.strip(".:").lower() for run in _RUN.findall(text))
    return [run for run in runs if any(c.isdigit() for c in run) or run in number_words() or _is_address(run)]


def figures(source: str, text: str, known: frozenset[str] | None = None) -> str | None:
    """The first reason against the numbers and names of `text`; None when there is none. `known` as in `named`."""
    said, own = set(numbers(text)), set(numbers(source))
    if said - own:
        return NUMBER
    if own - said:
        return LEFT_OUT
    return NAME if named(source, text, known) else None


def named(source: str, text: str, known: frozenset[str] | None = None) -> set[str]:
    """Names in `text` that its source has not.

    Args:
        known: words that are names however they are written; by default those of words.yaml.
    """
    # A capital letter within a sentence begins a name.
    found = {word.lower() for word in re.findall(r"(?<![.;:] )(?<!^)\b[A-Za-z]*[A-Z][A-Za-z]*", text)}
    found |= set(tokens(text)) & (names() if known is None else known)
    return found - set(tokens(source))


def foreign(source: str, text: str) -> list[str]:
    """Kinds of traffic that `text` speaks of and `source` does not."""
    said, own = set(tokens(text)), set(tokens(source))
    return [group for group, words in groups().items() if words & said and not words & own]


def turned(source: str, text: str) -> bool:
    """Whether one of the two denies something and the other does not."""
    return bool(NEGATION.search(text.lower())) != bool(NEGATION.search(source.lower()))


def _is_address(run: str) -> bool:
    return run.count(":") > 1 and re.fullmatch(r"[0-9a-f:.]+", run) is not None
