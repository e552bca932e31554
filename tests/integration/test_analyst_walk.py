"""The walk of an analyst, by what the commands print and nothing else: table, sentence, evidence, Zeek's logs, rule, quiet."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from machine import unavailable

from packetclip_sensor.cli.app import main
from packetclip_sensor.common.resources import resource
from packetclip_sensor.sources.pcap import find_zeek
from packetclip_sensor.view import alert_reader
from packetclip_sensor.view.next_steps.capture import capture
from packetclip_sensor.view.next_steps.queries import steps

TESTS = Path(__file__).parents[1]
CAPTURE = TESTS / "data" / "demo-dict-patator-ftp" / "capture.pcap.gz"
"""Guessing of FTP passwords."""
ALERTS = "my alerts.ndjson"


@dataclass
class Walk:
    folder: Path
    table: str
    """What `replay` printed."""
    explained: str
    """What the command behind its "Next:" printed."""

    def step(self, title: str) -> str:
        """What stands to be copied below a title."""
        (found,) = re.findall(rf"^{title}.*\n((?:.+\n)+)", self.explained, re.MULTILINE)
        return str(found)


@pytest.fixture
def walk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Walk:
    """All of Zeek's logs of a capture, its alerts, and one explained."""
    if (zeek := find_zeek()) is None:
        pytest.skip("no zeek on PATH or in /opt/zeek/bin; install Zeek 7.0 or newer to run its tests")
    monkeypatch.chdir(tmp_path)
    Path("logs").mkdir()
    command = [str(zeek), "-C", "-D", "-r", "-", str(resource("zeek_scripts").absolute())]
    subprocess.run(command, input=gzip.decompress(CAPTURE.read_bytes()), cwd="logs", check=True, stderr=subprocess.DEVNULL)
    assert main(["replay", "logs", "--out", ALERTS]) == 0
    table = capsys.readouterr().out
    (following,) = re.findall(r"^Next: packetclip (explain .*)\n +packetclip report", table, re.MULTILINE)
    assert main([*shlex.split(following), "--pcap", "evidence.pcapng"]) == 0
    return Walk(tmp_path, table, capsys.readouterr().out)


@pytest.mark.elasticsearch
def test_the_walk_begins_at_the_dashboard(
    walk: Walk, elasticsearch_url: str, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What dashboard and saved search ask finds the alert; its id leads to the same words, evidence and next steps."""
    sink = f"sink: {{elasticsearch: {{hosts: ['{elasticsearch_url}']}}}}\nnamespace: {namespace}\n"
    Path("cluster.yaml").write_text(sink)
    assert main(["replay", "logs", "--config", "cluster.yaml"]) == 0
    lines = (TESTS.parent / "mappings" / "kibana" / "packetclip.ndjson").read_text().splitlines()
    made = {one["id"]: one["attributes"] for one in map(json.loads, lines) if "attributes" in one}
    search = made["packetclip-high-severity"]
    asked = [
        json.loads(made[name]["kibanaSavedObjectMeta"]["searchSourceJSON"])
        for name in ("packetclip-overview", "packetclip-high-severity")
    ]
    query = {"bool": {"filter": [asked[0]["filter"][0]["query"], {"kql": {"query": asked[1]["query"]["query"]}}]}}
    index = made["packetclip-alerts"]["title"].replace("*", namespace)
    with Elasticsearch(elasticsearch_url) as client:
        client.indices.refresh(index=index)
        sort = [{field: order} for field, order in search["sort"]]
        hits = client.search(index=index, query=query, sort=sort, fields=search["columns"])["hits"]["hits"]
    (episode,) = {hit["fields"]["packetclip.episode.id"][0] for hit in hits}
    assert set(hits[0]["fields"]) == set(search["columns"])
    assert "172.25.134.222 sent 50 TCP packets" in hits[0]["fields"]["event.reason"][0]

    capsys.readouterr()
    assert main(["explain", episode, "--config", "cluster.yaml", "--pcap", "from-cluster.pcapng"]) == 0
    explained = Walk(walk.folder, "", capsys.readouterr().out)
    assert hits[0]["fields"]["event.reason"][0] in " ".join(explained.explained.split())
    assert Path("from-cluster.pcapng").read_bytes() == Path("evidence.pcapng").read_bytes()
    for title in ("Wireshark", "KQL", "Zeek's logs", "If it is harmless"):
        assert explained.step(title) == walk.step(title)

    Path("suppress.yaml").write_text(explained.step("If it is harmless"))
    Path("cluster.yaml").write_text(f"{sink[:-1]}q\npolicy: {{suppress: suppress.yaml}}\n")
    assert main(["replay", "logs", "--config", "cluster.yaml"]) == 0
    assert ": 0 episodes, 0 documents" in capsys.readouterr().out


def tshark(path: Path, *options: str) -> list[str]:
    """Lines that tshark prints of a capture."""
    if shutil.which("tshark") is None:
        unavailable("no tshark on PATH: what Wireshark makes of captures and filters is not seen")
    made = subprocess.run(["tshark", "-n", "-r", path, *options], check=False, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return made.stdout.splitlines()


def test_an_analyst_goes_from_the_table_to_quiet(walk: Walk, capsys: pytest.CaptureFixture[str]) -> None:
    (document,) = {one["packetclip"]["episode"]["id"]: one for one in alert_reader.read(Path(ALERTS))}.values()
    assert document["packetclip"]["episode"]["id"] in walk.table
    assert "high" in walk.table
    said = " ".join(walk.explained.split())
    assert document["event"]["reason"] in said
    assert "172.25.134.222 sent 50 TCP packets" in said
    assert Path("evidence.pcapng").read_bytes() == capture(document)

    found = subprocess.run(walk.step("Zeek's logs"), shell=True, cwd="logs", capture_output=True, text=True, check=True).stdout
    rows = [line.split("\t") for line in found.splitlines() if line.startswith("conn.log:")]
    assert {row[1] for row in rows} == set(document["zeek"]["session_id"])
    assert {(row[2], row[4], row[5]) for row in rows} == {("172.25.134.222", "172.25.134.234", "2021")}

    rule = '- {comment: "another", expires: never, source: 192.0.2.7}\n'
    Path("suppress.yaml").write_text(rule + walk.step("If it is harmless"))
    Path("sensor.yaml").write_text("policy: {suppress: suppress.yaml}\n")
    assert main(["replay", "logs", "--config", "sensor.yaml", "--out", "quiet.ndjson"]) == 0
    out = capsys.readouterr().out
    assert ": 0 episodes, 0 documents" in out
    assert "windows were suppressed by the rules of policy.suppress" in out
    assert Path("quiet.ndjson").read_bytes() == b""


def test_tshark_opens_the_evidence_and_takes_the_filter(walk: Walk) -> None:
    (document, *_) = reversed(alert_reader.read(Path(ALERTS)))
    evidence = document["packetclip"]["evidence"]
    fields = ("ip.src", "tcp.srcport", "frame.cap_len", "frame.len", "frame.comment")
    printed = tshark(Path("evidence.pcapng"), "-T", "fields", *(word for name in fields for word in ("-e", name)))
    assert len(printed) == len(evidence)
    for line, one in zip(printed, sorted(evidence, key=lambda one: one["ts"]), strict=True):
        end = "orig" if one["is_orig"] else "resp"
        host, port, kept, wire, comment = line.split("\t")
        assert (host, int(port)) == (one[f"{end}_h"], one[f"{end}_p"])
        assert (int(kept), int(wire)) == (len(one["data"]) // 2, one["size_bytes"])
        assert one["reason"] in comment
    assert tshark(Path("evidence.pcapng"), "-Y", "_ws.malformed") == []
    filter_ = walk.step("Wireshark").strip()
    assert len(tshark(Path("evidence.pcapng"), "-Y", filter_)) == len(evidence)
    assert len(tshark(CAPTURE, "-Y", filter_)) >= document["packetclip"]["episode"]["packets"]
    assert tshark(CAPTURE, "-Y", f"({filter_}) && !(ip.addr == 172.25.134.222 && tcp.port == 2021)") == []


def newest() -> list[dict[str, Any]]:
    """The closing documents of the golden episodes."""
    found = alert_reader.read(TESTS / "golden" / "alerts.ndjson")
    return alert_reader.newest(found, since=None, until=None, mission=None, limit=100, where="golden")


def test_tshark_finds_the_evidence_of_each_class_by_its_filter(tmp_path: Path) -> None:
    for document in {one["packetclip"]["class"]: one for one in newest()}.values():
        path = tmp_path / "evidence.pcapng"
        path.write_bytes(capture(document))
        assert len(tshark(path, "-Y", steps(document)[0].text)) == len(document["packetclip"]["evidence"]), document["message"]
    assert tshark(path, "-Y", "(ipv6.addr == 2001:db8::1 || ip.addr == 10.0.0.5) && udp.port == 53") == []


def test_the_proposed_rule_of_each_alert_silences_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    documents = newest()
    rules = [step.text for document in documents for step in steps(document) if step.title.startswith("If it is harmless")]
    assert len(rules) == len(documents) > 15
    (tmp_path / "suppress.yaml").write_text("\n".join(rules))
    (tmp_path / "sensor.yaml").write_text("policy: {suppress: suppress.yaml}\nlog_level: error\n")
    captures = sorted(str(path.parent) for path in (TESTS / "data").glob("*/labels.json"))
    assert main(["replay", *captures, "--config", str(tmp_path / "sensor.yaml"), "--out", str(tmp_path / "quiet.ndjson")]) == 0
    assert ": 0 episodes" in capsys.readouterr().out
