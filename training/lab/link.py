"""What lies between a host and the switch: delay, jitter, loss, reordering and a rate, by a small process on a pair of veths.

netem does the same in the kernel and is used where the kernel has it (`network.py` asks). This process runs in a namespace
between the host's and the switch's: it reads frames from one veth by AF_PACKET, keeps each until it is due, and sends it on
the other. Started as a file, so it imports nothing but the standard library.

    python3 link.py '{"kind": "wan", "delay_ms": 20, "jitter_ms": 2, "loss": 0.001, "reorder": 0, "rate_mbit": 50}' a b
"""

import contextlib
import heapq
import json
import os
import random
import selectors
import socket
import sys
import time
from dataclasses import dataclass

LINKS = {
    "lan": ((0.1, 1.0), (0.0, 0.1), (0.0, 0.0), (0.0, 0.0), (100, 1000)),
    "wifi": ((0.5, 3.0), (2.0, 15.0), (0.003, 0.006), (0.0, 0.002), (20, 200)),
    "wan": ((10.0, 60.0), (0.2, 4.0), (0.001, 0.01), (0.0, 0.005), (20, 500)),
    "mobile": ((20.0, 100.0), (5.0, 30.0), (0.01, 0.03), (0.0, 0.01), (2, 40)),
}
"""Kind to the bounds of delay (ms, each way), jitter (ms), loss, reordering (share of frames) and rate (Mbit/s)."""


@dataclass(frozen=True)
class Link:
    """A line, the same in both directions. `delay_ms` is one way, `jitter_ms` the most that is added to it."""

    kind: str
    delay_ms: float
    jitter_ms: float
    loss: float
    reorder: float
    rate_mbit: int


def draw(rng: random.Random, kind: str) -> Link:
    """A link of a kind of LINKS; KeyError where there is no such kind."""
    delay, jitter, loss, reorder, rate = LINKS[kind]
    share = [round(rng.uniform(*bounds), 5) for bounds in (loss, reorder)]
    return Link(kind, round(rng.uniform(*delay), 2), round(rng.uniform(*jitter), 2), *share, rng.randint(*rate))


class Line:
    """One direction: says when each frame leaves. Frames keep their order but for the share that `reorder` holds back.

    Jitter is drawn anew about every 20 ms and not for each frame: with order kept, a draw a frame would soon hold a fast
    stream at the worst delay of all.
    """

    RENEW_S = 0.02
    QUEUE_S = 0.4
    """Longest wait for the line; a frame that would wait longer is dropped, as by a full buffer."""

    def __init__(self, link: Link, rng: random.Random) -> None:
        self.link, self.rng = link, rng
        self.free_at = self.last_due = self.renew_at = self.jitter_s = 0.0

    def due(self, now: float, size: int) -> float | None:
        """Seconds (of the clock of `now`) at which a frame of `size` bytes that came at `now` leaves; None: it is lost."""
        link, rng = self.link, self.rng
        if rng.random() < link.loss or self.free_at - now > self.QUEUE_S:
            return None
        if now >= self.renew_at:
            self.jitter_s = rng.uniform(0, link.jitter_ms) / 1000
            self.renew_at = now + rng.expovariate(1 / self.RENEW_S)
        self.free_at = max(now, self.free_at) + size * 8 / (link.rate_mbit * 1e6)
        due = max(self.last_due, self.free_at + link.delay_ms / 1000 + self.jitter_s)
        if rng.random() < link.reorder:
            # Held back, so that the frames behind it pass it.
            return due + rng.uniform(0.001, 0.003 + link.jitter_ms / 1000)
        self.last_due = due
        return due


def _open(device: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    # SOL_PACKET 263, PACKET_IGNORE_OUTGOING 23 (linux/if_packet.h): else each frame that is sent here would be read here again.
    made.setsockopt(263, 23, 1)
    # SO_RCVBUFFORCE and SO_SNDBUFFORCE (asm-generic/socket.h): a burst waits here, as it would in a router's buffer.
    for option in (33, 32):
        made.setsockopt(socket.SOL_SOCKET, option, 8 << 20)
    made.bind((device, 3))
    # PACKET_ADD_MEMBERSHIP 1 with PACKET_MR_PROMISC 1: frames to the host's address, which is not the veth's own.
    made.setsockopt(263, 1, socket.if_nametoindex(device).to_bytes(4, sys.byteorder) + (1).to_bytes(2, sys.byteorder) + bytes(10))
    made.setblocking(False)
    return made


def pump(link: Link, first: str, second: str, seed: object = 0) -> None:
    """Pass frames between two devices until killed or until a device goes, which ends a capture."""
    # Before everything else that wants this processor: a frame that waits for it is a frame with a longer delay.
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)
    a, b = _open(first), _open(second)
    lines = {a: (b, Line(link, random.Random(f"{seed}/there"))), b: (a, Line(link, random.Random(f"{seed}/back")))}
    held: list[tuple[float, int, socket.socket, bytes]] = []
    number, clock = 0, time.monotonic
    with selectors.DefaultSelector() as ready:
        for end in (a, b):
            ready.register(end, selectors.EVENT_READ)
        while True:
            # epoll rounds its wait up to whole milliseconds, so the last one is spent asking again and again.
            wait = held[0][0] - clock() if held else None
            for key, _ in ready.select(wait if wait is None or wait > 0.0012 else 0):
                end = key.fileobj
                assert isinstance(end, socket.socket)
                other, line = lines[end]
                with contextlib.suppress(BlockingIOError):
                    for _ in range(64):
                        frame = end.recv(65536)
                        if (due := line.due(clock(), len(frame))) is not None:
                            number += 1
                            heapq.heappush(held, (due, number, other, frame))
            now = clock()
            while held and held[0][0] <= now:
                _, _, other, frame = heapq.heappop(held)
                # A full device queue loses the frame, as a switch would.
                with contextlib.suppress(OSError):
                    other.send(frame)


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        pump(Link(**json.loads(sys.argv[1])), sys.argv[2], sys.argv[3], *sys.argv[4:])
