"""Log line written to alert searchable, at a steady rate for minutes, with Zeek's flush once a second.

    python -m benchmarks.live --elasticsearch http://127.0.0.1:9200 [--rate 5000] [--seconds 300]

A writer appends made-up packets to a log, once a second all of the second before, as Zeek's writer does; every two seconds a
short SYN flood begins between two hosts of its own. A sensor follows the log. The clock of an alert runs from the flush that
wrote the last packet it tells of (its @timestamp) until a search finds it.
"""

from __future__ import annotations

import argparse
import datetime
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from base64 import b64encode
from pathlib import Path
from struct import pack

import numpy as np
from elasticsearch import Elasticsearch

from benchmarks.common import ask_for_cluster, banner, verdict

P50_S, P99_S = 1.5, 3.0
FLUSH_S = 1.0
FLOOD_EVERY_S, FLOOD_PACKETS, FLOOD_S = 2, 200, 0.5


def line(ts: float, source: int, target: int, port: int, flags: int, size: int, n: int, uid: str) -> bytes:
    """A line of the packet log: a TCP packet of one connection."""
    data = pack("!BBHHHBBHII", 0x45, 0, size, 1, 0, 64, 6, 0, source, target) + pack(
        "!HHIIBBHHH", port, 443, 7, 0, 0x50, flags, 1024, 0, 0
    )
    a, b = (".".join(map(str, x.to_bytes(4))) for x in (source, target))
    return (
        f'{{"ts":{ts:.6f},"uid":"{uid}","id.orig_h":"{a}","id.orig_p":{port},"id.resp_h":"{b}","id.resp_p":443,"proto":"tcp",'
        f'"is_orig":true,"n":{n},"len":{size},"data":"{b64encode(data).decode()}"}}\n'
    ).encode()


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
                rows = []
                flood = k % FLOOD_EVERY_S == 0
                for i in range(self.rate - FLOOD_PACKETS * flood):
                    host, n = rng.randrange(400), 1 + i // 400 % 12
                    size = rng.choice((52, 60, 300, 1400))
                    rows.append(
                        (start + i / self.rate, 0x0A000000 + host, 0xAC100000 + host % 37, 40000 + k, 24, size, n, f"B{k}-{host}")
                    )
                if flood:
                    rows += [
                        (start + j * FLOOD_S / FLOOD_PACKETS, 0xC6120000 + k, 0xC6130000 + k, 1024 + j, 2, 40, 1, f"F{k}-{j}")
                        for j in range(FLOOD_PACKETS)
                    ]
                data = b"".join(line(*row) for row in sorted(rows))
                self.late_s = max(self.late_s, time.time() - start - FLUSH_S)
                time.sleep(max(start + FLUSH_S - time.time(), 0.0))
                file.write(data)
                self.flushed.append((start + FLUSH_S, time.time()))

    def written(self, ts: float) -> float:
        """When the line of a packet of time `ts` was written."""
        return next((at for until, at in self.flushed if ts < until), self.flushed[-1][1])


def found(client: Elasticsearch, index: str, seen: dict[str, tuple[float, float]]) -> None:
    """Note every opening alert that a search finds now: its event time and this moment."""
    query = {"bool": {"filter": [{"term": {"packetclip.episode.state": "open"}}], "must_not": [{"ids": {"values": list(seen)}}]}}
    answer = client.options(ignore_status=[404, 503]).search(index=index, size=100, query=query, source=["@timestamp"])
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
    namespace = "live" + uuid.uuid4().hex[:8]
    index = f"logs-packetclip.alert-{namespace}"
    seen: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as work, Elasticsearch(args.elasticsearch) as client:
        logs = Path(work, "logs")
        logs.mkdir()
        (logs / "packetclip_packet.log").touch()
        Path(work, "sensor.yaml").write_text(
            f"logs: ['{logs}']\nstate_dir: '{work}/state'\nnamespace: {namespace}\n"
            f"sink: {{elasticsearch: {{hosts: ['{args.elasticsearch}']}}}}\n"
        )
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        with Path(work, "sensor.log").open("wb") as said:
            sensor = subprocess.Popen(
                [sys.executable, "-m", "packetclip_sensor", "run", "--config", f"{work}/sensor.yaml"], stderr=said, env=env
            )
            try:
                time.sleep(3)
                writer = Writer(logs / "packetclip_packet.log", args.rate, args.seconds)
                writer.start()
                while writer.is_alive() or time.time() - writer.flushed[-1][1] < 10:
                    found(client, index, seen)
                    time.sleep(0.05)
            finally:
                sensor.send_signal(signal.SIGTERM)
                sensor.wait()
                client.options(ignore_status=[400, 404]).indices.delete_data_stream(name=index)
        if not seen:
            sys.exit("error: no alert; the sensor said: " + Path(work, "sensor.log").read_text()[-500:])
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
