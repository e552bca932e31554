"""Columns that grow and shrink, and records that are packed in them and had again."""

from __future__ import annotations

import numpy as np

from packetclip_sensor.records import Packet
from packetclip_sensor.windows.packet_table import PacketColumns, PacketTable


def packets(*numbers: int) -> list[Packet]:
    """Packets of all that a record can say: captured bytes shorter and longer than a row, IPv6, and what was left out before."""
    return [
        Packet(100.5 + i, f"C{i}", f"2001:db8::{i}", i, "192.0.2.1", 65535, "udp", i % 2 == 0, 1 << 61, 1500, bytes([69] * i), i)
        for i in numbers
    ]


def test_a_packed_record_is_had_again_whole() -> None:
    held, given = PacketTable(), packets(0, 1, 20, 128, 129, 300)
    held.append(PacketColumns.of(given))
    held.pack(np.array([1, 2, 3, 4, 5]))
    assert list(held.table.packets(np.array([5, 0, 1, 2, 3, 4]))) == [given[i] for i in (5, 0, 1, 2, 3, 4)]
    assert all(isinstance(packed, bytes) for packed in held.table.record[1:])


def test_rows_come_behind_the_others_and_go_while_tables_given_out_stay() -> None:
    held = PacketTable()
    held.append(PacketColumns.of(packets(1, 2, 3)))
    before = held.table
    held.append(PacketColumns.of(packets(4)))
    held.pack(np.arange(3))
    held.keep(np.array([0, 3]))
    after = held.table
    held.append(PacketColumns.of(packets(5, 6, 7, 8, 9)))
    assert [p.orig_p for p in before.packets(np.arange(3))] == [1, 2, 3]
    assert [p.orig_p for p in after.packets(np.arange(2))] == [1, 4]
    assert [p.orig_p for p in held.table.packets(np.arange(7))] == [1, 4, 5, 6, 7, 8, 9]
    assert held.table.captured.tolist() == [1, 4, 5, 6, 7, 8, 9]


def test_rows_that_come_one_by_one_are_seldom_moved() -> None:
    held, moves, room = PacketTable(), 0, None
    for i in range(200):
        held.append(PacketColumns.of(packets(i)))
        moves += held.table.ts.base is not room
        room = held.table.ts.base
    assert held.table.ts.tolist() == [100.5 + i for i in range(200)]
    assert moves < 20
