"""Lines a second from tailing to typed records, against msgspec alone on the same bytes, by turns in one run on one core.

    python -m benchmarks.parse [--repeat 5]

Input: the packet logs of tests/data as one plain file.
"""

from __future__ import annotations

import argparse
import gzip
import os
import statistics
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.common import CAPTURES, banner, verdict
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.records import Packet
from packetclip_sensor.sources import tail, zeek

BOUND = 2.0


def main() -> None:
    """Print lines a second of both, and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    banner("tail to typed records against msgspec alone")
    decoder = msgspec.json.Decoder(Packet)
    ratios = []
    with tempfile.TemporaryDirectory() as work:
        log = Path(work, "packetclip_packet.log")
        log.write_bytes(b"".join(gzip.decompress((p / "packetclip_packet.log.gz").read_bytes()) for p in CAPTURES))
        for _ in range(args.repeat):
            began = time.process_time()
            lines = len(decoder.decode_lines(log.read_bytes()))
            alone = time.process_time() - began
            counters, rejects = Counters(), Rejects(None)
            began = time.process_time()
            for batch in zeek.batches(tail.finite([Path(work)], rejects=rejects), rejects, counters):
                del batch
            ours = time.process_time() - began
            if counters.packets != lines:
                raise SystemExit(f"error: {counters.packets} records of {lines} lines")
            ratios.append(ours / alone)
            print(
                f"msgspec alone {lines / alone:,.0f} lines/s, ours {lines / ours:,.0f} lines/s, {ratios[-1]:.2f} times",
                flush=True,
            )
    verdict("tail to records over msgspec alone", statistics.median(ratios), BOUND)


if __name__ == "__main__":
    main()
