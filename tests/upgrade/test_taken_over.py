"""What a sensor of before left is taken over, or refused in one line: state in an episode, configuration, log, alerts, verdicts
for Zeek, calibration, rules, model, and the templates and documents in a cluster."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from elasticsearch.helpers import bulk
from sensor_process import SensorProcess

from packetclip_sensor.cli.app import main
from packetclip_sensor.config.config_file import load
from packetclip_sensor.elastic.streams import stream_name
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.service import checkpoint

RECORDED = Path(__file__).parent / "recorded"
READ = 1_268_918
"""Bytes of the log that the sensor of before had judged."""
JSON = {"content-type": "application/json", "accept": "application/json"}


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


def model_of_before(folder: Path) -> None:
    with tarfile.open(RECORDED / "model-7.tar.xz") as packed:
        packed.extractall(folder / "model", filter="data")


def test_state_log_configuration_and_alerts_are_taken_over_and_nothing_is_lost_or_twice(tmp_path: Path) -> None:
    """With the model of before, for another one's episodes have other names."""
    model_of_before(tmp_path)
    sensor = SensorProcess(tmp_path, f"{(RECORDED / 'sensor.yaml').read_text()}\nmodel: {tmp_path / 'model'}\n")
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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a sensor of before: log, alerts, verdicts for Zeek, calibration, rules and the model that it had."""
    monkeypatch.chdir(tmp_path)
    log_of_before(tmp_path)
    for name in ("alerts.ndjson", "verdicts.tsv", "calibration.yaml", "suppress.yaml"):
        shutil.copy(RECORDED / name, tmp_path)
    model_of_before(tmp_path)
    return tmp_path


def configured(more: str = "model: model") -> str:
    """The configuration of before, and what a site had besides."""
    Path("sensor.yaml").write_text(f"{(RECORDED / 'sensor.yaml').read_text()}\n{more}\n")
    return "sensor.yaml"


def test_a_bundle_of_before_gives_the_documents_that_it_gave(folder: Path) -> None:
    assert Bundle.open(folder / "model").manifest.version == "7"
    assert main(["replay", "logs", "--config", configured(), "--out", "now.ndjson"]) == 0
    ids = {one["event"]["id"]: state_of(one) for one in documents(Path("now.ndjson"))}
    for before in documents(RECORDED / "alerts.ndjson"):
        assert ids[before["event"]["id"]] == state_of(before)


def test_zeek_is_given_no_verdict_again(folder: Path) -> None:
    config = configured("model: model\nzeek_feedback: {path: verdicts.tsv}")
    assert main(["replay", "logs", "--config", config, "--out", "now.ndjson"]) == 0
    before, now = (path.read_bytes() for path in (RECORDED / "verdicts.tsv", Path("verdicts.tsv")))
    assert now.startswith(before)
    raised = [line.split(b"\t")[1] for line in now.splitlines()[1:]]
    assert len(raised) == len(set(raised)) >= before.count(b"\n") - 1 > 0


def test_calibration_and_rules_hold_for_their_model_and_are_refused_for_another(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = "  calibration: calibration.yaml\n  suppress: suppress.yaml\nmodel: model"
    assert main(["replay", "logs", "--config", configured(policy), "--out", "now.ndjson"]) == 0
    assert {one["packetclip"]["mission"] for one in documents(Path("now.ndjson"))} == {"DoS"}  # 0.977 is below 0.9845
    assert main(["suppressions", "--config", "sensor.yaml"]) in (0, 1)
    assert "monitoring, ticket 4711" in capsys.readouterr().out
    text = Path("calibration.yaml").read_text()
    Path("calibration.yaml").write_text(text.replace("model_sha256: c8", "model_sha256: 00"))
    assert main(["replay", "logs", "--config", "sensor.yaml", "--out", "now.ndjson"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "packetclip calibrate" in line


@pytest.mark.elasticsearch
def test_templates_and_documents_of_before_in_a_cluster(
    folder: Path, elasticsearch_url: str, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stream, paths = stream_name(namespace), {"component template": "_component_template", "index template": "_index_template"}
    before = documents(RECORDED / "alerts.ndjson")
    with Elasticsearch(elasticsearch_url, request_timeout=120) as client:
        for row in (RECORDED / "templates.ndjson").read_text().splitlines():
            thing = json.loads(row)
            client.perform_request("PUT", f"/{paths[thing['kind']]}/{thing['name']}", body=thing["body"], headers=JSON)
        rows = ({"_op_type": "create", "_index": stream, "_id": one["event"]["id"], "_source": one} for one in before)
        bulk(client, rows, refresh=True)
        config = configured(f"model: model\nnamespace: {namespace}")
        cluster = f"{{elasticsearch: {{hosts: ['{elasticsearch_url}']}}}}"
        Path(config).write_text(Path(config).read_text().replace("{ndjson: {path: alerts.ndjson}}", cluster))

        assert main(["setup", "elasticsearch", "--config", config]) == 0
        marks = {line.split()[0] for line in capsys.readouterr().out.splitlines() if stream in line}
        assert marks == {"upgrade"}
        for _ in range(2):
            assert main(["replay", "logs", "--config", config]) == 0
        client.indices.refresh(index=stream)
        stored = [hit["_source"] for hit in client.search(index=stream, size=100)["hits"]["hits"]]
        assert len(client.indices.get(index=stream)) == 1
    assert Counter(map(state_of, stored)).most_common(1)[0][1] == 1
    for one in (*stored, *before):
        one["packetclip"].pop("embedding", None)  # vectors are indexed and left out of `_source`
    kept = {one["event"]["id"]: one for one in stored}
    assert [kept[one["event"]["id"]] for one in before] == before
    assert len(stored) > len(before)
    assert any(one["packetclip"]["episode"].get("sent_packets") for one in stored)  # a field that templates of before lacked


def test_old_names_in_the_configuration_still_mean_what_they_meant() -> None:
    policy = load(RECORDED / "sensor.yaml").policy
    assert policy.margins == {"Brute Force": 0.5}
    assert policy.least["dos"].packets == 60
    assert policy.least["brute_force"].connections == 3
