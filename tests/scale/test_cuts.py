"""Cuts of a long log: the windows of each are those that one pass over all of it gives, whatever stands in the lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import long_logs
import pytest
from msgspec.structs import replace

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.normalize.normalizer import normalized
from packetclip_sensor.records import Packet
from packetclip_sensor.scale.cuts import FOREVER, Cut, cuts_of, packets_of
from packetclip_sensor.sources import tail, zeek
from packetclip_sensor.sources.discovery import Unit
from packetclip_sensor.windows.cutter import windows
from packetclip_sensor.windows.windows import TRAINED, Windows

LENGTH_S = 40


def unit(folder: Path) -> Unit:
    return Unit("long", "logs", (folder,))


def rows(found: Windows) -> list[tuple[Any, ...]]:
    """Each window with all that it is made of."""
    out = []
    for i, (view, second) in enumerate(zip(found.view.tolist(), found.second.tolist(), strict=True)):
        own = found.rows[i][found.rows[i] >= 0]
        past = [tuple((p.uid, p.n) for p in found.table.packets(part[part >= 0])) for part in found.past[i]]
        out.append((second, view, tuple(found.table.packets(own)), past))
    return out


def cut_windows(read: Any, counters: Counters, rejects: Rejects, **options: Any) -> list[tuple[Any, ...]]:
    return [row for found in windows(normalized(read, counters, rejects), TRAINED, counters, **options) for row in rows(found)]


def of(cut: Cut, rejects: Rejects) -> list[tuple[Any, ...]]:
    counters = Counters()
    with packets_of(cut, counters, rejects) as read:
        return cut_windows(read, counters, rejects, judged=cut.judged, until=cut.end)


def whole(folder: Path, rejects: Rejects) -> list[tuple[Any, ...]]:
    counters = Counters()
    return cut_windows(zeek.batches(tail.finite([folder], rejects=rejects), rejects, counters), counters, rejects)


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"rotate_s": 97},
        {"pause_s": 400.0, "captures": 8},
        {"alter": long_logs.mirrored},
        {"alter": long_logs.disordered},
        {"alter": long_logs.one_sided},
    ],
    ids=["plain", "rotated", "gaps", "mirrored", "disordered", "one-sided"],
)
def test_windows_of_all_cuts_are_those_of_one_pass(written: dict[str, Any], tmp_path: Path) -> None:
    folder = long_logs.write(tmp_path / "logs", **written)
    cuts = cuts_of(unit(folder), memory_s=TRAINED.seconds, length_s=LENGTH_S)
    assert len(cuts) > 5
    assert [cut.begin for cut in cuts[1:]] == [cut.end for cut in cuts[:-1]]
    assert (cuts[0].begin, cuts[-1].end) == (0, FOREVER)
    assert sum(bool(cut.since) for cut in cuts) > len(cuts) / 2, "most cuts read from where they begin"
    rejects = Rejects(None)
    found = [row for cut in cuts for row in of(cut, rejects)]
    assert found == whole(folder, rejects)
    assert len(found) > 500
    assert rejects.count == 0


def test_a_unit_whose_clock_was_set_back_is_one_cut(tmp_path: Path) -> None:
    """Its seconds come twice; that lines are some seconds late is no such thing."""

    def back_by(seconds: float) -> Callable[[list[Packet]], list[Packet]]:
        middle = 30_000
        return lambda packets: [*packets[:middle], *(replace(p, ts=p.ts - seconds) for p in packets[middle:])]

    turned = long_logs.write(tmp_path / "turned", alter=back_by(150.0))
    (one,) = cuts_of(unit(turned), memory_s=TRAINED.seconds, length_s=LENGTH_S)
    assert (one.turned_back, one.begin, one.end) == (True, 0, FOREVER)
    rejects = Rejects(None)
    assert of(one, rejects) == whole(turned, rejects)
    late = long_logs.write(tmp_path / "late", alter=back_by(20.0))
    assert len(cuts_of(unit(late), memory_s=TRAINED.seconds, length_s=LENGTH_S)) > 5
