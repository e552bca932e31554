"""The sensor's configuration: one typed YAML file in which every key is checked.

Names, types, defaults and meanings stand in one place, the structs below: `packetclip init` writes its commented file from them,
and a wrong key is answered with the key that was probably meant. Relative paths are relative to the file's folder. Secrets never
stand in the file: the sink reads them from the environment or from files of their own.
"""

from __future__ import annotations

import math
import socket
from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml
from msgspec import Meta, field
from msgspec.structs import replace

from packetclip_sensor.alerts.episodes import Policy
from packetclip_sensor.common.missions import Least
from packetclip_sensor.common.resources import resource
from packetclip_sensor.config import schema
from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.elastic.client import ElasticsearchConfig
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.model import calibration_file
from packetclip_sensor.service.health import HealthConfig
from packetclip_sensor.service.load_limits import LimitsConfig
from packetclip_sensor.sinks.documents import check_namespace

LOG_LEVELS = ("debug", "info", "warning", "error")
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]


class NdjsonConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Alerts as JSON lines in a file; needs no server."""

    path: Path = Path("alerts.ndjson")
    """The file; it is appended to, and may be rotated by renaming it."""


class SinkConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where alerts go: exactly one of the two."""

    ndjson: NdjsonConfig | None = None
    """A file of JSON lines."""
    elasticsearch: ElasticsearchConfig | None = None
    """A data stream of Elasticsearch 9."""


class ZeekFeedbackConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Verdicts for Zeek's notice framework, beside the sink."""

    path: Path | None = None
    """File for Zeek to read with packetclip/verdicts, for example /var/lib/packetclip/zeek/verdicts.tsv; null for none. Zeek's
    user must be able to read it and to write beside it (docs/zeek_feedback.md)."""
    max_bytes: Annotated[int, Meta(ge=65536)] = 8 << 20
    """Size in bytes from which a new file is begun; the one before stays beside it as .1."""


class HuntConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Judged windows for `packetclip hunt`, in a data stream of their own beside the alerts (docs/hunt.md)."""

    enabled: bool = False
    """Write windows to logs-packetclip.flow-NAMESPACE; needs the Elasticsearch sink. A document has about 3 kB."""
    ordinary_s: Annotated[int, Meta(ge=1)] = 60
    """Seconds of event time in which an ordinary stream is kept once."""
    near_s: Annotated[int, Meta(ge=1)] = 10
    """The same for a stream that comes near an alert."""
    near: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.5
    """Share of a mission's threshold from which a window counts as near an alert."""
    per_minute: Annotated[int, Meta(ge=2)] = 300
    """Most documents of one minute of event time; ordinary streams get half of them. What is above is counted (flows_capped)."""


class PolicyConfig(Policy, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a verdict counts, and when an episode opens, is told again and closes."""

    thresholds: dict[str, Probability] = field(default_factory=dict)
    """Probability (0 to 1) from which a verdict of a mission counts, by mission, in place of the model's own, for example
    {DoS: 0.95}. Missions are named as the model names them, or by their ids: dos."""
    leeways: dict[str, calibration_file.Leeway] = field(default_factory=dict)
    """How far below its threshold, in logits, a window of a mission counts towards an alert together with others, in place of the
    model's own; 0 lets only windows count that reach the threshold (docs/tuning.md, more sensitive)."""
    calibration: Path | None = None
    """File that `packetclip calibrate` wrote for this site and this model; its thresholds replace the model's own, and
    `thresholds` above replaces both. Of its leeways and those above the narrower count."""
    suppress: Path | None = None
    """File of rules for what this site knows to be harmless (docs/tuning.md); it is read again when it changes."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set. A window's size comes with the model and is no setting."""

    logs: tuple[Path, ...] = ()
    """Folders in which Zeek writes packetclip_packet.log and packetclip_flow.log, for example /opt/zeek/logs/current."""
    archives: tuple[Path, ...] = ()
    """Folders into which rotated logs are moved; searched, with their subfolders named by date, for what was written while the
    sensor was stopped or waiting. By default the folder above a log folder called `current`, as zeekctl has it."""
    state_dir: Path = Path("state")
    """Folder for what the sensor must remember over a restart; one sensor each."""
    model: Path | None = None
    """Folder of a model bundle; null for the one that comes with the sensor."""
    namespace: str = "default"
    """Last part of the data stream's name, logs-packetclip.alert-NAMESPACE; lower case."""
    sensor_name: str = field(default_factory=lambda: socket.gethostname() or "sensor")
    """Name of this sensor in every alert (`observer.name`); part of the alerts' ids, so keep it stable."""
    sink: SinkConfig = SinkConfig(ndjson=NdjsonConfig())
    """Where alerts go: `ndjson` or `elasticsearch`."""
    zeek_feedback: ZeekFeedbackConfig = ZeekFeedbackConfig()
    """Back into Zeek: what opens or grows more severe becomes a notice there as well (notice.log, mail, the site's policy)."""
    hunt: HuntConfig = HuntConfig()
    """Judged windows for `packetclip hunt`, in a data stream of their own beside the alerts (docs/hunt.md)."""
    policy: PolicyConfig = PolicyConfig()
    """When a verdict counts, and when an episode opens, is told again and closes."""
    health: HealthConfig = HealthConfig()
    """How to see from outside how the sensor is."""
    limits: LimitsConfig = LimitsConfig()
    """What may be held at most, and what is let go when there is too much."""
    rejects_path: Path | None = None
    """File for log lines that could not be read, with the reason; null for rejects.jsonl in state_dir."""
    log_level: str = "info"
    """What the sensor says of itself on standard error: debug, info, warning or error."""

    @property
    def model_path(self) -> Path:
        """Folder of the bundle to open.

        Raises:
            ConfigError: none is named and the installation carries none.
        """
        return self.model or resource("model/shipped")

    @property
    def suppressed_path(self) -> Path:
        """File in which what each rule of `policy.suppress` silenced is counted."""
        return self.state_dir / "suppressed.json"

    @property
    def rejects(self) -> Path:
        """File for bad lines."""
        return self.rejects_path or self.state_dir / "rejects.jsonl"


def load(path: Path, *, calibrated: bool = True) -> Config:
    """Read and check a configuration file; paths in the result are absolute.

    Args:
        calibrated: take the thresholds of `policy.calibration` in; a new calibration does not look at the old one.
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
    config = parse(text, str(path), path.resolve().parent)
    return with_calibration(config) if calibrated else config


def parse(text: str, name: str, folder: Path) -> Config:
    """Check the text of a configuration file; `name` stands in messages, relative paths start at `folder`."""
    places = schema.Places(text, name)
    try:
        raw: Any = yaml.safe_load(text)
    except schema.YAML_ERRORS as err:
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(err).split())}; check indentation and quotes") from err
    raw = {} if raw is None else raw
    if not isinstance(raw, dict):
        raise ConfigError(f"{name}: holds {schema.shown(raw)} where `key: value` lines are expected; see `packetclip init`")
    raw = _by_mission(raw)
    schema.refuse_unknown(raw, Config, places)
    try:
        config = msgspec.convert(_without_nulls(raw), Config, dec_hook=_decode)
    except msgspec.ValidationError as err:
        raise places.wrong_value(err, raw) from err
    except RecursionError as err:
        raise ConfigError(f"{name}: a value holds itself; take the anchors (& and *) out") from err
    _check(config, places, raw)
    return resolve(config, folder)


def resolve(config: Config, folder: Path) -> Config:
    """Relative paths made absolute from `folder`, the namespace handed to the sink."""
    elasticsearch = config.sink.elasticsearch
    if elasticsearch is not None:
        dead_letters = folder / config.state_dir / "dead-letters.ndjson"
        if elasticsearch.dead_letter_path != ElasticsearchConfig(hosts=[]).dead_letter_path:
            dead_letters = folder / _expanded(elasticsearch.dead_letter_path)
        secrets = {
            name: str(folder / _expanded(path))
            for name in ("ca_certs", "api_key_file")
            if (path := getattr(elasticsearch, name)) is not None
        }
        elasticsearch = replace(elasticsearch, namespace=config.namespace, dead_letter_path=str(dead_letters), **secrets)
    ndjson = config.sink.ndjson
    feedback = config.zeek_feedback
    if feedback.path is not None:
        feedback = replace(feedback, path=folder / feedback.path)
    policy = config.policy
    if policy.calibration is not None:
        policy = replace(policy, calibration=folder / policy.calibration)
    if policy.suppress is not None:
        policy = replace(policy, suppress=folder / policy.suppress)
    return replace(
        config,
        policy=policy,
        logs=tuple(folder / path for path in config.logs),
        archives=tuple(folder / path for path in config.archives),
        state_dir=folder / config.state_dir,
        model=None if config.model is None else folder / config.model,
        rejects_path=None if config.rejects_path is None else folder / config.rejects_path,
        zeek_feedback=feedback,
        sink=SinkConfig(ndjson=None if ndjson is None else NdjsonConfig(path=folder / ndjson.path), elasticsearch=elasticsearch),
    )


def with_calibration(config: Config) -> Config:
    """The same configuration with the thresholds of its calibration file, but for those that it sets itself, and the narrower
    leeways of both: what the file has was fitted up to those of the configuration.

    Raises:
        ConfigError: the file is unfit, or was made for another model than the configuration's.
    """
    policy = config.policy
    if policy.calibration is None:
        return config
    from packetclip_sensor.model.bundle import manifest_of  # noqa: PLC0415  (numpy, which only a calibrated site needs here)

    fitted = calibration_file.read(policy.calibration, config.model_path)
    policy = for_missions(policy, manifest_of(config.model_path).missions)
    leeways = {m: min(fitted.leeways.get(m, 0.0), policy.leeways.get(m, math.inf)) for m in fitted.thresholds}
    return replace(config, policy=replace(policy, thresholds=fitted.thresholds | policy.thresholds, leeways=leeways))


def with_sink(config: Config, sink: SinkConfig, folder: Path) -> Config:
    """The same configuration with another sink and no feedback; the sink's relative paths start at `folder`.

    Who asks for alerts in another place looks at something; no mail of Zeek's should come of it.
    """
    hunt = config.hunt if sink.elasticsearch else HuntConfig()
    return resolve(replace(config, sink=sink, hunt=hunt, zeek_feedback=ZeekFeedbackConfig()), folder)


def first_settings() -> dict[str, Any]:
    """What `packetclip init` sets: what a Zeek from the usual packages needs, and what must be looked at."""
    return {
        "logs": ["/opt/zeek/logs/current"],
        "state_dir": "/var/lib/packetclip",
        "sensor_name": Config().sensor_name,
        "sink": {"ndjson": {"path": "/var/log/packetclip/alerts.ndjson"}},
        "health": {"port": 9758},
    }


def commented(settings: dict[str, Any]) -> str:
    """The text of a configuration file: every key with its meaning, those in `settings` set."""
    head = "# packetclip sensor. A line that starts with `# ` is off and shows the default; take the mark away to set it.\n\n"
    return head + schema.commented(Config, settings, hidden=("sink.elasticsearch.namespace",))


def _decode(kind: type, value: Any) -> Any:
    if kind is not Path:
        raise NotImplementedError(f"no reader for {kind}")
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("Expected a path")
    try:
        return _expanded(value)
    except ConfigError as err:
        raise ValueError(str(err)) from err


def _expanded(path: str) -> Path:
    """A path whose ~ or ~user is written out."""
    try:
        return Path(path).expanduser()
    except RuntimeError as err:
        raise ConfigError(f"{path}: there is no such user; write the path out") from err


def _by_mission(raw: dict[Any, Any]) -> dict[Any, Any]:
    """Keys of a policy that name a mission by its id, as configurations before November 2026 have them, as keys of `least`:
    `dos_packets: 40` becomes `least: {dos: {packets: 40}}`."""
    policy = raw.get("policy")
    if not isinstance(policy, dict) or not isinstance(least := policy.get("least") or {}, dict):
        return raw
    known, kept, named = {key.name for key in schema.keys(PolicyConfig)}, dict[Any, Any](), dict[str, dict[str, Any]]()
    for key, value in policy.items():
        mission, _, what = str(key).rpartition("_")
        if key in known or not mission or mission in least or what not in Least.__struct_fields__:
            kept[key] = value
        else:
            named.setdefault(mission, {})[what] = value
    return raw | {"policy": kept | {"least": named | least}}


def _without_nulls(value: Any) -> Any:
    """`key:` with nothing behind it means the default, as its author surely thought."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return value


def _check(config: Config, places: schema.Places, raw: dict[str, Any]) -> None:
    """What a type cannot say."""
    if "namespace" in ((raw.get("sink") or {}).get("elasticsearch") or {}):
        raise ConfigError(
            f"{places.at('sink', 'elasticsearch', 'namespace')}: no such key; `namespace` stands at the top of the file"
        )
    named = [kind for kind in ("ndjson", "elasticsearch") if kind in (raw.get("sink") or {})]
    if len(named) > 1:
        raise ConfigError(f"{places.at('sink')}: names {' and '.join(named)}; keep one of them")
    if config.sink.ndjson is None and config.sink.elasticsearch is None:
        raise ConfigError(
            f"{places.at('sink')}: names no sink; give it `ndjson: {{path: alerts.ndjson}}` or `elasticsearch: ...`"
        )
    if config.hunt.enabled and config.sink.elasticsearch is None:
        raise ConfigError(
            f"{places.at('hunt', 'enabled')} is true, but windows for hunting need Elasticsearch; set sink.elasticsearch, or "
            "hunt.enabled: false"
        )
    for key in ("update_s", "close_s", "open_packets"):
        value = getattr(config.policy, key)
        if not 0 < value < math.inf:
            raise ConfigError(f"{places.at('policy', key)} is {value}; it must be above 0 and finite")
    if config.log_level not in LOG_LEVELS:
        hint = schema.suggestion(config.log_level, LOG_LEVELS)
        raise ConfigError(f"{places.at('log_level')} is {config.log_level!r}{hint}; levels: {', '.join(LOG_LEVELS)}")
    if not config.sensor_name.strip() or not config.sensor_name.isprintable():
        raise ConfigError(f"{places.at('sensor_name')} is {config.sensor_name!r}; give the sensor a printable name")
    try:
        check_namespace(config.namespace)
    except ConfigError as err:
        raise ConfigError(f"{places.at('namespace')}: {err}") from err
