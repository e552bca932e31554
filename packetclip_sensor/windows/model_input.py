"""Windows to model input: the tokens of each packet once, the relations of each distinct window once.

Everything that the model has to know of a batch is made here in one step, so that judging needs only these arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from packetclip_sensor.records import FloatArray
from packetclip_sensor.windows import tokens
from packetclip_sensor.windows.headers import Ints
from packetclip_sensor.windows.packet_features import RELATIONS, relations
from packetclip_sensor.windows.windows import Windows

RELATED_WINDOWS = 128
"""Windows whose relations are made at a time: their comparisons of all packets with all stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """The V distinct windows of a batch's W windows, and the P packets that stand in them.

    Views that hold the same packets and began the same connections are one window.
    """

    windows: Windows
    distinct: Ints
    """(W,) which of the V windows each window is."""
    rows: Ints
    """(V, A) numbers of the rows of `tokens`, oldest packet first, -1 in front where a window is shorter than A."""
    tokens: npt.NDArray[np.uint16]
    """(P, ROW_BYTES)"""
    relations: FloatArray
    """(V, A, R), zero on padding."""


def model_input(windows: Windows) -> ModelInput:
    """The model input of a batch of windows."""
    table, both = windows.table, np.hstack([windows.rows, windows.past[:, 0]])
    _, first, distinct = np.unique(both, axis=0, return_index=True, return_inverse=True)
    rows, past = windows.rows[first], windows.past[first]
    used = np.unique(rows[rows >= 0])
    related = np.empty((*rows.shape, len(RELATIONS)), np.float32)
    for start in range(0, len(rows), RELATED_WINDOWS):
        some = slice(start, start + RELATED_WINDOWS)
        related[some] = relations(table, rows[some], past[some])
    toks = tokens.tokenize(table.take(used))
    return ModelInput(windows, distinct.ravel(), np.where(rows < 0, -1, np.searchsorted(used, rows)), toks, related)
