"""How many distinct things were seen, in bounded memory whatever their number: exact while they are few, then HyperLogLog.

A flood names ten thousand sources and a checkpoint is written every second, so an episode cannot carry them all. Names are hashed
under a key, since who forges sources could else choose such as fall together, or as count for millions. The key is the episode's
id: nobody can know it beforehand (it holds a uid, which Zeek draws at random), and a replay of the same logs, or a restart in the
middle, finds it again and counts the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from hashlib import blake2b

import msgspec

EXACT = 2048
"""Up to so many the count is exact."""
INDEX_BITS = 11
REGISTERS = 1 << INDEX_BITS
"""The standard error is 1.04 / sqrt(REGISTERS), 2.3 %."""
RANK_BITS = 64 - INDEX_BITS
_REST = (1 << RANK_BITS) - 1


class Tally(msgspec.Struct):
    """A set that is only counted. Goes into the checkpoint with its episode."""

    few: set[int] = msgspec.field(default_factory=set)
    """Hashes, while there are at most EXACT."""
    registers: bytearray = msgspec.field(default_factory=bytearray)
    """Highest rank of each register, one byte each, once there were more; empty before."""
    key: str = ""
    """What the hashes are keyed by; empty only in states of before there were keys."""

    def add(self, names: Iterable[str]) -> None:
        """Take in names; the same ones again change nothing."""
        keyed = blake2b(digest_size=8, key=self.key.encode()[: blake2b.MAX_KEY_SIZE])
        self._take([_hash(keyed, name) for name in names])

    def _take(self, hashes: Iterable[int]) -> None:
        if not self.registers:
            self.few.update(hashes)
            if len(self.few) <= EXACT:
                return
            self.registers = bytearray(REGISTERS)
            hashes = self.few
        registers, self.few = self.registers, set()
        for hashed in hashes:
            index = hashed >> RANK_BITS
            rank = RANK_BITS + 1 - (hashed & _REST).bit_length()
            if rank > registers[index]:  # noqa: PLR1730  (max() would cost as much as the rest of the line)
                registers[index] = rank

    def merge(self, other: Tally) -> None:
        """Take in what another one has counted. Under another key the same name counts again while there are few."""
        if other.registers:
            self.registers = self.registers or bytearray(REGISTERS)
            self.registers = bytearray(map(max, self.registers, other.registers))
        self._take(other.few | self.few if self.registers else other.few)

    @property
    def count(self) -> int:
        """How many; above EXACT an estimate, which is given with three digits."""
        if not self.registers:
            return len(self.few)
        found = _estimate(self.registers)
        digit: int = 10 ** max(0, int(math.log10(found)) - 2)
        return max(EXACT + 1, round(found / digit) * digit)

    def copy(self) -> Tally:
        """One that goes on by itself."""
        return Tally(set(self.few), bytearray(self.registers), self.key)


def _hash(keyed: blake2b, name: str) -> int:
    """64 bits of a name under a key (RFC 7693)."""
    hashed = keyed.copy()
    hashed.update(name.encode("utf-8", "surrogatepass"))
    return int.from_bytes(hashed.digest())


def _estimate(registers: bytearray) -> float:
    """Of how many distinct hashes these are the ranks, without bias for few or many.

    Source: Ertl 2017, arXiv:1702.01284, algorithm 6.
    """
    counts = [registers.count(rank) for rank in range(RANK_BITS + 2)]
    z = REGISTERS * _tau(1 - counts[RANK_BITS + 1] / REGISTERS)
    for k in range(RANK_BITS, 0, -1):
        z = 0.5 * (z + counts[k])
    z += REGISTERS * _sigma(counts[0] / REGISTERS)
    return REGISTERS**2 / (2 * math.log(2) * z)


def _sigma(x: float) -> float:
    if x == 1.0:
        return math.inf
    y, z, before = 1.0, x, -1.0
    while z != before:
        x, before = x * x, z
        z, y = z + x * y, 2 * y
    return z


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    y, z, before = 1.0, 1 - x, -1.0
    while z != before:
        x, before, y = math.sqrt(x), z, y / 2
        z -= (1 - x) ** 2 * y
    return z / 3
