"""Scores every window of labelled captures once and keeps its row, so that a model of evidence is fitted in minutes.

python -m training.evidence.collect --out runs/evidence --logs lab/logs lab-harden/logs
python -m training.evidence.collect --out runs/evidence --captures runs/captures --manifest CAPTURES/MANIFEST.csv --use validate
python -m training.evidence.collect --out runs/evidence --logs lab/logs --model runs/seed-1 --held-out

A model is surer of captures that it was trained on. With --held-out only those are scored that the bundle held out of its
training; bundles of several seeds, one after the other into the same folder, hold out most of them.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
from rich.progress import track

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.common.resources import resource
from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.evidence.flow_counts import FLOWS, Counted, FlowCounts
from packetclip_sensor.evidence.rows import Rows, rows_of
from packetclip_sensor.model.bundle import MANIFEST, Bundle
from packetclip_sensor.model.encoder import Encoder
from packetclip_sensor.model.judge import Judge
from packetclip_sensor.normalize.normalizer import normalized
from packetclip_sensor.records import FloatArray, HuntWindow
from packetclip_sensor.sources import tail, zeek
from packetclip_sensor.windows.cutter import windows
from packetclip_sensor.windows.packet_features import ModelInput, model_input
from training.common import DataError, exit_code, parser, write_arrays
from training.data.ground_truth import Truth, from_labels, from_manifest, read_manifest

More = Callable[[ModelInput, Encoder], FloatArray]
"""Probabilities of a batch's windows, (W, n), of missions that the bundle lacks."""


def collect(truth: Truth, bundle: Bundle, more: More | None = None) -> tuple[Rows, FloatArray, list[Counted], int]:
    """All rows of a capture in the sensor's order with the rates of their streams, what its flow rows add, and its packets."""
    found: list[Rows] = []
    rates: list[FloatArray] = []

    def tap(given: ModelInput, probabilities: FloatArray, encoder: Encoder) -> list[HuntWindow]:
        if more is not None:
            probabilities = np.concatenate([probabilities, more(given, encoder)], axis=1)
        found.append(rows_of(given, probabilities))
        rates.append(given.streams.rate)
        flows.take(given.windows.batch.flows)
        return []

    counters, rejects = Counters(), Rejects(None)
    flows = FlowCounts(counters)
    batches = zeek.together(zeek.batches(tail.finite([truth.folder], rejects=rejects), rejects, counters))
    never = dict.fromkeys(bundle.manifest.missions.names, 2.0)
    judge = Judge(bundle, never, counters, tap=tap)
    for cut in windows(normalized(batches, counters, rejects), bundle.manifest.window, counters):
        judge(model_input(cut))
    arrays = [np.concatenate([getattr(r, name) for r in found]) for name in ("second", "log_odds", "counts", "looks", "begun")]
    rows = Rows([s for r in found for s in r.stream], *arrays)
    return rows, np.concatenate(rates), flows.until(math.inf), counters.packets


def save(path: Path, rows: Rows, rate: FloatArray, flows: Sequence[Counted], packets: int, truth: Truth, source: str) -> None:
    """Write a capture's rows with what is in it."""
    about = {"packets": packets, "source": source, "intervals": msgspec.to_builtins(truth.intervals)}
    write_arrays(
        path,
        stream=np.array(["\t".join(map(str, s)) for s in rows.stream]),
        second=rows.second,
        log_odds=rows.log_odds,
        counts=rows.counts,
        looks=rows.looks.astype(np.float16),
        begun=rows.begun,
        rate=rate,
        flow_due=np.array([f.due for f in flows], np.float64),
        flow_hosts=np.array([f"{f.orig_h}\t{f.resp_h}" for f in flows], np.str_),
        flow_values=np.array([f.values for f in flows], np.float64).reshape(-1, len(FLOWS)),
        about=np.array(msgspec.json.encode(about).decode()),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 all rows are there, 2 they cannot be made."""
    arguments = options("training.evidence.collect", __doc__)
    arguments.add_argument("--held-out", action="store_true", help="only captures that the bundle held out of its training")
    args = arguments.parse_args(argv)
    return exit_code(lambda: _run(args))


def options(module: str, description: str | None) -> argparse.ArgumentParser:
    """What says which rows of which captures are made."""
    arguments = parser(module, description)
    add = arguments.add_argument
    add("--out", type=Path, required=True, help="folder of the rows; those that are there are not made again")
    add("--model", type=Path, default=resource("model/shipped"))
    add(
        "--logs",
        type=Path,
        nargs="*",
        default=[],
        help="labelled logs; the folder's name, of X/logs X, is the source",
    )
    add("--captures", type=Path, help="logs of captures by others; needs --manifest")
    add("--manifest", type=Path)
    add("--use", nargs="*", default=["train or test"])
    return arguments


def _run(args: argparse.Namespace) -> None:
    data = json.loads((args.model / MANIFEST).read_bytes()).get("data", {})
    write(args, lambda name: not args.held_out or name in data.get("held out", ()))


def write(args: argparse.Namespace, wanted: Callable[[str], bool], more: More | None = None) -> None:
    """Write the rows that the options ask for, of captures whose names are wanted. Raises DataError where there is none."""
    bundle = Bundle.open(args.model)
    found = [(truth, f"lab/{_name(folder)}") for folder in args.logs for truth in from_labels(folder)]
    if args.captures and args.manifest:
        sources = {Path(listed.file).name: listed.source for listed in read_manifest(args.manifest)}
        for use in args.use:
            found += [(t, sources[t.folder.name]) for t in from_manifest(args.captures, args.manifest, use)]
    found = [(truth, source) for truth, source in found if wanted(truth.folder.name)]
    if not found:
        raise DataError("no labelled logs; give --logs or --captures with --manifest, and a bundle that held some out")
    for truth, source in track(found, description="judging"):
        path = args.out / f"{truth.folder.name}.npz"
        if not path.exists():
            with suppress(LogFormatError):
                save(path, *collect(truth, bundle, more), truth, source)


def _name(folder: Path) -> str:
    folder = folder.absolute()
    return folder.parent.name if folder.name == "logs" else folder.name


if __name__ == "__main__":
    sys.exit(main())
