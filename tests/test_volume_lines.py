"""A flood that keeps its socket: what Zeek and Suricata log of it beyond its first packets, and what the sensor makes of that."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from factories import packet
from suricata_run import suricata_of
from test_zeek_package import PACKAGE, ZEEK, make_pcaps, needs_zeek

from benchmarks.suricata_records import records
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.normalize.copies import Copies
from packetclip_sensor.records import Batch, Packet
from packetclip_sensor.sources.suricata import capture
from packetclip_sensor.windows.cutter import windows
from packetclip_sensor.windows.packet_table import so_far
from packetclip_sensor.windows.windows import Window, Windows

COUNT = 10_000
BEYOND = [q * 2**k for k in range(4, 12) for q in (4, 5, 6, 7) if 100 < q * 2**k <= COUNT]


def payload(i: int) -> bytes:
    """Of packet i: 200 to 299 bytes, so that no frame is padded."""
    return b"%010d" % i + b"x" * (190 + i % 100)


@pytest.fixture(scope="session")
def flood(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pcap = tmp_path_factory.mktemp("flood") / "flood.pcap"
    ends = make_pcaps.V4A, make_pcaps.V4B
    frames = [make_pcaps.ethernet(make_pcaps.udp(*ends, (4000, 9), payload(i))) for i in range(1, COUNT + 1)]
    make_pcaps.write(pcap, make_pcaps.ETHERNET, make_pcaps.spaced(frames, 0.0002))
    return pcap


@pytest.mark.parametrize("source", [*(pytest.param(name, marks=needs_zeek) for name in ("zeek", "new_packet")), "7.0", "8.0"])
def test_a_flood_of_one_socket_leaves_lines_at_geometric_counts(source: str, flood: Path, tmp_path: Path) -> None:
    if source[0].isdigit():
        capture.run(suricata_of(int(source[0])), flood, tmp_path)
    else:
        limit = ["PacketCLIP::max_packets=101"] if source == "new_packet" else []
        command = [str(ZEEK), "-C", "-D", "-r", str(flood), str(PACKAGE), *limit]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    first = 101 if source == "new_packet" else 100
    found = records(tmp_path / "packetclip_packet.log")
    assert [p.n for p in found] == [*range(1, first + 1), *BEYOND]
    assert {p.total_bytes for p in found[:first]} == {0}
    assert [p.total_bytes for p in found[first:]] == [sum(28 + len(payload(i)) for i in range(1, n + 1)) for n in BEYOND]
    assert all(p.data[28:38] == b"%010d" % p.n and p.size_bytes == 28 + len(payload(p.n)) and p.is_orig for p in found)


def long_flow() -> list[Packet]:
    """100 packets in a second, then lines up to the 1,024th within three seconds, and another flow's packets all the while."""
    own = [
        packet(ts=1000 + n / 300, uid="C1", orig_p=1, n=n, total_bytes=0 if n <= 100 else 60 * n)
        for n in (*range(1, 101), *BEYOND[:14])
    ]
    other = [packet(ts=1000 + n / 3, uid="C2", orig_p=2, n=n) for n in range(1, 13)]
    return sorted(own + other, key=lambda p: p.ts)


def cut(packets: list[Packet], window: Window, size: int) -> list[Windows]:
    batches = [Batch(packets[i : i + size], []) for i in range(0, len(packets), size)]
    return list(windows([*batches, Batch([], [], final=True)], window, Counters()))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_lines_beyond_the_first_packets_count_in_volume_and_not_in_windows(size: int) -> None:
    found = [
        (
            int(w.second[i]),
            w.table.n[w.rows[i][w.rows[i] >= 0]].tolist(),
            *(int(x.sum()) for x in so_far(w.table, w.volume, past[past >= 0], int(w.second[i]))),
        )
        for w in cut(long_flow(), Window(), size)
        for i, past in enumerate(w.past[:, 1])
        if w.view[i] == 0
    ]
    plain = cut([p for p in long_flow() if not p.total_bytes], Window(), size)
    assert [n for _, n, _, _ in found] == [
        w.table.n[r[r >= 0]].tolist() for w in plain for r, v in zip(w.rows, w.view, strict=True) if v == 0
    ]
    assert [(s, packets, total) for s, _, packets, total in found] == [
        (1000, 256 + 2, 60 * 256),
        (1001, 512 + 5, 60 * 512),
        (1002, 896 + 8, 60 * 896),
        (1003, 1024 + 11, 60 * 1024),
        (1004, 1024 + 12, 60 * 1024),
    ]


def test_a_model_that_was_trained_with_them_has_them_in_its_windows() -> None:
    ends = [
        int(w.table.n[w.rows[i][-1]])
        for w in cut(long_flow(), Window(volume=True), 50)
        for i in range(len(w.rows))
        if w.view[i] == 0
    ]
    assert ends == [256, 512, 896, 11, 12]


def test_volume_of_a_connection_that_is_mirrored_twice_counts_each_packet_once() -> None:
    """Identical bytes beyond the first packets are no copies of each other, however soon they follow."""
    twice = [packet(ts=1000 + n // 2 / 100, n=n, data=bytes.fromhex("4500003c") + bytes([n // 2]) * 36) for n in range(2, 202)]
    beyond = [packet(ts=1003 + n / 1e6, n=n, data=b"\x45" + bytes(39), total_bytes=60 * n) for n in (224, 256)]
    out = Copies(Counters())([*twice, *beyond])
    assert len(out) == 102
    assert [p.n for p in out[-2:]] == [pytest.approx(n, abs=1) for n in (112, 128)]
    assert [p.total_bytes / p.n for p in out[-2:]] == pytest.approx([60, 60], rel=0.01)
    assert not np.any([p.total_bytes for p in out[:-2]])
