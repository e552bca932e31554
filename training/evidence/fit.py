"""Fits the evidence model of a bundle to rows that `training.evidence.collect` wrote, and says what it is worth.

    python -m training.evidence.fit --rows runs/evidence --manifest CAPTURES/MANIFEST.csv
    python -m training.evidence.fit --rows runs/evidence --manifest CAPTURES/MANIFEST.csv --write runs/new

Each capture is scored by a model that saw none of its source or, of the lab, its tool. On these scores thresholds are chosen:
most captures named, as the mean over classes, at --false-alerts in 100,000 benign packets. Captures that may only choose come
last, at these thresholds. Of missions that are not in --missions single windows decide, as without evidence.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.config.settings import Policy
from packetclip_sensor.evidence.model import FILE, EvidenceModel, Scorer
from packetclip_sensor.model.bundle import MANIFEST, sealed
from training.common import DataError, exit_code, parser, write_whole
from training.data.ground_truth import read_manifest
from training.evidence.network import Floats, Recipe, fit
from training.evidence.score import Curve, by_least
from training.evidence.table import Capture, load
from training.missions import ALL, MISSIONS

LEAST = {
    m: (least.packets or Policy().open_packets, least.connections or 0) for m, least in for_missions(Policy(), ALL).least.items()
}


def of_windows(capture: Capture) -> Floats:
    """(W, missions) log-odds of single windows, without those that `policy.least` holds back."""
    return by_least(capture, capture.inputs[:, : len(MISSIONS)].astype(np.float64), LEAST)


def joined(model: EvidenceModel, capture: Capture, missions: Sequence[str]) -> Floats:
    """(W, missions) log-odds: the model's of `missions`, single windows' of the others."""
    found = Scorer(model, list(MISSIONS))(capture.inputs.astype(np.float64))
    return np.where([m in missions for m in MISSIONS], found, of_windows(capture))


def across(captures: Sequence[Capture], recipe: Recipe, missions: Sequence[str], folds: int) -> list[Floats]:
    """The scores of every capture by a model that saw none of its group."""
    groups = sorted({c.group for c in captures})
    np.random.default_rng(recipe.seed).shuffle(groups)
    fold = {group: i % folds for i, group in enumerate(groups)}
    out: dict[str, Floats] = {}
    for i in range(folds):
        model = fit([c for c in captures if fold[c.group] != i], recipe)
        out |= {c.name: joined(model, c, missions) for c in captures if fold[c.group] == i}
    return [out[c.name] for c in captures]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 the figures are printed, and the file written with --write; 2 there are no rows."""
    arguments = parser("training.evidence.fit", __doc__)
    add = arguments.add_argument
    add("--rows", type=Path, required=True)
    add("--manifest", type=Path, help="of captures by others: says which may only choose")
    add("--missions", nargs="+", default=["Brute Force"], choices=list(MISSIONS))
    add(
        "--optimistic",
        nargs="*",
        default=[],
        help="beginnings of groups that the windows' model was trained on: fitted to, not counted",
    )
    add("--folds", type=int, default=4)
    add("--false-alerts", type=float, default=1.0, help="in 100,000 benign packets")
    add("--write", type=Path, help="bundle that gets the model")
    args = arguments.parse_args(argv)
    return exit_code(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    captures, recipe = load(args.rows), Recipe()
    if not captures:
        raise DataError(f"{args.rows}: no rows; write them with python -m training.evidence.collect")
    uses = {Path(listed.file).name: listed.use for listed in read_manifest(args.manifest)} if args.manifest else {}
    choosing = [c for c in captures if uses.get(c.name) == "validate"]
    fitted = [c for c in captures if uses.get(c.name, "train or test") == "train or test"]
    counted = [not c.group.startswith(tuple(args.optimistic)) for c in fitted]
    both = {"single windows": [of_windows(c) for c in fitted], "evidence": across(fitted, recipe, args.missions, args.folds)}
    model = fit(fitted, recipe)
    last = {"single windows": [of_windows(c) for c in choosing], "evidence": [joined(model, c, args.missions) for c in choosing]}
    for name, scores in both.items():
        curve = Curve(*zip(*((c, s) for c, s, count in zip(fitted, scores, counted, strict=True) if count), strict=True))
        thresholds, named = curve.choose(args.false_alerts)
        print(f"{name}: {named}\n  may only choose, at these thresholds: {Curve(choosing, last[name]).at(thresholds)}")
    if args.write:
        chosen = {m: round(t, 2) for m, t in zip(MISSIONS, thresholds, strict=True) if m in args.missions}
        write_whole(args.write / FILE, msgspec.json.encode(msgspec.structs.replace(model, thresholds=chosen)))
        manifest = json.loads((args.write / MANIFEST).read_bytes())
        write_whole(args.write / MANIFEST, json.dumps(sealed(manifest, args.write), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
