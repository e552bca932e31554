"""The commands that ask Elasticsearch for what is alike: hunt and similar."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packetclip_sensor.cli.common import ClusterUrl, ConfigFile, Since, Until, cluster_at, missions_of_the_sensor, set_up_logs
from packetclip_sensor.common import time_parsing
from packetclip_sensor.errors import ConfigError

if TYPE_CHECKING:
    from packetclip_sensor.config.settings import ElasticsearchConfig

Namespace = Annotated[str | None, typer.Option(metavar="NAME", help="Last part of the data stream's name. [default: default]")]
Host = Annotated[str | None, typer.Option(metavar="HOST", help="Only what has this host, or one of this network.")]
Mission = Annotated[
    str | None, typer.Option(metavar="MISSION", help=f"Only where this is likeliest: Benign, {missions_of_the_sensor()}.")
]
Limit = Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Most rows.")]
Every = Annotated[bool, typer.Option("--every", help="A row for each document, not one for those of the same hosts.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object in place of the table.")]


def hunt(
    sentence: Annotated[str, typer.Argument(metavar="SENTENCE", help="What you look for, in words of network traffic.")],
    config: ConfigFile = None,
    elasticsearch: ClusterUrl = None,
    namespace: Namespace = None,
    since: Since = None,
    until: Until = None,
    host: Host = None,
    mission: Mission = None,
    limit: Limit = 10,
    every: Every = False,
    json: Json = False,
) -> None:
    """Find the traffic that a sentence describes.

    Searches the windows that a sensor with `hunt.enabled: true` keeps in Elasticsearch, alarming or not. Needs
    pip install '.[hunt]' in a clone. A table row is a window of a few packets; it says how far it stands out.

    \b
    Exit codes:
      0  asked; the list may be empty
      2  no such cluster, data stream or right; the text encoder is missing; a wrong option

    \b
    Examples:
      packetclip hunt "many half-open connections from one host" --config sensor.yaml
      packetclip hunt "someone guesses passwords over ssh" --since 2025-10-09 --host 10.1.0.0/16 -c sensor.yaml
      packetclip hunt "slow requests that hold connections open" --mission Benign --json -c sensor.yaml
    """
    from packetclip_sensor.elastic.client import connect
    from packetclip_sensor.elastic.streams import FLOWS
    from packetclip_sensor.hunt import search as hunts
    from packetclip_sensor.hunt.text_encoder import TextEncoder
    from packetclip_sensor.model.bundle import manifest_of
    from packetclip_sensor.view import hunt_table

    if not sentence.strip():
        raise ConfigError('the sentence is empty; say what you look for, for example "many half-open connections from one host"')
    cluster, model = _where(config, elasticsearch, namespace)
    first, last = time_parsing.span(since, until)
    manifest = manifest_of(model)
    must = hunts.filters(since=first, until=last, host=host, mission=mission, missions=manifest.missions, model=manifest.version)
    encoded = TextEncoder(model)(sentence)
    with connect(cluster) as client:
        found = hunts.nearest(client, FLOWS, cluster, encoded.query, must, limit, fold=not every)
    if json:
        sys.stdout.buffer.write(hunt_table.as_json(found, asked=sentence, encoded=encoded) + b"\n")
    else:
        hunt_table.show(found, sys.stdout, manifest.missions, asked="what the sentence is read as", encoded=encoded)


def similar(
    name: Annotated[str, typer.Argument(metavar="ID", help="event.id of an alert or a kept window, or an episode's id.")],
    config: ConfigFile = None,
    elasticsearch: ClusterUrl = None,
    namespace: Namespace = None,
    since: Since = None,
    until: Until = None,
    host: Host = None,
    mission: Mission = None,
    limit: Limit = 10,
    flows: Annotated[bool, typer.Option("--flows", help="Look among the kept windows (hunt.enabled), not the alerts.")] = False,
    every: Every = False,
    json: Json = False,
) -> None:
    """Find the alerts that are like an alert.

    Compares what the packets look like, not hosts or names. Each other episode is one row; `--flows` looks for traffic
    that did not become an alert.

    \b
    Exit codes:
      0  asked; the list may be empty
      2  no such id, cluster, data stream or right; a wrong option

    \b
    Examples:
      packetclip similar 6b4f1e0318f1d3c28106 --config sensor.yaml
      packetclip similar 6b4f1e0318f1d3c28106 --flows --mission Benign -c sensor.yaml
    """
    from packetclip_sensor.common.text import printable
    from packetclip_sensor.elastic.client import connect
    from packetclip_sensor.elastic.streams import ALERTS, FLOWS
    from packetclip_sensor.hunt import search as hunts
    from packetclip_sensor.model.bundle import manifest_of
    from packetclip_sensor.view import hunt_table

    cluster, model = _where(config, elasticsearch, namespace)
    missions = manifest_of(model).missions
    first, last = time_parsing.span(since, until)
    with connect(cluster) as client:
        known = hunts.lookup(client, cluster, name)
        must = hunts.filters(since=first, until=last, host=host, mission=mission, missions=missions, model=known.model)
        itself = [{"ids": {"values": [known.id]}}]
        if episode := known.source.get("packetclip", {}).get("episode", {}).get("id"):
            itself.append({"term": {"packetclip.episode.id": episode}})
        dataset = FLOWS if flows else ALERTS
        itself = itself[:1] if flows else itself
        found = hunts.nearest(client, dataset, cluster, known.embedding, must, limit, must_not=itself, fold=not every)
    if json:
        sys.stdout.buffer.write(hunt_table.as_json(found, asked=known.id) + b"\n")
    else:
        hunt_table.show(found, sys.stdout, missions, asked=f"“{printable(str(known.source.get('message', known.id)), 100)}”")


def _where(config: Path | None, url: str | None, namespace: str | None) -> tuple[ElasticsearchConfig, Path]:
    """The cluster and the model's folder, from the configuration file or from the options."""
    from msgspec.structs import replace

    from packetclip_sensor.config import config_file as configs
    from packetclip_sensor.config.settings import Config

    settings = configs.load(config) if config else Config()
    set_up_logs("error")
    cluster = settings.sink.elasticsearch
    if url is not None:
        cluster = replace(cluster_at(url), namespace=settings.namespace)
    if cluster is None:
        where = f"{config}: sink is no Elasticsearch" if config else "no cluster named"
        raise ConfigError(f"{where}; name the sensor's configuration with --config, or the cluster with --elasticsearch URL")
    return (replace(cluster, namespace=namespace) if namespace else cluster), settings.model_path
