"""A benign day after calibrating: which alerts are left on captures that the fit did not see, and what recall it costs.

    python -m benchmarks.benign_day --benign FOLDER... [--attacks FOLDER...] [--folds 4] [--margin 2]

FOLDER holds logs, or folders of logs; those with attacks need their labels.json. Captures go into folds by number: every fold
is judged with thresholds and margins that `packetclip calibrate` fits on the others with a budget of no alert, then all of them
with those fitted on all; what is left then gets a rule each. An attack counts as detected when an episode of its mission
opens while it goes on. An alert has two documents or more.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from packetclip_sensor.alerts.suppression_rules import proposed
from packetclip_sensor.alerts.suppressor import Rules, Suppressor
from packetclip_sensor.calibrate import threshold_fit
from packetclip_sensor.calibrate.site_logs import Coverage, gather
from packetclip_sensor.calibrate.threshold_fit import Candidates
from packetclip_sensor.cli.common import discover, set_up_logs
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.resources import resource
from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.config.settings import Policy
from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.model.bundle import Bundle, manifest_of
from packetclip_sensor.pairs.labels import Interval, LabelFile
from packetclip_sensor.records import Episode

MODEL = resource("model/shipped")
MISSIONS = manifest_of(MODEL).missions
POLICY = for_missions(Policy(), MISSIONS)
Limits = tuple[Mapping[str, float], Mapping[str, float]]
"""Thresholds and margins."""


@dataclass(slots=True)
class Capture:
    """What is kept of one capture: its windows above the model's own thresholds, and its attacks."""

    name: str
    candidates: Candidates
    cover: Coverage
    paths: Sequence[Path]
    attacks: list[Interval] = field(default_factory=list)

    def opened(self, limits: Limits) -> list[Episode]:
        """Episodes that open at these thresholds and margins."""
        return threshold_fit.opened(self.candidates.kept, limits[0], POLICY, margins=limits[1])

    def detected(self, limits: Limits) -> list[tuple[str, bool]]:
        """Mission of each attack, and whether an episode of that mission opened while it went on."""
        episodes = self.opened(limits)
        out = []
        for attack in self.attacks:
            mission = MISSIONS.of_class[attack.label]
            hit = any(e.mission == mission and e.first <= attack.end + 1 and e.last >= attack.start - 1 for e in episodes)
            out.append((mission, hit))
        return out


def read(folders: Iterable[Path], bundle: Bundle, margins: Mapping[str, float]) -> list[Capture]:
    """Judge every capture once, at the model's own thresholds less these margins."""
    out = []
    for unit in discover(list(folders))[0]:
        try:
            found = gather([(unit.name, unit.paths, None)], bundle, margins=margins)
        except LogFormatError:
            continue  # a capture without a packet
        labels = unit.paths[0] / "labels.json" if unit.paths[0].is_dir() else unit.paths[0].parent / "labels.json"
        attacks = msgspec.json.decode(labels.read_bytes(), type=LabelFile).intervals if labels.is_file() else []
        out.append(Capture(unit.name, found.candidates, found.coverage, unit.paths, list(attacks)))
        print(f"\r{len(out)} captures read", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return out


def with_rules(left: Sequence[tuple[Capture, Episode]], captures: Sequence[Capture], bundle: Bundle) -> list[Capture]:
    """The captures, those with alerts left judged again with rules on the pair, or the one host, and the mission."""
    out = list(captures)
    for capture in dict.fromkeys(c.name for c, _ in left):
        place = next(i for i, c in enumerate(out) if c.name == capture)
        rules = dict.fromkeys(_rule(e) for c, e in left if c.name == capture)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "suppress.yaml"
            path.write_text("\n".join(rules))
            margins = out[place].candidates.margins
            suppresses = Suppressor(Rules(path, MISSIONS), bundle, bundle.manifest.thresholds, margins, Counters()).suppresses
            found = gather([(capture, out[place].paths, None)], bundle, suppresses=suppresses, margins=margins)
        out[place] = replace(out[place], candidates=found.candidates)
    return out


def _rule(episode: Episode) -> str:
    hosts = {"source": episode.sources[0], "destination": episode.destinations[0]}
    about = {key: [host] for key, host in hosts.items() if episode.scope in (key, "pair")}
    return proposed(episode.last, "known to be harmless", **about, mission=[episode.mission])


def fitted(captures: Sequence[Capture]) -> Limits:
    """The thresholds and margins of a calibration on these captures whose budget is no alert."""
    first = captures[0].candidates
    both = Candidates(first.floor, first.ceiling, first.margins)
    for number, capture in enumerate(captures):
        for candidate in capture.candidates.kept:
            both.add(number, candidate.verdict)
    limits = threshold_fit.fit(both, POLICY, 0)
    return limits, threshold_fit.fit_margins(both, limits, POLICY, 0)


def words(limits: Limits) -> str:
    return ", ".join(f"{m} {limits[0][m]:.4f} - {limits[1].get(m, 0.0):g}" for m in MISSIONS.names)


def recall(attacks: Sequence[Capture], limits: Limits) -> str:
    detected = [t for capture in attacks for t in capture.detected(limits)]
    parts = [
        f"{m} {sum(hit for name, hit in detected if name == m)} of {sum(name == m for name, _ in detected)}"
        for m in MISSIONS.names
    ]
    return f"{sum(hit for _, hit in detected)} of {len(detected)} ({', '.join(parts)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benign", type=Path, nargs="+", required=True)
    parser.add_argument("--attacks", type=Path, nargs="*", default=[])
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--margin", type=float, help="one margin for all missions, in logits, in place of the bundle's")
    args = parser.parse_args()
    began = time.monotonic()
    set_up_logs("warning")
    bundle = Bundle.open(MODEL)
    margins = bundle.manifest.margins if args.margin is None else dict.fromkeys(MISSIONS.names, args.margin)
    own = (bundle.manifest.thresholds, margins)
    benign, attacks = read(args.benign, bundle, margins), read(args.attacks, bundle, margins)
    hours = sum(c.cover.seconds for c in benign) / 3600
    packets = sum(c.cover.packets for c in benign)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, model version {bundle.manifest.version}")
    print(f"{len(benign)} benign captures, {packets:,} packets, {hours:.2f} hours; {len(attacks)} captures with attacks")
    print(f"\nModel's own thresholds: {words(own)}")
    print(f"  alerts on the benign captures: {alerts(benign, own)}")
    print(f"  attacks detected: {recall(attacks, own)}")
    print(f"\nFitted on the other folds of {args.folds}")
    for fold in range(args.folds):
        rest = [c for i, c in enumerate(benign) if i % args.folds != fold]
        held_out = [c for i, c in enumerate(benign) if i % args.folds == fold]
        limits = fitted(rest)
        print(f"  fold {fold + 1}: {words(limits)}: {alerts(held_out, limits)}; attacks detected: {recall(attacks, limits)}")
    limits = fitted(benign)
    print(f"\nFitted on all of it: {words(limits)}")
    print(f"  alerts on the whole benign day: {alerts(benign, limits)}")
    print(f"  attacks detected: {recall(attacks, limits)}")
    left = [(c, e) for c in benign for e in c.opened(limits)]
    for capture, episode in left:
        hosts = f"{episode.sources[0]} -> {episode.destinations[0]}"
        print(f"  left, for it is above the model's ceiling: {capture.name}: {episode.mission} {episode.peak:.4f}, {hosts}")
    if left:
        ruled = with_rules(left, benign, bundle)
        limits = fitted(ruled)
        print(f"\nThe same with a rule for each of these: {words(limits)}")
        print(f"  alerts on the whole benign day: {alerts(ruled, limits)}")
    print(f"\n{time.monotonic() - began:.0f} s")


def alerts(captures: Sequence[Capture], limits: Limits) -> str:
    counts = [len(c.opened(limits)) for c in captures]
    return f"{sum(counts)} in {sum(n > 0 for n in counts)} of {len(counts)} captures"


if __name__ == "__main__":
    main()
