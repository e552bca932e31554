"""Names of files, values of a configuration and lines of logs are shown, and never obeyed by a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
from factories import SENSOR, alert

from packetclip_sensor.cli.app import main
from packetclip_sensor.cli.common import set_up_logs
from packetclip_sensor.common.text import printable, say
from packetclip_sensor.sinks.documents import document

EVIL = "e\x1b]0;owned\x07\x1b[2J\u202e\x9b31m"
SHOWN = r"e\x1b]0;owned\x07\x1b[2J\u202e\x9b31m"
OBEYED = set("\x1b\x07\u202e\x9b\x08\r\x00")
DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a name that a terminal would obey, with a log, an alerts file and configurations in it."""
    folder = tmp_path / EVIL
    shutil.copytree(DATA / "demo-os-nping", folder / EVIL)
    (folder / "tsv" / EVIL).mkdir(parents=True)
    (folder / "tsv" / EVIL / "packetclip_packet.log").write_text("#separator \\x09\n")
    (folder / f"{EVIL}.pcap").write_bytes(b"no capture")
    (folder / "alerts.ndjson").write_text(json.dumps(document(alert(reason=EVIL, title=EVIL), SENSOR)) + "\n")
    (folder / "rules.yaml").write_text(json.dumps([{"comment": EVIL, "expires": "never", "mission": "DoS"}]))
    (folder / "sensor.yaml").write_text(json.dumps({"logs": [EVIL], "state_dir": EVIL, "policy": {"suppress": "rules.yaml"}}))
    (folder / "unknown.yaml").write_text(json.dumps({EVIL: EVIL}))
    (folder / "wrong.yaml").write_text(json.dumps({"logs": EVIL, "sensor_name": EVIL}))
    (folder / "named.yaml").write_text(json.dumps({"sensor_name": EVIL}))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ["replay", EVIL, "--out", f"{EVIL}.ndjson"],
        ["replay", EVIL, "tsv", "--out", f"{EVIL}.ndjson"],
        ["replay", f"{EVIL}.pcap"],
        ["replay", f"nothing {EVIL}"],
        ["replay", f"--{EVIL}"],
        ["replay", EVIL, "--config", f"{EVIL}.yaml"],
        [EVIL],
        ["check", "--config", "sensor.yaml"],
        ["check", "--config", "unknown.yaml"],
        ["check", "--config", "wrong.yaml"],
        ["check", "--config", "named.yaml"],
        ["check", "--config", f"{EVIL}.yaml"],
        ["init", "--out", f"{EVIL}.yaml"],
        ["init", "--out", f"{EVIL}/{EVIL}/no.yaml"],
        ["suppressions", "--config", "sensor.yaml"],
        ["report", "alerts.ndjson", "--out", f"{EVIL}.html"],
        ["report", f"{EVIL}.ndjson"],
        ["explain", EVIL, "--from", "alerts.ndjson"],
        ["explain", "a1", "--from", "alerts.ndjson"],
        ["pairs", EVIL, "--label", "Benign", "--out", f"{EVIL}.parquet"],
        ["pairs", EVIL, "--label", EVIL],
        ["calibrate", "--logs", EVIL, "--out", f"{EVIL}.yaml"],
        ["setup", "elasticsearch", "--config", "sensor.yaml", "--retention", EVIL],
        ["redeliver", "--config", f"./{EVIL}"],
    ],
    ids=lambda command: " ".join(command).replace(EVIL, "EVIL"),
)
def test_no_command_shows_a_name_as_it_is(command: list[str], evil: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(command)
    said = capsys.readouterr()
    assert not OBEYED & set(said.out + said.err)
    assert evil.is_dir()


@pytest.mark.parametrize("terminal", [True, False])
def test_log_lines_show_what_they_quote(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    said.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", said)
    set_up_logs("debug")
    log = structlog.get_logger()
    log.warning("rejected", path=Path(EVIL), line=EVIL, listed=[EVIL], named={EVIL: EVIL}, key=EVIL.encode())
    try:
        raise OSError(EVIL)
    except OSError:
        log.exception("failed")
    plain = re.sub("\x1b\\[\\d*m", "", said.getvalue())  # structlog's own colours
    assert not OBEYED & set(plain)
    assert "Traceback" in plain
    assert len(plain.splitlines()) == 2 or terminal


@pytest.mark.parametrize("name", [EVIL, "two\nlines"])
def test_a_message_stays_one_line_for_a_name_of_two(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_name_that_is_no_text_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"\xff\xfe")
    assert main(["replay", str(tmp_path / name)]) == 2
    assert r"\udcff\udcfe" in capsys.readouterr().err


def test_a_real_terminal_gets_colours_and_no_commands(evil: Path) -> None:
    """As a person sees it: what a table and a bar draw is rich's own, and nothing of it is the name's."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "packetclip_sensor", "replay", EVIL, "--out", "out.ndjson"]
    env = os.environ | {"TERM": "xterm", "PYTHONPATH": str(DATA.parents[1])}
    with subprocess.Popen(command, cwd=evil, stdin=slave, stdout=slave, stderr=slave, env=env) as ran:
        os.close(slave)
        said = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:
                break
            if not part:
                break
            said += part
    os.close(master)
    assert ran.returncode == 0, said
    assert b"\x1b[" in said
    for forbidden in ("\x1b]0;", "\x07", "\x1b[2J\u202e", "\u202e", "\x9b"):
        assert forbidden.encode() not in said
    assert b"owned" in said


def test_lines_of_ours_stay_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"one\n\ttwo {EVIL}")
    assert capsys.readouterr().out == f"one\n    two {SHOWN}\n"
    assert printable("https://user:word@host/x") == "https://***@host/x"
