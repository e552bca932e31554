"""`packetclip setup elasticsearch` on the real node: it has data streams and templates, and lacks ingest, lifecycle and security.

Each test has a data stream kind of its own, a copy of the alerts' templates under another name, so that it may remove them.
"""

from __future__ import annotations

import json
import re
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

    def marks(self, name: str) -> set[str]:
        """How the lines begin that hold a name."""
        return {line.split()[0] for line in self.out.splitlines() if name in line}


@pytest.fixture
def run(elasticsearch_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    path = tmp_path / "sensor.yaml"
    path.write_text(f"sink: {{elasticsearch: {{hosts: ['{elasticsearch_url}']}}}}\n")

    def once(*arguments: str) -> Ran:
        code = main(["setup", "elasticsearch", "--config", str(path), *arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return once


def edit(name: str, *changes: tuple[str, str], newer: int = 0) -> int:
    """Replace words in a component template and raise its version; the version before."""
    path = templates.folder() / "component" / f"{name}.json"
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    version = int(re.findall(r'"version": (\d+)', text)[0])
    path.write_text(text.replace(f'"version": {version}', f'"version": {version + newer}'))
    return version


def made(client: Elasticsearch, dataset: str) -> list[str]:
    """Names of the templates of this dataset that the cluster has."""
    quiet = client.options(ignore_status=404)
    components = quiet.cluster.get_component_template(name=f"logs-{dataset}*").get("component_templates", [])
    index = quiet.indices.get_index_template(name=f"logs-{dataset}*").get("index_templates", [])
    return sorted(each["name"] for each in [*components, *index])


def one_document(client: Elasticsearch, stream: str, **fields: Any) -> None:
    document = {"@timestamp": "2025-10-09", "packetclip": fields or {"mission": "DoS"}}
    client.index(index=stream, op_type="create", document=document, refresh=True)


def indices(client: Elasticsearch, stream: str) -> int:
    """How many indices are behind a data stream."""
    (found,) = client.indices.resolve_index(name=stream)["data_streams"]
    return len(found["backing_indices"])


def test_a_server_that_lacks_features_is_set_up_as_far_as_it_goes_and_a_second_run_changes_nothing(
    client: Elasticsearch, dataset: str, run: Any, tmp_path: Path
) -> None:
    names = [f"logs-{dataset}{part}" for part in ("", "@ecs", "@packetclip", "@settings")]
    dry = run("--dry-run")
    assert (dry.code, made(client, dataset)) == (0, [])
    assert sorted(re.findall(r"^PUT /\w+/(\S+)$", dry.out, re.MULTILINE)) == names
    assert "dry run: 4 requests would be sent, none was" in dry.out
    refused = run("--api-key", str(tmp_path / "key"))
    assert (refused.code, made(client, dataset)) == (1, [])
    assert "this server has no security" in refused.err
    ran = run()
    assert ran.code == 0, ran.err
    assert made(client, dataset) == names
    assert "no ingest processors; event.ingested stays empty" in ran.line("skip", "pipeline")
    assert "neither data stream lifecycle nor ILM" in ran.line("skip", "lifecycle")
    assert "/_security/role/packetclip-sensor' -d '{" in ran.out
    assert not (tmp_path / "key").exists()

    one_document(client, f"logs-{dataset}-default")
    before = [client.cluster.get_component_template(name=name).body for name in names[1:]]
    assert run().marks(dataset) == {"same"}
    assert [client.cluster.get_component_template(name=name).body for name in names[1:]] == before


KEYWORD, NUMBER = '"class": {"type": "keyword", "ignore_above": 1024}', '"class": {"type": "long"}'


def test_an_older_version_is_upgraded_and_only_a_changed_type_rolls_the_stream_over(
    client: Elasticsearch, dataset: str, run: Any
) -> None:
    packetclip, stream = f"logs-{dataset}@packetclip", f"logs-{dataset}-default"
    version = edit(packetclip, (KEYWORD, NUMBER))
    assert run().code == 0
    one_document(client, stream)
    edit(packetclip, ('"concept_names": {', '"added": {"type": "long"},\n            "concept_names": {'), newer=1)
    assert "1 fields more" in run().line("upgrade", stream)
    one_document(client, stream, added=1)
    assert indices(client, stream) == 1
    assert "same" in run().line("same", stream)

    edit(packetclip, (NUMBER, KEYWORD), newer=1)
    ran = run()
    assert ran.code == 0, ran.err
    assert f"version {version + 1} becomes {version + 2}" in ran.line("upgrade", packetclip)
    words = f"mapping version {version + 1} becomes {version + 2} in a new index, since packetclip.class is long, ours keyword"
    assert words in ran.line("roll", stream)
    one_document(client, stream, **{"class": "SYN Flood"})
    assert client.count(index=stream)["count"] == 3
    assert indices(client, stream) == 2
    assert "same" in run().line("same", stream)


def test_a_newer_sensors_templates_and_stream_are_left_alone(client: Elasticsearch, dataset: str, run: Any) -> None:
    packetclip, stream = f"logs-{dataset}@packetclip", f"logs-{dataset}-default"
    version = edit(packetclip, newer=1)
    run()
    one_document(client, stream)
    edit(packetclip, newer=-1)
    ran = run()
    assert ran.code == 0, ran.err
    assert f"version {version + 1} is newer than ours, {version}" in ran.line("left", packetclip)
    assert f"its mapping has version {version + 1}, newer than ours, {version}" in ran.line("left", stream)


def test_what_is_anothers_is_refused_before_anything_changes(client: Elasticsearch, dataset: str, run: Any) -> None:
    """A component of our name, an index template that takes it, an index in the stream's place."""
    stream, rival, component = f"logs-{dataset}-default", f"rival-{dataset}", f"logs-{dataset}@ecs"
    client.cluster.put_component_template(name=component, template={"settings": {}})
    ran = run()
    assert (ran.code, made(client, dataset)) == (2, [component])
    assert f"component template {component}: is there and not ours" in ran.err
    client.cluster.delete_component_template(name=component)

    client.indices.put_index_template(name=rival, index_patterns=[f"logs-{dataset}*"], data_stream={}, priority=300)
    ran = run()
    client.indices.delete_index_template(name=rival)
    assert (ran.code, made(client, dataset)) == (2, [])
    assert f"index template {rival} takes this name with priority 300, ours has 200; nothing was changed" in ran.err

    for index, aliases in ((stream, {}), (f"plain-{dataset}", {stream: {}})):
        client.indices.create(index=index, aliases=aliases)
        ran = run()
        client.indices.delete(index=index)  # which fails where it is not there any more
        assert (ran.code, made(client, dataset)) == (2, [])
        assert f"{stream}: is a plain index or alias, our documents need a data stream; nothing was changed" in ran.err


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


def test_pipeline_lifecycle_and_retention_are_taken_by_the_real_server_and_can_be_removed(
    client: Elasticsearch, dataset: str, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the node had ingest and lifecycle: all of the requests but the pipeline's processors, of which this node has none.
    Documents go through the pipeline, those of old streams too."""
    stream, pipeline = f"logs-{dataset}-default", f"logs-{dataset}@ingested"
    folder = templates.folder() / "pipeline"
    body = json.loads((folder / f"{setup.PIPELINE}.json").read_text()) | {"processors": []}
    (folder / f"{pipeline}.json").write_text(json.dumps(body))
    monkeypatch.setattr(setup, "PIPELINE", pipeline)
    for feature, has_it in (("ingest", True), ("lifecycle", True), ("ilm", False), ("security", False)):
        monkeypatch.setattr(setup.Server, feature, has_it)
    assert run("--retention", "30d").code == 0
    outcome = client.indices.simulate_index_template(name=stream)["template"]
    assert outcome["lifecycle"] == {"enabled": True, "data_retention": "30d"}
    assert client.ingest.get_pipeline(id=pipeline)[pipeline]["version"] == 1
    ran = run("--remove", "--all", "--yes")
    assert ran.code == 0, ran.err
    assert made(client, dataset) == []
    assert client.options(ignore_status=404).ingest.get_pipeline(id=pipeline).body == {}

    templates.ensure_templates(client, "default", MISSIONS, dataset)
    one_document(client, stream)
    ran = run()
    assert ran.code == 0, ran.err
    assert pipeline in ran.line("upgrade", "settings", stream)
    one_document(client, stream)
    assert client.count(index=stream)["count"] == 2
    outcome = client.indices.simulate_index_template(name=stream)["template"]
    assert outcome["settings"]["index"]["default_pipeline"] == pipeline
    assert outcome["lifecycle"] == {"enabled": True}
    settings = client.indices.get_settings(index=stream, flat_settings=True)
    assert {each["settings"]["index.default_pipeline"] for each in settings.values()} == {pipeline}
    assert run().marks(dataset) == {"same"}


def test_removal_leaves_the_sites_own_and_a_stream_with_its_templates(client: Elasticsearch, dataset: str, run: Any) -> None:
    stream, custom = f"logs-{dataset}-default", f"logs-{dataset}@custom"
    client.cluster.put_component_template(name=custom, template={"settings": {}})
    run()
    assert "dry run: 4 requests would be sent" in run("--remove", "--all", "--dry-run").out
    assert len(made(client, dataset)) == 5
    assert run("--remove", "--all", "--yes").code == 0
    assert made(client, dataset) == [custom]
    run()
    one_document(client, stream)
    ran = run("--remove", "--all", "--yes")
    assert ran.code == 0
    assert ran.line("left", "data stream", stream, "its documents stay")
    assert f"data stream {stream} uses it; --delete-data removes both" in ran.line("left", "index template")
    assert client.count(index=stream)["count"] == 1


def test_the_sensors_start_does_the_same_and_says_so_in_its_log(client: Elasticsearch, dataset: str, namespace: str) -> None:
    packetclip = f"logs-{dataset}@packetclip"

    def started() -> list[tuple[str, str, str]]:
        with capture_logs() as logs:
            templates.ensure_templates(client, namespace, MISSIONS, dataset)
        return [(entry["event"], entry["done"], entry["name"]) for entry in logs]

    assert {done for _, done, _ in started()} == {"new"}
    one_document(client, f"logs-{dataset}-{namespace}")
    edit(packetclip, newer=1)
    assert started() == [
        ("elasticsearch_set_up", "upgrade", packetclip),
        ("elasticsearch_set_up", "upgrade", f"logs-{dataset}-{namespace}"),
    ]
    assert started() == []
