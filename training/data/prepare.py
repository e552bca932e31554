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

import argparse
import re
import sys
from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import Progress

from packetclip_sensor.errors import ConfigError, LogFormatError
from packetclip_sensor.sources.pcap import logs_of
from training.common import argument, command
from training.data import units
from training.data.ground_truth import CHOOSING, PACKET_LOG, TRAINABLE, Listed, read_manifest
from training.data.units import Capture
from training.missions import CLASS_MISSION

if TYPE_CHECKING:
    from distributed import Client


def allowed(captures: Path, without: Container[str], use: str = TRAINABLE) -> list[Listed]:
    """Every capture of MANIFEST.csv that may be trained on, or of another use. Raises ConfigError where there is no manifest."""
    listed = read_manifest(captures / "MANIFEST.csv")
    return [row for row in listed if row.use == use and row.label in CLASS_MISSION and row.source not in without]


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


_logs = partial(argument, nargs="*", default=[], metavar="NAME=LOGS")


@command(
    argument("--lab", type=Path, required=True, help="folder of the lab's logs, one folder a capture, each with labels.json"),
    argument("--captures", type=Path, help="folder of captures by others with a MANIFEST.csv; needs zeek"),
    argument("--without", nargs="*", default=[], help="sources of the manifest to leave out, for tests on unseen sources"),
    _logs("--also", help="more lab logs to train on, each to a file of its own"),
    _logs("--test", help="lab logs to test on, cut as the sensor does; needs --judged"),
    _logs("--unreadable", help="the same with payload bytes hidden"),
    argument("--out", type=Path, required=True, help="folder of the training windows"),
    argument("--judged", type=Path, help="folder of the same captures' windows as the sensor cuts them"),
    argument("--attack-windows", type=int, default=400, help="most windows of one label in one capture"),
    argument("--benign-windows", type=int, default=150, help="most windows of one benign capture by others"),
    argument("--altered", type=int, default=0, help="most windows of one label in the altered copy of a capture; 0 makes none"),
    argument("--workers", type=int, metavar="N", help="cut by N processes of this machine; needs the extra scale"),
    argument("--scheduler", metavar="ADDRESS", help="cut by the workers of this Dask scheduler, which see the same files"),
    argument("--period", type=float, default=0.1, help="cut windows so often, seconds; the sensor judges each second"),
)
def main(args: argparse.Namespace) -> None:
    """Exit codes: 0 done, 2 nothing to read or no zeek for the captures."""
    if args.workers is None and args.scheduler is None:
        _prepare(args, None)
        return
    from packetclip_sensor.scale.cluster import workers  # noqa: PLC0415  (Dask is an extra)

    with workers(args.workers, args.scheduler) as client:
        _prepare(args, client)


def _prepare(args: argparse.Namespace, client: "Client | None") -> None:
    also, test = named(args.also, "--also"), named(args.test, "--test")
    hidden = named(args.unreadable, "--unreadable")
    if (test or hidden) and not args.judged:
        raise ConfigError("--test and --unreadable need --judged, the folder for windows as the sensor cuts them")
    cuts = [(args.out, args.period), *([(args.judged, 1.0)] if args.judged else [])]
    with Progress() as progress:

        def write(found: Sequence[Capture], folder: Path, name: str, period_s: float, most: int) -> None:
            task = progress.add_task(f"{folder.name}/{name}", total=len(found))
            done = partial(progress.advance, task)
            count = units.write(found, folder / f"{name}.parquet", units.Cutting(period_s, most), client=client, progress=done)
            print(f"{folder.name}/{name}.parquet: {count} windows of {len(found)} captures")

        for (folder, period_s), more in zip(cuts, (also, test), strict=False):
            for name, logs in [("lab", args.lab), *more]:
                folders = _folders(logs)
                write([Capture(f) for f in folders], folder, name, period_s, args.attack_windows)
                if args.altered and folder == args.out:
                    write([Capture(f, way="") for f in folders], folder, f"{name}-altered", period_s, args.altered)
        for name, logs in hidden:
            write([Capture(f, way="unreadable") for f in _folders(logs)], args.judged, name, 1.0, args.attack_windows)
        if args.captures:
            _captures(args, cuts, progress, write)


def _folders(logs: Path) -> list[Path]:
    folders = sorted({p.parent for p in logs.glob(f"*/{PACKET_LOG}*")})
    if not folders:
        raise ConfigError(f"{logs}: no folder with {PACKET_LOG}; run `make lab` first")
    return folders


def _captures(args: argparse.Namespace, cuts: list[tuple[Path, float]], progress: Progress, write: Callable[..., None]) -> None:
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
            write([Capture(f, label) for f in own], folder, name, period_s, most)
        if args.altered and use == TRAINABLE:
            write([Capture(f, label, "") for f in own], args.out, f"{name}-altered", args.period, min(most, args.altered))


if __name__ == "__main__":
    sys.exit(main())
