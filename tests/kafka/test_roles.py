"""The three roles on a real broker: the documents of one sensor, whoever judges, and whoever is killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from kafka_broker import Broker, BrokerUnavailableError, Site, merged, replayed, site
from machine import free_port, unavailable, until

pytest.importorskip("confluent_kafka")

pytestmark = [
    pytest.mark.xdist_group("kafka"),
    pytest.mark.skipif(not os.environ.get("PACKETCLIP_SLOW"), reason="minutes each on a real broker: `make kafka` runs them"),
]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one sensor finds in the same lines."""
    return replayed(tmp_path_factory.mktemp("replayed"), merged("packet"), merged("flow"))


def shipped(running: Site) -> float:
    """Ship tests/data; returns when that was done."""
    for log in ("flow", "packet"):
        running.ship(log, merged(log))
    return time.time()


def test_two_routers_and_two_judges_write_the_documents_of_one_sensor(
    kafka: str, tmp_path: Path, alone: dict[str, bytes]
) -> None:
    with site(kafka, tmp_path, "plain") as running:
        since = shipped(running)
        for role, count in (("route", 2), ("judge", 2), ("alert", 1)):
            for number in range(count):
                running.start(role, number + 1)
        running.await_all(since)
        assert running.documents() == alone


def again(log: str, copy: int, later_s: float, captures: tuple[str, ...] = ()) -> list[bytes]:
    """The lines of captures as they would stand there if all came once more, some time later."""
    out = []
    for line in merged(log, *captures):
        ts = json.loads(line)["ts"] + later_s
        out.append(re.sub(rb'"ts":[0-9.]+,"uid":"C', b'"ts":%.6f,"uid":"C%d' % (ts, copy), line, count=1))
    return out


KILLED_IN = (
    "demo-b01-monitoring-rollout", "demo-dict-patator-ftp", "demo-icmp-fping", "demo-os-nping", "demo-port-zmap",
    "demo-udp-hping", "demo-vuln-gobuster", "demo-vuln-nmap-safe",
)  # fmt: skip


def test_kill_9_of_every_role_changes_nothing_while_lag_is_caught_up_and_evidence_decides(kafka: str, tmp_path: Path) -> None:
    kills = int(os.environ.get("PACKETCLIP_KILLS", "3"))
    logs = {
        log: [line for copy in range(kills) for line in again(log, copy, 600.0 * copy, KILLED_IN)] for log in ("packet", "flow")
    }
    expected, rng = replayed(tmp_path, logs["packet"], logs["flow"]), random.Random(2)
    assert b" windows in " in b"".join(expected.values())
    with site(kafka, tmp_path, "killed") as running:
        for log, lines in logs.items():
            running.ship(log, lines)
        since, end = time.time(), _ts(logs["packet"][-1])
        roles = [(role, number) for role in ("route", "judge", "alert") for number in (1, 2)]
        processes, before_the_end = {one: running.start(*one) for one in roles}, 0
        for role in rng.sample(("route", "judge", "alert") * kills, 3 * kills):
            one = role, rng.choice((1, 2))
            time.sleep(rng.choice((0.2, rng.uniform(2, 5))))
            processes[one].kill()
            processes[one].wait()
            before_the_end += running.judged() < end
            processes[one] = running.start(*one)
        running.await_all(since, 1200)
        found = running.documents()
        print(f"{3 * kills} kills, {before_the_end} of them before all was judged; {len(expected)} documents, of which equal:")
        print(sum(found.get(id_) == document for id_, document in expected.items()), "and others:", len(found.keys() - expected))
        assert before_the_end > kills
        assert found == expected


class Watched(Site):
    """With a health page for the alerter."""

    port = 0

    def settings(self, role: str) -> dict[str, Any]:
        return self._settings | ({"health": {"documents_s": 0, "max_lag_s": 7, "port": self.port}} if role == "alert1" else {})

    def behind(self) -> str:
        """What /health says of who is behind."""
        with contextlib.suppress(OSError):
            try:
                page = urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health").read()
            except urllib.error.HTTPError as err:
                page = err.read()
            return next((r["message"] for r in json.loads(page)["reasons"] if r["name"] == "behind"), "")
        return ""


def test_a_flood_on_one_host_changes_nothing_and_health_names_the_partition_that_is_behind(kafka: str, tmp_path: Path) -> None:
    flood = [line for copy in range(40) for line in again("packet", copy, copy * 1e-5, ("demo-udp-hping",))]
    packets = sorted([*flood, *merged("packet", "demo-dict-patator-ftp", "demo-b01-monitoring-rollout")], key=_ts)
    with site(kafka, tmp_path, "flood", kind=Watched) as running:
        Watched.port = free_port()
        running.ship("packet", packets)
        since = time.time()
        judges = [running.start("judge", 1), running.start("judge", 2)]
        for role in ("route", "alert"):
            running.start(role)
        running.await_all(since)
        assert running.documents() == replayed(tmp_path, packets, [])
        until(lambda: not running.behind())
        of_first = given(tmp_path / "judge1.log") - given(tmp_path / "judge2.log")
        judges[0].send_signal(signal.SIGSTOP)
        until(running.behind)
        found = re.fullmatch(rf"{running.name}\.host\[(\d)\] is \d+ s behind", running.behind())
        assert found
        assert int(found[1]) in of_first
        judges[0].send_signal(signal.SIGCONT)
        until(lambda: not running.behind())


def given(log: Path) -> set[int]:
    """The partitions that a role says it has."""
    has = set[int]()
    for line in filter(lambda line: line.startswith("{"), log.read_text().splitlines()):
        said = json.loads(line)
        if said["event"] in ("assigned", "revoked"):
            some = {int(number) for number in said["partitions"]}
            has = has | some if said["event"] == "assigned" else has - some
    return has


def _ts(line: bytes) -> float:
    ts: float = json.loads(line)["ts"]
    return ts


def test_a_role_that_stood_still_and_a_broker_that_was_killed_change_nothing(tmp_path: Path, alone: dict[str, bytes]) -> None:
    try:
        broker = Broker(tmp_path)
    except BrokerUnavailableError as err:
        unavailable(str(err))
    try:
        with site(broker.address, tmp_path, "still") as running:
            since = shipped(running)
            first = [running.start(role, 1) for role in ("route", "judge", "alert")]
            until(lambda: running.judged() > 0)
            for role in ("route", "judge", "alert"):
                running.start(role, 2)
            for process in first:
                process.send_signal(signal.SIGSTOP)
            time.sleep(65)  # longer than the session, and than judges know what came twice: the others have taken over
            for process in first:
                process.send_signal(signal.SIGCONT)
            time.sleep(3)
            broker.kill()
            broker.start()
            running.await_all(since)
            assert running.documents() == alone
    finally:
        broker.kill()


RSYSLOG = """global(workDirectory="{folder}" maxMessageSize="64k")
module(load="imfile" mode="polling" pollingInterval="1")
module(load="omkafka")
template(name="line" type="string" string="%msg%")
"""
LOG = """input(type="imfile" File="{folder}/packetclip_{log}.log" Tag="packetclip" ruleset="{log}")
ruleset(name="{log}") {{
  action(type="omkafka" broker=["{broker}"] topic="{topic}" template="line" key="zeek-1" confParam=["enable.idempotence=true"]
         resubmitOnFailure="on" keepFailedMessages="on" failedMsgFile="{folder}/{log}.failed")
}}
"""


def test_rsyslog_ships_growing_logs_of_which_the_documents_reach_elasticsearch(
    kafka: str, elasticsearch_url: str, namespace: str, tmp_path: Path
) -> None:
    program = shutil.which("rsyslogd", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None or not list(Path("/usr/lib").glob("*/rsyslog/omkafka.so")):
        unavailable("rsyslog with omkafka is not installed: bash tests/install_deps.sh")
    logs = {log: merged(log, "demo-dict-patator-ftp", "demo-icmp-fping", "demo-udp-hping") for log in ("flow", "packet")}
    (tmp_path / "alone").mkdir()
    expected = replayed(tmp_path / "alone", logs["packet"], logs["flow"], namespace=namespace)
    assert len(expected) > 2
    sink = {"elasticsearch": {"hosts": [elasticsearch_url]}}
    with site(kafka, tmp_path, "rsyslog", raw=1, sink=sink, namespace=namespace) as running:
        conf, files = RSYSLOG.format(folder=tmp_path), {log: tmp_path / f"packetclip_{log}.log" for log in logs}
        for log, file in files.items():
            conf += LOG.format(folder=tmp_path, log=log, broker=kafka, topic=f"{running.name}.{log}")
            file.touch()
        (tmp_path / "rsyslog.conf").write_text(conf)
        running.processes.append(
            subprocess.Popen([program, "-n", "-f", tmp_path / "rsyslog.conf", "-i", tmp_path / "rsyslog.pid"])
        )
        for part in range(4):
            for log, lines in logs.items():
                with files[log].open("ab") as file:
                    file.write(b"".join(line + b"\n" for line in lines[part * len(lines) // 4 : (part + 1) * len(lines) // 4]))
            time.sleep(1)
        until(lambda: all(running.counted(log) >= len(lines) for log, lines in logs.items()))
        since = time.time()
        for role in ("route", "judge", "alert"):
            running.start(role)
        running.await_all(since)
    with Elasticsearch(elasticsearch_url, request_timeout=60) as client:
        index = f"logs-packetclip.alert-{namespace}"
        client.indices.refresh(index=index)
        found = {hit["_id"]: hit["_source"] for hit in client.search(index=index, size=1000)["hits"]["hits"]}
    documents = {id_: json.loads(document) for id_, document in expected.items()}
    for document in documents.values():
        del document["packetclip"]["embedding"]  # Elasticsearch keeps vectors out of what it shows
    assert found == documents
