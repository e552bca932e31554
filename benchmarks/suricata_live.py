"""Attack to alert in Elasticsearch, live: real tools on interface lo of a network namespace, and a small Suricata there.

    python -m benchmarks.suricata_live --elasticsearch http://127.0.0.1:9200 [--suricata PROGRAM] [--runs 3]

nmap scans a thousand ports, and hydra guesses passwords of a dropbear, each time between two hosts of its own. Suricata
(suricata_scripts/packetclip.yaml) writes the packet log, a sensor follows it, and Elasticsearch is asked until it has the alert.
The clock of the bound runs from the last packet that the alert counts, whose line is written at once. The first alert is left
out of the bound: Elasticsearch makes the index then. Needs root, nmap, hydra and dropbear.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import Following, ask_for_cluster, banner, following, verdict
from benchmarks.suricata_records import suricata_at
from packetclip_sensor.common.resources import resource
from packetclip_sensor.sources.suricata import capture

BOUND_S = 4.0
ATTACKERS, VICTIMS = "192.0.2.{}", "198.51.100.{}"
"""Addresses by the number of the run, from 1 on."""
MOST_RUNS = 100
NEEDED = ("ip", "nmap", "hydra", "dropbear", "dropbearkey")
ATTACKS = {
    "Reconnaissance": "nmap -sS -Pn -n --max-retries 0 -e lo -S {attacker} {victim}",
    "Brute Force": "hydra -I -t 4 -l admin -P {passwords} ssh://{victim}",
}
"""Commands by the mission of the alert that they must bring."""
SERVER = ["dropbear", "-F", "-E", "-P", "", "-r"]
"""The file with its key follows."""


@dataclass(frozen=True)
class Arrival:
    """The first alert of a mission that a search found."""

    after_start_s: float
    """Since the tool was started."""
    after_packet_s: float
    """Since the last packet that it counts."""
    document: dict[str, Any]


def hosts(run: int) -> tuple[str, str]:
    """Attacker and victim of a run."""
    return ATTACKERS.format(run), VICTIMS.format(run)


def lacking() -> str:
    """Why it cannot be done here; "" where it can."""
    if os.geteuid() != 0:
        return "a network namespace needs root"
    missing = [name for name in NEEDED if not shutil.which(name)]
    return f"not installed: {', '.join(missing)}" if missing else ""


@contextlib.contextmanager
def captured(suricata: capture.Suricata, logs: Path) -> Iterator[list[str]]:
    """A Suricata that captures on lo of a namespace of its own, with a server there, and writes to `logs`; yields the command
    that runs another one inside."""
    name = f"pcl-live-{uuid.uuid4().hex[:8]}"
    inside = ["ip", "netns", "exec", name]
    scripts = resource("suricata_scripts")
    own = [str(suricata.program), "-c", str(scripts / "packetclip.yaml"), "--af-packet=lo", "-l", str(logs)]
    running: list[subprocess.Popen[bytes]] = []
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        lines = ["link set lo up"]
        for attacker, victim in map(hosts, range(1, MOST_RUNS + 1)):
            lines += [f"address add {host}/32 dev lo" for host in (attacker, victim)]
            lines.append(f"route replace local {victim} dev lo table local src {attacker}")
        subprocess.run(["ip", "-n", name, "-batch", "-"], input="\n".join(lines), text=True, check=True)
        key, said_to = logs.parent / "key", logs.parent / "suricata.log"
        subprocess.run(["dropbearkey", "-t", "ed25519", "-f", str(key)], check=True, capture_output=True)
        with said_to.open("wb") as said:
            for command in ([*SERVER, str(key)], [*own, *capture.loading(suricata.major, scripts)]):
                running.append(subprocess.Popen([*inside, *command], stdout=said, stderr=said))
        until(lambda: b"Engine started" in said_to.read_bytes(), said_to)
        yield inside
    finally:
        for process in running:
            process.terminate()
            process.wait()
        subprocess.run(["ip", "netns", "delete", name], check=True)


def until(true: Callable[[], object], said: Path) -> None:
    """Wait a minute for something to hold; ends the benchmark where it does not."""
    end = time.monotonic() + 60
    while not true():
        if time.monotonic() > end:
            sys.exit(f"error: nothing within a minute; said was: {said.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def attacked(mission: str, run: int, inside: list[str], sensor: Following) -> Arrival:
    """Start the tool, and wait for its first alert."""
    attacker, victim = hosts(run)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as passwords:
        passwords.write("".join(f"password{i}\n" for i in range(1000)))
        passwords.flush()
        command = ATTACKS[mission].format(passwords=passwords.name, attacker=attacker, victim=victim).split()
        begun = time.time()
        tool = subprocess.Popen([*inside, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            hits: list[Any] = []

            def found() -> bool:
                asked = sensor.client.options(ignore_status=[404, 503])  # a data stream that is just being made
                query = {"bool": {"filter": [{"term": {"packetclip.mission": mission}}, {"term": {"destination.ip": victim}}]}}
                answer = asked.search(index=sensor.index, query=query, sort="@timestamp", size=1)
                hits[:] = answer.get("hits", {}).get("hits", [])
                return bool(hits)

            until(found, sensor.said)
            now = time.time()
        finally:
            tool.kill()
            tool.wait()
    document = hits[0]["_source"]
    return Arrival(now - begun, now - datetime.datetime.fromisoformat(document["@timestamp"]).timestamp(), document)


def main() -> None:
    """Attack `--runs` times with each tool by turns, and print how long alerts took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask_for_cluster(parser)
    parser.add_argument("--suricata", default="suricata", metavar="PROGRAM")
    parser.add_argument("--runs", type=int, default=3, choices=range(1, MOST_RUNS // len(ATTACKS) + 1), metavar="N")
    args = parser.parse_args()
    if reason := lacking():
        sys.exit(f"error: {reason}")
    suricata = suricata_at(args.suricata)
    banner(f"live attack to alert in Elasticsearch by Suricata {suricata.version}")
    waits = []
    with following(args.elasticsearch) as sensor, captured(suricata, sensor.logs) as inside:
        for run, mission in enumerate(list(ATTACKS) * args.runs, 1):
            one = attacked(mission, run, inside, sensor)
            waits.append(one.after_packet_s)
            print(
                f"{mission:14} {one.after_start_s:5.2f} s after the start, {one.after_packet_s:5.2f} s after the packet",
                flush=True,
            )
    verdict("longest from packet to document, but for the first", max(waits[1:]), BOUND_S, unit=" s")


if __name__ == "__main__":
    main()
