"""Windows to rows of text and packets, a dictionary each; docs/pairs.md names the columns and their units."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from packetclip_sensor.alerts import sentences
from packetclip_sensor.pairs.labels import Truth, label_of
from packetclip_sensor.records import Packet
from packetclip_sensor.windows import tokens
from packetclip_sensor.windows.headers import Ints
from packetclip_sensor.windows.packet_features import relations
from packetclip_sensor.windows.packet_table import so_far
from packetclip_sensor.windows.window_statistics import facts
from packetclip_sensor.windows.windows import VIEWS, Window, Windows


@dataclass(frozen=True, slots=True)
class LabelledWindow:
    """Window number `number` of a batch with its label. Its row is made when it is wanted: most windows are thinned out."""

    batch: Windows
    number: int
    label: str | None
    tool: str
    attack_share: float
    """Share of its packets that belong to a labelled attack."""

    @property
    def packets(self) -> Ints:
        """Rows of its packets, oldest first."""
        rows: Ints = self.batch.rows[self.number]
        return rows[rows >= 0]

    def row(self, capture: str, window: Window) -> dict[str, object]:
        """Its row in the file of pairs."""
        batch, number, table = self.batch, self.number, self.batch.table
        packets: list[Packet] = list(table.packets(self.packets))
        _, latest = np.unique(table.uid[self.packets][::-1], return_index=True)
        total_packets, total_bytes = so_far(batch.table, batch.volume, self.packets[::-1][latest], int(batch.second[number]))
        view = VIEWS[int(batch.view[number])]
        measured = facts(packets, view)
        toks = np.full((window.packets, tokens.ROW_BYTES), tokens.PAD, np.uint16)
        toks[window.packets - len(packets) :] = tokens.tokenize(table.take(self.packets))
        return {
            "capture": capture,
            "second": int(packets[-1].ts),
            "view": view,
            "sources": sorted({p.orig_h for p in packets}),
            "destinations": sorted({p.resp_h for p in packets}),
            "first": packets[0].ts,
            "last": packets[-1].ts,
            "packets": len(packets),
            "uids": list(dict.fromkeys(p.uid for p in packets)),
            "total_packets": int(total_packets.sum()),
            "total_bytes": int(total_bytes.sum()),
            "label": self.label,
            "tool": self.tool,
            "attack_share": self.attack_share,
            "text": sentences.window_text(measured),
            "facts": json.dumps(measured),
            "relations": relations(table, batch.rows[number : number + 1], batch.past[number : number + 1]).ravel(),
            "tokens": toks.ravel(),
        }


def labelled(batches: Iterable[Windows], labels: Truth | None, label: str | None) -> Iterator[LabelledWindow]:
    """Every window with its label, which is `label` where there are no labels."""
    for batch in batches:
        used = np.unique(batch.rows[batch.rows >= 0])
        attack = dict(zip(used, (labels.of(p) if labels else None for p in batch.table.packets(used)), strict=True))
        for number, rows in enumerate(batch.rows):
            found, tool, share = label_of([attack[row] for row in rows[rows >= 0]])
            yield LabelledWindow(batch, number, found if labels else label, tool, share)


def thinned(found: Sequence[LabelledWindow], most: int | None) -> Sequence[LabelledWindow]:
    """At most `most` windows of each label, evenly spread, in their order."""
    if most is None:
        return found
    keep: set[int] = set()
    for label in {window.label for window in found}:
        at = [i for i, window in enumerate(found) if window.label == label]
        keep.update(at if len(at) <= most else (at[int(k)] for k in np.linspace(0, len(at) - 1, most)))
    return [window for i, window in enumerate(found) if i in keep]
