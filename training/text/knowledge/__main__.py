"""`python -m training.text.knowledge validate | generate | draw`: check, make and draw mission graphs.

Exit codes: 0 done, 1 a graph has problems, 2 wrong arguments, or the model or a file cannot be used.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from training.missions import FILES
from training.text import knowledge, llm
from training.text.knowledge import draw, generate

EXAMPLES = """examples:
  python -m training.text.knowledge validate
  python -m training.text.knowledge generate --mission DoS --event-name "Denial of Service (DoS) attack" \\
      --endpoint http://127.0.0.1:8080/v1 --model NAME --out dos.yaml
  python -m training.text.knowledge generate --mission DoS --gguf model.gguf --out dos.yaml
  python -m training.text.knowledge draw --out docs/img"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m training.text.knowledge",
        description="Check, make and draw mission graphs.",
        epilog=EXAMPLES,
        formatter_class=as_written,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("validate", help="print what is wrong with graphs; without a file, with all missions'")
    check.add_argument("files", nargs="*", type=Path)
    make = commands.add_parser("generate", help="make a graph with a language model", epilog=EXAMPLES, formatter_class=as_written)
    make.add_argument("--mission", required=True, help="name of the mission, for example DoS")
    make.add_argument("--event-name", help="what the prompt asks for; by default the mission's name")
    llm.add_arguments(make)
    make.add_argument("--vocabularies", type=int, default=12, help="V: key concepts to ask for")
    make.add_argument("--rounds", type=int, default=2, help="N: rounds of expansion")
    make.add_argument("--words-per-concept", type=int, default=3, help="associated words kept for each concept")
    make.add_argument("--out", type=Path, help="YAML file, replaced only by a graph that validates; by default printed")
    make.add_argument("--work", type=Path, help="file of answers so far, to go on from after a stop; by default OUT.work")
    figures = commands.add_parser("draw", help="draw graph, top-10 words and word cloud of each graph as SVG")
    figures.add_argument("--out", type=Path, required=True, help="folder for the figures")
    figures.add_argument("files", nargs="*", type=Path, help="other files than those of training/missions")
    args = parser.parse_args(argv)
    try:
        if args.command == "validate":
            return _validate(args.files)
        return _generate(args) if args.command == "generate" else _draw(args)
    except (knowledge.KnowledgeError, llm.EndpointError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    except OSError as err:
        print(f"error: {err.filename}: {err.strerror}; choose a place that can be written", file=sys.stderr)
        return 2


def _paths(files: list[Path]) -> list[Path]:
    return files or [path for path, _ in FILES.values()]


def _validate(files: list[Path]) -> int:
    failed = 0
    for path in _paths(files):
        graph = knowledge.load(path)
        problems = knowledge.validate(graph)
        failed += bool(problems)
        sizes = " + ".join(str(len(level)) for level in graph.levels)
        print(f"{path.name}: {graph.mission}, {sizes} words, {len(graph.edges)} edges, {len(problems)} problems")
        for problem in problems:
            print(f"  {problem}")
    return 1 if failed else 0


def _generate(args: argparse.Namespace) -> int:
    path = args.work or (args.out.with_name(args.out.name + ".work") if args.out else None)
    with llm.chosen(args) as endpoint, Progress(console=Console(stderr=True)) as bar:
        work = llm.Work(path, endpoint.model)
        if len(work):
            bar.console.print(f"{path}: {len(work)} answers of an earlier run are used")
        task = bar.add_task("questions", total=None)
        done = False
        try:
            graph = generate.generate(
                args.mission,
                args.event_name or args.mission,
                endpoint,
                vocabularies=args.vocabularies,
                rounds=args.rounds,
                words_per_concept=args.words_per_concept,
                work=work,
                progress=lambda answered, total: bar.update(task, completed=answered, total=total),
            )
            text = generate.dump(graph)
            if args.out:
                args.out.parent.mkdir(parents=True, exist_ok=True)
                fresh = args.out.with_name(args.out.name + ".new")
                fresh.write_text(text, encoding="utf-8")
                os.replace(fresh, args.out)  # noqa: PTH105 - one step, so a graph file is never half written
            done = True
        finally:
            work.close(done=done)
    if not args.out:
        print(text, end="")
    return 0


def _draw(args: argparse.Namespace) -> int:
    for path in _paths(args.files):
        graph = knowledge.load(path)
        problems = knowledge.validate(graph)
        if problems:
            raise knowledge.KnowledgeError(f"{path}: {problems[0]}; mend the graph before drawing it")
        for figure in draw.draw(graph, path.stem, args.out):
            print(figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
