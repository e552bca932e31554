"""Which thresholds and margins to ship: detected attacks and false alerts of held-out captures at a table of operating points.

    python -m training.ship.operating_point --logs lab/logs lab-harden/logs --whole lab-evade/logs
    python -m training.ship.operating_point --model runs/new --logs lab/logs --captures runs/captures --manifest MANIFEST.csv

Each capture is judged once as the sensor judges it, and its episodes are opened anew at each point: the thresholds of training
moved by so many logits, all with the same margin. Of --logs and --captures those are taken that the bundle's training held
out, and those of the use "validate"; nothing here is a test set. With --write the bundle gets the thresholds, each mission's
moved by itself and without a margin, that detect most attacks with at most --false-alerts in 100,000 benign packets; the
highest where several do.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from rich.progress import track

from packetclip_sensor.calibrate import threshold_fit
from packetclip_sensor.calibrate.site_logs import gather
from packetclip_sensor.calibrate.threshold_fit import Candidate
from packetclip_sensor.common.resources import resource
from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.config.settings import Policy
from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.model.bundle import MANIFEST, Bundle, sealed
from packetclip_sensor.model.thresholds import logit
from packetclip_sensor.records import Episode
from training.common import DataError, exit_code, parser, write_whole
from training.data.ground_truth import ANY, CHOOSING, Truth, from_labels, from_manifest, matches
from training.missions import ALL, CLASS_MISSION, MISSIONS

SHIFTS = (
    -2.5, -2.25, -2.0, -1.75, -1.5, -1.25, -1.0, -0.75, -0.625, -0.5, -0.375, -0.25, -0.125,
    0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0,
)  # fmt: skip
POLICY = for_missions(Policy(), ALL)
MARGINS = (0.0, 1.0, 2.0, 3.0)
NEVER = 2.0
"""A threshold that no probability reaches."""
TRIED = 50
"""Combinations of the missions' thresholds that are tried whole at most, best first."""
ALLOWED = 1.0
"""False alerts in 100,000 benign packets that a bundle may give on held-out captures."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A held-out capture and its windows that could be detected at any of the points."""

    truth: Truth
    candidates: list[Candidate]
    packets: int


@dataclass(frozen=True, slots=True)
class Point:
    """What is detected at one operating point."""

    shifts: Mapping[str, float]
    """In logits from the thresholds of training, by mission."""
    thresholds: dict[str, float]
    margin: float
    detected: dict[str, int]
    """Attack captures with an episode of the right mission on the right hosts, by mission."""
    other: int
    """Other episodes in attack captures."""
    false: int
    """Episodes in benign captures."""


def held_out(
    bundle: Path, logs: Sequence[Path], whole: Sequence[Path], captures: Path | None = None, manifest: Path | None = None
) -> list[Truth]:
    """Labelled captures that the bundle's thresholds come from, not trained on; of `whole` and of the use "validate" all.

    Raises:
        DataError: there is none.
    """
    names = set(_manifest(bundle).get("data", {}).get("held out", ()))
    found = [truth for folder in logs for truth in from_labels(folder)]
    if captures and manifest:
        found += from_manifest(captures, manifest, ANY)
    found = [truth for truth in found if truth.folder.name in names]
    found += [truth for folder in whole for truth in from_labels(folder)]
    if captures and manifest:
        found += from_manifest(captures, manifest, CHOOSING)
    if not found:
        raise DataError(
            f"none of the captures is among the {len(names)} that {bundle} held out; give the logs it was trained from"
        )
    return found


def judge(truths: Iterable[Truth], bundle: Bundle, reach: float) -> list[HeldOut]:
    """Judge each capture once and keep its windows up to `reach` logits below the thresholds; empty captures are left out."""
    out = []
    for truth in truths:
        unit = (truth.folder.name, [truth.folder], None)
        with suppress(LogFormatError):
            found = gather([unit], bundle, margins=dict.fromkeys(MISSIONS, reach))
            out.append(HeldOut(truth, found.candidates.kept, found.coverage.packets))
    return out


def moved(threshold: float, shift: float) -> float:
    """A probability moved by so many logits."""
    return 1 / (1 + math.exp(-logit(threshold) - shift))


def _manifest(bundle: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((bundle / MANIFEST).read_bytes())
    return manifest


def trained_thresholds(bundle: Path) -> tuple[dict[str, float], dict[str, float]]:
    """The thresholds of training, and by how many logits those of the bundle have been moved since, by mission."""
    manifest = _manifest(bundle)
    shifts = dict.fromkeys(MISSIONS, 0.0) | manifest.get("operating", {}).get("shifts", {})
    return {m: moved(manifest["thresholds"][m], -shifts[m]) for m in MISSIONS}, shifts


def point(captures: Iterable[HeldOut], trained: Mapping[str, float], shifts: Mapping[str, float], margin: float = 0.0) -> Point:
    """Open every capture's episodes at the thresholds `trained` moved by `shifts` logits, and at this margin; a mission without a
    shift opens none."""
    thresholds = {m: moved(trained[m], shifts[m]) if m in shifts else NEVER for m in MISSIONS}
    detected, other, false = dict.fromkeys(MISSIONS, 0), 0, 0
    for one in captures:
        episodes = threshold_fit.opened(one.candidates, thresholds, POLICY, margins=dict.fromkeys(MISSIONS, margin))
        if not one.truth.intervals:
            false += len(episodes)
            continue
        right = [episode for episode in episodes if _right(episode, one.truth)]
        other += len(episodes) - len(right)
        for mission in {episode.mission for episode in right}:
            detected[mission] += 1
    return Point(shifts, thresholds, margin, detected, other, false)


def _right(episode: Episode, truth: Truth) -> bool:
    hosts = {*episode.sources, *episode.destinations}
    return any(matches(episode.mission, episode.first, episode.last, hosts, interval) for interval in truth.intervals)


def choose(captures: Sequence[HeldOut], trained: Mapping[str, float], shifts: Sequence[float], allowed: float) -> Point:
    """The thresholds that detect most attacks with at most `allowed` false alerts, or with the fewest where none has so few; the
    highest of several, since lower ones only risk false alerts where benign traffic is of another kind.

    Each mission is counted alone, and the best of all combinations is then tried whole: what one mission detects may have been
    another's, so the next one is taken where it has more false alerts than its parts.
    """
    alone = [[point(captures, trained, {mission: shift}) for shift in shifts] for mission in MISSIONS]
    least = max(allowed, sum(min(at.false for at in points) for points in alone))
    combined = [parts for parts in product(*alone) if sum(at.false for at in parts) <= least]
    combined.sort(key=lambda parts: (-sum(sum(p.detected.values()) for p in parts), -sum(sum(p.shifts.values()) for p in parts)))
    tried = []
    for parts in combined[:TRIED]:
        tried.append(point(captures, trained, {m: at.shifts[m] for m, at in zip(MISSIONS, parts, strict=True)}))
        if tried[-1].false <= least:
            break
    return min(tried, key=lambda at: at.false)


def write(bundle: Path, at: Point, benign_packets: int) -> None:
    """Put the point's thresholds and its counts into the manifest of the bundle; no ceiling is below its threshold."""
    manifest = _manifest(bundle)
    manifest["thresholds"] = at.thresholds
    manifest["ceilings"] = {m: max(ceiling, at.thresholds[m]) for m, ceiling in manifest.get("ceilings", {}).items()}
    manifest["operating"] = {
        "shifts": dict(at.shifts),
        "told": at.detected,
        "false_alerts": at.false,
        "benign_packets": benign_packets,
    }
    write_whole(bundle / MANIFEST, json.dumps(sealed(manifest, bundle), indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 the table is printed, and written with --write; 2 it cannot be."""
    arguments = parser("training.ship.operating_point", __doc__)
    add = arguments.add_argument
    add("--model", type=Path, default=resource("model/shipped"), help="bundle; default the shipped one")
    add("--logs", type=Path, nargs="*", default=[], help="lab logs; of them what the bundle held out")
    add("--whole", type=Path, nargs="*", default=[], help="lab logs of which nothing was trained on")
    add("--captures", type=Path, help="logs of captures by others; needs --manifest")
    add("--manifest", type=Path, help="their MANIFEST.csv")
    add("--shifts", type=float, nargs="+", default=SHIFTS, help="of the thresholds, in logits")
    add("--margins", type=float, nargs="+", default=MARGINS, help="in logits")
    add("--write", action="store_true", help="put the chosen thresholds into the bundle")
    add("--false-alerts", type=float, default=ALLOWED, help="at most so many in 100,000 benign packets")
    args = arguments.parse_args(argv)
    return exit_code(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    bundle = Bundle.open(args.model)
    truths = held_out(args.model, args.logs, args.whole, args.captures, args.manifest)
    trained, moved_by = trained_thresholds(args.model)
    reach = max(args.margins) + max(0.0, *(shift - min(args.shifts) for shift in moved_by.values()))
    captures = judge(track(truths, description="judging", transient=True), bundle, reach)
    if not captures:
        raise DataError("none of the captures has a packet")
    attacks = [one.truth for one in captures if one.truth.intervals]
    benign = sum(one.packets for one in captures if not one.truth.intervals)
    missions = [{CLASS_MISSION[interval.label] for interval in truth.intervals} for truth in attacks]
    of_each = ", ".join(f"{m} {sum(m in found for found in missions)}" for m in MISSIONS)
    print(f"model version {bundle.manifest.version}: {len(attacks)} held-out captures with attacks ({of_each}), ", end="")
    print(f"{len(captures) - len(attacks)} benign ones with {benign:,} packets\n")
    print(f"| thresholds | margin | detected: {', '.join(MISSIONS)} | other | false alerts | in 100,000 packets |")
    print("| --- | --- | --- | --- | --- | --- |")
    for shift, margin in product(args.shifts, args.margins):
        at = point(captures, trained, dict.fromkeys(MISSIONS, shift), margin)
        shown = ", ".join(f"{at.thresholds[m]:.3f}" for m in MISSIONS)
        detected = f"{sum(at.detected.values())}: {', '.join(str(at.detected[m]) for m in MISSIONS)}"
        share = f"{1e5 * at.false / benign:.2f}" if benign else "–"
        print(f"| {shift:+g}: {shown} | {margin:g} | {detected} | {at.other} | {at.false} | {share} |")
    if not args.write:
        return
    allowed = args.false_alerts * benign / 1e5
    best = choose(captures, trained, args.shifts, allowed)
    write(args.model, best, benign)
    by = ", ".join(f"{m} {best.shifts[m]:+g} to {best.thresholds[m]:.3f}" for m in MISSIONS)
    print(f"\n{args.model}: thresholds moved by logits from those of training: {by}")
    of_each = ", ".join(f"{m} {best.detected[m]}" for m in MISSIONS)
    print(f"{sum(best.detected.values())} attacks detected: {of_each}; {best.false} false alerts")
    if best.false > allowed:
        print(f"warning: none keeps to {args.false_alerts:g} in 100,000 packets; record more benign captures to train on")


if __name__ == "__main__":
    sys.exit(main())
