"""Windows against a plain loop: the sort must give what the definition says, whatever the batches were."""

from __future__ import annotations

import random
from collections import defaultdict, deque

import numpy as np
import pytest

from packetclip_sensor.metrics import Counters
from packetclip_sensor.records import Batch, Packet
from packetclip_sensor.windows import RELATIONS, VIEWS, Window, columns, relations, windows

SMALL = Window(packets=5, seconds=4.0, min_packets=2)


def packet(
    ts: float, orig: str, resp: str, resp_p: int = 80, uid: str | None = None, n: int = 1, *, is_orig: bool = True
) -> Packet:
    return Packet(
        ts, uid or f"{orig}{resp}{resp_p}", orig, 1000, resp, resp_p, "tcp", is_orig, n, 60, bytes.fromhex("45") + bytes(59)
    )


def traffic(seed: int, count: int = 200) -> list[Packet]:
    rng = random.Random(seed)
    ts, out = 100.0, []
    for i in range(count):
        ts += rng.choice([0.0, 0.01, 0.3, 0.9, 5.0] if rng.random() < 0.3 else [0.01])
        a, b = rng.sample("abcd", 2)
        out.append(packet(ts, a, b, rng.choice([80, 443]), f"C{rng.randrange(20)}", i))
    return out


def reference(packets: list[Packet], window: Window) -> set[tuple[int, str, tuple[int, ...]]]:
    """(second, view, n of the packets) of every window, by a plain loop."""
    streams: dict[tuple[str, object], deque[Packet]] = defaultdict(lambda: deque(maxlen=window.packets))
    touched: set[tuple[str, object]] = set()
    found = set()
    second = None

    def judge() -> None:
        for key in touched:
            stream = streams[key]
            kept = [p for p in stream if p.ts > stream[-1].ts - window.seconds]
            if len(kept) >= window.min_packets:
                found.add((second, key[0], tuple(p.n for p in kept)))
        touched.clear()

    for p in packets:
        if second is not None and int(p.ts) > second:
            judge()
        second = int(p.ts)
        for view, key in zip(VIEWS, (frozenset((p.orig_h, p.resp_h)), p.orig_h, p.resp_h), strict=True):
            streams[view, key].append(p)
            touched.add((view, key))
    judge()
    return found


def cut(packets: list[Packet], window: Window, batch: int) -> list[tuple[int, str, tuple[int, ...]]]:
    batches = [Batch(packets[i : i + batch], []) for i in range(0, len(packets), batch)] + [Batch([], [], final=True)]
    return [
        (int(w.second[i]), VIEWS[int(w.view[i])], tuple(p.n for p in w.table.record[w.rows[i][w.rows[i] >= 0]]))
        for w in windows(batches, window, Counters())
        for i in range(len(w.rows))
    ]


@pytest.mark.parametrize("batch", [1, 3, 17, 1000])
@pytest.mark.parametrize("seed", range(6))
def test_windows_are_those_of_the_plain_loop(seed: int, batch: int) -> None:
    packets = traffic(seed)
    found = cut(packets, SMALL, batch)
    assert len(found) == len(set(found))
    assert set(found) == reference(packets, SMALL)


def test_order_of_windows_does_not_depend_on_batches() -> None:
    packets = traffic(3)
    assert cut(packets, SMALL, 1) == cut(packets, SMALL, 7) == cut(packets, SMALL, 1000)


def test_a_restart_gives_the_windows_after_the_judged_second_and_no_other() -> None:
    packets = traffic(4)
    whole = cut(packets, SMALL, 10)
    judged = int(packets[120].ts)
    again = [p for p in packets if p.ts > judged - SMALL.seconds]
    batches = [Batch(again[i : i + 9], []) for i in range(0, len(again), 9)] + [Batch([], [], final=True)]
    counters = Counters()
    found = [
        (int(w.second[i]), VIEWS[int(w.view[i])], tuple(p.n for p in w.table.record[w.rows[i][w.rows[i] >= 0]]))
        for w in windows(batches, SMALL, counters, judged=judged)
        for i in range(len(w.rows))
    ]
    assert found == [w for w in whole if w[0] > judged]
    assert found


def test_a_quiet_second_is_judged_without_a_later_packet() -> None:
    clock = iter([0.0, 0.1, 0.2, 5.0, 5.1]).__next__
    packets = [packet(100.1, "a", "b"), packet(100.2, "a", "b")]
    batches = [Batch(packets, []), Batch([], [], idle=True), Batch([], [], idle=True)]
    counts = [len(w.rows) for w in windows(batches, SMALL, Counters(), clock=clock)]
    assert counts == [0, 0, 3]


def test_a_packet_behind_a_judged_second_is_judged_in_the_next_and_counted() -> None:
    counters = Counters()
    batches = [
        Batch([packet(100.1, "a", "b"), packet(100.2, "a", "b"), packet(101.5, "a", "b")], []),
        Batch([packet(100.9, "a", "b")], []),
        Batch([], [], final=True),
    ]
    seconds = [int(s) for w in windows(batches, SMALL, counters) for s in w.second]
    assert seconds == [100, 100, 100, 101, 101, 101]
    assert counters.late_packets == 1


def test_memory_is_bounded_and_what_is_let_go_is_counted() -> None:
    counters = Counters()
    packets = [packet(100 + i * 0.01, f"h{i}", f"g{i}", n=i + 1) for i in range(500)]
    held = [len(w.table) for w in windows([Batch([p], []) for p in packets], Window(), counters, max_rows=50)]
    assert max(held) < 250
    assert counters.evicted > 200


def test_relations_say_what_is_new_within_the_window() -> None:
    packets = [
        packet(100.0, "a", "b", 80, "C1", 1),
        packet(100.5, "a", "b", 80, "C1", 2, is_orig=False),
        packet(100.6, "a", "b", 81, "C2", 1),
        packet(100.7, "c", "b", 81, "C3", 1),
    ]
    rows = np.array([[-1, 0, 1, 2, 3]])
    found = relations(columns(packets), rows)[0]
    at = {name: i for i, name in enumerate(RELATIONS)}
    assert not found[0].any()
    assert found[1:, at["is_orig"]].tolist() == [1, -1, 1, 1]
    assert found[1:, at["new_connection"]].tolist() == [1, 0, 1, 1]
    assert found[1:, at["new_resp_p"]].tolist() == [1, 0, 1, 0]
    assert found[1:, at["new_orig_h"]].tolist() == [1, 0, 0, 1]
    assert found[1:, at["share_connections"]].tolist() == pytest.approx([1, 1 / 2, 2 / 3, 3 / 4])
    assert found[2, at["log_gap"]] == pytest.approx((np.log10(0.5 + 1e-6) + 6) / 8)
    assert found[1, at["log_gap"]] == 0
