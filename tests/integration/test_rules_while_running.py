"""A running sensor takes rules up and lets them go without a restart, and keeps what they silenced."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from packetclip_sensor.alerts.suppressor import read_counts
from packetclip_sensor.cli.app import main
from packetclip_sensor.service import checkpoint

SCAN = Path(__file__).parents[1] / "scans" / "nmap-1000-ports" / "packetclip_packet.log.gz"
RULE = "- {comment: scanner on duty, expires: never, source: 172.29.40.7, mission: Reconnaissance}"


def scan(later_s: int) -> bytes:
    """The recorded scan, so many seconds later."""
    lines = [json.loads(line) for line in gzip.decompress(SCAN.read_bytes()).splitlines()]
    moved = [line | {"ts": line["ts"] + later_s, "uid": f"{line['uid']}{later_s}"} for line in lines]
    return b"".join(json.dumps(line).encode() + b"\n" for line in moved)


def until(ready: Callable[[], object], process: subprocess.Popen[str], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)


def test_rules_come_and_go_while_the_sensor_runs(tmp_path: Path) -> None:
    logs, out, errors = tmp_path / "logs", tmp_path / "alerts.ndjson", tmp_path / "sensor.log"
    logs.mkdir()
    log = logs / "packetclip_packet.log"
    log.write_bytes(scan(0))
    (tmp_path / "suppress.yaml").write_text(RULE)
    config = tmp_path / "sensor.yaml"
    config.write_text(
        "{logs: [logs], state_dir: state, sink: {ndjson: {path: alerts.ndjson}}, policy: {suppress: suppress.yaml}}"
    )

    def judged() -> int:
        return checkpoint.load(tmp_path / "state" / "state.json").judged

    with errors.open("w") as said:
        process = subprocess.Popen([sys.executable, "-m", "packetclip_sensor", "run", "-c", str(config)], stderr=said, text=True)
        try:
            until(lambda: judged() >= 1_795_284_032, process)
            assert not out.exists() or not out.read_text()
            (tmp_path / "suppress.yaml").write_text("- {source: 172.29.40.7}")  # a mistake: the old rule stays
            until(lambda: "suppressions_refused" in errors.read_text(), process)
            (tmp_path / "suppress.yaml").write_text("")
            until(lambda: "rules=0" in errors.read_text() or '"rules": 0' in errors.read_text(), process)
            with log.open("ab") as file:
                file.write(scan(600))
            until(lambda: out.exists() and out.read_text(), process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    (opening, *_) = map(json.loads, out.read_text().splitlines())
    assert (opening["source"]["ip"], opening["packetclip"]["episode"]["state"]) == ("172.29.40.7", "open")
    (count,) = read_counts(tmp_path / "state" / "suppressed.json").values()
    assert 10 < count.verdicts < 100
    (tmp_path / "suppress.yaml").write_text(RULE)
    assert main(["suppressions", "-c", str(config)]) == 0
