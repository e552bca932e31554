"""The configuration: what is read from a file, and the file that `packetclip init` writes; messages stand in messages.txt."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import yaml
from factories import MISSIONS

from packetclip_sensor.common.missions import Least
from packetclip_sensor.config import config_file as configs
from packetclip_sensor.config import example, schema
from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.config.settings import Config, NdjsonConfig, Policy, SinkConfig
from packetclip_sensor.errors import ConfigError

HOME = Path("/etc/packetclip")


def parse(text: str) -> Config:
    return configs.parse(text, "sensor.yaml", HOME)


def test_an_empty_file_means_the_defaults_beside_it() -> None:
    config = parse("")
    assert config.state_dir == Path("/etc/packetclip/state")
    assert config.rejects == Path("/etc/packetclip/state/rejects.jsonl")
    assert config.sink.ndjson is not None
    assert config.sink.ndjson.path == Path("/etc/packetclip/alerts.ndjson")
    assert (config.policy.update_s, config.policy.close_s, config.namespace, config.log_level) == (60.0, 60.0, "default", "info")


def test_every_key_is_read_and_relative_paths_start_at_the_file() -> None:
    config = parse(
        """
        logs: [zeek/current, /var/log/zeek]
        state_dir: ../state
        model: bundle
        namespace: site1
        sensor_name: edge-1
        rejects_path: bad.jsonl
        log_level: debug
        policy: {thresholds: {DoS: 0.9, Brute Force: 1}, open_packets: 25, update_s: 30, close_s: 120.5}
        sink:
          elasticsearch: {hosts: ["https://es:9200"], api_key_env: KEY, ca_certs: ca.pem, dead_letter_path: dead/letters.ndjson}
        """
    )
    assert config.logs == (Path("/etc/packetclip/zeek/current"), Path("/var/log/zeek"))
    assert config.state_dir == Path("/etc/packetclip/../state")
    assert config.model == Path("/etc/packetclip/bundle")
    assert config.rejects == Path("/etc/packetclip/bad.jsonl")
    assert config.policy == Policy(thresholds={"DoS": 0.9, "Brute Force": 1.0}, open_packets=25, update_s=30.0, close_s=120.5)
    sink = config.sink.elasticsearch
    assert sink is not None
    assert config.sink.ndjson is None
    assert (sink.hosts, sink.api_key_env, sink.namespace) == (["https://es:9200"], "KEY", "site1")
    assert (sink.ca_certs, sink.dead_letter_path) == (HOME / "ca.pem", HOME / "dead" / "letters.ndjson")


def test_refused_documents_go_beside_the_state_by_default() -> None:
    sink = parse("{state_dir: /var/lib/packetclip, sink: {elasticsearch: {hosts: ['http://es:9200']}}}").sink.elasticsearch
    assert sink is not None
    assert sink.dead_letter_path == Path("/var/lib/packetclip/dead-letters.ndjson")


def test_least_evidence_is_read_by_mission_also_from_keys_that_name_the_mission_by_its_id() -> None:
    written = "policy: {least: {DoS: {packets: 40}}, brute_force_connections: 2, brute_force_packets: 30, anything_packets: 7}"
    assert parse(written).policy.least == {
        "DoS": Least(packets=40),
        "brute_force": Least(packets=30, connections=2),
        "anything": Least(packets=7),
    }
    assert parse("policy: {open_packets: 30}").policy == Policy(open_packets=30)


def test_a_policy_is_held_against_the_missions_of_the_model() -> None:
    """By name or by id; asked twice it stays."""
    config = parse("policy: {thresholds: {dos: 0.9, Brute Force: 1}, margins: {brute_force: 2}, least: {dos: {packets: 40}}}")
    policy = for_missions(config.policy, MISSIONS)
    assert (policy.thresholds, policy.margins) == ({"DoS": 0.9, "Brute Force": 1.0}, {"Brute Force": 2.0})
    flood = Least(packets=40, datagrams_per_s=150, slow_probability=0.997)
    least = {"DoS": flood, "Reconnaissance": Least(), "Brute Force": Least(connections=3)}
    assert policy.least == least
    assert list(policy.least) == list(MISSIONS.names)
    assert for_missions(policy, MISSIONS) == policy


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("{thresholds: {dso: 0.3}}", "policy.thresholds names 'dso': no such mission; did you mean DoS?; missions: DoS, Recon"),
        ("{margins: {Dos: 3, dos: 2}}", "policy.margins names 'Dos': no such mission; did you mean DoS?"),
        ("{thresholds: {DoS: 1, dos: 1}}", "policy.thresholds names DoS twice, once by its id dos; keep one"),
        ("{thresholds: {Benign: 1}}", "policy.thresholds names 'Benign': no such mission; missions: "),
        ("{oopen_packets: 3}", "policy.least names 'oopen', or oopen_packets does: no such mission; missions: "),
    ],
)
def test_a_mission_that_the_model_lacks_is_refused_with_the_one_that_was_meant(policy: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        for_missions(parse(f"policy: {policy}").policy, MISSIONS)
    assert str(caught.value).startswith(words)


def test_a_key_with_nothing_behind_it_means_its_default() -> None:
    assert parse("policy:\nrejects_path:\nnamespace:\n").policy == Policy()


def test_a_key_is_read_by_the_name_that_it_had_before() -> None:
    assert parse("policy: {leeways: {DoS: 2}}") == parse("policy: {margins: {DoS: 2}}")
    assert parse("policy: {margins: {DoS: 2}}").policy.margins == {"DoS": 2.0}


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a:\n b\n c: d",
        "\t- x",
        "log_level: 2020-99-99",
        "? - \n",
        "&a [*a]",
        "policy: {thresholds: {DoS: &a {b: *a}}}",
        "!!python/name:os.system x",
        "log_level: !!bool maybe",
        "namespace: !!timestamp soon",
    ],
)
def test_what_is_no_configuration_at_all_is_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^sensor\.yaml"):
        parse(text)


def test_a_missing_file_names_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; `packetclip init --out"):
        configs.load(tmp_path / "none.yaml")


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sensor.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        configs.load(tmp_path / "sensor.yaml")


def test_the_commented_file_is_the_settings_it_was_made_of() -> None:
    settings = {"logs": ["/z"], "sensor_name": "edge-1", "sink": {"ndjson": {"path": "/a.ndjson"}}}
    text = example.commented(settings)
    assert yaml.safe_load(text) == settings
    assert parse(text).sink == SinkConfig(ndjson=NdjsonConfig(path=Path("/a.ndjson")))


def test_the_commented_file_shows_every_key_with_its_meaning_and_its_default() -> None:
    text = example.commented({})
    for key in schema.keys(Config):
        assert f"\n# {key}:" in text
    assert "#   ## Seconds of event time between two documents of an episode that goes on.\n#   update_s: 60.0" in text
    assert "namespace: default" in text
    assert text.count("namespace:") == 1


def test_all_fields_are_keys_but_the_clusters_namespace() -> None:
    """A field without a text is no key: nobody could set it."""

    def lacking(kind: type[msgspec.Struct]) -> list[str]:
        known = schema.keys(kind)
        below = [name for key in known.values() if key.group for name in lacking(key.group)]
        return [f"{kind.__name__}.{name}" for name in kind.__struct_fields__ if name not in known] + below

    assert lacking(Config) == ["ElasticsearchConfig.namespace", "OpenSearchConfig.namespace"]


def test_taking_the_marks_away_gives_the_defaults() -> None:
    on = [line[2:] if line.startswith("# ") else line for line in example.commented({}).splitlines()[1:]]
    raw = yaml.safe_load("\n".join(on))
    raw["sink"] = {"ndjson": raw["sink"]["ndjson"]}
    raw["sensor_name"] = "x"
    assert parse(yaml.safe_dump(raw)) == parse("sensor_name: x")


@pytest.mark.parametrize(
    ("wrong", "known", "expected"),
    [
        ("Logs", ["logs"], "; did you mean logs?"),
        ("state-dir", ["state_dir"], "; did you mean state_dir?"),
        ("xyz", ["logs"], ""),
    ],
)
def test_a_suggestion_is_only_made_where_one_is_near(wrong: str, known: list[str], expected: str) -> None:
    assert schema.suggestion(wrong, known) == expected
