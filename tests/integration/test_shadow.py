"""A sensor in shadow mode writes the same alerts, marked, and gives Zeek nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from factories import MISSIONS, alert

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config.config_file import load
from packetclip_sensor.pipeline import sink
from packetclip_sensor.records import AlertBatch

SETTINGS = "sink: {{ndjson: {{path: alerts.ndjson}}}}\nzeek_feedback: {{path: verdicts.tsv}}\npolicy: {{shadow: {shadow}}}\n"


@pytest.mark.parametrize("shadow", [False, True])
def test_alerts_are_marked_and_zeek_gets_no_verdict(tmp_path: Path, shadow: bool) -> None:
    (tmp_path / "sensor.yaml").write_text(SETTINGS.format(shadow=str(shadow).lower()))
    config = load(tmp_path / "sensor.yaml")
    assert len(list(sink([AlertBatch([alert()])], config, Counters(), MISSIONS))) == 1
    (written,) = (tmp_path / "alerts.ndjson").read_text().splitlines()
    assert ("tags" in json.loads(written)) is shadow
    assert (tmp_path / "verdicts.tsv").exists() is not shadow
