"""`python -m training.text.knowledge validate | generate | draw`: check, make and draw mission graphs.

    python -m training.text.knowledge validate
    python -m training.text.knowledge generate --mission DoS --event-name "Denial of Service (DoS) attack" \\
        --endpoint http://127.0.0.1:8080/v1 --model NAME --out dos.yaml
    python -m training.text.knowledge draw --out docs/img

Exit codes: 0 done, 1 a graph has problems, 2 wrong arguments, or the model or a file cannot be used.
"""

import argparse
import sys
from pathlib import Path

from training.common import command, write_whole
from training.missions import FILES
from training.text import knowledge, llm
from training.text.knowledge import draw, generate


def _commands(arguments: argparse.ArgumentParser) -> None:
    commands = arguments.add_subparsers(dest="command", required=True)
    check = commands.add_parser("validate", help="print what is wrong with graph files; without a file, the three checked in")
    check.add_argument("files", nargs="*", type=Path)
    make = commands.add_parser("generate", help="make a graph with a language model")
    make.add_argument("--mission", required=True, help="name of the mission, for example DoS")
    make.add_argument("--event-name", help="what the prompt asks for; by default the mission's name")
    llm.add_arguments(make)
    make.add_argument("--vocabularies", type=int, default=12, help="V: key concepts to ask for")
    make.add_argument("--rounds", type=int, default=2, help="N: rounds of expansion")
    make.add_argument("--words-per-concept", type=int, default=3, help="associated words kept for each concept")
    make.add_argument("--out", type=Path, help="YAML file, replaced only by a graph that validates; by default printed")
    figures = commands.add_parser("draw", help="draw graph, top-10 words and word cloud of each checked-in graph as SVG")
    figures.add_argument("--out", type=Path, required=True, help="folder for the figures")
    figures.add_argument("files", nargs="*", type=Path, help="other graph files than the three checked in")


@command(_commands)
def main(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    return {"validate": _validate, "generate": _generate, "draw": _draw}[args.command](args)


def _paths(files: list[Path]) -> list[Path]:
    return files or [path for path, _ in FILES.values()]


def _validate(args: argparse.Namespace) -> int:
    failed = 0
    for path in _paths(args.files):
        graph = knowledge.load(path)
        problems = knowledge.validate(graph)
        failed += bool(problems)
        sizes = " + ".join(str(len(level)) for level in graph.levels)
        print(f"{path.name}: {graph.mission}, {sizes} words, {len(graph.edges)} edges, {len(problems)} problems")
        for problem in problems:
            print(f"  {problem}")
    return 1 if failed else 0


def _generate(args: argparse.Namespace) -> int:
    with llm.session(args) as (endpoint, work, bar):
        task = bar.add_task("questions", total=None)
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
        if args.out:
            write_whole(args.out, generate.dump(graph))
    if not args.out:
        print(generate.dump(graph), end="")
    return 0


def _draw(args: argparse.Namespace) -> int:
    for path in _paths(args.files):
        graph = knowledge.load(path)
        if problems := knowledge.validate(graph):
            raise knowledge.KnowledgeError(f"{path}: {problems[0]}; mend the graph before drawing it")
        for figure in draw.draw(graph, path.stem, args.out):
            print(figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
