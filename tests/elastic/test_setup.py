"""`packetclip setup elasticsearch` against a server with all features, which the real test node lacks."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import FLEET, STREAM, URL, Cluster, packaged, stream

from packetclip_sensor.cli.app import main
from packetclip_sensor.config.settings import ElasticsearchConfig
from packetclip_sensor.elastic import streams
from packetclip_sensor.elastic.client import connect
from packetclip_sensor.elastic.plan import Step, Thing
from packetclip_sensor.errors import SinkError

OURS = {"managed_by": "packetclip-sensor", "version": 1}
PIPELINE = "/_ingest/pipeline/logs-packetclip@ingested"
LIFECYCLE = "/_component_template/logs-packetclip.alert@lifecycle"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(streams, "DATASETS", ("packetclip.alert",))
    made = Cluster()
    made.start(monkeypatch)
    return made


class Ran:
    """One run of the command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        known = ("new", "upgrade", "renew", "roll", "remove", "same", "left", "skip")
        lines = [line.split() for line in out.splitlines() if line.startswith(known)]
        self.marks = {next(word for word in words if "packetclip" in word): words[0] for words in lines}
        """What was done with each thing, by its name."""


@pytest.fixture
def run(cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ADMIN", "secret")
    path = tmp_path / "sensor.yaml"
    path.write_text(f"sink: {{elasticsearch: {{hosts: ['{URL}'], api_key_file: {tmp_path / 'key'}}}}}\n")

    def once(*arguments: str) -> Ran:
        login = ["--user", "elastic", "--password-env", "ADMIN"]
        code = main(["setup", "elasticsearch", "--config", str(path), *login, *arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return once


def test_everything_is_put_and_the_cluster_never_asked_for_what_is_not_there(cluster: Cluster, run: Any) -> None:
    """The cluster refuses an index template before its components."""
    assert run("--retention", "365d").code == 0
    assert cluster.things["/_component_template/logs-packetclip.alert@pipeline"] == {
        "version": 1,
        "_meta": OURS,
        "template": {"settings": {"index": {"default_pipeline": "logs-packetclip@ingested"}}},
    }
    assert cluster.things[LIFECYCLE]["template"] == {"lifecycle": {"enabled": True, "data_retention": "365d"}}
    assert cluster.things[PIPELINE]["processors"] == [
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
    key = {"name": "packetclip-sensor", "role_descriptors": {"packetclip-sensor": rights}, "metadata": OURS}
    assert cluster.requests[-2:] == [
        ("PUT", "/_security/role/packetclip-sensor", rights | {"metadata": OURS}),
        ("POST", "/_security/api_key", key),
    ]
    assert (tmp_path / "key").read_text() == "aWQwOnNlY3JldA==\n"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert f"api_key_file: {tmp_path / 'key'}\n  manage_templates: false" in ran.out
    assert "aWQwOnNlY3JldA" not in ran.out + ran.err


def test_without_an_api_key_role_and_key_are_printed_to_apply_by_hand(cluster: Cluster, run: Any) -> None:
    out = run().out
    assert f"curl -X PUT  -u elastic -H 'content-type: application/json' '{URL}/_security/role/packetclip-sensor'" in out
    assert f'\'{URL}/_security/api_key\' -d \'{{"name": "packetclip-sensor"' in out
    assert not any("_security" in path for _, path, _ in cluster.requests)


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
    assert cluster.things[LIFECYCLE]["template"]["lifecycle"]["data_retention"] == "30d"
    assert run("--retention", "90d").marks["logs-packetclip.alert@lifecycle"] == "renew"
    assert cluster.things[LIFECYCLE]["template"]["lifecycle"]["data_retention"] == "90d"


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


def test_an_installed_integration_package_is_left_alone_but_for_role_and_key(cluster: Cluster, run: Any, tmp_path: Path) -> None:
    packaged(cluster)
    before = dict(cluster.things)
    ran = run("--api-key", str(tmp_path / "key"), "--retention", "30d")
    assert ran.code == 0, ran.err
    assert ran.marks["logs-packetclip.alert"] == "left"
    assert "the integration package is installed: templates, pipeline and lifecycle are Fleet's and stay as they are" in ran.out
    assert [path for _, path, _ in cluster.requests] == ["/_security/role/packetclip-sensor", "/_security/api_key"]
    run("--remove")
    assert before.items() <= cluster.things.items()


def test_streams_that_the_package_has_not_are_set_up_as_ever(cluster: Cluster, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older package may have fewer data streams than this sensor."""
    monkeypatch.setattr(streams, "DATASETS", ("packetclip.alert", "packetclip.flow"))
    packaged(cluster)
    ran = run()
    assert (ran.code, ran.marks["logs-packetclip.alert"], ran.marks["logs-packetclip.flow"]) == (0, "left", "new")
    assert cluster.things[PIPELINE]["version"] == 1
    assert not [path for _, path, _ in cluster.requests if "packetclip.alert" in path and not path.endswith("@ecs")]


def test_a_stream_of_a_package_that_was_removed_goes_on_in_an_index_of_ours(cluster: Cluster, run: Any) -> None:
    cluster.streams[STREAM] = stream(default_pipeline="logs-packetclip.alert-0.1.0")
    mappings = json.loads(json.dumps(cluster.streams[STREAM]["mappings"]))
    mappings |= {"_meta": FLEET}
    mappings["properties"]["data_stream"]["properties"]["type"] = {"type": "constant_keyword"}
    cluster.streams[STREAM]["mappings"] = mappings
    cluster.refuse[f"/{STREAM}/_rollover"] = (200, {})
    ran = run()
    assert ran.code == 0
    (line,) = [line for line in ran.out.splitlines() if line.startswith("roll")]
    assert STREAM in line
    assert "data_stream.type is constant_keyword, ours keyword" in line
    mappings["_meta"] = {}  # a stranger's
    assert "its mapping conflicts with ours" in run().err


def test_a_server_with_ilm_instead_of_lifecycle_and_without_ingest(cluster: Cluster, run: Any) -> None:
    cluster.features = {"ilm"}
    ran = run("--retention", "30d")
    assert cluster.things["/_ilm/policy/logs-packetclip"] == {
        "policy": {
            "_meta": OURS,
            "phases": {
                "hot": {"min_age": "0ms", "actions": {"rollover": {"max_age": "30d", "max_primary_shard_size": "50gb"}}},
                "delete": {"min_age": "30d", "actions": {"delete": {}}},
            },
        }
    }
    assert cluster.things[LIFECYCLE]["template"] == {"settings": {"index": {"lifecycle": {"name": "logs-packetclip"}}}}
    assert ran.marks["logs-packetclip@ingested"] == "skip"
    cluster.requests.clear()
    assert set(run().marks.values()) == {"same", "skip"}
    assert cluster.requests == []
    run("--remove", "--all", "--yes")
    assert cluster.things == {}


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
    assert (
        f"is there and not ours (no _meta.managed_by: packetclip-sensor); nothing was changed; look at it (GET {path})" in ran.err
    )
    assert cluster.things == {path: body}
    assert run("--remove", "--all", "--yes").code == 0
    assert cluster.things == {path: body}


@pytest.mark.parametrize(
    ("there", "mark", "words"),
    [
        (None, "new", "version 2"),
        ({"version": 1}, "upgrade", "version 1 becomes 2"),
        ({"version": 2, "processors": [1]}, "renew", "version 2 was altered"),
        ({"version": 2, "processors": [], "created": "by the server"}, "same", "version 2"),
        ({"version": 3}, "left", "version 3 is newer than ours, 2: a newer sensor put it"),
    ],
)
def test_what_is_older_or_altered_is_put_and_what_is_newer_is_left(
    cluster: Cluster, there: dict[str, Any] | None, mark: str, words: str
) -> None:
    body = {"version": 2, "_meta": OURS, "processors": []}
    cluster.things |= {"/_ingest/pipeline/p": there | {"_meta": OURS}} if there else {}
    with connect(ElasticsearchConfig(hosts=[URL])) as client:
        step = Thing("pipeline", "p", body).put(client)
    assert (step.mark, step.words) == (mark, words)
    assert (step.method, step.body) == (("", None) if mark in ("same", "left") else ("PUT", body))


def test_a_streams_own_pipeline_stays(cluster: Cluster, run: Any) -> None:
    cluster.streams[STREAM] = stream(default_pipeline="site")
    assert "its pipeline site is yours" in run().out
    assert cluster.streams[STREAM]["settings"] == {"default_pipeline": "site"}


def test_a_key_is_made_once_and_only_where_it_can_be_kept(cluster: Cluster, run: Any, tmp_path: Path) -> None:
    (tmp_path / "foreign").write_text("aWQ3OnNlY3JldA==\n")
    for file, words in (("foreign", "holds no key that this cluster knows; name a new file"), ("foreign/x", "cannot be made: ")):
        ran = run("--api-key", str(tmp_path / file))
        assert (ran.code, cluster.keys) == (2, [])
        assert words in ran.err
    assert (tmp_path / "foreign").read_text() == "aWQ3OnNlY3JldA==\n"
    cluster.refuse["/_security/role"] = (500, {"error": {"reason": "broken"}})
    assert run("--api-key", str(tmp_path / "key")).code == 2
    assert not (tmp_path / "key").exists()
    cluster.refuse.clear()
    assert run("--api-key", str(tmp_path / "key")).code == 0
    cluster.keys[0]["metadata"] = OURS | {"version": 0}
    assert "has the rights of version 0, this version needs 1; name a new file" in run("--api-key", str(tmp_path / "key")).out


def test_what_was_done_before_a_refusal_is_told_and_a_second_run_goes_on(cluster: Cluster, run: Any) -> None:
    cluster.refuse["/_component_template/logs-packetclip.alert@lifecycle"] = (404, {})
    ran = run()
    assert ran.code == 2
    assert "component template logs-packetclip.alert@lifecycle: Elasticsearch refuses it: {}; what was put before it" in ran.err
    assert ran.marks["logs-packetclip.alert@ecs"] == "new"
    cluster.refuse.clear()
    again = run()
    assert (again.code, again.marks["logs-packetclip.alert@ecs"], again.marks["logs-packetclip.alert"]) == (0, "same", "new")


def test_a_refused_step_takes_the_one_in_its_place_or_has_a_remedy_in_any_case(cluster: Cluster) -> None:
    cluster.refuse["/x"] = (400, {"error": "no handler found"})
    with connect(ElasticsearchConfig(hosts=[URL])) as client:
        assert Step("upgrade", "x", "x", "", "PUT", "/x", {}, Step("new", "y", "y", "", "PUT", PIPELINE, OURS)).take(client)
        for instead, remedy in (("", "look whether this server can do that"), ("do it by hand", "do it by hand")):
            with pytest.raises(SinkError, match=rf"data stream x: Elasticsearch refuses it: no handler found; .*{remedy}$"):
                Step("remove", "data stream", "x", "", "DELETE", "/x", instead=instead).take(client)
    assert cluster.things == {PIPELINE: OURS}


def test_removal_keeps_documents_and_what_they_use(cluster: Cluster, run: Any, tmp_path: Path) -> None:
    run("--api-key", str(tmp_path / "key"))
    cluster.streams[STREAM] = stream()
    before = dict(cluster.things)
    ran = run("--remove", "--all", "--yes")
    assert ran.code == 0
    assert f"data stream {STREAM} uses it; --delete-data removes both" in ran.out
    assert {path for path in before if path not in cluster.things} == {"/_security/role/packetclip-sensor"}
    assert [key["invalidated"] for key in cluster.keys] == [True]
    assert list(cluster.streams) == [STREAM]


def test_removal_takes_all_of_ours_and_nothing_else(
    cluster: Cluster, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a component that two streams share, which must go after both index templates."""
    monkeypatch.setattr(streams, "DATASETS", ("packetclip.alert", "packetclip.flow"))
    cluster.things["/_component_template/logs-packetclip.alert@custom"] = {"template": {}}
    run("--api-key", str(tmp_path / "key"))
    put = [path for _, path, _ in cluster.requests]
    assert len(put) == len(set(put))
    assert "/_index_template/logs-packetclip.flow" in put
    assert run("--remove", "--all", "--yes").code == 0
    assert list(cluster.things) == ["/_component_template/logs-packetclip.alert@custom"]
    removed = [path.split("/")[1] for method, path, _ in cluster.requests if method == "DELETE" and "security" not in path]
    assert removed == ["_index_template"] * 2 + ["_component_template"] * 9 + ["_ingest"]
    assert run("--remove", "--all", "--yes").out == "nothing was removed\n"


def test_documents_go_only_when_asked_for_and_confirmed(cluster: Cluster, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    cluster.streams[STREAM] = stream()
    monkeypatch.setattr("sys.stdin", io.StringIO("n\ny\n"))
    cluster.requests.clear()
    refused = run("--remove", "--all", "--delete-data")
    assert (refused.code, cluster.requests) == (1, [])
    assert f"{STREAM}: 12 documents" in refused.err
    assert run("--remove", "--all", "--delete-data").code == 0
    assert (cluster.streams, cluster.things) == ({}, {})
    assert cluster.requests[0] == ("DELETE", f"/_data_stream/{STREAM}", None)


def test_removal_touches_this_sensors_key_and_namespace_alone(
    cluster: Cluster, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sensors with a key and a namespace each; one of them goes."""
    run("--api-key", str(tmp_path / "other"))
    run("--api-key", str(tmp_path / "key"))
    other = STREAM.replace("default", "other")
    cluster.streams |= {STREAM: stream(), other: stream()}
    shared = dict(cluster.things)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    cluster.requests.clear()
    refused = run("--remove")
    assert (refused.code, cluster.requests) == (1, [])
    assert "API key packetclip-sensor: id1 invalidated" in refused.err
    assert run("--remove", "--yes").code == 0
    assert cluster.requests == [("DELETE", "/_security/api_key", {"ids": ["id1"]})]
    assert [key["invalidated"] for key in cluster.keys] == [False, True]
    assert list(cluster.streams) == [STREAM, other]
    ran = run("--remove", "--delete-data", "--yes")
    assert (ran.code, list(cluster.streams), cluster.things) == (0, [other], shared)
    assert "other sensors may use what is shared; --all removes it" in ran.out
    (tmp_path / "key").unlink()
    assert "the configuration names none" in run("--remove", "--yes").out
    assert run("--remove", "--all", "--yes").code == 0
    assert [key["invalidated"] for key in cluster.keys] == [True, True]


@pytest.mark.parametrize(("refusals", "code"), [(1, 0), (29, 0), (100, 2)])
def test_a_young_cluster_is_asked_again_for_a_minute(
    refusals: int, code: int, cluster: Cluster, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("packetclip_sensor.elastic.client.time.sleep", waits.append)
    answer = cluster.answer

    def young(*request: Any) -> tuple[int, Any]:
        asked.append(request[1])
        return (503, {"error": {"reason": "no master"}}) if len(asked) <= refusals else answer(*request)

    asked: list[str] = []
    cluster.answer = young  # type: ignore[method-assign]
    ran = run()
    assert (ran.code, waits) == (code, [2.0] * min(refusals, 30))
    assert ran.err.count("elasticsearch_starting") == 1
    assert ("answers 503: no master; it is starting, has no master or no shard ready; wait" in ran.err) == (code == 2)


def test_an_api_key_of_a_server_without_security_is_refused_before_anything_changes(
    cluster: Cluster, run: Any, tmp_path: Path
) -> None:
    cluster.features = {"ingest", "lifecycle"}
    ran = run("--api-key", str(tmp_path / "new"))
    assert (ran.code, ran.out, cluster.requests) == (1, "", [])
    assert ran.err == "packetclip: this server has no security and makes no keys; leave --api-key and --reader-key out\n"
    assert not (tmp_path / "new").exists()


def test_a_right_that_is_missing_is_told_with_who_needs_it(cluster: Cluster, run: Any) -> None:
    cluster.refuse["/_component_template"] = (403, {"error": {"reason": "action [x] is unauthorized for user [elastic]"}})
    ran = run()
    assert ran.code == 2
    assert "answers 403: action [x] is unauthorized for user [elastic]; its right does not reach" in ran.err


def test_options_that_cannot_be_meant_are_refused(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--delete-data", "--all", "--yes"):
        assert f"{option}: goes with --remove only" in run(option).err
    assert "--retention forever: not a time; write for example 365d" in run("--retention", "forever").err
    command = ["setup", "elasticsearch", "--config", str(tmp_path / "sensor.yaml")]
    assert main([*command, "--user", "elastic", "--password-env", "NOWHERE"]) == 2
    assert "--password-env NOWHERE: the environment variable is not set" in capsys.readouterr().err
    (tmp_path / "sensor.yaml").write_text("logs: [logs]\n")
    assert main(command) == 2
    assert "names no sink.elasticsearch" in capsys.readouterr().err


def test_the_password_is_asked_for_and_the_sensors_own_key_is_not_needed(
    cluster: Cluster, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getpass", lambda *prompt, **more: "secret")
    assert main(["setup", "elasticsearch", "--config", str(tmp_path / "sensor.yaml"), "--user", "elastic"]) == 0
    assert cluster.logins == {"Basic ZWxhc3RpYzpzZWNyZXQ="}
