"""Makes a mission graph with a language model: the paper's two prompts over N rounds, any OpenAI-compatible endpoint.

The second prompt names "vocabularies in set K" without saying how the answer tells which word belongs to which concept. So it is
asked once per concept, with K = {concept}, which gives the edges; words that were seen before join the concept as one more parent
when they stand in the next level, and are dropped when they stand in an earlier one (K and K_a stay disjoint).
"""

from __future__ import annotations

import datetime
import http.client
import json
import re
import urllib.error
import urllib.request
from dataclasses import dataclass

import yaml

from training.knowledge import ASSOCIATED_PROMPT, KEY_PROMPT, Graph, KnowledgeError, to_dict, validate

ASKED_PER_CONCEPT = ASSOCIATED_PROMPT + "\nK = {{{concept}}}\nNote: Everything should be a single word."
"""The second prompt as it is sent: the paper's, K, and the first prompt's note."""

_MAX_ANSWER_BYTES = 1_000_000
_LIST_MARK = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.):])\s*")


class EndpointError(RuntimeError):
    """The endpoint cannot be reached, refuses, or answers something that is not a list of words."""


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible chat endpoint: base address (with /v1), model name, optional key, time limit in seconds."""

    url: str
    model: str
    api_key: str | None = None
    timeout_s: float = 120.0

    def ask(self, prompt: str) -> str:
        """The model's answer to one prompt. Raises EndpointError with what to do."""
        address = self.url.rstrip("/") + "/chat/completions"
        if not address.startswith(("http://", "https://")):
            raise EndpointError(f"{self.url}: not an http address; give one such as http://127.0.0.1:8080/v1")
        body = {"model": self.model, "temperature": 0, "messages": [{"role": "user", "content": prompt}]}
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)  # noqa: S310 - scheme checked above
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as reply:  # noqa: S310
                raw = reply.read(_MAX_ANSWER_BYTES + 1)
        except urllib.error.HTTPError as err:
            hint = "check the key" if err.code in (401, 403) else "check the address and the model's name"
            raise EndpointError(f"{address}: answered {err.code} {err.reason}; {hint}") from err
        except (OSError, http.client.HTTPException) as err:  # URLError and time-outs are OSErrors
            reason = getattr(err, "reason", None) or err
            raise EndpointError(f"{address}: no answer ({reason}); is the endpoint running?") from err
        if len(raw) > _MAX_ANSWER_BYTES:
            raise EndpointError(f"{address}: answer is over {_MAX_ANSWER_BYTES} bytes; is it a chat endpoint?")
        try:
            content = json.loads(raw)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as err:
            raise EndpointError(f"{address}: answer is not a chat completion: {raw[:80]!r}; is it OpenAI-compatible?") from err
        if not isinstance(content, str):
            raise EndpointError(f"{address}: the completion's content is {type(content).__name__}, not text")
        return content


def words(answer: str) -> list[str]:
    """Single lower-case words of an answer, in order, each once: list marks, numbers and explanations after them fall away."""
    out: dict[str, None] = {}
    for line in re.split(r"[\n,;]", answer):
        head = re.split(r"\s*[:(–—]|\s-\s", _LIST_MARK.sub("", line), maxsplit=1)[0]
        word = re.sub(r"[*_`\"'.!?]", "", head).strip().lower().replace("-", "")
        if re.fullmatch(r"[a-z]{2,24}", word):
            out[word] = None
    return list(out)


def generate(
    mission: str, event_name: str, endpoint: Endpoint, *, vocabularies: int = 12, rounds: int = 2, words_per_concept: int = 3
) -> Graph:
    """Ask for key concepts, then `rounds` times for associated words.

    Returns:
        A graph that `validate` finds no problem in.
    Raises:
        EndpointError: the endpoint fails, or its answers hold too few words.
    """
    key_prompt = KEY_PROMPT.format(V=vocabularies, event=event_name)
    key = words(endpoint.ask(key_prompt))[:vocabularies]
    if len(key) < 2:
        raise EndpointError(f"{endpoint.model}: named {len(key)} single words for {event_name!r}; try a larger model")
    levels, edges = [key], list[tuple[str, str]]()
    for number in range(1, rounds + 1):
        level: dict[str, None] = {}
        known = {word for done in levels for word in done}
        for concept in levels[-1]:
            answer = endpoint.ask(ASKED_PER_CONCEPT.format(concept=concept))
            fresh = [word for word in words(answer) if word not in known][:words_per_concept]
            level.update(dict.fromkeys(fresh))
            edges += [(concept, word) for word in fresh]
        if not level:
            raise EndpointError(f"{endpoint.model}: round {number} brought no new word; try a larger model or fewer rounds")
        levels.append(list(level))
    parents = {parent for parent, _ in edges}
    levels[0] = [word for word in levels[0] if word in parents]  # a key concept without a child cannot reach the verdict
    graph = Graph(
        mission=mission,
        key=levels[0],
        levels=levels,
        edges=edges,
        event_name=event_name,
        author_model=endpoint.model,
        date=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        prompts={"key": key_prompt, "associated": ASKED_PER_CONCEPT.format(concept="concept")},
    )
    problems = validate(graph)
    if problems:
        raise KnowledgeError(f"{mission}: the generated graph has a problem: {problems[0]}; ask again or try a larger model")
    return graph


def dump(graph: Graph) -> str:
    """The graph as the YAML text of a graph file."""
    head = "# Mission graph: key concepts, then one mapping per round of expansion, word: [parents in the level before].\n"
    return head + yaml.safe_dump(to_dict(graph), sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
