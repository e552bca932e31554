"""What training draws and changes by chance, which weights a stage's loss moves, and what a window's embedding is made of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import WINDOW, Words, tiny, windows
from torch.nn import functional as F

from packetclip_sensor.windows import payload
from packetclip_sensor.windows.packet_features import RELATIONS
from packetclip_sensor.windows.tokens import MASK, PAD, ROW_BYTES
from training.data.sampling import augmented, kept_bytes
from training.data.training_set import gather, phrased
from training.fit.fit import contrast_stage, fresh
from training.fit.stages import Stage, TrainingRun, WordsStage
from training.model.packetclip import moments

CPU = torch.device("cpu")


def training_run(*overrides: str) -> TrainingRun:
    """What stages learn from, with a model of fresh weights."""
    experiment, encode = tiny(*overrides), Words()
    model, _ = fresh(experiment, encode, WINDOW)
    data = gather(windows(), encode, packets=None, each=2, seed=experiment.seed, with_bytes=True, device=CPU)
    return TrainingRun(model, experiment, data)


def learned(stage: Stage, steps: int) -> list[float]:
    """The losses of some steps."""
    losses = []
    for _ in range(steps):
        loss = stage.loss()
        stage.optimiser.zero_grad()
        loss.backward()
        stage.optimiser.step()
        losses.append(loss.item())
    return losses


def row(proto: int, rest: bytes) -> np.ndarray:
    """The tokens of an IPv4 packet, ids, checksum and addresses masked."""
    data = bytes((0x45, 0, 0, 20 + len(rest), 0, 0, 0, 0, 64, proto, 0, 0)) + bytes(8) + rest
    out = np.full(ROW_BYTES, PAD, np.uint16)
    out[: len(data)] = list(data)
    out[[4, 5, 10, 11, *range(12, 20)]] = MASK
    return out


def tcp(flags: int, payload: bytes = b"") -> bytes:
    return bytes(12) + bytes((0x50, flags, 0, 0, 0, 0, 0, 0)) + payload


SYN, SSH, HTTP = row(6, tcp(2)), row(6, tcp(24, b"SSH-2.0-x\r\n")), row(6, tcp(24, b"GET / HTTP/1.1\r\n"))


def test_rows_that_say_the_same_share_a_phrase() -> None:
    phrases, number = phrased(np.stack([SYN, SSH, HTTP, SYN, SSH]))
    assert len(phrases) == 3
    assert [phrases[i] for i in number] == [phrases[i] for i in (number[0], number[1], number[2], number[0], number[1])]
    readable = bytes((0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6)) + bytes(10) + tcp(2)  # masked bytes read as zero, padding is not there
    assert phrases[number[0]] == payload.words(readable)
    assert "SSH" in phrases[number[1]]


def test_the_words_stage_learns_which_packet_says_what() -> None:
    few = training_run("words.schedule=constant", "words.learning_rate=0.01", "words.batch=32", "model.width=16", "model.patch=8")
    rows = np.stack([SYN, SSH, HTTP])
    phrases, number = phrased(rows)
    tokens = torch.from_numpy(rows.astype(np.int16))
    data = replace(few.data, tokens=tokens, phrases=Words()(phrases), phrase_of=torch.from_numpy(number))
    losses = learned(WordsStage(replace(few, data=data)), 60)
    assert losses[0] > 1
    assert np.mean(losses[-5:]) < 0.2
    with torch.no_grad():
        nearest = (few.model.encode(tokens.long()) @ few.model.encode_text(data.phrases).T).argmax(1)
    assert nearest.tolist() == number.tolist()
    assert torch.allclose(few.model.encode(tokens.long()).norm(dim=1), torch.ones(len(tokens)))


def test_a_phrase_is_drawn_by_the_root_of_how_often_it_is_said() -> None:
    few = training_run()
    few = replace(few, data=replace(few.data, phrase_of=torch.tensor([0, 0, 0, 0, 1])))
    assert WordsStage(few).upto.tolist() == [0.5, 1.0, 1.5, 2.0, 3.0]


def column(name: str) -> int:
    return RELATIONS.index(name)


def test_chance_shifts_times_by_one_pace_and_sizes_by_one_scale_and_nothing_else() -> None:
    relations = torch.zeros(1, 3, len(RELATIONS))
    values = {
        "log_gap": 0.5, "history_log_gap": 0.25, "log_age": 0.5, "history_log_age": 0.25, "history_log_duration": 0.125,
        "log_size": 0.75, "log_payload": 0.5, "syn": 1.0, "is_orig": -1.0, "log_n": 0.25, "history_log_n": 0.5,
        "history_log_gap_spread": 0.125,
    }  # fmt: skip
    for name, value in values.items():
        relations[0, 1, column(name)] = value
    padding = torch.tensor([[True, False, False]])
    found = augmented(relations, padding, torch.Generator().manual_seed(5), time=1.0, size=1.0, drop=0.0, noise=0.0)
    moved = {RELATIONS[i]: float(found[0, 1, i] - relations[0, 1, i]) for i in range(len(RELATIONS)) if found[0, 1, i]}
    assert set(moved) == set(values)
    pace, scale = 8 * moved["log_gap"], 8 * moved["log_size"]
    assert abs(pace) > 0.01
    assert abs(scale) > 0.01
    assert abs(pace - scale) > 0.01
    expected = dict.fromkeys(values, 0.0) | {
        "log_gap": pace / 8, "history_log_gap": pace / 8, "log_age": pace / 5, "history_log_age": pace / 5,
        "history_log_duration": pace / 5, "log_size": scale / 8, "log_payload": scale / 8,
    }  # fmt: skip
    assert moved == pytest.approx(expected, abs=1e-6)
    assert (found[0, [0, 2]] == 0).all()  # padding, and a packet all of whose relations are zero


def test_a_relation_is_missing_in_the_whole_window_and_noise_spares_padding() -> None:
    ones, none = torch.ones(500, 3, len(RELATIONS)), {"time": 0, "size": 0, "drop": 0, "noise": 0}
    padding = torch.zeros(500, 3, dtype=torch.bool)
    padding[:, 0] = True
    found = augmented(ones, padding, torch.Generator().manual_seed(1), **(none | {"drop": 0.25}))
    assert set(found[:, 1:].unique().tolist()) == {0.0, 1.0}
    assert torch.equal(found[:, 1], found[:, 2])
    assert float(found[:, 1].mean()) == pytest.approx(0.75, abs=0.02)
    noisy = augmented(0 * ones, padding, torch.Generator().manual_seed(1), **(none | {"noise": 0.1}))
    assert float(noisy[:, 1:].std()) == pytest.approx(0.1, abs=0.002)
    assert torch.equal(augmented(ones * ~padding[:, :, None], padding, torch.Generator(), **none), ones * ~padding[:, :, None])
    assert not noisy[:, 0].any()


def test_bytes_are_unseen_in_whole_windows_or_in_single_packets() -> None:
    def kept(windows: float, packets: float) -> torch.Tensor:
        return kept_bytes(torch.Size((2000, 5)), windows, packets, torch.Generator().manual_seed(1))

    assert kept(0, 0).shape == (2000, 5, 1)
    assert kept(0, 0).all()
    assert not kept(1, 0).any()
    whole, single = kept(0.5, 0)[:, :, 0], kept(0, 0.25)[:, :, 0]
    assert set(whole.sum(1).tolist()) == {0.0, 5.0}
    assert float(whole.mean()) == pytest.approx(0.5, abs=0.05)
    assert float(single.mean()) == pytest.approx(0.75, abs=0.02)
    assert set(single.sum(1).tolist()) >= {2.0, 3.0, 4.0, 5.0}


def test_moments_are_mean_and_standard_deviation_of_packets_that_are_there() -> None:
    x = torch.tensor([[[99.0, 99.0], [1.0, 10.0], [3.0, 20.0]], [[7.0, 7.0], [7.0, 7.0], [7.0, 7.0]]])
    mean, spread = moments(x, torch.tensor([[True, False, False], [True, True, True]]))
    assert mean.tolist() == [[[2.0, 15.0]], [[0.0, 0.0]]]
    assert spread.flatten().tolist() == pytest.approx([1.0, 5.0, 0.00316, 0.00316], abs=1e-5)


def test_a_window_is_its_mean_its_spread_and_its_last_packet() -> None:
    model = training_run().model
    x = torch.tensor([[[1.0, 4, 0, 0, 0, 0, 0, 0], [3.0, 4, 0, 0, 2, 0, 0, 0]]])
    padding = torch.zeros(1, 2, dtype=torch.bool)
    means = torch.tensor([2.0, 4, 0, 0, 1, 0, 0, 0])
    assert torch.allclose(model.window_embedding(x, padding)[0], F.normalize(means, dim=0))  # at first the mean alone
    parts = (means, torch.tensor([1.0, 0, 0, 0, 1, 0, 0, 0]), torch.tensor([3.0, 4, 0, 0, 2, 0, 0, 0]))
    for at, part in enumerate(parts):
        with torch.no_grad():
            model.window_head.weight.zero_()[:, 8 * at : 8 * at + 8] = torch.eye(8)
        assert torch.allclose(model.window_embedding(x, padding)[0], F.normalize(part, dim=0), atol=0.01)


@pytest.mark.parametrize(
    ("settings", "packet_head", "encoder"),
    [
        (("contrast.packet_weight=0",), False, False),
        (("contrast.packet_weight=0.3",), True, False),
        (("contrast.packet_weight=0", "contrast.train_encoder=true", "model.byte_dropout=0"), True, True),
    ],
)
def test_windows_do_not_move_packets_where_the_encoder_is_frozen(
    settings: tuple[str, ...], packet_head: bool, encoder: bool
) -> None:
    few = training_run("contrast.learning_rate=0.01", *settings)
    before = {name: value.clone() for name, value in few.model.state_dict().items()}
    learned(contrast_stage(few, None), 2)
    after = few.model.state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert ("packet_head" in moved, "packet_encoder" in moved) == (packet_head, encoder)
    assert {"window_head", "text_head", "sensor"} <= moved


@pytest.mark.parametrize(("setting", "packets"), [("contrast.train_encoder=false", WINDOW), ("contrast.train_encoder=true", 3)])
def test_a_frozen_encoder_sees_all_packets_of_a_window(setting: str, packets: int, monkeypatch: pytest.MonkeyPatch) -> None:
    few, seen = training_run(setting), []
    real = few.model.pooled
    monkeypatch.setattr(few.model, "pooled", lambda sensor, padding: (seen.append(padding.shape[1]), real(sensor, padding))[1])
    contrast_stage(few, None).loss()
    assert seen == [packets]
