"""Records one capture: builds its network, starts servers, clients and tcpdump, runs the attacks, writes pcap and labels."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.lab import network, services
from training.lab.clients import HABITS
from training.lab.plan import Attack, Capture, Host

HERE = Path(__file__).parent
GRACE_S = 1.0
"""Added to a tool's end."""
LEAST_FREE = 1 << 30
"""Bytes that must be free before a capture starts: a few captures of 30,000 large packets at once."""


class LabError(Exception):
    """A capture that could not be recorded; the message names the capture and what failed."""


def paths(out: Path, name: str) -> tuple[Path, Path]:
    """The pcap and the labels file of a capture."""
    return out / f"{name}.pcap", out / f"{name}.labels.json"


def finished(out: Path, name: str) -> bool:
    """True where both files stand; the labels file is written last."""
    return all(path.exists() for path in paths(out, name))


def outdated(out: Path, capture: Capture) -> bool:
    """True where the recorded capture followed another plan than this one; ValueError where its labels cannot be read."""
    recorded = json.loads(paths(out, capture.name)[1].read_text()).get("plan")
    return bool(recorded != json.loads(json.dumps(capture.described())))


def tidy(out: Path) -> None:
    """Remove what a killed run left in `out`: work folders and unfinished pcaps."""
    for left in [*out.glob("*.part"), *out.glob(".work/*")]:
        if left.suffix == ".part":
            left.unlink()
        elif left.name != "shared":
            shutil.rmtree(left, ignore_errors=True)


def record(capture: Capture, out: Path) -> dict[str, Any]:
    """Record `capture` into `out`; returns the labels as written. Removes its namespaces and processes in any case.

    Raises:
        LabError: a server did not start, tcpdump wrote nothing, the disk is nearly full, or the machine's accounts changed.
    """
    free = shutil.disk_usage(out).free
    if free < LEAST_FREE:
        raise LabError(
            f"{capture.name}: {out} has {free >> 20} MB free, the lab wants {LEAST_FREE >> 20}; make room and start again"
        )
    work, shared = (out / ".work" / capture.name).absolute(), (out / ".work" / "shared").absolute()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for folder in (out, out / ".work", work):
        folder.chmod(0o755)
    for name, lines in capture.words.items():
        (work / name).write_text("\n".join(lines) + "\n")
    prefix = network.namespace(capture, "")
    network.remove(prefix)
    before = _accounts_files()
    try:
        network.build(capture, services.accounts(work, capture))
        labels = _run(capture, out, work, shared)
        if _accounts_files() != before:
            # Replacing /etc/passwd takes away what is laid over it in a namespace: from then on every log-in is refused.
            for path in paths(out, capture.name):
                path.unlink()
            raise LabError(f"{capture.name}: this machine's accounts changed meanwhile (an installation?); record it again")
        return labels
    finally:
        network.remove(prefix)
        shutil.rmtree(work, ignore_errors=True)


def _accounts_files() -> list[tuple[int, int]]:
    """Which files the machine's accounts stand in."""
    return [(found.st_dev, found.st_ino) for found in (Path("/etc", name).stat() for name in ("passwd", "group", "shadow"))]


def _spawn(capture: Capture, host: str, argv: list[str], work: Path, log: str, **env: str) -> subprocess.Popen[bytes]:
    with (work / f"{log}.log").open("wb") as output:
        return subprocess.Popen(
            network.command_in(network.namespace(capture, host), argv),
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"HOME": str(work / "home"), "LC_ALL": "C", "TERM": "dumb"} | env,
        )


def _run(capture: Capture, out: Path, work: Path, shared: Path) -> dict[str, Any]:
    daemons = {}
    for host in capture.hosts:
        for name, argv in services.commands(host, capture, work, shared).items():
            daemons[f"{host.name}-{name}"] = _spawn(capture, host.name, argv, work, f"{host.name}-{name}")
    time.sleep(1.5)
    dead = [name for name, process in daemons.items() if process.poll() is not None]
    if dead:
        said = (work / f"{dead[0]}.log").read_text(errors="replace")[-300:]
        raise LabError(f"{capture.name}: server {', '.join(dead)} ended at once: {said}")

    pcap, labels_path = paths(out, capture.name)
    raw = pcap.with_suffix(".part")
    tcpdump = ["tcpdump", "-i", "br0", "-n", "-B", "16384", "-c", str(capture.max_packets), "-U", "-w", str(raw.absolute())]
    sniffer = _spawn(capture, "sw", [*tcpdump, "-Z", "root"], work, "tcpdump")
    time.sleep(0.7)
    begin = time.time()
    planned = max([capture.duration_s, *[attack.at + attack.limit_s + 1 for attack in capture.attacks]])
    for host in capture.hosts:
        _start_clients(capture, host, work, shared, planned + 2)
    intervals = [_attack(capture, attack, work, begin) for attack in sorted(capture.attacks, key=lambda a: a.at)]
    rest = capture.duration_s - (time.time() - begin)
    time.sleep(max(rest, 2.0))
    end = time.time()
    _stretch(intervals, end)
    full = sniffer.poll() is not None
    if not full:
        os.killpg(sniffer.pid, signal.SIGINT)
        sniffer.wait(10)
    if not raw.exists() or raw.stat().st_size < 1000:
        raise LabError(f"{capture.name}: tcpdump wrote nothing: {(work / 'tcpdump.log').read_text()[-300:]}")
    labels = {
        "capture": capture.name,
        "profile": capture.profile,
        "start": begin,
        "end": end,
        "packets": _packets(work / "tcpdump.log"),
        "full": full,
        "intervals": intervals,
        "benign_clients": [
            {
                "host": host.name,
                "addresses": host.plain(),
                "habits": sorted({h.name for h in capture.habits if h.host == host.name}),
            }
            for host in capture.hosts
            if any(h.host == host.name for h in capture.habits)
        ],
        "plan": capture.described(),
    }
    raw.rename(pcap)
    labels_path.write_text(json.dumps(labels, indent=1))
    return labels


def _stretch(intervals: list[dict[str, Any]], end: float) -> None:
    """Keep the tool's own end as `stopped` and let the interval run to the capture's end or the next attack on its victims.

    What still passes between attacker and victim then (SYN-ACKs sent again, connections timing out) belongs to the attack, for
    the attacking host does nothing else in a capture.
    """
    for index, interval in enumerate(intervals):
        interval["stopped"] = interval["end"]
        later = [other["start"] for other in intervals[index + 1 :] if _overlap(other["victim"], interval["victim"])]
        interval["end"] = min([end, *later])


def _overlap(one: list[str], other: list[str]) -> bool:
    return bool(set(one) & set(other)) or any("/" in victim for victim in [*one, *other])


def _packets(log: Path) -> int:
    found = re.search(r"(\d+) packets? captured", log.read_text(errors="replace"))
    return int(found[1]) if found else 0


def _start_clients(capture: Capture, host: Host, work: Path, shared: Path, seconds: float) -> None:
    mine = [asdict(habit) for habit in capture.habits if habit.host == host.name]
    unknown = {habit["name"] for habit in mine} - HABITS.keys()
    if unknown:
        raise LabError(f"{capture.name}: no habit is called {', '.join(sorted(unknown))}")
    if mine:
        plan = {"seed": f"{capture.seed}/{capture.name}/{host.name}", "seconds": seconds, "habits": mine}
        text = json.dumps(plan).replace("{work}", str(work)).replace("{shared}", str(shared))
        (work / f"{host.name}.json").write_text(text)
        argv = [sys.executable, "-P", "-m", "training.lab.clients", str(work / f"{host.name}.json")]
        _spawn(capture, host.name, argv, work, f"clients-{host.name}", PYTHONPATH=str(HERE.parent.parent))


def _attack(capture: Capture, attack: Attack, work: Path, begin: float) -> dict[str, Any]:
    """Run one tool at its time, at most `limit_s`; returns its interval, tight but for GRACE_S after its end."""
    time.sleep(max(0.0, begin + attack.at - time.time()))
    command = attack.command.replace("{work}", str(work)).replace("{here}", str(HERE))
    start = time.time()
    name = f"attack-{attack.label.replace(' ', '')}-{attack.at:.0f}"
    process = _spawn(capture, attack.host, ["sh", "-c", command], work, name)
    try:
        code: int | None = process.wait(attack.limit_s)
    except subprocess.TimeoutExpired:
        code = None
        for sign in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(process.pid, sign)
            time.sleep(0.1)
        process.wait()
    stopped = time.time()
    said = (work / f"{name}.log").read_text(errors="replace")
    return {
        "label": attack.label,
        "tool": attack.tool,
        "command": attack.command,
        "attacker": attack.attacker,
        "victim": attack.victim,
        "start": start,
        "end": stopped + GRACE_S,
        "exit_code": code,
        "said": said[-400:],
    }
