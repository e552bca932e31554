"""When a source is quiet: its log has stood at its end for long enough by a clock that the test moves."""

from __future__ import annotations

from pathlib import Path

import pytest
from tailing import Blocks, append, packets, uids, until_idle

from packetclip_sensor.records import Idle, Lines
from packetclip_sensor.sources.tail import follow


class StoppedClock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_source_is_quiet_when_its_log_has_stood_at_its_end_for_long_enough(tmp_path: Path, log: Path) -> None:
    clock = StoppedClock()
    blocks = follow([tmp_path], poll_s=0.0, clock=clock)
    log.write_bytes(packets(1))
    assert uids([next(blocks)]) == ["C1"]
    found = []
    for _ in range(6):
        found.append(next(blocks))
        clock.now += 0.4
    assert [block.quiet for block in found] == [(), (), (), (), (str(tmp_path),), (str(tmp_path),)]
    append(log, packets(2))
    assert uids([next(blocks)]) == ["C2"]
    assert next(blocks) == Idle()


@pytest.mark.parametrize("held_up_s", [1.0, 60.0, 3600.0])
def test_a_reader_that_is_held_up_by_its_sink_or_its_processor_calls_nothing_quiet(
    tmp_path: Path, log: Path, held_up_s: float
) -> None:
    """What was written meanwhile is found by the next look, wherever in a look the reader stood still."""
    clock = StoppedClock()
    blocks = follow([tmp_path], poll_s=0.0, clock=clock)
    for i in range(8):
        append(log, packets(2 * i))
        clock.now += held_up_s
        assert uids([next(blocks)]) == [f"C{2 * i}"]
        clock.now += held_up_s
        append(log, packets(2 * i + 1))  # behind what this look has read
        assert uids([next(blocks)]) == [f"C{2 * i + 1}"]
        clock.now += held_up_s
        assert next(blocks) == Idle()


def test_a_source_with_much_to_read_keeps_no_other_one_waiting_and_each_is_quiet_by_itself(tmp_path: Path) -> None:
    busy, calm = tmp_path / "busy", tmp_path / "calm"
    for folder in (busy, calm):
        folder.mkdir()
    (busy / "packetclip_packet.log").write_bytes(packets(*range(4000)))
    (calm / "packetclip_packet.log").write_bytes(packets(9001))
    clock = StoppedClock()
    blocks = follow([busy, calm], poll_s=0.0, clock=clock, block_bytes=4096)
    first = [next(blocks) for _ in range(40)]
    assert "C9001" in uids([block for block in first if isinstance(block, Lines)])
    assert {block.end.source for block in first if isinstance(block, Lines)} == {str(busy), str(calm)}
    until_idle(blocks)
    for _ in range(5):
        clock.now += 0.4
        append(busy / "packetclip_packet.log", packets(5000))
        last = next_idle(blocks)
    assert last.quiet == (str(calm),)


def next_idle(blocks: Blocks) -> Idle:
    return next(block for block in blocks if isinstance(block, Idle))
