"""Packets a second of `replay`, stage by stage, on one core with the model on, and the peak memory.

    python -m benchmarks.throughput [LOG_FOLDER ...] [--repeat 3]

Default input: the recorded traffic in tests/data, all captures one after the other. Each stage is a generator; its own time is
the time spent in it less the time spent in the stage before it, all in one run, so the parts add up to the whole.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
DATA = Path(__file__).parents[1] / "tests" / "data"
STAGES = ("read lines", "records", "windows", "judge", "episodes", "explain", "sink")


class Clock:
    """Seconds spent inside each stage, the stages before it included."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    def __call__(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Pass items on and count the time it takes to get each."""
        source = iter(items)
        while True:
            began = time.perf_counter()
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                self.seconds[stage] += time.perf_counter() - began
            yield item


def main() -> None:
    """Measure and print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", type=Path, nargs="*", help="folders of packetclip logs; default tests/data")
    parser.add_argument("--repeat", type=int, default=3, help="passes over the input; the model is opened once")
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    from packetclip_sensor import checkpoint
    from packetclip_sensor.bundle import Bundle
    from packetclip_sensor.config import Config
    from packetclip_sensor.documents import SensorInfo
    from packetclip_sensor.episodes import episodes
    from packetclip_sensor.explain import explain
    from packetclip_sensor.judge import judge
    from packetclip_sensor.metrics import Counters
    from packetclip_sensor.rejects import Rejects
    from packetclip_sensor.sinks import ndjson
    from packetclip_sensor.sources import tail, zeek
    from packetclip_sensor.windows import windows

    folders = args.logs or sorted(p.parent for p in DATA.glob("*/packetclip_packet.log.gz"))
    config = Config()
    bundle = Bundle.open(config.model_path)
    thresholds = bundle.manifest.thresholds
    counters, clock, state = Counters(), Clock(), checkpoint.State()
    out = Path("/dev/shm") / f"packetclip-benchmark-{os.getpid()}.ndjson"  # the disk is not what is measured
    started = time.perf_counter()
    try:
        for _ in range(args.repeat):
            out.unlink(missing_ok=True)
            for folder in folders:
                rejects = Rejects(None)
                lines = clock("read lines", tail.finite([folder], rejects=rejects))
                records = clock("records", zeek.batches(lines, rejects, counters))
                cut = clock("windows", windows(records, bundle.manifest.window, counters, judged=state.judged))
                judged = clock("judge", judge(cut, bundle, thresholds, counters))
                told = clock("episodes", episodes(judged, config.policy, counters, sensor="benchmark", model_version="0"))
                safes = clock("explain", explain(told, bundle, sensor="benchmark"))
                for _safe in clock("sink", ndjson.write(safes, out, SensorInfo("benchmark", "0"), counters)):
                    pass
    finally:
        out.unlink(missing_ok=True)
    seconds = time.perf_counter() - started
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{counters.packets:,} packets of {len(folders)} captures, {args.repeat} passes, one core of {platform.machine()}")
    print(f"{counters.windows:,} windows, {counters.encoded_rows:,} rows encoded, {counters.alerts_written} documents")
    before = 0.0
    print(f"{'stage':12} {'seconds':>9} {'packets/s':>12} {'share':>7}")
    for stage in STAGES:
        own = clock.seconds[stage] - before
        before = clock.seconds[stage]
        print(f"{stage:12} {own:9.2f} {counters.packets / max(own, 1e-9):12,.0f} {own / seconds:7.1%}")
    print(f"{'all':12} {seconds:9.2f} {counters.packets / seconds:12,.0f}")
    print(f"peak memory {peak_mb:.0f} MB")
    print(
        json.dumps(
            {
                "packets_per_second": round(counters.packets / seconds),
                "peak_memory_mb": round(peak_mb),
                "packets": counters.packets,
            }
        )
    )


if __name__ == "__main__":
    main()
