"""Numbers of packets within their window, of the connections that their stream began before, and of all that it had in a second,
against values by hand; the model input of a batch at once against that of each window alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from recorded import ATTACKS, cut

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.records import Batch, Packet
from packetclip_sensor.windows.cutter import WindowCutter
from packetclip_sensor.windows.packet_features import HISTORY, RELATIONS, SECOND, history, model_input, relations, stream_seconds
from packetclip_sensor.windows.packet_table import PacketColumns
from packetclip_sensor.windows.windows import Window

NO_PAST = np.full((1, 2, 4), -1)


def packet(ts: float, orig: str, resp: str, resp_p: int, uid: str, n: int, *, is_orig: bool = True) -> Packet:
    return Packet(ts, uid, orig, 1000, resp, resp_p, "tcp", is_orig, n, 60, b"\x45" + bytes(59))


def test_relations_say_what_is_new_within_the_window() -> None:
    packets = [
        packet(100.0, "a", "b", 80, "C1", 1),
        packet(100.5, "a", "b", 80, "C1", 2, is_orig=False),
        packet(100.6, "a", "b", 81, "C2", 1),
        packet(100.7, "c", "b", 81, "C3", 1),
    ]
    rows = np.array([[-1, 0, 1, 2, 3]])
    found = relations(PacketColumns.of(packets), rows, NO_PAST)[0]
    at = {name: i for i, name in enumerate(RELATIONS)}
    assert not found[0].any()
    assert found[1:, at["is_orig"]].tolist() == [1, -1, 1, 1]
    assert found[1:, at["new_connection"]].tolist() == [1, 0, 1, 1]
    assert found[1:, at["new_resp_p"]].tolist() == [1, 0, 1, 0]
    assert found[1:, at["new_orig_h"]].tolist() == [1, 0, 0, 1]
    assert found[1:, at["share_connections"]].tolist() == pytest.approx([1, 1 / 2, 2 / 3, 3 / 4])
    assert found[2, at["log_gap"]] == pytest.approx((np.log10(0.5 + 1e-6) + 6) / 8)
    assert found[1, at["log_gap"]] == 0


def three_connections() -> list[Packet]:
    """Begun at 0, 2 and 4 s, to two ports, with 2, 1 and 3 packets."""
    return [
        packet(100.0, "a", "b", 80, "C1", 1),
        packet(101.0, "a", "b", 80, "C1", 2, is_orig=False),
        packet(102.0, "a", "b", 80, "C2", 1),
        packet(104.0, "a", "b", 443, "C3", 1),
        packet(104.1, "a", "b", 443, "C3", 2, is_orig=False),
        packet(114.0, "a", "b", 443, "C3", 3),
    ]


PAST = np.array([[[-1, 0, 2, 3], [-1, 1, 2, 5]]])


def test_history_counts_and_measures_the_connections_of_the_stream() -> None:
    found = history(PacketColumns.of(three_connections()), PAST, np.array([5]))[0]
    assert dict(zip(HISTORY, found.tolist(), strict=True)) == pytest.approx(
        {
            "history_connections": 0.277259,
            "history_resp_p": 0.219722,
            "history_resp_h": 0.138629,
            "history_orig_h": 0.138629,
            "history_log_age": 0.829232,
            "history_log_n": 0.211870,
            "history_log_n_spread": 0.056867,
            "history_one_packet_share": 1 / 3,
            "history_log_gap": 0.787629,
            "history_log_gap_spread": 0.0,
            "history_same_port_share": 1 / 3,
            "history_log_duration": 0.466699,
        },
        abs=2e-6,
    )


def test_one_connection_has_no_gap_and_no_spread() -> None:
    found = history(PacketColumns.of(three_connections()), np.array([[[-1, -1, -1, 3], [-1, -1, -1, 3]]]), np.array([3]))[0]
    assert dict(zip(HISTORY, found.tolist(), strict=True)) == pytest.approx(
        dict.fromkeys(HISTORY, 0.0)
        | dict.fromkeys(("history_connections", "history_resp_p", "history_resp_h", "history_orig_h", "history_log_n"), 0.138629)
        | dict.fromkeys(("history_one_packet_share", "history_same_port_share"), 1.0),
        abs=2e-6,
    )


def test_a_stream_without_openings_has_a_history_of_zeros() -> None:
    assert not history(PacketColumns.of(three_connections()), NO_PAST, np.array([5])).any()


def test_history_stands_at_every_packet_and_padding_is_zero() -> None:
    rows = np.array([[-1, -1, 3, 4, 5]])
    found = relations(PacketColumns.of(three_connections()), rows, PAST)[0]
    assert found.shape == (5, len(RELATIONS))
    assert not found[:2].any()
    assert found[2:, -len(HISTORY)].tolist() == pytest.approx([0.277259] * 3, abs=2e-6)
    assert (found[2:, -len(HISTORY) :] == found[2, -len(HISTORY) :]).all()


def test_a_stream_s_second_counts_all_its_packets_and_the_beginnings_of_its_connections() -> None:
    early = [packet(100.0 + i / 1000, "a", "b", 80 + i % 3, f"C{i}", 1) for i in range(60)]
    late = packet(100.5, "a", "c", 81, "D", 120, is_orig=False)  # stands for all since the connection's first line
    w = WindowCutter(Window(), Counters())(Batch([packet(100.0, "a", "c", 81, "D", 100), *early, late], [], final=True))
    found = stream_seconds(w)
    source = found.stream.index((1, "a", ""))
    counts = dict(zip(SECOND, found.counts[source].tolist(), strict=False))
    assert counts == {
        "packets": 81,
        "sent": 61,
        "bytes": 60 * 81,
        "begun": 60,
        "ports": 3,
        "destinations": 1,
        "sources": 1,
        "skipped": 0,
    }
    assert found.begun[source, :3].tolist() == pytest.approx([100.0, 100.059, 59])
    assert found.begun[source, 3] == pytest.approx(59 * np.log(1e-3), rel=1e-3)


def test_packets_without_a_line_count_in_a_rate_for_their_own_second_alone() -> None:
    call = [
        packet(100 + n / 50, "a", "b", 5004, "C", n) for n in (*range(1, 101), 128, 160, 192, 224, 256, 320, 384, 448, 512, 640)
    ]
    cut = WindowCutter(Window(volume=True), Counters())
    rates = [r for p in call for r in stream_seconds(cut(Batch([p], [], final=p is call[-1]))).rate.tolist()]
    assert 40 <= max(rates) <= 51  # fifty packets a second, however many each line stands for
    more = [packet(120.1 + i / 10, "a", "b", 53, f"D{i}", 1) for i in range(5)]
    assert stream_seconds(WindowCutter(Window(), Counters())(Batch(more, [], final=True))).rate.tolist() == [5.0] * 3


def test_each_window_has_the_tokens_and_relations_that_it_has_alone() -> None:
    w = cut(ATTACKS)[0]
    given = model_input(w)
    assert len(given.rows) < len(w.rows)  # views that hold the same packets are one window
    for i in range(0, len(w.rows), 7):
        alone = model_input(replace(w, rows=w.rows[i : i + 1], past=w.past[i : i + 1], view=w.view[i : i + 1]))
        rows = given.rows[given.distinct[i]]
        np.testing.assert_array_equal(rows >= 0, w.rows[i] >= 0)
        np.testing.assert_array_equal(given.tokens[rows[rows >= 0]], alone.tokens[alone.rows[0][rows >= 0]])
        np.testing.assert_array_equal(given.relations[given.distinct[i]], alone.relations[0])
        sent = [p.data[0] for p in w.table.packets(w.rows[i][rows >= 0])]  # the one byte of an IP header that is never masked
        assert given.tokens[rows[rows >= 0], 0].tolist() == sent


def test_a_batch_without_a_window_has_no_input() -> None:
    given = model_input(WindowCutter(Window(), Counters())(Batch([], [], idle=True)))
    assert [len(part) for part in (given.distinct, given.rows, given.tokens, given.relations)] == [0, 0, 0, 0]
