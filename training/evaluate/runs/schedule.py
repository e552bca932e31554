"""Runs a plan's missing tasks, each in its own process, several at once; a process that dies leaves a failed result."""

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from packetclip_sensor.errors import SensorError
from training.evaluate.plan import Plan, Task, hashes, key
from training.evaluate.runs.execute import command
from training.evaluate.runs.store import Result, Store, machine

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def missing(plan: Plan, tasks: Sequence[Task], store: Store, *, retry: bool = False) -> list[Task]:
    """Tasks without a result, or with one of other settings or data; failed ones only with `retry`."""
    out = []
    for task in tasks:
        result = store.read(task)
        if result is None or (retry and result.error) or (not result.error and _of_other_data(plan, task, result)):
            out.append(task)
    return out


def _of_other_data(plan: Plan, task: Task, result: Result) -> bool:
    """Whether the files are others now; a result outlives files that are gone."""
    try:
        return result.data != hashes(plan, task)
    except SensorError:
        return False


def run(plan_path: Path, tasks: Sequence[Task], waiting: Sequence[Task], store: Store, jobs: int) -> int:
    """Run the waiting tasks and return how many failed. Interrupting it stops the processes; what they did is run again later."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    lock, failed, stopped = threading.Lock(), 0, threading.Event()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress, ThreadPoolExecutor(jobs) as pool:
        bar = progress.add_task("runs", total=len(tasks), completed=len(tasks) - len(waiting))

        def one(task: Task) -> None:
            nonlocal failed
            if stopped.is_set():
                return
            log = store.folder / "logs" / f"{task.name}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as file, lock:
                words = [sys.executable, "-m", "training.evaluate", "one", task.run.name, "--seed", str(task.seed)]
                running[task.name] = subprocess.Popen(
                    [*words, "--plan", str(plan_path), "--store", str(store.folder)],
                    stdout=file, stderr=file, env=os.environ | dict.fromkeys(THREADS, "1"),
                )  # fmt: skip
                progress.update(bar, description=", ".join(running)[:60])
            code = running[task.name].wait()
            with lock:
                del running[task.name]
                if stopped.is_set():
                    return
                result = store.read(task)
                if result is None or (code and not result.error):
                    result = died(plan_path, task, store, code, log)
                failed += bool(result.error)
                note = f"failed: {result.error}" if result.error else f"{result.minutes:.1f} min"
                progress.console.print(f"{task.name}: {note}", highlight=False, markup=False)
                progress.update(bar, advance=1, description=", ".join(running)[:60] or "runs")

        futures = [pool.submit(one, task) for task in waiting]
        try:
            for future in futures:
                future.result()
        except KeyboardInterrupt:
            stopped.set()
            for future in futures:
                future.cancel()
            with lock:
                for process in running.values():
                    process.terminate()
            raise
    return failed


def died(plan_path: Path, task: Task, store: Store, code: int, log: Path) -> Result:
    """Record a process that ended without a result of its own."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["nothing printed"]
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    result = Result(
        name=task.name, key=key(task), run=task.run.name, seed=task.seed, machine=machine(),
        command=command(task, plan_path, store.folder), error=f"{how}; last line: {lines[-1][:200]}",
    )  # fmt: skip
    store.write(task, result)
    return result
