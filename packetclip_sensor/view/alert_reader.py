"""Alert documents read back: from the NDJSON file, a single JSON document, or the data stream, all of them or one by its id; and
an analyst's verdict put into them.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from elastic_transport import TransportError
from elasticsearch import ApiError, Elasticsearch

from packetclip_sensor.calibrate.marks import VERDICTS, Mark
from packetclip_sensor.common import durable
from packetclip_sensor.common.text import printable
from packetclip_sensor.common.time_parsing import span
from packetclip_sensor.config.settings import ElasticsearchConfig
from packetclip_sensor.elastic.client import connect, refusal, trouble, unreadable
from packetclip_sensor.elastic.streams import between, stream_name
from packetclip_sensor.errors import ConfigError, LogFormatError, SinkError
from packetclip_sensor.view.document_access import Document, get, strings, text, when
from packetclip_sensor.view.next_steps import history

IDS = ("event.id", "packetclip.episode.id")
PAGE = 500
MOST_PAGES = 200
LISTED = 5
"""Ids named in a message."""
SHORTEST_BEGINNING = 3
MARKED = "packetclip.analyst.verdict"
MOST_DOCUMENTS = 10_000
"""Of an episode that are marked at once: those of a week."""


class UnknownAlertError(ConfigError):
    """No alert, or more than one, has the id that was given."""


def read(path: Path) -> list[Document]:
    """The alert documents of a file, in its order: JSON lines, or one JSON document over many lines. Lines that are other JSON
    objects are passed over.

    Raises:
        LogFormatError: not readable, not JSON, or no alert document in it.
    """
    try:
        raw = path.read_bytes()
    except OSError as err:
        raise LogFormatError(f"{path}: cannot be read: {err.strerror}; give a file that replay or run wrote") from err
    if not raw:
        raise LogFormatError(f"{path}: is empty: there was no alert, so there is nothing to show")
    found = [one for value in _values(raw, path) for one in _opened(value)]
    if not found:
        raise LogFormatError(f"{path}: holds no alert document; `packetclip replay PATH --out {path}` writes them")
    marks = marks_beside(path)
    if marks != path and marks.is_file():
        said = {text(one, "packetclip.episode.id"): get(one, "packetclip.analyst") for one in read(marks)}
        for one in found:
            if analyst := said.get(text(one, "packetclip.episode.id")):
                one["packetclip"]["analyst"] = analyst
    return found


def marks_beside(path: Path) -> Path:
    """The file of marks for a file of alerts: documents with `packetclip.analyst`, the last of an episode counts."""
    return path if path.name.endswith(".marks.ndjson") else path.with_name(f"{path.stem}.marks.ndjson")


def mark_in_file(path: Path, document: Document) -> None:
    """Put a marked document behind those of the file.

    Raises:
        SinkError: it cannot be written.
    """
    try:
        fd = durable.opened(path)
        try:
            durable.append(fd, msgspec.json.encode(document) + b"\n", path.parent)
        finally:
            os.close(fd)
    except OSError as err:
        raise SinkError(f"{path}: cannot be written: {err.strerror}; mark as a user who may write there") from err


def mark_stored(client: Elasticsearch, config: ElasticsearchConfig, episode: str, analyst: Document) -> int:
    """Put the verdict into the stored documents of an episode; returns how many there are.

    Raises:
        SinkError: the cluster is not there, or refuses.
    """
    where = stream_name(config.namespace)
    needs = {
        400: "if it lacks packetclip.analyst: `packetclip setup elasticsearch` adds that, for alerts from then on",
        403: f"the login needs the index privileges `read` and `index` on {where}, which the sensor's key lacks: --user NAME",
    }
    try:
        query = {"term": {"packetclip.episode.id": episode}}
        hits = client.search(index=where, query=query, size=MOST_DOCUMENTS, source=False)["hits"]["hits"]
        lines = [
            ({"update": {"_index": hit["_index"], "_id": hit["_id"]}}, {"doc": {"packetclip": {"analyst": analyst}}})
            for hit in hits
        ]
        body = b"".join(msgspec.json.encode(line) + b"\n" for pair in lines for line in pair)
        headers = {"accept": "application/json", "content-type": "application/x-ndjson"}
        answer = client.perform_request("POST", "/_bulk", params={"refresh": "true"}, headers=headers, body=body).body
    except (ApiError, TransportError) as err:
        raise SinkError(trouble(err, config, needs)) from err
    for item in answer["items"]:
        if (status := item["update"]["status"]) >= 400:
            raise SinkError(refusal(config, status, str(item["update"].get("error", {}).get("reason", "")), needs))
    return len(hits)


def mark_of(document: Document) -> Mark:
    """What an analyst said of an alert, of a document that is marked."""
    first, last = when(document, "packetclip.episode.first"), when(document, "packetclip.episode.last")
    port, proto = get(document, "destination.port"), text(document, "network.transport")
    return Mark(
        true=text(document, MARKED) == VERDICTS[True],
        episode=text(document, "packetclip.episode.id"),
        mission=text(document, "packetclip.mission"),
        klass=text(document, "packetclip.class"),
        sources=strings(document, "source.ip"),
        destinations=strings(document, "destination.ip"),
        source_count=_count(document, "source_count"),
        destination_count=_count(document, "destination_count"),
        first=first,
        last=max(first, last),
        service=proto if proto == "icmp" else f"{port}/{proto}" if port and proto in ("tcp", "udp") else None,
        comment=text(document, "packetclip.analyst.comment"),
    )


def _values(raw: bytes, path: Path) -> Iterator[Any]:
    lines = raw.splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
            if number == 1 and len(lines) > 1:
                try:  # one document with line breaks in it, as people copy it from Kibana
                    whole = msgspec.json.decode(raw)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    pass
                else:
                    yield whole
                    return
            raise LogFormatError(f"{path}:{number}: not a JSON line ({err}); give a file that replay or run wrote") from err


def _opened(value: Any) -> Iterator[Document]:
    """The alert documents in a JSON value: itself, the members of an array, or Elasticsearch's `_source`."""
    if isinstance(value, list):
        for part in value:
            yield from _opened(part)
    elif isinstance(value, dict):
        inner = value.get("_source", value)
        if isinstance(inner, dict) and isinstance(inner.get("packetclip"), dict):
            yield inner


def _count(document: Document, name: str) -> int:
    found = get(document, f"packetclip.episode.{name}")
    return found if isinstance(found, int) else 0


def stored(
    config: ElasticsearchConfig,
    *,
    since: str | None = None,
    until: str | None = None,
    mission: str | None = None,
    marked: bool = False,
    limit: int = 5000,
) -> list[Document]:
    """The newest document of each of the newest episodes in the data stream, newest first.

    Args:
        since, until: times as `moment` takes them. marked: those with an analyst's verdict alone, or none. limit: most episodes.
    Raises:
        ConfigError: a time that is none, or nothing between them.
        SinkError: the cluster is not there, refuses, or has no such data stream.
    """
    begin, end = span(since, until)
    filters: list[Document] = between(begin, end)
    filters += [{"term": {"packetclip.mission": mission}}] if mission else []
    filters += [{"exists": {"field": MARKED}}] if marked else []
    newest: dict[str, Document] = {}
    after: list[Any] | None = None
    with connect(config) as client:
        for _ in range(MOST_PAGES):
            hits = _search(client, config, {"bool": {"filter": filters}}, size=PAGE, after=after)
            for hit in hits:
                one = hit["_source"]
                newest.setdefault(text(one, "packetclip.episode.id") or text(one, "event.id"), one)
                if len(newest) > limit:
                    newest.popitem()
                    return list(newest.values())
            if len(hits) < PAGE:
                break
            after = hits[-1]["sort"]
    if not newest and not marked:
        raise SinkError(
            f"{stream_name(config.namespace)}: holds no alert of this time and mission; widen --since, or look at `namespace`"
        )
    return list(newest.values())


def newest(
    documents: Sequence[Document], *, since: str | None, until: str | None, mission: str | None, limit: int, where: str
) -> list[Document]:
    """As `stored`, of documents at hand.

    Raises:
        ConfigError: a time that is none, or nothing between them. LogFormatError: nothing is left.
    """
    begin, end = span(since, until)
    last: dict[str, tuple[float, Document]] = {}
    for one in documents:
        ts = when(one, "@timestamp")
        if not begin <= ts < end or mission not in (None, text(one, "packetclip.mission")):
            continue
        name = text(one, "packetclip.episode.id") or text(one, "event.id")
        if name not in last or ts >= last[name][0]:
            last[name] = ts, one
    if not last:
        raise LogFormatError(f"{where}: holds no alert of this time and mission; widen --since and --until")
    return [one for _, one in sorted(last.values(), key=lambda item: -item[0])[:limit]]


def by_id(documents: Sequence[Document], name: str, where: str) -> Document:
    """The document of this id, or the newest of the episode of this id; the beginning of an id will do where it is the only one.

    Raises:
        UnknownAlertError: none or several; the message names near ones.
    """
    exact = [one for one in documents if name in _ids(one)]
    begun = [one for one in documents if any(i.startswith(name) for i in _ids(one))] if len(name) >= SHORTEST_BEGINNING else []
    found = exact or begun
    if not found:
        ids = list(dict.fromkeys(i for one in reversed(documents) for i in _ids(one)))
        near = difflib.get_close_matches(name, ids, LISTED, 0.5)
        raise UnknownAlertError(
            f"{where}: no alert {shown(name)}; {_listed('near ones', near) if near else _listed('the newest', ids)}"
        )
    episodes = {text(one, "packetclip.episode.id") for one in found}
    if len(episodes) > 1:
        raise UnknownAlertError(
            f"{where}: {shown(name)} begins {len(episodes)} ids; {_listed('give one whole', sorted(episodes))}"
        )
    return max(reversed(found), key=lambda one: text(one, "@timestamp"))


def only(documents: Sequence[Document], where: str) -> Document:
    """The newest document of the one episode that there is.

    Raises:
        UnknownAlertError: there are several; the message names them.
    """
    episodes = list(dict.fromkeys(text(one, "packetclip.episode.id") or text(one, "event.id") for one in documents))
    if len(episodes) > 1:
        raise UnknownAlertError(
            f"{where}: holds {len(episodes)} episodes; give one's id and --from {where}; {_listed('the newest', episodes[::-1])}"
        )
    return max(reversed(documents), key=lambda one: text(one, "@timestamp"))


def stored_by_id(config: ElasticsearchConfig, name: str, client: Elasticsearch | None = None) -> Document:
    """As `by_id`, from the data stream; by the client, or one of its own.

    Raises:
        UnknownAlertError: none or several. SinkError: the cluster is not there, refuses, or has no such data stream.
    """
    where = stream_name(config.namespace)
    wanted: list[Document] = [{"term": {field: name}} for field in IDS]
    with contextlib.nullcontext(client) if client else connect(config) as asked:
        hits = _search(asked, config, {"bool": {"should": wanted}}, size=PAGE)
        if not hits:
            near: list[Document] = [{"fuzzy": {field: {"value": name, "fuzziness": 2}}} for field in IDS]
            near += [{"prefix": {field: name}} for field in IDS] if len(name) >= SHORTEST_BEGINNING else []
            hits = _search(asked, config, {"bool": {"should": near}}, size=PAGE)
            hits = hits or _search(asked, config, {"match_all": {}}, size=LISTED)
    # Newest first from the cluster, oldest first in a file.
    return by_id([hit["_source"] for hit in reversed(hits)], name, where)


def stored_before(config: ElasticsearchConfig, document: Document) -> list[history.Seen]:
    """As `history.before`, from the data stream.

    Raises:
        SinkError: the cluster is not there, refuses, or has no such data stream.
    """
    earlier = {"range": {"packetclip.episode.first": {"lt": text(document, "packetclip.episode.first")}}}
    asked = history.asked(document)
    counted = {
        "episodes": {"cardinality": {"field": "packetclip.episode.id", "precision_threshold": 40_000}},
        "last": {"max": {"field": "packetclip.episode.last"}},
    }
    terms = [{"bool": {"filter": [{"term": {field: value}} for field, value in key]}} for key in asked]
    with connect(config) as client:
        answer = _asked(
            client, config, earlier, size=0, aggs={f"{n}": {"filter": one, "aggs": counted} for n, one in enumerate(terms)}
        )
    found = [answer["aggregations"][f"{n}"] for n in range(len(asked))]
    return [
        history.Seen(history.what(key), int(one["episodes"]["value"]), (one["last"]["value"] or 0.0) / 1000)
        for key, one in zip(asked, found, strict=True)
    ]


def shown(name: str) -> str:
    """A name from outside, safe in a message."""
    return f"`{printable(name, 60)}`"


def _ids(document: Document) -> list[str]:
    return [found for field in reversed(IDS) if (found := text(document, field))]


def _listed(what: str, ids: Sequence[str]) -> str:
    more = f" and {len(ids) - LISTED} more" if len(ids) > LISTED else ""
    return f"{what}: {', '.join(shown(i) for i in ids[:LISTED])}{more}"


def _search(
    client: Elasticsearch, config: ElasticsearchConfig, query: Document, *, size: int, after: list[Any] | None = None
) -> list[Document]:
    """Hits of the data stream, newest first."""
    order = [{"@timestamp": "desc"}, {"event.id": "desc"}]
    return list(_asked(client, config, query, size=size, search_after=after, sort=order)["hits"]["hits"])


def _asked(client: Elasticsearch, config: ElasticsearchConfig, query: Document, **more: Any) -> Any:
    where = stream_name(config.namespace)
    try:
        return client.search(index=where, query=query, track_total_hits=False, **more)
    except (ApiError, TransportError) as err:
        remedy = {404: "is `namespace` right, and has the sensor written an alert yet?"}
        raise unreadable(err, config, where, remedy) from err
