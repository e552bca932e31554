"""Other words for the bank's sentences and for window texts, by a language model: step 4 of figure 2 of the paper (equation 2).

    python -m training.text.paraphrase --endpoint http://127.0.0.1:8080/v1 --model NAME --pairs runs/pairs/lab.parquet
    python -m training.text.paraphrase --gguf model.gguf --only sentences

A paraphrase is accepted only if it says nothing that its source does not say: `fault` gives the reason against it. Prompts hold
sentences of the bank and coarse window texts only: no address, no number of a packet and no payload byte ever leaves the machine.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import yaml

from packetclip_sensor.alerts.sentences import window_text
from training.common import DataError, exit_code, parser, write_whole
from training.missions import CLASS_MISSION
from training.text import llm, texts
from training.text.paraphrase_check import fault

SYSTEM = "You explain cybersecurity incidents in plain English."
PROMPT = (
    "Paraphrase the following description of network packets in {k} different ways, one sentence on each line. "
    "Keep every fact, number, protocol and name as it is, and add none.\n\n{source}"
)
_LIST_MARK = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.):])\s*")


def sources(classes: Iterable[str]) -> list[str]:
    """The bank's plain and enriched sentences of the classes."""
    return [s.text for name in classes for s in texts.bank(name)]


def window_sources(paths: Sequence[Path], most: int) -> list[str]:
    """The commonest window texts of Parquet files of pairs: words for measured facts, without address, port or exact number."""
    counts: Counter[str] = Counter()
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(8192, columns=["facts"]):
            counts.update(window_text(json.loads(raw)) for raw in batch["facts"].to_pylist())
    return [text for text, _ in counts.most_common(most)]


def candidates(answer: llm.Answer) -> list[str]:
    """The sentences of an answer, one a line, without list marks; the last of a cut answer is left out."""
    lines = [_LIST_MARK.sub("", line).strip().strip('"') for line in answer.text.splitlines()]
    return [line for line in (lines[:-1] if answer.cut else lines) if line]


def ask(endpoint: llm.Endpoint, source: str, k: int) -> dict[str, Any]:
    """Up to `k` accepted paraphrases of a source, and how many were refused: {"accepted": [...], "rejected": {reason: count}}.

    Raises:
        EndpointError: see `llm.Endpoint.ask`.
    """
    accepted: dict[str, str] = {}
    rejected: Counter[str] = Counter()
    found = candidates(endpoint.ask(PROMPT.format(k=k, source=source), system=SYSTEM, temperature=0.7))
    if not found:
        rejected["empty"] += 1
    for text in found:
        reason = fault(source, text)
        identity = texts.normalised(text)
        if reason is None and identity in accepted:
            reason = "repeated"
        if reason is None and len(accepted) == k:
            reason = "more than asked for"
        if reason:
            rejected[reason] += 1
        else:
            accepted[identity] = text
    return {"accepted": list(accepted.values()), "rejected": dict(rejected)}


def paraphrase(
    endpoint: llm.Endpoint,
    sentences: Sequence[str],
    windows: Sequence[str],
    k: int,
    work: llm.Work,
    progress: Callable[[], None] = lambda: None,
) -> texts.Paraphrases:
    """Paraphrases of sentences and window texts; what `work` holds of an earlier run is not asked for again.

    A paraphrase that equals a sentence of the bank, a prompt or a held-out text of any class is refused: the zero-shot test must
    stay apart from training.

    Raises:
        EndpointError: the model fails; what was accepted so far stands in `work`.
    """
    known = (t for name in CLASS_MISSION for t in (*texts.TEXTS[name], *texts.class_prompts(name), *texts.held_out(name).all))
    taken = {texts.normalised(text) for text in known}
    rejected: Counter[str] = Counter()
    made: tuple[list[texts.Paraphrase], list[texts.Paraphrase]] = ([], [])
    for kind, own in zip(made, (sentences, windows), strict=True):
        for source in own:
            key = f"{k} {source}"
            kept = work.get(key)
            if kept is None:
                kept = ask(endpoint, source, k)
                work.put(key, kept)
            rejected.update(kept["rejected"])
            for text in kept["accepted"]:
                if texts.normalised(text) in taken:
                    rejected["in the bank or held out"] += 1
                else:
                    taken.add(texts.normalised(text))
                    kind.append(texts.Paraphrase(source, text))
            progress()
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    return texts.Paraphrases(endpoint.model, today, PROMPT, dict(rejected.most_common()), *made)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 nothing was accepted, so no file was written, 2 the model or a file cannot be used."""
    arguments = parser("training.text.paraphrase", __doc__)
    llm.add_arguments(arguments)
    arguments.add_argument("--k", type=int, default=3, help="paraphrases to ask for of each text")
    arguments.add_argument("--out", type=Path, default=texts.PARAPHRASES, help="YAML file; default where the texts look for it")
    arguments.add_argument("--only", choices=("sentences", "windows"), help="paraphrase only these")
    arguments.add_argument("--classes", nargs="*", choices=list(CLASS_MISSION), default=list(CLASS_MISSION), metavar="CLASS")
    arguments.add_argument("--pairs", type=Path, nargs="*", default=[], help="Parquet files whose window texts to paraphrase")
    arguments.add_argument("--windows", type=int, default=300, help="most window texts to paraphrase, commonest first")
    arguments.add_argument("--every", type=int, default=1, help="take each n-th sentence only, for a try")
    args = arguments.parse_args(argv)
    return exit_code(lambda: _run(args))


def _run(args: argparse.Namespace) -> int:
    sentences = [] if args.only == "windows" else sources(args.classes)[:: max(args.every, 1)]
    windows = [] if args.only == "sentences" else window_sources(args.pairs, args.windows)
    if not sentences and not windows:
        raise DataError("there is nothing to paraphrase; window texts come from --pairs")
    with llm.session(args) as (endpoint, work, bar):
        task = bar.add_task("texts", total=len(sentences) + len(windows))
        made = paraphrase(endpoint, sentences, windows, args.k, work, lambda: bar.advance(task))
        if made.sentences or made.windows:
            text = yaml.safe_dump(msgspec.to_builtins(made), sort_keys=False, allow_unicode=True, width=1000)
            write_whole(args.out, text)
    refused = sum(made.rejected.values())
    print(f"{len(made.sentences)} sentences and {len(made.windows)} window texts accepted, {refused} refused")
    for reason, count in made.rejected.items():
        print(f"  {count:6} {reason}")
    if not made.sentences and not made.windows:
        remedy = f"so {args.out} is left as it was; try a larger model"
        print(f"error: nothing of {made.model} was accepted, {remedy}", file=sys.stderr)
        return 1
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
