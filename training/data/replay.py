"""`python -m training.data.replay lab --out lab/logs`: runs Zeek over every pcap of a folder and keeps the two PacketCLIP logs.

Takes the lab's own captures (their labels files go along as labels.json) and any folder of foreign pcaps, searched to its
depth; there the label may come from the folder's name. Pcaps may be gzipped.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.progress import Progress

LOGS = ("packetclip_packet.log", "packetclip_flow.log")
SUFFIXES = (".pcap", ".pcapng", ".cap")
SCRIPTS = Path(__file__).parents[2] / "zeek_scripts"
WHOLE_FLOWS = ("PacketCLIP::flow_min_packets=1", "PacketCLIP::packet_statistics=T")
"""A trainer wants every flow with all its columns, whatever it costs Zeek: labels are matched to flows, texts told from them."""


class ReplayError(Exception):
    """Zeek is missing or refused a pcap; the message names the pcap and what Zeek said."""


def find_zeek() -> str:
    """Path of zeek, on PATH or in /opt/zeek/bin; ReplayError where there is none."""
    found = shutil.which("zeek") or shutil.which("zeek", path="/opt/zeek/bin")
    if not found:
        raise ReplayError("zeek is neither on PATH nor in /opt/zeek/bin; install Zeek 7.0 or newer")
    return found


def pcaps(folder: Path) -> list[Path]:
    """Every pcap below `folder`, gzipped or not, sorted; hidden folders are left out."""
    found = []
    for path in sorted(folder.rglob("*")):
        plain = path.with_suffix("") if path.suffix == ".gz" else path
        if (
            plain.suffix in SUFFIXES
            and path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        ):
            found.append(path)
    return found


def name_of(pcap: Path, folder: Path) -> str:
    """Name of a pcap's log folder: its path below `folder` without suffix; a file called capture.pcap takes its folder's name."""
    relative = pcap.relative_to(folder)
    plain = relative.with_suffix("") if relative.suffix == ".gz" else relative
    if plain.stem == "capture" and plain.parent.parts:
        return plain.parent.as_posix()
    return plain.with_suffix("").as_posix()


def _labels(pcap: Path, name: str, label_folders: bool) -> dict[str, object] | None:
    plain = pcap.with_suffix("") if pcap.suffix == ".gz" else pcap
    for beside in (plain.with_suffix(".labels.json"), plain.parent / "labels.json"):
        if beside.exists():
            found: dict[str, object] = json.loads(beside.read_text())
            return found
    if label_folders:
        return {"capture": name, "profile": "foreign", "label": pcap.parent.name, "intervals": []}
    return None


def replay(pcap: Path, target: Path, scripts: Path = SCRIPTS) -> int:
    """Run Zeek over one pcap; puts the two logs into `target`, whole or not at all. Returns the number of packet lines.

    Raises:
        ReplayError: Zeek failed, or wrote no packet log.
    """
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        work = Path(folder)
        source = pcap.absolute()
        if pcap.suffix == ".gz":
            source = work / "capture.pcap"
            with gzip.open(pcap) as packed, source.open("wb") as plain:
                shutil.copyfileobj(packed, plain)
        done = subprocess.run(
            [find_zeek(), "-C", "-r", str(source), str(scripts.absolute()), *WHOLE_FLOWS],
            cwd=work,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode or not (work / LOGS[0]).exists():
            raise ReplayError(f"{pcap}: zeek exit code {done.returncode}, {(done.stderr or 'no packet log').strip()[-300:]}")
        target.mkdir(parents=True, exist_ok=True)
        for log in LOGS:
            if (work / log).exists():
                shutil.copyfile(work / log, target / f".{log}")
                (target / f".{log}").rename(target / log)
        with (target / LOGS[0]).open("rb") as lines:
            return sum(1 for _ in lines)


def _one(pcap: Path, folder: Path, out: Path, scripts: Path, label_folders: bool) -> str:
    name = name_of(pcap, folder)
    target = out / name
    lines = replay(pcap, target, scripts)
    labels = _labels(pcap, name, label_folders)
    if labels is not None:
        (target / "labels.json").write_text(json.dumps(labels, indent=1))
    return f"{name}: {lines} packet lines"


def _stale(pcap: Path, folder: Path, out: Path) -> bool:
    log = out / name_of(pcap, folder) / LOGS[0]
    return not log.exists() or log.stat().st_mtime < pcap.stat().st_mtime


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 all replayed, 1 some failed, 2 cannot start."""
    parser = argparse.ArgumentParser(prog="python -m training.data.replay", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("lab"), help="folder of pcaps, searched to its depth")
    parser.add_argument("--out", type=Path, default=Path("lab/logs"), help="a folder NAME with the logs for each pcap goes here")
    parser.add_argument("--scripts", type=Path, default=SCRIPTS, help="the Zeek package")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--label-folders", action="store_true", help="label pcaps without labels file by their folder's name")
    parser.add_argument("--again", action="store_true", help="also replay pcaps whose logs are newer than they")
    options = parser.parse_args(argv)
    if not options.folder.is_dir():
        print(f"error: {options.folder} is no folder; record one with python -m training.lab", file=sys.stderr)
        return 2
    try:
        find_zeek()
    except ReplayError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    found = [pcap for pcap in pcaps(options.folder) if options.again or _stale(pcap, options.folder, options.out)]
    failed = 0
    with Progress() as progress, ThreadPoolExecutor(options.jobs) as pool:
        task = progress.add_task("zeek", total=len(found))
        runs = [pool.submit(_one, pcap, options.folder, options.out, options.scripts, options.label_folders) for pcap in found]
        for run in as_completed(runs):
            progress.advance(task)
            try:
                progress.console.print(run.result())
            except (ReplayError, OSError, ValueError) as err:
                failed += 1
                progress.console.print(f"[red]failed[/] {err}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
