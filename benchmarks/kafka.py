"""What Kafka costs: records a CPU second of reading, routing and judging, in one run, and how two judges compare with one; how
fast lag is caught up; and how long a line takes to an alert.

    python -m benchmarks.kafka --brokers HOST:PORT [--only reading stages lag latency]

It makes topics bench-kafka.* on that broker. Figures a CPU second of the lag are of whole processes, their start left out. For
the latency the captures of tests/data happen now, `--times` over, each beginning `--apart` seconds behind the one before. Lines
are sent once a second, as Zeek's writer flushes them; one process of each role runs. The clock of a document goes from the
sending of the last packet that it counts to the line in the alerter's file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import numpy as np
from confluent_kafka import TopicPartition
from kafka_broker import Site, merged, site
from machine import until

from benchmarks.common import DATA
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.settings import Config
from packetclip_sensor.kafka import clients
from packetclip_sensor.kafka.alert import Alerter, Flows
from packetclip_sensor.kafka.clients import Message
from packetclip_sensor.kafka.judge import Partition
from packetclip_sensor.kafka.messages import TICK, Tick, decode_step, encode
from packetclip_sensor.kafka.route import Router, _Raw
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.model.encoder import Encoder
from packetclip_sensor.pipeline import Alerting
from packetclip_sensor.service.checkpoint import State
from packetclip_sensor.sources import tail, zeek

HOSTS = 4
PACKET = "packetclip.packet", 0


def cpu_s(work: Callable[[], Any]) -> float:
    """CPU seconds of this process, librdkafka's threads included."""
    began = time.process_time()
    work()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--copies", type=int, default=4, help="how often tests/data is read, to have enough lines to time")
    parser.add_argument("--turns", type=int, default=5, help="of one judge and two, each turn beside the other's load")
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--apart", type=float, default=0.22, help="seconds; with twice tests/data 0.22 makes 5,000 packets/s")
    parts = {"reading": reading, "stages": stages, "lag": lag, "latency": latency}
    parser.add_argument("--only", nargs="+", choices=parts, default=[*parts])
    args = parser.parse_args()
    for name in args.only:
        parts[name](args)


def reading(args: argparse.Namespace) -> None:
    """Print what reading from Kafka costs over reading a file."""
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


def stages(args: argparse.Namespace) -> None:
    """Print what the stages cost without Kafka."""
    lines, config, counters, nothing = merged("packet"), Config(), Counters(), Rejects(None)
    bundle = Bundle.open(config.model_path)
    out: list[list[Message]] = [[] for _ in range(HOSTS)]
    steps: list[bytes] = []

    def route() -> None:
        router = Router(1, HOSTS, 1e9, counters, nothing)
        router.raw = {PACKET: _Raw()}
        for number, line in enumerate(lines):
            router.take(Message(0, number, None, line, PACKET[0]))
        for partition, key, line in router():
            out[partition].append(Message(partition, len(out[partition]), key, line))

    print(
        f"the router's stage {len(lines) / cpu_s(route):,.0f} records a CPU second, {sum(map(len, out)) / len(lines):.2f} copies"
    )

    def judge(numbers: Iterable[int]) -> None:
        steps.clear()
        encoder = Encoder(bundle)
        for number in numbers:
            part = Partition(number, (1, HOSTS), bundle, config, Counters(), nothing, {}, encoder)
            for start in range(0, len(out[number]), 2048):
                some = out[number][start : start + 2048]
                clock = zeek.packet(some[-1].value or b"").ts
                end = Message(number, some[-1].offset + 1, TICK, encode(Tick(PACKET, clock)))
                steps.extend(map(encode, part([*some, end])))

    def alert() -> None:
        flows = Flows({0: 0}, counters)
        flows.rows[0].ended = True
        alerter = Alerter(HOSTS, Alerting(bundle, config, counters, State()), State(), flows)
        for step in steps:
            alerter.steps.take(decode_step(step), 0)
            alerter()

    judge([0])  # the model is warm
    seconds = [[cpu_s(lambda each=each: judge(each)) for each in ((0, 1), (2, 3), range(HOSTS))] for _ in range(args.turns)]
    alone = cpu_s(alert)
    one = float(np.median([turn[2] for turn in seconds]))
    ratios = sorted((first + second) / both for first, second, both in seconds)
    print(
        f"the judge's stage {sum(map(len, out)) / one:,.0f} copies a CPU second; two judges cost {np.median(ratios):.2f} of one's"
    )
    print(f"CPU seconds, the median of {args.turns} turns of {ratios[0]:.2f} to {ratios[-1]:.2f}")
    print(f"the alerter's stage {len(lines) / alone:,.0f} records a CPU second")


def happening(begin: float, apart_s: float, times: int) -> Iterator[tuple[float, str, bytes]]:
    """Time, log and line of all captures, so many times, as if they began at `begin` and so far apart."""
    for number, folder in enumerate(sorted(DATA.glob("demo-*")) * times):
        first = json.loads(merged("packet", folder.name)[0])["ts"]
        for log in ("packet", "flow"):
            for line in merged(log, folder.name):
                record = json.loads(line)
                ts = record["ts"] + begin + number * apart_s - first
                new = b'"ts":%.6f,"uid":"C%d' % (ts, number)
                yield ts + (record.get("duration") or 0.0), log, re.sub(rb'"ts":[0-9.]+,"uid":"C', new, line, count=1)


def used_s(process: subprocess.Popen[bytes]) -> float:
    """CPU seconds that a running process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def lag(args: argparse.Namespace) -> None:
    """Print how fast one process of each role catches up what waits for it."""
    folder = Path(tempfile.mkdtemp())
    with site(args.brokers, folder, "bench-kafka", raw=1, partitions=HOSTS) as running:
        lines = sorted(happening(time.time() - 40_000, 60.0, args.copies))
        for _, log, line in lines:
            clients.produce(running.producer, f"{running.name}.{log}", line, partition=0)
        running.producer.flush()
        packets, end = sum(log == "packet" for _, log, _ in lines), int(lines[-1][0]) + 1
        roles = {role: running.start(role) for role in ("route", "judge", "alert")}
        until(lambda: all(re.search('"(assigned|alerter_active)"', (folder / f"{role}1.log").read_text()) for role in roles))
        began, before = time.monotonic(), {role: used_s(process) for role, process in roles.items()}
        until(lambda: running.judged() >= end, 3600)
        took, rates = time.monotonic() - began, {role: packets / (used_s(roles[role]) - before[role]) for role in roles}
    each = ", ".join(f"{role} {rate:,.0f}" for role, rate in rates.items())
    print(f"{packets:,} packets of {len(lines):,} lines caught up, a CPU second of each process: {each} packets;")
    print(f"by the clock {packets / took:,.0f} packets a second, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def latency(args: argparse.Namespace) -> None:
    """Print the quantiles from line to alert."""
    seen, sent = dict[str, tuple[float, float]](), list[tuple[float, float]]()
    with site(args.brokers, Path(tempfile.mkdtemp()), "bench-kafka", raw=1, partitions=HOSTS) as running:
        for role in ("route", "judge", "alert"):
            running.start(role)
        running.await_all(time.time())
        begin = time.time() + 3
        lines = deque(sorted(happening(begin, args.apart, args.times)))
        packets = [ts for ts, log, _ in lines if log == "packet"]
        rate = len(packets) / (packets[-1] - begin)

        def send() -> None:
            while lines:
                flush = (sent[-1][0] if sent else begin) + 1
                time.sleep(max(flush - time.time(), 0.0))
                while lines and lines[0][0] < flush:
                    _, log, line = lines.popleft()
                    running.producer.produce(f"{running.name}.{log}", line, partition=0)
                running.producer.flush()
                sent.append((flush, time.time()))

        sender = threading.Thread(target=send)
        sender.start()
        while sender.is_alive() or time.time() - sent[-1][1] < 10:
            now = time.time()
            for id_, document in running.documents().items():
                found = json.loads(document)
                if id_ not in seen and found["packetclip"]["episode"]["state"] != "close":
                    seen[id_] = datetime.datetime.fromisoformat(found["@timestamp"]).timestamp(), now
            time.sleep(0.05)
    waits = np.array([at - next(flushed for at_, flushed in sent if ts < at_) for ts, at in seen.values()])
    p50, p99 = np.quantile(waits, (0.5, 0.99))
    late_s, load = max(at - flush for flush, at in sent), os.getloadavg()[0]
    print(f"line to alert at {rate:,.0f} packets/s: p50 {p50:.2f} s, p99 {p99:.2f} s of {len(waits)} alerts;")
    print(f"lines were sent {late_s:.2f} s late at most, load average {load:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
