"""What the sensor says of each labelled capture: alerts of the right mission on the right hosts, and all others.

    python -m training.evaluate.captures --logs tests/data
    python -m training.evaluate.captures --logs runs/captures --manifest CAPTURES/MANIFEST.csv --use "test only"

Runs the shipped pipeline, thresholds and episodes as a user has them. Labels come from each capture's labels.json, or from a
manifest, where a capture has one label and no known hosts.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from packetclip_sensor import pipeline
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config.settings import Config, NdjsonConfig, Policy, SinkConfig
from packetclip_sensor.model.bundle import MANIFEST
from packetclip_sensor.pairs.labels import Interval, LabelFile
from packetclip_sensor.records import Alert
from training.missions import CLASS_MISSION, MISSIONS

ANY = "any"
"""As a use: every capture of a manifest but those from sources that the bundle was trained on."""


@dataclass(frozen=True)
class Truth:
    """A capture and what is in it; no interval means benign."""

    folder: Path
    intervals: list[Interval]


def from_labels(logs: Path) -> list[Truth]:
    """Every folder below `logs` with a labels.json."""
    return [
        Truth(path.parent, msgspec.json.decode(path.read_bytes(), type=LabelFile).intervals)
        for path in sorted(logs.glob("*/labels.json"))
    ]


def from_manifest(logs: Path, manifest: Path, use: str) -> list[Truth]:
    """Folders named like the manifest's captures, of the given use or of ANY; labels of no class are left out."""
    out = []
    with manifest.open(newline="") as file:
        for row in csv.DictReader(file):
            folder = logs / Path(row["file"]).name
            label = row["label"].replace("_", " ").removesuffix(" protocols")
            if (
                use in (row["use"], ANY)
                and label in CLASS_MISSION
                and folder.is_dir()
                and any(folder.glob("packetclip_packet.log*"))
            ):
                attack = [] if label == "Benign" else [Interval(label, [], [], 0.0, float("inf"))]
                out.append(Truth(folder, attack))
    return out


def judge(truth: Truth, config: Config) -> tuple[list[Alert], list[Alert], int]:
    """(alerts of the right mission on the right hosts, all others, packets) of one capture; only opening documents count."""
    alerts: list[Alert] = []
    with tempfile.TemporaryDirectory() as work:
        sink = SinkConfig(ndjson=NdjsonConfig(path=Path(work, "alerts.ndjson")))
        counters = pipeline.replay(
            [[truth.folder]], msgspec.structs.replace(config, sink=sink), on_alert=alerts.append, counters=Counters()
        )
    opened = [a for a in alerts if a.state == "open"]
    right = [a for a in opened if any(fits(a.episode.mission, a.ts, a.ts, _hosts(a), i) for i in truth.intervals)]
    return right, [a for a in opened if a not in right], counters.packets


def _hosts(alert: Alert) -> set[str]:
    return {*alert.episode.sources, *alert.episode.destinations}


def fits(mission: str, first: float, last: float, hosts: set[str], interval: Interval) -> bool:
    """Whether what was told of these hosts, from epoch second `first` to `last`, is of the attack; forged sources are anybody."""
    if mission != CLASS_MISSION[interval.label] or last < interval.start or first > interval.end:
        return False
    named = {*interval.attacker, *interval.victim} - {"spoofed"}
    return not named or bool(hosts & named) or any("/" in n for n in named)


def rows(bundle: Path, logs: Path, manifest: Path | None = None, use: str = "test only") -> list[dict[str, Any]]:
    """What the sensor says of each capture with this bundle, as plain values for a report.

    Raises:
        SensorError: the bundle is not usable.
        ValueError: no capture to judge, or one from a source that the bundle was trained on.
    """
    truths = from_manifest(logs, manifest, use) if manifest else from_labels(logs)
    if not truths:
        raise ValueError(f"{logs}: no capture to judge; it needs folders of logs with labels.json, or named in a manifest")
    config = Config(model=bundle, sensor_name="evaluation")
    sources = _sources(manifest) if manifest else {}
    trained = json.loads((bundle / MANIFEST).read_bytes()).get("data", {})
    known = {*trained.get("train", ()), *trained.get("held out", ())}
    seen = {sources[name] for name in known if name in sources}
    out = []
    for truth in truths:
        name = truth.folder.name
        if name in known or sources.get(name) in seen:
            if use == ANY:
                continue
            raise ValueError(f"{name}: the bundle {bundle} was trained on it or its source; test on other captures")
        right, other, packets = judge(truth, config)
        out.append(
            {
                "capture": name,
                "label": truth.intervals[0].label if truth.intervals else "Benign",
                "source": sources.get(name, "lab"),
                "packets": packets,
                "right": len(right),
                "probability": max((a.why.probability for a in right), default=0.0),
                "classes": ", ".join(sorted({a.why.klass for a in right})),
                "other": len(other),
                "titles": "; ".join(f"{a.episode.mission} {a.why.probability:.2f}" for a in other[:3]),
            }
        )
    return out


def _sources(manifest: Path) -> dict[str, str]:
    with manifest.open(newline="") as file:
        return {Path(row["file"]).name: row["source"] for row in csv.DictReader(file)}


def main(argv: list[str] | None = None) -> int:
    """Print a line a capture and the totals. Exit code 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument("--manifest", type=Path)
    parser.add_argument("--use", default="test only")
    parser.add_argument("--model", type=Path, help="bundle; default the shipped one")
    parser.add_argument("--threshold", type=float, help="one threshold for all missions, in place of the bundle's")
    parser.add_argument("--margin", type=float, help="one margin for all missions, in logits, in place of the bundle's")
    parser.add_argument("--quiet", action="store_true", help="do not list benign captures without an alert")
    args = parser.parse_args(argv)
    truths = from_manifest(args.logs, args.manifest, args.use) if args.manifest else from_labels(args.logs)
    policy = Policy(
        thresholds=dict.fromkeys(MISSIONS, args.threshold) if args.threshold else {},
        margins=dict.fromkeys(MISSIONS, args.margin) if args.margin is not None else {},
    )
    config = Config(model=args.model, sensor_name="evaluation", policy=policy)
    found = attacks = false = benign_packets = 0
    for truth in truths:
        right, other, packets = judge(truth, config)
        label = truth.intervals[0].label if truth.intervals else "Benign"
        if truth.intervals:
            attacks += 1
            found += bool(right)
        else:
            benign_packets += packets
            false += len(other)
        if truth.intervals or other or not args.quiet:
            best = max((a.why.probability for a in right), default=0.0)
            classes = ", ".join(sorted({a.why.klass for a in right}))
            print(
                f"{truth.folder.name[:58]:58} {label:18} {len(right):3} right {best:5.3f} {classes:30} {len(other):3} other "
                + "; ".join(f"{a.episode.mission} {a.why.probability:.2f} {a.title}" for a in other[:3])
            )
    print(f"{found} of {attacks} attack captures named right; {false} false alerts in {benign_packets:,} benign packets")
    return 0


if __name__ == "__main__":
    sys.exit(main())
