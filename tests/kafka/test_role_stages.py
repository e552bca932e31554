"""The stages of the roles without a broker."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from factories import flow, packet, verdict

pytest.importorskip("confluent_kafka")

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.settings import KafkaConfig
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.kafka import clients
from packetclip_sensor.kafka.alert import MOST_ROWS, Flows, Steps
from packetclip_sensor.kafka.clients import Message
from packetclip_sensor.kafka.messages import (
    LINES,
    ORIGIN,
    Repeats,
    Seen,
    Step,
    Tick,
    decode_row,
    decode_step,
    encode,
    owns,
    partition_of,
)
from packetclip_sensor.kafka.route import Router, _Raw
from packetclip_sensor.records import Packet, Verdict

PACKET = "packetclip.packet"
HOSTS = [f"10.0.0.{i}" for i in range(40)]


def seen(second: int, orig: str, resp: str, skipped: int) -> Seen:
    return Seen(second, second + 0.5, "C1", orig, resp, 80, "tcp", True, 60, skipped)


def line(ts: float, orig: str = "10.0.0.1", resp: str = "10.0.0.2") -> bytes:
    return msgspec.json.encode({"ts": ts, "id.orig_h": orig, "id.resp_h": resp})


def router(raw: int = 2, *, ahead_s: float = 5.0, rejects: Rejects | None = None) -> Router:
    made = Router(raw, 4, ahead_s, Counters(), rejects or Rejects(None), wall=lambda: 10_000.0)
    made.raw = {(PACKET, number): _Raw() for number in range(raw)}
    return made


def sent(by: Router) -> list[bytes]:
    return [value for _, _, value in by()]


def said(partition: int, offset: int, value: bytes | None) -> Message:
    return Message(partition, offset, None, value, PACKET)


@pytest.mark.parametrize("view", ["pair", "source", "destination"])
def test_each_stream_is_judged_by_one_partition_which_has_its_packets(view: str) -> None:
    for orig in HOSTS:
        for resp in HOSTS:
            one = packet(orig_h=orig, resp_h=resp)
            judges = [number for number in range(4) if owns(number, 4)(view, one)]
            assert len(judges) == 1
            assert judges[0] in {partition_of(orig, 4), partition_of(resp, 4)}
            if view == "pair":  # both directions to the same one
                assert owns(judges[0], 4)(view, packet(orig_h=resp, resp_h=orig))


def test_a_line_goes_to_both_hosts_once_each() -> None:
    one = router(1)
    for resp in ("10.0.0.1", *HOSTS):
        one.take(said(0, 0, line(100.0, "10.0.0.1", resp)))
        to = [partition for partition, _, _ in one()]
        assert sorted(to) == sorted({partition_of("10.0.0.1", 4), partition_of(resp, 4)})


def test_no_partition_runs_ahead_of_the_slowest() -> None:
    one = router()
    for offset, ts in enumerate((100.0, 105.0, 105.1, 200.0)):
        one.take(said(0, offset, line(ts)))
    assert not list(one())  # nothing is known yet of the other
    one.take(said(1, 0, line(100.0)))
    assert {*sent(one)} == {line(100.0), line(105.0)}
    assert one.raw[PACKET, 0].next == 2
    one.take(said(1, 1, None))  # its end: it follows this machine's clock
    assert [value for _ in range(2) for value in sorted({*sent(one)})] == [line(105.1), line(200.0)]


def test_a_flow_row_goes_to_both_hosts_at_its_place_in_the_log_and_a_router_that_takes_over_knows_that() -> None:
    one = router(1)
    one.raw = {("packetclip.flow", 0): _Raw()}
    for offset, (ts, duration) in enumerate(((100.0, 4.0), (90.0, 2.0))):
        row = msgspec.json.encode({"ts": ts, "id.orig_h": "10.0.0.1", "id.resp_h": "10.0.0.3", "duration": duration})
        one.take(Message(0, offset, None, row, "packetclip.flow"))
    found = [(partition, ORIGIN.unpack(key), decode_row(value).newest) for partition, key, value in one()]
    both = sorted({partition_of(f"10.0.0.{i}", 4) for i in (1, 3)})
    assert found == [(to, (True, 0, offset, 0), 104.0) for offset in (0, 1) for to in both]
    (commit,) = one.offsets
    assert (commit.topic, commit.offset, float(commit.metadata)) == ("packetclip.flow", 2, 104.0)


def test_a_router_that_stood_still_does_not_take_what_it_has_not_read_for_nothing() -> None:
    wall = iter((1000.0, 1000.0, 1000.02, 1065.0, 1065.02, 1065.04))
    one = Router(1, 4, 5.0, Counters(), Rejects(None), wall=lambda: next(wall))
    one.raw = {(PACKET, 0): _Raw(ended=True)}
    clocks = []
    for _ in range(5):
        one.ends.reading()
        clocks += [tick.clock for tick in one.clocks()]
    assert clocks == [998.0, 998.0, 998.0, 998.02, 1063.0]


def test_a_line_of_the_future_does_not_move_the_clock(tmp_path: Path) -> None:
    with Rejects(tmp_path / "rejects.jsonl") as rejects:
        one = router(1, rejects=rejects)
        one.take(said(0, 0, line(4e9)))
        one.take(said(0, 1, b"\xff\x00 no line"))
        one.take(said(0, 2, line(100.0)))
        assert one.clocks() == [Tick((PACKET, 0), 100.0)]
        assert rejects.count == 2


def test_repeats_are_left_out_for_a_minute() -> None:
    left, one = Repeats[Packet](lambda p: (p.uid, p.n), lambda p: p.ts), packet(ts=100.0, uid="C1", n=1)
    assert left([one, one], 100.0) == [one]
    assert left([one], 159.0) == []
    assert left([one], 161.0) == [one]


def test_a_step_arrives_as_it_was_sent_with_hostile_bytes() -> None:
    arrays = np.arange(6, dtype=np.float32).reshape(2, 3)
    hostile = packet(data=b"\x00\xff\x1b[31m", unasked=True)
    found_ = Verdict(5, "pair", ("a",), ("b",), "DoS", 0.9, {"Benign": 0.1, "DoS": 0.9}, (hostile,), arrays, arrays)
    found = decode_step(encode(Step(1, 5, [found_], [0], [seen(5, "a", "b", 2)])))
    assert found.verdicts[0].packets == (hostile,)
    assert np.array_equal(found.verdicts[0].embeddings, arrays)
    assert found.seen == [seen(5, "a", "b", 2)]


def test_a_second_waits_for_the_slowest_partition_and_repeated_steps_are_dropped() -> None:
    steps = Steps(2, 0)
    steps.take(Step(0, 7, [], [], [seen(6, "a", "b", 0)]), 10)
    assert (steps.judged, steps.resume) == (0, 10)
    steps.take(Step(0, 7, [], [], [seen(6, "a", "b", 0)]), 11)
    steps.take(Step(1, 6, [], [], [seen(6, "c", "b", 0)]), 12)
    assert (steps.judged, steps.first) == (6, 6)
    assert steps.pop(6) == ([], [seen(6, "a", "b", 0), seen(6, "c", "b", 0)])
    assert steps.resume == 13


def test_parts_of_a_step_that_come_again_count_once_and_two_windows_of_the_same_packets_twice() -> None:
    steps, found = Steps(1, 4), [verdict(5, ("a",), (host,)) for host in "bccd"]
    for begin, end in ((0, 1), (0, 2), (1, 3)):
        steps.take(Step(0, 4, found[begin:end], [*range(begin, end)], []), 0)
    assert steps.judged == 4
    steps.take(Step(0, 5, found[3:], [3], [seen(5, "a", "b", 0)]), 3)
    assert steps.judged == 5
    assert steps.pop(5) == (found, [seen(5, "a", "b", 0)])


def rows(*, wall: float = 1000.0, partitions: int = 1) -> tuple[Flows, Counters]:
    counters = Counters()
    return Flows(dict.fromkeys(range(partitions), 0), counters, wall=lambda: wall), counters


def test_flow_rows_of_a_crowded_second_are_dropped_and_counted() -> None:
    flows, counters = rows()
    for number in range(MOST_ROWS + 5):
        flows.take(0, flow(ts=100.5, uid=f"C{number}"), number)
    assert counters.flows_dropped == 5
    flows.take(0, flow(ts=101.5), MOST_ROWS + 5)
    assert (len(flows.pop(101.0)), len(flows.pop(102.0))) == (MOST_ROWS, 1)


def test_a_partition_of_which_many_rows_wait_is_read_no_further_until_its_judges_come() -> None:
    flows, counters = rows(partitions=2)
    for number in range(MOST_ROWS):
        flows.take(0, flow(ts=100.5, uid=f"C{number}"), number)
    flows.take(0, flow(ts=102.5), MOST_ROWS)
    assert flows.full == set()  # so far that the second 100 can end
    flows.take(0, flow(ts=102.6), MOST_ROWS + 1)
    assert (flows.full, counters.flows_dropped) == ({0}, 0)
    flows.pop(101.0)
    assert flows.full == set()
    assert flows.rows[0].next == MOST_ROWS


def test_rows_count_in_their_order_and_once_and_a_partition_at_its_end_follows_the_clock() -> None:
    flows, counters = rows()
    assert flows.read == 0
    for offset, ts in enumerate(
        (100.0, 105.0, 101.0, 101.0)
    ):  # Zeek writes a row when it gives a connection up, long after its end
        flows.take(0, flow(ts=ts, uid=f"C{ts}"), offset)
    assert (flows.read, counters.repeats) == (105.0, 1)
    flows.rows[0].ended = True
    assert flows.read == 998.0
    assert [row.ts for row in flows.pop(105.0)] == [100.0]
    assert [row.ts for row in flows.pop(106.0)] == [101.0, 105.0]
    assert flows.rows[0].next == 3


def test_what_a_shipper_put_around_a_line_is_taken_away() -> None:
    assert LINES["tagged"](b'<14>Nov 30 host zeek: {"ts":1}') == b'{"ts":1}'
    assert LINES["message"](b'{"message":"{\\"ts\\":1}","host":"x"}') == b'{"ts":1}'
    assert LINES["line"](b"x") == b"x"


def test_a_secret_stands_in_a_file_that_its_owner_alone_may_read(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("open sesame\n")
    kafka = KafkaConfig(brokers=("localhost:9092",), secrets={"sasl.password": file})
    file.chmod(0o644)
    with pytest.raises(ConfigError, match=r"kafka\.secrets sasl\.password: .*mode 0644 lets others read") as refused:
        clients.options(kafka)
    assert "sesame" not in str(refused.value)
    file.chmod(0o600)
    assert clients.options(kafka)["sasl.password"] == "open sesame"
