"""Token rows to byte embeddings, each distinct row once.

The encoder's cost is the sensor's cost, so its results are kept: a row of tokens that was seen lately comes from a table.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.records import FloatArray

ENCODE_ROWS = 32
"""Rows encoded at once: what lies between the encoder's layers stays in the processor's cache."""
EQUAL_ROWS = 4
"""Rows that the matrix product takes at once: one left over is summed in another order (its last bit differs)."""
CACHED_ROWS = 50_000


class Encoder:
    """Byte embeddings of packet rows, each distinct row once; the least recently used rows leave first."""

    def __init__(self, bundle: Bundle, counters: Counters | None = None, cached_rows: int = CACHED_ROWS) -> None:
        self._counters = counters or Counters()
        self._session = bundle.encoder
        self._dim = bundle.manifest.embedding
        self._table: FloatArray = np.zeros((cached_rows, self._dim), np.float32)
        self._slots: OrderedDict[bytes, int] = OrderedDict()

    def __call__(self, tokens: npt.NDArray[np.uint16]) -> FloatArray:
        """(n, ROW_BYTES) tokens to (n, D)."""
        width = tokens.shape[1] * tokens.itemsize
        raw = tokens.tobytes()
        keys = [raw[i : i + width] for i in range(0, len(raw), width)]
        slots = [self._slots.get(key, -1) for key in keys]
        out = self._table[slots]
        missing: dict[bytes, int] = {}
        places, of = list[int](), list[int]()
        for i, (key, slot) in enumerate(zip(keys, slots, strict=True)):
            if slot < 0:
                places.append(i)
                of.append(missing.setdefault(key, len(missing)))
            else:
                self._slots.move_to_end(key)
        self._counters.cached_rows += len(keys) - len(places)
        self._counters.encoded_rows += len(missing)
        new = np.frombuffer(b"".join(missing), tokens.dtype).reshape(-1, tokens.shape[1]).astype(np.int32)
        # Repeated, up to whole groups of EQUAL_ROWS: the last digits of a row's embedding must not depend on its neighbours.
        whole = np.concatenate([new, np.repeat(new[-1:], -len(new) % EQUAL_ROWS, axis=0)])
        parts = [
            self._session.run(["embedding"], {"tokens": whole[i : i + ENCODE_ROWS]})[0] for i in range(0, len(whole), ENCODE_ROWS)
        ]
        embedded = np.concatenate([self._table[:0], *parts])[: len(new)]
        out[places] = embedded[of]
        into = []
        for key in missing:
            into.append(len(self._slots) if len(self._slots) < len(self._table) else self._slots.popitem(last=False)[1])
            self._slots[key] = into[-1]
        self._table[into] = embedded
        return out
