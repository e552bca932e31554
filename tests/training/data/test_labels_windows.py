"""Windows of packets whose labels differ: `write_pairs` with any source of labels."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_logs import T0, labels_of, packet

from packetclip_sensor.pairs.labels import NOT_KNOWN, Interval, LabelFile, Labels
from packetclip_sensor.pairs.parquet import write_pairs
from packetclip_sensor.records import Batch, Packet
from packetclip_sensor.windows.windows import Window
from training.data.labels.captures import Connection
from training.data.labels.match import ByConnection

FLOOD, SCAN = Interval("UDP Flood", [], [], 0, 0, "hping3"), Interval("Port Scan", [], [], 0, 0, "nmap")


class ByNumber:
    """The label of the n-th packet."""

    def __init__(self, labels: list[Interval | None]) -> None:
        self.labels = labels

    def of(self, packet: Packet) -> Interval | None:
        return self.labels[packet.n - 1]


def rows(tmp_path: Path, labels: list[Interval | None]) -> list[dict]:
    """The pair view's windows of one connection, ten packets a second."""
    packets = [packet(T0 + 0.1 * i, "C1", "10.0.0.66", 4000, "10.0.0.9", 53, n=i + 1) for i in range(len(labels))]
    out = tmp_path / "p.parquet"
    write_pairs([("c", [Batch(packets, []), Batch([], [], final=True)], ByNumber(labels))], out, Window())
    found = pq.read_table(out, columns=["view", "label", "tool", "first", "last", "packets", "attack_share"]).to_pylist()
    return [row for row in found if row["view"] == "pair"]


@pytest.mark.parametrize(
    ("labels", "label", "share"),
    [
        ([None] * 10, "Benign", 0.0),
        ([None] * 9 + [NOT_KNOWN], None, 0.0),
        ([NOT_KNOWN] * 10, None, 0.0),
        ([FLOOD] * 5 + [None] * 5, "UDP Flood", 0.5),
        ([FLOOD] * 5 + [NOT_KNOWN] * 5, "UDP Flood", 0.5),
        ([FLOOD] * 4 + [None] * 6, None, 0.4),
        ([FLOOD] * 4 + [SCAN] * 4 + [None] * 2, None, 0.8),
        ([FLOOD] * 4 + [SCAN] * 6, "Port Scan", 1.0),
    ],
)
def test_a_window_is_an_attacks_from_half_of_its_packets_and_benign_only_if_all_are(
    tmp_path: Path, labels: list[Interval | None], label: str | None, share: float
) -> None:
    (row,) = rows(tmp_path, labels)
    assert (row["packets"], row["label"]) == (10, label)
    assert row["attack_share"] == pytest.approx(share)


@given(st.lists(st.sampled_from([None, NOT_KNOWN, FLOOD, SCAN]), min_size=4, max_size=25))
@settings(max_examples=25, deadline=None)
def test_no_window_gets_a_label_that_not_half_of_its_packets_have(
    tmp_path_factory: pytest.TempPathFactory, labels: list[Interval | None]
) -> None:
    for row in rows(tmp_path_factory.mktemp("p"), labels):
        inside = [labels[i] for i in range(len(labels)) if row["first"] <= T0 + 0.1 * i <= row["last"]]
        assert len(inside) == row["packets"]
        if row["label"] == "Benign":
            assert set(map(repr, inside)) == {"None"}
        elif row["label"] is not None:
            assert sum(i is not None and i.label == row["label"] for i in inside) * 2 >= len(inside)


def test_only_connections_with_one_label_of_a_class_have_one() -> None:
    key = ("udp", ("a", 1), ("b", 2))
    made = [Connection("c", f"C{i}", key, T0, T0) for i in range(5)]
    made[0].claim, made[0].label = "UDP Flood", "UDP Flood"
    made[1].claim, made[1].label = "Benign", "Benign"
    made[2].claim, made[2].label, made[2].conflict = "UDP Flood", "UDP Flood", True
    made[3].claim = "pingsweep"
    truth = ByConnection(made)
    found = [truth.of(packet(T0, f"C{i}", "10.0.0.1", 1, "10.0.0.2", 2)) for i in range(6)]
    assert [f if f is None else f.label for f in found] == ["UDP Flood", None, "", "", "", ""]


def test_a_labels_file_that_tells_two_attacks_of_one_packet_labels_it_with_neither() -> None:
    hosts = (["10.0.0.66"], ["10.0.0.9"])
    intervals = [Interval("UDP Flood", *hosts, T0, T0 + 5), Interval("UDP Flood", *hosts, T0 + 2, T0 + 3)]
    intervals.append(Interval("DNS Flood", *hosts, T0 + 4, T0 + 9))
    labels = Labels(LabelFile("c", intervals))
    packets = [packet(T0 + s, "C1", "10.0.0.66", 1, "10.0.0.9", 53) for s in (1, 2.5, 4.5, 6, 10)]
    assert labels_of(labels, packets) == ["UDP Flood", "UDP Flood", "", "DNS Flood", None]
