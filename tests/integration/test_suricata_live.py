"""Real tools on an interface, a Suricata that captures there, a sensor, and the alert in a real Elasticsearch."""

from __future__ import annotations

import pytest
from machine import unavailable
from suricata_run import suricata_of

from benchmarks.common import following
from benchmarks.suricata_live import ATTACKS, attacked, captured, hosts, lacking


@pytest.mark.parametrize("major", [7, 8])
def test_a_scan_and_guessed_passwords_are_told_while_they_go_on(major: int, elasticsearch_url: str) -> None:
    """How soon is what `python -m benchmarks.suricata_live` measures: a bound would fail on a busy machine."""
    suricata = suricata_of(major)
    if reason := lacking():
        unavailable(reason)
    with following(elasticsearch_url) as sensor, captured(suricata, sensor.logs) as inside:
        for run, mission in enumerate(ATTACKS, 1):
            found = attacked(mission, run, inside, sensor).document
            assert (found["source"]["ip"], found["destination"]["ip"]) == hosts(run)
            assert found["observer"]["product"] == "Suricata"
            assert found["suricata"]["eve"]["flow_id"]
            assert "zeek" not in found
