"""Model input of a batch at once against that of each window alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from recorded import ATTACKS, cut

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.records import Batch
from packetclip_sensor.windows.model_input import model_input
from packetclip_sensor.windows.windows import Window, WindowCutter


def test_each_window_has_the_tokens_and_relations_that_it_has_alone() -> None:
    w = cut(ATTACKS)[0]
    given = model_input(w)
    assert len(given.rows) < len(w.rows)  # views that hold the same packets are one window
    for i in range(0, len(w.rows), 7):
        alone = model_input(replace(w, rows=w.rows[i : i + 1], past=w.past[i : i + 1]))
        rows = given.rows[given.distinct[i]]
        np.testing.assert_array_equal(rows >= 0, w.rows[i] >= 0)
        np.testing.assert_array_equal(given.tokens[rows[rows >= 0]], alone.tokens[alone.rows[0][rows >= 0]])
        np.testing.assert_array_equal(given.relations[given.distinct[i]], alone.relations[0])
        sent = [p.data[0] for p in w.table.packets(w.rows[i][rows >= 0])]  # the one byte of an IP header that is never masked
        assert given.tokens[rows[rows >= 0], 0].tolist() == sent


def test_a_batch_without_a_window_has_no_input() -> None:
    given = model_input(WindowCutter(Window(), Counters())(Batch([], [], idle=True)))
    assert [len(part) for part in (given.distinct, given.rows, given.tokens, given.relations)] == [0, 0, 0, 0]
