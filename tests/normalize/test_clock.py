"""One packet with a wrong time costs the others nothing; a real gap in time is none; a clock that was set back begins anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from factories import packet
from structlog.testing import capture_logs

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.normalize.normalizer import Normalizer
from packetclip_sensor.records import Batch, Packet, Position

NOW = 1_760_000_000.0
YEAR_2106 = 4_294_967_295.0
END = Batch([], [], idle=True, final=True, quiet=True)
QUIET = Batch([], [], idle=True, quiet=True)


def at(*times: float) -> list[Packet]:
    """Packets `times` seconds from NOW, numbered as they stand."""
    return [packet(ts=NOW + ts, uid=f"C{i}") for i, ts in enumerate(times)]


def seconds(start: float, count: int, step: float = 0.5) -> list[float]:
    return [start + i * step for i in range(count)]


def passed(packets: list[Packet], size: int, end: Batch = END) -> tuple[list[Packet], Counters, Rejects]:
    counters, rejects = Counters(), Rejects(None)
    normalize = Normalizer(counters, rejects, wall=lambda: NOW + 1e7)
    batches = [Batch(packets[i : i + size], []) for i in range(0, len(packets), size)]
    return [p for batch in [*batches, end] for out in normalize(batch) for p in out.packets], counters, rejects


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("wrong", [61.0, 600.0, 86400.0, -61.0, -3600.0, -NOW + 1, YEAR_2106 - NOW])
@pytest.mark.parametrize("place", [1, 20, 39])
def test_a_packet_with_a_wrong_time_is_put_aside_and_counted(place: int, wrong: float, size: int) -> None:
    right = seconds(0.0, 40)
    packets = at(*right[:place], right[place] + wrong, *right[place:])
    found, counters, rejects = passed(packets, size)
    assert [p for p in packets if p.ts != packets[place].ts] == found
    assert (counters.wrong_times, rejects.count) == (1, 1)


def test_a_wrong_time_before_all_others_is_put_aside() -> None:
    """As the first packet of a capture has it, when its card was just started."""
    packets = at(YEAR_2106 - NOW, *seconds(0.0, 40))
    found, counters, _ = passed(packets, 5)
    assert (found, counters.wrong_times) == (packets[1:], 1)


def test_several_wrong_times_of_different_kinds_are_put_aside() -> None:
    packets = at(0.0, *seconds(0.0, 8), 600.0, -NOW + 1, YEAR_2106 - NOW, *seconds(4.0, 20))
    found, counters, _ = passed(packets, 4)
    assert found == [*packets[:9], *packets[12:]]
    assert counters.wrong_times == 3


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_gap_in_time_is_no_fault(size: int) -> None:
    """A quiet night, and a link on which a packet comes every two minutes."""
    packets = at(*seconds(0.0, 10), *seconds(30_000.0, 30), *seconds(40_000.0, 30, 120.0), *seconds(90_000.0, 3))
    found, counters, _ = passed(packets, size)
    assert (found, counters.wrong_times) == (packets, 0)


def test_a_wrong_time_within_a_gap_costs_neither_side_a_packet() -> None:
    packets = at(*seconds(0.0, 10), 30_000.0, -NOW + 1, *seconds(30_000.5, 30))
    found, counters, _ = passed(packets, 4)
    assert found == [*packets[:11], *packets[12:]]
    assert counters.wrong_times == 1


def test_what_follows_a_gap_goes_out_when_the_log_is_quiet_but_nothing_from_the_future_does() -> None:
    for by, expected in ((30_000.0, 12), (2e7, 10)):
        packets = at(*seconds(0.0, 10), by, by + 0.1)
        assert len(passed(packets, 4, QUIET)[0]) == expected


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("step", [0.1, 40.0, 100.0])
def test_a_clock_set_back_ends_the_input_and_begins_a_new_time(size: int, step: float) -> None:
    before, after = at(*seconds(0.0, 30)), at(*seconds(-36_000.0, 80, step))
    normalize = Normalizer(Counters(), Rejects(None))
    batches = [Batch([*before, *after][i : i + size], []) for i in range(0, 110, size)]
    with capture_logs() as logs:
        found = [out for batch in [*batches, END] for out in normalize(batch)]
    assert [entry["event"] for entry in logs] == ["clock_turned_back"]
    ends = [i for i, out in enumerate(found) if out.final]
    assert len(ends) == 2
    assert [p for out in found[: ends[0] + 1] for p in out.packets] == before
    assert [p for out in found[ends[0] + 1 :] for p in out.packets] == after


def test_each_source_has_a_clock_of_its_own() -> None:
    """Batches of a Zeek an hour ahead between those of another one: nothing is put aside, and nothing ends."""
    counters = Counters()
    normalize = Normalizer(counters, Rejects(None))
    found: dict[str, list[Packet]] = {"one": [], "other": []}
    sent: dict[str, list[Packet]] = {"one": [], "other": []}
    for i in range(40):
        for source, by in (("one", 0.0), ("other", 3600.0)):
            packets = at(by + i, by + i + 0.5)
            sent[source] += packets
            for out in normalize(Batch(packets, [], source=source)):
                assert (out.source, out.final) == (source, False)
                found[source] += out.packets
    for source in found:
        found[source] += [p for out in normalize(replace(END, source=source)) for p in out.packets]
    assert found == sent
    assert counters.wrong_times == 0


def test_the_rejects_file_has_the_packet_its_file_and_from_where_it_stands(tmp_path: Path) -> None:
    def place(offset: int) -> Position:
        return Position("/logs/packetclip_packet.log", 1, 2, 3, "a", offset, "/logs")

    right = at(*seconds(0.0, 40))
    batches = [
        Batch(right[:20], [], (place(1),), (place(2000),), source="/logs"),
        Batch([*right[20:30], packet(ts=NOW + 600, uid="Wrong")], [], (place(2000),), (place(3100),), source="/logs"),
        Batch(right[30:], [], (place(3100),), (place(4000),), source="/logs"),
    ]
    with Rejects(tmp_path / "rejects.jsonl") as rejects:
        normalize = Normalizer(Counters(), rejects)
        out = [each for batch in batches for each in normalize(batch)]
    (row,) = [msgspec.json.decode(line) for line in (tmp_path / "rejects.jsonl").read_bytes().splitlines()]
    assert (row["path"], row["offset"]) == ("/logs/packetclip_packet.log", 2000)
    assert "586 s after the lines before it" in row["reason"]
    assert '"uid":"Wrong"' in row["line"]
    # While it is held back a restart would read it again.
    assert [each.end for each in out] == [(place(1),), (place(2000),), (place(3100),)]
    assert [each.start for each in out] == [(place(1),), (place(1),), (place(2000),)]
