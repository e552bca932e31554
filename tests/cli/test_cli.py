"""The command line: exit codes, one line for a user's mistake, and each command on small input."""

from __future__ import annotations

import gzip
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
import yaml
from captures import pcap
from factories import SENSOR, T0, alert, packet
from label_logs import write
from scripted_server import ScriptedServer
from snapshot import compare, kept

from packetclip_sensor import __version__, pipeline
from packetclip_sensor.cli.app import app, main
from packetclip_sensor.sinks.documents import document

SYN = bytes.fromhex("4500003c000040004006b1e60a0000050a0000099c4000500000000000000000a002faf0917000000204")
COMMANDS = [name for name in typer.main.get_command(app).commands if name != "setup"] + ["setup elasticsearch"]
DATA = Path(__file__).parents[1] / "data"
MESSAGES = Path(__file__).with_name("messages.txt")


def packet_log(folder: Path, packets: int = 200, *, start: float = T0) -> Path:
    """A log of SYN packets, each from a connection of its own, 1 ms apart."""
    return write(folder, [packet(ts=start + i / 1000, uid=f"C{i}", orig_p=40000 + i, data=SYN) for i in range(packets)])


def told(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    out, err = capsys.readouterr()
    return out.splitlines(), err.splitlines()


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {command.split()[0]} " in out for command in COMMANDS)
    assert "..." not in out.partition("Commands:")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_lists_its_exit_codes_and_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert "Exit codes:\n    0  " in out
    assert f"Examples:\n    packetclip {command}" in out


@pytest.mark.parametrize("command", ["", "setup", *COMMANDS])
def test_help_fits_a_terminal_of_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*command.split(), "--help"]) == 0
    uid_link = "https://kibana.example.org/app/"  # an address is not broken
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80 and uid_link not in line] == []


def test_a_command_too_wide_for_the_terminal_goes_on_as_a_shell_takes_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    main(["hunt", "--help"])
    examples = capsys.readouterr().out.partition("Examples:\n")[2].partition("\n\n")[0]
    words = [shlex.split(line) for line in examples.replace("\\\n", "").splitlines()]
    assert words[0] == ["packetclip", "hunt", "many half-open connections from one host", "--config", "sensor.yaml"]


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert told(capsys)[0] == [f"packetclip {__version__}"]


def test_one_sensor_judges_into_a_file_without_kafka_dask_and_the_libraries_of_other_sinks(tmp_path: Path) -> None:
    """These are not even imported where they are there: Elastic's client alone takes 20 MB, with pyarrow 40."""
    absent = "import runpy, sys; sys.modules.update(dict.fromkeys(('confluent_kafka', 'dask', 'distributed', 'elasticsearch', "
    absent += "'elastic_transport', 'opensearchpy', 'urllib3', 'requests', 'jinja2', 'pyarrow', 'pandas'))); "
    program = [sys.executable, "-c", absent + "runpy.run_module('packetclip_sensor', run_name='__main__')"]
    replay = ["replay", str(Path(__file__).parents[1] / "data" / "demo-icmp-fping"), "--out", str(tmp_path / "alerts.ndjson")]
    done = subprocess.run([*program, *replay], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "alerts.ndjson").read_bytes()


def test_help_loads_nothing_heavy() -> None:
    heavy = {"numpy", "onnxruntime", "pyarrow", "elasticsearch", "torch", "jinja2", "yaml", "rich"}
    code = f"import sys; from packetclip_sensor.cli.app import main; main(['--help']); print(sorted(set(sys.modules) & {heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "argv",
    [["rn"], ["run"], ["run", "--config"], ["replay"], ["report"], ["replay", "x", "--nope"], ["--config", "x"]],
)
def test_wrong_arguments_are_a_bad_start(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands of messages.txt are given."""
    monkeypatch.chdir(tmp_path)
    packet_log(Path("logs"))
    for folder, log, text in (("conn", "conn.log", "{}"), ("tsv", "packetclip_packet.log", "#separator \\x09\n#fields\tts\n")):
        Path(folder).mkdir()
        Path(folder, log).write_text(text)
    Path("bad.yaml").write_text("logz: [a]\n")
    Path("empty.yaml").write_text("")
    Path("nomodel.yaml").write_text("model: nowhere\n")
    Path("sensor.yaml").write_text("sink: {ndjson: {path: alerts.ndjson}}\n")
    Path("alerts.ndjson").write_text(json.dumps(document(alert(), SENSOR)) + "\n")
    return tmp_path


@pytest.mark.parametrize("command", kept(MESSAGES))
def test_a_users_mistake_is_answered_in_one_line_with_the_remedy(
    command: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command of the file. To add one, write its line there and keep its answer (support/snapshot.py)."""
    assert main(shlex.split(command.removeprefix("packetclip "))) == 2
    _, err = told(capsys)
    assert len(err) == 1
    compare(MESSAGES, command, [err[0].replace(str(place), "HERE")])


PCAP = pcap([])
UNREAD: dict[str, tuple[dict[str, bytes], str]] = {
    "a TSV log": (
        {"a/packetclip_packet.log": b"#separator \\x09\n#fields\tts\n"},
        "a/packetclip_packet.log is a TSV log, JSON lines are needed; the PacketCLIP package writes JSON whatever",
    ),
    "an empty log": (
        {"a/packetclip_packet.log": b""},
        "a: the log is empty; did Zeek see any packets, and has it ended or flushed its logs?",
    ),
    "bad lines": (
        {"a/packetclip_packet.log": b"{}\nx\n"},
        "2 lines could not be read, the first in a/packetclip_packet.log, byte 0: Object missing required field `ts`; ",
    ),
    "a killed Zeek's log": (
        {"a/packetclip_packet.log": b'{"ts":1'},
        "1 line could not be read, the first in a/packetclip_packet.log, byte 0: last line is half-written, no newline",
    ),
    "a cut gzip": (
        {"a/packetclip_packet.log.gz": gzip.compress(b"x" * 5000 + b"\n")[:-9]},
        "2 lines could not be read, the first in a/packetclip_packet.log.gz, byte 0: last line is half-written",
    ),
    "a packed log": (
        {"a/packetclip_packet.log.lz4": bytes.fromhex("04224d18") + bytes(9)},
        "a/packetclip_packet.log.lz4 is packed by lz4; unpack it: lz4 -d",
    ),
    "an empty capture": ({"a/x.pcap": PCAP}, "a/x.pcap holds no packet; give another capture"),
    "no capture": ({"a/x.pcap": b""}, "a/x.pcap is called a capture, but does not begin like a pcap or pcapng"),
    "a name that commands a terminal": (
        {"a/\x1b[31m.pcap": b""},
        "a/\\x1b[31m.pcap is called a capture, but does not begin like a pcap or pcapng",
    ),
}


@pytest.mark.parametrize("case", UNREAD)
@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("command", ["replay", "pairs"])
def test_what_cannot_be_read_is_named_at_the_end_ends_nothing_else_and_is_exit_code_1(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    beside: bool,
    case: str,
) -> None:
    """Alone, and beside logs that are read."""
    monkeypatch.chdir(tmp_path)
    zeek = tmp_path / "bin" / "zeek"
    zeek.parent.mkdir()
    zeek.write_text("#!/bin/sh\n")
    zeek.chmod(0o755)
    monkeypatch.setenv("PATH", str(zeek.parent))
    files, words = UNREAD[case]
    for name, data in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(data)
    if beside:
        packet_log(Path("b"))
    assert main([command, "a", *["b"] * beside, "--out", "out"]) == 1
    out, err = told(capsys)
    err = [line for line in err if not line.startswith("captures are read by")]
    assert len(err) == 1
    assert err[0].replace(f"{tmp_path}/", "").startswith(f"packetclip: {words}")
    assert any(f"{200 * beside} packets" in line for line in out)


def test_alerts_of_what_could_be_read_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of logs with a half-written line at the end, as a killed Zeek leaves them, beside logs of another form."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "packetclip_packet.log").write_bytes(b"{}\n")
    (tmp_path / "b").mkdir()
    log = gzip.decompress((DATA / "demo-udp-hping" / "packetclip_packet.log.gz").read_bytes())
    (tmp_path / "b" / "packetclip_packet.log").write_bytes(log[:-9])
    out = tmp_path / "alerts.ndjson"
    assert main(["replay", str(tmp_path), "--out", str(out)]) == 1
    assert len(out.read_text().splitlines()) == 2
    assert told(capsys)[1][0].startswith(
        f"packetclip: 2 lines could not be read, the first in {tmp_path}/a/packetclip_packet.log"
    )


def test_a_capture_beside_the_logs_made_from_it_is_named_and_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    packet_log(Path("logs"))
    (tmp_path / "logs" / "x.pcap").write_bytes(pcap([(T0, b"")]))
    assert main(["replay", "logs"]) == 0
    words = "left out since the logs beside were made from it: logs/x.pcap; give a capture by its own path to judge it again"
    assert told(capsys)[1] == [f"packetclip: {words}"]


def test_captures_without_zeek_are_a_bad_start_and_beside_logs_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for program in ("zeek", "suricata"):
        monkeypatch.setattr(f"packetclip_sensor.sources.pcap.find_{program}", lambda: None)
    Path("a.pcap").write_bytes(PCAP)
    assert main(["replay", "a.pcap"]) == 2
    assert main(["replay", "a.pcap", str(packet_log(Path("logs")))]) == 1
    _, err = told(capsys)
    assert err[0] == err[1]
    assert err[0].startswith("packetclip: a.pcap is a capture, and there is neither Zeek")


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


def test_a_bug_gets_its_traceback_without_escape_sequences_and_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("\x1b]0;owned\x07")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "replay", broken)
    assert main(["replay", str(packet_log(tmp_path / "logs"))]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ZeroDivisionError: \\x1b]0;owned\\x07"


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
    (totals,) = [line for line in out if line.startswith("300 packets and 0 flows in 2 captures: ")]
    assert totals.endswith(" -> alerts.ndjson")
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
    assert told(capsys)[0][1:] == [f"{len(rows)} pairs of 200 packets in 1 capture -> {out}"]


def test_zeek_scripts_prints_the_folder_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zeek-scripts"]) == 0
    assert (Path(told(capsys)[0][0]) / "__load__.zeek").is_file()


def test_suricata_scripts_prints_the_folder_of_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suricata-scripts"]) == 0
    assert (Path(told(capsys)[0][0]) / "packetclip.lua").is_file()


def test_report_writes_the_page(tmp_path: Path) -> None:
    alerts, page = tmp_path / "alerts.ndjson", tmp_path / "report.html"
    alerts.write_text(json.dumps(document(alert(), SENSOR)) + "\n")
    assert main(["report", str(alerts), "--out", str(page), "--title", "A & B"]) == 0
    assert "<title>A &amp; B</title>" in page.read_text()


def test_explain_finds_an_alert_by_id_in_a_file_a_configuration_and_here(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("alerts.ndjson").write_text(json.dumps(document(alert(reason="\x1b[31mred"), SENSOR)) + "\n")
    for argv in (["a1"], ["e1", "--from", "alerts.ndjson"], ["a1", "--config", "sensor.yaml"], ["alerts.ndjson"]):
        assert main(["explain", *argv]) == 0
        assert "SYN Flood on 10.0.0.9 from 10.0.0.5" in capsys.readouterr().out
    assert main(["explain", "a1", "--json"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out)["event"]["id"] == "a1"
    assert out.isascii()
    assert "\x1b" not in out


def test_explain_without_a_place_to_look_says_how_to_name_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["explain", "a1"]) == 2
    assert "give --from FILE or --config FILE" in capsys.readouterr().err
