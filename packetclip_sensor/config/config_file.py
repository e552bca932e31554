"""Reads the sensor's configuration: one typed YAML file (`settings.py`) in which every key is checked.

Relative paths are relative to the file's folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from packetclip_sensor.common.missions import Least
from packetclip_sensor.config import schema
from packetclip_sensor.config.settings import (
    Config,
    ElasticsearchConfig,
    HuntConfig,
    Policy,
    SinkConfig,
    ZeekFeedbackConfig,
    check_hosts,
    check_namespace,
)
from packetclip_sensor.errors import ConfigError


def load(path: Path) -> Config:
    """Read and check a configuration file; paths in the result are absolute.

    Raises:
        ConfigError: not readable, not YAML, an unknown key (with the nearest known one), a wrong type or a value out of range.
            The message names the file with the line, the key and the value.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as err:
        raise ConfigError(f"{path}: no such file; `packetclip init --out {path}` writes one with comments") from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"{path}: not UTF-8 text; is it a configuration file?") from err
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read: {err.strerror}; give the sensor's user the right to read it") from err
    return parse(text, str(path), path.resolve().parent)


def parse(text: str, name: str, folder: Path) -> Config:
    """Check the text of a configuration file; `name` stands in messages, relative paths start at `folder`."""
    document = schema.Document(text, name)
    document.values = _by_mission(document.values)
    values = document.of(Config)
    try:
        config = msgspec.convert(values, Config, dec_hook=_decode)
    except msgspec.ValidationError as err:
        raise document.wrong_value(err, values) from err
    _check(config, document)
    return resolve(config, folder)


def _by_mission(values: dict[str, Any]) -> dict[str, Any]:
    """Keys of a policy that name a mission by its id, as configurations before November 2026 have them, as keys of `least`:
    `dos_packets: 40` becomes `least: {dos: {packets: 40}}`."""
    policy = values.get("policy")
    if not isinstance(policy, dict) or not isinstance(least := policy.get("least") or {}, dict):
        return values
    kept: dict[Any, Any] = {}
    named: dict[str, dict[str, Any]] = {}
    for key, value in policy.items():
        mission, _, what = str(key).rpartition("_")
        if key in schema.keys(Policy) or not mission or mission in least or what not in Least.__struct_fields__:
            kept[key] = value
        else:
            named.setdefault(mission, {})[what] = value
    return values | {"policy": kept | {"least": named | least}} if named else values


def resolve(config: Config, folder: Path) -> Config:
    """Relative paths made absolute from `folder`, the namespace handed to the sink."""
    usual, clusters = ElasticsearchConfig(hosts=[]).dead_letter_path, dict[str, ElasticsearchConfig]()
    for name in ("elasticsearch", "opensearch"):
        if (cluster := getattr(config.sink, name)) is not None:
            own = config.state_dir / usual.name if cluster.dead_letter_path == usual else cluster.dead_letter_path
            clusters[name] = replace(cluster, namespace=config.namespace, dead_letter_path=own)
    resolved: Config = _absolute(replace(config, sink=replace(config.sink, **clusters)), folder)
    return resolved


def _absolute(value: Any, folder: Path) -> Any:
    """A setting whose paths are absolute."""
    if isinstance(value, Path):
        return folder / value
    if isinstance(value, tuple):
        return tuple(_absolute(one, folder) for one in value)
    if isinstance(value, msgspec.Struct):
        return replace(value, **{name: _absolute(getattr(value, name), folder) for name in value.__struct_fields__})
    return value


def with_sink(config: Config, sink: SinkConfig, folder: Path) -> Config:
    """The same configuration with another sink and no feedback; the sink's relative paths start at `folder`.

    Who asks for alerts in another place looks at something; no mail of Zeek's should come of it.
    """
    hunt = config.hunt if sink.elasticsearch else HuntConfig()
    return resolve(replace(config, sink=sink, hunt=hunt, zeek_feedback=ZeekFeedbackConfig()), folder)


def _decode(kind: type, value: Any) -> Any:
    """A path as `msgspec.convert` reads it, with ~ or ~user written out."""
    if kind is not Path:
        raise NotImplementedError(f"no reader for {kind}")
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("Expected a path")
    try:
        return Path(value).expanduser()
    except RuntimeError as err:
        raise ValueError(f"{value}: there is no such user; write the path out") from err


def _check(config: Config, document: schema.Document) -> None:
    """What the types cannot say."""
    if config.sink == SinkConfig():
        raise ConfigError(
            f"{document.at('sink')}: names no sink; give it `ndjson: {{path: alerts.ndjson}}`, `elasticsearch: ...` or another"
        )
    if config.hunt.enabled and config.sink.elasticsearch is None:
        raise ConfigError(
            f"{document.at('hunt', 'enabled')} is true, but windows for hunting need Elasticsearch; set sink.elasticsearch, or "
            "hunt.enabled: false"
        )
    if not config.sensor_name.strip() or not config.sensor_name.isprintable():
        raise ConfigError(f"{document.at('sensor_name')} is {config.sensor_name!r}; give the sensor a printable name")
    if config.sink.elasticsearch is not None and config.sink.opensearch is not None:
        raise ConfigError(f"{document.at('sink')}: names elasticsearch and opensearch; keep one of them")
    if (cluster := config.sink.cluster) is not None:
        check_hosts(cluster.hosts, document.at(*cluster.key.split("."), "hosts"))
    try:
        check_namespace(config.namespace)
    except ConfigError as err:
        raise ConfigError(f"{document.at('namespace')}: {err}") from err
