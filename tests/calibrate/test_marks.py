"""An analyst's verdict on an alert: kept with it, shown, and taken up by calibrate."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from factories import MISSIONS, SENSOR, alert, episode

from packetclip_sensor.alerts import suppression_rules
from packetclip_sensor.calibrate.marks import ANYBODY, Mark
from packetclip_sensor.cli.app import main
from packetclip_sensor.sinks.documents import document
from packetclip_sensor.view import alert_reader

TESTS = Path(__file__).parents[1]
GOLDEN = {one["packetclip"]["episode"]["id"]: one for one in alert_reader.read(TESTS / "golden" / "alerts.ndjson")}
PNSCAN, ZMAP = (
    next(i for i, one in GOLDEN.items() if one["source"]["ip"] == host) for host in ("198.51.100.73", "10.130.199.61")
)
"""Episodes of the golden file: the port scan of demo-port-pnscan, and that of demo-port-zmap."""


@pytest.fixture
def alerts(tmp_path: Path) -> Path:
    return Path(shutil.copy(TESTS / "golden" / "alerts.ndjson", tmp_path))


def marked(*arguments: object) -> int:
    return main(["mark", *map(str, arguments)])


def mark(**of_episode: object) -> Mark:
    return alert_reader.mark_of(document(alert(episode=episode(**of_episode)), SENSOR))


def test_a_mark_stands_beside_the_alerts_and_the_last_one_counts(alerts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert marked(PNSCAN[:6], "--false", "--comment", "on duty \x1b[31m", "--from", alerts) == 0
    assert marked(PNSCAN, "--true", "--from", alerts) == 0
    marks = alert_reader.marks_beside(alerts)
    assert marks.stat().st_mode & 0o777 == 0o640
    assert "\x1b" not in capsys.readouterr().out
    found = {one["packetclip"]["episode"]["id"]: one["packetclip"].get("analyst") for one in alert_reader.read(alerts)}
    assert found[PNSCAN]["verdict"] == "true_positive"
    assert found[ZMAP] is None
    assert main(["explain", PNSCAN, "--from", str(alerts)]) == 0
    assert "true positive, by " in capsys.readouterr().out


def test_of_a_false_alert_the_printed_rule_is_one_that_is_read(alerts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert marked(ZMAP, "--false", "--comment", 'inventory "weekly"', "--from", alerts) == 0
    out = capsys.readouterr().out
    (rule,) = suppression_rules.parse(out.partition("harmless:\n")[2], "suppress.yaml", MISSIONS)
    assert rule.words == "source 10.130.199.61, service 1883/tcp, mission Reconnaissance"
    assert rule.comment == 'inventory "weekly"'


def test_calibrate_keeps_true_alerts_apart_and_says_which_false_ones_would_come_again(
    alerts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("demo-port-pnscan", "demo-port-zmap"):
        (tmp_path / "logs" / name).mkdir(parents=True)
        for log in (TESTS / "data" / name).glob("*.log.gz"):
            shutil.copy(log, tmp_path / "logs" / name)
    marked(PNSCAN, "--true", "--from", alerts)
    marked(ZMAP, "--false", "--from", alerts)
    capsys.readouterr()
    (tmp_path / "sensor.yaml").write_text("sink: {ndjson: {path: alerts.ndjson}}\n")
    asked = ["calibrate", "--logs", str(tmp_path / "logs"), "--out", str(tmp_path / "c.yaml")]
    assert main([*asked, "--config", str(tmp_path / "sensor.yaml")]) == 1
    out = capsys.readouterr().out
    assert "Marked as true: 1, of which 1 are in these logs" in out
    assert "Marked as false: 1, of which 1 would alert again in these logs." in out
    assert "198.51.100.73" not in out  # the scan of demo-port-pnscan pushed no threshold up
    assert out.count('source: "10.130.199.61"') == 2


def test_where_more_hosts_took_part_than_are_named_an_attack_may_be_by_any() -> None:
    assert mark(sources=["10.0.0.5"], source_count=1500, scope="destination").interval().attacker == ANYBODY
    assert mark().interval().attacker == ["10.0.0.5"]


def test_without_an_alert_or_a_verdict_nothing_is_marked(alerts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert marked("nothing", "--true", "--from", alerts) == 2
    assert marked(PNSCAN, "--from", alerts) == 2
    assert "--true" in capsys.readouterr().err
    assert not alert_reader.marks_beside(alerts).exists()
