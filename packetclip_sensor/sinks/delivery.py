"""Sends documents to Elasticsearch, with patience, until each is stored or refused for good.

The client's `bulk` is called directly and not through `helpers.streaming_bulk`: that helper reads ahead, lets connection errors
through, and raises on a 429 before it retries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog
from elastic_transport import TlsError
from elasticsearch import ApiError, Elasticsearch, TransportError, UnsupportedProductError

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import Missions
from packetclip_sensor.elastic.client import ElasticsearchConfig, refusal, trouble
from packetclip_sensor.elastic.steps import reason
from packetclip_sensor.elastic.templates import ensure_templates, stream_name
from packetclip_sensor.errors import SinkError
from packetclip_sensor.sinks import dead_letters
from packetclip_sensor.sinks.documents import DATASET
from packetclip_sensor.sinks.hunt_documents import DATASET as FLOWS

BUSY = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""
MAX_ITEM_500 = 8
"""Times that one document may cause an internal error before it counts as refused: a document that always does so must not hold
back all others for ever. Being busy (429, 502, 503, 504) has no such limit."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
LONGEST_RETRY_AFTER_S = 300.0
"""A server that asks for more patience (Retry-After, RFC 9110 10.2.3) is asked again after this all the same."""

log = structlog.get_logger()
T = TypeVar("T")


@dataclass(slots=True)
class Item:
    """One document on its way."""

    id: str
    body: bytes
    stream: str = ""
    """Data stream; empty for the alerts'."""
    failed_500: int = 0


Refused = tuple[Item, int, Mapping[str, Any]]


class Sender:
    """Sends items until each is stored or refused."""

    def __init__(
        self,
        client: Elasticsearch,
        config: ElasticsearchConfig,
        counters: Counters,
        sleep: Callable[[float], None],
        rng: Callable[[], float],
        waiting: Callable[[str | None], None] = lambda why: None,
    ) -> None:
        self.client = client
        self.config = config
        self.stream = stream_name(config.namespace)
        self.counters = counters
        self.sleep = sleep
        self.rng = rng
        self.waiting = waiting
        self.tries = 0
        """Failed tries in a row: 0 while all is well."""
        self.nodes_left = len(config.hosts) - 1
        """Other nodes to try at once before waiting: the client goes on to the next by itself."""
        self.waited_s = 0.0
        self.reached = False
        """Whether the cluster has answered since the start."""
        self.proved = False
        """Whether it has taken a document: credentials, rights and templates were right then."""
        path = Path(config.dead_letter_path)
        self.letters = dead_letters.DeadLetters(path, config.dead_letter_bytes, counters, self._wait)

    def start(self, missions: Missions, *more: str) -> None:
        """Wait for the cluster, then put the templates of alerts and of `more` datasets for a model with these missions."""
        self._patiently(self._health)
        if self.config.manage_templates:
            self._patiently(lambda: ensure_templates(self.client, self.config.namespace, missions, DATASET, *more))
        self._well()

    def send(self, items: Sequence[Item]) -> None:
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

    def _bulk(self, items: list[Item]) -> list[Item]:
        """One bulk call; returns the items to send again, after having waited."""
        operations: list[Any] = []
        for item in items:
            target = b'"_index":%s,' % msgspec.json.encode(item.stream) if item.stream else b""
            operations += (b'{"create":{%s"_id":%s}}' % (target, msgspec.json.encode(item.id)), item.body)
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
        again, refused, busy = self._sort(items, response["items"])
        self._dead_letter(refused)
        if again:
            self._wait(busy)
        else:
            self._well()
        return again

    def _sort(self, items: list[Item], answers: list[Any]) -> tuple[list[Item], list[Refused], str]:
        """What to send again, what is refused for good, and why something must be sent again; counts the rest."""
        again: list[Item] = []
        refused: list[Refused] = []
        busy = ""
        for item, answer in zip(items, answers, strict=True):
            status, error = answer["create"]["status"], answer["create"].get("error", {})
            if status < 300:
                self._count(item, "written")
                self.proved = True
            elif status == 409:
                self._count(item, "duplicate")
            elif self._may_succeed(item, status, error):
                again.append(item)
                busy = f"{status} {error.get('type')}: {error.get('reason')}"
            elif status in (401, 403) or error.get("type") == "index_not_found_exception":
                mistake = self._for_good(status, error.get("reason", ""), item.stream)
                if not self.proved:
                    raise mistake
                if item.stream:  # what is not an alert must never hold alerts back
                    refused.append((item, status, error))
                    continue
                again.append(item)
                busy = str(mistake)
            else:
                refused.append((item, status, error))
        return again, refused, busy

    def _count(self, item: Item, what: str) -> None:
        name = f"{'flows' if item.stream.startswith(f'logs-{FLOWS}-') else 'alerts'}_{what}"
        setattr(self.counters, name, getattr(self.counters, name) + 1)

    @staticmethod
    def _may_succeed(item: Item, status: int, error: Mapping[str, Any]) -> bool:
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
                if not self.proved:
                    raise SinkError(trouble(err, self.config)) from err
                self._wait("something answers that is not Elasticsearch")
            except ApiError as err:
                if err.status_code == 413:
                    raise _TooLargeError(reason(err)) from err
                if err.status_code in BUSY or "cluster_block_exception" in str(err.body):
                    why, node = f"{err.status_code} {reason(err)}", err.status_code in (502, 503, 504)
                    self._wait(why, _retry_after(err.meta.headers.get("retry-after")), another_node=node)
                    continue
                mistake = self._for_good(err.status_code, reason(err))
                if not self.proved:
                    raise mistake from err
                self._wait(str(mistake))
            except TlsError as err:
                if not self.reached:
                    raise SinkError(trouble(err, self.config)) from err
                self._wait(str(err))
            except TransportError as err:
                self._wait(f"{type(err).__name__}: {err.message}", another_node=True)
            else:
                self.reached = True
                return result

    def _well(self) -> None:
        """The cluster has done what it was asked to: the next trouble begins with a short wait and a line in the log."""
        if self.tries:
            log.info("elasticsearch_back", hosts=self.config.hosts, tries=self.tries, waited_s=round(self.waited_s, 1))
            self.waiting(None)
        self.tries, self.waited_s, self.nodes_left = 0, 0.0, len(self.config.hosts) - 1

    def _wait(self, why: str, at_least_s: float = 0.0, *, another_node: bool = False) -> None:
        """Sleep, twice as long each time, half of it by chance so that many sensors do not come back at once.

        Args:
            at_least_s: what the server asked for.
            another_node: the trouble may be this node's alone: before the first wait each other node gets its try.
        """
        self.counters.es_retries += 1
        if another_node and self.nodes_left > 0:
            self.nodes_left -= 1
            log.warning("elasticsearch_next_node", hosts=self.config.hosts, reason=why)
            return
        if not self.tries:
            log.warning("elasticsearch_waiting", hosts=self.config.hosts, reason=why)
        self.waiting(why)
        pause_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(self.tries, 16)) * (0.5 + self.rng() / 2)
        pause_s = max(pause_s, min(at_least_s, LONGEST_RETRY_AFTER_S))
        self.tries += 1
        self.waited_s += pause_s
        self.sleep(pause_s)

    def _for_good(self, status: int, why: str, stream: str = "") -> SinkError:
        stream = stream or self.stream
        remedies = {
            403: f"give the key create_doc, auto_configure, manage and view_index_metadata on {stream}, and on the cluster "
            "manage_index_templates; or run `packetclip setup elasticsearch`, set manage_templates: false and keep the first two",
            404: "run `packetclip setup elasticsearch`, or start again with manage_templates: true, so that the template is put",
        }
        return SinkError(refusal(self.config, status, why, remedies))

    def _dead_letter(self, refused: list[Refused]) -> None:
        """Keep refused documents with the reason, on the disk before the position moves."""
        if not refused:
            return
        letters = []
        for item, status, error in refused:
            cause = error.get("caused_by", {}).get("reason")
            why = str(error.get("reason")) + (f": {cause}" if cause else "")
            body = msgspec.Raw(item.body)
            letters.append(dead_letters.Letter(item.id, status, str(error.get("type")), why, body, item.stream))
        self.letters.add(letters)
        log.error(
            "documents_dead_lettered",
            count=len(letters),
            path=self.config.dead_letter_path,
            status=letters[0].status,
            reason=letters[0].reason,
        )


class _TooLargeError(Exception):
    """413: the proxy or the cluster takes no request of this size."""


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


def _retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks for: a number of seconds or an HTTP date (RFC 9110 10.2.3); 0 for anything else."""
    if value is None:
        return 0.0
    if value.strip().isascii() and value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
