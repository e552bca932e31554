"""Logs to pairs: the lab's captures and, where a user has them, captures by others whose manifest allows training.

    python -m training.data.prepare --lab lab/logs --captures CAPTURES --out runs/pairs
    python -m training.data.prepare --lab lab/logs --test unseen=lab-unseen/logs --out runs/pairs --judged runs/judged

Training windows are cut ten times a second, to see an attack at more of its moments; windows to test on (--judged) once a second,
as the sensor cuts them.

A manifest is a CSV with the columns file, label and use; only rows with the use "train or test" are taken. Captures that are held
back for testing by source are named with --without.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.progress import Progress

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.errors import ConfigError, SensorError
from packetclip_sensor.pairs.labels import Labels
from packetclip_sensor.pairs.parquet import write_pairs
from packetclip_sensor.records import Batch
from packetclip_sensor.sources import tail, zeek
from packetclip_sensor.sources.pcap import logs_of
from packetclip_sensor.windows.windows import Window
from training.missions import CLASS_MISSION

TRAINABLE = "train or test"
PACKET_LOG = "packetclip_packet.log"


def records(folder: Path) -> Iterator[Batch]:
    """The batches of a folder of finished logs."""
    rejects = Rejects(None)
    return zeek.batches(tail.finite([folder], rejects=rejects), rejects, Counters())


def allowed(captures: Path, without: set[str]) -> list[tuple[Path, str, str]]:
    """(pcap, class, source) of every capture that may be trained on, from MANIFEST.csv.

    Raises:
        ConfigError: there is no manifest; nothing is trained on by guess.
    """
    manifest = captures / "MANIFEST.csv"
    if not manifest.is_file():
        raise ConfigError(f"{manifest}: no such file; it must say which captures may be trained on (file, label, use)")
    found = []
    with manifest.open(newline="") as file:
        for row in csv.DictReader(file):
            label = row["label"].replace("_", " ").removesuffix(" protocols")
            source = row.get("source") or "unknown"
            if row["use"] == TRAINABLE and label in CLASS_MISSION and source not in without:
                found.append((captures / row["file"], label, source))
    return found


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 nothing to read or no zeek for the captures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--lab", type=Path, required=True, help="folder of the lab's logs, one folder a capture, each with labels.json"
    )
    parser.add_argument("--captures", type=Path, help="folder of captures by others with a MANIFEST.csv; needs zeek")
    parser.add_argument(
        "--without", nargs="*", default=[], help="sources of the manifest to leave out, for tests on unseen sources"
    )
    parser.add_argument(
        "--also", nargs="*", default=[], metavar="NAME=LOGS", help="more lab logs to train on, each to a file of its own"
    )
    parser.add_argument(
        "--test", nargs="*", default=[], metavar="NAME=LOGS", help="lab logs to test on, cut as the sensor does; needs --judged"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the training windows")
    parser.add_argument("--judged", type=Path, help="folder of the same captures' windows as the sensor cuts them")
    parser.add_argument("--attack-windows", type=int, default=400, help="most windows of one label in one capture")
    parser.add_argument("--benign-windows", type=int, default=150, help="most windows of one benign capture by others")
    parser.add_argument("--period", type=float, default=0.1, help="cut windows so often, seconds; the sensor judges each second")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        _prepare(args)
    except SensorError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    return 0


def named(pairs_of: list[str], option: str) -> list[tuple[str, Path]]:
    """NAME=LOGS as (name, folder). Raises ConfigError."""
    out: list[tuple[str, Path]] = []
    for text in pairs_of:
        name, equals, folder = text.partition("=")
        if not equals or not re.fullmatch(r"[\w.-]+", name) or not Path(folder).is_dir():
            raise ConfigError(f"{option} {text}: write NAME=LOGS with a folder of logs, for example unseen=lab-unseen/logs")
        if name in ("lab", *(known for known, _ in out)):
            raise ConfigError(f"{option} {text}: the name {name} is taken; choose another one")
        out.append((name, Path(folder)))
    return out


def _lab(progress: Progress, name: str, logs: Path, out: Path, args: argparse.Namespace, period_s: float) -> None:
    """Write one file of a lab's windows, labelled by each capture's labels.json."""
    folders = sorted({p.parent for p in logs.glob(f"*/{PACKET_LOG}*")})
    if not folders:
        raise ConfigError(f"{logs}: no folder with {PACKET_LOG}; run `make lab` first")
    out.mkdir(parents=True, exist_ok=True)
    task = progress.add_task(f"{out.name}/{name}", total=len(folders))
    units = ((f.name, records(f), Labels.load(f / "labels.json", CLASS_MISSION)) for f in folders)
    count = write_pairs(
        units,
        out / f"{name}.parquet",
        Window(),
        most_per_unit=args.attack_windows,
        period_s=period_s,
        progress=lambda *_: progress.advance(task),
    )
    print(f"{out.name}/{name}: {count} windows of {len(folders)} captures")


def _prepare(args: argparse.Namespace) -> None:
    window = Window()
    also, test = named(args.also, "--also"), named(args.test, "--test")
    if test and not args.judged:
        raise ConfigError("--test needs --judged, the folder for windows as the sensor cuts them")
    with Progress() as progress:
        for name, logs in [("lab", args.lab), *also]:
            _lab(progress, name, logs, args.out, args, args.period)
        if args.judged:
            for name, logs in [("lab", args.lab), *test]:
                _lab(progress, name, logs, args.judged, args, 1.0)
        if not args.captures:
            return
        wanted = allowed(args.captures, set(args.without))
        logs = args.out.parent / "captures"
        task = progress.add_task("zeek", total=len(wanted))

        def replay(capture: Path) -> Path | None:
            work = logs / capture.name
            if not any(work.glob(PACKET_LOG)):
                work.mkdir(parents=True, exist_ok=True)
                logs_of(capture, work)
            progress.advance(task)
            return work if any(work.glob(PACKET_LOG)) else None

        with ThreadPoolExecutor(2) as pool:
            replayed = list(pool.map(lambda item: replay(item[0]), wanted))
        # A file a class and source: who holds a source back for a test names the other files.
        for label, source in sorted({(label, source) for _, label, source in wanted}):
            own = [work for work, (_, *of) in zip(replayed, wanted, strict=True) if of == [label, source] and work]
            most = args.benign_windows if label == "Benign" else args.attack_windows
            name = re.sub(r"[^A-Za-z0-9.]+", "-", f"captures {label} {source}") + ".parquet"
            for out, period_s in ((args.out, args.period), *(((args.judged, 1.0),) if args.judged else ())):
                count = write_pairs(
                    ((f.name, records(f), None) for f in own),
                    out / name,
                    window,
                    label=label,
                    most_per_unit=most,
                    period_s=period_s,
                )
                print(f"{out.name}/{name}: {count} windows of {len(own)} captures")


if __name__ == "__main__":
    sys.exit(main())
