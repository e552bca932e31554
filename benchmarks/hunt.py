"""Precision of `packetclip hunt`: how many of the ten best windows are of the class that a sentence describes; and what it costs.

    python -m benchmarks.hunt [LOG_FOLDER ...]

Default input: the recorded traffic in tests/data with its labels, all of it in one store. The sentences stand in
benchmarks/hunt_sentences.yaml; no model was trained with them. A window is of a class where at least half of its packets are. Of
a class with fewer than ten windows as many best ones are looked at as it has. Chance is the class's share of what is stored; "g_T
alone" searches where the trained head puts the sentence. The search is exact and in memory; tests/integration/test_hunt.py holds
Elasticsearch's to it.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml

from benchmarks.common import CAPTURES

SENTENCES = Path(__file__).with_name("hunt_sentences.yaml")
AT = 10
HALF = 0.5


@dataclass
class Store:
    """Everything that the sensor kept of some captures."""

    flows: list[Any]
    labels: list[str]
    """Class of each, empty where it is mixed or not known."""
    packets: int
    bytes: int
    capped: int
    cpu_s: float


def collect(folders: Sequence[Path], *, enabled: bool = True) -> Store:
    """Run the sensor with hunting on over each folder and label what it keeps."""
    from packetclip_sensor import pipeline
    from packetclip_sensor.common.metrics import Counters
    from packetclip_sensor.common.rejects import Rejects
    from packetclip_sensor.common.resources import resource
    from packetclip_sensor.config.settings import Config, HuntConfig
    from packetclip_sensor.model.bundle import Bundle
    from packetclip_sensor.pairs.labels import NOT_KNOWN, Labels
    from packetclip_sensor.service import checkpoint
    from packetclip_sensor.sinks.documents import SensorInfo
    from packetclip_sensor.sinks.hunt_documents import flow_document
    from packetclip_sensor.sources import tail, zeek

    bundle, counters = Bundle.open(resource("model/shipped")), Counters()
    config = Config(hunt=HuntConfig(enabled=enabled), sensor_name="benchmark")
    sensor = SensorInfo("benchmark", "0", missions=bundle.manifest.missions)
    store = Store([], [], 0, 0, 0, 0.0)
    owners: list[Labels] = []
    began = time.process_time()
    for folder in folders:
        truth = Labels.load(folder / "labels.json")
        batches = zeek.batches(tail.finite((folder,)), Rejects(None), counters)
        for safe in pipeline.alerts(batches, bundle, config, counters, checkpoint.State()):
            for flow in safe.hunt_windows:
                store.flows.append(flow)
                store.bytes += len(msgspec.json.encode(flow_document(flow, sensor)))
                owners.append(truth)
    store.cpu_s = time.process_time() - began
    for flow, truth in zip(store.flows, owners, strict=True):
        found = [truth.of(p) for p in flow.packets]
        names = Counter("Benign" if f is None else f.label for f in found if f is not NOT_KNOWN)
        label, count = names.most_common(1)[0] if names else ("", 0)
        attack = next((n for n, c in names.most_common() if n != "Benign" and c / len(found) >= HALF), None)
        store.labels.append(attack or (label if label == "Benign" and count == len(found) else ""))
    store.packets, store.capped = counters.packets, counters.flows_capped
    return store


def sentences() -> Iterator[tuple[str, str]]:
    """(class, sentence)"""
    for name, texts in yaml.safe_load(SENTENCES.read_text(encoding="utf-8")).items():
        for text in texts:
            yield name, text


def main() -> None:
    """Measure and print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", type=Path, nargs="*", help="folders of packetclip logs with labels.json; default tests/data")
    args = parser.parse_args()

    from packetclip_sensor.common.resources import resource
    from packetclip_sensor.hunt.text_encoder import TextEncoder

    folders = args.logs or CAPTURES
    began = time.perf_counter()
    off = collect(folders, enabled=False)
    store = collect(folders)
    embeddings = np.array([flow.embedding for flow in store.flows], np.float32)
    labels = np.array(store.labels)
    stored = Counter(store.labels)
    encoder = TextEncoder(resource("model/shipped"))
    print(f"{'class':18} {'stored':>6} {'chance':>6} {'P@10':>5} {'g_T alone':>9}  sentence")
    hits: dict[str, list[float]] = {}
    alone: dict[str, list[float]] = {}
    for name, text in sentences():
        if not stored[name]:
            continue
        encoded = encoder(text)
        shares = []
        for vector, kept in ((encoded.query, hits), (encoded.embedding, alone)):
            best = np.argsort(-(embeddings @ vector), kind="stable")[: min(AT, stored[name])]
            shares.append(float((labels[best] == name).mean()))
            kept.setdefault(name, []).append(shares[-1])
        print(f"{name:18} {stored[name]:6} {stored[name] / len(labels):6.3f} {shares[0]:5.2f} {shares[1]:9.2f}  {text}")
    mean = {name: round(float(np.mean(shares)), 3) for name, shares in hits.items()}
    whole = round(float(np.mean(list(mean.values()))), 3)
    print(f"mean of classes with g_T alone {np.mean([np.mean(shares) for shares in alone.values()]):.2f}")
    million = 1e6 / store.packets
    print(f"mean of classes {whole:.2f}; {platform.machine()}, {time.perf_counter() - began:.0f} s")
    print(
        f"{len(store.flows):,} documents, {store.bytes / 1e6:.1f} MB of {store.packets:,} packets in {len(folders)} captures: "
        f"{len(store.flows) * million:,.0f} documents and {store.bytes * million / 1e6:.0f} MB per million packets; "
        f"{store.capped} more were too many for their minute"
    )
    each_ms = (store.cpu_s - off.cpu_s) / max(len(store.flows), 1) * 1000
    print(f"processor time with hunting on against off: {store.cpu_s / off.cpu_s:.2f}, {each_ms:.1f} ms a document")
    print(json.dumps({"precision_at_10": mean, "mean": whole, "documents": len(store.flows), "packets": store.packets}))


if __name__ == "__main__":
    main()
