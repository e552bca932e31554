"""The three roles on a real broker: the documents of one sensor, whoever judges, and whoever is killed."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from kafka_broker import Site, merged, site

from packetclip_sensor import pipeline
from packetclip_sensor.config import config_file

pytest.importorskip("confluent_kafka")
pytestmark = pytest.mark.xdist_group("kafka")


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one sensor finds in the same lines."""
    folder = tmp_path_factory.mktemp("replayed")
    for log in ("packet", "flow"):
        (folder / f"packetclip_{log}.log").write_bytes(b"\n".join(merged(log)) + b"\n")
    settings = {"sensor_name": "site", "lateness_s": 1.0, "state_dir": str(folder), "sink": {"ndjson": {"path": str(folder / "out")}}}
    (folder / "sensor.yaml").write_text(yaml.safe_dump(settings))
    logs = [folder / "packetclip_packet.log", folder / "packetclip_flow.log"]
    pipeline.replay([logs], config_file.load(folder / "sensor.yaml"))
    return without_flow({json.loads(line)["event"]["id"]: line for line in (folder / "out").read_bytes().splitlines()})


def without_flow(documents: dict[str, bytes]) -> dict[str, Any]:
    """The documents but for which flow row is shown: one sensor takes rows by the batch that it happens to read."""
    out = {}
    for id_, line in documents.items():
        document = json.loads(line)
        document["packetclip"].pop("flow", None)
        for key in ("network", "zeek"):
            document.pop(key, None)
        out[id_] = document
    return out


def shipped(running: Site) -> float:
    """Ship tests/data; returns when that was done."""
    for log in ("flow", "packet"):
        running.ship(log, merged(log))
    return time.time()


def test_two_routers_and_two_judges_write_the_documents_of_one_sensor(kafka: str, tmp_path: Path, replayed: dict[str, Any]) -> None:
    with site(kafka, tmp_path, "plain") as running:
        since = shipped(running)
        for role, count in (("route", 2), ("judge", 2), ("alert", 1)):
            for number in range(count):
                running.start(role, number + 1)
        running.await_all(since)
        assert without_flow(running.documents()) == replayed


def test_kill_9_of_every_role_changes_nothing(kafka: str, tmp_path: Path, replayed: dict[str, Any]) -> None:
    rng, killed = random.Random(1), 0
    with site(kafka, tmp_path, "killed") as running:
        since = shipped(running)
        # Two of each: the others take over, the second alerter only then.
        roles = [(role, number) for role in ("route", "judge", "alert") for number in (1, 2)]
        processes = {one: running.start(*one) for one in roles}
        for one in rng.sample(roles, len(roles)):
            time.sleep(rng.uniform(2, 6))
            processes[one].kill()
            processes[one].wait()
            processes[one] = running.start(*one)
            killed += 1
        running.await_all(since, 300)
        assert killed == len(roles)
        assert without_flow(running.documents()) == replayed
