"""Suppression: what a rule suppresses, that it is counted, ends, and never hides an attack beside it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from factories import MISSIONS, POLICY, packet
from structlog.testing import capture_logs

from packetclip_sensor.alerts import suppressor as suppressor_module
from packetclip_sensor.alerts.episodes import EpisodeTracker
from packetclip_sensor.alerts.suppression_rules import parse
from packetclip_sensor.alerts.suppressor import Count, Rules, Suppressor, read_counts
from packetclip_sensor.cli.app import main
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.config_file import load
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.model.judge import judge
from packetclip_sensor.model.thresholds import logit
from packetclip_sensor.pipeline import alerts
from packetclip_sensor.records import Batch, Verdict, VerdictBatch
from packetclip_sensor.service.checkpoint import State
from packetclip_sensor.sources import tail, zeek
from packetclip_sensor.windows.cutter import windows

SCAN = Path(__file__).parents[1] / "scans" / "nmap-1000-ports"
SCANNER, VICTIM = "172.29.40.7", "172.29.40.90"
GOOD = "comment: c, expires: never"


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    """The records of a real scan of 1,000 ports."""
    with Rejects(None) as rejects:
        return list(zeek.batches(tail.finite([SCAN], rejects=rejects), rejects, Counters()))


@pytest.fixture(scope="module")
def scan(bundle: Bundle, batches: list[Batch]) -> list[VerdictBatch]:
    """Its verdicts."""
    found = list(judge(windows(batches, bundle.manifest.window, Counters()), bundle, bundle.manifest.thresholds, Counters()))
    assert verdicts(found) > 10
    return found


def verdicts(scan: list[VerdictBatch]) -> int:
    return sum(len(batch.verdicts) for batch in scan)


def suppressor(
    bundle: Bundle, path: Path, text: str, *, counts: Path | None = None, counters: Counters | None = None
) -> Suppressor:
    """One with these rules."""
    path.write_text(text)
    thresholds, margins = bundle.manifest.thresholds, bundle.manifest.margins
    return Suppressor(Rules(path, MISSIONS), bundle, thresholds, margins, counters or Counters(), counts)


def left(
    scan: list[VerdictBatch], bundle: Bundle, path: Path, text: str, *, counts: Path | None = None
) -> tuple[list[Verdict], Suppressor, Counters]:
    """What is left of the scan under these rules."""
    counters = Counters()
    by = suppressor(bundle, path, text, counts=counts, counters=counters)
    kept = [v for batch in scan for v in by(batch).verdicts]
    by.keep()
    return kept, by, counters


@pytest.mark.parametrize(
    "conditions",
    [
        f"source: {SCANNER}",
        f"destination: {VICTIM}",
        f"pair: [{VICTIM}, 172.29.40.0/28]",
        "mission: Reconnaissance",
        "class: Port Scan",
        f"source: 172.29.40.0/24, service: 1-65535/tcp, mission: Reconnaissance, class: Port Scan, destination: {VICTIM}",
    ],
)
def test_what_a_rule_suppresses_opens_no_episode_and_is_counted(
    conditions: str, scan: list[VerdictBatch], bundle: Bundle, tmp_path: Path
) -> None:
    kept, by, counters = left(scan, bundle, tmp_path / "s.yaml", f"- {{{GOOD}, {conditions}}}")
    assert (kept, counters.suppressed) == ([], verdicts(scan))
    assert [c.verdicts for c in by.counts.values()] == [verdicts(scan)]
    assert list(counters.suppressed_by_rule.values()) == [verdicts(scan)]
    track = EpisodeTracker(POLICY, Counters(), sensor="s", model_version="1")
    assert [e for batch in scan for e in track(by(batch)).events] == []


@pytest.mark.parametrize(
    "conditions", ["source: 172.29.40.8", "mission: DoS", "class: OS Scan", "service: 80/tcp", f"destination: {SCANNER}"]
)
def test_what_no_rule_suppresses_stays(conditions: str, scan: list[VerdictBatch], bundle: Bundle, tmp_path: Path) -> None:
    kept, _, counters = left(scan, bundle, tmp_path / "s.yaml", f"- {{{GOOD}, {conditions}}}")
    assert (len(kept), counters.suppressed) == (verdicts(scan), 0)


def test_a_scanner_on_duty_hides_no_attack_that_shares_its_window(
    scan: list[VerdictBatch], bundle: Bundle, tmp_path: Path
) -> None:
    """Half of the packets are put on another host: without the scanner's the window is still a scan."""

    def shared(v: Verdict) -> Verdict:
        half = [msgspec.structs.replace(p, orig_h="203.0.113.66") if i % 4 >= 2 else p for i, p in enumerate(v.packets)]
        return replace(v, packets=tuple(half), sources=(SCANNER, "203.0.113.66"))

    mixed = [replace(j, verdicts=[shared(v) for v in j.verdicts if v.view == "destination"]) for j in scan]
    kept, _, _ = left(mixed, bundle, tmp_path / "s.yaml", f"- {{{GOOD}, source: {SCANNER}}}")
    assert len(kept) >= 0.8 * verdicts(mixed) > 0
    rules = [f"- {{{GOOD}, source: {SCANNER}, class: Port Scan}}", f"- {{{GOOD}, source: 203.0.113.66}}"]
    for both in (rules, rules[::-1]):
        kept, by, _ = left(mixed, bundle, tmp_path / "s.yaml", "\n".join(both))
        assert kept == []
        assert sum(c.verdicts for c in by.counts.values()) == verdicts(mixed)


@pytest.mark.parametrize("mission", MISSIONS.names)
@pytest.mark.parametrize(("odds", "suppressed"), [(-0.5, False), (-1.5, True)])
def test_a_verdict_that_only_came_near_is_held_against_the_near_limit(
    mission: str,
    odds: float,
    suppressed: bool,
    scan: list[VerdictBatch],
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is below its threshold whatever is taken out of it: held against that, any rule that touches it would suppress it."""
    thresholds = dict.fromkeys(MISSIONS.names, 0.9)
    (tmp_path / "s.yaml").write_text(f"- {{{GOOD}, source: {SCANNER}}}")
    by = Suppressor(Rules(tmp_path / "s.yaml", MISSIONS), bundle, thresholds, dict.fromkeys(MISSIONS.names, 1.0), Counters())
    left_over = logit(0.9) + odds
    monkeypatch.setattr(suppressor_module, "log_odds_without", lambda asked, _: [("Port Scan", left_over) for _ in asked])
    near = replace(scan[-2].verdicts[0], mission=mission, weight=0.4, per_second=0)
    assert by.suppresses(near) is suppressed
    if fast := MISSIONS[mission].fast:  # its limit is lower by as much, so what is left must fall by as much more
        left_over -= fast.margin
        assert by.suppresses(replace(near, per_second=fast.per_s)) is suppressed
    assert by.suppresses(replace(near, weight=1.0)) is True


def test_a_rule_that_has_expired_in_event_time_suppresses_nothing_and_is_logged(
    scan: list[VerdictBatch], bundle: Bundle, tmp_path: Path
) -> None:
    seconds = sorted(v.second for j in scan for v in j.verdicts)
    middle = datetime.fromtimestamp(seconds[len(seconds) // 2], UTC)
    text = f"- {{comment: for a while, expires: {middle.isoformat()}, source: {SCANNER}}}"
    with capture_logs() as said:
        kept, _, counters = left(scan, bundle, tmp_path / "s.yaml", text)
    assert {v.second >= middle.timestamp() for v in kept} == {True}
    assert counters.suppressed == sum(s < middle.timestamp() for s in seconds) > 0
    (warning,) = [line for line in said if line["event"] == "suppression_expired"]
    assert (warning["line"], warning["comment"], warning["log_level"]) == (1, "for a while", "warning")


def test_the_file_is_read_again_when_it_changes_and_a_mistake_keeps_the_old_rules(tmp_path: Path) -> None:
    path, now = tmp_path / "s.yaml", [0.0]
    path.write_text(f"- {{{GOOD}, source: 10.0.0.1}}")
    rules = Rules(path, MISSIONS, clock=lambda: now[0])
    path.write_text(f"- {{{GOOD}, source: 10.0.0.1}}\n- {{{GOOD}, source: 10.0.0.2}}")
    assert len(rules.current(0)) == 1  # it is looked at once a second
    now[0] += 1
    assert len(rules.current(0)) == 2
    path.write_text("- {source: 10.0.0.1}")
    now[0] += 1
    with capture_logs() as said:
        assert len(rules.current(0)) == 2
        now[0] += 1
        assert len(rules.current(0)) == 2
    assert [(line["event"], line["reason"][:29]) for line in said] == [("suppressions_refused", "s.yaml:1: lacks a comment; sa")]
    path.unlink()
    now[0] += 1
    with capture_logs() as said:
        assert len(rules.current(0)) == 2
    assert [line["event"] for line in said] == ["suppressions_refused"]


def test_the_file_is_looked_at_also_while_nothing_alarms(bundle: Bundle, tmp_path: Path) -> None:
    by = suppressor(bundle, tmp_path / "s.yaml", "- {comment: soon over, expires: 2026-01-31, mission: DoS}")
    with capture_logs() as said:
        for second in (1_769_903_999, 1_769_904_000):
            by(VerdictBatch([], Batch([], []), second, ()))
    assert [line["event"] for line in said] == ["suppression_expired"]


def test_a_missing_file_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory; make the file"):
        Rules(tmp_path / "none.yaml", MISSIONS)


def test_counts_go_on_over_a_restart(scan: list[VerdictBatch], bundle: Bundle, tmp_path: Path) -> None:
    counts = tmp_path / "suppressed.json"
    for times in (1, 2):
        _, by, _ = left(scan, bundle, tmp_path / "s.yaml", f"- {{{GOOD}, source: {SCANNER}}}", counts=counts)
        (name,) = by.counts
        assert read_counts(counts) == {name: Count(times * verdicts(scan), max(v.second for j in scan for v in j.verdicts))}
    counts.write_text("damaged")
    assert read_counts(counts) == {}
    assert {file.name for file in tmp_path.iterdir()} == {"s.yaml", "suppressed.json"}


def test_the_sensor_takes_the_file_from_its_configuration(batches: list[Batch], bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "suppress.yaml").write_text(f"- {{{GOOD}, source: {SCANNER}}}")
    (tmp_path / "sensor.yaml").write_text("policy: {suppress: suppress.yaml}")
    settings = load(tmp_path / "sensor.yaml")
    counters = Counters()
    assert [a for safe in alerts(batches, bundle, settings, counters, State()) for a in safe.alerts] == []
    assert (counters.suppressed, counters.episodes) == (counters.verdicts, 0)
    assert counters.verdicts > 10


def test_the_command_lists_rules_with_expiry_and_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    config = tmp_path / "sensor.yaml"
    config.write_text("state_dir: .\n")
    assert main(["suppressions", "--config", str(config)]) == 0
    assert "names no file of rules" in capsys.readouterr().out
    config.write_text("state_dir: .\npolicy: {suppress: s.yaml}\n")
    (tmp_path / "s.yaml").write_text(
        f"- {{{GOOD}, source: 10.0.0.1}}\n- {{comment: backup window, expires: 2020-01-31, service: 873/tcp}}"
    )
    name = parse((tmp_path / "s.yaml").read_text(), "s.yaml", MISSIONS)[0].id
    (tmp_path / "suppressed.json").write_text(json.dumps({name: {"verdicts": 1234, "last": 1_760_000_000}}))
    assert main(["suppressions", "--config", str(config)]) == 1
    said = capsys.readouterr().out
    for words in (name, "never", "1,234", "2025-10-09 08:53", "2020-01-31 EXPIRED", "backup window", "1 in force, 1 expired"):
        assert words in said.replace(" rule ", " ")
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["suppressions", "--config", str(config)]) == 1
    narrow = capsys.readouterr().out
    assert max(map(len, narrow.splitlines())) <= 80
    assert all(words in narrow for words in (name, "never", "1,234", "2025-10-09", "08:53", "EXPIRED", "backup window"))
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "s.yaml").write_text("- {}")
    assert main(["suppressions", "--config", str(config)]) == 2
    assert (
        capsys.readouterr().err
        == "packetclip: s.yaml:1: lacks a comment; say why this is harmless and who decided so, for those who come after you\n"
    )


def test_counts_are_kept_each_minute(
    scan: list[VerdictBatch], bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suppressor_module, "KEEP_S", 0.0)
    counts = tmp_path / "counts.json"
    suppressor(bundle, tmp_path / "s.yaml", f"- {{{GOOD}, source: {SCANNER}}}", counts=counts)(scan[0])
    assert counts.is_file()


def test_the_packets_that_are_counted_pass_untouched(bundle: Bundle, tmp_path: Path) -> None:
    judged = VerdictBatch([], Batch([], []), 7, (), np.array([packet()], np.object_), np.array([7]))
    out = suppressor(bundle, tmp_path / "s.yaml", f"- {{{GOOD}, source: {SCANNER}}}")(judged)
    assert (out.judged, len(out.packets), out.seconds.tolist()) == (7, 1, [7])
