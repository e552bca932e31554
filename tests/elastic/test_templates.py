"""Templates as files: the form that setup and the sensor's start rely on, for every data stream that has some."""

from __future__ import annotations

import msgspec
import pytest
from factories import MISSIONS
from fake_cluster import URL, Cluster

from packetclip_sensor.common.missions import Missions
from packetclip_sensor.common.resources import resource
from packetclip_sensor.config.settings import ElasticsearchConfig
from packetclip_sensor.elastic import templates
from packetclip_sensor.elastic.client import connect
from packetclip_sensor.elastic.plan import same
from packetclip_sensor.elastic.streams import DATASETS

FOLDER = resource("mappings") / "elasticsearch"


def test_every_file_belongs_to_a_stream() -> None:
    used = {name for dataset in DATASETS for name in templates.components(dataset)}
    assert used == {path.stem for path in (FOLDER / "component").glob("*.json")}
    assert {f"logs-{dataset}" for dataset in DATASETS} == {path.stem for path in (FOLDER / "index").glob("*.json")}


@pytest.mark.parametrize("dataset", DATASETS)
def test_an_index_template_wins_over_the_stacks_own_and_ends_with_the_sites_hook(dataset: str) -> None:
    name = f"logs-{dataset}"
    template = templates.read("index", name)
    assert template["priority"] > 100
    assert template["index_patterns"] == [f"{name}-*"]
    assert template["data_stream"] == {}
    assert template["composed_of"][-1] == f"{name}@custom"
    optional = {f"{name}@lifecycle", f"{name}@custom"} | ({f"{name}@pipeline"} & set(template["composed_of"]))
    assert optional <= set(template["composed_of"])
    files = set(templates.components(dataset))
    assert set(template["composed_of"]) - set(template["ignore_missing_component_templates"]) == files
    assert optional <= set(template["ignore_missing_component_templates"])


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_template_says_that_it_is_ours_and_which_version(dataset: str) -> None:
    for thing in templates.templates(dataset):
        assert thing.body["_meta"]["managed_by"] == "packetclip-sensor", thing.name
        assert thing.body["_meta"]["version"] == thing.body["version"] > 0, thing.name
    bodies = templates.components(dataset).values()
    ((version, meta),) = [
        (body["version"], meta) for body in bodies if (meta := body["template"].get("mappings", {}).get("_meta"))
    ]
    assert meta["packetclip"] == {"managed_by": "packetclip-sensor", "version": version}
    assert templates.version_of(templates.mapping(dataset)) == version


@pytest.mark.parametrize("dataset", DATASETS)
def test_what_is_ours_is_strict_and_the_index_mode_is_not_left_to_the_server(dataset: str) -> None:
    """Elasticsearch 9 makes `logs-*-*` logsdb by itself: a rebuilt _source and sorted arrays, never tried with our documents."""
    settings = templates.components(dataset)[f"logs-{dataset}@settings"]["template"]["settings"]["index"]
    assert settings["mode"] == "standard"
    parts = [body["template"].get("mappings", {}).get("properties", {}) for body in templates.components(dataset).values()]
    ours = [part["packetclip"] for part in parts if "packetclip" in part]
    assert ours
    assert [part.get("dynamic") for part in ours].count("strict") == 1


def test_settings_given_back_as_text_and_keys_of_the_servers_own_are_no_change() -> None:
    ours = {"settings": {"index": {"number_of_shards": 1, "hidden": True}}, "mappings": {"properties": {"a": {}}}}
    settings = {"index": {"number_of_shards": "1", "hidden": "true"}}
    assert same(ours, {"settings": settings, "mappings": {"properties": {"a": {}}}, "created_date_millis": 1})
    assert not same(ours, {"settings": settings, "mappings": {"properties": {"a": {}, "b": {"type": "long"}}}})


def test_fields_of_missions_are_those_of_the_model_beside_those_that_another_models_sensor_has_put(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dos, *others = MISSIONS
    (first, *_) = dos.classes
    fourth = msgspec.structs.replace(
        dos, name="Theft", id="theft", note="Theft", classes=(msgspec.structs.replace(first, name="T", id="t", label=10),)
    )
    more, fewer = Missions([dos, *others, fourth]), MISSIONS
    path = "/_component_template/logs-packetclip.alert@packetclip"

    def of_model(cluster: Cluster) -> dict[str, list[str]]:
        properties = cluster.things[path]["template"]["mappings"]["properties"]["packetclip"]["properties"]
        return {name: list(properties[name]["properties"]) for name in ("missions", "graphs")}

    cluster = Cluster()
    cluster.start(monkeypatch)
    with connect(ElasticsearchConfig(hosts=[URL])) as client:
        templates.ensure_templates(client, "default", fewer)
        assert of_model(cluster)["missions"] == ["benign", "dos", "reconnaissance", "brute_force"]
        templates.ensure_templates(client, "default", more)
        both = of_model(cluster)
        assert both["missions"] == ["benign", "dos", "reconnaissance", "brute_force", "theft"]
        assert both["graphs"] == ["dos", "reconnaissance", "brute_force", "theft"]
        before = len(cluster.requests)
        templates.ensure_templates(client, "default", fewer)
        assert of_model(cluster) == both
        assert [path for method, path, _ in cluster.requests[before:] if method == "PUT"] == []
