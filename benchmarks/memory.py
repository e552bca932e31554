"""Memory over millions of packets of many streams: the stages up to the sink in one process, resident memory every so often.

    python -m benchmarks.memory [--packets 5000000] [--streams 100000]

Packets are made up, at 50,000 a second of event time: each stream, a pair of hosts, sends for one second, while a thousand
others do; one packet in fifty belongs to a flood. The slope is fitted to the second half of what stands between two batches; the
peak is the kernel's own, so what a stage takes and gives back in between counts too.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.common import banner, tcp_line, verdict
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.settings import Config
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.pipeline import alerts
from packetclip_sensor.records import Idle, Lines, Position
from packetclip_sensor.service import checkpoint
from packetclip_sensor.sources import zeek

BOUND_MB = 500.0
BLOCK = 2000
RATE = 50_000.0
SLOPE_MB = 5.0
SPEAKING = 1000


def lines(packets: int, streams: int, seed: int = 1) -> Iterator[Lines | Idle]:
    """Blocks of the packet log."""
    rng = random.Random(seed)
    position = Position("packetclip_packet.log", 1, 1, 0, "", 0)
    for start in range(0, packets, BLOCK):
        rows = []
        for i in range(start, min(start + BLOCK, packets)):
            flood = i % 50 == 0
            pair = 0 if flood else (i * streams // packets + rng.randrange(SPEAKING)) % streams
            target = 0xC0000201 if flood else 0xAC100000 + (pair % 199 << 8) + pair % 251
            port = rng.randrange(1024, 65536)
            rows.append(tcp_line(1.7e9 + i / RATE, f"C{i}", 0x0A000000 + pair, target, port, ident=i & 65535, seq=i))
        block = b"".join(rows)
        end = Position(position.path, 1, 1, 0, "", position.offset + len(block))
        yield Lines("packet", block, position, end)
        position = end
    yield Idle(final=True)


def resident_mb() -> float:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def main() -> None:
    """Print memory as it goes, the peak and the slope."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=5_000_000)
    parser.add_argument("--streams", type=int, default=100_000)
    args = parser.parse_args()
    banner(f"memory over {args.packets:,} packets of {args.streams:,} streams")
    config, counters = Config(), Counters()
    bundle = Bundle.open(config.model_path)
    batches = zeek.batches(lines(args.packets, args.streams), Rejects(None), counters)
    seen, began, printed = [], time.process_time(), 0
    for _ in alerts(batches, bundle, config, counters, checkpoint.State()):
        seen.append((counters.packets / 1e6, resident_mb()))
        if counters.packets - printed >= args.packets // 10:
            printed = counters.packets
            print(f"{printed:>10,} packets {seen[-1][1]:6.0f} MB  {time.process_time() - began:6.0f} s of processor", flush=True)
    half = np.array(seen[len(seen) // 2 :])
    slope = float(np.polyfit(half[:, 0], half[:, 1], 1)[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({"peak_mb": round(peak), "slope_mb_per_million": round(slope, 2), "evicted": counters.evicted}))
    verdict("peak", peak, BOUND_MB, unit=" MB")
    verdict("slope per million packets", slope, SLOPE_MB, unit=" MB")


if __name__ == "__main__":
    main()
