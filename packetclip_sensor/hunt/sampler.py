"""Judged windows kept for hunting: few of the ordinary ones, more of those that come near an alert, and never too many.

An ordinary stream (a pair of hosts, a source of many, a destination of many) is kept once a minute of event time; one whose
probability reaches half a mission's threshold, every ten seconds. What is kept depends on the data and the span of time, not on
the moment of a restart, and a span's document has one id.
"""

from __future__ import annotations

import numpy as np

from packetclip_sensor.alerts.episodes import identifier
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config.settings import HuntConfig
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.model.encoder import Encoder
from packetclip_sensor.model.judge import embed
from packetclip_sensor.records import FloatArray, HuntWindow, Packet
from packetclip_sensor.windows.headers import Bools
from packetclip_sensor.windows.packet_features import ModelInput
from packetclip_sensor.windows.packet_table import view_keys
from packetclip_sensor.windows.window_statistics import facts
from packetclip_sensor.windows.windows import VIEWS

MINUTE_S = 60
ORDINARY_PART = 0.5
"""Part of a minute's documents that ordinary streams may take; the rest waits for those that come near an alert."""


class Sampler:
    """Chooses windows while they are judged."""

    def __init__(
        self, bundle: Bundle, config: HuntConfig, thresholds: dict[str, float], counters: Counters, *, sensor: str
    ) -> None:
        self._bundle, self._config, self._counters, self._sensor = bundle, config, counters, sensor
        self._limit = np.array([config.near * thresholds[m] for m in bundle.manifest.missions.names], np.float32)
        self._seen: dict[bool, set[tuple[int, int]]] = {False: set(), True: set()}
        self._span = {False: -1, True: -1}
        self._minute = -1
        self._kept = {False: 0, True: 0}

    def __call__(self, given: ModelInput, probabilities: FloatArray, encoder: Encoder) -> list[HuntWindow]:
        """Choose among the windows of `given`, judged as (W, missions + 1) `probabilities`."""
        w = given.windows
        rows, view, second = w.rows, w.view, w.second
        if not len(rows):
            return []
        keys = np.stack(view_keys(w.table))[view, rows[:, -1]]
        near: Bools = np.any(probabilities[:, 1:] >= self._limit, axis=1)
        chosen: list[tuple[int, str, tuple[Packet, ...]]] = []
        for k in range(len(rows)):
            is_near = bool(near[k])
            stream = int(view[k]), int(keys[k])
            span = self._begin(is_near, int(second[k]))
            if stream in self._seen[is_near]:
                continue
            packets: tuple[Packet, ...] = tuple(w.table.packets(rows[k][rows[k] >= 0]))
            hosts = _hosts(VIEWS[stream[0]], packets)
            if hosts is None:
                continue
            most = self._config.per_minute * (1 if is_near else ORDINARY_PART)
            if (sum(self._kept.values()) if is_near else self._kept[False]) >= most:
                self._counters.flows_capped += 1
                continue
            self._seen[is_near].add(stream)
            self._kept[is_near] += 1
            version, name = self._bundle.manifest.version, VIEWS[stream[0]]
            chosen.append((k, identifier("flow", self._sensor, version, is_near, name, span, *hosts), packets))
        if not chosen:
            return []
        # They are few, so they are scored once more.
        embeddings = embed(self._bundle, encoder, given, given.distinct[[k for k, _, _ in chosen]])
        return [
            HuntWindow(
                id=id_,
                second=int(second[k]),
                view=VIEWS[int(view[k])],
                near=bool(near[k]),
                packets=packets,
                missions=dict(zip(self._bundle.manifest.missions.groups, map(float, probabilities[k]), strict=True)),
                classes=self._bundle.classes(embeddings[n]),
                facts=facts(packets, VIEWS[int(view[k])]),
                embedding=tuple(round(float(x), 5) for x in embeddings[n]),
                model_version=self._bundle.manifest.version,
            )
            for n, (k, id_, packets) in enumerate(chosen)
        ]

    def _begin(self, is_near: bool, second: int) -> int:
        """The span of time that a second lies in; at its beginning nothing of it is kept yet."""
        span = second // (self._config.near_s if is_near else self._config.ordinary_s)
        if span != self._span[is_near]:
            self._span[is_near] = span
            self._seen[is_near].clear()
        if second // MINUTE_S != self._minute:
            self._minute = second // MINUTE_S
            self._kept = {False: 0, True: 0}
        return span


def _hosts(view: str, packets: tuple[Packet, ...]) -> tuple[str, ...] | None:
    """The hosts that name a stream; None for a source with one destination and a destination with one source: their pair says
    the same."""
    if view == "pair":
        return tuple(sorted((packets[-1].orig_h, packets[-1].resp_h)))
    if view == "source":
        return (packets[-1].orig_h,) if len({p.resp_h for p in packets}) > 1 else None
    return (packets[-1].resp_h,) if len({p.orig_h for p in packets}) > 1 else None
