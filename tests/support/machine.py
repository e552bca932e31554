"""What tests ask of the machine that runs them: a free port, room on its disks, a program that may be missing, time."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

GIB = 1 << 30


def unavailable(reason: str) -> None:
    """Skip, or fail where nobody would notice a skip."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason} (CI is set, so this is a failure and not a skip)")
    pytest.skip(reason)


def until(true: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait until something holds; a busy machine takes its time."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.05)


def disk(monkeypatch: pytest.MonkeyPatch, free: int, *, inodes: int = 1000) -> None:
    """Every disk has 200 GiB, `free` bytes of it free."""
    blocks, left = 200 * GIB // 4096, free // 4096
    made = SimpleNamespace(f_frsize=4096, f_blocks=blocks, f_bfree=left, f_bavail=left, f_files=1000, f_favail=inodes)
    monkeypatch.setattr(os, "statvfs", lambda path: made)


def free_port() -> int:
    """A port that nobody listens on and that the system gives to no connection between now and its use.

    Systems hand out ports from 32768 (Linux) or 49152 (RFC 6335) on; these lie below, and each call tries another.
    """
    for _ in range(1000):
        port = random.SystemRandom().randrange(20_000, 32_768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free between 20000 and 32767")


@contextlib.contextmanager
def no_room(file_bytes: int) -> Iterator[Callable[[], None]]:
    """No file may grow beyond this size, which stands for a full disk; yields what makes room again."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, limits[1]))
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
