"""`packetclip check`: every mistake in a line with its remedy, and the exit code."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import GIB, disk
from factories import MISSIONS
from fake_cluster import Cluster, running

from packetclip_sensor.cli import main
from packetclip_sensor.common.resources import resource
from packetclip_sensor.elastic import templates
from packetclip_sensor.service import check, checkpoint

SYN = base64.b64encode(
    bytes.fromhex("4500003c000040004006b1e60a0000050a0000099c4000500000000000000000a002faf0917000000204")
).decode()
STREAM = "logs-packetclip.alert-default"


@pytest.fixture(scope="module")
def bundle() -> check.Bundle:
    return check.Bundle.open(resource("model/shipped"))


@pytest.fixture(autouse=True)
def _opened_once(bundle: check.Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped model is opened once for all tests here."""
    really = check.Bundle.open
    monkeypatch.setattr(check.Bundle, "open", lambda path: bundle if path == resource("model/shipped") else really(path))


def packet_log(folder: Path, *, ts: float | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    row = {
        "ts": time.time() - 1 if ts is None else ts, "uid": "C1", "id.orig_h": "10.0.0.5", "id.orig_p": 40000,
        "id.resp_h": "10.0.0.9", "id.resp_p": 80, "proto": "tcp", "is_orig": True, "n": 1, "len": 60, "data": SYN,
    }  # fmt: skip
    (folder / "packetclip_packet.log").write_text(json.dumps(row) + "\n")
    return folder / "packetclip_packet.log"


class Checked:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], **settings: Any) -> None:
        path = folder / "sensor.yaml"
        path.write_text(yaml.safe_dump({"logs": ["logs"], **settings}))
        self.code = main(["check", "--config", str(path)])
        self.lines = capsys.readouterr().out.splitlines()

    def one(self, mark: str, part: str) -> str:
        """The words of the one line with this mark and part."""
        (found,) = [line.split(maxsplit=2)[2] for line in self.lines if line.split()[:2] == [mark, part]]
        return found


@pytest.fixture
def checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    packet_log(tmp_path / "logs")
    return lambda **settings: Checked(tmp_path, capsys, **settings)


def test_a_good_set_up_is_all_ok(checked: Any) -> None:
    ran = checked()
    assert ran.code == 0
    assert [line.split()[:2] for line in ran.lines] == [["ok", part] for part in ("config", "logs", "state", "model", "sink")]


def test_folders_that_rotated_logs_are_moved_to_are_named(checked: Any, tmp_path: Path) -> None:
    (tmp_path / "zeek" / "current").mkdir(parents=True)
    packet_log(tmp_path / "zeek" / "current")
    assert [line for line in checked(logs=["zeek/current"]).lines if "are looked for in" in line] == [
        f"ok    logs     rotated logs are looked for in {tmp_path}/zeek"
    ]
    ran = checked(archives=["nowhere"])
    assert "nowhere cannot be listed; mend `archives`" in ran.one("look", "logs")
    assert ran.code == 0


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "holds no packetclip_packet.log; give Zeek's log folder, and load the PacketCLIP package"),
        ({"conn.log": '{"ts": 1}\n'}, "holds Zeek logs, but no packetclip_packet.log: the package is not loaded"),
        ({"packetclip_flow.log": "{}\n"}, "has packetclip_flow.log but no packetclip_packet.log; is that log switched off"),
        ({"packetclip_packet.log": "#separator \\x09\n"}, "is a TSV log, JSON lines are needed"),
        ({"packetclip_packet.log": '{"ts": "soon"}\n'}, "its first line is not of our form"),
    ],
)
def test_logs_that_are_not_ours_are_wrong(checked: Any, tmp_path: Path, files: dict[str, str], words: str) -> None:
    (tmp_path / "logs" / "packetclip_packet.log").unlink()
    for name, text in files.items():
        (tmp_path / "logs" / name).write_text(text)
    ran = checked()
    assert ran.code == 1
    assert words in ran.one("WRONG", "logs")


def test_no_log_folder_named_and_one_that_is_not_there(checked: Any) -> None:
    ran = checked(logs=[])
    assert (ran.code, ran.one("WRONG", "logs")) == (
        1,
        "none named; set `logs` to Zeek's log folder, for example [/opt/zeek/logs/current]",
    )
    assert "does not exist; give a Zeek log folder" in checked(logs=["nowhere"]).one("WRONG", "logs")


def test_an_empty_log_and_an_old_one_are_worth_a_look(checked: Any, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "packetclip_packet.log"
    os.utime(log, (time.time() - 3 * 86400,) * 2)
    ran = checked()
    assert ran.code == 0
    assert "last written 3 days ago; is Zeek running" in ran.one("look", "logs")
    log.write_text("")
    assert "no whole line yet; is there traffic on Zeek's interface?" in checked().one("look", "logs")


def test_a_log_from_the_future_is_wrong_and_one_from_the_past_worth_a_look(checked: Any, tmp_path: Path) -> None:
    packet_log(tmp_path / "logs", ts=time.time() + 7500)
    ran = checked()
    assert ran.code == 1
    assert "its last packet is 2 hours in the future; set the clocks by NTP" in ran.one("WRONG", "logs")
    packet_log(tmp_path / "logs", ts=time.time() - 7500)
    ran = checked()
    assert ran.code == 0
    assert "written now, but its last packet is 2 hours old; set the clocks by NTP" in ran.one("look", "logs")


def test_a_disk_is_nearly_full_by_bytes_and_by_percent(checked: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    disk(monkeypatch, free=200 << 20)
    ran = checked()
    assert ran.code == 1
    assert ran.one("WRONG", "state") == (
        f"{tmp_path}: 200 MiB (0.1%) free: the sensor cannot go on; make room, or put it on another disk"
    )
    assert "200 MiB (0.1%) free: Zeek cannot go on logging" in ran.one("look", "logs")
    disk(monkeypatch, free=8 * GIB)
    ran = checked()
    assert ran.code == 0
    assert ran.one("look", "state") == f"{tmp_path}: only 8,192 MiB (4.0%) free; make room soon"
    disk(monkeypatch, free=12 * GIB)
    assert not [line for line in checked().lines if line.startswith("look")]
    disk(monkeypatch, free=12 * GIB, inodes=0)
    assert "no inode free: the sensor cannot go on" in checked().one("WRONG", "state")


def test_a_folder_that_cannot_be_written_is_wrong(checked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may = os.access
    # Tests may run as root, whom nothing stops.
    monkeypatch.setattr(os, "access", lambda path, *rest, **more: path != tmp_path and may(path, *rest, **more))
    ran = checked()
    assert ran.code == 1
    assert ran.one("WRONG", "state").startswith(f"{tmp_path} does not let this user write; make it writable")
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    assert any("is no folder; name another place than" in line for line in checked(state_dir="file/state").lines)


def test_a_state_folder_of_another_sensor_is_wrong(checked: Any, tmp_path: Path) -> None:
    with checkpoint.lock(tmp_path / "state"):
        ran = checked()
    assert ran.code == 1
    assert ran.one("WRONG", "state") == (
        f"{tmp_path / 'state'} is in use by another sensor (process {os.getpid()}); stop that one or name another state_dir"
    )
    assert checked().code == 0


def test_the_same_sensor_running_is_no_mistake(checked: Any, tmp_path: Path) -> None:
    """A stand-in with the words of `packetclip run --config sensor.yaml`, in the file's folder."""
    code = (
        "import sys; from pathlib import Path; from packetclip_sensor.service import checkpoint\n"
        "with checkpoint.lock(Path('state')): print('.', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, "run", "--config", "sensor.yaml"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        ran = checked()
        process.communicate()
    assert ran.code == 0, ran.lines
    assert any(f"the sensor of this configuration is running (process {process.pid})" in line for line in ran.lines)


def test_a_bundle_that_is_not_there_or_altered_is_wrong(checked: Any, tmp_path: Path) -> None:
    assert "manifest.json" in checked(model="nowhere").one("WRONG", "model")
    model = tmp_path / "model"
    model.mkdir()
    for path in resource("model/shipped").iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    (model / "graphs.json").write_text("[]")
    ran = checked(model="model")
    assert ran.code == 1
    assert "graphs.json" in ran.one("WRONG", "model")


def test_a_configuration_that_does_not_fit_the_bundle_is_told(checked: Any, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "state" / "state.json", checkpoint.State(model_version="old"))
    ran = checked(policy={"thresholds": {"DoS": 1.0}, "open_packets": 65})
    assert ran.code == 0
    looks = [line for line in ran.lines if line.startswith("look  model")]
    assert len(looks) == 3
    assert "policy.thresholds: DoS 1.0 is above" in looks[0]
    assert "policy.open_packets is 65, a window of the model remembers 64 connections" in looks[1]
    assert "the state is of model old, this one is " in looks[2]


def test_more_connections_than_a_window_remembers_are_wrong(checked: Any) -> None:
    assert checked(policy={"least": {"Brute Force": {"connections": 64}}}).code == 0
    ran = checked(policy={"brute_force_connections": 65})
    assert ran.code == 1
    assert "remembers 64: no Brute Force over TCP would ever be told; lower it" in ran.one("WRONG", "model")


def test_a_mission_that_the_model_lacks_is_wrong(checked: Any) -> None:
    for key, value in (("thresholds", 0.9), ("leeways", 1), ("least", {"packets": 3})):
        ran = checked(policy={key: {"Reconaissance": value}})
        assert ran.code == 1
        assert f"policy.{key} names 'Reconaissance'" in ran.one("WRONG", "model")
        assert ran.one("WRONG", "model").endswith(
            "no such mission; did you mean Reconnaissance?; missions: DoS, Reconnaissance, Brute Force"
        )


def test_leeways_are_told(checked: Any) -> None:
    ran = checked(policy={"leeways": {"DoS": 0, "Brute Force": 2.5}})
    assert ran.one("ok", "model").endswith(", and together with others down to Brute Force 2.5 logits below")
    assert "together" not in checked().one("ok", "model")


def test_a_calibration_for_another_model_is_wrong_and_the_rest_is_still_looked_at(checked: Any, tmp_path: Path) -> None:
    (tmp_path / "calibration.yaml").write_text(
        yaml.safe_dump(
            {
                "format": 1,
                "model_version": "other",
                "model_sha256": "0" * 64,
                "made": "2026-01-01",
                "alerts_per_day": 1.0,
                "logs": {"paths": [], "first": "", "last": "", "hours": 1.0, "packets": 1, "windows": 1},
                "thresholds": dict.fromkeys(MISSIONS.names, 0.9),
                "thresholds_before": {},
                "alerts": {},
                "alerts_before": {},
            }
        )
    )
    ran = checked(policy={"calibration": "calibration.yaml"})
    assert ran.code == 1
    assert "made for model version other" in ran.one("WRONG", "model")
    assert ran.lines[-1].startswith("ok    sink")
    assert "cannot be read" in checked(policy={"calibration": "none.yaml"}).one("WRONG", "model")


# Elasticsearch


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running(Cluster()) as one:
        yield one


@pytest.fixture
def looked(checked: Any, cluster: Cluster) -> Any:
    """Check with this cluster as the sink; `settings` go below sink.elasticsearch."""

    def run(**settings: Any) -> Checked:
        sink = {"elasticsearch": {"hosts": [cluster.url], **settings}}
        ran: Checked = checked(sink=sink, health={"documents_s": 0})
        return ran

    return run


def installed(cluster: Cluster) -> None:
    for kind, (_, path) in templates.PARTS.items():
        cluster.things |= {f"/{path}/{name}": body for name, body in templates.load(kind, missions=MISSIONS).items()}


def old_stream(version: int) -> dict[str, Any]:
    return {"mappings": {"_meta": {"packetclip": {"version": version}}, "properties": {}}, "settings": {}}


def test_a_cluster_that_is_set_up_is_ok(looked: Any, cluster: Cluster) -> None:
    installed(cluster)
    ran = looked(manage_templates=False)
    assert ran.code == 0
    words = [line.split(maxsplit=2)[2] for line in ran.lines if line.startswith("ok    sink")]
    assert words[1:] == [
        f"Elasticsearch {cluster.url}: cluster fake is green; documents go to {STREAM}",
        f"{STREAM}: its templates are this version's",
    ]
    assert cluster.requests == []


def test_missing_templates_are_wrong_only_where_the_sensor_may_not_put_them(looked: Any, cluster: Cluster) -> None:
    ran = looked(manage_templates=False)
    assert ran.code == 1
    assert "missing: logs-packetclip.alert@settings" in ran.one("WRONG", "sink")
    assert "run `packetclip setup elasticsearch` (manage_templates is false)" in ran.one("WRONG", "sink")
    ran = looked()
    assert ran.code == 0
    assert "the sensor puts that right when it starts" in ran.one("look", "sink")
    assert cluster.requests == []


def test_old_templates_are_told_by_name(looked: Any, cluster: Cluster) -> None:
    installed(cluster)
    path = "/_component_template/logs-packetclip.alert@packetclip"
    cluster.things[path] = cluster.things[path] | {"version": 0}
    ran = looked(manage_templates=False)
    assert ran.code == 1
    assert f"{STREAM}: old or altered: logs-packetclip.alert@packetclip; run" in ran.one("WRONG", "sink")


def test_a_rivals_template_is_wrong(looked: Any, cluster: Cluster) -> None:
    installed(cluster)
    cluster.things["/_index_template/site"] = {"index_patterns": ["logs-*-*"], "priority": 300}
    assert "index template site takes this name with priority 300" in looked().one("WRONG", "sink")


@pytest.mark.parametrize(
    ("granted", "words"),
    [
        ({"auto_configure"}, "no right to create documents (create_doc"),
        (
            {"auto_configure", "create_doc"},
            "no right to put templates (manage, view_index_metadata, manage_index_templates missing)",
        ),
    ],
)
def test_a_key_without_the_rights_is_wrong(looked: Any, cluster: Cluster, granted: set[str], words: str) -> None:
    installed(cluster)
    cluster.privileges = granted
    ran = looked()
    assert ran.code == 1
    assert words in ran.one("WRONG", "sink")


def test_a_key_that_may_only_write_is_enough_and_the_streams_own_mapping_is_looked_at(looked: Any, cluster: Cluster) -> None:
    cluster.privileges = {"auto_configure", "create_doc"}
    denied = (403, {"error": {"reason": "unauthorized"}})
    cluster.refuse = {"/_cluster/health": denied, "/_component_template": denied}
    assert "not there yet, and this key may not read templates" in looked(manage_templates=False).one("look", "sink")
    cluster.streams[STREAM] = old_stream(templates.mapping_version())
    ran = looked(manage_templates=False)
    assert ran.code == 0
    assert f"ok    sink     {STREAM}: its mapping has version {templates.mapping_version()}" in ran.lines
    assert any("lets this key in (it may not ask for the cluster's health)" in line for line in ran.lines)
    cluster.streams[STREAM] = old_stream(templates.mapping_version() - 1)
    assert "this sensor writes version" in looked(manage_templates=False).one("WRONG", "sink")
    cluster.streams[STREAM]["mappings"] = {}
    assert "was made without our templates" in looked(manage_templates=False).one("WRONG", "sink")


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ("read_only_allow_delete", "cannot be written: Elasticsearch's disk is nearly full (flood stage); make room there"),
        ("write", "cannot be written: index.blocks.write is set; take it away"),
    ],
)
def test_a_stream_that_is_closed_for_writing_is_wrong(looked: Any, cluster: Cluster, block: str, words: str) -> None:
    installed(cluster)
    mapping = templates._merged(part["properties"] for part in templates._mappings("packetclip.alert", MISSIONS))
    cluster.streams[STREAM] = old_stream(templates.mapping_version())
    cluster.streams[STREAM]["mappings"]["properties"] = mapping
    cluster.streams[STREAM]["blocks"] = {f"index.blocks.{block}": "true"}
    ran = looked()
    assert ran.code == 1
    assert ran.one("WRONG", "sink") == f"{STREAM}: {words}" + (f" (PUT /{STREAM}/_settings)" if block == "write" else "")


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, {"error": {"reason": "unable to authenticate"}}, "answers 401: unable to authenticate; check the API key in the"),
        (502, "<html>bad gateway</html>", "answers 502: <html>bad gateway</html>; the proxy does not reach Elasticsearch"),
        (400, "The plain HTTP request was sent to HTTPS port", "this port speaks TLS: write https://"),
    ],
)
def test_a_cluster_that_refuses_is_wrong_with_the_remedy(
    looked: Any, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, status: int, body: Any, words: str
) -> None:
    monkeypatch.setenv("KEY", "a2V5OnNlY3JldA==")
    cluster.refuse["/"] = (status, body)
    ran = looked(api_key_env="KEY")
    assert ran.code == 1
    assert words in ran.one("WRONG", "sink")
