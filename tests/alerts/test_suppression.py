"""Suppression: what a rule may say, what it suppresses, that it is counted, ends, and never hides an attack beside it."""

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

from packetclip_sensor.alerts import suppression_rules
from packetclip_sensor.alerts import suppressor as suppressor_module
from packetclip_sensor.alerts.episodes import EpisodeTracker
from packetclip_sensor.alerts.suppression_rules import Rule, parse
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
from packetclip_sensor.records import Batch, Packet, Verdict, VerdictBatch
from packetclip_sensor.service.checkpoint import State
from packetclip_sensor.sources import tail, zeek
from packetclip_sensor.windows.windows import windows

SCAN = Path(__file__).parents[1] / "scans" / "nmap-1000-ports"
SCANNER, VICTIM = "172.29.40.7", "172.29.40.90"


def rule(**keys: object) -> Rule:
    (one,) = parse(json.dumps([{"comment": "why", "expires": "never"} | keys]), "suppress.yaml", MISSIONS)
    return one


def matches(by: Rule, of: Packet) -> bool:
    return by.between(of.orig_h, of.resp_h) and by.serves(of)


@pytest.mark.parametrize(
    ("keys", "suppressed"),
    [
        ({"source": "10.0.0.5"}, True),
        ({"source": "10.0.0.9"}, False),
        ({"source": "10.0.0.0/24", "destination": "10.0.0.9"}, True),
        ({"source": ["192.0.2.1", "10.0.0.0/8"]}, True),
        ({"destination": "10.0.0.5"}, False),
        ({"pair": ["10.0.0.9", "10.0.0.5"]}, True),
        ({"pair": ["10.0.0.9", "10.0.0.6"]}, False),
        ({"service": "80/tcp"}, True),
        ({"service": "80/udp"}, False),
        ({"service": ["443/tcp", "79-81/TCP"]}, True),
        ({"service": "icmp"}, False),
        ({"source": "10.0.0.5", "service": "81/tcp"}, False),
        ({"source": "2001:db8::/32"}, False),
    ],
)
def test_hosts_and_services_are_those_of_the_connection(keys: dict[str, object], suppressed: bool) -> None:
    assert matches(rule(**keys), packet()) is suppressed


def test_a_host_that_is_no_address_is_no_host_of_a_rule() -> None:
    assert not matches(rule(source="10.0.0.0/8"), packet(orig_h="10.0.0.5\n"))
    assert matches(rule(source="fe80::/10"), packet(orig_h="fe80::1"))


@pytest.mark.parametrize(
    ("expires", "last"),
    [
        ("2026-12-31", "2026-12-31T23:59:59+00:00"),
        ('"2026-12-31"', "2026-12-31T23:59:59+00:00"),
        ("2026-12-31T18:00:00", "2026-12-31T17:59:59+00:00"),
        ("2026-12-31T18:00+02:00", "2026-12-31T15:59:59+00:00"),
    ],
)
def test_a_date_holds_to_its_end_and_times_are_utc_without_an_offset(expires: str, last: str) -> None:
    (one,) = parse(f"- {{comment: c, mission: DoS, expires: {expires}}}", "f", MISSIONS)
    second = datetime.fromisoformat(last).timestamp()
    assert one.live(second)
    assert not one.live(second + 1)


GOOD = "comment: c, expires: never"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {expires: never, mission: DoS}", "f:1: lacks a comment; say why this is harmless and who decided so"),
        ("- {comment: ' ', expires: never, mission: DoS}", "f:1: lacks a comment"),
        ("- {comment: c, mission: DoS}", "f:1: lacks expires; write a date, for example expires: 2027-06-30, or expires: never"),
        ("- {comment: c, expires: soon, mission: DoS}", "f:1: expires is no date; write 2027-06-30"),
        ("- {comment: c, expires: 2026-02-31, mission: DoS}", "f: not valid YAML: day is out of range"),
        (f"- {{{GOOD}}}", "f:1: has no condition and would suppress everything; add one of source, destination"),
        (f"- {{{GOOD}, sauce: 10.0.0.1}}", "f:1: sauce: no such key; did you mean source?"),
        (f"- {{{GOOD}, source: !!timestamp office}}", "f: not valid YAML: 'NoneType' object has no attribute"),
        (f"- {{{GOOD}, source: !!int ''}}", "f: not valid YAML: string index out of range"),
        (f"- {{{GOOD}, source: []}}", "f:1: source is empty; name something, or take the key out"),
        (f"- {{{GOOD}, source: office}}", "f:1: 'office' is neither a host nor a network; write 192.0.2.7"),
        (f"- {{{GOOD}, source: 10.0.0.5/8}}", "f:1: 10.0.0.5/8 is a host with a network's length; write 10.0.0.0/8 or 10.0.0.5"),
        (f"- {{{GOOD}, source: 0.0.0.0/0}}", "f:1: 0.0.0.0/0 is every host; leave the key out"),
        (f"- {{{GOOD}, source: 10.0.0.1, destination: '::1'}}", "f:1: never matches: no connection has an IPv4 and an IPv6 end"),
        (f"- {{{GOOD}, pair: [10.0.0.1]}}", "f:1: pair has 1 parts; write pair:"),
        (f"- {{{GOOD}, pair: [10.0.0.1, 10.0.0.1]}}", "f:1: never matches: pair names 10.0.0.1/32 twice"),
        (f"- {{{GOOD}, pair: [10.0.0.1, 10.0.0.2], source: 10.0.0.1}}", "f:1: names pair beside source or destination"),
        (f"- {{{GOOD}, service: ssh}}", "f:1: service is 'ssh'; write 443/tcp, 5000-5100/udp or icmp"),
        (f"- {{{GOOD}, service: 0/tcp}}", "f:1: service '0/tcp' never matches; ports go from 1 to 65535"),
        (f"- {{{GOOD}, service: 90-80/tcp}}", "f:1: service '90-80/tcp' never matches"),
        (f"- {{{GOOD}, mission: dos}}", 'f:1: mission is "dos": no such mission; did you mean DoS?'),
        (f"- {{{GOOD}, class: Benign}}", 'f:1: class is "Benign": no such class'),
        (f"- {{{GOOD}, class: Port Scan, mission: DoS}}", "f:1: never matches: Port Scan is of Reconnaissance, not of DoS"),
        (f"- {GOOD}", "f: not valid YAML"),
        ("mission: DoS", "f: holds .* where a list of rules is expected; begin each rule with `- comment: ...`"),
        ("{2027-01-01: DoS}", "f: holds {datetime.date.* where a list of rules is expected"),
        ("- DoS", 'f:1: holds "DoS" where `key: value` lines are expected'),
        (f"- {{{GOOD}, mission: DoS, mission: DoS}}", "f:1: mission stands twice in this rule"),
        (
            f"- {{{GOOD}, source: 10.0.0.0/8}}\n\n- {{comment: d, expires: 2027-01-01, source: 10.1.0.0/16, mission: DoS}}",
            "f:3: suppresses only what line 1 suppresses already, and no longer; take one of the two out",
        ),
        (f"- {{{GOOD}, mission: DoS}}\n- {{{GOOD}, mission: DoS}}", "f:2: suppresses only what line 1 suppresses already"),
        (f"- {{{GOOD}, class: SYN Flood}}\n- {{{GOOD}, mission: DoS}}", "f:1: suppresses only what line 2 suppresses already"),
        (
            f"- {{{GOOD}, source: 10.0.0.1, destination: 10.0.0.2}}\n- {{{GOOD}, pair: [10.0.0.0/8, 10.0.0.1]}}",
            "f:1: suppresses only what line 2 suppresses already",
        ),
        (f"- {{{GOOD}, service: 80/tcp, mission: DoS}}\n- {{{GOOD}, service: 1-1024/tcp}}", "f:1: suppresses only what line 2"),
    ],
)
def test_a_mistake_is_refused_with_its_line_and_the_remedy(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(").replace("[", r"\[")):
        parse(text, "f", MISSIONS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# none yet\n",
        f"- {{{GOOD}, source: 10.0.0.0/8, mission: DoS}}\n- {{{GOOD}, source: 10.1.0.0/16, service: 80/tcp}}",
        f"- {{comment: c, expires: 2026-01-01, source: 10.0.0.0/8}}\n- {{{GOOD}, source: 10.1.0.0/16}}",
        f"- {{{GOOD}, pair: [10.0.0.1, 10.0.0.2]}}\n- {{{GOOD}, source: 10.0.0.1, mission: DoS}}",
        f"- {{{GOOD}, service: icmp}}\n- {{{GOOD}, source: 10.0.0.1}}",
    ],
)
def test_rules_that_only_overlap_stand_side_by_side(text: str) -> None:
    assert len(parse(text, "f", MISSIONS)) == text.count("- {")


def test_a_rule_keeps_its_name_when_it_is_moved_commented_or_prolonged() -> None:
    before, after = (rule(source="10.0.0.5", expires=e, comment=c) for e, c in (("2026-01-01", "a"), ("never", "b")))
    assert before.id == after.id
    assert before.id != rule(source="10.0.0.6").id


def test_a_proposed_rule_is_read_as_it_stands() -> None:
    hosts = {"source": ["fe80::1", "fe80::2"], "destination": []}
    text = suppression_rules.proposed(1_795_264_920.0, "", **hosts, service=[""], mission=["Brute Force"])
    (one,) = parse(text, "f", MISSIONS)
    assert (one.mission, one.words) == ("Brute Force", "source fe80::1 fe80::2, mission Brute Force")
    assert datetime.fromtimestamp(one.expires, UTC) == datetime(2027, 2, 20, tzinfo=UTC)  # to the end of the 90th day


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
    near = replace(scan[-2].verdicts[0], mission=mission, weight=0.4)
    assert by.suppresses(near) is suppressed
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
    name = rule(source="10.0.0.1").id
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


def test_the_rules_of_the_documentation_are_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tuning.md").read_text()
    (example,) = [part.partition("```")[0] for part in page.split("```yaml\n")[1:] if part.startswith("# suppress.yaml")]
    scanner, backup = parse(example, "suppress.yaml", MISSIONS)
    assert (scanner.mission, scanner.words) == ("Reconnaissance", "source 192.0.2.10, mission Reconnaissance")
    assert (len(backup.hosts), len(backup.services)) == (2, 2)
    assert datetime.fromtimestamp(backup.expires, UTC).isoformat() == "2026-12-31T17:00:00+00:00"
