"""`python -m training.knowledge validate [FILE...]` and `... generate --mission M --endpoint URL --model NAME`.

Exit codes: 0 done, 1 a graph has problems or the endpoint failed, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training import knowledge
from training.knowledge import generate


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.knowledge", description="Check or make mission graphs.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("validate", help="print what is wrong with graph files; without a file, the three checked in")
    check.add_argument("files", nargs="*", type=Path)
    make = commands.add_parser("generate", help="make a graph with any OpenAI-compatible endpoint")
    make.add_argument("--mission", required=True, help="name of the mission, for example DoS")
    make.add_argument("--event-name", help="what the prompt asks for; by default the mission's name")
    make.add_argument("--endpoint", required=True, help="base address, for example http://127.0.0.1:8080/v1")
    make.add_argument("--model", required=True)
    make.add_argument("--api-key-file", type=Path, help="file that holds the endpoint's key, where it wants one")
    make.add_argument("--vocabularies", type=int, default=12, help="V: key concepts to ask for")
    make.add_argument("--rounds", type=int, default=2, help="N: rounds of expansion")
    make.add_argument("--words-per-concept", type=int, default=3, help="associated words kept for each concept")
    make.add_argument("--timeout-s", type=float, default=120.0)
    make.add_argument("--out", type=Path, help="YAML file to write; by default printed")
    args = parser.parse_args(argv)
    try:
        return _validate(args.files) if args.command == "validate" else _generate(args)
    except (knowledge.KnowledgeError, generate.EndpointError) as err:
        print(err, file=sys.stderr)
        return 1


def _validate(files: list[Path]) -> int:
    failed = 0
    for path in files or [knowledge.FOLDER / name for name in knowledge.MISSION_FILES.values()]:
        graph = knowledge.load(path)
        problems = knowledge.validate(graph)
        failed += bool(problems)
        sizes = " + ".join(str(len(level)) for level in graph.levels)
        print(f"{path.name}: {graph.mission}, {sizes} words, {len(graph.edges)} edges, {len(problems)} problems")
        for problem in problems:
            print(f"  {problem}")
    return 1 if failed else 0


def _generate(args: argparse.Namespace) -> int:
    key = args.api_key_file.read_text(encoding="utf-8").strip() if args.api_key_file else None
    endpoint = generate.Endpoint(args.endpoint, args.model, key, args.timeout_s)
    graph = generate.generate(
        args.mission,
        args.event_name or args.mission,
        endpoint,
        vocabularies=args.vocabularies,
        rounds=args.rounds,
        words_per_concept=args.words_per_concept,
    )
    text = generate.dump(graph)
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
