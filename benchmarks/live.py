"""Log line written to alert searchable, at a steady rate for minutes, with Zeek's flush once a second.

    python -m benchmarks.live --elasticsearch http://127.0.0.1:9200 [--rate 5000] [--seconds 300]

A writer appends made-up packets to a log, once a second all of the second before, as Zeek's writer does; every two seconds a
short SYN flood begins between two hosts of its own. A sensor follows the log. The clock of an alert runs from the flush that
wrote the last packet it counts (its @timestamp) until a search finds it.
"""

from __future__ import annotations

import argparse
import datetime
import random
import sys
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.common import Following, ask_for_cluster, banner, following, tcp_line, verdict

P50_S, P99_S = 1.5, 3.0
FLUSH_S = 1.0
FLOOD_EVERY_S, FLOOD_PACKETS, FLOOD_S = 2, 200, 0.5


class Writer(threading.Thread):
    """Writes the log; `flushed` holds when each flush was done and up to which event time it went."""

    def __init__(self, log: Path, rate: int, seconds: int) -> None:
        super().__init__()
        self.log, self.rate, self.seconds = log, rate, seconds
        self.flushed: list[tuple[float, float]] = []
        self.late_s = 0.0

    def run(self) -> None:
        """Flush after flush; the time of the packets is that between two flushes."""
        rng = random.Random(1)
        begun = time.time()
        with self.log.open("ab", buffering=0) as file:
            for k in range(self.seconds):
                start = begun + k * FLUSH_S
                rows = []  # time, uid, source, target, source port, flags, size, number in its connection
                flood = k % FLOOD_EVERY_S == 0
                for i in range(self.rate - FLOOD_PACKETS * flood):
                    host, n, size = rng.randrange(400), 1 + i // 400 % 12, rng.choice((52, 60, 300, 1400))
                    ends = (0x0A000000 + host, 0xAC100000 + host % 37, 40000 + k)
                    rows.append((start + i / self.rate, f"B{k}-{host}", *ends, 24, size, n))
                for j in range(FLOOD_PACKETS * flood):
                    at = start + j * FLOOD_S / FLOOD_PACKETS
                    rows.append((at, f"F{k}-{j}", 0xC6120000 + k, 0xC6130000 + k, 1024 + j, 2, 40, 1))
                data = b"".join(tcp_line(*row[:5], flags=row[5], size=row[6], n=row[7]) for row in sorted(rows))
                self.late_s = max(self.late_s, time.time() - start - FLUSH_S)
                time.sleep(max(start + FLUSH_S - time.time(), 0.0))
                file.write(data)
                self.flushed.append((start + FLUSH_S, time.time()))

    def written(self, ts: float) -> float:
        """When the line of a packet of time `ts` was written."""
        return next((at for until, at in self.flushed if ts < until), self.flushed[-1][1])


def found(sensor: Following, seen: dict[str, tuple[float, float]]) -> None:
    """Note every opening alert that a search finds now: its event time and this moment."""
    query = {"bool": {"filter": [{"term": {"packetclip.episode.state": "open"}}], "must_not": [{"ids": {"values": list(seen)}}]}}
    asked = sensor.client.options(ignore_status=[404, 503])
    answer = asked.search(index=sensor.index, size=100, query=query, source=["@timestamp"])
    now = time.time()
    for hit in answer.get("hits", {}).get("hits", []):
        seen[hit["_id"]] = datetime.datetime.fromisoformat(hit["_source"]["@timestamp"]).timestamp(), now


def main() -> None:
    """Run for the time asked, then print the quantiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask_for_cluster(parser)
    parser.add_argument("--rate", type=int, default=5000)
    parser.add_argument("--seconds", type=int, default=300)
    args = parser.parse_args()
    banner(f"log line written to alert searchable, {args.rate:,} packets/s for {args.seconds} s")
    seen: dict[str, tuple[float, float]] = {}
    with following(args.elasticsearch) as sensor:
        writer = Writer(sensor.logs / "packetclip_packet.log", args.rate, args.seconds)
        writer.start()
        while writer.is_alive() or time.time() - writer.flushed[-1][1] < 10:
            found(sensor, seen)
            time.sleep(0.05)
        if not seen:
            sys.exit("error: no alert; the sensor logged: " + sensor.said.read_text()[-500:])
    waits = np.array([at - writer.written(ts) for ts, at in seen.values()])
    p50, p99 = np.quantile(waits, (0.5, 0.99))
    floods = len(range(0, args.seconds, FLOOD_EVERY_S))
    print(
        f"{len(waits)} alerts of {floods} floods, longest {waits.max():.2f} s; the writer was {writer.late_s:.2f} s late at most"
    )
    verdict("p50", float(p50), P50_S, unit=" s")
    verdict("p99", float(p99), P99_S, unit=" s")


if __name__ == "__main__":
    main()
