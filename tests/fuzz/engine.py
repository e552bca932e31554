"""Feeds a target: coverage-guided by atheris where that is installed, else by a plain mutator of recorded inputs.

Whatever the engine, a find does not end the run: it is kept once for each place in the code, with its input.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from .targets import Target

CORPUS = Path(__file__).parent / "corpus"
SAMPLES = 40
"""Times that memory is looked at in a run."""


@dataclass
class Run:
    """What a run of one target showed."""

    target: Target
    inputs: int
    done: int = 0
    finds: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """By place in the code: the exception and the first input that raised it."""
    memory_mb: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0

    def one(self, data: bytes) -> None:
        try:
            self.target.run(data)
        except Exception as err:
            place = " < ".join(
                f"{Path(f.filename).name}:{f.lineno}" for f in reversed(traceback.extract_tb(err.__traceback__)[-2:])
            )
            self.finds.setdefault(place, (f"{type(err).__name__}: {str(err)[:200]}", data))
        self.done += 1
        if self.done % max(1, self.inputs // SAMPLES) == 0:
            self.memory_mb.append((self.done, rss_mb()))

    @property
    def slope_mb(self) -> float:
        """MiB for each million inputs, by least squares over the second half: the first fills caches."""
        late = self.memory_mb[len(self.memory_mb) // 2 :]
        if len(late) < 2:
            return 0.0
        x, y = sum(n for n, _ in late) / len(late), sum(mb for _, mb in late) / len(late)
        return 1e6 * sum((n - x) * (mb - y) for n, mb in late) / sum((n - x) ** 2 for n, _ in late)


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def corpus(name: str) -> list[bytes]:
    """Inputs kept from former runs: each reached code that no smaller one did, or was a find."""
    path = CORPUS / f"{name}.txt"
    return [base64.b64decode(line) for line in path.read_text().split()] if path.exists() else []


def keep(name: str, inputs: list[bytes]) -> None:
    CORPUS.mkdir(exist_ok=True)
    lines = [base64.b64encode(data).decode() + "\n" for data in inputs]
    (CORPUS / f"{name}.txt").write_text("".join(lines))


def mutated(target: Target, known: list[bytes], seed: int) -> Iterator[bytes]:
    """Inputs without end: known ones with a few random changes."""
    rng = random.Random(seed)
    changes: tuple[Callable[[bytearray, int], None], ...] = (
        lambda data, at: data.__setitem__(slice(at, at + 1), bytes([rng.randrange(256)])),
        lambda data, at: data.__setitem__(slice(at, at), bytes(rng.randrange(256) for _ in range(rng.randrange(1, 5)))),
        lambda data, at: data.__delitem__(slice(at, at + rng.choice((1, 1, 2, 4, 16, 200)))),
        lambda data, at: data.__setitem__(slice(at, at), rng.choice(target.words or (b"\0",))),
        lambda data, at: data.__setitem__(slice(at, at + 4), rng.choice(target.words or (b"\xff",))),
        lambda data, at: data.__setitem__(slice(at, at), data[at : at + rng.randrange(1, 64)] * rng.randrange(1, 4)),
        lambda data, at: data.__setitem__(slice(at, None), rng.choice(known)[rng.randrange(1 + len(data) // 2) :]),
        lambda data, at: data.__delitem__(slice(at, None)),
    )
    while True:
        data = bytearray(rng.choice(known))
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            rng.choice(changes)(data, rng.randrange(len(data) + 1))
        yield bytes(data[: target.longest])


def plain(name: str, target: Target, inputs: int, seed: int) -> Run:
    """Mutate recorded inputs and the kept corpus by chance."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    run = Run(target, inputs)
    began = time.monotonic()
    run.memory_mb.append((0, rss_mb()))
    known = [data for data in (*target.seeds(), *corpus(name)) if data]
    for data in known:
        run.one(data)
    for data in mutated(target, known, seed):
        if run.done >= inputs:
            break
        run.one(data)
    run.seconds = time.monotonic() - began
    return run


def guided(name: str, target: Target, inputs: int, seed: int, done: Callable[[Run, list[bytes]], None]) -> None:
    """Let atheris choose inputs by the code that they reach. It never returns, so `done` gets the run and what to keep."""
    import atheris

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    run = Run(target, inputs)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    for number, data in enumerate((*target.seeds(), *corpus(name))):
        (folder / f"known-{number}").write_bytes(data[: target.longest])
    words = folder.with_suffix(".dict")
    words.write_text("".join('"' + "".join(f"\\x{byte:02x}" for byte in word[:64]) + '"\n' for word in target.words))
    began = time.monotonic()

    def one(data: bytes) -> None:
        if not run.memory_mb:
            run.memory_mb.append((0, rss_mb()))
        run.one(data)
        if run.done == inputs:
            run.seconds = time.monotonic() - began
            done(run, [path.read_bytes() for path in sorted(folder.iterdir())])
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os._exit(1 if run.finds else 0)

    arguments = (f"-runs={inputs * 2}", f"-max_len={target.longest}", f"-seed={seed}", "-verbosity=0", "-print_final_stats=0")
    atheris.Setup([sys.argv[0], *arguments, f"-dict={words}", "-timeout=60", "-rss_limit_mb=4096", str(folder)], one)
    atheris.Fuzz()
