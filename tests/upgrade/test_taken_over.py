"""A sensor of before was killed in an episode; this one goes on from its state, configuration, log and alerts."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from sensor_process import SensorProcess

from packetclip_sensor.cli.app import main
from packetclip_sensor.config.config_file import load
from packetclip_sensor.service import checkpoint

RECORDED = Path(__file__).parent / "recorded"
READ = 1_268_918
"""Bytes of the log that the sensor of before had judged."""


def documents(alerts: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in alerts.read_text().splitlines()]


def state_of(document: dict[str, Any]) -> tuple[str, str]:
    """Episode and state: what must be there once."""
    return document["packetclip"]["episode"]["id"], document["packetclip"]["episode"]["state"]


def log_of_before(folder: Path) -> Path:
    """The whole log, and a packet two minutes later, which closes what is open."""
    log = folder / "logs" / "packetclip_packet.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = gzip.decompress((RECORDED / "packetclip_packet.log.gz").read_bytes())
    later = json.loads(lines.splitlines()[-1])
    later |= {"ts": later["ts"] + 120, "uid": "Clater", "n": 1}
    log.write_bytes(lines + json.dumps(later).encode() + b"\n")
    return log


def test_state_log_configuration_and_alerts_are_taken_over_and_nothing_is_lost_or_twice(tmp_path: Path) -> None:
    sensor = SensorProcess(tmp_path, (RECORDED / "sensor.yaml").read_text())
    log = log_of_before(tmp_path)
    shutil.copy(RECORDED / "alerts.ndjson", tmp_path / "alerts.ndjson")
    found = log.stat()
    text = (RECORDED / "state.json").read_text().replace("FOLDER", str(tmp_path))
    text = re.sub(r'"device":\d+,"inode":\d+', f'"device":{found.st_dev},"inode":{found.st_ino}', text)
    sensor.state.mkdir()
    (sensor.state / "state.json").write_text(text)
    before = checkpoint.load(sensor.state / "state.json")
    assert [episode.mission for episode in before.episodes] == ["DoS"]
    assert 0 < before.positions[0].offset < READ

    last = int(json.loads(log.read_bytes().splitlines()[-1])["ts"])
    with sensor:
        sensor.until(lambda: sensor.judged() >= last)
        sensor.stop()
    written = documents(tmp_path / "alerts.ndjson")
    assert Counter(map(state_of, written)).most_common(1)[0][1] == 1
    assert written[:3] == documents(RECORDED / "alerts.ndjson")

    again = tmp_path / "again"
    log_of_before(again)
    replayed = again / "alerts.ndjson"
    assert main(["replay", str(again / "logs"), "--config", str(sensor.config), "--out", str(replayed)]) == 0
    assert Counter(map(state_of, written)) == Counter(map(state_of, documents(replayed)))


def test_old_names_in_the_configuration_still_mean_what_they_meant() -> None:
    policy = load(RECORDED / "sensor.yaml").policy
    assert policy.margins == {"Brute Force": 0.5}
    assert policy.least["dos"].packets == 60
    assert policy.least["brute_force"].connections == 3
