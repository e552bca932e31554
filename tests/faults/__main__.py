"""The whole fault suite, and its table for docs/reliability.md: `python -m tests.faults --help`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "support")]

from elasticsearch_node import Node  # noqa: E402

from benchmarks.common import machine  # noqa: E402
from faults import faults, proxy, zeek  # noqa: E402
from faults.undergo import Disturb, Row, undergo  # noqa: E402
from faults.workload import BURST_S  # noqa: E402

Case = Callable[[Node, float], Row]
"""One fault; the second argument is a share of its repetitions."""
ROTATIONS = {
    "rename": zeek.rename,
    "rename, gzip in place": zeek.compress,
    "rename, gzip, move (zeekctl)": zeek.archive,
    "copy, truncate": zeek.copytruncate,
    "delete and new": zeek.delete,
    "folder replaced": zeek.replace_folder,
    "symbolic link moved on": zeek.relink,
}


def case(name: str, disturb: Callable[..., Disturb], times: int, *how: Any, **more: Any) -> tuple[str, Case]:
    """A fault, so many times, with what `disturb` and `undergo` take besides."""

    def run(node: Node, share: float) -> Row:
        n = max(1, round(times * share))
        rotations = {"rotations": max(1, round(more.pop("rotations", times) * share))} if "rotate" in more else {}
        return undergo(node, name, disturb(n, *how), n, **(more | rotations))

    return name, run


LIVE: dict[str, Any] = {"pause_s": float(BURST_S)}
"""Event time goes as fast as the clock."""
CASES = dict(
    [
        case("none", faults.nothing, 1),
        case("kill -9 of the sensor", faults.kills, 100),
        case("kill -9 while logs are renamed", faults.kills, 20, rotate=zeek.rename),
        case("kill -9 while logs are gzipped", faults.kills, 20, rotate=zeek.compress),
        case("kill -9 while logs are archived", faults.kills, 20, rotate=zeek.archive),
        *(case(f"rotation: {name}", faults.rotating, 100, rotate=rotate) for name, rotate in ROTATIONS.items()),
        case("SIGSTOP", faults.stopped, 3, 60),
        case("Elasticsearch stopped", faults.away, 1, 600, **LIVE),
        case("Elasticsearch stopped, logs archived", faults.away, 1, 600, rotate=zeek.archive, rotations=20, **LIVE),
        case("Elasticsearch killed -9 in a bulk request", faults.killed_in_bulk, 5),
        case("storm of 429 with Retry-After", faults.storms, 20, (429,), 4, 1),
        case("storm of 502, 503, 504", faults.storms, 20, (502, 503, 504), 4),
        case("429 for half of a bulk request", faults.acting, 100, proxy.some_items(429)),
        case("slow server", faults.acting, 100, proxy.delayed(before_s=1.5)),
        case("answer after the time-out", faults.acting, 20, proxy.delayed(after_s=3.0), timeout_s=2.0),
        case("connection refused", faults.refused, 20, 4),
        case("cut before the server indexed", faults.acting, 100, proxy.cut_before),
        case("cut after the server indexed", faults.acting, 100, proxy.cut_after),
        case("reset after the server indexed", faults.acting, 100, proxy.reset_after),
        case("cut in the middle of the answer", faults.acting, 100, proxy.half_answer),
        case("checkpoint damaged", faults.corrupted, 12),
        case("cluster away for a minute, webhook and syslog beside it", faults.refused, 1, 60, forward=True, **LIVE),
        case("webhook, then syslog away for a minute", faults.receivers_away, 1, 60, forward=True, **LIVE),
        case("kill -9 with webhook and syslog", faults.kills, 20, forward=True),
        case("disk full below the state folder", faults.full_disk, 5, 4, supervised=True, small_disk=True),
        case("state folder read-only", faults.read_only, 5, 4, supervised=True),
    ]
)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description="Let a sensor undergo every fault, and count what is in Elasticsearch afterwards.",
        epilog="example: python -m tests.faults --only 'kill -9 of the sensor' --share 0.1",
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the repetitions in docs/reliability.md (default 1)")
    parser.add_argument("--only", action="append", default=[], help="a fault whose name begins so; may be repeated")
    options = parser.parse_args(argv)
    chosen = {name: run for name, run in CASES.items() if name.startswith(tuple(options.only or [""]))}
    if not chosen:
        parser.error(f"no fault begins like that; there are: {', '.join(CASES)}")
    titles = ("fault", "repetitions", "lines", "documents expected", "found", "lost", "doubled", "seconds", "note")
    print(f"| {' | '.join(titles)} |\n|{' --- |' * len(titles)}", flush=True)
    good = True
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        node = Node(Path(folder))
        try:
            for name, run in chosen.items():
                try:
                    row = run(node, options.share)
                except PermissionError as err:
                    print(f"| {name} | skipped: {err} |", flush=True)
                    continue
                print(row.line, flush=True)
                good = good and row.good
        finally:
            node.end()
    print(f"\n{time.strftime('%Y-%m-%d', time.gmtime())}, {machine()}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
