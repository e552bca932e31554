"""Model input of a batch at once against that of each window alone."""

from __future__ import annotations

import numpy as np
from recorded import ATTACKS, cut

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.records import Batch
from packetclip_sensor.windows import tokens
from packetclip_sensor.windows.model_input import model_input
from packetclip_sensor.windows.packet_features import relations
from packetclip_sensor.windows.windows import Window, WindowCutter


def test_each_window_has_the_tokens_and_relations_that_it_has_alone() -> None:
    w = cut(ATTACKS)[0]
    given = model_input(w)
    assert len(given.rows) < len(w.rows)  # views that hold the same packets are one window
    for i in range(0, len(w.rows), 7):
        j = int(given.distinct[i])
        rows, past = w.rows[i : i + 1], w.past[i : i + 1]
        np.testing.assert_array_equal(given.relations[j], relations(w.table, rows, past)[0])
        np.testing.assert_array_equal(given.rows[j] < 0, rows[0] < 0)
        found = given.tokens[given.rows[j][given.rows[j] >= 0]]
        data, captured = tokens.rows([p.data for p in w.table.packets(rows[rows >= 0])])
        size = w.table.size_bytes[rows[rows >= 0]]
        np.testing.assert_array_equal(found, tokens.tokenize(data, captured, tokens.headers(data, captured, size)))


def test_a_batch_without_a_window_has_no_input() -> None:
    given = model_input(WindowCutter(Window(), Counters())(Batch([], [], idle=True)))
    assert [len(part) for part in (given.distinct, given.rows, given.tokens, given.relations)] == [0, 0, 0, 0]
