"""Runs Zeek over every pcap of a folder and keeps the two PacketCLIP logs.

    python -m training.data.replay lab --out lab/logs

Takes the lab's own captures (their labels files go along as labels.json) and any folder of foreign pcaps, searched to its
depth. Pcaps may be gzipped.
"""

import argparse
import os
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.progress import Progress

from packetclip_sensor.errors import SensorError
from packetclip_sensor.sources import pcap
from packetclip_sensor.sources.pcap import LOGS
from training.common import DataError, argument, command

SUFFIXES = (".pcap", ".pcapng", ".cap")
SCRIPTS = Path(__file__).parents[2] / "zeek_scripts"
WHOLE_FLOWS = ("PacketCLIP::flow_min_packets=1", "PacketCLIP::packet_statistics=T")
"""A trainer wants every flow with all its columns, whatever it costs Zeek: labels are matched to flows, texts made from them."""


def find_zeek() -> str:
    """Path of zeek, on PATH or in /opt/zeek/bin; DataError where there is none."""
    if (found := pcap.find_zeek()) is None:
        raise DataError("zeek is neither on PATH nor in /opt/zeek/bin; install Zeek 7.0 or newer")
    return str(found)


def pcaps(folder: Path) -> list[Path]:
    """Every pcap below `folder`, gzipped or not, sorted; hidden folders are left out."""
    found = sorted(path for path in folder.rglob("*") if _unpacked(path).suffix in SUFFIXES and path.is_file())
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _unpacked(path: Path) -> Path:
    return path.with_suffix("") if path.suffix == ".gz" else path


def name_of(capture: Path, folder: Path) -> str:
    """Name of a pcap's log folder: its path below `folder` without suffix; a file called capture.pcap takes its folder's name."""
    plain = _unpacked(capture.relative_to(folder))
    if plain.stem == "capture" and plain.parent.parts:
        return plain.parent.as_posix()
    return plain.with_suffix("").as_posix()


def replay(capture: Path, target: Path, scripts: Path = SCRIPTS) -> int:
    """Run Zeek over one pcap; puts the two logs into `target`, whole or not at all. Returns the number of packet lines.

    Raises:
        SensorError: Zeek failed, or wrote no packet log; the message names the pcap and what Zeek printed.
    """
    made = pcap.logs_of(capture, target, scripts=scripts, options=WHOLE_FLOWS)
    if made.problem:
        for log in LOGS:
            (target / log).unlink(missing_ok=True)
        raise DataError(made.problem)
    with (target / LOGS[-1]).open("rb") as lines:
        return sum(1 for _ in lines)


def _one(capture: Path, folder: Path, out: Path, scripts: Path) -> str:
    name, plain = name_of(capture, folder), _unpacked(capture)
    lines = replay(capture, out / name, scripts)
    for labels in (plain.with_suffix(".labels.json"), plain.parent / "labels.json"):
        if labels.exists():
            shutil.copyfile(labels, out / name / "labels.json")
            break
    return f"{name}: {lines} packet lines"


def _stale(capture: Path, folder: Path, out: Path) -> bool:
    log = out / name_of(capture, folder) / LOGS[-1]
    return not log.exists() or log.stat().st_mtime < capture.stat().st_mtime


@command(
    argument("folder", type=Path, nargs="?", default=Path("lab"), help="folder of pcaps, searched to its depth"),
    argument("--out", type=Path, default=Path("lab/logs"), help="a folder NAME with the logs for each pcap goes here"),
    argument("--scripts", type=Path, default=SCRIPTS, help="the Zeek package"),
    argument("--jobs", type=int, default=os.cpu_count() or 1),
    argument("--again", action="store_true", help="also replay pcaps whose logs are newer than they"),
)
def main(args: argparse.Namespace) -> int:
    """Exit codes: 0 all replayed, 1 some failed, 2 cannot start."""
    if not args.folder.is_dir():
        raise DataError(f"{args.folder} is no folder; record one with python -m training.lab")
    find_zeek()
    found = [path for path in pcaps(args.folder) if args.again or _stale(path, args.folder, args.out)]
    failed = 0
    with Progress() as progress, ThreadPoolExecutor(args.jobs) as pool:
        runs = [pool.submit(_one, path, args.folder, args.out, args.scripts) for path in found]
        for run in progress.track(as_completed(runs), total=len(runs), description="zeek"):
            try:
                progress.console.print(run.result())
            except (SensorError, OSError, ValueError) as err:
                failed += 1
                progress.console.print(f"[red]failed[/] {err}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
