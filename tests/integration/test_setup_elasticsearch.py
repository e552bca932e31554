"""`packetclip setup elasticsearch` on the real node: it has data streams and templates, and lacks ingest, lifecycle and security.

Each test has a data stream kind of its own, a copy of the alerts' templates under another name, so that it may remove them.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from factories import MISSIONS
from structlog.testing import capture_logs

from packetclip_sensor.cli.app import main
from packetclip_sensor.elastic import setup, streams, templates
from packetclip_sensor.elastic.plan import Step

pytestmark = pytest.mark.elasticsearch


@pytest.fixture
def client(elasticsearch_url: str) -> Iterator[Elasticsearch]:
    with Elasticsearch(elasticsearch_url) as running:
        yield running


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A dataset whose templates are the alerts', in a folder that the test may edit."""
    name = f"packetclip.t{uuid.uuid4().hex[:10]}"
    source, folder = templates.folder(), tmp_path / "templates"
    for path in source.rglob("*.json"):
        copied = folder / path.relative_to(source).with_name(path.name.replace("packetclip.alert", name))
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_text(path.read_text().replace("packetclip.alert", name))
    shutil.copytree(source / "role", folder / "role", dirs_exist_ok=True)
    monkeypatch.setattr(templates, "folder", lambda: folder)
    monkeypatch.setattr(streams, "DATASETS", (name,))
    return name


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def line(self, *words: str) -> str:
        """The one line that begins with a mark and holds a name."""
        (found,) = [line for line in self.out.splitlines() if line.startswith(words[0]) and all(word in line for word in words)]
        return found


@pytest.fixture
def run(elasticsearch_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    path = tmp_path / "sensor.yaml"
    path.write_text(f"sink: {{elasticsearch: {{hosts: ['{elasticsearch_url}']}}}}\n")

    def once(*arguments: str) -> Ran:
        code = main(["setup", "elasticsearch", "--config", str(path), *arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return once


def edit(name: str, old: str, new: str, kind: str = "component") -> None:
    path = templates.folder() / kind / f"{name}.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def made(client: Elasticsearch, dataset: str) -> list[str]:
    """Names of the templates of this dataset that the cluster has."""
    quiet = client.options(ignore_status=404)
    components = quiet.cluster.get_component_template(name=f"logs-{dataset}*").get("component_templates", [])
    index = quiet.indices.get_index_template(name=f"logs-{dataset}*").get("index_templates", [])
    return sorted(each["name"] for each in [*components, *index])


def one_document(client: Elasticsearch, stream: str, mission: str = "DoS") -> None:
    document = {"@timestamp": "2025-10-09", "packetclip": {"mission": mission}}
    client.index(index=stream, op_type="create", document=document, refresh=True)


def test_a_server_that_lacks_features_is_set_up_as_far_as_it_goes_and_says_what_it_lacks(
    client: Elasticsearch, dataset: str, run: Any, tmp_path: Path
) -> None:
    ran = run("--api-key", str(tmp_path / "key"))
    assert ran.code == 0, ran.err
    assert made(client, dataset) == [
        f"logs-{dataset}",
        f"logs-{dataset}@ecs",
        f"logs-{dataset}@packetclip",
        f"logs-{dataset}@settings",
    ]
    assert "no ingest processors; event.ingested stays empty" in ran.line("skip", "pipeline")
    assert "neither data stream lifecycle nor ILM" in ran.line("skip", "lifecycle")
    assert "--api-key: this server has no security, so there is no key to make." in ran.out
    assert "/_security/role/packetclip-sensor' -d '{" in ran.out
    assert not (tmp_path / "key").exists()


def test_a_second_run_changes_nothing(client: Elasticsearch, dataset: str, run: Any) -> None:
    assert run().code == 0
    one_document(client, f"logs-{dataset}-default")
    before = [
        body for name in made(client, dataset)[1:] for body in client.cluster.get_component_template(name=name).body.items()
    ]
    ran = run()
    assert ran.code == 0
    assert {line.split()[0] for line in ran.out.splitlines() if dataset in line} == {"same"}
    after = [body for name in made(client, dataset)[1:] for body in client.cluster.get_component_template(name=name).body.items()]
    assert before == after


def test_a_dry_run_prints_what_the_run_sends_and_sends_nothing(
    client: Elasticsearch, dataset: str, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dry = run("--dry-run")
    assert (dry.code, made(client, dataset)) == (0, [])
    sent: list[str] = []
    take = Step.take
    monkeypatch.setattr(Step, "take", lambda step, client: (sent.append(f"{step.method} {step.path}"), take(step, client))[1])
    run()
    assert [line for line in dry.out.splitlines() if line.startswith(("PUT /", "POST /"))] == [
        each for each in sent if each != " "
    ]
    assert "dry run: 4 requests would be sent, none was" in dry.out


def test_an_older_version_is_upgraded_and_a_changed_type_rolls_the_stream_over(
    client: Elasticsearch, dataset: str, run: Any
) -> None:
    """The older version had the class as a number, and no mission `benign`."""
    packetclip, stream = f"logs-{dataset}@packetclip", f"logs-{dataset}-default"
    version = templates.version_of(templates.mapping(dataset))
    edit(packetclip, '"class": {"type": "keyword", "ignore_above": 1024}', '"class": {"type": "long"}')
    assert run().code == 0
    one_document(client, stream)
    edit(packetclip, '"class": {"type": "long"}', '"class": {"type": "keyword", "ignore_above": 1024}')
    edit(packetclip, f'"version": {version}', f'"version": {version + 1}')
    ran = run()
    assert ran.code == 0, ran.err
    assert f"version {version} becomes {version + 1}" in ran.line("upgrade", packetclip)
    words = f"mapping version {version} becomes {version + 1} in a new index, since packetclip.class is long, ours keyword"
    assert words in ran.line("roll", stream)
    client.index(index=stream, op_type="create", document={"@timestamp": "2025-10-09", "packetclip": {"class": "SYN Flood"}})
    client.indices.refresh(index=stream)
    assert client.count(index=stream)["count"] == 2
    assert [len(each["backing_indices"]) for each in client.indices.resolve_index(name=stream)["data_streams"]] == [2]
    assert "same" in run().line("same", stream)


def test_an_older_version_that_only_lacks_fields_keeps_its_index(client: Elasticsearch, dataset: str, run: Any) -> None:
    packetclip, stream = f"logs-{dataset}@packetclip", f"logs-{dataset}-default"
    version = templates.version_of(templates.mapping(dataset))
    assert run().code == 0
    one_document(client, stream)
    edit(packetclip, '"concept_names": {', '"added": {"type": "long"},\n            "concept_names": {')
    edit(packetclip, f'"version": {version}', f'"version": {version + 1}')
    assert "1 fields more" in run().line("upgrade", stream)
    client.index(index=stream, op_type="create", document={"@timestamp": "2025-10-09", "packetclip": {"added": 1}})
    assert [len(each["backing_indices"]) for each in client.indices.resolve_index(name=stream)["data_streams"]] == [1]
    assert "same" in run().line("same", stream)


def test_a_newer_sensors_templates_and_stream_are_left_alone(client: Elasticsearch, dataset: str, run: Any) -> None:
    packetclip, stream = f"logs-{dataset}@packetclip", f"logs-{dataset}-default"
    version = templates.version_of(templates.mapping(dataset))
    edit(packetclip, f'"version": {version}', f'"version": {version + 1}')
    run()
    one_document(client, stream)
    edit(packetclip, f'"version": {version + 1}', f'"version": {version}')
    ran = run()
    assert ran.code == 0, ran.err
    assert f"version {version + 1} is newer than ours, {version}" in ran.line("left", packetclip)
    assert f"its mapping has version {version + 1}, newer than ours, {version}" in ran.line("left", stream)


def test_anothers_component_under_our_name_is_refused_before_anything_changes(
    client: Elasticsearch, dataset: str, run: Any
) -> None:
    client.cluster.put_component_template(name=f"logs-{dataset}@ecs", template={"settings": {}})
    ran = run()
    assert (ran.code, made(client, dataset)) == (2, [f"logs-{dataset}@ecs"])
    assert f"component template logs-{dataset}@ecs: is there and not ours" in ran.err


def test_anothers_index_template_that_takes_the_name_is_refused_before_anything_changes(
    client: Elasticsearch, dataset: str, run: Any
) -> None:
    name = f"rival-{dataset}"
    client.indices.put_index_template(name=name, index_patterns=[f"logs-{dataset}*"], data_stream={}, priority=300)
    try:
        ran = run()
        assert (ran.code, made(client, dataset)) == (2, [])
        assert f"index template {name} takes this name with priority 300, ours has 200; nothing was changed" in ran.err
    finally:
        client.indices.delete_index_template(name=name)


def test_a_data_stream_with_other_mappings_is_refused_and_nothing_is_lost(
    client: Elasticsearch, dataset: str, run: Any, tmp_path: Path
) -> None:
    """Made before our templates, so that the severity is a text."""
    stream, name = f"logs-{dataset}-default", f"before-{dataset}"
    guessed = {"mappings": {"properties": {"event": {"properties": {"severity": {"type": "text"}}}}}}
    client.indices.put_index_template(name=name, index_patterns=[stream], data_stream={}, priority=100, template=guessed)
    client.index(
        index=stream, op_type="create", document={"@timestamp": "2025-10-09", "event": {"severity": "high"}}, refresh=True
    )
    ran = run()
    assert (ran.code, made(client, dataset)) == (2, [])
    assert f"{stream}: its mapping conflicts with ours: event.severity is text, ours long; nothing is lost: roll" in ran.err
    assert client.count(index=stream)["count"] == 1

    # Another namespace is not stopped by it; and the remedy works.
    config = tmp_path / "sensor.yaml"
    config.write_text(config.read_text() + "namespace: other\n")
    told = run()
    assert told.code == 0, told.err
    assert "event.severity is text, ours long; nothing is lost: roll" in told.line("left", stream)
    config.write_text(config.read_text().replace("namespace: other\n", ""))
    client.indices.rollover(alias=stream)
    assert run().code == 0
    assert client.count(index=stream)["count"] == 1


def test_a_plain_index_in_the_streams_place_is_refused_and_stays(client: Elasticsearch, dataset: str, run: Any) -> None:
    stream = f"logs-{dataset}-default"
    client.index(index=stream, document={"message": "kept"}, refresh=True)
    ran = run()
    assert (ran.code, made(client, dataset)) == (2, [])
    assert f"{stream}: is a plain index or alias, our documents need a data stream; nothing was changed" in ran.err
    assert client.count(index=stream)["count"] == 1
    client.indices.delete(index=stream)


@pytest.fixture
def more_features(dataset: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """As if the node had ingest and lifecycle; name of a pipeline of the test's own, without the processors that it lacks."""
    name = f"logs-{dataset}@ingested"
    folder = templates.folder() / "pipeline"
    body = json.loads((folder / f"{setup.PIPELINE}.json").read_text())
    body["processors"] = []
    (folder / f"{name}.json").write_text(json.dumps(body))
    monkeypatch.setattr(setup, "PIPELINE", name)
    for feature, has_it in (("ingest", True), ("lifecycle", True), ("ilm", False), ("security", False)):
        monkeypatch.setattr(setup.Server, feature, has_it)
    return name


def test_pipeline_and_lifecycle_are_taken_by_the_real_server(
    client: Elasticsearch, dataset: str, more_features: str, run: Any
) -> None:
    """All of the requests but the processors, of which this node has none: documents go through the pipeline, old streams too."""
    stream = f"logs-{dataset}-default"
    templates.ensure_templates(client, "default", MISSIONS, dataset)
    one_document(client, stream)
    ran = run()
    assert ran.code == 0, ran.err
    assert more_features in ran.line("upgrade", "settings", stream)
    one_document(client, stream)
    assert client.count(index=stream)["count"] == 2
    outcome = client.indices.simulate_index_template(name=stream)["template"]
    assert outcome["settings"]["index"]["default_pipeline"] == more_features
    assert outcome["lifecycle"] == {"enabled": True}
    settings = client.indices.get_settings(index=stream, flat_settings=True)
    assert {each["settings"]["index.default_pipeline"] for each in settings.values()} == {more_features}
    marks = {line.split()[0] for line in run().out.splitlines() if dataset in line}
    assert marks == {"same"}


def test_a_retention_is_taken_by_the_real_server_and_everything_can_be_removed(
    client: Elasticsearch, dataset: str, more_features: str, run: Any
) -> None:
    assert run("--retention", "30d").code == 0
    outcome = client.indices.simulate_index_template(name=f"logs-{dataset}-default")["template"]
    assert outcome["lifecycle"] == {"enabled": True, "data_retention": "30d"}
    assert client.ingest.get_pipeline(id=more_features)[more_features]["version"] == 1
    ran = run("--remove")
    assert ran.code == 0, ran.err
    assert made(client, dataset) == []
    assert client.options(ignore_status=404).ingest.get_pipeline(id=more_features).body == {}


def test_removal_takes_the_templates_and_leaves_the_sites_own(client: Elasticsearch, dataset: str, run: Any) -> None:
    run()
    client.cluster.put_component_template(name=f"logs-{dataset}@custom", template={"settings": {}})
    assert "dry run: 4 requests would be sent" in run("--remove", "--dry-run").out
    assert len(made(client, dataset)) == 5
    assert run("--remove").code == 0
    assert made(client, dataset) == [f"logs-{dataset}@custom"]


def test_removal_leaves_a_stream_with_its_templates_and_says_so(client: Elasticsearch, dataset: str, run: Any) -> None:
    run()
    stream = f"logs-{dataset}-default"
    one_document(client, stream)
    ran = run("--remove")
    assert ran.code == 0
    assert ran.line("left", "data stream", stream, "its documents stay")
    assert f"data stream {stream} uses it; --delete-data removes both" in ran.line("left", "index template")
    assert client.count(index=stream)["count"] == 1


def test_the_sensors_start_does_the_same_and_says_so_in_its_log(client: Elasticsearch, dataset: str, namespace: str) -> None:
    packetclip, version = f"logs-{dataset}@packetclip", templates.version_of(templates.mapping(dataset))
    templates.ensure_templates(client, namespace, MISSIONS, dataset)
    one_document(client, f"logs-{dataset}-{namespace}")
    edit(packetclip, f'"version": {version}', f'"version": {version + 1}')
    with capture_logs() as logs:
        templates.ensure_templates(client, namespace, MISSIONS, dataset)
    assert [(entry["event"], entry["done"], entry["name"]) for entry in logs] == [
        ("elasticsearch_set_up", "upgrade", packetclip),
        ("elasticsearch_set_up", "upgrade", f"logs-{dataset}-{namespace}"),
    ]
    with capture_logs() as logs:
        templates.ensure_templates(client, namespace, MISSIONS, dataset)
    assert logs == []
