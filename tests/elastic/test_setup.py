"""`packetclip setup elasticsearch` against a server with all features, which the real test node lacks."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig
from elasticsearch import BadRequestError
from factories import MISSIONS
from fake_cluster import Cluster, running

from packetclip_sensor.cli import main
from packetclip_sensor.common.resources import resource
from packetclip_sensor.elastic import templates
from packetclip_sensor.elastic.steps import Step
from packetclip_sensor.errors import SinkError

OURS = {"managed_by": "packetclip-sensor", "version": 1}
STREAM = "logs-packetclip.alert-default"
PIPELINE = "/_ingest/pipeline/logs-packetclip@ingested"


@pytest.fixture(autouse=True)
def _alerts_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "DATASETS", ("packetclip.alert",))


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with running(Cluster()) as one:
        yield one


def stream(**settings: str) -> dict[str, Any]:
    """A data stream as this version of the sensor makes it."""
    mappings: dict[str, Any] = {
        "properties": templates._merged(part["properties"] for part in templates._mappings("packetclip.alert", MISSIONS))
    }
    mappings["_meta"] = {"packetclip": {"managed_by": "packetclip-sensor", "version": templates.mapping_version()}}
    return {"mappings": mappings, "settings": dict(settings), "count": 12}


class Ran:
    """One run of the command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def marks(self) -> dict[str, str]:
        """What was done with each thing, by its name."""
        known = ("new", "upgrade", "renew", "roll", "remove", "same", "left", "skip")
        lines = [line.split() for line in self.out.splitlines() if line.startswith(known)]
        return {next(word for word in words if "packetclip" in word): words[0] for words in lines}


@pytest.fixture
def run(cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ADMIN", "secret")
    path = tmp_path / "sensor.yaml"
    path.write_text(f"sink: {{elasticsearch: {{hosts: ['{cluster.url}'], api_key_file: {tmp_path / 'key'}}}}}\n")

    def once(*arguments: str) -> Ran:
        login = ["--user", "elastic", "--password-env", "ADMIN"]
        code = main(["setup", "elasticsearch", "--config", str(path), *login, *arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return once


def test_everything_is_put_in_an_order_that_never_names_what_is_missing(cluster: Cluster, run: Any, tmp_path: Path) -> None:
    ran = run("--api-key", str(tmp_path / "key"), "--retention", "365d")
    assert ran.code == 0, ran.err
    assert [(method, path) for method, path, _ in cluster.requests] == [
        ("PUT", PIPELINE),
        ("PUT", "/_component_template/logs-packetclip.alert@settings"),
        ("PUT", "/_component_template/logs-packetclip.alert@ecs"),
        ("PUT", "/_component_template/logs-packetclip.alert@packetclip"),
        ("PUT", "/_component_template/logs-packetclip.alert@pipeline"),
        ("PUT", "/_component_template/logs-packetclip.alert@lifecycle"),
        ("PUT", "/_index_template/logs-packetclip.alert"),
        ("PUT", "/_security/role/packetclip-sensor"),
        ("POST", "/_security/api_key"),
    ]
    bodies = {path: body for _, path, body in cluster.requests}
    assert bodies["/_component_template/logs-packetclip.alert@pipeline"] == {
        "version": 1,
        "_meta": OURS,
        "template": {"settings": {"index": {"default_pipeline": "logs-packetclip@ingested"}}},
    }
    assert bodies["/_component_template/logs-packetclip.alert@lifecycle"]["template"] == {
        "lifecycle": {"enabled": True, "data_retention": "365d"}
    }
    assert bodies[PIPELINE]["processors"] == [
        {"set": {"field": "event.ingested", "value": "{{{_ingest.timestamp}}}"}},
        {"pipeline": {"name": "logs-packetclip@custom", "ignore_missing_pipeline": True}},
    ]


def test_the_key_may_only_write_and_its_file_is_its_owners(cluster: Cluster, run: Any, tmp_path: Path) -> None:
    ran = run("--api-key", str(tmp_path / "key"))
    assert ran.code == 0, ran.err
    rights = {
        "cluster": [],
        "indices": [{"names": ["logs-packetclip.*-*"], "privileges": ["auto_configure", "create_doc", "view_index_metadata"]}],
    }
    assert cluster.requests[-2:] == [
        ("PUT", "/_security/role/packetclip-sensor", rights | {"metadata": OURS}),
        (
            "POST",
            "/_security/api_key",
            {"name": "packetclip-sensor", "role_descriptors": {"packetclip-sensor": rights}, "metadata": OURS},
        ),
    ]
    assert (tmp_path / "key").read_text() == "aWQwOnNlY3JldA==\n"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert f"api_key_file: {tmp_path / 'key'}\n  manage_templates: false" in ran.out
    assert "aWQwOnNlY3JldA" not in ran.out + ran.err


def test_a_second_run_finds_everything_as_it_should_be(cluster: Cluster, run: Any, tmp_path: Path) -> None:
    cluster.streams[STREAM] = stream()
    first = run("--api-key", str(tmp_path / "key"), "--retention", "30d")
    assert first.marks[STREAM] == "upgrade"
    assert cluster.streams[STREAM]["settings"] == {"default_pipeline": "logs-packetclip@ingested"}
    assert cluster.streams[STREAM]["lifecycle"] == {"data_retention": "30d"}
    cluster.requests.clear()
    second = run("--api-key", str(tmp_path / "key"))
    assert (second.code, cluster.requests) == (0, [])
    assert set(second.marks.values()) == {"same"}


def test_a_dry_run_prints_the_requests_that_the_run_sends(cluster: Cluster, run: Any, tmp_path: Path) -> None:
    cluster.streams[STREAM] = stream()
    ran = run("--api-key", str(tmp_path / "key"), "--retention", "30d", "--dry-run")
    assert cluster.requests == []
    assert "dry run: 11 requests would be sent, none was" in ran.out
    lines, printed = ran.out.splitlines(), []
    for n, line in enumerate(lines):
        if line.startswith(("PUT /", "POST /")):
            method, path = line.split()
            body, _ = json.JSONDecoder().raw_decode("\n".join(lines[n + 1 :]))
            printed.append((method, path, body))
    run("--api-key", str(tmp_path / "key"), "--retention", "30d")
    assert printed == cluster.requests


def test_retention_stays_unless_another_is_asked_for(cluster: Cluster, run: Any) -> None:
    lifecycle = "/_component_template/logs-packetclip.alert@lifecycle"
    run("--retention", "30d")
    assert run().code == 0
    assert cluster.things[lifecycle]["template"]["lifecycle"]["data_retention"] == "30d"
    assert run("--retention", "90d").marks["logs-packetclip.alert@lifecycle"] == "renew"
    assert cluster.things[lifecycle]["template"]["lifecycle"]["data_retention"] == "90d"


def test_a_server_with_ilm_only_gets_a_policy(cluster: Cluster, run: Any) -> None:
    cluster.features = {"ilm"}
    ran = run("--retention", "30d")
    assert ran.code == 0, ran.err
    assert cluster.things["/_ilm/policy/logs-packetclip"] == {
        "policy": {
            "_meta": OURS,
            "phases": {
                "hot": {"min_age": "0ms", "actions": {"rollover": {"max_age": "30d", "max_primary_shard_size": "50gb"}}},
                "delete": {"min_age": "30d", "actions": {"delete": {}}},
            },
        }
    }
    component = cluster.things["/_component_template/logs-packetclip.alert@lifecycle"]
    assert component["template"] == {"settings": {"index": {"lifecycle": {"name": "logs-packetclip"}}}}
    assert ran.marks["logs-packetclip@ingested"] == "skip"
    cluster.requests.clear()
    assert set(run().marks.values()) == {"same", "skip"}
    assert cluster.requests == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PIPELINE, {"processors": []}),
        ("/_component_template/logs-packetclip.alert@pipeline", {"template": {}}),
        ("/_index_template/logs-packetclip.alert", {"index_patterns": ["logs-packetclip.alert-*"], "priority": 150}),
        ("/_security/role/packetclip-sensor", {"cluster": ["all"], "metadata": {}}),
    ],
)
def test_what_another_put_under_our_name_is_refused_before_anything_changes(
    cluster: Cluster, run: Any, tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    cluster.things[path] = body
    ran = run("--api-key", str(tmp_path / "key"))
    assert (ran.code, cluster.requests) == (2, [])
    assert "is there and not ours" in ran.err
    assert f"look at it (GET {path})" in ran.err
    assert cluster.things == {path: body}


def test_another_template_of_our_priority_that_takes_the_name_is_refused(cluster: Cluster, run: Any) -> None:
    cluster.things["/_index_template/site-logs"] = {"index_patterns": ["logs-pack*"], "priority": 500}
    ran = run()
    assert (ran.code, cluster.requests) == (2, [])
    assert "index template site-logs takes this name with priority 500, ours has 200" in ran.err


def test_a_newer_pipeline_is_left_and_an_older_one_upgraded(cluster: Cluster, run: Any) -> None:
    cluster.things[PIPELINE] = {"_meta": OURS | {"version": 9}, "version": 9, "processors": []}
    ran = run()
    assert "version 9 is newer than ours, 1: a newer sensor put it" in ran.out
    assert cluster.things[PIPELINE]["version"] == 9
    cluster.things[PIPELINE] = {"_meta": OURS | {"version": 0}, "version": 0, "processors": []}
    assert "version 0 becomes 1" in run().out
    assert cluster.things[PIPELINE]["version"] == 1


def test_a_streams_own_pipeline_stays(cluster: Cluster, run: Any) -> None:
    cluster.streams[STREAM] = stream(default_pipeline="site")
    assert "its pipeline site is yours" in run().out
    assert cluster.streams[STREAM]["settings"] == {"default_pipeline": "site"}


def test_a_key_file_that_the_cluster_does_not_know_is_not_overwritten(cluster: Cluster, run: Any, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("aWQ3OnNlY3JldA==\n")
    ran = run("--api-key", str(tmp_path / "key"))
    assert (ran.code, cluster.requests) == (2, [])
    assert "holds no key that this cluster knows; name a new file, or delete this one" in ran.err
    assert (tmp_path / "key").read_text() == "aWQ3OnNlY3JldA==\n"


def test_a_key_that_could_not_be_kept_is_not_made(cluster: Cluster, run: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = run("--api-key", str(tmp_path / "file" / "key"))
    assert (ran.code, cluster.requests) == (2, [])
    assert "cannot be made: " in ran.err
    assert "name a file in a folder that you may write" in ran.err
    cluster.refuse["/_index_template"] = (500, {"error": {"reason": "broken"}})
    assert run("--api-key", str(tmp_path / "key")).code == 2
    assert not (tmp_path / "key").exists()


def test_what_was_done_before_a_refusal_is_told_and_a_second_run_goes_on(cluster: Cluster, run: Any) -> None:
    cluster.refuse["/_index_template/logs-packetclip.alert"] = (404, {})
    ran = run()
    assert ran.code == 2
    assert "index template logs-packetclip.alert: Elasticsearch answers 404" in ran.err
    assert "what stands above is done, mend this and run the command again" in ran.err
    assert ran.marks["logs-packetclip.alert@ecs"] == "new"
    cluster.refuse.clear()
    again = run()
    assert (again.code, again.marks["logs-packetclip.alert@ecs"], again.marks["logs-packetclip.alert"]) == (0, "same", "new")


def test_a_key_of_an_older_version_is_told(cluster: Cluster, run: Any, tmp_path: Path) -> None:
    run("--api-key", str(tmp_path / "key"))
    cluster.keys[0]["metadata"] = OURS | {"version": 0}
    assert "has the rights of version 0, this version needs 1; name a new file" in run("--api-key", str(tmp_path / "key")).out


def test_without_an_api_key_role_and_key_are_printed_to_apply_by_hand(cluster: Cluster, run: Any) -> None:
    out = run().out
    assert f"curl -X PUT  -u elastic -H 'content-type: application/json' '{cluster.url}/_security/role/packetclip-sensor'" in out
    assert f'\'{cluster.url}/_security/api_key\' -d \'{{"name": "packetclip-sensor"' in out
    assert not any("_security" in path for _, path, _ in cluster.requests)


def test_removal_keeps_documents_and_what_they_use(cluster: Cluster, run: Any, tmp_path: Path) -> None:
    run("--api-key", str(tmp_path / "key"))
    cluster.streams[STREAM] = stream()
    before = dict(cluster.things)
    ran = run("--remove")
    assert ran.code == 0
    assert f"data stream {STREAM} uses it; --delete-data removes both" in ran.out
    assert {path for path in before if path not in cluster.things} == {"/_security/role/packetclip-sensor"}
    assert [key["invalidated"] for key in cluster.keys] == [True]
    assert list(cluster.streams) == [STREAM]


def test_removal_takes_all_of_ours_and_nothing_else(cluster: Cluster, run: Any, tmp_path: Path) -> None:
    cluster.things["/_component_template/logs-packetclip.alert@custom"] = {"template": {}}
    run("--api-key", str(tmp_path / "key"))
    ran = run("--remove")
    assert ran.code == 0
    assert list(cluster.things) == ["/_component_template/logs-packetclip.alert@custom"]
    removed = [path for method, path, _ in cluster.requests if method == "DELETE"]
    assert removed[0] == "/_index_template/logs-packetclip.alert"
    assert removed.index(PIPELINE) > removed.index("/_component_template/logs-packetclip.alert@pipeline")
    assert run("--remove").out == "nothing of ours is there\n"


def test_documents_go_only_when_asked_for_and_confirmed(cluster: Cluster, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    cluster.streams[STREAM] = stream()
    monkeypatch.setattr("sys.stdin", io.StringIO("n\ny\n"))
    cluster.requests.clear()
    refused = run("--remove", "--delete-data")
    assert (refused.code, cluster.requests) == (1, [])
    assert f"{STREAM}: 12 documents" in refused.err
    assert run("--remove", "--delete-data").code == 0
    assert (cluster.streams, cluster.things) == ({}, {})
    assert cluster.requests[0] == ("DELETE", f"/_data_stream/{STREAM}", None)


def test_delete_data_alone_and_a_strange_retention_are_refused(run: Any) -> None:
    assert "--delete-data: goes with --remove only" in run("--delete-data").err
    assert "--retention forever: not a time; write for example 365d" in run("--retention", "forever").err


def test_a_right_that_is_missing_is_told_with_who_needs_it(cluster: Cluster, run: Any) -> None:
    cluster.refuse["/_component_template"] = (403, {"error": {"reason": "action [x] is unauthorized for user [elastic]"}})
    ran = run()
    assert ran.code == 2
    assert "answers 403: action [x] is unauthorized for user [elastic]; its right does not reach" in ran.err


def test_a_password_that_is_nowhere_and_a_sink_that_is_no_elasticsearch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sensor.yaml"
    path.write_text("logs: [logs]\n")
    assert main(["setup", "elasticsearch", "--config", str(path)]) == 2
    assert "names no sink.elasticsearch" in capsys.readouterr().err
    path.write_text("sink: {elasticsearch: {hosts: ['http://127.0.0.1:9']}}\n")
    assert main(["setup", "elasticsearch", "--config", str(path), "--user", "elastic", "--password-env", "NOWHERE"]) == 2
    assert "--password-env NOWHERE: the environment variable is not set" in capsys.readouterr().err
    assert main(["setup", "elasticsearch", "--config", str(path)]) == 2
    assert "check address, port and firewall, and that it runs" in capsys.readouterr().err


def test_streams_that_share_a_component_put_it_once(cluster: Cluster, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "DATASETS", ("packetclip.alert", "packetclip.flow"))
    assert run().code == 0
    paths = [path for _, path, _ in cluster.requests]
    assert len(paths) == len(set(paths))
    assert "/_index_template/logs-packetclip.flow" in paths
    assert run("--remove").code == 0
    assert cluster.things == {}


def test_the_password_is_asked_for_and_the_sensors_own_key_is_not_needed(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getpass", lambda *prompt, **more: "secret")
    path = tmp_path / "sensor.yaml"
    path.write_text(f"sink: {{elasticsearch: {{hosts: ['{cluster.url}'], api_key_file: nowhere}}}}\n")
    assert main(["setup", "elasticsearch", "--config", str(path), "--user", "elastic"]) == 0
    assert cluster.logins == {"Basic ZWxhc3RpYzpzZWNyZXQ="}


def test_help_lists_exit_codes_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["setup", "elasticsearch", "--help"]) == 0
    out = capsys.readouterr().out
    assert "Exit codes:\n    0  " in out
    assert "Examples:\n    packetclip setup elasticsearch --config sensor.yaml --user elastic --dry-run" in out
    assert all(option in out for option in ("--retention", "--api-key", "--remove", "--delete-data", "--yes"))


def test_the_roles_file_is_valid_for_the_role_api() -> None:
    body = json.loads((resource("mappings") / "elasticsearch" / "role" / "packetclip-sensor.json").read_text())
    assert set(body) == {"cluster", "indices", "metadata"}


@pytest.mark.parametrize(
    ("instead", "remedy"), [("", "look whether this server can do that"), ("do it by hand", "do it by hand")]
)
def test_a_refused_step_has_a_remedy_in_any_case(instead: str, remedy: str) -> None:
    class Client:
        def perform_request(self, *_: object, **__: object) -> object:
            meta = ApiResponseMeta(400, "1.1", HttpHeaders(), 0.0, NodeConfig("http", "h", 9200))
            raise BadRequestError("x", meta, {"error": "no handler found"})

    with pytest.raises(SinkError, match=rf"data stream x: Elasticsearch refuses it: no handler found; .*{remedy}$"):
        Step("remove", "data stream", "x", "", "DELETE", "/x", instead=instead).take(Client())  # type: ignore[arg-type]
