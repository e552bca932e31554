"""Counting without keeping: exact while few, close when many, the same in every process."""

from __future__ import annotations

import msgspec
import pytest

from packetclip_sensor.common.hyperloglog import Tally


def counted(n: int, prefix: str = "10.0") -> Tally:
    tally = Tally()
    tally.add(f"{prefix}.{i // 256}.{i % 256}" for i in range(n))
    return tally


@pytest.mark.parametrize("n", [0, 1, 100, 256])
def test_few_are_counted_exactly(n: int) -> None:
    assert counted(n).count == n


@pytest.mark.parametrize("n", [257, 1000, 5000, 10_000, 60_000])
@pytest.mark.parametrize("prefix", ["10.0", "fd00::7", "x"])
def test_many_are_counted_to_within_seven_percent(n: int, prefix: str) -> None:
    assert counted(n, prefix).count == pytest.approx(n, rel=0.07)  # three standard errors


def test_the_same_names_again_change_nothing() -> None:
    twice = counted(3000)
    before = msgspec.json.encode(twice)
    twice.add(f"10.0.{i // 256}.{i % 256}" for i in range(3000))
    assert msgspec.json.encode(twice) == before


def test_an_estimate_has_three_digits_and_is_the_same_in_every_process() -> None:
    assert counted(10_000).count == TEN_THOUSAND


def test_it_goes_through_a_checkpoint_in_three_kilobytes() -> None:
    tally = counted(10_000)
    raw = msgspec.json.encode(tally)
    assert len(raw) < 3000
    back = msgspec.json.decode(raw, type=Tally)
    assert back == tally
    back.add(["another"])
    few = msgspec.json.decode(msgspec.json.encode(counted(50)), type=Tally)
    few.add(["another"])
    assert few.count == 51


def test_a_copy_goes_on_by_itself() -> None:
    for n in (10, 1000):
        tally = counted(n)
        copy, before = tally.copy(), tally.count
        copy.add(f"y{i}" for i in range(5000))
        assert tally.count == before < copy.count


TEN_THOUSAND = 9920
