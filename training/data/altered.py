"""Records as worse sensors have them: cut, lost, out of order, of one side, unreadable, or with downloads between the hosts.

A capture's records are altered between Zeek and `normalize`, as its packets might have been on their way to Zeek, so that all
later stages see what they would see of such a sensor. What is random comes from a seed.
"""

import random
import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from ipaddress import IPv4Address
from operator import attrgetter

from msgspec.structs import replace

from packetclip_sensor.pairs.labels import Interval, Truth
from packetclip_sensor.records import Batch, Flow, Packet
from packetclip_sensor.windows import headers

LATE_S = 0.005
LOST = 0.1
ETHERNET_BYTES = 14
BATCH = 10_000
FIRST_PACKETS = 100
"""Packets of a connection that Zeek's script logs."""
DOWNLOAD = "download"
"""Uids of downloads begin so."""


def seen(arrivals: Iterable[tuple[Packet, bool]]) -> list[Packet]:
    """What Zeek logs of packets in the order in which they arrive, each with whether it does: numbered anew, and whoever is seen
    first is the originator."""
    packets = [*arrivals]
    numbers, lost, first = defaultdict[str, list[int]](list), Counter[str](), dict[str, bool]()
    for p, _ in packets:
        numbers[p.uid].append(p.n)
    left = {uid: iter(sorted(own)) for uid, own in numbers.items()}
    out = []
    for p, arrives in packets:
        n = next(left[p.uid]) - lost[p.uid]
        if not arrives:
            lost[p.uid] += 1
            continue
        if first.setdefault(p.uid, p.is_orig):
            out.append(p if p.n == n else replace(p, n=n))
        else:
            sides = {"orig_h": p.resp_h, "orig_p": p.resp_p, "resp_h": p.orig_h, "resp_p": p.orig_p}
            out.append(replace(p, n=n, is_orig=not p.is_orig, **sides))
    return out


def disordered(packets: Sequence[Packet], rng: random.Random) -> list[Packet]:
    """Each up to LATE_S later than its time, which stays: queues of a network card that take turns."""
    return seen((p, True) for p in sorted(packets, key=lambda p: p.ts + rng.uniform(0, LATE_S)))


def jittered(packets: Sequence[Packet], rng: random.Random) -> list[Packet]:
    """Times up to LATE_S late, in the order of these times."""
    late = [replace(p, ts=p.ts + rng.uniform(0, LATE_S)) for p in packets]
    return seen((p, True) for p in sorted(late, key=attrgetter("ts")))


def lossy(packets: Sequence[Packet], rng: random.Random) -> list[Packet]:
    """Without a share LOST of the packets, here and there."""
    return seen((p, rng.random() >= LOST) for p in packets)


def one_side(packets: Sequence[Packet], rng: random.Random) -> list[Packet]:
    """What originators send alone, or what responders do, as behind a tap of one direction."""
    of_orig = rng.random() < 0.5
    return seen((p, p.is_orig == of_orig) for p in packets)


def snapped(length: int) -> Callable[[Sequence[Packet], random.Random], list[Packet]]:
    """No more than `length` bytes of each frame (tcpdump -s)."""
    most = length - ETHERNET_BYTES
    return lambda packets, _: [replace(p, data=p.data[:most]) for p in packets]


def unreadable(packets: Sequence[Packet], rng: random.Random) -> list[Packet]:
    """Random bytes in place of what stands behind TCP's and UDP's headers: what encryption leaves to see."""
    out = []
    for p, head in zip(packets, headers.read([p.data for p in packets], [p.size_bytes for p in packets]), strict=True):
        start = head.l4 + max(head.l4_bytes, 8)
        if head.proto in (headers.TCP, headers.UDP) and head.has_l4 and start < len(p.data):
            out.append(replace(p, data=p.data[:start] + rng.randbytes(len(p.data) - start)))
        else:
            out.append(p)
    return out


def downloads(packets: Sequence[Packet], rng: random.Random) -> list[Packet]:
    """Ordinary downloads over TLS between the two IPv4 hosts that have most packets, one to ten beginning in a second."""
    pairs = Counter((p.orig_h, p.resp_h) for p in packets if p.proto in ("tcp", "udp") and ":" not in p.orig_h)
    if not pairs:
        return [*packets]
    (client, server), _ = pairs.most_common(1)[0]
    own = [p.ts for p in packets if (p.orig_h, p.resp_h) == (client, server)]
    at, pause, made = min(own), 1 / rng.uniform(1, 10), list[Packet]()
    while at < max(own) and len(made) < len(packets) // 2:
        made += _download(at, f"{DOWNLOAD}{len(made)}", client, server, rng)
        at += rng.expovariate(1 / pause)
    return [*merge(packets, sorted(made, key=attrgetter("ts")), key=attrgetter("ts"))]


def _download(at: float, uid: str, client: str, server: str, rng: random.Random) -> Iterator[Packet]:
    """The first packets of one: handshake, request, and full segments of which every other one is acknowledged."""
    port, rate = rng.randint(32768, 60999), rng.uniform(100, 2000)
    answer = [(False, 0x10, 1448), (False, 0x10, 1448), (True, 0x10, 0)]
    packets = [(True, 0x02, 0), (False, 0x12, 0), (True, 0x10, 0), (True, 0x18, rng.randint(200, 600)), *answer * 40]
    sent, ttl = [rng.getrandbits(32), rng.getrandbits(32)], (64, rng.choice((57, 64, 128)))
    for n, (by_client, flags, payload) in enumerate(packets[: rng.randint(30, FIRST_PACKETS)], 1):
        ends = (port, 443) if by_client else (443, port)
        hosts = (client, server) if by_client else (server, client)
        size, side = 52 + payload, 0 if by_client else 1
        ip = struct.pack("!BBHHHBBH", 0x45, 0, size, rng.getrandbits(16), 0x4000, ttl[side], headers.TCP, 0)
        ip += b"".join(IPv4Address(host).packed for host in hosts)
        tcp = struct.pack("!HHIIBBHHH", *ends, sent[side], sent[1 - side], 0x80, flags, 502, 0, 0)
        options = b"\x01\x01\x08\x0a" + rng.randbytes(8)
        sent[side] = (sent[side] + payload + (flags & 2) // 2) % (1 << 32)
        data = (ip + tcp + options + rng.randbytes(payload))[:128]
        yield Packet(at, uid, client, port, server, 443, "tcp", by_client, n, size, data)
        at += rng.expovariate(rate)


WAYS: dict[str, Callable[[Sequence[Packet], random.Random], list[Packet]]] = {
    "out of order": disordered,
    "jitter": jittered,
    "loss": lossy,
    "one side": one_side,
    "snap length 68": snapped(68),
    "snap length 96": snapped(96),
    "unreadable": unreadable,
    "downloads": downloads,
}


def way_of(capture: str, seed: int = 1) -> str:
    """The way in which a capture is altered for training, drawn by its name."""
    return random.Random(f"{seed} {capture}").choice([*WAYS])


def altered(batches: Iterable[Batch], way: str, capture: str, seed: int = 1) -> Iterator[Batch]:
    """A capture's records, as Zeek logged them, in one of WAYS."""
    packets, flows = list[Packet](), list[Flow]()
    for batch in batches:
        packets += batch.packets
        flows += batch.flows
    made = WAYS[way](packets, random.Random(f"{seed} {capture} {way}"))
    for start in range(0, len(made), BATCH):
        yield Batch(made[start : start + BATCH], [])
    yield Batch([], flows, final=True)


@dataclass(frozen=True)
class Everything:
    """Truth of a capture that has one label."""

    attack: Interval | None

    def of(self, _packet: Packet) -> Interval | None:
        """As Truth's."""
        return self.attack


@dataclass(frozen=True)
class WithDownloads:
    """Truth of altered records: downloads are benign, whoever does them, and the rest is what it was."""

    truth: Truth

    def of(self, packet: Packet) -> Interval | None:
        """As Truth's."""
        return None if packet.uid.startswith(DOWNLOAD) else self.truth.of(packet)
