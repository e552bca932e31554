"""Lines that come late are put in order, and what is held back is neither lost nor given twice over a restart."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from factories import flow, packet

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.normalize.normalizer import Normalizer
from packetclip_sensor.records import Batch, Packet, Position

NOW = 1_760_000_000.0
END = Batch([], [], idle=True, final=True, quiet=True)


def late(count: int, by_s: float, seed: int = 1) -> tuple[list[Packet], list[Packet]]:
    """Packets 10 ms apart in their own order, and as they reach a log whose lines are up to `by_s` late."""
    rng = random.Random(seed)
    packets = [packet(ts=NOW + i / 100, uid=f"C{i % 7}", n=1 + i // 7, size_bytes=60 + i) for i in range(count)]
    return packets, sorted(packets, key=lambda p: p.ts + rng.random() * by_s)


def batches(packets: list[Packet], size: int) -> list[Batch]:
    """Each with a flow row, and with positions that count packets."""
    return [
        Batch(packets[i : i + size], [flow(uid=f"F{i}")], (place(i),), (place(min(i + size, len(packets))),))
        for i in range(0, len(packets), size)
    ]


def place(offset: int) -> Position:
    return Position("/logs/packetclip_packet.log", 1, 2, 3, "a", offset)


@pytest.mark.parametrize("size", [1, 10, 64, 1000])
def test_packets_come_out_in_the_order_of_time(size: int) -> None:
    packets, log = late(1000, 2.0)
    assert packets != log
    normalize = Normalizer(Counters(), Rejects(None), lateness_s=2.0)
    found = [out for batch in [*batches(log, size), END] for out in normalize(batch)]
    assert [p for out in found for p in out.packets] == packets
    assert [f.uid for out in found for f in out.flows] == [f"F{i}" for i in range(0, 1000, size)]


@pytest.mark.parametrize("size", [1, 10, 64, 1000])
def test_packets_of_one_zeek_are_put_in_order_within_some_milliseconds_and_later_ones_pass_as_they_come(size: int) -> None:
    rng = random.Random(2)
    packets = [packet(ts=NOW + i / 1000, uid=f"C{i}", size_bytes=60 + i) for i in range(600)]
    log = sorted(packets, key=lambda p: p.ts + rng.random() * 0.005)
    assert log != packets
    normalize = Normalizer(Counters(), Rejects(None))
    assert [p for batch in [*batches(log, size), END] for out in normalize(batch) for p in out.packets] == packets
    late = [*packets[:200], *packets[300:400], packets[250], *packets[400:]]
    normalize = Normalizer(Counters(), Rejects(None))
    found = [p for batch in [*batches(late, size), END] for out in normalize(batch) for p in out.packets]
    assert found == [*packets[:200], *packets[300:380], packets[250], *packets[380:]]


def test_a_quiet_log_holds_nothing_back() -> None:
    packets, log = late(100, 2.0)
    normalize = Normalizer(Counters(), Rejects(None), lateness_s=2.0)
    (before,) = normalize(Batch(log, []))
    (after,) = normalize(Batch([], [], idle=True, quiet=True))
    assert len(after.packets) > 50
    assert [*before.packets, *after.packets] == packets


@pytest.mark.parametrize("size", [10, 64])
def test_a_restart_at_any_moment_reads_again_what_was_held_and_no_flow_row_twice(size: int) -> None:
    packets, log = late(600, 2.0)
    parts = batches(log, size)
    normalize = Normalizer(Counters(), Rejects(None), lateness_s=2.0)
    done: set[tuple[str, int]] = set()
    flows: list[str] = []
    for batch in parts:
        (out,) = normalize(batch)
        done |= {(p.uid, p.n) for p in out.packets}
        flows += [f.uid for f in out.flows]
        (position,) = out.end
        left = [part for part in parts if part.start[0].offset >= position.offset]
        again = Normalizer(Counters(), Rejects(None), lateness_s=2.0)
        rest = [each for part in [*left, END] for each in again(part)]
        assert done | {(p.uid, p.n) for each in rest for p in each.packets} == {(p.uid, p.n) for p in packets}
        assert flows + [f.uid for each in rest for f in each.flows] == [f.uid for part in parts for f in part.flows]


def test_no_more_is_held_than_allowed() -> None:
    """A log whose clock stands still would be held for ever."""
    counters = Counters()
    normalize = Normalizer(counters, Rejects(None), lateness_s=2.0, most=100)
    out = [normalize(Batch([packet(uid=f"C{i}")], [])) for i in range(1000)]
    assert sum(len(each.packets) for part in out for each in part) >= 900
    assert counters.released_early > 0


def test_the_setting_is_bounded(tmp_path: Path) -> None:
    from packetclip_sensor.config import config_file
    from packetclip_sensor.errors import ConfigError

    path = tmp_path / "sensor.yaml"
    path.write_text("lateness_s: 2\n")
    assert config_file.load(path).lateness_s == 2.0
    path.write_text("lateness_s: 300\n")
    with pytest.raises(ConfigError, match="lateness_s"):
        config_file.load(path)
