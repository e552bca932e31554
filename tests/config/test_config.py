"""The configuration: every key checked, every message names place, value and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from factories import MISSIONS

from packetclip_sensor.common.missions import Least
from packetclip_sensor.config import config_file as configs
from packetclip_sensor.config import schema
from packetclip_sensor.config.config_file import Config, PolicyConfig, SinkConfig
from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.errors import ConfigError

HOME = Path("/etc/packetclip")


def parse(text: str) -> Config:
    return configs.parse(text, "sensor.yaml", HOME)


def message(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return str(caught.value)


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
    assert config.policy == PolicyConfig(
        thresholds={"DoS": 0.9, "Brute Force": 1.0}, open_packets=25, update_s=30.0, close_s=120.5
    )
    sink = config.sink.elasticsearch
    assert sink is not None
    assert config.sink.ndjson is None
    assert (sink.hosts, sink.api_key_env, sink.namespace) == (["https://es:9200"], "KEY", "site1")
    assert (sink.ca_certs, sink.dead_letter_path) == ("/etc/packetclip/ca.pem", "/etc/packetclip/dead/letters.ndjson")


def test_refused_documents_go_beside_the_state_by_default() -> None:
    sink = parse("{state_dir: /var/lib/packetclip, sink: {elasticsearch: {hosts: ['http://es:9200']}}}").sink.elasticsearch
    assert sink is not None
    assert sink.dead_letter_path == "/var/lib/packetclip/dead-letters.ndjson"


def test_least_evidence_is_read_by_mission_also_from_keys_that_name_the_mission_by_its_id() -> None:
    written = "policy: {least: {DoS: {packets: 40}}, brute_force_connections: 2, brute_force_packets: 30, anything_packets: 7}"
    assert parse(written).policy.least == {
        "DoS": Least(packets=40),
        "brute_force": Least(packets=30, connections=2),
        "anything": Least(packets=7),
    }
    assert parse("policy: {open_packets: 30}").policy == PolicyConfig(open_packets=30)
    assert message("policy: {dos_packets: 0}") == (
        'sensor.yaml:1: policy.least.packets is {"dos": {"packets": 0}}; expected a whole number >= 1'
    )
    assert message("policy: {least: {dos: 3}, dos_packets: 40}").startswith("sensor.yaml:1: policy.dos_packets: no such key")


def test_a_policy_is_held_against_the_missions_of_the_model() -> None:
    """By name or by id; asked twice it stays."""
    config = parse("policy: {thresholds: {dos: 0.9, Brute Force: 1}, leeways: {brute_force: 2}, least: {dos: {packets: 40}}}")
    policy = for_missions(config.policy, MISSIONS)
    assert (policy.thresholds, policy.leeways) == ({"DoS": 0.9, "Brute Force": 1.0}, {"Brute Force": 2.0})
    least = {"DoS": Least(packets=40), "Reconnaissance": Least(), "Brute Force": Least(connections=3)}
    assert policy.least == least
    assert list(policy.least) == list(MISSIONS.names)
    assert for_missions(policy, MISSIONS) == policy


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("{thresholds: {dso: 0.3}}", "policy.thresholds names 'dso': no such mission; did you mean DoS?; missions: DoS, Recon"),
        ("{leeways: {Dos: 3, dos: 2}}", "policy.leeways names 'Dos': no such mission; did you mean DoS?"),
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
    assert parse("policy:\nrejects_path:\nnamespace:\n").policy == PolicyConfig()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("logs: [a]\nlogz: [a]", "sensor.yaml:2: logz: no such key; did you mean logs?"),
        ("policy:\n  updat_s: 3", "sensor.yaml:2: policy.updat_s: no such key; did you mean update_s?"),
        ("sink: {elasticsearch: {host: x}}", "sensor.yaml:1: sink.elasticsearch.host: no such key; did you mean hosts?"),
        (
            "window: {packets: 3}",
            f"sensor.yaml:1: window: no such key; known here: {', '.join(Config.__struct_fields__)}",
        ),
    ],
)
def test_a_wrong_key_is_answered_with_its_place_and_the_one_that_was_meant(text: str, expected: str) -> None:
    assert message(text).endswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("logs: 3", "sensor.yaml:1: logs is 3; expected a list"),
        ("\npolicy:\n  update_s: often", 'sensor.yaml:3: policy.update_s is "often"; expected a number'),
        ("policy: {update_s: -1}", "sensor.yaml:1: policy.update_s is -1.0; it must be above 0 and finite"),
        ("policy: {close_s: .nan}", "sensor.yaml:1: policy.close_s is nan; it must be above 0 and finite"),
        ("policy: {thresholds: {DoS: 3}}", 'sensor.yaml:1: policy.thresholds is {"DoS": 3}; expected a number <= 1.0'),
        ("policy: 3", "sensor.yaml:1: policy is 3; expected key: value lines"),
        ("sink: {ndjson: {path: 3}}", "sensor.yaml:1: sink.ndjson.path is 3; expected a path"),
        ("sink: {elasticsearch: {}}", "sensor.yaml:1: sink.elasticsearch: lacks the key `hosts`; add it"),
        ("log_level: verbose", "sensor.yaml:1: log_level is 'verbose'; levels: debug, info, warning, error"),
        ("log_level: infos", "sensor.yaml:1: log_level is 'infos'; did you mean info?; levels: debug, info, warning, error"),
        ("sensor_name: ' '", "sensor.yaml:1: sensor_name is ' '; give the sensor a printable name"),
        ("- logs", 'sensor.yaml: holds ["logs"] where `key: value` lines are expected; see `packetclip init`'),
        ("logs: [a]\n\nlogs: [b]", "sensor.yaml:3: logs stands here and in line 1; keep one"),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_what_is_expected(text: str, expected: str) -> None:
    assert message(text) == expected


def test_two_sinks_are_refused() -> None:
    assert (
        message("sink: {ndjson: , elasticsearch: {hosts: [a]}}")
        == "sensor.yaml:1: sink: names ndjson and elasticsearch; keep one of them"
    )


def test_no_sink_at_all_is_refused() -> None:
    assert "names no sink" in message("sink: {}")


def test_the_namespace_stands_in_one_place_only() -> None:
    assert "`namespace` stands at the top of the file" in message("sink: {elasticsearch: {hosts: [a], namespace: b}}")


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
    ],
)
def test_what_is_no_configuration_at_all_is_a_config_error(text: str) -> None:
    assert message(text).startswith("sensor.yaml")


def test_an_upper_case_namespace_is_refused_with_the_rule() -> None:
    assert "use 1 to 100 lower-case letters" in message("namespace: Site")


def test_a_missing_file_names_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; `packetclip init --out"):
        configs.load(tmp_path / "none.yaml")


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sensor.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        configs.load(tmp_path / "sensor.yaml")


def test_the_commented_file_is_the_settings_it_was_made_of() -> None:
    settings = {"logs": ["/z"], "sensor_name": "edge-1", "sink": {"ndjson": {"path": "/a.ndjson"}}}
    text = configs.commented(settings)
    assert yaml.safe_load(text) == settings
    assert parse(text).sink == SinkConfig(ndjson=configs.NdjsonConfig(path=Path("/a.ndjson")))


def test_the_commented_file_shows_every_key_with_its_meaning_and_its_default() -> None:
    text = configs.commented({})
    for key in schema.keys(Config):
        assert key.meaning, f"{key.name} has no meaning"
        assert f"# {key.name}:" in text
    assert "#   ## An episode closes when no verdict has come for so many seconds of event time.\n#   close_s: 60.0" in text
    assert "namespace: default" in text
    assert text.count("namespace:") == 1


def test_taking_the_marks_away_gives_the_defaults() -> None:
    on = [line[2:] if line.startswith("# ") else line for line in configs.commented({}).splitlines()[1:]]
    raw = yaml.safe_load("\n".join(on))
    del raw["sink"]["elasticsearch"]
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("log_level: !!bool maybe", "sensor.yaml: not valid YAML: 'maybe'; check indentation and quotes"),
        ("namespace: !!timestamp soon", "sensor.yaml: not valid YAML: 'NoneType' object has no attribute"),
        ("state_dir: ~nobody-here/state", "~nobody-here/state: there is no such user; write the path out"),
        ('state_dir: "a\\0b"', 'state_dir is "a\\u0000b"; expected a path'),
        (
            "sink: {elasticsearch: {hosts: ['http://h:9200'], ca_certs: ~nobody-here/ca.pem}}",
            "~nobody-here/ca.pem: there is no such user; write the path out",
        ),
    ],
)
def test_what_only_a_fuzzer_writes_is_answered_like_any_other_mistake(text: str, expected: str) -> None:
    assert expected in message(text)
