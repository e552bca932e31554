"""The words that packets are paired with: a bank of sentences for each class, prompts for zero-shot, and the text of a window.

Source: PacketCLIP section III-B: a template is enriched with words of the label's mission graph. Each sentence names what the
facts must show before it may stand beside a window (`needs`): a text never claims UDP of TCP packets, many sources of one, or SSH
without port 22. Everything here is deterministic; randomness comes only from the `rng` that the caller gives.
`python -m training.text.report` reports on the bank.
"""

import hashlib
import itertools
import math
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from packetclip_sensor.alerts.sentences import window_text
from packetclip_sensor.common.missions import BENIGN
from training.missions import CLASS_MISSION
from training.text.bank import (
    CORES,
    ENRICHED,
    ENRICHED_BENIGN,
    HELD_OUT_PROMPTS,
    HELD_OUT_SENTENCES,
    PROMPTS,
    SERVICES,
    WORD_NEEDS,
    WORDS,
)

_PER_EVENT = 40
"""Sentences of an event node."""
_PER_CORE = 5
"""Wordings kept of a core, spread over all its alternatives."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence and the tags (see `tags`) that a window's facts must have before it may describe the window."""

    text: str
    needs: frozenset[str]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Texts of a class that no training text equals: for the zero-shot test."""

    prompts: tuple[str, ...]
    sentences: tuple[Sentence, ...]

    @property
    def all(self) -> list[str]:
        """Prompts, then the texts of the sentences."""
        return [*self.prompts, *(s.text for s in self.sentences)]


def held_out(klass: str) -> HeldOut:
    """Prompts and sentences of a class in other words and by other templates than the bank's; never used in training."""
    own = (Sentence(_sentence(text), frozenset(needs.split())) for needs, text in HELD_OUT_SENTENCES[klass])
    return HeldOut(HELD_OUT_PROMPTS[klass], tuple(own))


def concept_prompt(word: str) -> str:
    """The prompt whose text embedding is a concept node's feature. Source: MissionGNN's prompt, for packets."""
    return f"this network packet is related to {word}"


def event_sentences(klass: str) -> list[str]:
    """Sentences of the bank for a class's event node, spread over all of them; prompts stay out, since zero-shot is tested on
    them."""
    return spread(TEXTS[klass], _PER_EVENT)


def packet_prompt(phrase: str) -> str:
    """The sentence for a packet's payload, from a phrase of packetclip_sensor/windows/payload.py."""
    return f"a packet: {phrase}"


def class_prompts(klass: str) -> list[str]:
    """Short prompts for zero-shot classification; none of them is a training text."""
    return list(PROMPTS[klass])


def expand(template: str) -> list[str]:
    """All wordings of a template with alternatives: "a {big|small} {cat}" gives two."""
    parts = re.split(r"\{([^{}]*)\}", template)
    choices = [part.split("|") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(pick) for pick in itertools.product(*choices)]


def _sentence(wording: str) -> str:
    return wording[0].upper() + wording[1:] + "."


def spread(items: Sequence[str], count: int) -> list[str]:
    """`count` of the items, evenly spaced; all of them where there are no more."""
    return [items[i * len(items) // count] for i in range(count)] if len(items) > count else list(items)


@cache
def bank(klass: str) -> tuple[Sentence, ...]:
    """The sentences of a class, each once: every core in several wordings, plain and enriched with graph words."""
    rng = random.Random(f"texts of {klass}")
    words = WORDS.get(klass, ())
    out: dict[str, Sentence] = {}
    for needs, template in CORES[klass]:
        must = frozenset(needs.split())
        for wording in spread(expand(template), _PER_CORE):
            plain = _sentence(wording)
            out.setdefault(normalised(plain), Sentence(plain, must))
            if words:
                rest = [w for w in words[2:] if not WORD_NEEDS.get(w) or WORD_NEEDS[w] in must]
                chosen = [rng.choice(words[:2]), *rng.sample(rest, rng.choice((1, 2)))]
                form, listed = rng.choice(ENRICHED), ", ".join(chosen[:-1]) + " and " + chosen[-1]
            else:
                form, listed = rng.choice(ENRICHED_BENIGN), ""
            text = form.format(s=plain, w=listed, l=wording + ".")
            out.setdefault(normalised(text), Sentence(text, must))
    return tuple(out.values())


def tags(facts: Mapping[str, float | int | str | None]) -> frozenset[str]:
    """What a window's facts support: protocol, service, ends, speed, answers. A fact of None supports nothing."""

    def fact(name: str) -> float:
        value = facts.get(name)
        return value if isinstance(value, int | float) else math.nan

    proto, port = str(facts.get("proto")), fact("top_resp_p")
    either = {SERVICES.get((p, int(port))) for p in (("udp", "tcp") if proto == "mixed" else (proto,)) if not math.isnan(port)}
    service = either.pop() if len(either) == 1 else None
    checks = {
        "many_sources": fact("distinct_orig_h") >= 5,
        "one_source": fact("distinct_orig_h") == 1,
        "many_targets": fact("distinct_resp_h") >= 5,
        "one_target": fact("distinct_resp_h") == 1,
        "many_ports": fact("distinct_resp_p") >= 5,
        "one_port": fact("distinct_resp_p") == 1,
        "many_connections": fact("distinct_uid") >= 5,
        "one_connection": fact("distinct_uid") == 1,
        "single_packets": fact("one_packet_connections_share") >= 0.8 and fact("distinct_uid") >= 5,
        "fast": fact("rate_pps") >= 100 and fact("packets") >= 5,
        "slow": fact("rate_pps") < 10 and fact("packets") >= 5,
        "pauses": fact("max_gap_s") >= 2,
        "unanswered": fact("reply_share") == 0,
        "answered": fact("reply_share") >= 0.05,
        "incomplete": fact("completed_connections") == 0,
        "completed": fact("completed_connections") >= 1,
        "syn": fact("syn_share") >= 0.25,
        "rst": fact("rst_share") >= 0.15,
        "odd": fact("odd_flags_share") >= 0.03,
        "echo": fact("icmp_echo_share") >= 0.3,
        "unreachable": fact("icmp_unreachable_share") >= 0.1,
        "empty": fact("payload_mean_bytes") < 0.5,
        "small": 0.5 <= fact("payload_mean_bytes") < 100,
        "large": fact("payload_mean_bytes") >= 500,
    }
    return frozenset({proto, *([service] if service else []), *(name for name, holds in checks.items() if holds)})


def supported(klass: str, facts: Mapping[str, float | int | str | None]) -> list[Sentence]:
    """The class's sentences that the facts support; never empty, for every class has sentences that need nothing.

    Benign sentences are of a kind: where the facts support a kind's own sentences, the general ones stand back.
    """
    have = tags(facts)
    held = [s for s in bank(klass) if s.needs <= have]
    if klass == BENIGN:
        most = max(len(s.needs) for s in held)
        return [s for s in held if len(s.needs) == most or (most > 1 and len(s.needs) == most - 1)]
    return held


def pair_text(
    klass: str, facts: Mapping[str, float | int | str | None], rng: random.Random | np.random.Generator
) -> tuple[str, str]:
    """The training text of a window: an enriched sentence of its class, then the facts in coarse words.

    Returns:
        (text_id, text): equal ids for texts that differ at most in case, punctuation and spaces.
    """
    held = supported(klass, facts)
    chosen = held[min(int(rng.random() * len(held)), len(held) - 1)]
    text = f"{chosen.text} {window_text(facts)}"
    return text_id(text), text


def normalised(text: str) -> str:
    """Lower case, words and numbers only, one space between."""
    return " ".join(re.findall(r"[a-z0-9%]+", text.lower()))


def text_id(text: str) -> str:
    """16 hex digits that distinguish normalised texts."""
    return hashlib.sha256(normalised(text).encode()).hexdigest()[:16]


TEXTS: dict[str, list[str]] = {klass: [s.text for s in bank(klass)] for klass in CLASS_MISSION}
"""The sentences of each class."""
