"""Runs the faults in their whole form and prints the table."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from . import faults, proxy, zeek
from .faults import Row, undergo
from .node import Node
from .workload import BURST_S

Case = Callable[[Node], Row]
LIVE_S = float(BURST_S)
"""Wall time of a burst at which event time goes as fast as the clock."""


def cases(options: argparse.Namespace) -> dict[str, Case]:
    """Every fault by name."""
    n, pause_s = options, options.pause_s

    def case(name: str, disturb: faults.Disturb, times: int, **more: object) -> tuple[str, Case]:
        return name, lambda node: undergo(node, name, disturb, times, **({"pause_s": pause_s, "seed": n.seed} | more))  # type: ignore[arg-type]

    def on_disk(name: str, disturb: faults.Disturb, times: int) -> tuple[str, Case]:
        def run(node: Node) -> Row:
            with tempfile.TemporaryDirectory() as folder, faults.small_disk(Path(folder)) as disk:
                return undergo(node, name, disturb, times, pause_s=pause_s, seed=n.seed, state=disk, supervised=True)

        return name, run

    def rotation(rotate: Callable[[zeek.Zeek], None], name: str) -> tuple[str, Case]:
        return case(f"rotation: {name}", faults.rotating, n.rotations, rotate=rotate, rotations=n.rotations)

    return dict(
        [
            case("none", faults.nothing, 0),
            case("kill -9 of the sensor", faults.kills(n.kills), n.kills),
            case("kill -9 while logs are renamed", faults.kills(n.some), n.some, rotate=zeek.rename, rotations=n.some),
            case("kill -9 while logs are gzipped", faults.kills(n.some), n.some, rotate=zeek.compress, rotations=n.some),
            case("kill -9 while logs are archived", faults.kills(n.some), n.some, rotate=zeek.archive, rotations=n.some),
            rotation(zeek.rename, "rename"),
            rotation(zeek.compress, "rename, gzip in place"),
            rotation(zeek.archive, "rename, gzip, move (zeekctl)"),
            rotation(zeek.copytruncate, "copy, truncate"),
            rotation(zeek.delete, "delete and new"),
            rotation(zeek.replace_folder, "folder replaced"),
            rotation(zeek.relink, "symbolic link moved on"),
            case("SIGSTOP", faults.stopped(n.stops, n.stop_s), n.stops),
            case("Elasticsearch stopped", faults.away(n.away_s), 1, pause_s=LIVE_S),
            case(
                "Elasticsearch stopped, logs archived",
                faults.away(n.away_s),
                1,
                pause_s=LIVE_S,
                rotate=zeek.archive,
                rotations=n.some,
            ),
            case("Elasticsearch killed -9 in a bulk request", faults.killed_in_bulk(n.node_kills), n.node_kills),
            case("storm of 429 with Retry-After", faults.storms((429,), n.some, n.storm_s, 1), n.some),
            case("storm of 502, 503, 504", faults.storms((502, 503, 504), n.some, n.storm_s), n.some),
            case("429 for half of a bulk request", faults.acting(proxy.some_items(429), n.acts), n.acts),
            case("slow server", faults.acting(proxy.slow(1.5), n.acts), n.acts),
            case("answer after the time-out", faults.acting(proxy.late(3.0), n.some), n.some, timeout_s=2.0),
            case("connection refused", faults.refused(n.some, n.storm_s), n.some),
            case("cut before the server indexed", faults.acting(proxy.cut_before, n.acts), n.acts),
            case("cut after the server indexed", faults.acting(proxy.cut_after, n.acts), n.acts),
            case("reset after the server indexed", faults.acting(proxy.reset_after, n.acts), n.acts),
            case("cut in the middle of the answer", faults.acting(proxy.half_answer, n.acts), n.acts),
            case("checkpoint damaged", faults.corrupted(n.damages), n.damages),
            on_disk("disk full below the state folder", faults.full_disk(n.disks, n.storm_s), n.disks),
            case("state folder read-only", faults.read_only(n.disks, n.storm_s), n.disks, supervised=True),
        ]
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description="Let a sensor undergo every fault, and count what is in Elasticsearch afterwards.",
        epilog="example: python -m tests.faults --only 'kill -9 of the sensor' --kills 10",
    )
    numbers = {
        "kills": (100, "kills -9 of the sensor"),
        "rotations": (100, "rotations of each kind"),
        "acts": (100, "requests disturbed in each way"),
        "some": (20, "repetitions of what takes seconds each"),
        "stops": (3, "SIGSTOPs"),
        "stop_s": (60, "seconds of each"),
        "away_s": (600, "seconds without Elasticsearch"),
        "node_kills": (5, "kills -9 of Elasticsearch"),
        "storm_s": (4, "seconds of a storm"),
        "damages": (12, "damaged checkpoints"),
        "disks": (5, "times that the disk is full, or read-only"),
    }
    for name, (default, meaning) in numbers.items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=default, help=f"{meaning} (default {default})")
    parser.add_argument("--pause-s", type=float, default=1.0, help="wall time of a burst of Zeek's, seconds (default 1)")
    parser.add_argument("--seed", type=int, default=7, help="of the random moments (default 7)")
    parser.add_argument("--only", action="append", default=[], help="a fault whose name begins so; may be repeated")
    options = parser.parse_args(argv)
    chosen = {
        name: case
        for name, case in cases(options).items()
        if not options.only or any(name.startswith(only) for only in options.only)
    }
    if not chosen:
        parser.error(f"no fault begins like that; there are: {', '.join(cases(options))}")
    rows = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        node = Node(Path(folder))
        try:
            print(heading(), flush=True)
            for name, case in chosen.items():
                try:
                    row = case(node)
                except PermissionError as err:
                    print(f"| {name} | skipped: {err} |", flush=True)
                    continue
                rows.append(row)
                print(line(row), flush=True)
        finally:
            node.end()
    print(f"\n{time.strftime('%Y-%m-%d', time.gmtime())}, {machine()}")
    return 0 if all(row.good for row in rows) else 1


def machine() -> str:
    cpu = next(
        (x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), ""
    )
    return f"{os.cpu_count()} cores {cpu or platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"


def heading() -> str:
    titles = ("fault", "repetitions", "lines", "documents expected", "found", "lost", "doubled", "seconds", "note")
    return f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}"


def line(row: Row) -> str:
    numbers = f"{row.repetitions} | {row.lines:,} | {row.expected} | {row.found} | {row.lost} | {row.doubled} | {row.seconds:.0f}"
    return f"| {row.fault} | {numbers} | {row.note}{'' if row.caught_up else ' (did not catch up)'} |"
