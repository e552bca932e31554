"""Recorded packets of attacks, cut to windows as the sensor does."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
from factories import MISSIONS

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.records import Batch, Packet
from packetclip_sensor.windows.cutter import windows
from packetclip_sensor.windows.windows import Window, Windows

DATA = Path(__file__).parents[1] / "data"
NOTHING_NEEDED = dict.fromkeys(MISSIONS.names, 0.0)
"""Thresholds at which every window is a verdict."""


def _packets() -> list[Packet]:
    decoder = msgspec.json.Decoder(Packet)
    logs = sorted(DATA.glob("*/packetclip_packet.log.gz"))[:6]
    return sorted((p for log in logs for p in decoder.decode_lines(gzip.decompress(log.read_bytes()))[:600]), key=lambda p: p.ts)


ATTACKS = _packets()
"""The first packets of six captures, by time."""


def cut(packets: list[Packet], batch: int = 10_000) -> list[Windows]:
    """Windows of packets that are read in batches of this size."""
    batches = [Batch(packets[i : i + batch], []) for i in range(0, len(packets), batch)]
    return list(windows([*batches, Batch([], [], final=True)], Window(), Counters()))
