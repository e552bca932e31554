"""Alerts to an Elasticsearch data stream, each stored once however often it is sent.

A document's `_id` is the alert's own and every write is a `create`, so sending again what may have arrived (a time-out, a
restart) ends in a 409, which means done. While the cluster is busy or away the sink holds its batch and tries again, for as long
as it takes: nothing is read ahead meanwhile, Zeek's log files are the queue. What Elasticsearch refuses for good goes to a
dead-letter file with the reason; what only a person can mend (credentials, rights, templates) ends the sensor with the remedy.

The client's `bulk` is called directly and not through `helpers.streaming_bulk`: that helper reads ahead, lets connection errors
through, and raises on a 429 before it retries.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog
from elastic_transport import TlsError
from elasticsearch import ApiError, Elasticsearch, TransportError, UnsupportedProductError

from packetclip_sensor.documents import SensorInfo, document
from packetclip_sensor.errors import SinkError
from packetclip_sensor.metrics import Counters
from packetclip_sensor.records import Safe
from packetclip_sensor.sinks.cluster import ElasticsearchConfig, connect
from packetclip_sensor.sinks.steps import reason
from packetclip_sensor.sinks.templates import ensure_templates, stream_name

__all__ = ["ElasticsearchConfig", "connect", "ensure_templates", "resend", "write"]

BUSY = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""
MAX_ITEM_500 = 8
"""Times that one document may cause an internal error before it counts as refused: a document that always does so must not hold
back all others for ever. Being busy (429, 502, 503, 504) has no such limit."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0

log = structlog.get_logger()
T = TypeVar("T")


@dataclass(slots=True)
class _Item:
    """One document on its way."""

    id: str
    body: bytes
    failed_500: int = 0


def write(
    batches: Iterable[Safe],
    config: ElasticsearchConfig,
    sensor: SensorInfo,
    counters: Counters,
    *,
    sleep: Callable[[float], None] = time.sleep,
    rng: Callable[[], float] = random.random,
) -> Iterator[Safe]:
    """Send each alert, and yield its `Safe` once Elasticsearch has it, or the dead-letter file.

    Args:
        batches: what the pipeline made; a `Safe` without alerts passes through.
        config: the cluster; its namespace goes into the documents.
        sensor: who writes.
        counters: `alerts_written`, `alerts_duplicate` (409: was there already), `dead_letters`, `es_retries`.
        sleep, rng: the clock to wait by and the jitter's source in [0, 1), for tests.
    Raises:
        ConfigError: see `connect`.
        SinkError: credentials, rights, certificate, templates or the dead-letter file need a person.
    """
    sensor = replace(sensor, namespace=config.namespace)
    with connect(config) as client:
        sender = _Sender(client, config, counters, sleep, rng)
        sender.start()
        for safe in batches:
            sender.send([_Item(alert.id, msgspec.json.encode(document(alert, sensor))) for alert in safe.alerts])
            yield safe


def resend(
    config: ElasticsearchConfig,
    counters: Counters,
    *,
    sleep: Callable[[float], None] = time.sleep,
    rng: Callable[[], float] = random.random,
) -> int:
    """Send the dead-letter file's documents again, say after the mapping was mended; returns how many were read.

    The file is renamed to `*.resending` first, and what is refused again goes into a new one, so that stopping half-way loses
    nothing: the next call begins with the renamed file.
    """
    path = Path(config.dead_letter_path)
    taken = path.with_name(path.name + ".resending")
    if not taken.exists():
        if not path.exists():
            return 0
        path.rename(taken)
    items = []
    for number, line in enumerate(taken.read_bytes().splitlines(), 1):
        try:
            letter = msgspec.json.decode(line, type=_DeadLetter)
        except msgspec.DecodeError as err:
            raise SinkError(f"{taken}:{number}: {err}; mend or remove the line") from err
        items.append(_Item(letter.id, bytes(letter.document)))
    with connect(config) as client:
        sender = _Sender(client, config, counters, sleep, rng)
        sender.start()
        sender.send(items)
    taken.unlink()
    return len(items)


class _DeadLetter(msgspec.Struct):
    """One line of the dead-letter file."""

    id: str
    status: int
    type: str
    reason: str
    document: msgspec.Raw


class _Sender:
    """Sends items until each is stored or refused."""

    def __init__(
        self,
        client: Elasticsearch,
        config: ElasticsearchConfig,
        counters: Counters,
        sleep: Callable[[float], None],
        rng: Callable[[], float],
    ) -> None:
        self.client = client
        self.config = config
        self.stream = stream_name(config.namespace)
        self.counters = counters
        self.sleep = sleep
        self.rng = rng
        self.tries = 0
        """Failed tries in a row: 0 while all is well."""
        self.waited_s = 0.0
        self.reached = False
        """Whether the cluster has answered since the start."""

    def start(self) -> None:
        """Wait for the cluster, then put the templates."""
        self._patiently(self._health)
        if self.config.manage_templates:
            self._patiently(lambda: ensure_templates(self.client, self.config.namespace))
        self._well()

    def send(self, items: Sequence[_Item]) -> None:
        for batch in _batches(items, self.config.batch_documents, self.config.batch_bytes):
            left = batch
            while left:
                left = self._bulk(left)

    def _health(self) -> None:
        """`_cluster/health` and not `GET /`: it says the same, and a key without the right to monitor is told so by a 403, which
        is an answer too."""
        try:
            self.client.cluster.health()
        except ApiError as err:
            if err.status_code != 403:
                raise

    def _bulk(self, items: list[_Item]) -> list[_Item]:
        """One bulk call; returns the items to send again, after having waited."""
        operations: list[Any] = []
        for item in items:
            operations += (b'{"create":{"_id":%s}}' % msgspec.json.encode(item.id), item.body)
        try:
            response = self._patiently(
                lambda: self.client.bulk(
                    index=self.stream,
                    operations=operations,
                    require_data_stream=True,
                    filter_path="items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason",
                )
            )
        except _TooLargeError as err:
            if len(items) > 1:
                self.send(items[: len(items) // 2])
                self.send(items[len(items) // 2 :])
            else:
                self._dead_letter([(items[0], 413, {"type": "request_too_large", "reason": str(err)})])
            return []
        again: list[_Item] = []
        refused: list[tuple[_Item, int, Mapping[str, Any]]] = []
        busy = ""
        for item, answer in zip(items, response["items"], strict=True):
            status, error = answer["create"]["status"], answer["create"].get("error", {})
            if status < 300:
                self.counters.alerts_written += 1
            elif status == 409:
                self.counters.alerts_duplicate += 1
            elif self._may_succeed(item, status, error):
                again.append(item)
                busy = f"{status} {error.get('type')}: {error.get('reason')}"
            elif status in (401, 403) or error.get("type") == "index_not_found_exception":
                raise self._for_good(status, error.get("reason", ""))
            else:
                refused.append((item, status, error))
        self._dead_letter(refused)
        if again:
            self._wait(busy)
        else:
            self._well()
        return again

    @staticmethod
    def _may_succeed(item: _Item, status: int, error: Mapping[str, Any]) -> bool:
        if error.get("type") == "cluster_block_exception":
            return True
        if status == 500:
            item.failed_500 += 1
            return item.failed_500 < MAX_ITEM_500
        return status in BUSY

    def _patiently(self, call: Callable[[], T]) -> T:
        """Call until the cluster answers; a SinkError where waiting would not help."""
        while True:
            try:
                result = call()
            except UnsupportedProductError as err:
                raise SinkError(f"{self.config.hosts}: answers, but is not Elasticsearch; mend elasticsearch.hosts") from err
            except ApiError as err:
                if err.status_code == 413:
                    raise _TooLargeError(reason(err)) from err
                if err.status_code not in BUSY and "cluster_block_exception" not in str(err.body):
                    raise self._for_good(err.status_code, reason(err)) from err
                self._wait(f"{err.status_code} {reason(err)}")
            except TlsError as err:
                if not self.reached:
                    raise SinkError(f"{self.config.hosts}: {err}; set elasticsearch.ca_certs to the cluster's authority") from err
                self._wait(str(err))
            except TransportError as err:
                self._wait(f"{type(err).__name__}: {err.message}")
            else:
                self.reached = True
                return result

    def _well(self) -> None:
        """The cluster has done what it was asked to: the next trouble begins with a short wait and a line in the log."""
        if self.tries:
            log.info("elasticsearch_back", hosts=self.config.hosts, tries=self.tries, waited_s=round(self.waited_s, 1))
        self.tries, self.waited_s = 0, 0.0

    def _wait(self, why: str) -> None:
        """Sleep, twice as long each time, half of it by chance so that many sensors do not come back at once."""
        if not self.tries:
            log.warning("elasticsearch_waiting", hosts=self.config.hosts, reason=why)
        pause_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(self.tries, 16)) * (0.5 + self.rng() / 2)
        self.tries += 1
        self.waited_s += pause_s
        self.counters.es_retries += 1
        self.sleep(pause_s)

    def _for_good(self, status: int, why: str) -> SinkError:
        remedy = {
            401: "check the key or password that api_key_env, api_key_file or password_env names",
            403: f"give the key create_doc, auto_configure, manage and view_index_metadata on {self.stream}, and on the cluster "
            "manage_index_templates; or put the templates yourself, set manage_templates: false and keep the first two",
            404: "start the sensor again with manage_templates: true, so that the template is put",
        }.get(status, "look into Elasticsearch's log")
        return SinkError(f"Elasticsearch at {', '.join(self.config.hosts)} refuses with {status}: {why}; {remedy}")

    def _dead_letter(self, refused: list[tuple[_Item, int, Mapping[str, Any]]]) -> None:
        """Append refused documents with the reason, on the disk before the position moves."""
        if not refused:
            return
        lines = b""
        for item, status, error in refused:
            cause = error.get("caused_by", {}).get("reason")
            why = str(error.get("reason")) + (f": {cause}" if cause else "")
            letter = _DeadLetter(item.id, status, str(error.get("type")), why, msgspec.Raw(item.body))
            lines += msgspec.json.encode(letter) + b"\n"
        path = self.config.dead_letter_path
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
            with os.fdopen(fd, "wb") as file:
                file.write(lines)
                file.flush()
                os.fsync(fd)
        except OSError as err:
            raise SinkError(
                f"elasticsearch.dead_letter_path {path}: {err.strerror}; name a file that this user may write"
            ) from err
        self.counters.dead_letters += len(refused)
        log.error(
            "documents_dead_lettered", count=len(refused), path=path, status=refused[0][1], reason=refused[0][2].get("reason")
        )


class _TooLargeError(Exception):
    """413: the proxy or the cluster takes no request of this size."""


def _batches(items: Sequence[_Item], max_documents: int, max_bytes: int) -> Iterator[list[_Item]]:
    """Cut by count and by bytes; a document longer than `max_bytes` goes alone."""
    batch: list[_Item] = []
    size_bytes = 0
    for item in items:
        if batch and (len(batch) >= max_documents or size_bytes + len(item.body) > max_bytes):
            yield batch
            batch, size_bytes = [], 0
        batch.append(item)
        size_bytes += len(item.body)
    if batch:
        yield batch
