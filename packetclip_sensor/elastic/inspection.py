"""What `packetclip check` asks Elasticsearch: is it there, may we write, are the templates ours, would a document go in?

Only questions: nothing is put. A key that may only write cannot read templates; then the data stream's own mapping is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from elasticsearch import ApiError, Elasticsearch, TransportError, UnsupportedProductError

from packetclip_sensor.common.missions import Missions
from packetclip_sensor.elastic import templates
from packetclip_sensor.elastic.client import ElasticsearchConfig, connect, trouble
from packetclip_sensor.elastic.steps import JSON, get, has
from packetclip_sensor.errors import SinkError

Found = tuple[bool | None, str]
"""True, False, or None for worth a look; and the words."""
SET_UP = "packetclip setup elasticsearch"
BY_AN_ADMINISTRATOR = f"run `{SET_UP}` once as an administrator and set manage_templates: false"


def findings(config: ElasticsearchConfig, missions: Missions, datasets: Sequence[str]) -> Iterator[Found]:
    """Everything about the cluster, a line each.

    Args:
        missions: those of its model. datasets: the data streams that this sensor writes.
    """
    with connect(config) as client:
        try:
            health = _health(client)
            yield from _reached(config, health, datasets)
            yield from _rights(client, config, datasets)
            for dataset in datasets:
                try:
                    yield from _templates(client, config, missions, dataset)
                    yield from _blocks(client, templates.stream_name(config.namespace, dataset))
                except SinkError as err:
                    yield False, str(err)
        except (ApiError, TransportError, UnsupportedProductError) as err:
            yield False, trouble(err, config)


def _health(client: Elasticsearch) -> tuple[str, str] | None:
    """Name and colour of the cluster; None where this key may not ask."""
    try:
        answer = client.cluster.health()
    except ApiError as err:
        if err.status_code == 403:
            return None
        raise
    return answer["cluster_name"], answer["status"]


def _reached(config: ElasticsearchConfig, health: tuple[str, str] | None, datasets: Sequence[str]) -> Iterator[Found]:
    at = f"Elasticsearch {', '.join(config.hosts)}"
    streams = ", ".join(templates.stream_name(config.namespace, dataset) for dataset in datasets)
    if health is None:
        yield True, f"{at}: lets this key in (it may not ask for the cluster's health); documents go to {streams}"
    else:
        name, colour = health
        yield colour != "red" or None, f"{at}: cluster {name} is {colour}; documents go to {streams}"


def _rights(client: Elasticsearch, config: ElasticsearchConfig, datasets: Sequence[str]) -> Iterator[Found]:
    """Whether these credentials may write, and put templates where they are to."""
    if not has(client, "/_security/_authenticate"):
        return
    names = [templates.stream_name(config.namespace, dataset) for dataset in datasets]
    wanted = ["auto_configure", "create_doc"] + ["manage", "view_index_metadata"] * config.manage_templates
    cluster = ["manage_index_templates"] * config.manage_templates
    body = {"index": [{"names": names, "privileges": wanted}], "cluster": cluster}
    answer = client.perform_request("POST", "/_security/user/_has_privileges", headers=JSON, body=body).body
    lacking = sorted({right for rights in answer["index"].values() for right, given in rights.items() if not given})
    if not {"auto_configure", "create_doc"}.isdisjoint(lacking):
        yield (
            False,
            f"{names[0]}: no right to create documents ({', '.join(lacking)} missing); `{SET_UP} --api-key FILE` makes a key",
        )
        return
    lacking += [right for right, given in answer["cluster"].items() if not given]
    if lacking:
        yield (
            False,
            f"manage_templates: true, but no right to put templates ({', '.join(lacking)} missing); {BY_AN_ADMINISTRATOR}",
        )


def _templates(client: Elasticsearch, config: ElasticsearchConfig, missions: Missions, dataset: str) -> Iterator[Found]:
    """Are the templates there and ours, and does the stream's index take our documents?"""
    stream = templates.stream_name(config.namespace, dataset)
    try:
        steps = templates.plan_templates(client, dataset, missions)
        templates.refuse_rivals(client, dataset, config.namespace)
    except ApiError as err:
        if err.status_code != 403:
            raise
        if config.manage_templates:
            yield False, f"{stream}: manage_templates: true, but no right to read templates; {BY_AN_ADMINISTRATOR}"
        else:
            yield from _mapping(client, stream, dataset)
        return
    steps += templates.plan_streams(client, dataset, config.namespace, missions)
    changes = [step for step in steps if step.method]
    missing = [step.name for step in changes if step.mark == "new"]
    for names, is_what in ((missing, "missing"), ([step.name for step in changes if step.mark != "new"], "old or altered")):
        if not names:
            continue
        if config.manage_templates:
            yield None, f"{stream}: {is_what}: {', '.join(names)}; the sensor puts that right when it starts"
        else:
            yield False, f"{stream}: {is_what}: {', '.join(names)}; run `{SET_UP}` (manage_templates is false)"
    if not changes:
        yield True, f"{stream}: its templates are this version's" + (" or newer" if any(s.mark == "left" for s in steps) else "")


def _mapping(client: Elasticsearch, stream: str, dataset: str) -> Iterator[Found]:
    """A stream's own mapping, where templates may not be read; needs view_index_metadata."""
    try:
        answer = get(client, f"/{stream}/_mapping")
    except ApiError as err:
        if err.status_code != 403:
            raise
        yield None, f"{stream}: this key may see neither templates nor mapping; that `{SET_UP}` was run is taken on trust"
        return
    if not answer:
        yield None, f"{stream}: not there yet, and this key may not read templates; that `{SET_UP}` was run is taken on trust"
        return
    found, ours = max(templates.version_of(index["mappings"]) for index in answer.values()), templates.mapping_version(dataset)
    if not found:
        yield False, f"{stream}: was made without our templates; run `{SET_UP}`, it says what to do"
    elif found < ours:
        yield False, f"{stream}: has mapping version {found}, this sensor writes version {ours}; run `{SET_UP}`"
    else:
        yield True, f"{stream}: its mapping has version {found}"


def _blocks(client: Elasticsearch, stream: str) -> Iterator[Found]:
    """An index that Elasticsearch or a person has closed for writing."""
    try:
        answer = get(client, f"/{stream}/_settings/index.blocks.*?flat_settings=true")
    except ApiError as err:
        if err.status_code != 403:
            raise
        return
    if not answer:
        return
    newest = answer[max(answer)]["settings"]
    on = sorted(name.removeprefix("index.blocks.") for name, value in newest.items() if str(value).lower() == "true")
    if "read_only_allow_delete" in on:
        yield False, f"{stream}: cannot be written: Elasticsearch's disk is nearly full (flood stage); make room there"
    elif set(on) & {"write", "read_only"}:
        yield False, f"{stream}: cannot be written: index.blocks.{on[0]} is set; take it away (PUT /{stream}/_settings)"
