"""The command line: exit codes, one line for a user's mistake, and each command on small input."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from factories import SENSOR, T0, alert
from scripted_server import ScriptedServer

from packetclip_sensor import __version__, pipeline
from packetclip_sensor.cli.app import main
from packetclip_sensor.service import checkpoint
from packetclip_sensor.sinks.documents import document

SYN = bytes.fromhex("4500003c000040004006b1e60a0000050a0000099c4000500000000000000000a002faf0917000000204")
COMMANDS = (
    "run", "replay", "calibrate", "pairs", "check", "redeliver", "init", "systemd-unit", "zeek-scripts", "report", "explain",
    "suppressions", "hunt", "similar",
)  # fmt: skip


def packet_log(folder: Path, packets: int = 200, *, start: float = T0) -> Path:
    """A log of SYN packets, each from a connection of its own, 1 ms apart."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "packetclip_packet.log").open("w") as file:
        for i in range(packets):
            row = {
                "ts": start + i / 1000, "uid": f"C{i}", "id.orig_h": "10.0.0.5", "id.orig_p": 40000 + i % 20000,
                "id.resp_h": "10.0.0.9", "id.resp_p": 80, "proto": "tcp", "is_orig": True, "n": 1, "len": 60,
                "data": base64.b64encode(SYN).decode(),
            }  # fmt: skip
            file.write(json.dumps(row) + "\n")
    return folder


def told(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    out, err = capsys.readouterr()
    return out.splitlines(), err.splitlines()


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {command} " in out for command in (*COMMANDS, "setup"))
    assert "..." not in out.partition("Commands:")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_lists_its_exit_codes_and_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Exit codes:\n    0  " in out
    assert f"Examples:\n    packetclip {command}" in out


def test_setup_and_what_it_sets_up_have_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["setup"], ["setup", "elasticsearch"]):
        assert main([*command, "--help"]) == 0
        assert "Examples:\n    packetclip setup elasticsearch --config" in capsys.readouterr().out


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert told(capsys)[0] == [f"packetclip {__version__}"]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from packetclip_sensor.cli.app import main; main(['--help']); "
        "print(sorted(set(sys.modules) & {'numpy', 'onnxruntime', 'pyarrow', 'elasticsearch', 'jinja2', 'yaml', 'rich'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "argv",
    [["rn"], ["run"], ["run", "--config"], ["replay"], ["report"], ["replay", "x", "--nope"], ["--config", "x"]],
)
def test_wrong_arguments_are_a_bad_start(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["run", "--config", "none.yaml"], "packetclip: none.yaml: no such file; `packetclip init --out none.yaml` writes one"),
        (["replay", "none"], "packetclip: none does not exist"),
        (["replay", "."], "holds no packetclip_packet.log"),
        (["pairs", "none"], "packetclip: none does not exist"),
        (["pairs", "none", "--label", "Port scan"], "no such class; did you mean Port Scan?"),
        (["report", "none.ndjson"], "packetclip: none.ndjson: cannot be read: No such file or directory"),
        (["report", "alerts.ndjson", "--out", "/nonexistent/x.html"], "cannot be written"),
        (["init", "--out", "/nonexistent/x.yaml"], "/nonexistent/x.yaml: cannot be written: No such file or directory"),
        (["replay", "logs", "--out", "a", "--elasticsearch", "http://x:9"], "exclude each other"),
        (["check", "--config", "bad.yaml"], "bad.yaml:1: logz: no such key; did you mean logs?"),
        (["run", "--config", "empty.yaml"], "logs is empty; name Zeek's log folder"),
        (["redeliver", "--config", "empty.yaml"], "sink is no Elasticsearch"),
        (["replay", "logs", "--config", "nomodel.yaml"], "cannot read manifest.json"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    argv: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    packet_log(tmp_path / "sub" / "logs")
    (tmp_path / "logs").symlink_to(tmp_path / "sub" / "logs")
    if argv[:2] == ["replay", "."]:
        (tmp_path / "bare").mkdir()
        monkeypatch.chdir(tmp_path / "bare")
    Path("bad.yaml").write_text("logz: [a]\n")
    Path("empty.yaml").write_text("")
    Path("nomodel.yaml").write_text("model: nowhere\n")
    Path("alerts.ndjson").write_text(json.dumps(document(alert(), SENSOR)) + "\n")
    assert main(argv) == 2
    _, err = told(capsys)
    assert len(err) == 1
    assert expected in err[0]


def test_redeliver_says_how_many_it_read_and_how_many_were_refused_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ScriptedServer() as server:
        config = tmp_path / "sensor.yaml"
        config.write_text(
            f"state_dir: .\nsink: {{elasticsearch: {{hosts: ['{server.url}'], manage_templates: false}}}}\nlog_level: error\n"
        )
        letter = {"status": 400, "type": "t", "reason": "r", "document": {"a": 1}}
        rows = [letter | {"id": name} for name in "ab"] + [letter | {"id": "c", "stream": "logs-packetclip.flow-default"}]
        (tmp_path / "dead-letters.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
        server.answers = [[201, (400, "still no"), 201]]
        assert main(["redeliver", "--config", str(config)]) == 1
        assert told(capsys)[0] == ["3 documents read, 1 refused again"]
        assert main(["redeliver", "--config", str(config)]) == 0
        assert main(["redeliver", "--config", str(config)]) == 0
        assert told(capsys)[0] == ["1 documents read, 0 refused again", "0 documents read, 0 refused again"]
        assert server.calls == [["a", "b", "c"], ["b"]]
        assert server.streams == [["", "", "logs-packetclip.flow-default"], [""]]
        server.shutdown()
    assert list(tmp_path.glob("dead-letters*")) == []


def test_a_bug_gets_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "replay", broken)
    with pytest.raises(ZeroDivisionError):
        main(["replay", str(packet_log(tmp_path / "logs"))])


def test_init_writes_a_file_that_check_can_read_and_replaces_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sensor.yaml"
    assert main(["init", "--out", str(path)]) == 0
    assert yaml.safe_load(path.read_text())["logs"] == ["/opt/zeek/logs/current"]
    path.write_text("mine")
    assert main(["init", "--out", str(path)]) == 2
    assert path.read_text() == "mine"
    assert main(["init", "--out", str(path), "--force"]) == 0
    assert path.read_text() != "mine"
    capsys.readouterr()
    assert main(["init", "--out", "-"]) == 0
    assert capsys.readouterr().out == path.read_text()


def test_replay_tells_its_totals_and_a_second_one_writes_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    packet_log(tmp_path / "all" / "one")
    packet_log(tmp_path / "all" / "two", 100, start=T0 + 1000)
    assert main(["replay", "all"]) == 0
    out, err = told(capsys)
    assert out[-1].startswith("300 packets and 0 flows in 2 captures: ")
    assert out[-1].endswith(" -> alerts.ndjson")
    assert err == []
    written = Path("alerts.ndjson").read_bytes()
    assert main(["replay", "all"]) == 0
    assert Path("alerts.ndjson").read_bytes() == written


def test_replay_to_standard_output_writes_documents_there_and_the_rest_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["replay", str(packet_log(tmp_path / "logs")), "--out", "-"]) == 0
    out, err = capfdbinary.readouterr()
    assert all(json.loads(line)["packetclip"] for line in out.splitlines())
    assert b"200 packets and 0 flows in 1 capture" in err
    assert not list(tmp_path.glob("*.ndjson"))


def test_replay_takes_sink_and_names_from_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(pipeline, "replay", lambda units, config, **_: seen.append(config) or pipeline.Counters())
    path = tmp_path / "sensor.yaml"
    path.write_text("{sensor_name: edge-1, sink: {elasticsearch: {hosts: ['http://es:9200']}}}")
    logs = str(packet_log(tmp_path / "logs"))
    assert main(["replay", logs, "--config", str(path)]) == 0
    assert main(["replay", logs, "--config", str(path), "--out", str(tmp_path / "a.ndjson")]) == 0
    monkeypatch.setenv("PACKETCLIP_API_KEY", "secret")
    assert main(["replay", logs, "--elasticsearch", "http://other:9200"]) == 0
    assert [config.sensor_name for config in seen[:2]] == ["edge-1", "edge-1"]
    assert seen[0].sink.elasticsearch.hosts == ["http://es:9200"]
    assert (seen[1].sink.elasticsearch, seen[1].sink.ndjson.path) == (None, tmp_path / "a.ndjson")
    assert (seen[2].sink.elasticsearch.hosts, seen[2].sink.elasticsearch.api_key_env) == (
        ["http://other:9200"],
        "PACKETCLIP_API_KEY",
    )


def test_pairs_takes_labels_from_beside_the_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = packet_log(tmp_path / "flood")
    interval = {
        "label": "SYN Flood",
        "tool": "hping3",
        "attacker": ["10.0.0.5"],
        "victim": ["10.0.0.9"],
        "start": T0 - 1,
        "end": T0 + 9,
    }
    (logs / "labels.json").write_text(json.dumps({"capture": "flood", "intervals": [interval]}))
    out = tmp_path / "pairs.parquet"
    assert main(["pairs", str(logs), "--out", str(out)]) == 0
    rows = pq.read_table(out).to_pylist()
    assert {(row["capture"], row["label"], row["tool"]) for row in rows} == {("flood", "SYN Flood", "hping3")}
    assert told(capsys)[0] == [f"{len(rows)} pairs of 200 packets in 1 captures -> {out}"]


def test_zeek_scripts_prints_the_folder_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zeek-scripts"]) == 0
    assert (Path(told(capsys)[0][0]) / "__load__.zeek").is_file()


def test_report_writes_the_page(tmp_path: Path) -> None:
    alerts, page = tmp_path / "alerts.ndjson", tmp_path / "report.html"
    alerts.write_text(json.dumps(document(alert(), SENSOR)) + "\n")
    assert main(["report", str(alerts), "--out", str(page), "--title", "A & B"]) == 0
    assert "<title>A &amp; B</title>" in page.read_text()


def test_explain_finds_an_alert_by_id_in_a_file_a_configuration_and_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("alerts.ndjson").write_text(json.dumps(document(alert(reason="\x1b[31mred"), SENSOR)) + "\n")
    Path("sensor.yaml").write_text("sink: {ndjson: {path: alerts.ndjson}}\n")
    for argv in (["a1"], ["e1", "--from", "alerts.ndjson"], ["a1", "--config", "sensor.yaml"], ["alerts.ndjson"]):
        assert main(["explain", *argv]) == 0
        assert "SYN Flood on 10.0.0.9 from 10.0.0.5" in capsys.readouterr().out
    assert main(["explain", "a1", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["event"]["id"] == "a1"
    assert out.isascii()
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["a9"], "alerts.ndjson: no alert `a9`; near ones: `a1`"),
        (["none.ndjson"], "`none.ndjson`: no such file; give one that replay or run wrote, or an alert's id"),
        (["a1", "--from", "none.ndjson"], "none.ndjson: cannot be read: No such file or directory"),
        (["a1", "--from", "x", "--config", "y"], "exclude each other"),
    ],
)
def test_explain_says_what_is_wrong(
    argv: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("alerts.ndjson").write_text(json.dumps(document(alert(), SENSOR)) + "\n")
    assert main(["explain", *argv]) == 2
    assert expected in capsys.readouterr().err


def test_explain_without_a_place_to_look_says_how_to_name_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["explain", "a1"]) == 2
    assert "give --from FILE or --config FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["report"], "give either a file of alerts or --from-elasticsearch"),
        (["report", "--from-elasticsearch"], "needs --config FILE"),
        (["report", "--from-elasticsearch", "--config", "sensor.yaml"], "sink is no Elasticsearch"),
        (["report", "alerts.ndjson", "--mission", "Dos"], "no such mission; did you mean DoS?"),
        (["report", "alerts.ndjson", "--since", "soon"], "write 24h or 7d"),
        (["report", "alerts.ndjson", "--uid-link", "javascript:{uid}"], "must begin with https:// or http://"),
    ],
)
def test_report_says_what_is_wrong_with_its_arguments(
    argv: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("alerts.ndjson").write_text(json.dumps(document(alert(), SENSOR)) + "\n")
    Path("sensor.yaml").write_text("sink: {ndjson: {path: alerts.ndjson}}\n")
    assert main(argv) == 2
    assert expected in capsys.readouterr().err


def test_check_says_each_part_and_fails_where_one_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packet_log(tmp_path / "logs", start=time.time() - 1)
    path = tmp_path / "sensor.yaml"
    path.write_text("logs: [logs]\n")
    assert main(["check", "--config", str(path)]) == 0
    out, _ = told(capsys)
    assert [line.split()[:2] for line in out] == [["ok", part] for part in ("config", "logs", "state", "model", "sink")]
    (tmp_path / "conn").mkdir()
    (tmp_path / "conn" / "conn.log").write_text("#separator \\x09\n")
    path.write_text("logs: [conn, none]\nmodel: nowhere\nsink: {elasticsearch: {hosts: ['http://127.0.0.1:9']}}\n")
    assert main(["check", "--config", str(path)]) == 1
    wrong = [line for line in told(capsys)[0] if line.startswith("WRONG")]
    assert len(wrong) == 4
    assert "the package is not loaded" in wrong[0]
    assert "does not exist" in wrong[1]
    assert "manifest.json" in wrong[2]
    assert "check address, port and firewall, and that it runs" in wrong[3]


def test_check_looks_askance_at_old_logs_and_refuses_clocks_that_disagree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = packet_log(tmp_path / "logs", start=time.time() + 7500) / "packetclip_packet.log"
    os.utime(logs, (time.time() - 86400 * 3,) * 2)
    path = tmp_path / "sensor.yaml"
    path.write_text("logs: [logs]\n")
    assert main(["check", "--config", str(path)]) == 1
    out = "\n".join(told(capsys)[0])
    assert "look  logs" in out
    assert "last written 3 days ago; is Zeek running" in out
    assert "2 hours in the future; set the clocks by NTP" in out


def test_run_stops_while_it_waits_for_a_server_that_is_not_there(tmp_path: Path) -> None:
    packet_log(tmp_path / "logs")
    path = tmp_path / "sensor.yaml"
    path.write_text("{logs: [logs], sink: {elasticsearch: {hosts: ['http://127.0.0.1:9']}}}\n")
    code = (
        "import sys; from packetclip_sensor.cli import live; from packetclip_sensor.cli.app import main; "
        "live.STOP_S = 0.2; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "run", "--config", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "127.0.0.1:9" in process.stderr.readline()
        process.terminate()
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_follows_until_it_is_told_to_stop(number: signal.Signals, tmp_path: Path) -> None:
    packet_log(tmp_path / "logs")
    path = tmp_path / "sensor.yaml"
    path.write_text("logs: [logs]\n")
    command = [sys.executable, "-m", "packetclip_sensor", "run", "--config", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "state" / "state.json").exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in err
    assert checkpoint.load(tmp_path / "state" / "state.json").version == 1
