"""The three roles on a real broker: the documents of one sensor, whoever judges, and whoever is killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from kafka_broker import Broker, BrokerUnavailableError, Site, merged, replayed, site
from machine import unavailable, until

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


def test_kill_9_of_every_role_changes_nothing(kafka: str, tmp_path: Path, alone: dict[str, bytes]) -> None:
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
        assert running.documents() == alone


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
            time.sleep(12)  # longer than the session: the others have taken over
            for process in first:
                process.send_signal(signal.SIGCONT)
            time.sleep(3)
            broker.kill()
            broker.start()
            running.await_all(since, 300)
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


def test_rsyslog_ships_growing_logs(kafka: str, tmp_path: Path, alone: dict[str, bytes]) -> None:
    program = shutil.which("rsyslogd", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None or not list(Path("/usr/lib").glob("*/rsyslog/omkafka.so")):
        unavailable("rsyslog with omkafka is not installed: apt-get install rsyslog-kafka")
    with site(kafka, tmp_path, "rsyslog", raw=1) as running:
        conf = RSYSLOG.format(folder=tmp_path)
        for log in ("flow", "packet"):
            conf += LOG.format(folder=tmp_path, log=log, broker=kafka, topic=f"{running.name}.{log}")
            (tmp_path / f"packetclip_{log}.log").write_bytes(b"\n".join(merged(log)) + b"\n")
        (tmp_path / "rsyslog.conf").write_text(conf)
        running.processes.append(
            subprocess.Popen([program, "-n", "-f", tmp_path / "rsyslog.conf", "-i", tmp_path / "rsyslog.pid"])
        )
        until(lambda: running.counted("packet") >= len(merged("packet")) and running.counted("flow") >= len(merged("flow")))
        since = time.time()
        for role in ("route", "judge", "alert"):
            running.start(role)
        running.await_all(since)
        assert running.documents() == alone
