"""An alert's sentence in a language model's words, where a site asks for it: a field of its own, beside the measured sentence.

Off by default. The model gets what the sentence says (`event.reason`), mission, class and the heaviest concepts: facts that the
sensor counted and words of its own graphs, never a byte of a packet. Its answer is kept only if every number and name in it
stands in those facts, in the same order and unit, nothing is denied that was not, nobody sends what he got, and no other kind of
traffic is spoken of. Otherwise, and when the endpoint is slow, down or talks rubbish, the alert goes out as it would have gone
out, and the miss is counted.

A document depends on the alert alone, so that a replay makes the same one again; a language model does not repeat itself. That is
why its words stand apart (`packetclip.wording`), enter no id and no other field, and are asked for by the running sensor only.
"""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
import structlog
from msgspec import Meta

from packetclip_sensor import said
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.metrics import Counters
from packetclip_sensor.records import Alert, Safe

MINUTE_S = 60.0
MOST_BYTES = 100_000
"""Of an answer; a longer one is rubbish."""
MOST_CHARACTERS = 1000
CONCEPTS = 5
REST_S = 60.0
"""An endpoint that failed is left alone so long."""
SYSTEM = "You write for network security analysts, in plain English."
PROMPT = (
    "Rewrite the sentence between the marks in one or two short sentences that are easier to read. Keep every number, unit, "
    "address and protocol exactly as it is and in the same order. Add nothing: no cause, no advice, no name, no number. "
    "Answer with the rewritten text alone.\n"
    "Verdict: {verdict}. Concepts: {concepts}.\n<<<{sentence}>>>"
)

log = structlog.get_logger()


class WordingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Alerts' sentences rewritten by a language model, in a field of their own (docs/explanations.md)."""

    endpoint: str | None = None
    """Base address of an OpenAI-compatible server, for example http://127.0.0.1:8080/v1; null for none. It is sent the sentence
    of each alert, addresses included, and never a byte of a packet."""
    model: str = ""
    """Name of the model there."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key, where the server wants one."""
    timeout_s: Annotated[float, Meta(gt=0.0, le=30.0)] = 5.0
    """Seconds that alerts may wait for wordings in any one minute, all together; what is not there by then goes without."""


class Refused(Exception):  # noqa: N818 - an answer is refused, nothing broke
    """Why an answer is not taken."""


def fault(facts: str, sentence: str, text: str) -> str | None:
    """The first reason against `text` as other words for `sentence`; None when there is none.

    Args:
        facts: what else may be spoken of: the verdict and the concepts.
    """
    known, words = f"{facts} {sentence}", said.tokens(text)
    others = said.foreign(known, text)
    checks = {
        "characters that no sentence has": not text.isprintable(),
        "too short or too long": not 0.4 * len(sentence) <= len(text) <= min(2 * len(sentence) + 40, MOST_CHARACTERS),
        "words over and over": len(set(words)) < 0.4 * len(words),
        said.NUMBER: bool(set(said.numbers(text)) - set(said.numbers(sentence))),
        said.LEFT_OUT: bool(set(said.numbers(sentence)) - set(said.numbers(text))),
        said.ORDER: said.numbers(text) != said.numbers(sentence),
        said.UNIT: said.measured(text) != said.measured(sentence),
        said.NAME: bool(said.named(known, text)),
        said.TURNED: said.turned(sentence, text),
        said.SENDER: said.ways(text)[:2] != said.ways(sentence)[:2],
        f"words of {' and '.join(others)}": bool(others),
        "what hosts are": bool(set(words) & said.hosts() - set(said.tokens(known))),
    }
    return next((reason for reason, holds in checks.items() if holds), None)


class Worder:
    """Asks the endpoint, within the time that is left of this minute; gives up on it for a while after a failure."""

    def __init__(self, config: WordingConfig, counters: Counters, clock: Callable[[], float] = time.monotonic) -> None:
        self._config, self._counters, self._clock = config, counters, clock
        self._spent: deque[tuple[float, float]] = deque()
        """(when, how long) alerts waited in the last minute."""
        self._rests_until = 0.0
        self._asking: threading.Thread | None = None
        self._key = _key(config)

    def worded(self, alert: Alert) -> Alert:
        """The same alert, with a wording if one was to be had in time."""
        left = self._left()
        if left <= 0 or self._clock() < self._rests_until or (self._asking is not None and self._asking.is_alive()):
            self._counters.wordings_skipped += 1
            return alert
        began = self._clock()
        answer: list[str | Exception] = []
        # In a thread of its own: a server that sends a byte now and then would outlive every timeout of a socket.
        self._asking = threading.Thread(target=self._ask, args=(alert, left, answer), daemon=True)
        self._asking.start()
        self._asking.join(left)
        self._spent.append((began, self._clock() - began))
        found = answer[0] if answer else TimeoutError(f"no answer in {left:.1f} s")
        if isinstance(found, Refused):
            self._counters.wordings_refused += 1
            log.info("wording_refused", id=alert.id, reason=str(found))
        elif isinstance(found, Exception):
            self._counters.wordings_failed += 1
            self._rests_until = self._clock() + REST_S
            log.warning("wording_failed", endpoint=self._config.endpoint, reason=str(found)[:300], rests_s=REST_S)
        else:
            self._counters.wordings += 1
            return msgspec.structs.replace(alert, wording=(found, self._config.model))
        return alert

    def _left(self) -> float:
        """Seconds of this minute's time."""
        now = self._clock()
        while self._spent and self._spent[0][0] <= now - MINUTE_S:
            self._spent.popleft()
        return self._config.timeout_s - sum(seconds for _, seconds in self._spent)

    def _ask(self, alert: Alert, left: float, answer: list[str | Exception]) -> None:
        try:
            answer.append(self._checked(alert, self._sent(_body(alert, self._config.model), left)))
        except Exception as err:
            answer.append(err)

    def _sent(self, body: bytes, left: float) -> bytes:
        headers = {"Content-Type": "application/json", "User-Agent": "packetclip-sensor"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        address = f"{(self._config.endpoint or '').rstrip('/')}/chat/completions"
        request = urllib.request.Request(address, body, headers)  # noqa: S310 - the scheme was checked
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=left) as reply:
            raw: bytes = reply.read(MOST_BYTES + 1)
        return raw

    def _checked(self, alert: Alert, raw: bytes) -> str:
        """The answer's text.

        Raises:
            Refused: it is no answer, or says what the facts do not.
        """
        try:
            if len(raw) > MOST_BYTES:
                raise ValueError("too long")
            choice = json.loads(raw)["choices"][0]
            text, cut = choice["message"]["content"], choice.get("finish_reason") == "length"
            if not isinstance(text, str) or cut:
                raise ValueError("cut")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as err:
            raise Refused("not a chat completion, or a cut one") from err
        text = " ".join(text.split()).strip('<>"“” ')
        reason = fault(_facts(alert), alert.reason, text)
        if reason:
            raise Refused(reason)
        return text


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would send the key and the facts to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


def worded(batches: Iterable[Safe], config: WordingConfig, counters: Counters) -> Iterator[Safe]:
    """Give alerts their wording on their way to the sink; without an endpoint all pass as they are.

    Raises:
        ConfigError: the endpoint is no web address, names no model, or its key is not in the environment.
    """
    if config.endpoint is None:
        return iter(batches)
    return _worded(batches, Worder(config, counters))


def _worded(batches: Iterable[Safe], worder: Worder) -> Iterator[Safe]:
    for safe in batches:
        safe.alerts = [worder.worded(alert) for alert in safe.alerts]
        yield safe


def _key(config: WordingConfig) -> str | None:
    parts = urlsplit(config.endpoint or "")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"wording.endpoint {config.endpoint!r}: no web address; write it like http://127.0.0.1:8080/v1")
    if not config.model:
        raise ConfigError(f"wording.model: {config.endpoint} needs the name of a model; its /models lists them")
    if config.api_key_env is None:
        return None
    key = os.environ.get(config.api_key_env)
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigError(f"wording.api_key_env: the environment variable {config.api_key_env} holds no key; export it")
    return key


def _facts(alert: Alert) -> str:
    concepts = [concept.name for concept in alert.concepts if concept.weight > 0][:CONCEPTS]
    return f"{alert.mission}, {alert.klass}. {', '.join(concepts)}"


def _body(alert: Alert, model: str) -> bytes:
    verdict, _, concepts = _facts(alert).partition(". ")
    prompt = PROMPT.format(verdict=verdict, concepts=concepts or "none", sentence=alert.reason)
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]
    return json.dumps({"model": model, "messages": messages, "temperature": 0, "max_tokens": 300, "stream": False}).encode()
