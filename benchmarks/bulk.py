"""Documents a second into Elasticsearch: the sink against raw bulk requests with the same documents, by turns in one run.

    python -m benchmarks.bulk --elasticsearch http://127.0.0.1:9200 [--documents 20000] [--runs 3]

The raw side sends bodies that were encoded beforehand, over one connection of http.client; the sink makes each document first.
Processor time is this process's own, without the server's, so a busy machine spoils it less.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import tempfile
import time
import urllib.parse
import uuid
from pathlib import Path

import msgspec
from elasticsearch import Elasticsearch

from benchmarks.common import CAPTURES, ask_for_cluster, banner, verdict
from packetclip_sensor import __version__
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.config.settings import Config, ElasticsearchConfig, NdjsonConfig, SinkConfig
from packetclip_sensor.model.bundle import manifest_of
from packetclip_sensor.pipeline import replay
from packetclip_sensor.records import Alert, AlertBatch
from packetclip_sensor.sinks import elasticsearch
from packetclip_sensor.sinks.documents import SensorInfo, document

BOUND = 2.0


def alerts(count: int) -> list[Alert]:
    """The alerts of tests/data again and again, each with an id of its own."""
    found: list[Alert] = []
    with tempfile.TemporaryDirectory() as work:
        config = Config(sink=SinkConfig(ndjson=NdjsonConfig(path=Path(work, "alerts.ndjson"))))
        replay([[folder] for folder in CAPTURES if "-b0" not in folder.name], config, on_alert=found.append)
    return [msgspec.structs.replace(found[i % len(found)], id=uuid.uuid4().hex) for i in range(count)]


def _sensor(namespace: str) -> SensorInfo:
    return SensorInfo("benchmark", __version__, namespace, manifest_of(Config().model_path).missions)


def through_sink(url: str, made: list[Alert]) -> tuple[float, float]:
    """Seconds until the sink has had every document acknowledged, by the clock and of this process's processor time; the
    templates' set-up is not counted."""
    config = ElasticsearchConfig(hosts=[url], namespace="bulk" + uuid.uuid4().hex[:8])
    safes = [AlertBatch(), *(AlertBatch(made[i : i + 500]) for i in range(0, len(made), 500))]
    counters = Counters()
    acknowledged = elasticsearch.write(safes, config, _sensor(config.namespace), counters)
    next(acknowledged)
    began = time.perf_counter(), time.process_time()
    for _ in acknowledged:
        pass
    seconds = time.perf_counter() - began[0], time.process_time() - began[1]
    if counters.alerts_written != len(made):
        raise SystemExit(f"error: {counters.alerts_written} of {len(made)} documents written")
    drop(url, config.namespace)
    return seconds


def raw(url: str, made: list[Alert]) -> tuple[float, float]:
    """The same two of the same documents as ready-made bulk bodies of 500."""
    namespace = "bulk" + uuid.uuid4().hex[:8]
    sensor = _sensor(namespace)
    lines = [b'{"create":{"_id":"%s"}}\n%s\n' % (a.id.encode(), msgspec.json.encode(document(a, sensor))) for a in made]
    bodies = [b"".join(lines[i : i + 500]) for i in range(0, len(lines), 500)]
    place = urllib.parse.urlsplit(url)
    client = http.client.HTTPConnection(place.hostname or "", place.port)
    began = time.perf_counter(), time.process_time()
    for body in bodies:
        client.request(
            "POST", f"/logs-packetclip.alert-{namespace}/_bulk?filter_path=errors", body, {"Content-Type": "application/x-ndjson"}
        )
        answer = client.getresponse().read()
        if b'"errors":false' not in answer:
            raise SystemExit(f"error: {answer[:300]!r}")
    seconds = time.perf_counter() - began[0], time.process_time() - began[1]
    drop(url, namespace)
    return seconds


def drop(url: str, namespace: str) -> None:
    """Delete a data stream."""
    with Elasticsearch(url) as client:
        client.options(ignore_status=[400, 404]).indices.delete_data_stream(name=f"logs-packetclip.alert-{namespace}")


def main() -> None:
    """Print documents a second of both, and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask_for_cluster(parser)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    banner("documents into Elasticsearch, the sink against raw bulk requests")
    made = alerts(args.documents)
    through_sink(args.elasticsearch, made[:1000])  # templates, and a warm node
    ratios = []
    for _ in range(args.runs):
        alone, ours = raw(args.elasticsearch, made), through_sink(args.elasticsearch, made)
        ratios.append(ours[0] / alone[0])
        said = [
            f"{name} {len(made) / seconds:,.0f} documents/s, {own / len(made) * 1e6:.0f} us of processor each"
            for name, (seconds, own) in (("raw", alone), ("sink", ours))
        ]
        print(f"{'; '.join(said)}; {ratios[-1]:.2f} times", flush=True)
    verdict("sink over raw", statistics.median(ratios), BOUND)


if __name__ == "__main__":
    main()
