"""Calibration: budgets are counted in alerts, attacks in the logs are shown, the file is for one model only."""

from __future__ import annotations

import json
import shutil
import textwrap
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from factories import MISSIONS, POLICY, T0, packet
from rich.console import Console

from packetclip_sensor.calibrate import threshold_fit
from packetclip_sensor.calibrate.site_logs import Coverage, PacketFilter, SiteLogs, fit, gather
from packetclip_sensor.calibrate.threshold_fit import Candidates, per_day
from packetclip_sensor.cli import tuning
from packetclip_sensor.cli.app import main
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.resources import resource
from packetclip_sensor.config import config_file
from packetclip_sensor.config.settings import Policy
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.evidence.stage import Evidence
from packetclip_sensor.model import calibration_file
from packetclip_sensor.model.bundle import MANIFEST, Bundle, fingerprint
from packetclip_sensor.model.judge import Judge
from packetclip_sensor.model.thresholds import in_force
from packetclip_sensor.normalize.normalizer import normalized
from packetclip_sensor.pairs.labels import Interval, LabelFile, Labels
from packetclip_sensor.records import Batch, Trail, Verdict
from packetclip_sensor.windows.cutter import windows
from packetclip_sensor.windows.packet_features import model_input

FLOOR = {"DoS": 0.6, "Reconnaissance": 0.7, "Brute Force": 0.8}
CEILING = dict.fromkeys(MISSIONS.names, 0.95)
EMPTY = np.zeros((30, 1), np.float32)
DATA = Path(__file__).parents[1] / "data"


def verdict(second: float, probability: float, *, mission: str = "DoS", host: str = "10.0.0.5", stream: int = 60) -> Verdict:
    window = tuple(packet(ts=second + i / 100, orig_h=host) for i in range(12))
    missions = dict.fromkeys(("Benign", *MISSIONS.names), 0.0) | {mission: probability, "Benign": 1 - probability}
    return Verdict(
        int(second), "pair", (host,), ("10.0.0.9",), mission, probability, missions, window, EMPTY, EMPTY,
        stream_packets=stream, connections=3,
    )  # fmt: skip


def fitted(*verdicts: Verdict, allowed: int = 0, most: int = 50_000) -> tuple[dict[str, float], int]:
    """Thresholds and how many alerts open at them."""
    candidates = Candidates(FLOOR, CEILING, most=most)
    for v in verdicts:
        candidates.add(0, v)
    limits = threshold_fit.fit(candidates, POLICY, allowed)
    return limits, len(threshold_fit.opened(candidates.kept, limits, POLICY))


def test_without_a_false_alert_the_thresholds_stay_at_the_floor() -> None:
    assert fitted() == (FLOOR, 0)
    assert fitted(verdict(100, 0.5)) == (FLOOR, 0)


def test_a_threshold_rises_just_above_the_last_window_that_must_be_silent() -> None:
    three = [verdict(1000 * i, p, host=f"10.0.0.{i}") for i, p in enumerate((0.85, 0.8, 0.9), 1)]
    assert fitted(*three, allowed=0) == (FLOOR | {"DoS": 0.900001}, 0)
    assert fitted(*three, allowed=1) == (FLOOR | {"DoS": 0.850001}, 1)
    assert fitted(*three, allowed=3) == (FLOOR, 3)


def test_a_host_that_is_noisy_for_an_hour_is_one_alert_and_not_thousands() -> None:
    hour = [verdict(s, 0.65 + (s % 7) / 100) for s in range(1000, 4600)]
    assert fitted(*hour, allowed=1) == (FLOOR, 1)


def test_a_lone_small_window_opens_nothing_and_so_costs_nothing() -> None:
    assert fitted(verdict(100, 0.9, stream=30)) == (FLOOR, 0)
    assert fitted(verdict(100, 0.9, stream=30), verdict(101, 0.7)) == (FLOOR | {"DoS": 0.700001}, 0)


def test_the_alert_least_above_its_own_floor_goes_first_whatever_its_mission() -> None:
    # In logits above their floors: DoS 0.98, Reconnaissance 0.54.
    limits, alerts = fitted(verdict(100, 0.8), verdict(9000, 0.8, mission="Reconnaissance"), allowed=1)
    assert (limits, alerts) == (FLOOR | {"Reconnaissance": 0.800001}, 1)


def test_what_is_certain_beyond_the_ceiling_stays_and_no_threshold_passes_the_ceiling() -> None:
    limits, alerts = fitted(verdict(100, 0.97), verdict(5000, 0.9499999, host="10.0.0.6"), allowed=0)
    assert (limits, alerts) == (FLOOR | {"DoS": 0.95}, 1)


def test_what_is_certain_takes_its_share_of_the_budget() -> None:
    noise = [verdict(1000 * i, 0.61 + i / 100, host=f"10.0.1.{i}") for i in range(5)]
    assert fitted(verdict(100, 0.97), *noise, allowed=3) == (FLOOR | {"DoS": 0.630001}, 3)


def test_memory_is_bounded_and_no_threshold_falls_to_what_was_let_go() -> None:
    verdicts = [verdict(1000 * i, 0.61 + i / 1000, host=f"10.0.{i // 200}.{i % 200}") for i in range(300)]
    candidates = Candidates(FLOOR, CEILING, most=20)
    for v in verdicts:
        candidates.add(0, v)
    assert len(candidates.kept) <= 40
    assert candidates.seen == 300
    assert all(not p.data for c in candidates.kept for p in c.verdict.packets)
    limits = threshold_fit.fit(candidates, POLICY, 1000)
    assert limits["DoS"] > max(candidates.dropped) > 0.8


def test_where_evidence_decides_its_probability_is_what_a_threshold_is_compared_with() -> None:
    """The window is sure by itself, or not: only its stream's last hour counts."""
    own = {"mission": "Brute Force", "stream": 5}
    sure, unsure = verdict(100, 0.99, **own), verdict(9000, 0.1, host="10.0.0.6", **own)
    decided = [
        replace(sure, trail=Trail(0.9, 0.5, 9, 60, 0.9)),
        replace(unsure, trail=Trail(0.85, 0.1, 9, 60, 0.9)),
        verdict(20000, 0.99, host="10.0.0.7", **own),
    ]

    def opened(at: float) -> list[str]:
        candidates = Candidates(FLOOR, CEILING, evidence=frozenset({"Brute Force"}))
        for v in decided:
            candidates.add(0, v)
        return [e.sources[0] for e in threshold_fit.opened(candidates.kept, FLOOR | {"Brute Force": at}, POLICY)]

    assert opened(0.8) == ["10.0.0.5", "10.0.0.6"]
    assert opened(0.87) == ["10.0.0.5"]
    assert opened(0.91) == []


def test_a_window_of_which_evidence_decided_may_still_be_another_mission_s() -> None:
    both = replace(verdict(100, 0.9), mission="Brute Force", trail=Trail(0.85, 0.1, 9, 60, 0.9))
    candidates = Candidates(FLOOR, CEILING, evidence=frozenset({"Brute Force"}))
    candidates.add(0, both)
    (at_floor,) = (c.verdict for c in candidates.kept)
    assert (at_floor.mission, at_floor.probability, at_floor.trail) == ("DoS", 0.9, None)
    (episode,) = threshold_fit.opened(candidates.kept, FLOOR | {"DoS": 0.92}, POLICY)
    assert episode.mission == "Brute Force"


def test_a_window_of_a_fast_stream_costs_the_budget_as_much_as_a_surer_one() -> None:
    fast = MISSIONS["DoS"].fast
    assert fast is not None
    candidates = Candidates(FLOOR, CEILING, missions=MISSIONS)
    for v in (replace(verdict(100, 0.7), per_second=fast.per_s), verdict(1000, 0.7, host="10.0.0.6")):
        candidates.add(0, v)
    limits = threshold_fit.fit(candidates, POLICY, 1)
    assert [e.sources[0] for e in threshold_fit.opened(candidates.kept, limits, POLICY)] == ["10.0.0.5"]
    assert limits["DoS"] == 0.700001


def test_a_rate_is_told_with_its_poisson_bounds() -> None:
    assert per_day(0, 2.0) == (0.0, 0.0, pytest.approx(1.83, abs=0.02))  # exact: 3.689 / 2
    assert per_day(10, 1.0) == (10.0, pytest.approx(4.80, abs=0.02), pytest.approx(18.39, abs=0.02))  # exact: 4.795, 18.39


def test_an_hour_or_more_without_a_packet_counts_as_an_hour() -> None:
    cover = Coverage()
    cover.begin()
    cover.add([packet(ts=t) for t in (T0, T0 + 100, T0 + 90, T0 + 100_000)])
    cover.add([packet(ts=T0 + 100_010)])
    cover.begin()
    cover.add([packet(ts=T0 + 900_000), packet(ts=T0 + 900_005)])
    assert (cover.seconds, cover.packets, cover.last) == (pytest.approx(100 + 3600 + 10 + 5), 7, T0 + 900_005)


def test_it_is_told_where_a_threshold_would_stand_with_a_rule_for_the_host_that_pushed_it_most(doubtful: Path) -> None:
    found = SiteLogs(Candidates(FLOOR, CEILING))
    found.coverage.add([packet()])
    for i, p in enumerate((0.85, 0.93, 0.9, 0.7), 1):
        found.add_benign(0, "x", verdict(1000 * i, p, host=f"10.0.0.{i}"), None)
    made = fit(found, Bundle.open(doubtful), POLICY, 0.0, paths=[])
    assert made.calibration.thresholds == FLOOR | {"DoS": 0.930001}
    ((mission, (host, limit)),) = made.with_rule.items()
    assert (mission, host.host, limit) == ("DoS", "10.0.0.2", 0.900001)
    assert 'source: "10.0.0.2"\n  mission: "DoS"' in host.rule


def test_hosts_networks_and_times_are_left_out() -> None:
    select = PacketFilter.parse(["10.0.0.5", "2001:db8::/32"], "2025-10-09T08:53:20", "2025-10-09T10:53:21+02:00")
    packets = [
        packet(ts=T0, orig_h="10.0.0.7"),
        packet(ts=T0 + 2, orig_h="10.0.0.7"),
        packet(ts=T0 - 2, orig_h="10.0.0.7"),
        packet(ts=T0, orig_h="10.0.0.7", resp_h="10.0.0.5"),
        packet(ts=T0, orig_h="2001:db8::1"),
        packet(ts=T0, orig_h="fe80::1%eth0"),
    ]
    (batch,) = select([Batch(packets, [])])
    assert [(p.ts, p.orig_h) for p in batch.packets] == [(T0, "10.0.0.7"), (T0, "fe80::1%eth0")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["10.0.0"], None, None), "--exclude '10.0.0' is neither a host nor a network; write 192.0.2.7"),
        (([], "yesterday", None), "--since 'yesterday': no time; write 24h or 7d for so long ago, or 2026-11-21"),
        (([], "2025-10-09", "2025-10-09"), "--since 2025-10-09 is not before --until 2025-10-09"),
    ],
)
def test_a_wrong_selection_is_told(arguments: tuple[list[str], str | None, str | None], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PacketFilter.parse(*arguments)


def test_labelled_attacks_are_kept_apart() -> None:
    labels = Labels(LabelFile("x", [Interval("SYN Flood", ["10.0.0.5"], ["10.0.0.9"], 0, 500)]))
    found = SiteLogs(Candidates(FLOOR, CEILING), mission_of=MISSIONS.of_class)
    assert not found.add_labelled("x", verdict(10, 0.9), labels)
    assert not found.add_labelled("x", verdict(20, 0.7), labels)
    mixed = replace(verdict(30, 0.9), packets=(*verdict(30, 0.9).packets, *verdict(900, 0.9).packets, *verdict(901, 0.9).packets))
    assert not found.add_labelled("x", mixed, labels)
    assert found.add_labelled("x", verdict(1000, 0.05), labels)
    assert found.attacks == {("x", "SYN Flood", 0.0): ("DoS", 0.9)}


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped bundle with thresholds so low that benign traffic alarms."""
    path = Path(shutil.copytree(resource("model/shipped"), tmp_path_factory.mktemp("bundle") / "model"))
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps(manifest | {"thresholds": dict.fromkeys(MISSIONS.names, 0.2), "version": "low"}))
    return path


@pytest.mark.parametrize("name", ["demo-b01-monitoring-rollout", "demo-port-zmap", "demo-syn-trafgen"])
def test_what_is_kept_is_what_judge_gives_at_the_floor(doubtful: Path, name: str) -> None:
    """The same verdicts, and with the fitted thresholds the same alerts, as the stages of the sensor in their order."""
    from packetclip_sensor.alerts.episodes import EpisodeTracker
    from packetclip_sensor.common.rejects import Rejects
    from packetclip_sensor.sources import tail, zeek

    bundle, folder = Bundle.open(doubtful), DATA / name
    found = gather([("b01", [folder], None)], bundle)
    made = fit(found, bundle, POLICY, 86400.0, paths=[folder])

    def told(limits: dict[str, float]) -> list[tuple[str, str]]:
        batches = zeek.batches(tail.finite([folder]), Rejects(None), Counters())
        judge = Judge(bundle, limits, Counters(), evidence=Evidence.of(bundle, Counters(), limits))
        streams = windows(normalized(batches, Counters(), Rejects(None)), bundle.manifest.window, Counters())
        verdicts = map(judge, map(model_input, streams))
        steps = map(EpisodeTracker(POLICY, Counters(), sensor="", model_version=""), verdicts)
        return [(e.episode.mission, e.episode.id) for step in steps for e in step.events if e.state == "open"]

    before = threshold_fit.opened(found.candidates.kept, bundle.manifest.thresholds, POLICY)
    assert [(e.mission, e.id) for e in before] == told(bundle.manifest.thresholds) != []
    assert [(e.mission, e.id) for e in made.alerts] == told(made.calibration.thresholds)
    assert gather([("b01", [folder], None)], bundle).candidates == found.candidates


def saved(path: Path, bundle: Path, **changed: object) -> Path:
    """A calibration file of the doubtful bundle, with keys changed."""
    content = {
        "format": 1,
        "model_version": "low",
        "model_sha256": fingerprint(bundle),
        "made": "2025-10-09",
        "alerts_per_day": 1.0,
        "logs": {"paths": ["x"], "first": "a", "last": "b", "hours": 1.0, "packets": 5, "windows": 2},
        "thresholds": FLOOR,
        "thresholds_before": FLOOR,
        "alerts": {},
        "alerts_before": {},
    }
    path.write_text(yaml.safe_dump(content | changed))
    return path


def test_the_configuration_takes_thresholds_from_the_file_but_for_those_it_sets(doubtful: Path, tmp_path: Path) -> None:
    saved(tmp_path / "calibration.yaml", doubtful)
    policy = Policy(calibration=tmp_path / "calibration.yaml", thresholds={"DoS": 0.9})
    assert in_force(Bundle.open(doubtful), policy)[0] == {"DoS": 0.9, "Reconnaissance": 0.7, "Brute Force": 0.8}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"model_sha256": "0" * 64, "model_version": "7"},
            r"made for model version 7 \(0{12}\.\.\.\), the model in .* is another",
        ),
        ({"format": 2}, "format 2, this sensor reads format 1; make it again: packetclip calibrate"),
        ({"thresholds": {"DoS": 0.9}}, "thresholds are of DoS, the missions are DoS, Reconnaissance, Brute Force"),
        ({"thresholds": {"DoS": 1.9}}, "not a calibration file: .* <= 1.0"),
        ({"thresholdz": {}}, "not a calibration file: .*thresholdz"),
    ],
)
def test_a_file_that_is_unfit_or_for_another_model_is_refused(
    changed: dict[str, object], message: str, doubtful: Path, tmp_path: Path
) -> None:
    path = saved(tmp_path / "calibration.yaml", doubtful, **changed)
    with pytest.raises(ConfigError, match=message):
        calibration_file.load(path, doubtful)


def test_a_file_that_is_missing_or_no_yaml_is_refused(doubtful: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory; make it again"):
        calibration_file.load(tmp_path / "none.yaml", doubtful)
    (tmp_path / "bad.yaml").write_bytes(b"\xff: [")
    with pytest.raises(ConfigError, match="not a calibration file"):
        calibration_file.load(tmp_path / "bad.yaml", doubtful)


def calibrated(*arguments: object) -> int:
    return main(["calibrate", *map(str, arguments)])


def test_the_command_shows_what_changes_and_writes_a_file_that_the_sensor_takes(
    doubtful: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sensor, out = tmp_path / "sensor.yaml", tmp_path / "calibration.yaml"
    sensor.write_text(f"model: '{doubtful}'\npolicy: {{calibration: calibration.yaml}}\n")
    logs = DATA / "demo-b01-monitoring-rollout"
    assert calibrated("--logs", logs, "--config", sensor, "--out", out) == 0
    said = capsys.readouterr().out
    for words in (
        "3,353 packets and 397 windows in 1 folder or capture, 14 seconds of traffic",
        "threshold before",
        "These logs cover only",
        "(95 % confidence). Calibrate again when you have the logs of a week.",
        "These pushed a threshold up and will no longer alert. If one is an attack, leave it out",
        f"calibration: {out}",
    ):
        assert words in said
    assert max(in_force(Bundle.open(doubtful), config_file.load(sensor).policy)[0].values()) > 0.2
    first = out.read_bytes()
    assert calibrated("--logs", logs, "--config", sensor, "--out", out) == 0
    assert out.read_bytes() == first
    sensor.write_text(f"model: '{doubtful}'\npolicy: {{alerts_per_day: 0.5}}\n")
    assert calibrated("--logs", logs, "--config", sensor, "--out", out) == 0
    assert "the budget is 0.5." in capsys.readouterr().out


def test_attacks_that_pass_for_benign_make_no_mission_blind_but_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for path in (DATA / "demo-port-zmap").glob("*.log.gz"):  # without its labels
        shutil.copy(path, folder)
    out = tmp_path / "c.yaml"
    assert calibrated("--logs", folder, "--out", out) == 1
    said = capsys.readouterr().out
    assert "Reconnaissance: the budget does not hold. A threshold above these would miss attacks" in said
    assert "suppress them by a rule and calibrate again with --config" in said
    ceiling = json.loads((resource("model/shipped") / MANIFEST).read_text())["ceilings"]["Reconnaissance"]
    assert yaml.safe_load(out.read_text())["thresholds"]["Reconnaissance"] <= ceiling
    attacker = json.loads((DATA / "demo-port-zmap" / "labels.json").read_text())["intervals"][0]["attacker"][0]
    assert attacker in said
    assert calibrated("--logs", folder, "--out", out, "--exclude", attacker) == 0

    # The rule as it was printed silences it, and the thresholds of all others stay where they were.
    printed = said[said.index("  - comment:") : said.index(f"\n{out} written")]
    (tmp_path / "suppress.yaml").write_text(textwrap.dedent(printed))
    (tmp_path / "sensor.yaml").write_text("policy: {suppress: suppress.yaml}")
    assert calibrated("--logs", folder, "--out", out, "--config", tmp_path / "sensor.yaml") == 0
    made = yaml.safe_load(out.read_text())
    assert made["thresholds"] == made["thresholds_before"]
    assert made["suppressed"] > 0
    assert "windows are suppressed by the rules of policy.suppress" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "2030-01-01"], "no packet to calibrate on; look at --logs, --since, --until and --exclude"),
        (["--out", "/nonexistent/c.yaml"], "its folder does not exist; make it, or name another file by --out"),
        (["--exclude", "office"], "neither a host nor a network"),
    ],
)
def test_a_users_mistake_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrated("--logs", DATA / "demo-b01-monitoring-rollout", *arguments) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1
    assert message in err[0]


def test_a_terminal_of_80_columns_breaks_no_word_of_the_table() -> None:
    thresholds, alerts = dict.fromkeys(MISSIONS.names, 0.97), dict.fromkeys(MISSIONS.names, 12_345)
    made = SimpleNamespace(thresholds=thresholds, thresholds_before=thresholds, alerts=alerts, alerts_before=alerts)
    found = SimpleNamespace(attacks={mission: (mission, 0.96) for mission in MISSIONS.names})
    with (console := Console(width=80)).capture() as printed:
        console.print(tuning._table(made, found))  # type: ignore[arg-type]
    words = set(printed.get().split())
    assert {"threshold", "detected", "labelled", "attacks", "Reconnaissance", "12,345", "0.9700"} <= words
