"""Alerts to an Elasticsearch data stream, each stored once however often it is sent.

A document's `_id` is the alert's own and every write is a `create`, so sending again what may have arrived (a time-out, a
restart) ends in a 409, which means done. While the cluster is busy or away the sink keeps its batch and tries again, for as long
as it takes: nothing is read ahead meanwhile, Zeek's log files are the queue. What Elasticsearch refuses for good goes to a
dead-letter file with the reason; what only a person can correct (credentials, rights, templates) ends the start with the remedy,
and is waited for once a document was taken or was there already, so that a sensor outlives the renewal of its key.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import msgspec

from packetclip_sensor.common.durable import Sleep, Waiting
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import Missions
from packetclip_sensor.config.settings import ElasticsearchConfig
from packetclip_sensor.elastic.client import connect
from packetclip_sensor.elastic.streams import FLOWS, stream_name
from packetclip_sensor.records import AlertBatch
from packetclip_sensor.sinks import dead_letters
from packetclip_sensor.sinks.delivery import Item, Sender
from packetclip_sensor.sinks.documents import SensorInfo, document
from packetclip_sensor.sinks.hunt_documents import flow_document

REDELIVERED = 1000
"""Dead letters read at once."""


def write(
    batches: Iterable[AlertBatch],
    config: ElasticsearchConfig,
    sensor: SensorInfo,
    counters: Counters,
    *,
    hunt: bool = False,
    sleep: Sleep = time.sleep,
    rng: Callable[[], float] = random.random,
    waiting: Waiting = lambda why: None,
    accepted: Callable[[], bool] = lambda: False,
) -> Iterator[AlertBatch]:
    """Send each alert, then what is kept for hunting; yield the batch once Elasticsearch or the dead-letter file has them.

    Args:
        config: the cluster; its namespace goes into the documents.
        counters: `alerts_written`, `alerts_duplicate` (409: was there already), `dead_letters`, `es_retries`.
        hunt: windows for hunting will come, so their data stream is set up too.
        rng: the jitter's source in [0, 1).
        accepted: whether the cluster has taken another document of this sensor's, so that its login was right.
    Raises:
        ConfigError: see `connect`.
        SinkError: credentials, rights, certificate, templates or the dead-letter file need a person.
    """
    sensor = replace(sensor, namespace=config.namespace)
    with connect(config) as client:
        sender = Sender(client, config, counters, sleep, rng, waiting, accepted)
        sender.start(sensor.missions, *(FLOWS,) * hunt)
        stream = stream_name(config.namespace, FLOWS)
        for safe in batches:
            sender.send([Item(alert.id, msgspec.json.encode(document(alert, sensor))) for alert in safe.alerts])
            sender.send([Item(flow.id, msgspec.json.encode(flow_document(flow, sensor)), stream) for flow in safe.hunt_windows])
            yield safe


def redeliver(config: ElasticsearchConfig, counters: Counters, missions: Missions) -> int:
    """Send the dead letters again, say after the mapping was corrected; returns how many were read.

    What is refused again becomes a dead letter again. Stopping half-way loses nothing, and a sensor may run meanwhile.
    """
    count = 0
    with dead_letters.taken(config.dead_letter_path) as files:
        if not files:
            return 0
        with connect(config) as client:
            sender = Sender(client, config, counters, time.sleep, random.random)
            sender.start(missions)
            for path in files:
                letters = dead_letters.read(path)
                while some := [Item(x.id, bytes(x.document), x.stream) for x in itertools.islice(letters, REDELIVERED)]:
                    sender.send(some)
                    count += len(some)
                path.unlink()
    return count
