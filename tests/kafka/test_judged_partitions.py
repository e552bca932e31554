"""The partitions' pipelines without a broker: the verdicts of one sensor, where evidence over minutes decides too."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from factories import packet
from kafka_broker import merged

from tests.support.bundles import with_evidence

pytest.importorskip("confluent_kafka")

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.settings import Config, Limits
from packetclip_sensor.kafka.clients import Message
from packetclip_sensor.kafka.judge import Partition
from packetclip_sensor.kafka.messages import ORIGIN, TICK, Step, Tick, encode
from packetclip_sensor.kafka.route import Router, _Raw
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.model.encoder import Encoder
from packetclip_sensor.pipeline import Judging
from packetclip_sensor.records import Verdict
from packetclip_sensor.service.checkpoint import State
from packetclip_sensor.sources import tail, zeek

CAPTURES = "demo-dict-patator-ftp", "demo-icmp-fping", "demo-os-nping"
LOGS = "packet", "flow"
AGAIN_S, TIMES = 120.0, 3
HOSTS = 4
NOTHING = Rejects(None)


def lines() -> dict[str, list[bytes]]:
    """The captures, all beginning at once, and again some minutes later: what their flow rows say counts then."""
    out: dict[str, list[tuple[float, bytes]]] = {log: [] for log in LOGS}
    for capture in CAPTURES:
        first = json.loads(merged("packet", capture)[0])["ts"]
        for log in LOGS:
            for line in merged(log, capture):
                record = json.loads(line)
                for turn in range(TIMES):
                    ts = 1_700_000_000 + record["ts"] - first + AGAIN_S * turn
                    moved = re.sub(rb'"ts":[0-9.]+,"uid":"C', b'"ts":%.6f,"uid":"C%d' % (ts, turn), line, count=1)
                    out[log].append((ts + (record.get("duration") or 0.0 if log == "flow" else 0.0), moved))
    rng = random.Random(3)  # Zeek writes some rows only at a timeout
    out["flow"] = [(ts + rng.choice((0, 0, 4, 60)), line) for ts, line in out["flow"]]
    return {log: [line for _, line in sorted(each)] for log, each in out.items()}


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(with_evidence(tmp_path_factory.mktemp("bundle") / "model"))


def key(verdict: Verdict) -> tuple[Any, ...]:
    last = verdict.packets[-1]
    return verdict.second, verdict.view, verdict.sources, verdict.mission, verdict.trail, last.uid, last.n


def alone(folder: Path, bundle: Bundle, logs: dict[str, list[bytes]]) -> list[tuple[Any, ...]]:
    """What one sensor finds."""
    files = []
    for log, of in logs.items():
        files.append(folder / f"packetclip_{log}.log")
        files[-1].write_bytes(b"".join(line + b"\n" for line in of))
    judging = Judging(bundle, Config(lateness_s=1.0), Counters(), State())
    read = zeek.together(zeek.batches(tail.finite(files, rejects=NOTHING), NOTHING, Counters()))
    return sorted((key(v) for batch in read for found in judging(batch) for v in found.verdicts), key=str)


def routed(logs: dict[str, list[bytes]]) -> list[list[Message]]:
    """The host partitions as routers fill them, with their clocks: what one sent for a while another sends again."""
    router, out = Router(2, HOSTS, 5.0, Counters(), NOTHING), [list[Message]() for _ in range(HOSTS)]
    router.raw = {(f"packetclip.{log}", 0): _Raw() for log in LOGS}
    for log, of in logs.items():
        for number, line in enumerate(of):
            router.take(Message(0, number, None, line, f"packetclip.{log}"))
        router.take(Message(0, len(of), None, None, f"packetclip.{log}"))
    while any(raw.queue for raw in router.raw.values()):
        for number, key, value in router():
            out[number].append(Message(number, len(out[number]), key, value))
        for each, tick in ((each, tick) for each in out for tick in router.clocks()):
            each.append(Message(out.index(each), len(each), TICK, encode(tick)))
    return [_offsets([*each[:at], *each[at // 4 :]]) for each in out for at in (len(each) * 3 // 5,)]


def _offsets(messages: list[Message]) -> list[Message]:
    return [message._replace(offset=offset) for offset, message in enumerate(messages)]


class Judges:
    """The partitions' pipelines, and what the state topic would hold of them."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle, self.counters, self._encoder = bundle, Counters(), Encoder(bundle)
        self.kept: list[dict[bytes, bytes]] = [{} for _ in range(HOSTS)]

    def start(self, number: int) -> Partition:
        kept = self.kept[number]
        return Partition(number, (2, HOSTS), self._bundle, Config(), self.counters, NOTHING, kept, self._encoder)

    def save(self, number: int, part: Partition) -> None:
        for key, value in part.changes().items():
            self.kept[number].pop(key, None)
            if value:
                self.kept[number][key] = value
        part.saved()

    def judged(self, number: int, messages: list[Message], rng: random.Random | None) -> Iterator[Step]:
        """All steps of a partition; with `rng`, of processes that are killed on the way."""
        part, at = self.start(number), 0
        while at < len(messages):
            some = messages[at : at + (rng.randrange(1, 4000) if rng else 2000)]
            yield from part(some)
            at += len(some)
            if rng and rng.random() < 0.7:
                self.save(number, part)
            if rng and rng.random() < 0.4:
                part = self.start(number)
                at = max(part.begin, 0)


def test_partitions_that_are_killed_find_what_one_sensor_finds_where_evidence_decides(tmp_path: Path, decided: Bundle) -> None:
    logs = lines()
    expected = alone(tmp_path, decided, logs)
    assert len(expected) > 20
    assert expected != alone(tmp_path, decided, logs | {"flow": []}), "flow rows decide nothing"
    topic = routed(logs)
    for rng in (None, random.Random(1), random.Random(2)):
        judges = Judges(decided)
        steps = [step for number, messages in enumerate(topic) for step in judges.judged(number, messages, rng)]
        assert sorted({key(v) for step in steps for v in step.verdicts}, key=str) == expected
        assert judges.counters.evidence_late_flows == 0


def test_what_a_router_that_stood_still_sends_when_others_have_long_gone_on_is_left_out(bundle: Bundle) -> None:
    values = [msgspec.json.encode(packet(ts=1000.0 + n, uid="C1", n=n + 1)) for n in range(300)]
    keys = [ORIGIN.pack(False, 0, n, 0) for n in range(300)]
    counters = Counters()
    part = Partition(0, (1, 1), bundle, Config(), counters, NOTHING, {})
    clock = TICK, encode(Tick(("packetclip.packet", 0), 1300.0))
    topic = [*zip(keys, values, strict=True), clock, *zip(keys[:50], values[:50], strict=True), clock]
    part([Message(0, offset, *message) for offset, message in enumerate(topic)][:301])
    part([Message(0, offset, *message) for offset, message in enumerate(topic)][301:])
    assert (counters.repeats, counters.packets, counters.late_packets) == (50, 300, 0)


@pytest.mark.parametrize(("rule", "left"), [("skip_old", 0), ("first_packets", 2)])
def test_load_is_shed_in_the_partition_that_is_behind_and_in_no_other(
    rule: Literal["skip_old", "first_packets"], left: int, bundle: Bundle
) -> None:
    limits, now = Limits(shed_load=rule, shed_after_s=300.0, packets_kept=2), time.time()
    counters = [Counters(), Counters()]
    parts = [Partition(number, (1, 2), bundle, Config(limits=limits), counters[number], NOTHING, {}) for number in (0, 1)]

    def give(number: int, at: float, clock: float) -> list[Step]:
        values = [
            (ORIGIN.pack(False, 0, int(at) + n, 0), msgspec.json.encode(packet(ts=at + n / 100, uid="C1", n=n + 1)))
            for n in range(6)
        ]
        values.append((TICK, encode(Tick(("packetclip.packet", 0), clock))))
        return parts[number]([Message(number, offset, *value) for offset, value in enumerate(values)])

    steps = [give(number, at, at + 10) for number, at in enumerate((now - 400, now - 20))]
    assert [part.shedding.on for part in parts] == [True, False]
    assert [each.windows > 0 for each in counters] == [False, True]
    shed = counters[0].shed_lines + counters[0].shed_packets
    assert (shed, counters[1].shed_lines + counters[1].shed_packets) == (6 - left, 0)
    assert all(steps), "the second that was passed over is judged too: the others do not wait for it"
    give(0, now - 10, now)
    assert not parts[0].shedding.on
