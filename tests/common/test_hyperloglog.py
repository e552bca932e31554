"""Counting without keeping: exact while few, close when many, the same in every process."""

from __future__ import annotations

import zlib
from hashlib import blake2b

import msgspec
import pytest

from packetclip_sensor.common import hyperloglog
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
    tally.key = "0123456789abcdef0123"
    raw = msgspec.json.encode(tally)
    assert len(raw) < 3000
    back = msgspec.json.decode(raw, type=Tally)
    assert back == tally
    back.add(["another"])
    few = msgspec.json.decode(msgspec.json.encode(counted(50)), type=Tally)
    few.add(["another"])
    assert few.count == 51


def unkeyed(name: str) -> int:
    """The hash of before there were keys, which anybody can compute."""
    mixed = zlib.crc32(name.encode()) * 0x9E3779B97F4A7C15 & (1 << 64) - 1
    mixed = (mixed ^ (mixed >> 32)) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
    return mixed ^ (mixed >> 29)


@pytest.mark.parametrize("key", ["", "0123456789abcdef0123", "fedcba98765432100123"])
@pytest.mark.parametrize("inflates", [True, False])
def test_sources_that_were_chosen_by_their_hash_count_as_any_others(key: str, inflates: bool) -> None:
    """Without a key a thousand forged sources counted as a million, or as one."""
    names = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(100_000)]
    rest = (1 << 53) - 1
    names.sort(key=lambda name: unkeyed(name) & rest if inflates else unkeyed(name))
    tally = Tally(key=key)
    tally.add(names[:1000])
    assert tally.count == pytest.approx(1000, rel=0.07)


def test_names_fall_otherwise_under_another_key() -> None:
    keyed = blake2b(digest_size=8, key=b"a")
    chosen = [name for name in (f"h{n}" for n in range(2_000_000)) if hyperloglog._hash(keyed, name) >> 56 == 0]
    same, other = Tally(key="a"), Tally(key="b")
    same.add(chosen)
    other.add(chosen)
    assert same.count == hyperloglog.EXACT + 1 < 0.4 * len(chosen)  # they share a few registers, so most are not seen
    assert other.count == pytest.approx(len(chosen), rel=0.1)


def test_a_copy_goes_on_by_itself() -> None:
    for n in (10, 1000):
        tally = counted(n)
        copy, before = tally.copy(), tally.count
        copy.add(f"y{i}" for i in range(5000))
        assert tally.count == before < copy.count


TEN_THOUSAND = 9660
