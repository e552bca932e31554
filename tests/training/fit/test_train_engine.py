"""The training engine on a few made-up windows: resuming bit for bit, full disks, two processes, ablations, what is refused."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from machine import free_port
from tiny import TINY, Words, tiny, windows

from packetclip_sensor.errors import ConfigError
from training.common import DataError
from training.data.sampling import Sampler
from training.data.windows import CLASSES, Examples
from training.fit import checkpoints, distributed, train
from training.fit.engine import Engine, TrainingError
from training.fit.fit import check, fit
from training.fit.losses import suppressed
from training.fit.predictor import Predictor
from training.fit.stages import ContrastStage
from training.model.config import ModelConfig
from training.model.encoders import Whitening
from training.model.graphs import MissionGraph, PlainMission, shuffled
from training.text import knowledge

SUPPORT = Path(__file__).parents[2] / "support"
TINY_ETBERT = [f"model.etbert.{size}" for size in ("layers=1", "width=16", "heads=2", "inner=16", "tokens=16", "positions=20")]


@pytest.fixture(scope="module")
def whole() -> Predictor:
    """A run that nothing disturbed."""
    torch.set_num_threads(1)
    return fit(tiny(), windows(), Words(), validation=windows(1))


def equal(one: Predictor, two: Predictor) -> bool:
    a, b = one.model.state_dict(), two.model.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def killed_at(monkeypatch: pytest.MonkeyPatch, stage: str, step: int, work: Path) -> None:
    """Train into `work` and die before a step."""
    real = Engine._step

    def dying(self, at, *rest):
        if at.name == stage and at.step == step:
            raise KeyboardInterrupt
        return real(self, at, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Engine, "_step", dying)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny(), windows(), Words(), work=work, validation=windows(1))


@pytest.mark.parametrize(
    ("stage", "step", "left"),
    [("bytes", 6, "0-00000004"), ("words", 5, "1-00000004"), ("contrast", 7, "2-00000004"), ("reason", 4, "3-00000004")],
)
def test_a_run_that_was_killed_resumes_to_equal_weights(
    stage: str, step: int, left: str, whole: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_at(monkeypatch, stage, step, tmp_path)
    assert checkpoints.found(tmp_path)[-1].name == f"checkpoint-{left}.pt"
    assert len(checkpoints.found(tmp_path)) <= 2
    resumed = fit(tiny(), windows(), Words(), work=tmp_path, validation=windows(1))
    assert equal(resumed, whole)
    assert resumed.history == whole.history


def test_training_is_the_same_with_and_without_watching_and_another_with_another_seed(whole: Predictor, tmp_path: Path) -> None:
    unseen = fit(tiny("run.validate_steps=0", "run.log_steps=3"), windows(), Words(), work=tmp_path)
    assert equal(unseen, whole)
    assert not equal(fit(tiny("seed=2"), windows(), Words()), whole)
    assert {e["stage"] for e in whole.history} == {"bytes", "words", "contrast", "reason"}
    assert [e["step"] for e in whole.history if "zero_shot_top1" in e] == [4, 8, 4, 8]
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_a_full_disk_leaves_the_last_checkpoint_and_training_goes_on(
    whole: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    killed_at(monkeypatch, "contrast", 5, tmp_path)
    before = {p.name: p.read_bytes() for p in checkpoints.found(tmp_path)}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # files over 20 kB fail as on a full disk
    try:
        done = fit(tiny(), windows(), Words(), work=tmp_path, validation=windows(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert equal(done, whole)
    message = "File too large; training goes on without it, checkpoint-2-00000004.pt is intact and can be resumed"
    assert message in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in checkpoints.found(tmp_path)} == before
    assert not list(tmp_path.glob(".checkpoint*"))
    assert equal(fit(tiny(), windows(), Words(), work=tmp_path, validation=windows(1)), whole)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    whole: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    killed_at(monkeypatch, "contrast", 5, tmp_path)
    newest = checkpoints.found(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    assert equal(fit(tiny(), windows(), Words(), work=tmp_path, validation=windows(1)), whole)
    assert "taking the one before" in capsys.readouterr().err


def test_checkpoints_of_another_run_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_at(monkeypatch, "bytes", 5, tmp_path)
    with pytest.raises(ConfigError, match="checkpoints of another experiment, seed differ"):
        fit(tiny("seed=5"), windows(), Words(), work=tmp_path)
    with pytest.raises(ConfigError, match="checkpoints of other training windows"):
        fit(tiny(), windows(3), Words(), work=tmp_path)
    with pytest.raises(ConfigError, match="holds checkpoints of an earlier run"):
        fit(tiny(), windows(), Words(), work=tmp_path, resume=False)


def test_a_loss_that_is_no_number_stops_with_stage_and_step(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ContrastStage.loss
    monkeypatch.setattr(ContrastStage, "loss", lambda self: real(self) * (float("nan") if self.step == 2 else 1))
    with pytest.raises(TrainingError, match=r"stage contrast, step 3: the loss is nan; lower contrast\.learning_rate"):
        fit(tiny(), windows(), Words())


def _worker(rank: int, port: int, folder: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    made = fit(tiny("contrast.steps=16"), windows(), Words(), work=Path(folder) / "work")
    torch.save(made.model.state_dict(), f"{folder}/{rank}.pt")
    if rank == 0:
        Path(folder, "history.json").write_text(json.dumps(made.history))
    distributed.stop()


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_worker, (free_port(), str(tmp_path)), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(one[k], two[k]) for k in one)
    history = json.loads((tmp_path / "history.json").read_text())
    losses = [e["loss"] for e in history if e["stage"] == "contrast"]
    assert losses[-1] < losses[0]
    assert len(torch.load(checkpoints.found(tmp_path / "work")[-1], weights_only=True)["random"]) == 2


def test_a_step_of_two_processes_under_torchrun_is_one_process_s(tmp_path: Path) -> None:
    """Adam's first step is as large as its rate, however small the gradient is, so that a wrong one shows."""
    made = {}
    for count in (1, 2):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
        subprocess.run(
            [*torchrun, SUPPORT / "one_step.py", tmp_path / f"{count}.pt"], check=True, env=environment, capture_output=True
        )
        made[count] = torch.load(tmp_path / f"{count}.pt", weights_only=True)
    for stage in ("bytes", "words", "contrast", "reason"):
        one, two, none = made[1][stage], made[2][stage], made[1]["none"]
        moved, apart = ({k: (one[k] - other[k]).float().abs() for k in one} for other in (none, two))
        assert sum(float(x.max()) > 5e-4 for x in moved.values()) > 5, stage
        for name in [k for k in apart if k.endswith("key_value.bias")]:
            apart[name] = apart[name].chunk(2)[1]  # what all keys have in common moves no attention: its gradient is rounding
        far = {name: float(x.max()) for name, x in apart.items() if float(x.max()) > 1e-5}
        assert far == {}, stage


def test_prediction_is_the_unfolded_model_and_knows_the_classes_apart() -> None:
    train, test = windows(each=20), windows(1)
    made = fit(tiny("contrast.steps=60", "reason.steps=150", "run.validate_steps=0"), train, Words())
    logits, embeddings = made.predict(test)
    assert (logits.argmax(1) == test.group).float().mean() > 0.7
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(len(test)), atol=1e-5)
    table, padding = made._embeddings(test), test.rows < 0
    sensor = made.model.sensor(table[test.rows.clamp(min=0)] * (~padding)[:, :, None], test.relations)
    assert torch.allclose(made.model.reason(sensor, padding)[0][:, -1], logits, atol=1e-4)


def with_other(examples: Examples, *, tokens: bool = False, relations: bool = False, older: int = 0) -> Examples:
    rows = examples.rows.clone()
    rows[:, :older] = -1
    return Examples(
        255 - np.minimum(examples.tokens, 255) if tokens else examples.tokens,
        rows,
        examples.relations + 1 if relations else examples.relations,
        examples.label, examples.capture, examples.tool, examples.facts, examples.view, examples.source,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "unseen", "seen"),
    [
        ("model.relations=false", {"relations": True}, {"tokens": True}),
        ("model.bytes=false", {"tokens": True}, {"relations": True}),
        ("model.window_packets=2", {"older": 4}, {"older": 5}),
        ("model.graph=none", {}, {"relations": True}),
    ],
)
def test_an_ablated_model_does_not_see_what_it_must_not(setting: str, unseen: dict, seen: dict) -> None:
    test = windows(1)
    made = fit(tiny(setting, "bytes.steps=2", "words.steps=2", "contrast.steps=2", "reason.steps=2"), windows(), Words())
    for whole, other in zip(made.predict(test), made.predict(with_other(test, **unseen)), strict=True):
        assert torch.allclose(whole, other, atol=1e-6)
    assert not torch.allclose(made.predict(test)[0], made.predict(with_other(test, **seen))[0], atol=1e-6)


def test_shuffled_graphs_keep_every_degree_and_lose_their_words() -> None:
    graphs = knowledge.load_all()
    concepts = torch.arange(sum(len(g.words) for g in graphs)).float()[:, None]
    sentences = [torch.full((1, 1), float(i)) for i in range(10)]
    others, moved, events = shuffled(graphs, concepts, sentences, seed=1)
    assert events[0] is sentences[0]
    assert sorted(float(s) for s in events) == list(range(10)) != [float(s) for s in events]
    for graph, other in zip(graphs, others, strict=True):
        assert set(graph.edges) != set(other.edges)
        assert len(set(other.edges)) == len(graph.edges)
        for end in (0, 1):
            assert sorted(e[end] for e in graph.edges) == sorted(e[end] for e in other.edges)
        level = {word: i for i, words in enumerate(graph.levels) for word in words}
        assert all(level[v] == level[u] + 1 for u, v in other.edges)
    assert sorted(moved[:, 0].tolist()) == concepts[:, 0].tolist()
    assert (moved[:, 0] == concepts[:, 0]).float().mean() < 0.2
    assert others == shuffled(graphs, concepts, sentences, seed=1)[0] != shuffled(graphs, concepts, sentences, seed=2)[0]


def test_without_a_graph_the_model_has_about_as_many_parameters() -> None:
    for graph in knowledge.load_all():
        own, plain = (sum(p.numel() for p in kind(graph, ModelConfig()).parameters()) for kind in (MissionGraph, PlainMission))
        assert abs(plain - own) / own < 0.06


@pytest.mark.parametrize(
    ("head", "packet", "text"), [("both", True, True), ("packet", True, False), ("text", False, True), ("none", False, False)]
)
def test_linear_heads_learn_only_where_named(head: str, packet: bool, text: bool, capsys: pytest.CaptureFixture[str]) -> None:
    few = ("bytes.steps=0", "contrast.steps=3", "reason.steps=3", "contrast.train_encoder=false", f"contrast.head={head}")
    made, same = fit(tiny(*few), windows(), Words()), fit(tiny(*few, "contrast.steps=0", "reason.steps=0"), windows(), Words())
    assert torch.equal(made.model.packet_head.weight, same.model.packet_head.weight) != packet
    assert torch.equal(made.model.text_head.weight, same.model.text_head.weight) != text
    assert ("packet head: fixed, raw features of width 8" in capsys.readouterr().out) != packet
    if not text:  # 12 wide features in 8: a projection with orthonormal rows
        assert torch.allclose(made.model.text_head.weight @ made.model.text_head.weight.T, torch.eye(8), atol=1e-5)
    for a, b in zip(made.model.packet_encoder.parameters(), same.model.packet_encoder.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_frozen_etbert_is_read_once_and_its_features_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = ("model.encoder=etbert", "contrast.train_encoder=false", "contrast.loss=paper", "run.validate_steps=0")
    setting = tiny(*few, *TINY_ETBERT)
    made = fit(setting, windows(), Words(), work=tmp_path)
    kept = torch.load(checkpoints.found(tmp_path)[-1], weights_only=True)["model"]
    assert not any(name.startswith("packet_encoder.") for name in kept)
    assert len(list(tmp_path.glob("features-*.npz"))) == 1
    monkeypatch.setattr("training.model.etbert.EtBertEncoder.forward", lambda *_: pytest.fail("encoded again"))
    again = fit(setting, windows(), Words(), work=tmp_path)
    assert equal(made, again)
    assert torch.equal(made.predict(windows())[0], again.predict(windows())[0])


def test_an_etbert_can_be_tuned() -> None:
    few = ("model.encoder=etbert", "contrast.train_encoder=true", "reason.steps=2", *TINY_ETBERT)
    tuned, fresh = (fit(tiny(*few, f"contrast.steps={steps}"), windows(), Words()) for steps in (3, 0))
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(tuned.model.packet_encoder.state_dict()[name], fresh.model.packet_encoder.state_dict()[name])


def test_whitened_features_are_decorrelated() -> None:
    x = torch.randn(500, 4) @ torch.randn(4, 4) + 3
    layer = Whitening(4)
    layer.fit(x, floor=0)
    assert torch.allclose(torch.cov(layer(x).T), torch.eye(4), atol=1e-3)
    assert layer(x).mean(0).abs().max() < 1e-3


def test_a_class_left_out_is_never_drawn_for_contrast() -> None:
    examples = windows()
    looks = np.array(["alike"] * len(examples), dtype=object)
    drawn = examples.label[Sampler(examples, 1, looks, ["SYN Flood"])(200, 0.4)]
    assert set(drawn.tolist()) == {CLASSES.index("Benign"), CLASSES.index("Port Scan")}
    made = fit(tiny("contrast.without=[SYN Flood]", "reason.steps=2"), examples, Words(), validation=windows(1))
    assert all("zero_shot_top1_left_out" in e for e in made.history if "zero_shot_top1" in e)


def test_the_decaying_threshold_takes_unsure_attacks_for_benign() -> None:
    logits = torch.tensor([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0]])
    target = torch.tensor([1, 1, 0])
    assert suppressed(logits, target, 1.0).tolist() == [1, 1, 0]
    assert suppressed(logits, target, 0.5).tolist() == [0, 1, 0]


def test_data_that_cannot_teach_is_named_before_training() -> None:
    examples = windows()
    label = examples.label.numpy()

    def only(keep: np.ndarray) -> Examples:
        return examples.take(np.nonzero(keep)[0])

    with pytest.raises(DataError, match="no benign window"):
        check(only(label > 0), tiny())
    with pytest.raises(DataError, match="no window of an attack"):
        check(only(label == 0), tiny())
    warnings = check(only((label != CLASSES.index("Port Scan")) | (np.arange(len(label)) % 2 == 0)), tiny())
    assert "class Port Scan has one capture: the model may learn the place instead; record it a second time elsewhere" in warnings
    assert any(s.startswith("class UDP Flood has no window") for s in warnings)
    few = check(examples, tiny("data.minimum_windows=13"))
    assert any(s.startswith("class SYN Flood has 12 windows, fewer than 13") for s in few)
    with pytest.raises(DataError, match=r"class UDP Flood has no window.*data\.strict=false"):
        check(examples, tiny("data.strict=true"))
    broken = windows()
    broken.relations[3, 2, 1] = float("nan")
    with pytest.raises(DataError, match="relations that are no numbers"):
        fit(tiny(), broken, Words())


def test_the_command_trains_resumes_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "load", lambda *_: windows())
    monkeypatch.setattr(train, "TextEncoder", lambda *_: Words())
    given = ["--pairs", "any.parquet", *(word for setting in TINY for word in ("--set", setting))]
    work = ["--work", str(tmp_path / "work")]
    assert train.main([*given, *work]) == 0
    first = capsys.readouterr().out
    assert train.main([*given, *work]) == 2
    assert "holds checkpoints of an earlier run; resume it, or name another folder" in capsys.readouterr().err
    assert train.main([*given, *work, "--resume"]) == 0
    again = capsys.readouterr().out

    def measured(printed: str) -> list[str]:
        return [line for line in printed.splitlines() if line.startswith("  auc") or "(nats)" in line]

    assert measured(first) == measured(again) != []
    assert train.main([*given, "--resume"]) == 2
    assert "--resume needs --work" in capsys.readouterr().err
    assert train.main([*given, "--set", "model.graph=none", "--out", str(tmp_path)]) == 2
    assert "a bundle needs model.encoder patch and a graph" in capsys.readouterr().err
