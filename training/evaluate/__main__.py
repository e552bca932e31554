"""Every table and figure of training/RESULTS.md from a plan of runs and a store of their results.

    python -m training.evaluate run --plan training/evaluate/plan.yaml --store runs/evaluation --jobs 2
    python -m training.evaluate report --store runs/evaluation
    python -m training.evaluate one ours --seed 1 --store runs/evaluation     # a single run, as each number's line names it

`run` skips what the store has, so it goes on where it was stopped. `report` shows what is missing or failed as such.
"""

import argparse
import sys
from pathlib import Path

from packetclip_sensor.errors import ConfigError
from training import common
from training.evaluate import plan as plans
from training.evaluate.report.write import write
from training.evaluate.runs import schedule
from training.evaluate.runs.execute import command, execute
from training.evaluate.runs.store import Store


def _commands(arguments: argparse.ArgumentParser) -> None:
    commands = arguments.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run what the store does not have yet")
    run.add_argument("--jobs", type=int, default=2, help="processes at once, one thread each")
    run.add_argument("--only", nargs="*", default=[], help="runs whose name begins with one of these")
    run.add_argument("--retry", action="store_true", help="run failed ones again")
    one = commands.add_parser("one", help="run a single one in this process")
    one.add_argument("name")
    one.add_argument("--seed", type=int, default=1)
    report = commands.add_parser("report", help="write the tables and figures from the store")
    report.add_argument("--out", type=Path, default=Path("training/RESULTS.md"))
    report.add_argument("--figures", type=Path, default=Path("training/figures"))
    report.add_argument("--done", action="store_true", help="leave out what was not run, in place of showing it as missing")
    for one_of in (run, one, report):
        one_of.add_argument("--plan", type=Path, default=plans.PLAN)
        one_of.add_argument("--store", type=Path, default=Path("runs/evaluation"))


@common.command(_commands)
def main(args: argparse.Namespace) -> int:
    """Exit codes: 0 done, 1 a run failed, 2 the plan or its data are missing or unfit, 130 interrupted."""
    try:
        return {"run": _run, "one": _one, "report": _report}[args.command](args)
    except KeyboardInterrupt:
        print("stopped; the same command goes on with what is missing", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    plan, store = plans.read(args.plan), Store(args.store)
    tasks = [t for t in plans.tasks(plan) if not args.only or t.run.name.startswith(tuple(args.only))]
    if not tasks:
        raise ConfigError(f"{args.plan}: no run begins with {' or '.join(args.only)}; {_known(plan)}")
    waiting = schedule.missing(plan, tasks, store, retry=args.retry)
    print(f"{len(waiting)} of {len(tasks)} runs to do, {args.jobs} at once")
    failed = schedule.run(args.plan, tasks, waiting, store, args.jobs)
    if failed:
        print(f"{failed} runs failed; `report` shows why, `run --retry` tries them again", file=sys.stderr)
    return 1 if failed else 0


def _known(plan: plans.Plan) -> str:
    return f"the runs are {', '.join(r.name for r in plan.runs)}"


def _one(args: argparse.Namespace) -> int:
    plan, store = plans.read(args.plan), Store(args.store)
    found = [run for run in plan.runs if run.name == args.name]
    if not found:
        raise ConfigError(f"{args.plan}: no run named {args.name!r}; {_known(plan)}")
    task = plans.task_of(plan, found[0], args.seed)
    result = execute(plan, task, store, command(task, args.plan, args.store))
    print(f"{store.path(task)}: {'failed: ' + result.error if result.error else f'{result.minutes:.1f} minutes'}")
    return 1 if result.error else 0


def _report(args: argparse.Namespace) -> int:
    for path in write(plans.read(args.plan), args.plan, Store(args.store), args.out, args.figures, done=args.done):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
