"""The evaluation: splits, hidden fields, and a small plan end to end, resumed, and reported with what failed or is missing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tiny import SYN, Words, write_windows

from packetclip_sensor.common.resources import resource
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.windows import tokens
from packetclip_sensor.windows.packet_features import RELATIONS
from training.data.windows import GROUP_OF_CLASS, Examples, load
from training.evaluate import __main__ as command
from training.evaluate import captures, occlusion, predictions
from training.evaluate import plan as plans
from training.evaluate.metrics import Spread
from training.evaluate.report import zero_shot
from training.evaluate.report.results import Results, cell
from training.evaluate.runs import execute, schedule, selection
from training.evaluate.runs.sharing import shared_fit
from training.evaluate.runs.store import Store
from training.fit import experiment
from training.fit.fit import fit

CAPTURES = {
    f"{label.lower().replace(' ', '-')}-{i}": label
    for label in ("Benign", "SYN Flood", "Port Scan", "Dictionary Attack")
    for i in range(6)
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan, an experiment of a few steps, and windows of 24 captures and of 4 evading ones."""
    root = tmp_path_factory.mktemp("evaluate")
    write_windows(root / "lab.parquet", CAPTURES)
    write_windows(
        root / "evade.parquet", {"evade-padding-1": "SYN Flood", "evade-slow-1": "Port Scan", "evade-b00-video": "Benign"}
    )
    (root / "tiny.yaml").write_text(
        "name: tiny\nbytes: {steps: 1, batch: 8}\nwords: {steps: 1, batch: 8}\n"
        "contrast: {steps: 3, batch: 16, packets: 2}\nreason: {steps: 4, batch: 16}\n"
        "run: {validate_steps: 2, validate_windows: 2}\n"
    )
    (root / "plan.yaml").write_text(
        f"""
experiment: {root}/tiny.yaml
data:
  lab: {{train: ["{root}/lab.parquet"], test: ["{root}/lab.parquet"]}}
  evade: {{test: ["{root}/evade.parquet"]}}
runs:
  - {{name: ours, train: [lab], test: [lab, evade], seeds: [1, 2]}}
  - {{name: contrast/both heads, train: [lab], test: [lab], overrides: [reason.steps=0]}}
  - {{name: ablation/no graph, train: [lab], test: [lab], overrides: [model.graph=none]}}
  - {{name: unlabelled/SYN Flood, train: [lab], test: [lab], overrides: ["reason.without=[SYN Flood]"]}}
  - {{name: baseline/majority, baseline: majority, train: [lab], test: [lab, evade]}}
  - {{name: baseline/of no name, baseline: of no name, train: [lab], test: [lab]}}
"""
    )
    return root


@pytest.fixture(scope="module")
def ran(folder: Path) -> tuple[plans.Plan, Store]:
    """The plan's runs of the first seed, done in this process with fake texts."""
    plan, store = plans.read(folder / "plan.yaml"), Store(folder / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute.sharing, "text_encoder", lambda *_: Words())
        for task in plans.tasks(plan):
            if task.seed == 1:
                execute.execute(plan, task, store, execute.command(task, folder / "plan.yaml", store.folder))
    return plan, store


def test_captures_are_split_by_class_and_never_shared() -> None:
    classes = {f"{k}{i}": k for k in ("a", "b") for i in range(10)} | {"alone": "c", "one": "d", "two": "d"}
    sides = selection.split(classes, seed=1)
    for k in "ab":
        own = [sides[c] for c in classes if classes[c] == k]
        assert (own.count("test"), own.count("validation"), own.count("train")) == (2, 2, 6)
    assert sides["alone"] == "train"
    assert sorted([sides["one"], sides["two"]]) == ["test", "train"]
    assert selection.split(classes, seed=1) == sides
    assert selection.split(classes, seed=2) != sides


def test_a_smaller_share_is_part_of_a_larger_and_leaves_no_class_out() -> None:
    classes = {f"{k}{i}": k for k in ("a", "b") for i in range(10)}
    third, most = selection.scarce(classes, 0.3, 1), selection.scarce(classes, 0.7, 1)
    assert (len(third), len(most)) == (6, 14)
    assert third < most
    assert {classes[c] for c in selection.scarce(classes, 0.01, 1)} == {"a", "b"}


def packets_of(examples: Examples) -> np.ndarray:
    held = examples.rows >= 0
    return examples.tokens[examples.rows[held].numpy()]


def test_compacted_and_joined_windows_keep_their_packets(folder: Path) -> None:
    one, two = load([folder / "lab.parquet"]), load([folder / "evade.parquet"])
    few = one.take(np.array([3, 100]))
    found = selection.compact(few)
    assert len(found.tokens) < len(one.tokens)
    assert (found.rows >= 0).equal(few.rows >= 0)
    assert (packets_of(found) == packets_of(few)).all()
    both = selection.join([one, two])
    assert (packets_of(both) == np.concatenate([packets_of(one), packets_of(two)])).all()
    assert both.capture[-1] == "evade-b00-video"


@pytest.mark.parametrize(
    ("group", "words", "hidden"),
    [
        ("bytes: hop limit", 5, [8]),
        ("bytes: lengths", 5, [2, 3]),
        ("bytes: TCP flags", 5, [33]),
        ("bytes: TCP window", 5, [34, 35]),
        ("bytes: TCP options", 5, []),
        ("bytes: TCP options", 6, [40, 41, 42, 43]),
        ("bytes: payload", 5, [40, 41, 42, 43]),
    ],
)
def test_a_group_of_fields_is_hidden_and_nothing_else(group: str, words: int, hidden: list[int]) -> None:
    """What follows a TCP header of five words is payload; a sixth word holds options."""
    row = np.full((1, tokens.ROW_BYTES), tokens.PAD, np.uint16)
    row[0, : len(SYN)] = np.frombuffer(SYN, np.uint8)
    row[0, 32] = words << 4
    found = occlusion.hide_bytes(row, group)
    assert np.nonzero(found[0] != row[0])[0].tolist() == hidden
    assert (found[0][hidden] == tokens.MASK).all()


def test_hidden_relations_are_zero(folder: Path) -> None:
    examples = load([folder / "lab.parquet"])
    found = occlusion.hide(examples, "relations: sizes")
    assert float(found.relations[:, :, RELATIONS.index("log_size")].abs().sum()) == 0.0
    assert found.relations[:, :, 0].equal(examples.relations[:, :, 0])


def test_results_say_what_they_were_made_of(ran: tuple[plans.Plan, Store]) -> None:
    plan, store = ran
    result = store.read(plans.tasks(plan)[0])
    assert result is not None
    assert result.error == ""
    assert result.counts["train"]["captures"] == 16
    assert result.counts["lab"]["windows"] == 24
    assert not set(result.split["train"]) & (set(result.split["validation"]) | set(result.split["lab"]))
    assert list(result.data) == [str(plans.files(plan, plans.tasks(plan)[0])["train lab"][0]), *list(result.data)[1:]]
    assert result.command.startswith("python -m training.evaluate one ours --seed 1 --plan ")
    shipped = execute.command(plans.tasks(plan)[0], plans.PLAN, Path("runs/evaluation"))
    assert shipped == "python -m training.evaluate one ours --seed 1 --store runs/evaluation"  # no place on this machine
    assert result.config["reason"]["steps"] == 4
    assert [e["stage"] for e in result.history if "zero_shot_top1" in e][-1] == "reason"


def test_a_setting_that_says_nothing_changes_no_key_and_one_that_asks_for_something_does() -> None:
    plan = plans.read(plans.PLAN)
    ours = plans.task_of(plan, next(run for run in plan.runs if run.name == "ours"), 1)

    def changed(*overrides: str) -> str:
        run = msgspec.structs.replace(ours.run, overrides=[*ours.run.overrides, *overrides])
        return plans.key(msgspec.structs.replace(ours, run=run))

    assert changed() == changed("reason.without=[]") == changed("text.encoder=null") == changed("name=other")
    assert len({changed(), changed("reason.without=[SYN Flood]"), changed("reason.steps=999"), changed("model.bytes=false")}) == 4


def test_a_shared_contrastive_stage_gives_the_model_that_training_it_again_gives(
    ran: tuple[plans.Plan, Store], folder: Path
) -> None:
    plan, store = ran
    assert len(list((store.folder / "stages").glob("*.lock"))) == 1  # of all runs, which differ in the reasoner
    task = plans.tasks(plan)[0]
    parts = selection.select(plan, task)
    chosen = experiment.read(Path(task.experiment), ["seed=1"])
    alone = fit(chosen, parts.train, Words(), validation=parts.validation).predict(parts.validation)
    shared = shared_fit(chosen, parts.train, Words(), parts.validation, folder / "store" / "stages").predict(parts.validation)
    assert alone[0].equal(shared[0])
    assert alone[1].equal(shared[1])


def test_predictions_are_judged_with_the_validation_s_calibration(ran: tuple[plans.Plan, Store]) -> None:
    plan, store = ran
    results = Results(plan, store)
    found = results.predictions(results.of("ours")[0], "lab")
    assert found is not None
    assert found.probabilities.sum(1) == pytest.approx(np.ones(24))
    assert set(found.thresholds) == {"DoS", "Reconnaissance", "Brute Force"}
    assert sorted(set(found.group.tolist())) == [0, 1, 2, 3]
    assert len(found.opening) == int((found.packets >= 20).sum()) == 8
    assert 0 <= zero_shot.zero_shot(found)["macro recall"] <= 1


def test_a_class_left_out_is_lifted_by_a_margin() -> None:
    cosines = np.full((4, 10), 0.1)
    cosines[0, 0], cosines[1, 2], cosines[2, 2], cosines[3, 3] = 0.9, 0.5, 0.6, 0.7  # Benign, twice beside Port Scan, Port Scan
    cosines[:, 3] = [0.1, 0.45, 0.3, 0.7]
    made = predictions.Predictions(
        np.array([0, 3, 2, 3]), np.full(4, 10), np.array(["pair"] * 4), np.array(["a", "b", "c", "d"]), np.full((4, 4), 0.25), {},
        cosines,
    )  # fmt: skip
    assert zero_shot.with_margin(made, "Port Scan", 0.0) == (0.5, 1.0)
    assert zero_shot.with_margin(made, "Port Scan", 0.1) == (1.0, 1.0)
    assert zero_shot.with_margin(made, "Port Scan", 0.35) == (1.0, 0.5)


def test_alarms_go_to_the_most_probable_mission_above_its_own_threshold() -> None:
    made = predictions.Predictions(
        np.array([4, 4, 0]), np.array([20, 20, 20]), np.array(["pair"] * 3), np.array(["a", "b", "c"]),
        np.array([[0.1, 0.5, 0.4, 0.0], [0.1, 0.3, 0.6, 0.0], [0.9, 0.1, 0.0, 0.0]]),
        {"DoS": 0.4, "Reconnaissance": 0.7, "Brute Force": 0.5}, None,
    )  # fmt: skip
    assert made.alarms().tolist() == [1, 0, 0]
    assert made.recall() == 0.5
    assert made.captures_found() == (1, 2)


def test_what_decides_counts_classes_and_captures_alike_at_the_allowed_false_alerts() -> None:
    """Four attack captures of three classes and two benign ones; a window of four packets opens nothing."""
    label = np.array([9, 9, 1, 3, 3, 0, 0])
    group = np.array(GROUP_OF_CLASS)[label]
    probabilities = np.full((7, 4), 0.01)
    probabilities[np.arange(7), group] = [0.9, 0.7, 0.99, 0.5, 0.6, 0.4, 0.9]
    probabilities[5, 1] = 0.65
    made = predictions.Predictions(
        label, np.array([30, 30, 4, 30, 30, 30, 30]), np.array(["pair"] * 7), np.array(["a", "b", "c", "d", "d", "x", "y"]),
        probabilities, {}, None, source=np.array(["s", "t", "s", "t", "t", "s", "t"]), benign_packets=99_999,
    )  # fmt: skip
    share, mean = made.named()
    assert (share.value, mean.value) == (0.5, pytest.approx(1 / 3))  # a and b; d's 0.6 is below x's 0.65, c opens nothing
    share, mean = replace(made, benign_packets=100_000).named()
    assert (share.value, mean.value) == (0.75, pytest.approx(2 / 3))
    assert 0 <= share.low <= share.value <= share.high <= 1
    of_class, recall = made.class_recall()
    assert of_class == {1: 1.0, 3: 1.0, 9: 1.0}
    assert recall.value == 1.0


def test_the_packets_of_benign_captures_stand_beside_their_windows(folder: Path) -> None:
    """What `prepare` writes, and 0 for files of before."""
    held = load([folder / "lab.parquet"])
    assert selection.benign_packets([folder / "lab.parquet"], held) == 0


def test_a_failed_run_is_recorded_and_not_tried_again_unasked(ran: tuple[plans.Plan, Store]) -> None:
    plan, store = ran
    waiting = schedule.missing(plan, plans.tasks(plan), store)
    assert [t.name for t in waiting] == ["ours-2"]
    failed = next(t for t in plans.tasks(plan) if t.run.name == "baseline/of no name")
    result = store.read(failed)
    assert result is not None
    assert "'of no name' is no baseline" in result.error
    again = schedule.missing(plan, plans.tasks(plan), store, retry=True)
    assert [t.name for t in again] == ["baseline-of-no-name-1", "ours-2"] or {t.name for t in again} == {"ours-2", failed.name}


def test_a_run_of_other_settings_or_data_is_missing(ran: tuple[plans.Plan, Store], folder: Path) -> None:
    plan, store = ran
    task = next(t for t in plans.tasks(plan) if t.run.name == "baseline/majority")
    result = store.read(task)
    assert result is not None
    changed = plans.Task(plans.msgspec.structs.replace(task.run, share=0.5), 1, task.experiment)
    assert store.read(changed) is None
    result.data = dict.fromkeys(result.data, "0" * 16)
    other = Store(folder / "other")
    other.write(task, result)
    assert schedule.missing(plan, [task], other) == [task]


def test_a_process_that_dies_leaves_a_failed_result(folder: Path, ran: tuple[plans.Plan, Store]) -> None:
    plan, _ = ran
    task, store, log = plans.tasks(plan)[0], Store(folder / "dead"), folder / "dead.log"
    log.write_text("step 1\nCannot allocate memory\n")
    schedule.died(folder / "plan.yaml", task, store, -9, log)
    found = store.read(task)
    assert found is not None
    assert found.error == "killed by signal 9; last line: Cannot allocate memory"


def test_the_report_shows_figures_what_failed_and_what_is_missing(ran: tuple[plans.Plan, Store], folder: Path) -> None:
    assert command.main(
        ["report", "--plan", str(folder / "plan.yaml"), "--store", str(folder / "store"), "--out", str(folder / "RESULTS.md"),
         "--figures", str(folder / "figures")]
    ) == 0  # fmt: skip
    text = (folder / "RESULTS.md").read_text()
    assert "5 of 7 runs done, 1 failed, 1 missing" in text
    assert re.search(r"\| SYN Flood \| test captures \| [01]\.\d{3} \| missing \| missing \| [01]\.\d{3} \|", text)
    assert "| of no name | failed | failed |" in text
    assert "| `ours` | 2 | **missing** |" in text
    assert "**failed**: 'of no name' is no baseline" in text
    assert "| majority | 0.500 | 0.500 | 0.500 | 0.500 | 0.500 |" in text
    assert "less than one: the recall is that without any false positive" in text
    assert "| padding | 6 |" in text
    assert {p.name for p in (folder / "figures").glob("*.png")} >= {"confusion.png", "calibration.png", "scarcity.png"}


def test_the_report_leaves_out_what_was_not_run(ran: tuple[plans.Plan, Store], folder: Path) -> None:
    where = ["--plan", str(folder / "plan.yaml"), "--store", str(folder / "store"), "--figures", str(folder / "figures")]
    assert command.main(["report", *where, "--out", str(folder / "whole.md")]) == 0
    assert command.main(["report", *where, "--out", str(folder / "done.md"), "--done"]) == 0
    whole, done = ((folder / name).read_text().splitlines() for name in ("whole.md", "done.md"))
    assert "5 of 7 runs done, 1 failed, 1 missing" in "\n".join(done)
    left_out = set(whole) - set(done)
    assert "| `ours` | 2 | **missing** |  |  |  |  |  |" in left_out
    assert all("missing" in line or line.startswith(("|", "#")) or not re.search(r"\d\.\d{3}", line) for line in left_out)
    assert not [line for line in left_out if line.startswith("|") and re.search(r"\| [01]\.\d{3}", line)], "no figure"
    assert "| of no name | failed | failed |" in "\n".join(done)


def test_a_killed_plan_goes_on_with_what_is_missing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real processes: the one run that the store lacks is made, the other is left alone."""
    where = ["--plan", str(folder / "plan.yaml"), "--store", str(folder / "fresh")]
    assert command.main(["run", *where, "--only", "baseline/majority", "--jobs", "1"]) == 0
    first = (folder / "fresh" / "baseline-majority-1.json").read_bytes()
    assert "1 of 1 runs to do" in capsys.readouterr().out
    assert command.main(["run", *where, "--only", "baseline/majority", "--jobs", "1"]) == 0
    assert "0 of 1 runs to do" in capsys.readouterr().out
    assert (folder / "fresh" / "baseline-majority-1.json").read_bytes() == first


def test_alerts_of_labelled_captures_are_counted_by_the_shipped_pipeline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("demo-icmp-fping", "demo-b00-startup-discovery"):
        (tmp_path / name).symlink_to(Path(__file__).parents[2] / "data" / name)
    rows = {row["capture"]: row for row in captures.rows(resource("model/shipped"), tmp_path, use=captures.ANY)}
    assert (rows["demo-icmp-fping"]["label"], rows["demo-icmp-fping"]["classes"]) == ("ICMP Flood", "ICMP Flood")
    assert rows["demo-icmp-fping"]["right"] >= 1
    assert rows["demo-icmp-fping"]["probability"] > 0.5
    assert (rows["demo-b00-startup-discovery"]["label"], rows["demo-b00-startup-discovery"]["right"]) == ("Benign", 0)
    assert captures.main(["--logs", str(tmp_path), "--threshold", "0.000001", "--margin", "0"]) == 0
    assert "1 of 1 attack captures named right" in capsys.readouterr().out


def test_a_plan_that_names_unknown_data_says_so(folder: Path) -> None:
    bad = folder / "bad.yaml"
    bad.write_text("experiment: small\ndata: {}\nruns: [{name: a, train: [lab]}]\n")
    with pytest.raises(ConfigError, match="has no train files of 'lab'"):
        plans.read(bad)


def test_the_shipped_plan_can_be_read_and_its_experiments_exist() -> None:
    plan = plans.read(plans.PLAN)
    assert [run.seeds for run in plan.runs if run.name == "ours"] == [[1, 2, 3]]
    for run in plan.runs:
        if run.train and not run.baseline:
            experiment.read(Path(run.experiment or plan.experiment), [*plan.overrides, *run.overrides, "seed=1"])


def test_cells_give_the_range_of_several_seeds() -> None:
    assert cell(Spread(0.95, 0.94, 0.96, 3)) == "0.950 (0.940–0.960)"
    assert cell(Spread(0.95, 0.95, 0.95, 1)) == "0.950"
    assert cell("missing") == "missing"
