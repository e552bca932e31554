"""Logs to pairs: the lab's captures and, where a user has them, captures by others whose manifest allows training.

    python -m training.data.prepare --lab lab/logs --captures CAPTURES --out runs/pairs
    python -m training.data.prepare --lab lab/logs --test unseen=lab-unseen/logs --out runs/pairs --judged runs/judged

Training windows are cut ten times a second, to see an attack at more of its moments; windows to test on (--judged) once a second,
as the sensor cuts them. With --altered each capture is cut once more, altered as a worse sensor would have it, into a file
NAME-altered.parquet beside; with --unreadable lab logs to test on are cut with their payload bytes hidden.

A manifest is a CSV with the columns file, label and use; only rows with the use "train or test" are taken. Captures that are held
back for testing by source are named with --without. Captures with the use "validate" train nothing: their windows go to --judged
alone, as validate-*.parquet, for whoever chooses a recipe or thresholds.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import Progress

from packetclip_sensor.errors import ConfigError, LogFormatError
from packetclip_sensor.pairs.labels import Interval, Labels, Truth
from packetclip_sensor.pairs.parquet import write_pairs
from packetclip_sensor.records import Batch
from packetclip_sensor.sources.pcap import logs_of
from packetclip_sensor.windows.windows import TRAINED
from training.common import exit_code, parser
from training.data import altered
from training.data.ground_truth import CHOOSING, PACKET_LOG, TRAINABLE, Listed, read_manifest, records
from training.missions import CLASS_MISSION

Unit = tuple[str, Iterable[Batch], Truth | None]
"""Name of a capture, its records, its labels."""


def allowed(captures: Path, without: Container[str], use: str = TRAINABLE) -> list[Listed]:
    """Every capture of MANIFEST.csv that may be trained on, or of another use. Raises ConfigError where there is no manifest."""
    listed = read_manifest(captures / "MANIFEST.csv")
    return [row for row in listed if row.use == use and row.label in CLASS_MISSION and row.source not in without]


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 nothing to read or no zeek for the captures."""
    arguments = parser("training.data.prepare", __doc__)
    add = arguments.add_argument
    add("--lab", type=Path, required=True, help="folder of the lab's logs, one folder a capture, each with labels.json")
    add("--captures", type=Path, help="folder of captures by others with a MANIFEST.csv; needs zeek")
    add("--without", nargs="*", default=[], help="sources of the manifest to leave out, for tests on unseen sources")
    add("--also", nargs="*", default=[], metavar="NAME=LOGS", help="more lab logs to train on, each to a file of its own")
    add("--test", nargs="*", default=[], metavar="NAME=LOGS", help="lab logs to test on, cut as the sensor does; needs --judged")
    add("--unreadable", nargs="*", default=[], metavar="NAME=LOGS", help="the same with payload bytes hidden")
    add("--out", type=Path, required=True, help="folder of the training windows")
    add("--judged", type=Path, help="folder of the same captures' windows as the sensor cuts them")
    add("--attack-windows", type=int, default=400, help="most windows of one label in one capture")
    add("--benign-windows", type=int, default=150, help="most windows of one benign capture by others")
    add("--altered", type=int, default=0, help="most windows of one label in the altered copy of a capture; 0 makes none")
    add("--period", type=float, default=0.1, help="cut windows so often, seconds; the sensor judges each second")
    args = arguments.parse_args(argv)
    return exit_code(lambda: _prepare(args))


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


def _write(capture: Iterable[Unit], folder: Path, name: str, period_s: float, most: int, **more: Any) -> None:
    """Write the windows of captures as FOLDER/NAME.parquet and say how many there are."""
    units = list(capture)
    folder.mkdir(parents=True, exist_ok=True)
    count = write_pairs(units, folder / f"{name}.parquet", TRAINED, most_per_unit=most, period_s=period_s, **more)
    print(f"{folder.name}/{name}.parquet: {count} windows of {len(units)} captures")


def _truth(folder: Path) -> Labels:
    return Labels.load(folder / "labels.json", CLASS_MISSION)


def _altered(folders: Iterable[Path], truth_of: Callable[[Path], Truth], way: str = "") -> Iterator[Unit]:
    """Captures altered in a way; in the one drawn for each where none is named."""
    for folder in folders:
        alter = partial(altered.altered, way=way or altered.way_of(folder.name), capture=folder.name)
        yield folder.name, records([folder], alter=alter), altered.WithDownloads(truth_of(folder))


def _prepare(args: argparse.Namespace) -> None:
    also, test = named(args.also, "--also"), named(args.test, "--test")
    hidden = named(args.unreadable, "--unreadable")
    if (test or hidden) and not args.judged:
        raise ConfigError("--test and --unreadable need --judged, the folder for windows as the sensor cuts them")
    cuts = [(args.out, args.period), *([(args.judged, 1.0)] if args.judged else [])]
    with Progress() as progress:
        for (folder, period_s), more in zip(cuts, (also, test), strict=False):
            for name, logs in [("lab", args.lab), *more]:
                folders = _folders(logs)
                task = progress.add_task(f"{folder.name}/{name}", total=len(folders))
                units = ((f.name, records([f]), _truth(f)) for f in folders)
                _write(units, folder, name, period_s, args.attack_windows, progress=lambda *_, t=task: progress.advance(t))
                if args.altered and folder == args.out:
                    _write(_altered(folders, _truth), folder, f"{name}-altered", period_s, args.altered)
        for name, logs in hidden:
            _write(_altered(_folders(logs), _truth, "unreadable"), args.judged, name, 1.0, args.attack_windows)
        if args.captures:
            _captures(args, cuts, progress)


def _folders(logs: Path) -> list[Path]:
    folders = sorted({p.parent for p in logs.glob(f"*/{PACKET_LOG}*")})
    if not folders:
        raise ConfigError(f"{logs}: no folder with {PACKET_LOG}; run `make lab` first")
    return folders


def _captures(args: argparse.Namespace, cuts: list[tuple[Path, float]], progress: Progress) -> None:
    trained = allowed(args.captures, args.without)
    wanted = [*trained, *(allowed(args.captures, args.without, CHOOSING) if args.judged else [])]
    task = progress.add_task("zeek", total=len(wanted))

    def replay(row: Listed) -> Path | None:
        work: Path = args.out.parent / "captures" / Path(row.file).name
        try:
            if not any(work.glob(f"{PACKET_LOG}*")):
                logs_of(args.captures / row.file, work)
        except LogFormatError as err:
            progress.console.print(f"{err}; left out", markup=False, soft_wrap=True)
            return None
        finally:
            progress.advance(task)
        return work

    with ThreadPoolExecutor(2) as pool:
        replayed = list(zip(wanted, pool.map(replay, wanted), strict=True))
    # A file a class and source: who holds a source back for a test names the other files.
    for use, label, source in sorted({(row.use, row.label, row.source) for row in wanted}):
        own = [work for row, work in replayed if (row.use, row.label, row.source) == (use, label, source) and work]
        most = args.benign_windows if label == "Benign" else args.attack_windows
        kind = "captures" if use == TRAINABLE else use
        name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{kind} {label} {source}")
        for folder, period_s in cuts if use == TRAINABLE else cuts[1:]:
            _write(((f.name, records([f]), None) for f in own), folder, name, period_s, most, label=label)
        if args.altered and use == TRAINABLE:
            attack = None if label == "Benign" else Interval(label, [], [], 0.0, float("inf"))
            units = _altered(own, lambda _, attack=attack: altered.Everything(attack))
            _write(units, args.out, f"{name}-altered", args.period, min(most, args.altered))


if __name__ == "__main__":
    sys.exit(main())
