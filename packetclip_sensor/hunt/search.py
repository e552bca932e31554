"""Nearest documents by Elasticsearch's kNN: windows to a sentence, alerts to an alert.

A score is a cosine, and says little alone: beside it stands the share of stored documents, drawn at random under the same
filters, that are less alike. Only documents of one model version are compared, for each model has a space of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from elasticsearch import ApiError, Elasticsearch, TransportError

from packetclip_sensor.common.missions import Missions
from packetclip_sensor.common.text import printable
from packetclip_sensor.config.schema import suggestion
from packetclip_sensor.config.settings import ElasticsearchConfig
from packetclip_sensor.elastic.client import unreadable
from packetclip_sensor.elastic.streams import ALERTS, FLOWS, between, stream_name
from packetclip_sensor.errors import ConfigError, SinkError
from packetclip_sensor.records import FloatArray, addresses

FIELD = "packetclip.embedding"
SAMPLE = 500
"""Documents drawn at random to say what is typical."""
AHEAD = 10
"""Documents asked for per one shown: those of the same hosts are folded into one."""
MOST = 1000
Query = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Hit:
    """The nearest document of its hosts (or of its episode), and how many more of them are among the nearest."""

    id: str
    cosine: float
    above: float
    """Share of the sample that is less alike, 0 to 1."""
    source: Mapping[str, Any]
    more: int


@dataclass(frozen=True, slots=True)
class Found:
    """Hits, best first, and what is typical."""

    hits: list[Hit]
    stored: int
    """Documents under the filters."""
    sample: FloatArray
    """(n,) cosines of documents drawn at random, ascending."""


@dataclass(frozen=True, slots=True)
class Known:
    """A stored document that others are compared with."""

    id: str
    source: Mapping[str, Any]
    embedding: FloatArray

    @property
    def model(self) -> str:
        """Version of the model whose space the embedding is of."""
        return str(self.source.get("packetclip", {}).get("model", {}).get("version", ""))


def filters(*, since: float, until: float, host: str | None, mission: str | None, missions: Missions, model: str) -> list[Query]:
    """Elasticsearch queries that a document must all match.

    Args:
        since, until: event time, epoch seconds, infinite for open ends. host: address or network.
        mission: one of `missions`, or Benign. model: version of the model.
    Raises:
        ConfigError: the host is no address or network, or the mission is none.
    """
    out: list[Query] = [{"term": {"packetclip.model.version": model}}, *between(since, until)]
    if host is not None:
        try:
            out.append({"term": {"related.ip": addresses.spelled(host)}})
        except addresses.AddressError as err:
            raise ConfigError(f"--host {err}") from err
    if mission is not None:
        known = missions.groups
        if mission not in known:
            raise ConfigError(f"--mission {mission!r}: no such mission{suggestion(mission, known)}; missions: {', '.join(known)}")
        out.append({"term": {"packetclip.mission": mission}})
    return out


def nearest(
    client: Elasticsearch,
    dataset: str,
    cluster: ElasticsearchConfig,
    vector: FloatArray,
    must: Sequence[Query],
    limit: int,
    *,
    must_not: Sequence[Query] = (),
    fold: bool = True,
) -> Found:
    """The documents nearest to `vector`, (D,) unit norm.

    Args:
        fold: documents of the same hosts (alerts: of the same episode) are one hit.
    Raises:
        SinkError: the cluster, the data stream or the rights do not allow it; the message has the remedy.
    """
    stream = stream_name(cluster.namespace, dataset)
    query: Query = {"bool": {"filter": list(must), "must_not": list(must_not)}}
    asked = min(limit * (AHEAD if fold else 1), MOST)
    knn = {
        "field": FIELD,
        "query_vector": [float(x) for x in vector],
        "k": asked,
        "num_candidates": min(max(asked * 2, 200), 10_000),
        "filter": query,
    }
    try:
        stored = int(client.count(index=stream, query=query)["count"])
        answer = client.search(index=stream, knn=knn, size=asked)
        drawn = client.search(
            index=stream,
            query={"function_score": {"query": query, "random_score": {"seed": 1, "field": "_seq_no"}}},
            size=SAMPLE,
            source=False,
            fields=[{"field": FIELD}],
        )
    except (ApiError, TransportError) as err:
        raise _refusal(err, cluster, stream) from err
    rows = [hit["fields"][FIELD] for hit in drawn["hits"]["hits"] if FIELD in hit.get("fields", {})]
    sample = np.sort(np.array(rows, np.float32) @ vector) if rows else np.empty(0, np.float32)
    return Found(_fold(answer["hits"]["hits"], sample, limit, fold=fold), stored, sample)


def lookup(client: Elasticsearch, cluster: ElasticsearchConfig, name: str) -> Known:
    """The newest alert with this document id or episode id, or else the window with this document id.

    Raises:
        ConfigError: there is none, or it has no embedding.
        SinkError: as for `nearest`.
    """
    for dataset in (ALERTS, FLOWS):
        stream = stream_name(cluster.namespace, dataset)
        named: list[Query] = [{"ids": {"values": [name]}}]
        named += [{"term": {"packetclip.episode.id": name}}] if dataset == ALERTS else []
        try:
            found = client.search(
                index=stream,
                query={"bool": {"should": named}},
                sort=[{"@timestamp": "desc"}],
                size=1,
                fields=[{"field": FIELD}],
                ignore_unavailable=dataset == FLOWS,
            )
        except (ApiError, TransportError) as err:
            raise _refusal(err, cluster, stream) from err
        for hit in found["hits"]["hits"]:
            vector = hit.get("fields", {}).get(FIELD)
            if not vector:
                raise ConfigError(
                    f"{printable(name, 60)}: has no {FIELD}, so nothing can be compared with it; an older sensor wrote it: "
                    "replay its logs with this one"
                )
            return Known(hit["_id"], hit["_source"], np.array(vector, np.float32))
    raise ConfigError(
        f"{printable(name, 60)}: no alert, episode or kept window of this id in namespace {cluster.namespace}; take event.id or "
        "packetclip.episode.id of a document"
    )


def _fold(found: Sequence[Mapping[str, Any]], sample: FloatArray, limit: int, *, fold: bool) -> list[Hit]:
    best: dict[str, Mapping[str, Any]] = {}
    count: dict[str, int] = {}
    for hit in found:
        name = _group(hit["_source"]) if fold else str(hit["_id"])
        best.setdefault(name, hit)
        count[name] = count.get(name, 0) + 1
    out = []
    for name, hit in list(best.items())[:limit]:
        cosine = 2 * float(hit["_score"]) - 1  # Elasticsearch's score of a cosine: https://www.elastic.co/docs, knn, "similarity"
        above = float(np.searchsorted(sample, cosine - 1e-6)) / len(sample) if len(sample) else 0.0
        out.append(Hit(hit["_id"], cosine, above, hit["_source"], count[name] - 1))
    return out


def _group(source: Mapping[str, Any]) -> str:
    ours = source.get("packetclip", {})
    if "episode" in ours:
        return str(ours["episode"].get("id"))
    view = ours.get("facts", {}).get("view")
    ends = [str(source.get(side, {}).get("ip")) for side in ("source", "destination")]
    return f"{view} {sorted(ends) if view == 'pair' else ends[view == 'destination']}"


def _refusal(err: ApiError | TransportError, cluster: ElasticsearchConfig, stream: str) -> SinkError:
    let_it_write = "set hunt.enabled: true in the sensor's configuration and let it write, or " if FLOWS in stream else ""
    return unreadable(
        err,
        cluster,
        stream,
        {
            400: f"{FIELD} must be a dense_vector, and the server one that answers kNN searches (Elasticsearch 8.0 or newer); "
            "start the sensor with manage_templates: true, so that the mapping is put; with the integration package see "
            "docs/integration.md",
            404: f"{let_it_write}name another --namespace",
        },
    )
