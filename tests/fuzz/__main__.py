"""`python -m tests.fuzz TARGET --inputs 1000000`: hostile input for one target; says what was found and what memory did."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "support")]
KEPT = 60
"""Inputs kept of a run."""
KEPT_BYTES = 20_000


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, epilog="example: python -m tests.fuzz config --inputs 10000"
    )
    parser.add_argument("target", help="its name, or list")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="how many (default 1000000)")
    parser.add_argument("--seed", type=int, default=1, help="of all chance (default 1)")
    parser.add_argument("--engine", choices=("auto", "atheris", "plain"), default="auto", help="atheris is guided by coverage")
    parser.add_argument("--keep", action="store_true", help="write the inputs that reached most into tests/fuzz/corpus")
    options = parser.parse_args()
    guided = options.engine == "atheris" or (options.engine == "auto" and importlib.util.find_spec("atheris") is not None)
    if guided:
        import atheris

        with atheris.instrument_imports(include=["packetclip_sensor", "yaml"]):
            from fuzz import engine, targets
    else:
        from fuzz import engine, targets
    if options.target not in targets.TARGETS:
        print("targets: " + ", ".join(targets.TARGETS))
        return 0 if options.target == "list" else 2
    target = targets.TARGETS[options.target]

    def report(run: engine.Run, reached: list[bytes] | None = None) -> None:
        begin, end = run.memory_mb[0][1], run.memory_mb[-1][1]
        print(
            f"| {options.target} | {'atheris' if guided else 'plain'} | {run.done:,} | {len(run.finds)} | {run.seconds:.0f} "
            f"| {begin:.0f} | {end:.0f} | {run.slope_mb:+.1f} |",
            flush=True,
        )
        for place, (error, data) in run.finds.items():
            print(f"  {place}: {error}\n    {data[:300]!r}", flush=True)
        if options.keep:
            small = sorted({data for data in reached or () if data}, key=len)
            kept, size = [data for _, data in run.finds.values()], 0
            for data in small[:: max(1, len(small) // KEPT)]:
                size += len(data)
                if size < KEPT_BYTES:
                    kept.append(data)
            engine.keep(options.target, kept)

    if guided:
        engine.guided(options.target, target, options.inputs, options.seed, report)
    run = engine.plain(options.target, target, options.inputs, options.seed)
    report(run)
    return 1 if run.finds else 0


if __name__ == "__main__":
    sys.exit(main())
