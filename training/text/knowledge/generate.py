"""Makes a mission graph with a language model: the paper's two prompts over N rounds (section III-A).

The second prompt names "vocabularies in set K" without saying how the answer shows which word belongs to which concept. So it is
asked once per concept, with K = {concept}, which gives the edges; words that were seen before join the concept as one more parent
when they stand in the next level, and are dropped when they stand in an earlier one (K and K_a stay disjoint).
"""

import datetime
import re
from collections.abc import Callable

import yaml

from training.text.knowledge import ASSOCIATED_PROMPT, KEY_PROMPT, Graph, KnowledgeError, to_dict, validate
from training.text.llm import Answer, Endpoint, EndpointError, Work

ASKED_PER_CONCEPT = ASSOCIATED_PROMPT + "\nK = {{{concept}}}\nNote: Everything should be a single word."
"""The second prompt as it is sent: the paper's, K, and the first prompt's note."""

TEMPERATURES = (0.0, 0.5, 0.9)
"""An answer without a usable word is asked for again, each time with more chance."""

_LIST_MARK = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.):])\s*")
_PROMPT_WORDS = frozenset({
    "list", "typical", "vocabulary", "vocabularies", "represent", "note", "everything", "single", "word", "words", "associated",
    "set", "sure", "certainly", "here", "okay", "answer", "question", "example", "user", "assistant", "system",
})  # fmt: skip
_FUNCTION_WORDS = frozenset({
    "the", "an", "and", "or", "of", "to", "in", "on", "at", "by", "for", "with", "from", "is", "are", "was", "be", "been", "it",
    "its", "this", "that", "these", "those", "as", "not", "no", "yes", "but", "if", "so", "we", "you", "he", "she", "they", "my",
    "your", "their", "can", "will", "would", "should", "do", "does", "have", "has", "had", "etc", "also", "more", "most", "very",
})  # fmt: skip


def rubbish(word: str) -> bool:
    """A word that is no concept: of the prompt, of grammar, or no word at all."""
    if word in _PROMPT_WORDS or word in _FUNCTION_WORDS:
        return True
    return bool(re.search(r"(.)\1\1", word)) or (len(word) > 5 and not re.search("[aeiouy]", word))


def words(answer: Answer | str) -> list[str]:
    """Single lower-case words of an answer, in order, each once: list marks, numbers and explanations after them fall away.

    Of an answer that was cut at the token limit the last entry is left out, for it may be half a word.
    """
    text, cut = (answer.text, answer.cut) if isinstance(answer, Answer) else (answer, False)
    entries = re.split(r"[\n,;]", text)
    out: dict[str, None] = {}
    for line in entries[:-1] if cut else entries:
        head = re.split(r"\s*[:(–—]|\s-\s", _LIST_MARK.sub("", line), maxsplit=1)[0]
        word = re.sub(r"[*_`\"'.!?]", "", head).strip().lower().replace("-", "")
        if re.fullmatch(r"[a-z]{2,24}", word) and not rubbish(word):
            out[word] = None
    return list(out)


def _asked(endpoint: Endpoint, work: Work, prompt: str, least: int) -> list[str]:
    """The words of the first answer that holds at least `least`, else of the fullest; kept ones are not asked for again."""
    kept = work.get(prompt)
    if kept is not None:
        return [str(word) for word in kept]
    best: list[str] = []
    for temperature in TEMPERATURES:
        found = words(endpoint.ask(prompt, temperature=temperature))
        best = max(best, found, key=len)
        if len(best) >= least:
            work.put(prompt, best)
            break
    return best


def generate(
    mission: str,
    event_name: str,
    endpoint: Endpoint,
    *,
    vocabularies: int = 12,
    rounds: int = 2,
    words_per_concept: int = 3,
    work: Work | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Graph:
    """Ask for key concepts, then `rounds` times for associated words.

    Args:
        work: answers of an earlier, stopped run, which are not asked for again.
        progress: called with the number of questions answered and the number known to be needed.

    Returns:
        A graph that `validate` finds no problem in.

    Raises:
        EndpointError: the endpoint fails, or its answers hold too few words.
        KnowledgeError: the words make no valid graph.
    """
    work = Work(None, endpoint.model) if work is None else work
    key_prompt = KEY_PROMPT.format(V=vocabularies, event=event_name)
    least = max(2, vocabularies // 2)
    key = _asked(endpoint, work, key_prompt, least)[:vocabularies]
    done, total = 1, 1 + len(key)
    progress(done, total)
    if len(key) < least:
        raise EndpointError(
            f"{endpoint.model}: named {len(key)} single words for {event_name!r} of use, not {least}; try a larger model"
        )
    levels, edges = [key], list[tuple[str, str]]()
    for number in range(1, rounds + 1):
        level: dict[str, None] = {}
        known = {word for earlier in levels for word in earlier}
        for concept in levels[-1]:
            found = _asked(endpoint, work, ASKED_PER_CONCEPT.format(concept=concept), 1)
            fresh = [word for word in found if word not in known][:words_per_concept]
            level.update(dict.fromkeys(fresh))
            edges += [(concept, word) for word in fresh]
            done += 1
            progress(done, total)
        if not level:
            raise EndpointError(f"{endpoint.model}: round {number} brought no new word; try a larger model or fewer rounds")
        levels.append(list(level))
        total += len(level) if number < rounds else 0
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
