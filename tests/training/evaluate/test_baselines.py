"""Baselines: features, balance, and that each of them learns, repeats itself and keeps to the interface."""

from __future__ import annotations

import json
import struct

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from packetclip_sensor.windows.tokens import MASK, PAD, ROW_BYTES
from training.data.windows import Examples
from training.evaluate.baselines import REGISTRY, Fit, on_embeddings
from training.evaluate.baselines.__main__ import main
from training.evaluate.baselines.bytegraph import Sizes, byte_graphs, header_and_payload
from training.evaluate.baselines.features import Scaler, WindowStatistics, balance, flow_statistics, packet_mean, reduced, spread
from training.evaluate.baselines.flows import byte_graph_flows, supervised_contrast
from training.evaluate.baselines.image import encoder, images
from training.evaluate.baselines.packets import PacketBert, per_packet
from training.evaluate.baselines.statistics import dnn
from training.model.config import EtBert

FAST = [name for name in REGISTRY if not name.endswith("-reduced") and "image" not in name and "DNN" not in name]
A = 6


def row(payload: bytes, flags: int = 2) -> npt.NDArray[np.uint16]:
    """A TCP packet over IPv4 as the sensor tokenises it: id, checksums, addresses, seq, ack and ports masked."""
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(payload), 0, 0, 64, 6, 0) + bytes(8)
    data = ip + bytes(12) + bytes([0x50, flags, 0x40, 0, 0, 0, 0, 0]) + payload
    out = np.full(ROW_BYTES, PAD, np.uint16)
    out[: len(data)] = np.frombuffer(data, np.uint8)
    for start, end in ((4, 6), (10, 20), (20, 32), (36, 38)):
        out[start:end] = MASK
    return out


def tensor(rows: list[npt.NDArray[np.uint16]]) -> Tensor:
    return torch.from_numpy(np.stack(rows).astype(np.int64))


def windows(n: int = 160, seed: int = 0, labels: tuple[int, ...] = (0, 1, 4, 9)) -> Examples:
    """Windows whose label shows in facts, relations and bytes; one with padding in four."""
    rng = np.random.default_rng(seed)
    label = np.array([labels[i % len(labels)] for i in range(n)])
    tokens = np.stack([row(bytes([17 * k + j, 17 * k + 3 * j]) * 8, flags=k) for k in range(10) for j in range(3)])
    rows = label[:, None] * 3 + rng.integers(3, size=(n, A))
    rows[::4, :2] = -1
    relations = np.repeat(label[:, None, None] + 0.1 * rng.random((n, A, 1)), 2, axis=2).astype(np.float32)
    facts = [json.dumps({"view": "pair", "rate_pps": float(k) + 0.1 * rng.random(), "syn_share": None}) for k in label]
    return Examples(
        tokens, torch.from_numpy(rows), torch.from_numpy(relations), torch.from_numpy(label),
        np.array([f"c{i // len(labels) % 2}-{k}" for i, k in enumerate(label)], dtype=object), np.array([""] * n, dtype=object),
        facts, np.array(["pair"] * n, dtype=object), np.array(["lab"] * n, dtype=object),
    )  # fmt: skip


def test_majority_gives_each_window_the_shares_of_training() -> None:
    train = windows(8, labels=(0, 0, 0, 4))
    assert REGISTRY["majority"](train, 1)(windows(2)).tolist() == [[0.75, 0.25, 0.0, 0.0]] * 2
    assert REGISTRY["XGBoost, flow"](windows(labels=(0,)), 1)(windows(1)).tolist() == [[1.0, 0.0, 0.0, 0.0]]  # nothing to learn


@pytest.mark.parametrize("name", [n for n in FAST if n != "majority"])
def test_baseline_tells_apart_what_differs_and_its_probabilities_sum_to_one(name: str) -> None:
    test = windows(40, seed=9)
    p = REGISTRY[name](windows(), 1)(test)
    assert p.shape == (40, 4)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-4)
    assert (p.argmax(1) == test.group.numpy()).mean() > 0.9


QUICK = [dnn(lambda _: flow_statistics, steps=5), byte_graph_flows("graphs", contrast=True, steps=2, batch=4)]
QUICK += [REGISTRY[f"{name}, flow"] for name in ("XGBoost", "LightGBM", "1-NN")]


@pytest.mark.parametrize("fit", QUICK)
def test_a_group_missing_from_training_gets_probability_zero_each_time(fit: Fit) -> None:
    p = fit(windows(labels=(0, 4)), 1)(windows(8))
    np.testing.assert_array_equal(p, fit(windows(labels=(0, 4)), 1)(windows(8)))  # the same seed, the same answers
    assert p.shape == (8, 4)
    assert p[:, 2:].max() == 0.0
    np.testing.assert_allclose(p[:, :2].sum(1), 1, atol=1e-4)


def test_baselines_on_embeddings_ask_the_encoder_once_for_each_distinct_row() -> None:
    asked: list[int] = []

    def encode_rows(tokens: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
        asked.append(len(tokens))
        return tokens[:, [40, 41]].astype(np.float32)

    few = windows(2, labels=(1,))
    few.rows = torch.tensor([[-1, 3, 3, 3, 3, 4], [-1, -1, -1, -1, -1, -1]])
    np.testing.assert_allclose(packet_mean(encode_rows)(few), [[17.2, 17.6], [0, 0]], rtol=1e-6)
    assert asked == [2]
    test = windows(40, seed=9)
    for name, fit in on_embeddings(packet_mean(encode_rows)).items():
        if "DNN" not in name:
            assert (fit(windows(), 1)(test).argmax(1) == test.group.numpy()).mean() > 0.9, name


def test_balance_gives_half_to_benign_and_equal_parts_to_classes_and_their_captures() -> None:
    train = windows(5, labels=(0, 0, 1, 1, 4))
    train.capture = np.array(["a", "b", "c", "c", "d"], dtype=object)
    np.testing.assert_allclose(balance(train), [0.25, 0.25, 0.125, 0.125, 0.25])
    train.source = np.array(["x", "x", "x", "x", "y"], dtype=object)
    np.testing.assert_allclose(balance(train), [0.25, 0.25, 0.125, 0.125, 0.25])
    assert balance(windows(4, labels=(0,))).sum() == pytest.approx(1)
    assert balance(windows(4, labels=(3,))).sum() == pytest.approx(1)


def test_a_draw_keeps_rare_captures_and_says_that_it_drew(capsys: pytest.CaptureFixture[str]) -> None:
    train = windows(100, labels=(0,) * 24 + (1,))
    few = reduced(train, 20, 1)
    assert len(few) == 20
    assert int((few.label == 1).sum()) == 4
    assert "20 of 100 windows" in capsys.readouterr().out
    assert reduced(train, 100, 1) is train


def test_window_statistics_are_the_numbers_among_the_facts_without_the_port() -> None:
    train = windows(2)
    train.facts = ['{"view": "pair", "packets": 3, "top_resp_p": 80, "proto": "tcp"}', '{"packets": 4, "rate_pps": 2.5}']
    statistics = WindowStatistics(train)
    assert statistics.names == ["packets", "rate_pps"]
    np.testing.assert_array_equal(statistics(train), [[3, np.nan], [4, 2.5]])
    assert WindowStatistics(train, with_ports=True).names == ["packets", "rate_pps", "top_resp_p"]


def test_flow_statistics_leave_padding_out() -> None:
    one = windows(1)
    one.rows = torch.tensor([[-1, 0, 0]])
    one.relations = torch.tensor([[[9.0], [1.0], [3.0]]])
    assert flow_statistics(one).tolist() == [[2.0, 1.0, 1.0, 3.0]]


def test_scaler_marks_what_was_unknown_in_training() -> None:
    x = np.array([[0.0, np.nan], [np.e - 1, 1.0]], np.float32)
    assert Scaler(x, np.array([0.5, 0.5]))(x).tolist() == [[-1.0, 0.0, 1.0], [1.0, 0.0, 0.0]]


def test_spread_takes_packets_evenly_and_always_the_last() -> None:
    rows = torch.tensor([[-1, -1, 10, 11, 12, 13], [0, 1, 2, 3, 4, 5], [-1, -1, -1, -1, -1, 7], [-1] * 6])
    assert spread(rows, 3).tolist() == [[11, 12, 13], [1, 3, 5], [7, 7, 7], [-1, -1, -1]]


def test_header_ends_where_the_packet_says_and_payload_follows() -> None:
    header, payload = header_and_payload(np.stack([row(b"GET /"), row(b"")]), Sizes(header_bytes=42, payload_bytes=6))
    assert header[0, 38:].tolist() == [0, 0, PAD, PAD]
    assert header[0, :12].tolist() == [0x45, 0, 0, 45, MASK, MASK, 0, 0, 64, 6, MASK, MASK]
    assert bytes(payload[0, :5].tolist()) == b"GET /"
    assert payload[0, 5] == PAD
    assert payload[1].tolist() == [PAD] * 6


def slow_graph(values: list[int], window: int = 5) -> set[tuple[int, int]]:
    """Edges by a plain loop over windows and pairs."""
    cut = [values[i : i + window] for i in range(max(len(values) - window + 1, 1))]
    holds = {a: sum(a in w for w in cut) for a in values}
    pairs: dict[tuple[int, int], int] = {}
    for w in cut:
        for i in range(len(w)):
            for j in range(i):
                if w[i] != w[j]:
                    for pair in ((w[i], w[j]), (w[j], w[i])):
                        pairs[pair] = pairs.get(pair, 0) + 1
    return {(a, b) for (a, b), count in pairs.items() if count * len(cut) > holds[a] * holds[b]}


@pytest.mark.parametrize("values", [[1, 2], [3, 3, 3, 3, 3, 3], [1, 2, 3, 4, 5, 6, 7, 8], [0, 0, 9, 0, 0, 4, 0, 7, 7, 2, 9, 0]])
def test_byte_graph_has_the_edges_of_a_plain_loop(values: list[int]) -> None:
    padded = torch.tensor([values + [PAD] * (14 - len(values)), [PAD] * 14])
    graphs = byte_graphs(padded)
    edges = {(int(graphs.value[a]), int(graphs.value[b])) for a, b in graphs.edges.T if a != b}
    assert edges == slow_graph(values)
    assert len(graphs.value) == len({a for a, _ in edges})
    assert graphs.graph.tolist() == [0] * len(graphs.value)


def test_supervised_contrast_is_low_where_classes_stand_apart() -> None:
    a, label = torch.eye(2), torch.tensor([0, 1])
    assert supervised_contrast(a, a, label).item() < 1e-4
    assert supervised_contrast(a, a.flip(0), label).item() > 10
    assert supervised_contrast(torch.ones(2, 2), torch.ones(2, 2), label).item() == pytest.approx(np.log(3), abs=1e-5)


def bag() -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(258, 16, mode="mean"), nn.Linear(16, 4))


@pytest.mark.parametrize(
    ("fit", "right"),
    [
        (byte_graph_flows("graphs", contrast=False, steps=20, batch=12), 0.7),
        (per_packet("bag", bag, lambda t: torch.from_numpy(t.astype(np.int64)), steps=150, batch=32, learning_rate=0.1), 0.9),
    ],
)
def test_networks_on_bytes_learn_what_bytes_show(fit: Fit, right: float) -> None:
    test = windows(20, seed=9)
    p = fit(windows(), 1)(test)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-4)
    assert (p.argmax(1) == test.group.numpy()).mean() > right


def test_packet_bert_judges_a_packet_by_its_bytes_alone() -> None:
    network = PacketBert(EtBert(layers=1, width=8, heads=2, inner=8, tokens=64)).eval()
    with torch.no_grad():
        alone, beside = network(tensor([row(b"GET /")])), network(tensor([row(b"GET /"), row(b"x" * 60)]))
    assert beside.shape == (2, 4)
    torch.testing.assert_close(alone[0], beside[0])
    assert not torch.allclose(beside[0], beside[1])


def test_images_tell_masked_bytes_and_padding_from_zero() -> None:
    image = images(np.array([[51, 0, MASK, PAD] + [PAD] * 124], np.uint16))
    assert image.shape == (1, 2, 8, 16)
    torch.testing.assert_close(image[0, :, 0, :4], torch.tensor([[0.2, 0, 0, 0], [1, 1, 0, 0]]))


def test_codes_of_packet_images_come_from_all_packets_but_padding() -> None:
    codes = encoder(windows(), 1, steps=2, batch=4)(windows().tokens)
    assert codes.shape == (30, 32)
    assert np.ptp(codes, axis=0).max() > 0


def test_command_names_a_file_that_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--pairs", "nowhere.parquet"]) == 2
    assert "nowhere.parquet" in capsys.readouterr().err
