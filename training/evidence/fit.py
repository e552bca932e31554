"""The operating point of a bundle: fits its evidence to rows that `training.evidence.collect` wrote, and chooses all thresholds.

    python -m training.evidence.fit --rows runs/evidence --manifest CAPTURES/MANIFEST.csv
    python -m training.evidence.fit --rows runs/evidence --manifest CAPTURES/MANIFEST.csv --write runs/new

Rows should be of captures that no weight was fitted to (`collect --held-out`). Each capture is scored by evidence that saw none
of its source or, of the lab, its tool. On these scores thresholds are chosen: most captures named, as the mean over classes, at
--false-alerts in 100,000 benign packets. Captures that may only choose come last, at these thresholds: nothing is fitted to
them. Of missions that are not in --missions single windows decide. With --write the bundle gets evidence and thresholds.
"""

import argparse
import json
import math
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
from training.data.ground_truth import CHOOSING, TRAINABLE, read_manifest
from training.evidence.network import Floats, Recipe, fit
from training.evidence.score import Curve, Named, by_least, lifted, peaks
from training.evidence.table import Capture, load
from training.missions import ALL, CLASS_MISSION, MISSIONS
from training.ship.calibration import KEPT_ATTACKS

FALSE_ALERTS = 1.9
"""Most held-out packets are of the lab's benign captures, which come as close to attacks as they can: the largest budget at which
captures by others give one false alert at most (training/DIARY.md, run 34)."""
LEAST = [*for_missions(Policy(), ALL).least.values()]


def of_windows(capture: Capture) -> Floats:
    """(W, missions) log-odds of single windows as they are compared, without those that `policy.least` holds back."""
    alone = by_least(capture, capture.inputs[:, : len(MISSIONS)].astype(np.float64), LEAST)
    return lifted(capture, alone, [mission.fast for mission in ALL])


def joined(model: EvidenceModel, capture: Capture, missions: Sequence[str]) -> Floats:
    """(W, missions) log-odds: the model's of `missions`, single windows' of the others."""
    found = Scorer(model)(capture.inputs.astype(np.float64))
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
    """Exit codes: 0 the figures are printed, and the bundle written with --write; 2 there are no rows."""
    arguments = parser("training.evidence.fit", __doc__)
    add = arguments.add_argument
    add("--rows", type=Path, required=True)
    add("--manifest", type=Path, help="of captures by others: says which may only choose")
    add("--missions", nargs="*", default=["Brute Force"], help="of which evidence decides; none: single windows decide all")
    add("--folds", type=int, default=4)
    add("--false-alerts", type=float, default=FALSE_ALERTS, help="in 100,000 benign packets")
    add("--write", type=Path, help="bundle that gets evidence and thresholds")
    args = arguments.parse_args(argv)
    return exit_code(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    captures, recipe = load(args.rows), Recipe()
    if not any(len(c.second) for c in captures if c.label == "Benign"):
        raise DataError(f"{args.rows}: no rows of benign captures; write them with python -m training.evidence.collect")
    uses = {Path(listed.file).name: listed.use for listed in read_manifest(args.manifest)} if args.manifest else {}
    choosing = [c for c in captures if uses.get(c.name) == CHOOSING]
    fitted = [c for c in captures if uses.get(c.name, TRAINABLE) == TRAINABLE]
    scores, model = [of_windows(c) for c in fitted], None
    thresholds, named = chosen("single windows", fitted, scores, choosing, [of_windows(c) for c in choosing], args.false_alerts)
    if args.missions:
        model = msgspec.structs.replace(fit(fitted, recipe), missions=args.missions)
        scores, last = across(fitted, recipe, args.missions, args.folds), [joined(model, c, args.missions) for c in choosing]
        thresholds, named = chosen("evidence", fitted, scores, choosing, last, args.false_alerts)
    if args.write:
        write(args.write, thresholds, ceilings(fitted, scores, thresholds), model, named)


def ceilings(captures: Sequence[Capture], scores: Sequence[Floats], thresholds: Sequence[float]) -> list[float]:
    """How far a site may raise each mission's threshold, log-odds: KEPT_ATTACKS of the captures named at it still are."""
    found = []
    for m, mission in enumerate(MISSIONS):
        tops = [peaks(c, s)[m] for c, s in zip(captures, scores, strict=True) if CLASS_MISSION.get(c.label) == mission]
        named = [top for top in tops if top >= thresholds[m]]
        found.append(float(np.quantile(named, 1 - KEPT_ATTACKS, method="lower")) if named else thresholds[m])
    return found


def chosen(
    what: str,
    fitted: Sequence[Capture],
    scores: Sequence[Floats],
    choosing: Sequence[Capture],
    their: Sequence[Floats],
    budget: float,
) -> tuple[list[float], Named]:
    """Thresholds by mission, log-odds, and what is named at them; printed, with what is named of those that may only choose."""
    thresholds, named = Curve(fitted, scores).choose(budget)
    print(f"{what}: {named}")
    if choosing:
        print(f"  may only choose, at these thresholds: {Curve(choosing, their).at(thresholds)}")
    return thresholds, named


def write(
    bundle: Path, thresholds: Sequence[float], ceilings: Sequence[float], model: EvidenceModel | None, named: Named
) -> None:
    """Give a bundle its evidence, thresholds and ceilings, log-odds by mission, and what is named at them."""
    (bundle / FILE).unlink(missing_ok=True)
    if model is not None:
        write_whole(bundle / FILE, msgspec.json.encode(model))
    manifest = json.loads((bundle / MANIFEST).read_bytes())
    for key, log_odds in (("thresholds", thresholds), ("ceilings", ceilings)):
        manifest[key] = {m: round(1 / (1 + math.exp(-z)), 6) for m, z in zip(MISSIONS, log_odds, strict=True)}
    each = {label: [sum(found), len(found)] for label, found in sorted(named.named.items())}
    manifest["operating"] = {"named": each, "false_alerts": named.false, "benign_packets": named.packets}
    write_whole(bundle / MANIFEST, json.dumps(sealed(manifest, bundle), indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
