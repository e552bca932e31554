"""The systemd unit, what the sensor tells systemd, and the alert rules for Prometheus."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from packetclip_sensor.cli.app import main
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.resources import resource
from packetclip_sensor.config.config_file import parse
from packetclip_sensor.config.settings import Config, HealthConfig
from packetclip_sensor.service import systemd
from packetclip_sensor.service.health import REASONS, Health
from packetclip_sensor.service.health_page import Metrics
from packetclip_sensor.service.monitor import Monitor

RULES = Path(__file__).parents[2] / "mappings" / "prometheus" / "packetclip.rules.yaml"


def config(folder: Path, text: str = "") -> Config:
    return parse(f"logs: [{folder}/logs/current]\nstate_dir: /var/lib/packetclip\n{text}", "sensor.yaml", folder)


def value(unit: str, name: str) -> str:
    found = re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)
    assert len(found) == 1
    return str(found[0])


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    """systemd's end of the notification socket."""
    line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    line.bind(str(tmp_path / "notify"))
    line.settimeout(2.0)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    return line


def test_a_unit_for_a_user_in_group_root_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `useradd --groups "$(stat -c %G FOLDER)"` made it with a Zeek that was built from source."""
    path = tmp_path / "sensor.yaml"
    path.write_text("logs: [logs]\n")

    def unit_for(user: str, *groups: int) -> int:
        monkeypatch.setattr(os, "getgrouplist", lambda name, first: [first, *groups])
        return main(["systemd-unit", "--config", str(path), "--user", user])

    assert unit_for("nobody", 4, 0) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "--user nobody: user nobody is in group root" in said.err
    assert "gpasswd -d nobody root" in said.err
    assert "setfacl -R -m u:nobody:rX,d:u:nobody:rX FOLDER" in said.err
    assert unit_for("nobody", 4) == unit_for("root", 0) == unit_for("no-such-user", 0) == 0


def test_the_unit_has_the_installations_own_paths(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "current").symlink_to(tmp_path / "spool")
    text = systemd.unit(config(tmp_path, "sink: {ndjson: {path: /srv/al erts/a.ndjson}}"), tmp_path / "100%.yaml", "zeekreader")
    assert value(text, "ExecStart") == f"{systemd.program()} run --config {tmp_path}/100%%.yaml"
    assert value(text, "User") == "zeekreader"
    assert value(text, "ReadOnlyPaths") == f"-{tmp_path}/logs/current -{tmp_path}/logs -{tmp_path}/spool"
    assert value(text, "ReadWritePaths") == '"-/srv/al erts"'
    assert "ReadWritePaths=" not in systemd.unit(
        config(tmp_path, "sink: {ndjson: {path: /var/log/packetclip/a.ndjson}}"), tmp_path / "s.yaml", "packetclip"
    )


def test_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sensor.yaml").write_text("logs: [/opt/zeek/logs/current]\nstate_dir: /var/lib/packetclip\n")
    assert main(["systemd-unit", "--config", str(tmp_path / "sensor.yaml"), "--user", "someone"]) == 0
    out = capsys.readouterr().out
    assert "\nUser=someone\n" in out
    assert "\nMemoryMax=1G\n" in out


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
def test_systemd_finds_nothing_wrong_with_it_and_little_exposed(tmp_path: Path) -> None:
    file = tmp_path / "packetclip.service"
    file.write_text(systemd.unit(config(tmp_path), tmp_path / "sensor.yaml", "root"))
    done = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False)
    mine = [line for line in done.stderr.splitlines() if "packetclip" in line and "SYSTEMD_UNIT_PATH" not in line]
    assert mine == []
    file.write_text((resource("systemd") / "packetclip.service").read_text())
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Overall exposure level for packetclip.service: 1." in done.stdout


def test_systemd_hears_that_the_sensor_lives_unless_it_stands_still(heard: socket.socket, tmp_path: Path) -> None:
    at = [0.0]
    health = Health(HealthConfig(), Counters(), state_dir=tmp_path, clock=lambda: at[0])
    monitor = Monitor(health, clock=lambda: at[0])
    health.moved()
    health.lag_s = 1.25
    monitor.look()
    assert heard.recv(1000) == b"WATCHDOG=1\nSTATUS=lag 1.2 s"
    health.waiting("503")
    at[0] = 100.0
    monitor.look()
    assert heard.recv(1000) == b"WATCHDOG=1\nSTATUS=not well: sink_waiting"
    health.waiting(None)
    heard.setblocking(False)
    for second in range(101, 301):  # a second at a time: a longer gap would mean that the sensor itself was paused
        at[0] = float(second)
        monitor.look()
        with contextlib.suppress(BlockingIOError):
            said = heard.recv(1000)
            until = second
    assert said.startswith(b"WATCHDOG=1")
    assert until == 160  # STALLED_S behind the last move


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("", "relative", "/nonexistent/socket"):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        systemd.notify("READY=1")


def test_every_metric_and_reason_in_the_alert_rules_exists(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    registry.register(Metrics(Health(HealthConfig(), Counters(), state_dir=tmp_path)))
    ProcessCollector(registry=registry)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    known = {sample.name for family in families for sample in family.samples} | {"up"}
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) == 11
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        used = set(re.findall(r"\b(?:packetclip|process)_\w+|\bup\b", re.sub(r"\{[^}]*\}", "", rule["expr"])))
        assert used, rule["alert"]
        assert used <= known, rule["alert"]
        assert set(re.findall(r'reason="(\w+)"', rule["expr"])) <= set(REASONS)


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool")
def test_promtool_finds_nothing_wrong_with_the_alert_rules() -> None:
    subprocess.run(["promtool", "check", "rules", str(RULES)], check=True, capture_output=True)
