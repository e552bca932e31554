"""What Kafka costs: records a CPU second of reading, routing and judging, in one run, and how two judges compare with one; then
how long a line takes to an alert.

    python -m benchmarks.kafka --brokers HOST:PORT [--rate 5000] [--seconds 60]

It makes topics bench-kafka.* on that broker. For the latency the writer of `benchmarks.live` sends the lines of a second at its
end, one process of each role runs, and the clock goes from sending to the document in the alerter's file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import numpy as np
from confluent_kafka import TopicPartition
from kafka_broker import Site, merged, site

from benchmarks.live import Writer
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.kafka import clients
from packetclip_sensor.kafka.clients import Message
from packetclip_sensor.kafka.judge import Partition
from packetclip_sensor.kafka.messages import TICK, Tick, encode
from packetclip_sensor.kafka.route import Router, _Raw
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.sources import tail, zeek

HOSTS = 4


def cpu_s(work: Callable[[], Any]) -> float:
    """CPU seconds of this process, librdkafka's threads included."""
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--copies", type=int, default=4, help="how often tests/data is read, to have enough lines to time")
    parser.add_argument("--rate", type=int, default=5000, help="packets a second for the latency")
    parser.add_argument("--seconds", type=int, default=60, help="how long; 0 for no latency")
    args = parser.parse_args()
    costs(args)
    if args.seconds:
        latency(args)


def costs(args: argparse.Namespace) -> None:
    """Print the ratios."""
    lines = merged("packet")
    folder = Path(tempfile.mkdtemp())
    topics = Site(args.brokers, folder, f"bench-kafka-{time.time():.0f}", raw=1, partitions=HOSTS)
    config, _ = topics.config("bench")
    log, counters, nothing = folder / "packetclip_packet.log", Counters(), Rejects(None)
    log.write_bytes(b"".join(line + b"\n" for line in lines * args.copies))
    for _ in range(args.copies):
        topics.ship("packet", lines)
    count = len(lines) * args.copies

    def from_file() -> None:
        for _ in zeek.batches(tail.finite([log], rejects=nothing), nothing, counters):
            pass

    def from_kafka() -> None:
        reader, left = clients.consumer(config.kafka, "bench"), count
        reader.assign([TopicPartition(f"{topics.name}.packet", 0, clients.BEGINNING)])
        while left:
            values = [m.value for m in clients.read(reader, 4096, 0.1) if m.value]
            left -= len(values)
            if values:
                zeek._packets.decode_lines(b"\n".join(values))
        reader.close()

    read_file, read_kafka = count / cpu_s(from_file), count / cpu_s(from_kafka)
    print(f"read from a file {read_file:,.0f}, from Kafka {read_kafka:,.0f} records a CPU second: {read_kafka / read_file:.2f}")

    out: list[list[Message]] = [[] for _ in range(HOSTS)]

    def route() -> None:
        router = Router((1, HOSTS), 1e9, counters, nothing)
        router.raw = {0: _Raw()}
        for number, line in enumerate(lines):
            router.take(Message(0, number, None, line))
        while router.raw[0].queue:
            for partition, line in router():
                out[partition].append(Message(partition, len(out[partition]), None, line))
            router.committed()

    print(
        f"the router's stage {len(lines) / cpu_s(route):,.0f} records a CPU second, {sum(map(len, out)) / len(lines):.2f} copies"
    )
    bundle = Bundle.open(config.model_path)

    def judge(numbers: Iterable[int]) -> None:
        for number in numbers:
            part = Partition(number, (1, HOSTS), bundle, config, Counters(), nothing)
            for start in range(0, len(out[number]), 2048):
                some = out[number][start : start + 2048]
                clock = zeek.packet(some[-1].value or b"").ts
                part([*some, Message(number, some[-1].offset + 1, TICK, encode(Tick(0, clock)))])

    judge([0])  # the model is warm
    one = cpu_s(lambda: judge(range(HOSTS)))
    two = [cpu_s(lambda half=half: judge(half)) for half in ((0, 1), (2, 3))]  # type: ignore[misc]
    records = sum(map(len, out))
    print(
        f"the judge's stage {records / one:,.0f} copies a CPU second; two judges cost {sum(two) / one:.2f} of one's CPU seconds"
    )


def latency(args: argparse.Namespace) -> None:
    """Print the quantiles from line to alert."""
    folder, seen = Path(tempfile.mkdtemp()), dict[str, tuple[float, float]]()
    with site(args.brokers, folder, "bench-kafka", raw=1, partitions=HOSTS) as running:

        def send(data: bytes) -> None:
            for line in data.splitlines():
                running.producer.produce(f"{running.name}.packet", line, partition=0)
            running.producer.flush()

        for role in ("route", "judge", "alert"):
            running.start(role)
        running.await_all(time.time())
        writer = Writer(send, args.rate, args.seconds)
        writer.start()
        while writer.is_alive() or time.time() - writer.flushed[-1][1] < 10:
            now = time.time()
            for id_, document in running.documents().items():
                found = json.loads(document)
                if id_ not in seen and found["packetclip"]["episode"]["state"] == "open":
                    seen[id_] = datetime.datetime.fromisoformat(found["@timestamp"]).timestamp(), now
            time.sleep(0.05)
    waits = np.array([at - writer.written(ts) for ts, at in seen.values()])
    p50, p99 = np.quantile(waits, (0.5, 0.99))
    busy = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print(f"line to alert at {args.rate:,} packets/s: p50 {p50:.2f} s, p99 {p99:.2f} s, {len(waits)} alerts; {busy}")


if __name__ == "__main__":
    main()
