"""What `packetclip check` asks Elasticsearch: is it there, may we write, are the templates ours, would a document go in?

Only questions: nothing is put. A key that may only write cannot read templates; then the data stream's own mapping is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from elasticsearch import ApiError, Elasticsearch, TransportError, UnsupportedProductError

from packetclip_sensor.common.missions import Missions
from packetclip_sensor.config.settings import ElasticsearchConfig
from packetclip_sensor.elastic import templates
from packetclip_sensor.elastic.client import JSON, connect, exposed, get, trouble
from packetclip_sensor.elastic.plan import Step
from packetclip_sensor.elastic.setup import Server
from packetclip_sensor.elastic.streams import stream_name
from packetclip_sensor.errors import SinkError

Found = tuple[bool | None, str]
"""True, False, or None for worth a look; and the words."""
T = TypeVar("T")
SET_UP = "packetclip setup elasticsearch"
BY_AN_ADMINISTRATOR = f"run `{SET_UP}` once as an administrator and set manage_templates: false"


def findings(config: ElasticsearchConfig, missions: Missions, datasets: Sequence[str]) -> Iterator[Found]:
    """Everything about the cluster, a line each.

    Args:
        missions: those of its model. datasets: the data streams that this sensor writes.
    """
    names = {dataset: stream_name(config.namespace, dataset) for dataset in datasets}
    for _, words in exposed(config):
        yield None, words
    with connect(config) as client:
        try:
            yield _reached(client, config, ", ".join(names.values()))
            if Server(client).security:
                yield from _rights(client, config, list(names.values()))
            for dataset, stream in names.items():
                try:
                    yield from _templates(client, config, missions, dataset, stream)
                    yield from _blocks(client, stream)
                except SinkError as err:
                    yield False, str(err)
        except (ApiError, TransportError, UnsupportedProductError) as err:
            yield False, trouble(err, config)


def _allowed(ask: Callable[[], T]) -> T | None:
    """The answer; None where this key may not ask."""
    try:
        return ask()
    except ApiError as err:
        if err.status_code == 403:
            return None
        raise


def _reached(client: Elasticsearch, config: ElasticsearchConfig, streams: str) -> Found:
    at, health = f"{config.product} {', '.join(config.hosts)}", _allowed(client.cluster.health)
    if health is None:
        return True, f"{at}: lets this key in (it may not ask for the cluster's health); documents go to {streams}"
    colour = health["status"]
    return colour != "red" or None, f"{at}: cluster {health['cluster_name']} is {colour}; documents go to {streams}"


def _rights(client: Elasticsearch, config: ElasticsearchConfig, streams: list[str]) -> Iterator[Found]:
    """Whether these credentials may write, and put templates where they are to."""
    write, manage = ["auto_configure", "create_doc"], ["manage", "view_index_metadata"] * config.manage_templates
    cluster = ["manage_index_templates"] * config.manage_templates
    body = {"index": [{"names": streams, "privileges": write + manage}], "cluster": cluster}
    answer = client.perform_request("POST", "/_security/user/_has_privileges", headers=JSON, body=body).body
    lacking = {right for rights in answer["index"].values() for right, given in rights.items() if not given}
    words = ", ".join([*sorted(lacking), *(right for right, given in answer["cluster"].items() if not given)])
    if lacking & set(write):
        yield False, f"{streams[0]}: no right to create documents ({words} missing); `{SET_UP} --api-key FILE` makes a key"
    elif words:
        yield False, f"manage_templates: true, but no right to put templates ({words} missing); {BY_AN_ADMINISTRATOR}"


def _templates(
    client: Elasticsearch, config: ElasticsearchConfig, missions: Missions, dataset: str, stream: str
) -> Iterator[Found]:
    """Are the templates there and ours, and does the stream's index take our documents?"""

    if _allowed(lambda: templates.of_package(client, dataset)):
        yield _packaged(stream, client.indices.simulate_index_template(name=stream)["template"]["mappings"], dataset, missions)
        return

    def plan() -> list[Step]:
        steps = [thing.put(client) for thing in templates.templates(dataset, missions)]
        templates.refuse_rivals(client, dataset, config.namespace)
        return steps

    steps = _allowed(plan)
    if steps is None:
        if config.manage_templates:
            yield False, f"{stream}: manage_templates: true, but no right to read templates; {BY_AN_ADMINISTRATOR}"
        else:
            yield _mapping(client, dataset, stream, missions)
        return
    steps += templates.plan_streams(client, dataset, config.namespace, missions)
    missing = ", ".join(step.name for step in steps if step.mark == "new")
    old = ", ".join(step.name for step in steps if step.method and step.mark != "new")
    for names, is_what in ((missing, "missing"), (old, "old or altered")):
        if names and config.manage_templates:
            yield None, f"{stream}: {is_what}: {names}; the sensor puts that right when it starts"
        elif names:
            yield False, f"{stream}: {is_what}: {names}; run `{SET_UP}` (manage_templates is false)"
    if not missing and not old:
        yield True, f"{stream}: its templates are this version's" + (" or newer" if any(s.mark == "left" for s in steps) else "")


def _packaged(stream: str, mappings: Mapping[str, Any], dataset: str, missions: Missions) -> Found:
    """A stream whose mapping is the integration package's, in which a field that it has not is kept and not indexed."""
    got = dict(templates.fields(mappings.get("properties", {})))
    if lacking := [name for name in templates.mapped(dataset, missions) if name not in got]:
        words = f"the integration package has no {', '.join(lacking[:3])}{' and others' * (len(lacking) > 3)}"
        return None, f"{stream}: {words}: kept, but not searchable; upload the package that belongs to this sensor and model"
    return True, f"{stream}: its templates are the integration package's"


def _mapping(client: Elasticsearch, dataset: str, stream: str, missions: Missions) -> Found:
    """A stream's own mapping, where templates may not be read; needs view_index_metadata."""
    answer = _allowed(lambda: get(client, f"/{stream}/_mapping"))
    if not answer:
        why = "not there yet, and this key may not read templates" if answer == {} else "this key may see no templates or mapping"
        return None, f"{stream}: {why}; that `{SET_UP}` was run is taken on trust"
    newest = answer[max(answer)]["mappings"]
    if newest.get("_meta", {}).get("managed_by") == templates.FLEET:
        return _packaged(stream, newest, dataset, missions)
    found = max(templates.version_of(index["mappings"]) for index in answer.values())
    ours = templates.version_of(templates.mapping(dataset))
    if not found:
        return False, f"{stream}: was made without our templates; run `{SET_UP}`, it says what to do"
    if found < ours:
        return False, f"{stream}: has mapping version {found}, this sensor writes version {ours}; run `{SET_UP}`"
    return True, f"{stream}: its mapping has version {found}"


def _blocks(client: Elasticsearch, stream: str) -> Iterator[Found]:
    """An index that Elasticsearch or a person has closed for writing."""
    answer = _allowed(lambda: get(client, f"/{stream}/_settings/index.blocks.*?flat_settings=true"))
    settings = answer[max(answer)]["settings"] if answer else {}
    on = sorted(name.removeprefix("index.blocks.") for name, value in settings.items() if str(value).lower() == "true")
    if "read_only_allow_delete" in on:
        yield False, f"{stream}: cannot be written: Elasticsearch's disk is nearly full (flood stage); make room there"
    elif set(on) & {"write", "read_only"}:
        yield False, f"{stream}: cannot be written: index.blocks.{on[0]} is set; take it away (PUT /{stream}/_settings)"
