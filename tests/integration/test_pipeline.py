"""The whole sensor as a process: replayed twice, killed, restarted; with the real Elasticsearch the same set of documents."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import free_port
from elasticsearch import Elasticsearch

DATA = Path(__file__).parents[1] / "data"
CAPTURES = sorted(p.parent for p in DATA.glob("*/packetclip_packet.log.gz"))
CLI = [sys.executable, "-m", "packetclip_sensor"]
STOPPED_AT_ONCE = """
import os, signal, sys
from packetclip_sensor.config import config_file
load = config_file.load
config_file.load = lambda path: (os.kill(os.getpid(), signal.SIGTERM), load(path))[1]
from packetclip_sensor.cli.app import main
sys.exit(main(["run", "--config", sys.argv[1]]))
"""
"""A sensor that gets SIGTERM as the first thing of its start."""


def config(folder: Path, text: str) -> Path:
    path = folder / "sensor.yaml"
    path.write_text(f"sensor_name: test\nstate_dir: {folder / 'state'}\n{text}")
    return path


def to_elasticsearch(folder: Path, url: str, namespace: str, logs: Path | None = None) -> Path:
    return config(
        folder,
        f"namespace: {namespace}\nsink: {{elasticsearch: {{hosts: ['{url}'], batch_documents: 5}}}}\n"
        + (f"logs: ['{logs}']\n" if logs else ""),
    )


def documents(url: str, namespace: str) -> dict[str, str]:
    """_id to what the document says, of all documents."""
    with Elasticsearch(url) as client:
        index = f"logs-packetclip.alert-{namespace}"
        client.indices.refresh(index=index)
        hits = client.search(index=index, size=10_000)["hits"]["hits"]
    return {hit["_id"]: hit["_source"]["message"] + hit["_source"]["packetclip"]["episode"]["state"] for hit in hits}


def replay(path: Path, *captures: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, "replay", *map(str, captures), "--config", str(path)], capture_output=True, text=True, check=False
    )


@pytest.mark.elasticsearch
def test_replaying_twice_leaves_the_same_documents(elasticsearch_url: str, namespace: str, tmp_path: Path) -> None:
    path = to_elasticsearch(tmp_path, elasticsearch_url, namespace)
    assert replay(path, *CAPTURES).returncode == 0
    once = documents(elasticsearch_url, namespace)
    assert replay(path, *CAPTURES).returncode == 0
    assert documents(elasticsearch_url, namespace) == once
    assert len(once) >= 18  # nine attack classes, each with at least an opening and a closing document


@pytest.mark.elasticsearch
def test_a_killed_replay_started_again_leaves_the_same_documents(elasticsearch_url: str, namespace: str, tmp_path: Path) -> None:
    path = to_elasticsearch(tmp_path, elasticsearch_url, namespace)
    assert replay(path, *CAPTURES).returncode == 0
    undisturbed = documents(elasticsearch_url, namespace)

    again = namespace + "k"
    path = to_elasticsearch(tmp_path, elasticsearch_url, again)
    process = subprocess.Popen([*CLI, "replay", *map(str, CAPTURES), "--config", str(path)], stdout=subprocess.DEVNULL)
    index = f"logs-packetclip.alert-{again}"
    with Elasticsearch(elasticsearch_url) as client:
        watching = client.options(ignore_status=[404, 503])  # a stream that is just being made answers 503 for a moment
        while process.poll() is None:  # killed once some documents are there and some are not
            time.sleep(0.02)
            watching.indices.refresh(index=index)
            if watching.count(index=index).get("count", 0) >= 4:
                break
    process.kill()
    assert process.wait() == -signal.SIGKILL
    partly = documents(elasticsearch_url, again)
    assert 0 < len(partly) < len(undisturbed)
    assert replay(path, *CAPTURES).returncode == 0
    assert documents(elasticsearch_url, again) == undisturbed


def merged_log(name: str) -> list[bytes]:
    """Lines of a few captures one after the other, as one sensor's day."""
    chosen = [c for c in CAPTURES if json.loads((c / "labels.json").read_text())["intervals"]][:4]
    by_time = sorted(chosen, key=lambda c: json.loads((c / "labels.json").read_text())["intervals"][0]["start"])
    return [line for c in by_time for line in gzip.decompress((c / f"{name}.log.gz").read_bytes()).splitlines(keepends=True)]


def started(folder: Path) -> None:
    """Wait until a sensor reads; a busy machine takes its time to load it."""
    end = time.monotonic() + 120
    while not (folder / "state" / "state.json").exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def all_read(port: int) -> None:
    """Wait until the sensor is well and has no line left."""
    end = time.monotonic() + 180
    while time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            if json.loads(answer.read())["lag_bytes"] == 0:
                return
        time.sleep(0.2)
    raise AssertionError("the sensor does not catch up")


def follow(path: Path, log: Path, lines: list[bytes], kills: int, seed: int, port: int) -> list[str]:
    """Run the sensor on a log that grows, kill it `kills` times at random moments, and return the ids that it wrote."""
    rng = random.Random(seed)
    process = subprocess.Popen([*CLI, "run", "--config", str(path)], stderr=subprocess.DEVNULL)
    started(path.parent)
    step = max(1, len(lines) // 40)
    moments = set(rng.sample(range(5, 38), kills))
    with log.open("ab") as file:
        for number, start in enumerate(range(0, len(lines), step)):
            file.writelines(lines[start : start + step])
            file.flush()
            time.sleep(0.08)
            if number in moments:
                time.sleep(rng.random() * 0.8)
                process.kill()
                process.wait()
                process = subprocess.Popen([*CLI, "run", "--config", str(path)], stderr=subprocess.DEVNULL)
    all_read(port)
    out = path.parent / "alerts.ndjson"
    size, quiet_since = -1, time.monotonic()
    while time.monotonic() - quiet_since < 6:  # the last second is judged after 1.5 s without a packet
        time.sleep(0.2)
        now = out.stat().st_size if out.exists() else 0
        if now != size:
            size, quiet_since = now, time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    return [json.loads(line)["event"]["id"] for line in out.read_bytes().splitlines()]


def test_a_following_sensor_killed_at_random_writes_what_an_undisturbed_one_writes(tmp_path: Path) -> None:
    lines = merged_log("packetclip_packet")
    ids = []
    for name, kills in (("calm", 0), ("killed", 4)):
        folder = tmp_path / name
        (folder / "logs").mkdir(parents=True)
        port = free_port()
        path = config(
            folder,
            f"logs: ['{folder / 'logs'}']\nsink: {{ndjson: {{path: '{folder / 'alerts.ndjson'}'}}}}\nhealth: {{port: {port}}}\n",
        )
        ids.append(follow(path, folder / "logs" / "packetclip_packet.log", lines, kills, 7, port))
    assert len(ids[0]) == len(set(ids[0])) >= 4
    assert sorted(ids[1]) == sorted(ids[0])


def test_a_sensor_stops_at_once_when_asked(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    path = config(tmp_path, f"logs: ['{tmp_path / 'logs'}']\nsink: {{ndjson: {{path: '{tmp_path / 'alerts.ndjson'}'}}}}\n")
    process = subprocess.Popen([*CLI, "run", "--config", str(path)], stderr=subprocess.PIPE)
    started(tmp_path)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    assert time.monotonic() - began < 20  # five seconds, and what a busy machine adds


def test_a_sensor_stopped_while_it_starts_ends_cleanly(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    path = config(tmp_path, f"logs: ['{tmp_path / 'logs'}']\nsink: {{ndjson: {{path: '{tmp_path / 'alerts.ndjson'}'}}}}\n")
    process = subprocess.Popen([sys.executable, "-c", STOPPED_AT_ONCE, str(path)], stderr=subprocess.PIPE)
    assert process.wait(timeout=60) == 0
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()


def test_a_second_sensor_on_the_same_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    path = config(tmp_path, f"logs: ['{tmp_path / 'logs'}']\nsink: {{ndjson: {{path: '{tmp_path / 'alerts.ndjson'}'}}}}\n")
    first = subprocess.Popen([*CLI, "run", "--config", str(path)], stderr=subprocess.DEVNULL)
    try:
        started(tmp_path)
        second = subprocess.run([*CLI, "run", "--config", str(path)], capture_output=True, text=True, timeout=60, check=False)
    finally:
        first.kill()
        first.wait()
    assert second.returncode == 2
    assert "is in use by another sensor" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["replay", "{tmp}/nothing"], "does not exist"),
        (["replay", "{tmp}/empty"], "@load packetclip"),
        (["replay", "{tmp}/tsv"], "JSON"),
        (["replay", "{data}", "--elasticsearch", "ftp://x"], "ftp"),
        (["run", "--config", "{tmp}/wrong.yaml"], "did you mean"),
        (["check", "--config", "{tmp}/none.yaml"], "packetclip init"),
    ],
)
def test_a_users_mistake_is_one_clear_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "tsv").mkdir()
    (tmp_path / "tsv" / "packetclip_packet.log").write_text("#separator \\x09\n#fields\tts\n")
    (tmp_path / "wrong.yaml").write_text("log: [x]\n")
    filled = [a.format(tmp=tmp_path, data=CAPTURES[0]) for a in arguments]
    result = subprocess.run([*CLI, *filled], capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.stderr


def test_the_help_answers_without_heavy_modules() -> None:
    code = "import sys; from packetclip_sensor.cli.app import main; main(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    for heavy in ("numpy", "onnxruntime", "elasticsearch", "pyarrow", "torch"):
        assert f"'{heavy}'" not in result.stderr
    assert "replay" in result.stdout
