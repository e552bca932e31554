"""`python -m training.lab --out lab --seed 1`: records the planned captures that are not there yet, a few at a time.

What a killed run left behind (namespaces with all their processes, files in /etc/netns, work folders) goes at the next start.

    sudo python -m training.lab --out lab --only m0 --jobs 3
    sudo python -m training.lab --profile world world-unseen --out lab-{profile}
"""

import argparse
import atexit
import fcntl
import json
import os
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import chain
from pathlib import Path
from subprocess import SubprocessError

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from training.common import DataError, argument, command
from training.lab import network, services
from training.lab.catalogue import captures
from training.lab.plan import Capture
from training.lab.record import LabError, finished, outdated, record, tidy
from training.lab.table import profiles

LOCK = Path("/run/packetclip-lab.lock")
SLOW_S, SLOW_JOBS = 120, 24
"""A capture that lasts longer than so many seconds mostly waits: so many of these are recorded beside `--jobs` others."""
HELP_OUT = "folder for NAME.pcap and NAME.labels.json; {profile} in it stands for the profile's name"
NEEDED = ("ip", "ethtool", "tcpdump", "nmap", "hping3", "nginx", "dnsmasq", "vsftpd", "mosquitto", "snmpd", "chronyd", "hydra")


def _lacking() -> str:
    if os.geteuid() != 0:
        return "the lab makes network namespaces and needs root; run it with sudo"
    missing = [tool for tool in NEEDED if not shutil.which(tool)]
    if missing:
        packages = Path(__file__).with_name("packages.txt")
        return f"not installed: {', '.join(missing)}; run: apt-get install $(grep -v '^#' {packages})"
    return ""


def _stop(signum: int, frame: object) -> None:
    network.remove(network.PREFIX)
    os._exit(128 + signum)


def _of_profiles(arguments: argparse.ArgumentParser) -> None:
    about = ", ".join(f"{name} {profile.about}" for name, profile in profiles().items())
    arguments.add_argument("--profile", choices=sorted(profiles()), nargs="+", default=["first"], help=about)


@command(
    argument("--out", type=Path, default=Path("lab"), help=HELP_OUT),
    argument("--seed", type=int, default=1, help="seed of the plan"),
    _of_profiles,
    argument("--only", default="", help="record only captures whose name contains this (one of these, with commas)"),
    argument("--again", action="store_true", help="also record anew the captures whose plan has changed since"),
    argument("--jobs", type=int, default=3, help="captures recorded at the same time"),
    argument("--plan", action="store_true", help="print the plan as JSON lines and stop"),
)
def main(options: argparse.Namespace) -> int:
    """Exit codes: 0 all recorded, 1 some failed, 2 cannot start."""
    every = {profile: captures(profile, options.seed) for profile in options.profile}
    planned: dict[Path, list[Capture]] = {}
    for profile, found in every.items():
        here = [capture for capture in found if any(part in capture.name for part in options.only.split(","))]
        planned.setdefault(Path(str(options.out).replace("{profile}", profile)), []).extend(here)
    if options.plan:
        for capture in chain(*planned.values()):
            print(json.dumps(capture.described()))
        return 0
    if lack := _lacking():
        raise DataError(lack)
    # Two runs would delete each other's namespaces as leftovers; the lock goes with the process, however it ends.
    lock = LOCK.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as err:
        raise DataError(f"another lab is recording (it holds {LOCK}); wait for its end") from err
    network.remove(network.PREFIX)
    atexit.register(network.remove, network.PREFIX)
    for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sign, _stop)
    missing: dict[str, tuple[Capture, Path]] = {}
    for out, here in planned.items():
        out.mkdir(parents=True, exist_ok=True)
        tidy(out)
        services.keys((out / ".work" / "shared").absolute())
        missing |= {capture.name: (capture, out) for capture in _missing(here, out, options.again)}
    lasts, console = [capture.seconds for capture, _ in missing.values()], Console(stderr=True)
    quick, slow = ([seconds for seconds in lasts if (seconds > SLOW_S) is long] for long in (False, True))
    minutes = max([sum(quick) / options.jobs, sum(slow) / SLOW_JOBS, *lasts]) / 60
    shaped = "netem" if network.netem() else "a process a host (the kernel has no netem)"
    count = sum(map(len, planned.values()))
    there = f"{count} captures planned, {count - len(missing)} there already"
    console.print(f"{there}; about {minutes:.0f} minutes, links by {shaped}")
    return 1 if _record_all([*missing.values()], options.jobs, console) else 0


def _missing(planned: list[Capture], out: Path, again: bool) -> list[Capture]:
    """Captures to record: those that are not there, and with `again` those of another plan, which are named in any case."""
    there = [capture for capture in planned if finished(out, capture.name)]
    old = {capture.name for capture in there if outdated(out, capture)}
    if old and not again:
        print(f"recorded by an older plan and kept (--again records them anew): {', '.join(sorted(old))}", file=sys.stderr)
    kept = {capture.name for capture in there} - (old if again else set())
    return [capture for capture in planned if capture.name not in kept]


def _record_all(missing: list[tuple[Capture, Path]], jobs: int, console: Console) -> int:
    failed = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        Progress(*columns, console=console) as progress,
        ThreadPoolExecutor(jobs) as quick,
        ThreadPoolExecutor(SLOW_JOBS) as slow,
    ):
        task = progress.add_task("recording", total=len(missing))
        running = {(slow if one.seconds > SLOW_S else quick).submit(record, one, out): one for one, out in missing}
        for future in as_completed(running):
            progress.advance(task)
            try:
                labels = future.result()
            except (LabError, OSError, ValueError, KeyError, SubprocessError) as err:
                failed += 1
                progress.console.print(f"[red]failed[/] {running[future].name}: {err}")
                continue
            tools = ", ".join(f"{i['label']} by {i['tool']} ({i['exit_code']})" for i in labels["intervals"]) or "benign"
            progress.console.print(f"{labels['capture']}: {labels['packets']} packets, {tools}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
