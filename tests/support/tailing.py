"""Log lines and ways to read them, for the tests of tailing; its fixtures stand in conftest.py."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from packetclip_sensor.records import Idle, Lines, Position
from packetclip_sensor.sources import plaintext
from packetclip_sensor.sources.tail import follow

Blocks = Iterator[Lines | Idle]


def packet(i: int, ts: float | None = None) -> bytes:
    when = 1000.0 + i if ts is None else ts
    return (
        f'{{"ts":{when},"uid":"C{i}","id.orig_h":"192.0.2.1","id.orig_p":40000,"id.resp_h":"192.0.2.2","id.resp_p":80,'
        f'"proto":"tcp","is_orig":true,"n":1,"len":60,"data":"RQAAPA=="}}\n'
    ).encode()


def flow(i: int, ts: float, duration: float) -> bytes:
    return f'{{"ts":{ts},"uid":"F{i}","proto":"tcp","duration":{duration},"final":true}}\n'.encode()


def packets(*numbers: int) -> bytes:
    return b"".join(packet(i) for i in numbers)


def uids(blocks: list[Lines]) -> list[str]:
    return [msgspec.json.decode(line)["uid"] for block in blocks for line in block.data.splitlines()]


def until_idle(blocks: Blocks) -> list[Lines]:
    got = []
    for block in blocks:
        if isinstance(block, Idle):
            return got
        got.append(block)
    raise AssertionError("ended without Idle")


def read(blocks: Blocks, count: int, wait_s: float = 60.0) -> list[Lines]:
    """Blocks until `count` lines have come, and whatever comes in the next few polls, so that one line too many is seen."""
    got: list[Lines] = []
    give_up = time.monotonic() + wait_s
    while sum(block.data.count(b"\n") for block in got) < count and time.monotonic() < give_up:
        got += until_idle(blocks)
    for _ in range(3):
        got += until_idle(blocks)
    return got


def last_positions(blocks: list[Lines]) -> list[Position]:
    """What `batches` remembers: a block's end takes the place of its start."""
    positions: dict[Position, None] = {}
    for block in blocks:
        positions.pop(block.start, None)
        positions[block.end] = None
    return list(positions)


def everything(blocks: Blocks) -> list[Lines]:
    return [block for block in blocks if isinstance(block, Lines)]


def packers() -> dict[str, Callable[[bytes], bytes]]:
    """What packs a text, by the suffix of its files; zstd where Python has it (`backports.zstd` before 3.14)."""
    found = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}
    return found | ({".zst": plaintext.zstd.compress} if plaintext.zstd else {})


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


LINE = packet(7)


def logs(folder: Path, *names: str) -> list[Path]:
    return [folder / f"packetclip_packet.{name}.log" for name in names]


def again(folder: Path, positions: list[Position], count: int, **options: object) -> list[str]:
    """What a restarted tailer reads, until `count` lines have come and a little longer."""
    return uids(read(follow([folder], positions, poll_s=0.02, **options), count))  # type: ignore[arg-type]


def first_read(folder: Path) -> list[Position]:
    return last_positions(until_idle(follow([folder], poll_s=0.02)))


def no_right(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user who may not read the file; chmod does nothing for root, who runs tests in containers."""
    really = os.open

    def opened(name: str | Path, flags: int, *args: int) -> int:
        if Path(name) == path:
            raise PermissionError(13, "Permission denied", str(name))
        return really(name, flags, *args)

    monkeypatch.setattr("packetclip_sensor.sources.logfile.os.open", opened)
