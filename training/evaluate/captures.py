"""The alerts of each labelled capture: of the right mission on the right hosts, and all others.

    python -m training.evaluate.captures --logs tests/data
    python -m training.evaluate.captures --logs runs/captures --manifest CAPTURES/MANIFEST.csv --use "test only"

Runs the shipped pipeline, thresholds and episodes as a user has them. Labels come from each capture's labels.json, or from a
manifest, where a capture has one label and no known hosts.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from packetclip_sensor import pipeline
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config.settings import Config, NdjsonConfig, Policy, SinkConfig
from packetclip_sensor.model.bundle import MANIFEST
from packetclip_sensor.records import Alert
from training.common import DataError, argument, command
from training.data.ground_truth import ANY, TRAINABLE, Truth, from_labels, from_manifest, matches, read_manifest
from training.missions import MISSIONS

CAPTURES = (
    argument("--logs", type=Path, required=True),
    argument("--manifest", type=Path),
    argument("--use", default="test only"),
    argument("--quiet", action="store_true", help="do not list benign captures without an alert"),
)
"""Arguments that say which captures are judged."""


def truths_of(logs: Path, manifest: Path | None, use: str) -> list[Truth]:
    """The labelled captures of a folder. Raises DataError where there is none."""
    found = from_manifest(logs, manifest, use) if manifest else from_labels(logs)
    if not found:
        raise DataError(f"{logs}: no capture to judge; it needs folders of logs with labels.json, or named in a manifest")
    return found


def evaluate(truth: Truth, config: Config, source: str = "lab") -> tuple[dict[str, Any], list[Alert]]:
    """One capture as plain values for a report, and its alerts that are none of an attack; those that open an episode count.
    `after_s` is from the attack's beginning, as its labels have it, to the last packet of what opened the first right alert."""
    alerts: list[Alert] = []
    with tempfile.TemporaryDirectory() as work:
        sink = SinkConfig(ndjson=NdjsonConfig(path=Path(work, "alerts.ndjson")))
        counters = pipeline.replay(
            [[truth.folder]], msgspec.structs.replace(config, sink=sink), on_alert=alerts.append, counters=Counters()
        )
    opened = [a for a in alerts if a.state == "open"]
    right = [a for a in opened if any(matches(a.episode.mission, a.ts, a.ts, _hosts(a), i) for i in truth.intervals)]
    other = [a for a in opened if a not in right]
    began = min((i.start for i in truth.intervals), default=0.0)
    return {
        "capture": truth.folder.name,
        "label": truth.label,
        "source": source,
        "packets": counters.packets,
        "right": len(right),
        "after_s": round(min(a.ts for a in right) - began, 1) if right and began else None,
        "probability": max((a.why.probability for a in right), default=0.0),
        "classes": ", ".join(sorted({a.why.klass for a in right})),
        "other": len(other),
        "titles": "; ".join(f"{a.episode.mission} {a.why.probability:.2f}" for a in other[:3]),
    }, other


def _hosts(alert: Alert) -> set[str]:
    return {*alert.episode.sources, *alert.episode.destinations}


def rows(bundle: Path, logs: Path, manifest: Path | None = None, use: str = "test only") -> list[dict[str, Any]]:
    """The sensor's alerts on each capture with this bundle, as `evaluate` counts them.

    Raises:
        SensorError: the bundle is not usable, there is no capture to judge, or one of a source that the bundle was trained on.
    """
    truths = truths_of(logs, manifest, use)
    config = Config(model=bundle, sensor_name="evaluation")
    sources = {Path(listed.file).name: listed.source for listed in read_manifest(manifest)} if manifest else {}
    trained = json.loads((bundle / MANIFEST).read_bytes()).get("data", {})
    known = {*trained.get("train", ()), *trained.get("held out", ())}
    seen = {sources[name] for name in known if name in sources}
    out = []
    for truth in truths:
        name = truth.folder.name
        if name not in known and sources.get(name) not in seen:
            out.append(evaluate(truth, config, sources.get(name, "lab"))[0])
        elif use not in (ANY, TRAINABLE):
            raise DataError(f"{name}: the bundle {bundle} was trained on it or its source; test on other captures")
    return out


@command(
    *CAPTURES,
    argument("--model", type=Path, help="bundle; default the shipped one"),
    argument("--threshold", type=float, help="one threshold for all missions, in place of the bundle's"),
    argument("--margin", type=float, help="one margin for all missions, in logits, in place of the bundle's"),
)
def main(args: argparse.Namespace) -> None:
    """Print a line a capture and the totals. Exit codes: 0 done, 2 there is no capture or the bundle is not usable."""
    policy = Policy(
        thresholds=dict.fromkeys(MISSIONS, args.threshold) if args.threshold else {},
        margins=dict.fromkeys(MISSIONS, args.margin) if args.margin is not None else {},
    )
    config = Config(model=args.model, sensor_name="evaluation", policy=policy)
    found = attacks = false = benign_packets = 0
    for truth in truths_of(args.logs, args.manifest, args.use):
        r, others = evaluate(truth, config)
        if truth.intervals:
            attacks += 1
            found += bool(r["right"])
        else:
            benign_packets += r["packets"]
            false += r["other"]
        if truth.intervals or others or not args.quiet:
            after = f"after {r['after_s']:6,.0f} s" if r["after_s"] is not None else ""
            first = f"{r['capture'][:58]:58} {r['label']:18} {r['right']:3} right {r['probability']:5.3f} {after:14}"
            which = "; ".join(f"{a.episode.mission} {a.why.probability:.2f} {a.title}" for a in others[:3])
            print(f"{first} {r['classes']:30} {r['other']:3} other {which}")
    print(f"{found} of {attacks} attack captures named right; {false} false alerts in {benign_packets:,} benign packets")


if __name__ == "__main__":
    sys.exit(main())
