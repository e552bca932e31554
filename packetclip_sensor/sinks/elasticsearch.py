"""Alerts to an Elasticsearch data stream, each stored once however often it is sent.

A document's `_id` is the alert's own and every write is a `create`, so sending again what may have arrived (a time-out, a
restart) ends in a 409, which means done. While the cluster is busy or away the sink keeps its batch and tries again, for as long
as it takes: nothing is read ahead meanwhile, Zeek's log files are the queue. What Elasticsearch refuses for good goes to a
dead-letter file with the reason; what only a person can correct (credentials, rights, templates) ends the start with the remedy,
and is waited for once a document was taken or was there already, so that a sensor outlives the renewal of its key.

The client's `bulk` is called directly and not through `helpers.streaming_bulk`: that helper reads ahead, lets connection errors
through, and raises on a 429 before it retries.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import msgspec
import structlog
from elastic_transport import TlsError
from elasticsearch import ApiError, Elasticsearch, TransportError, UnsupportedProductError

from packetclip_sensor.common.durable import Sleep, Waiting
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import Missions
from packetclip_sensor.common.text import printable
from packetclip_sensor.config.settings import ElasticsearchConfig
from packetclip_sensor.elastic.client import connect, reason, refusal, trouble
from packetclip_sensor.elastic.streams import ALERTS, FLOWS, stream_name
from packetclip_sensor.elastic.templates import ensure_templates
from packetclip_sensor.errors import SinkError
from packetclip_sensor.records import AlertBatch
from packetclip_sensor.sinks import dead_letters
from packetclip_sensor.sinks.delivery import Patience, classify, retry_after
from packetclip_sensor.sinks.documents import SensorInfo, document
from packetclip_sensor.sinks.hunt_documents import flow_document

REDELIVERED = 1000
"""Dead letters read at once."""

T = TypeVar("T")

log = structlog.get_logger()


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


@dataclass(slots=True)
class Item:
    """One document on its way."""

    id: str
    body: bytes
    stream: str = ""
    """Data stream; empty for the alerts'."""
    failed_500: int = 0


@dataclass
class Sender:
    """Sends items until each is stored or refused."""

    client: Elasticsearch
    config: ElasticsearchConfig
    counters: Counters
    sleep: Sleep
    rng: Callable[[], float]
    waiting: Waiting = lambda why: None
    accepted: Callable[[], bool] = lambda: False
    """Whether the cluster has taken a document of another kind (one of health) with the same login."""
    reached: bool = False
    """Whether the cluster has answered since the start."""
    proved: bool = False
    """Whether it has taken a document, or had it already (409): credentials, rights and templates were right then."""

    def __post_init__(self) -> None:
        self.stream = stream_name(self.config.namespace)
        self.nodes_left = len(self.config.hosts) - 1
        """Other nodes to try at once before waiting: the client goes on to the next by itself."""
        where, path = {"hosts": self.config.hosts}, self.config.dead_letter_path
        self.patience = Patience("elasticsearch", where, self.counters, "es_retries", self.sleep, self.rng, self.waiting)
        self.letters = dead_letters.DeadLetters(path, self.config.dead_letter_bytes, self.counters, self._wait)

    def start(self, missions: Missions, *more: str) -> None:
        """Wait for the cluster, then put the templates of alerts and of `more` datasets for a model with these missions."""
        # Not `GET /`: this says the same, and a key without the right to monitor gets a 403, which is an answer too.
        self._patiently(self.client.options(ignore_status=403).cluster.health)
        if self.config.manage_templates:
            self._patiently(lambda: ensure_templates(self.client, self.config.namespace, missions, ALERTS, *more))
        self._well()

    def send(self, items: Sequence[Item]) -> None:
        """Return once each is stored, or in the dead-letter file."""
        left = list(_batches(items, self.config.batch_documents, self.config.batch_bytes))[::-1]
        while left:
            batch = left.pop()
            try:
                answers = self._patiently(partial(self._bulk, batch))
            except ApiError as err:
                if len(batch) > 1:
                    left += [batch[len(batch) // 2 :], batch[: len(batch) // 2]]
                    continue
                answers = [{"status": err.status_code, "error": {"type": "request_too_large", "reason": reason(err)}}]
            again, why = self._sort(batch, answers)
            if again:
                self._wait(why)
                left.append(again)
            else:
                self._well()

    def _bulk(self, items: list[Item]) -> list[dict[str, Any]]:
        """One bulk call; the status, and the error if any, of each item."""
        operations: list[Any] = []
        for item in items:
            target = b'"_index":%s,' % msgspec.json.encode(item.stream) if item.stream else b""
            operations += (b'{"create":{%s"_id":%s}}' % (target, msgspec.json.encode(item.id)), item.body)
        response = self.client.bulk(
            index=self.stream,
            operations=operations,
            require_data_stream=True,
            filter_path="items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason",
        )
        return [item["create"] for item in response["items"]]

    def _sort(self, items: list[Item], answers: list[dict[str, Any]]) -> tuple[list[Item], str]:
        """Count what is stored, keep what is refused; returns what to send again, and why.

        Raises:
            SinkError: a person is needed, before the first document was taken.
        """
        again: list[Item] = []
        refused: list[dead_letters.Letter] = []
        why = ""
        self.proved |= self.accepted() or any(classify(answer["status"]) in ("written", "duplicate") for answer in answers)
        for item, answer in zip(items, answers, strict=True):
            status, error = answer["status"], answer.get("error", {})
            item.failed_500 += status == 500
            outcome = classify(status, error.get("type", ""), item.failed_500)
            match outcome:
                case "written" | "duplicate":
                    name = f"{'flows' if item.stream else 'alerts'}_{outcome}"
                    setattr(self.counters, name, getattr(self.counters, name) + 1)
                case "retry":
                    again.append(item)
                    why = printable(f"{status} {error.get('type')}: {error.get('reason')}", 300)
                case "person" if not (self.proved and item.stream):  # what is not an alert must never hold alerts back
                    why = refusal(self.config, status, error.get("reason", ""), _remedies(item.stream or self.stream))
                    if not self.proved:
                        raise SinkError(why)
                    again.append(item)
                case _:
                    cause = error.get("caused_by", {}).get("reason")
                    words = printable(str(error.get("reason")) + (f": {cause}" if cause else ""))
                    letter = (item.id, status, str(error.get("type")), words, msgspec.Raw(item.body), item.stream)
                    refused.append(dead_letters.Letter(*letter))
        if refused:  # on the disk before the position moves
            self.letters.add(refused)
            first, path = refused[0], self.config.dead_letter_path
            log.error("documents_dead_lettered", count=len(refused), path=path, status=first.status, reason=first.reason)
        return again, why

    def _patiently(self, call: Callable[[], T]) -> T:
        """Call until the cluster answers.

        Raises:
            SinkError: waiting would not help.
            ApiError: the request is too large (413).
        """
        while True:
            try:
                result = call()
            except (ApiError, TransportError, UnsupportedProductError) as err:
                self._failed(err)
            else:
                self.reached = True
                return result

    def _failed(self, err: ApiError | TransportError | UnsupportedProductError) -> None:
        """Wait, or raise as `_patiently` says."""
        self.proved |= self.accepted()
        patient, why, at_least_s, another_node = self.proved, trouble(err, self.config, _remedies(self.stream)), 0.0, False
        match err:
            case ApiError():
                outcome = classify(err.status_code, str(err.body))
                if outcome == "too large":
                    raise err
                if outcome == "retry":
                    patient, why, another_node = True, f"{err.status_code} {reason(err)}", err.status_code in (502, 503, 504)
                    at_least_s = retry_after(err.meta.headers.get("retry-after"))
            case TlsError():
                patient = self.reached
            case TransportError():
                patient, why, another_node = True, printable(f"{type(err).__name__}: {err.message}", 300), True
        if not patient:
            raise SinkError(why) from err
        self._wait(why, at_least_s, another_node=another_node)

    def _well(self) -> None:
        self.patience.well()
        self.nodes_left = len(self.config.hosts) - 1

    def _wait(self, why: str, at_least_s: float = 0.0, *, another_node: bool = False) -> None:
        """Wait, or try another node where the trouble may be this one's alone: each gets its try before the first wait."""
        if another_node and self.nodes_left > 0:
            self.nodes_left -= 1
            self.patience.count()
            log.warning("elasticsearch_next_node", hosts=self.config.hosts, reason=why)
            return
        self.patience.wait(why, at_least_s)


def _remedies(stream: str) -> dict[int, str]:
    """What to do where a sensor is refused to write to a data stream, by HTTP status."""
    return {
        403: f"give the key create_doc, auto_configure, manage and view_index_metadata on {stream}, and on the cluster "
        "manage_index_templates; or run `packetclip setup elasticsearch`, set manage_templates: false and keep the first two",
        404: "run `packetclip setup elasticsearch`, or start again with manage_templates: true, so that the template is put",
    }


def _batches(items: Sequence[Item], max_documents: int, max_bytes: int) -> Iterator[list[Item]]:
    """Cut by count and by bytes; a document longer than `max_bytes` goes alone."""
    batch: list[Item] = []
    size_bytes = 0
    for item in items:
        if batch and (len(batch) >= max_documents or size_bytes + len(item.body) > max_bytes):
            yield batch
            batch, size_bytes = [], 0
        batch.append(item)
        size_bytes += len(item.body)
    if batch:
        yield batch
