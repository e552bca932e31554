"""The integration package has the form that the public package specification asks for, format 3.5.

Source: elastic/package-spec, spec/integration and the rules that its validator runs for 3.5; those of 3.6 for tags and failures
of pipelines are kept too. What only Kibana knows (that it draws and installs what it is given) is not tested.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from factories import MISSIONS, leaves
from fleet import Package, types
from msgspec.structs import replace

from mappings.integration import build
from packetclip_sensor.common.missions import Missions, attack_table
from packetclip_sensor.elastic import templates
from packetclip_sensor.sinks.documents import ECS_VERSION

ROOT = Path(__file__).parents[2]
STREAMS = ("alert", "flow", "health")
ECS = json.loads((ROOT / "mappings" / "ecs" / f"ecs-{ECS_VERSION}.json").read_text(encoding="utf-8"))["fields"]
REQUIRED = {
    "data_stream.type": "constant_keyword",
    "data_stream.dataset": "constant_keyword",
    "data_stream.namespace": "constant_keyword",
    "@timestamp": "date",
}
FIELD_TYPES = {
    *("constant_keyword", "text", "match_only_text", "keyword", "long", "double", "float", "date", "boolean", "group", "ip"),
    *("nested", "wildcard"),
}
"""Those of the specification that this package needs; `dense_vector` is none of the specification's."""
FIELD_KEYS = {
    *("name", "type", "description", "external", "fields", "unit", "dynamic", "index", "doc_values", "ignore_malformed"),
    *("ignore_above", "multi_fields"),
}
UNITS = {"byte", "percent", "d", "h", "m", "s", "ms", "micros", "nanos"}
PROCESSORS = {"set", "append", "pipeline"}
FOLDERS = {"dashboard": "dashboard", "search": "search", "index_pattern": "index-pattern", "security_rule": "security-rule"}
FAILURE = (
    "_ingest.pipeline",
    "_ingest.on_failure_processor_type",
    "_ingest.on_failure_processor_tag",
    "_ingest.on_failure_message",
)
RULE_KEYS = {
    *("author", "description", "from", "index", "interval", "language", "license", "max_signals", "name", "note", "query"),
    *("related_integrations", "risk_score", "risk_score_mapping", "rule_id", "rule_name_override", "severity", "tags"),
    *("severity_mapping", "threat", "threshold", "timestamp_override", "type", "version"),
}
LANGUAGES = {"query": "kuery", "threshold": "kuery", "eql": "eql", "esql": "esql"}
BANDS = {"low": (0, 21), "medium": (22, 47), "high": (48, 73), "critical": (74, 100)}
MINUTES = {"m": 1, "h": 60}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the command has made zip and source tree."""
    out = tmp_path_factory.mktemp("package")
    command = [sys.executable, "-B", "-m", "mappings.integration.build", "--out", out, "--source", out]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "packetclip-0.1.0.zip: " in said
    return out


@pytest.fixture(scope="module")
def source(made: Path) -> Package:
    return Package.of_folder(made / "packetclip")


@pytest.fixture(scope="module")
def built(made: Path) -> Package:
    return Package.of_zip(made / "packetclip-0.1.0.zip")


@pytest.fixture(params=["source", "built"])
def package(request: pytest.FixtureRequest) -> Package:
    """Either form."""
    found: Package = request.getfixturevalue(request.param)
    return found


def _minutes(span: str) -> int:
    number, unit = re.fullmatch(r"(?:now-)?(\d+)([mh])", span).groups()  # type: ignore[union-attr]
    return int(number) * MINUTES[unit]


def test_the_zip_is_small_has_one_folder_and_holds_what_the_source_holds_but_for_developers_files(
    made: Path, source: Package, built: Package
) -> None:
    path = made / "packetclip-0.1.0.zip"
    with zipfile.ZipFile(path) as archive:
        assert {name.partition("/")[0] for name in archive.namelist()} == {"packetclip-0.1.0"}
    assert path.stat().st_size < 200 << 10
    assert set(source.files) - set(built.files) == {"_dev/build/build.yml"}
    assert set(built.files) <= set(source.files)
    same = {path for path, content in built.files.items() if source.files[path] == content}
    assert {path for path in built.files if path not in same} == {f"data_stream/{name}/fields/ecs.yml" for name in STREAMS}


def test_what_is_written_by_hand_is_all_that_is_committed_and_arrives_as_it_is(source: Package) -> None:
    by_hand = Package.of_folder(ROOT / "mappings" / "integration" / "packetclip").files
    assert {path for path, content in by_hand.items() if source.files.get(path) != content} == {"docs/README.md"}
    generated = [path for path in source.files if path not in by_hand]
    assert not [path for path in by_hand if path.startswith(("kibana/", "data_stream/alert/fields"))]
    assert len(generated) > 25


def test_only_files_that_the_specification_knows(package: Package) -> None:
    stream = (
        r"data_stream/(alert|flow|health)/(manifest\.yml|lifecycle\.yml|sample_event\.json|fields/[\w-]+\.yml"
        r"|agent/stream/\w+\.yml\.hbs|elasticsearch/(ingest_pipeline/\w+\.yml|ilm/\w+\.json))"
    )
    top = r"manifest\.yml|changelog\.yml|LICENSE\.txt|docs/README\.md|img/[\w-]+\.svg|_dev/build/build\.yml"
    kibana = r"kibana/((dashboard|search)/packetclip-[\w-]+|(index_pattern|security_rule)/[\w-]+)\.json"
    assert [path for path in package.files if not re.fullmatch(f"{top}|{stream}|{kibana}", path)] == []
    assert not [path for path in package.files if re.search(r"-(ecs|ECS)\.json$", path)]
    for path in package.files:
        if path.endswith((".yml", ".json")):
            package.yaml(path)  # a JSON text is a YAML text


def test_the_manifest_names_what_is_there(package: Package) -> None:
    manifest = package.yaml("manifest.yml")
    assert {"format_version", "name", "title", "description", "version", "type", "owner"} <= set(manifest)
    assert re.fullmatch(r"3\.5\.\d+", manifest["format_version"])
    assert (manifest["name"], manifest["type"]) == ("packetclip", "integration")
    assert re.fullmatch(r"\d+\.\d+\.\d+", manifest["version"])
    assert {"security", "network_security"} == set(manifest["categories"])
    conditions = manifest["conditions"]
    assert conditions["elastic"] == {
        "subscription": "basic",
        "capabilities": ["security"],
    }  # as packages with security rules must
    assert re.fullmatch(r"\^9\.\d+\.\d+", conditions["kibana"]["version"])  # the sensor's client speaks with Elasticsearch 9
    assert re.fullmatch(r"[\w-]+(/[\w-]+)?", manifest["owner"]["github"])
    assert manifest["owner"]["type"] == "community"
    for icon in manifest["icons"]:
        assert b"<svg" in package.files[icon["src"].lstrip("/")]
    (policy,) = manifest["policy_templates"]
    inputs = {each["type"] for each in policy["inputs"]}
    for name in policy["data_streams"]:
        assert {each["input"] for each in package.yaml(f"data_stream/{name}/manifest.yml")["streams"]} <= inputs


def test_the_source_names_the_release_of_ecs_that_documents_have(source: Package) -> None:
    assert source.yaml("_dev/build/build.yml") == {"dependencies": {"ecs": {"reference": f"git@v{ECS_VERSION}"}}}


def test_the_changelog_begins_with_this_version(package: Package) -> None:
    changes = package.yaml("changelog.yml")
    assert changes[0]["version"] == package.yaml("manifest.yml")["version"]
    for version in changes:
        for change in version["changes"]:
            assert set(change) == {"description", "type", "link"}
            assert change["type"] in ("breaking-change", "bugfix", "enhancement")
            assert change["link"].startswith("https://")


@pytest.mark.parametrize("name", STREAMS)
def test_fields_have_types_and_keys_of_the_specification(package: Package, name: str) -> None:
    def walk(definitions: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for each in definitions:
            yield each
            yield from walk(each.get("fields", []) + each.get("multi_fields", []))

    every = list(walk(package.fields(name)))
    for each in every:
        assert set(each) <= FIELD_KEYS
        assert re.fullmatch(r"[\w@*/-]+(\.[\w@*/-]+)*", each["name"])
        assert ("external" in each) != ("type" in each), each
        assert each.get("external", "ecs") == "ecs"
        assert each.get("type", "keyword") in FIELD_TYPES
        assert each.get("unit", "s") in UNITS
        if each.get("type") in ("group", "nested"):
            assert each["fields"]
        elif "type" in each and each["name"] != "text":
            assert each["description"]
    assert len(every) < 2048


@pytest.mark.parametrize("name", STREAMS)
def test_each_field_stands_once_and_those_of_ecs_name_ecs(source: Package, built: Package, name: str) -> None:
    for package in (source, built):
        seen = [field for path in package.paths(f"data_stream/{name}/fields/") for field in types(package.yaml(path))]
        assert len(seen) == len(set(seen))
        assert {field: types(package.fields(name))[field] for field in REQUIRED} == REQUIRED
    external = {field for field, kind in types(source.fields(name)).items() if kind == "external"}
    assert external | set(REQUIRED) == {field for field in types(source.fields(name)) if field in ECS}
    found = types(built.fields(name))
    assert {field: found[field] for field in external} == {field: ECS[field]["type"] for field in external}


@pytest.mark.parametrize("name", STREAMS)
def test_every_field_of_the_sensors_templates_is_there_with_its_type(built: Package, name: str) -> None:
    """But for vectors, which packages cannot have, and for ECS's finer kinds of keyword and text."""
    family = {"constant_keyword": "keyword", "wildcard": "keyword", "match_only_text": "text"}
    ours = templates.mapped(f"packetclip.{name}", MISSIONS)
    package = {field: family.get(kind, kind) for field, kind in types(built.fields(name)).items()}
    differing = {field: (kind, package.get(field)) for field, kind in ours.items() if package.get(field) != kind}
    assert differing == ({} if name == "health" else {"packetclip.embedding": ("dense_vector", "float")})
    (group,) = [each for each in built.fields(name) if each["name"] == "packetclip"]
    assert group["dynamic"] is False  # what a newer sensor writes is kept


@pytest.mark.parametrize("name", STREAMS)
def test_pipelines_have_tags_and_say_why_they_failed(package: Package, name: str) -> None:
    path = f"data_stream/{name}/elasticsearch/ingest_pipeline/default.yml"
    assert package.files[path].startswith(b"---\n")
    pipeline = package.yaml(path)
    assert set(pipeline) == {"description", "processors", "on_failure"}
    steps = pipeline["processors"] + pipeline["on_failure"]
    assert all(len(step) == 1 and set(step) <= PROCESSORS for step in steps)
    tags = [options["tag"] for step in steps for options in step.values()]
    assert len(tags) == len(set(tags))
    assert all(re.fullmatch(r"\w+", tag) for tag in tags)
    kind, message = [next(iter(step.values())) for step in pipeline["on_failure"]]
    assert (kind["field"], kind["value"]) == ("event.kind", "pipeline_error")
    assert message["field"] == "error.message"
    assert all(f"{{{{{{ {value} }}}}}}" in message["value"] for value in FAILURE)
    ours = templates.read("pipeline", "logs-packetclip@ingested")["processors"]
    untagged = [{kind: {k: v for k, v in o.items() if k != "tag"}} for step in steps for kind, o in step.items()]
    assert [step for step in untagged if step in ours] == ours


@pytest.mark.parametrize("name", STREAMS)
def test_a_lifecycle_is_the_same_with_and_without_ilm(package: Package, name: str) -> None:
    folder, manifest = f"data_stream/{name}", package.yaml(f"data_stream/{name}/manifest.yml")
    assert (manifest["type"], manifest["ilm_policy"]) == ("logs", f"logs-packetclip.{name}-default_policy")
    assert manifest["title"]
    phases = package.json(f"{folder}/elasticsearch/ilm/default_policy.json")["policy"]["phases"]
    assert set(phases) == {"hot", "delete"}
    retention = package.yaml(f"{folder}/lifecycle.yml")
    assert retention == {"data_retention": phases["delete"]["min_age"]}
    assert f"deleted after {retention['data_retention'].removesuffix('d')} days" in " ".join(
        package.files["docs/README.md"].decode().partition(f"### {name}\n")[2].partition("\n| ")[0].split()
    )


@pytest.mark.parametrize("name", STREAMS)
def test_setup_and_package_agree_on_names(package: Package, name: str) -> None:
    """Fleet names an index template TYPE-PACKAGE.STREAM, with priority 200 and a component @custom of the site's own."""
    fleets = f"{package.yaml(f'data_stream/{name}/manifest.yml')['type']}-{package.yaml('manifest.yml')['name']}.{name}"
    ours = templates.read("index", fleets)
    assert (ours["index_patterns"], ours["priority"]) == ([f"{fleets}-*"], 200)
    assert ours["composed_of"][-1] == f"{fleets}@custom"


@pytest.mark.parametrize("name", STREAMS)
def test_a_sample_event_is_of_its_stream_and_has_described_fields_only(package: Package, name: str) -> None:
    event = package.json(f"data_stream/{name}/sample_event.json")
    assert event["data_stream"] == {"type": "logs", "dataset": f"packetclip.{name}", "namespace": "default"}
    assert {path for path, _ in leaves(event)} <= set(types(package.fields(name)))


def test_the_sample_alert_is_the_first_golden_document(package: Package) -> None:
    golden = (ROOT / "tests" / "golden" / "alerts.ndjson").read_text(encoding="utf-8").splitlines()
    assert package.json("data_stream/alert/sample_event.json") == json.loads(golden[0])


def test_the_agents_input_uses_declared_variables_and_closes_what_it_opens(package: Package) -> None:
    text = package.files["data_stream/alert/agent/stream/filestream.yml.hbs"].decode()
    (stream,) = package.yaml("data_stream/alert/manifest.yml")["streams"]
    assert stream["template_path"] == "filestream.yml.hbs"
    declared = {variable["name"]: variable for variable in stream["vars"]}
    assert set(re.findall(r"{{#(?:each|if) (\w+)", text)) == set(declared)
    assert re.findall(r"{{#(\w+)", text) == re.findall(r"{{/(\w+)", text)
    assert all({"name", "type", "title"} <= set(variable) for variable in declared.values())
    parsed = yaml.safe_load(re.sub(r"^{{.*}}\n", "", text.replace("{{path}}", "/var/log/x"), flags=re.MULTILINE))
    assert parsed["parsers"] == [{"ndjson": {"target": "", "overwrite_keys": True, "document_id": "event.id"}}]


def test_saved_objects_lie_under_their_ids_and_refer_to_each_other(package: Package) -> None:
    every = {(kind, each["id"]): each for folder, kind in FOLDERS.items() for each in package.objects(folder)}
    for folder, kind in FOLDERS.items():
        for path in package.paths(f"kibana/{folder}/"):
            assert package.json(path)["type"] == kind
            assert path == f"kibana/{folder}/{package.json(path)['id']}.json"
    for each in every.values():
        for reference in each["references"]:
            assert (reference["type"], reference["id"]) in every
            assert reference["type"] not in ("lens", "map", "visualization")  # they are used by value
    assert len(every) == 16


def test_saved_objects_are_those_of_the_import_file(package: Package) -> None:
    ours = [json.loads(line) for line in (ROOT / "mappings/kibana/packetclip.ndjson").read_text(encoding="utf-8").splitlines()]
    theirs = [each for folder in ("dashboard", "search", "index_pattern") for each in package.objects(folder)]
    key = lambda made: (made["type"], made["id"])  # noqa: E731
    assert sorted(({k: v for k, v in made.items() if k != "managed"} for made in ours), key=key) == sorted(theirs, key=key)


def test_each_dashboard_has_a_filter_and_no_legacy_panel(package: Package) -> None:
    for dashboard in package.objects("dashboard"):
        assert json.loads(dashboard["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])["filter"]
        for panel in json.loads(dashboard["attributes"]["panelsJSON"]):
            kind = panel["embeddableConfig"].get("savedVis", {}).get("type", "")
            assert (panel["type"], kind) in {("lens", ""), ("search", ""), ("visualization", "markdown")}


def test_security_rules_have_what_elastic_security_asks_of_a_rule(package: Package) -> None:
    missions = {mission.name for mission in MISSIONS}
    techniques = attack_table()["techniques"]
    rules = package.objects("security_rule")
    for made in rules:
        rule = made["attributes"]
        assert set(made) == {"attributes", "id", "references", "type"}
        assert set(rule) <= RULE_KEYS
        assert {"name", "description", "severity", "risk_score", "rule_id", "version", "type", "query", "language"} <= set(rule)
        assert made["id"].startswith(rule["rule_id"])
        assert rule["language"] == LANGUAGES[rule["type"]]
        version = package.yaml("manifest.yml")["version"]
        assert rule["related_integrations"] == [{"package": "packetclip", "version": f"^{version}"}]
        assert ("index" in rule) != (rule["type"] == "esql")
        low, high = BANDS[rule["severity"]]
        assert low <= rule["risk_score"] <= high
        assert _minutes(rule["from"]) > _minutes(rule["interval"])  # no gap between two runs
        for threat in rule["threat"]:
            for technique in threat["technique"]:
                assert techniques[technique["id"]] == {"name": technique["name"], "tactic": threat["tactic"]["id"]}
        named = re.findall(r'packetclip\.mission == "([^"]+)"', rule["query"])
        assert set(named) <= missions
        mapped = types(package.fields("health" if "packetclip.health" in rule["query"] else "alert"))
        asked = re.findall(r"[a-z_]+(?:\.[a-z_]+)+(?![-\w]*\*)", re.sub(r'"[^"]*"|FROM \S+', "", rule["query"]))
        asked += rule.get("threshold", {}).get("field", [])
        asked += [each["field"] for key in ("severity_mapping", "risk_score_mapping") for each in rule.get(key, [])]
        asked += [rule["timestamp_override"], *filter(None, [rule.get("rule_name_override")])]
        assert set(asked) <= set(mapped)
        assert asked
    assert len({made["id"] for made in rules}) == len(rules) == 5


def test_the_promotion_translates_every_severity_that_a_sensor_writes(package: Package) -> None:
    (rule,) = [
        each["attributes"]
        for each in package.objects("security_rule")
        if "Promotion: External Alerts" in each["attributes"]["tags"]
    ]
    assert {each["value"]: each["severity"] for each in rule["severity_mapping"]} == {
        "21": "low",
        "47": "medium",
        "73": "high",
        "99": "critical",
    }
    assert rule["rule_name_override"] == "message"
    assert rule["max_signals"] == 1000


def test_the_page_names_every_rule_and_field(package: Package) -> None:
    page = package.files["docs/README.md"].decode()
    assert not re.search(r"{{", page)
    for made in package.objects("security_rule"):
        assert f"| {made['attributes']['name']} |" in page
    for name in STREAMS:
        section = page.partition(f"### {name}\n")[2].partition("\n### ")[0]
        for field in types(package.fields(name)):
            assert f"| {field} |" in section


def test_a_model_with_other_missions_has_their_fields_and_no_rule_about_missions_that_it_lacks() -> None:
    others = Missions(replace(mission, id=f"x_{mission.id}", name=f"X {mission.name}") for mission in MISSIONS)
    package = Package(build.package(others, built=True))
    assert {f"packetclip.missions.x_{mission.id}" for mission in MISSIONS} <= set(types(package.fields("alert")))
    assert [rule["attributes"]["type"] for rule in package.objects("security_rule")].count("eql") == 0
    assert len(package.objects("security_rule")) == 4
