"""Packets a second of `replay`, stage by stage, on one core with the model on, and the peak memory.

    python -m benchmarks.throughput [LOG_FOLDER ...] [--repeat 3] [--flood PACKETS | --pairs PAIRS [--varied]]

Default input: the recorded traffic in tests/data, all captures one after the other. Each stage is a generator; its own time is
the processor time spent in it less that spent in the stage before it, all in one run, so the parts add up to the whole.
--flood makes up a SYN flood from forged sources, every packet in the log, which Zeek's `max_new_connections` would have thinned.
--pairs makes up the cheapest load that costs much: so many host pairs, each with one small packet a second for two minutes, so
that each packet ends a second of its streams. --varied gives each packet other bytes, so that the encoder has seen none before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.common import CAPTURES, banner, tcp_line, verdict

T = TypeVar("T")
BOUND, FLOOD_BOUND, PAIRS_BOUND = 25_000, 100_000, 15_000
PAIRS_S = 120
SEED = 1
STAGES = ("read lines", "records", "normalize", "windows", "judge", "episodes", "explain", "sink")


class Clock:
    """Seconds spent inside each stage, the stages before it included."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    def __call__(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Pass items on and count the time it takes to get each."""
        source = iter(items)
        while True:
            began = time.process_time()
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                self.seconds[stage] += time.process_time() - began
            yield item


def write_flood(log: Path, packets: int) -> None:
    """Packet log of a SYN flood from forged sources on one host and port, 20,000 packets a second."""
    rng = random.Random(SEED)
    with log.open("wb") as file:
        for i in range(packets):
            source, port, first = rng.getrandbits(32), rng.randrange(1024, 65536), rng.getrandbits(16)
            varied = {"ident": i & 65535, "seq": rng.getrandbits(32), "checksums": (first, rng.getrandbits(16))}
            file.write(tcp_line(1.7e9 + i / 20_000, f"C{i}", source, 0xC0000201, port, **varied))


def write_pairs(log: Path, pairs: int, *, varied: bool = False) -> None:
    """Packet log of `pairs` host pairs with one connection each, begun anew every 100 packets, of one packet a second."""
    rng = random.Random(SEED)
    with log.open("wb") as file:
        for second in range(PAIRS_S):
            n = second % 100 + 1
            for i in range(pairs):
                seq, window = rng.getrandbits(32), rng.getrandbits(16) if varied else 1024
                ts = 1.7e9 + second + (i + rng.random()) / (pairs + 1)
                flags = 2 if n == 1 else 16
                line = tcp_line(
                    ts, f"C{i}.{second // 100}", 0x0A000000 + i, 0xC0000000 + i, 40_000, n=n, seq=seq, flags=flags, window=window
                )
                file.write(line)


def make_up(folder: Path, args: argparse.Namespace) -> None:
    """Write the packet log that is asked for into a new folder, to be read once."""
    folder.mkdir()
    if args.pairs:
        write_pairs(folder / "packetclip_packet.log", args.pairs, varied=args.varied)
    else:
        write_flood(folder / "packetclip_packet.log", args.flood)
    args.logs, args.repeat = [folder], 1


def main() -> None:
    """Measure and print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", type=Path, nargs="*", help="folders of packetclip logs; default tests/data")
    parser.add_argument("--flood", type=int, metavar="PACKETS", help="a made-up flood instead; one pass")
    parser.add_argument("--pairs", type=int, metavar="PAIRS", help="made-up pairs of one packet a second instead; one pass")
    parser.add_argument("--varied", action="store_true", help="with --pairs: other bytes in each packet")
    parser.add_argument("--repeat", type=int, default=3, help="passes over the input; the model is opened once")
    args = parser.parse_args()
    banner("packets a second of the whole sensor, one core, the model on")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    from packetclip_sensor.alerts.episodes import EpisodeTracker
    from packetclip_sensor.alerts.explain import explain
    from packetclip_sensor.common.metrics import Counters
    from packetclip_sensor.common.rejects import Rejects
    from packetclip_sensor.config.policy import for_missions
    from packetclip_sensor.config.settings import Config
    from packetclip_sensor.model.bundle import Bundle
    from packetclip_sensor.model.judge import judge
    from packetclip_sensor.normalize.normalizer import normalized
    from packetclip_sensor.sinks import ndjson
    from packetclip_sensor.sinks.documents import SensorInfo
    from packetclip_sensor.sources import tail, zeek
    from packetclip_sensor.windows.cutter import windows

    made = Path("/dev/shm") / f"packetclip-load-{os.getpid()}"
    if args.flood or args.pairs:
        make_up(made, args)
    folders = args.logs or CAPTURES
    bundle, config = Bundle.open(Config().model_path), Config()
    policy = for_missions(config.policy, bundle.manifest.missions)
    sensor = SensorInfo("benchmark", "0", missions=bundle.manifest.missions)
    counters, clock = Counters(), Clock()
    out = Path("/dev/shm") / f"packetclip-benchmark-{os.getpid()}.ndjson"  # the disk is not what is measured
    started = time.process_time()
    try:
        for _ in range(args.repeat):
            out.unlink(missing_ok=True)
            for folder in folders:
                lines = clock("read lines", tail.finite([folder], rejects=(rejects := Rejects(None))))
                records = clock("records", zeek.batches(lines, rejects, counters))
                right = clock("normalize", normalized(records, counters, rejects))
                cut = clock(
                    "windows",
                    windows(right, bundle.manifest.window, counters, windows_per_second=config.limits.windows_per_second),
                )
                judged = clock("judge", judge(cut, bundle, bundle.manifest.thresholds, counters))
                track = EpisodeTracker(policy, counters, sensor="benchmark", model_version="0")
                tracked = clock("episodes", map(track, judged))
                safes = clock("explain", (explain(step, bundle, sensor="benchmark") for step in tracked))
                for _safe in clock("sink", ndjson.write(safes, out, sensor, counters)):
                    pass
    finally:
        out.unlink(missing_ok=True)
        shutil.rmtree(made, ignore_errors=True)
    seconds = time.process_time() - started
    report(counters, clock, seconds, folders, args)


def report(counters: Any, clock: Clock, seconds: float, folders: list[Path], args: argparse.Namespace) -> None:
    """Print the stages, memory and the figure beside its bound."""
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
    bound = PAIRS_BOUND if args.pairs else FLOOD_BOUND if args.flood else BOUND
    verdict("packets a second", counters.packets / seconds, bound, most=False)
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
