"""Whether explanations are true: what a verdict loses without its 3 heaviest concepts (packets), against 3 others by chance.

    python -m benchmarks.faithfulness [PATH ...] [--draws 50] [--seed 1] [--json FILE]

Every alert of the captures is explained anew (documents that open or update an episode; a closing one repeats an earlier one).
Its three heaviest concepts are taken away together, then three of all the others, several times over. A drop is what
the verdict's probability loses, or its log-odds. Without PATH: tests/data, and lab-unseen/logs where it is there.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.common import machine
from packetclip_sensor.alerts import explain
from packetclip_sensor.alerts.episodes import EpisodeTracker
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.common.resources import resource
from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.config.settings import Config
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.model.judge import judge
from packetclip_sensor.model.occlusion import Occlusion
from packetclip_sensor.records import Verdict
from packetclip_sensor.sources import discovery, tail, zeek
from packetclip_sensor.windows.cutter import windows

ROOT = Path(__file__).parents[1]
TOP, TIMES, SHARE = 3, 5.0, 0.9
"""So many parts are taken away; the drop is to be so many times that of as many others, on such a share of alerts."""

Odds = npt.NDArray[np.float64]
Remove = Callable[[Sequence[tuple[int, ...]]], Odds]


@dataclass(frozen=True, slots=True)
class Drops:
    """Of one alert: what the heaviest take, the mean of what others take, and the mean size of that, in one unit."""

    top: float
    others: float
    others_size: float

    @property
    def passes(self) -> bool:
        return self.top > 0 and self.top >= TIMES * self.others

    @property
    def passes_either_way(self) -> bool:
        return self.top >= TIMES * self.others_size


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one alert, `parts` being concepts or packets."""

    capture: str
    mission: str
    parts: str
    log_odds: float
    odds: Drops
    probability: Drops
    own: bool = False
    """Whether the heaviest concept of all stands in the graph of the alert's own mission."""


def alerts(path: Path, bundle: Bundle) -> Iterator[tuple[str, Verdict]]:
    """The verdict behind every document of the captures under `path` that has an explanation of its own."""
    policy, thresholds = for_missions(Config().policy, bundle.manifest.missions), bundle.manifest.thresholds
    for unit in discovery.discover(path):
        counters = Counters()
        with Rejects(None) as rejects:
            batches = zeek.batches(tail.finite(unit.paths, rejects=rejects), rejects, counters)
            judged = judge(windows(batches, bundle.manifest.window, counters, judged=0), bundle, thresholds, counters)
            track = EpisodeTracker(policy, counters, sensor="faithfulness", model_version=bundle.manifest.version)
            for step in map(track, judged):
                yield from ((unit.name, event.verdict) for event in step.events if event.verdict is not None)


def measure(order: Sequence[int], remove: Remove, whole: float, draws: int, rng: np.random.Generator) -> tuple[Drops, Drops]:
    """Drops in log-odds and in probability; `order` has the parts, heaviest first, at least twice TOP of them."""
    chance = [tuple(rng.choice(order[TOP:], TOP, replace=False)) for _ in range(draws)]
    odds = remove([tuple(order[:TOP]), *chance])
    return _drops(whole - odds), _drops(_sigmoid(np.array([whole])) - _sigmoid(odds))


def _drops(values: Odds) -> Drops:
    return Drops(float(values[0]), float(values[1:].mean()), float(np.abs(values[1:]).mean()))


def _sigmoid(odds: Odds) -> Odds:
    out: Odds = 1 / (1 + np.exp(-odds))
    return out


def of_alert(capture: str, verdict: Verdict, bundle: Bundle, draws: int, rng: np.random.Generator) -> Iterator[Measured]:
    """Concepts of all graphs, those of the mission's own graph alone, and packets where there are enough."""
    removal = Occlusion(verdict, bundle)
    whole = float(removal.concepts([()])[0])
    (why,) = explain.explanations([verdict], bundle, policy="all")
    missions = bundle.manifest.missions.names
    names = {(missions[graph], name): i for i, (graph, _, name) in enumerate(bundle.concepts)}
    weight = whole - removal.concepts([(i,) for i in range(len(names))])
    order = [int(i) for i in np.argsort(-weight, kind="stable")]
    named = [names[concept.graph, concept.name] for concept in why.concepts[:TOP]]
    yield Measured(
        capture, verdict.mission, "concepts", whole,
        *measure([*named, *(i for i in order if i not in named)], removal.concepts, whole, draws, rng),
        own=why.concepts[0].graph == verdict.mission,
    )  # fmt: skip
    own = [i for i in order if missions[bundle.concepts[i][0]] == verdict.mission]
    yield Measured(
        capture, verdict.mission, "concepts of the mission's own graph", whole,
        *measure(own, removal.concepts, whole, draws, rng),
    )  # fmt: skip
    if removal.packets >= 2 * TOP:
        first = [verdict.packets.index(evidence.packet) for evidence in why.evidence[:TOP]]
        rest = [i for i in range(removal.packets) if i not in first]
        yield Measured(
            capture,
            verdict.mission,
            "packets",
            whole,
            *measure([*first, *rest], removal.leave_out, float(removal.leave_out([()])[0]), draws, rng),
        )


def summary(found: Sequence[Measured], parts: str, unit: str) -> dict[str, float]:
    """Shares of alerts and drops for one kind of part and one unit."""
    drops = [m.probability if unit == "probability" else m.odds for m in found if m.parts == parts]
    ratios = [d.top / d.others_size for d in drops if d.others_size > 0]
    return {
        "alerts": len(drops),
        "share": float(np.mean([d.passes for d in drops])),
        "share_either_way": float(np.mean([d.passes_either_way for d in drops])),
        "median_ratio_of_sizes": float(np.median(ratios)),
        "mean_drop_top": float(np.mean([d.top for d in drops])),
        "mean_drop_others": float(np.mean([d.others for d in drops])),
        "mean_size_others": float(np.mean([d.others_size for d in drops])),
    }


def table(found: Sequence[Measured]) -> dict[str, dict[str, float]]:
    """Print the figures as a table and return them by "parts, unit"."""
    head = [
        "taken away", "drop of", "alerts", f"{TIMES:g} times that of others", "in size", "median ratio of sizes",
        f"mean drop, top {TOP}", "of others", "size of others",
    ]  # fmt: skip
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    figures = {}
    for parts in dict.fromkeys(m.parts for m in found):
        for unit in ("probability", "log-odds"):
            s = figures[f"{parts}, {unit}"] = summary(found, parts, unit)
            cells = [
                parts, unit, f"{s['alerts']}", f"{s['share']:.1%}", f"{s['share_either_way']:.1%}",
                f"{s['median_ratio_of_sizes']:.1f}", f"{s['mean_drop_top']:.4f}", f"{s['mean_drop_others']:.4f}",
                f"{s['mean_size_others']:.4f}",
            ]  # fmt: skip
            print(f"| {' | '.join(cells)} |")
    return figures


def line(m: Measured) -> str:
    """One alert's figures."""
    return (
        f"{m.capture[-32:]:32} {m.mission[:14]:14} {m.parts[:26]:26} log-odds {m.log_odds:6.2f}, top {m.odds.top:6.2f}, others "
        f"{m.odds.others:6.2f}; probability {m.probability.top:7.4f}, {m.probability.others:7.4f}"
    )


def main() -> None:
    """Measure and print; exit code 0 whatever comes out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="*", metavar="PATH")
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--alerts", action="store_true", help="print a line for each alert as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    args = parser.parse_args()
    usual = [path for path in (ROOT / "tests" / "data", ROOT / "lab-unseen" / "logs") if path.exists()]
    bundle, rng = Bundle.open(resource("model/shipped")), np.random.default_rng(args.seed)
    found: list[Measured] = []
    count = short = 0
    for path in args.paths or usual:
        for capture, verdict in alerts(path, bundle):
            of_one = list(of_alert(capture, verdict, bundle, args.draws, rng))
            found += of_one
            count += 1
            short += not any(m.parts == "packets" for m in of_one)
            if args.alerts:
                print("\n".join(map(line, of_one)), flush=True)
    if not found:
        print("no alert in these captures")
        return
    places = ", ".join(os.path.relpath(path) for path in args.paths or usual)
    print(f"{count} alerts of {places}; model version {bundle.manifest.version}; seed {args.seed}, {args.draws} draws each;")
    print(
        f"{machine()}; {datetime.now(UTC):%Y-%m-%d}. {short} alerts of fewer than {2 * TOP} packets stand only under concepts.\n"
    )
    figures = table(found)
    whole = [m.own for m in found if m.parts == "concepts"]
    print(f"\nThe heaviest concept stands in the graph of the alert's own mission on {sum(whole)} of {len(whole)} alerts.")
    asked = [figures[f"{parts}, probability"]["share"] for parts in ("concepts", "packets") if f"{parts}, probability" in figures]
    print(
        f"\nTarget, the drop in probability {TIMES:g} times that of {TOP} others on {SHARE:.0%} of alerts: "
        f"{'met' if min(asked) >= SHARE else 'missed'}. In size: the others' drop and gain count alike."
    )
    if args.json:
        args.json.write_text(json.dumps({"figures": figures, "alerts": [asdict(m) for m in found]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
