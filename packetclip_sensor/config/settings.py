"""Every setting of the sensor: name, type, default, bounds and meaning, each typed once.

The text beside a field's type is its meaning: `packetclip init` writes its commented file from it (`example.py`). A field without
a text is no key of the file. Secrets are no settings: the sink reads them from the environment or from files of their own.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from packetclip_sensor.common.missions import Least
from packetclip_sensor.common.resources import resource
from packetclip_sensor.errors import ConfigError

Probability = Annotated[float, Meta(ge=0.0, le=1.0)]
Margin = Annotated[float, Meta(ge=0.0, le=10.0)]
Share = Annotated[float, Meta(gt=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Bytes = Annotated[int, Meta(ge=4096)]
Positive = Annotated[float, Meta(gt=0)]


class NdjsonConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file sink; it needs no server."""

    path: Annotated[Path, "The file; it is appended to, and may be rotated by renaming it."] = Path("alerts.ndjson")


class ElasticsearchConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the cluster is and how to log in: by API key, by user and password, or not at all."""

    product: ClassVar[str] = "Elasticsearch"
    key: ClassVar[str] = "sink.elasticsearch"

    hosts: Annotated[list[str], "URLs with scheme and port, for example https://elastic.example.org:9200."]
    api_key_env: Annotated[str | None, "Name of the environment variable that holds the encoded API key."] = None
    api_key_file: Annotated[Path | None, "File that holds the encoded API key, in place of the variable."] = None
    username: Annotated[str | None, "User name, in place of an API key."] = None
    password_env: Annotated[str | None, "Name of the environment variable that holds the user's password."] = None
    ca_certs: Annotated[Path | None, "PEM file of the authority that signed the cluster's certificate."] = None
    verify_certs: Annotated[bool, "Check the cluster's certificate; false only in a laboratory."] = True
    namespace: str = "default"
    """From the top of the file."""
    manage_templates: Annotated[
        bool, "Put and check the templates at start; false where an administrator has put them and the key may only write."
    ] = True
    batch_documents: Annotated[Count, "Most documents in one request."] = 500
    batch_bytes: Annotated[Count, "Most bytes in one request."] = 5 << 20
    timeout_s: Annotated[Positive, "Seconds to wait for an answer before the same request is sent again."] = 30.0
    dead_letter_path: Annotated[
        Path, "JSON lines of refused documents with the reason, made when the first one is refused; by default in state_dir."
    ] = Path("state/dead-letters.ndjson")
    dead_letter_bytes: Annotated[
        int,
        Meta(ge=0),
        "Most bytes of refused documents that are kept, in two files; beyond it the oldest are dropped and counted.",
    ] = 64 << 20


class OpenSearchConfig(ElasticsearchConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same of an OpenSearch cluster, which has users and no API keys."""

    product: ClassVar[str] = "OpenSearch"
    key: ClassVar[str] = "sink.opensearch"


class WebhookConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address that gets each document as a request."""

    url: Annotated[str | None, "Address that gets each document by POST, for example https://soc.example.org/packetclip."] = None
    url_file: Annotated[Path | None, "File that holds the address, where the address is itself a secret, as Slack's is."] = None
    secret_env: Annotated[
        str | None, "Name of the environment variable with the key by which requests are signed (HMAC-SHA256, Standard Webhooks)."
    ] = None
    secret_file: Annotated[Path | None, "File that holds that key, in place of the variable."] = None
    token_env: Annotated[str | None, "Name of the environment variable with a token for `Authorization: Bearer`."] = None
    token_file: Annotated[Path | None, "File that holds that token, in place of the variable."] = None
    body: Annotated[
        Path | None,
        "Jinja template that makes another JSON of a document, as Slack, Teams or TheHive want it (docs/forwarding.md); where it "
        "gives nothing, nothing is sent. Null for the document as it is.",
    ] = None
    ca_certs: Annotated[Path | None, "PEM file of the authority that signed its certificate; null for the system's."] = None
    verify_certs: Annotated[bool, "Check its certificate; false only in a laboratory."] = True
    timeout_s: Annotated[Positive, "Seconds to wait for an answer before the same document is sent again."] = 10.0


class SyslogConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A receiver of syslog (RFC 5424) over TLS (RFC 5425)."""

    host: Annotated[str, "Name or address of the receiver, as its certificate has it."]
    port: Annotated[Annotated[int, Meta(ge=1, le=65535)], "Its TLS port."] = 6514
    facility: Annotated[Annotated[int, Meta(ge=0, le=23)], "Facility of the messages: 16 to 23 are local0 to local7."] = 16
    certificate: Annotated[Path | None, "PEM file with this sensor's certificate and key, where the receiver asks for one."] = (
        None
    )
    ca_certs: Annotated[Path | None, "PEM file of the authority that signed its certificate; null for the system's."] = None
    verify_certs: Annotated[bool, "Check its certificate; false only in a laboratory."] = True
    timeout_s: Annotated[Positive, "Seconds to wait for the receiver before the same messages are sent again."] = 10.0


class SinkConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where alerts go: one place or several. The position in the logs moves once all of them have acknowledged."""

    ndjson: Annotated[NdjsonConfig | None, "A file of JSON lines."] = None
    elasticsearch: Annotated[ElasticsearchConfig | None, "A data stream of Elasticsearch 9."] = None
    opensearch: Annotated[
        OpenSearchConfig | None, "A data stream of OpenSearch 3, in place of Elasticsearch (docs/opensearch.md)."
    ] = None
    webhook: Annotated[WebhookConfig | None, "An address that gets each document by HTTP (docs/forwarding.md)."] = None
    syslog: Annotated[SyslogConfig | None, "A receiver of syslog over TLS (docs/forwarding.md)."] = None

    @property
    def cluster(self) -> ElasticsearchConfig | None:
        """The cluster, of whichever of the two."""
        return self.elasticsearch or self.opensearch


class ZeekFeedbackConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Verdicts for Zeek's notice framework, beside the sink."""

    path: Annotated[
        Path | None,
        "File for Zeek to read with packetclip/verdicts, for example /var/lib/packetclip/zeek/verdicts.tsv; null for none. The "
        "sensor's user alone writes in its folder, Zeek's user reads there (docs/zeek_feedback.md).",
    ] = None
    max_bytes: Annotated[
        int, Meta(ge=65536), "Size in bytes from which a new file is begun; the one before stays beside it as .1."
    ] = 8 << 20


class HuntConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which judged windows are kept for `packetclip hunt`."""

    enabled: Annotated[
        bool, "Write windows to logs-packetclip.flow-NAMESPACE; needs the Elasticsearch sink. A document has about 3 kB."
    ] = False
    ordinary_s: Annotated[Count, "Seconds of event time in which an ordinary stream is kept once."] = 60
    near_s: Annotated[Count, "The same for a stream that comes near an alert."] = 10
    near: Annotated[Share, "Share of a mission's threshold from which a window counts as near an alert."] = 0.5
    per_minute: Annotated[
        int,
        Meta(ge=2),
        "Most documents of one minute of event time; ordinary streams get half of them. What is above is counted (flows_capped).",
    ] = 300


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a verdict counts and what becomes of an episode; the rules themselves stand in `alerts/episodes.py`."""

    open_packets: Annotated[
        Count,
        "An episode opens once a verdict rests on so many packets, of the window or of the connections begun within its time; "
        "fewer are too little to accuse anybody.",
    ] = 20
    least: Annotated[
        dict[str, Least],
        "The same by mission, in place of the model's own (docs/tuning.md), for example {DoS: {packets: 40}}. `connections` are "
        "TCP connections, begun within the window's time or seen in it. Connections of one packet count up to the 64 that a "
        "window remembers. `datagrams_per_s` are packets that are not TCP, of the window's stream in its second; from "
        "`slow_probability` on fewer will do.",
    ] = {}
    update_s: Annotated[Positive, "Seconds of event time between two documents of an episode that goes on."] = 60.0
    close_s: Annotated[
        Positive,
        "An episode closes when no verdict has come for so many seconds of event time, or for an hour where evidence over "
        "minutes decided.",
    ] = 60.0
    thresholds: Annotated[
        dict[str, Probability],
        "Probability (0 to 1) from which a verdict of a mission counts, by mission, in place of the model's own, for example "
        "{DoS: 0.95}. Missions are named as the model names them, or by their ids: dos.",
    ] = {}
    margins: Annotated[
        dict[str, Margin],
        "How far below its threshold, in logits, a window of a mission counts towards an alert together with others, in place "
        "of the model's own; 0 lets only windows count that reach the threshold (docs/tuning.md, more sensitive).",
    ] = {}
    calibration: Annotated[
        Path | None,
        "File that `packetclip calibrate` wrote for this site and this model; its thresholds replace the model's own, and "
        "`thresholds` above replaces both. Of its margins and those above the narrower count.",
    ] = None
    alerts_per_day: Annotated[
        Annotated[float, Meta(gt=0, le=10_000)] | None,
        "Most alerts (opened episodes) that you want in a day of event time; 0.2 is one in five days, null for no budget. "
        "`packetclip calibrate` keeps to it. Beyond it what opens is still written, but below severity high as an event "
        "(`event.kind`) with the tag packetclip-over-budget, which no rule of Elastic Security takes for an alert.",
    ] = None
    shadow: Annotated[
        bool,
        "Alerts are written for a look alone: each document has the tag packetclip-shadow and the lowest severity, and Zeek "
        "gets no verdicts. For the first week of a new network or model.",
    ] = False
    suppress: Annotated[
        Path | None, "File of rules for what this site knows to be harmless (docs/tuning.md); it is read again when it changes."
    ] = None


class HealthConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pages /metrics (for Prometheus) and /health, the health documents, and when the sensor is not well."""

    port: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | None,
        "Port of the pages, usually 9758; null for no pages, 0 for any free port (it is logged).",
    ] = None
    address: Annotated[
        str,
        "Address to listen on. The pages are read-only and ask for no password: leave them on this machine, or let only "
        "Prometheus reach them.",
    ] = "127.0.0.1"
    names: Annotated[
        tuple[str, ...],
        "Further names by which Prometheus asks for the pages, for example [zeek-1.example.org]. Requests by an address, "
        "localhost or this machine's own name are answered, others are refused: no web page can read them through a browser.",
    ] = ()
    documents_s: Annotated[
        float,
        Meta(ge=0),
        "Seconds between two health documents to logs-packetclip.health-NAMESPACE in Elasticsearch, or with a file sink to "
        "health.json in state_dir (the newest one only); 0 for none.",
    ] = 60.0
    max_lag_s: Annotated[Positive, "The sensor is not well when the oldest unread log line is older than so many seconds."] = 60.0
    max_wait_s: Annotated[Positive, "The sensor is not well when its sink has been waiting for so many seconds."] = 60.0
    max_memory_bytes: Annotated[
        Count, "The sensor is not well when it holds more memory than this. It only says so; systemd's MemoryMax ends it."
    ] = 1 << 30


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds. What is dropped is counted (/metrics, health documents)."""

    packets_held: Annotated[
        int,
        Meta(ge=1000),
        "Packets held for later windows; of more, those of the host pairs least recently seen go first. 1,000 take about half a "
        "MB.",
    ] = 150_000
    windows_per_second: Annotated[
        Count,
        "Windows of one second of traffic that are judged, beside one for each eight packets; those that end at one packet count "
        "once. Where more are due, streams with little that is new wait, some seconds at most (docs/performance.md).",
    ] = 64
    line_bytes: Annotated[Bytes, "Longest log line; a longer one is skipped and written to the rejects file."] = 1 << 20
    block_bytes: Annotated[Bytes, "Most log read at once."] = 1 << 20
    open_files: Annotated[
        int,
        Meta(ge=8),
        "Log files held open; of more, those longest read to their end are closed, and opened again when they grow.",
    ] = 64
    rejects_bytes: Annotated[Bytes, "Size from which the rejects file becomes .1, in place of an older .1."] = 16 << 20
    shed_load: Annotated[
        Literal["none", "skip_old", "first_packets"],
        "Rule by which load is shed while the sensor is behind. none: everything is judged, however late. skip_old: packets "
        "older than shed_after_s are passed over unread, so that what is judged is recent. first_packets: of each connection "
        "only the first packets_kept are judged until the sensor has caught up.",
    ] = "none"
    shed_after_s: Annotated[Positive, "Age of a packet, in seconds, from which load is shed; it ends at half of that."] = 300.0
    packets_kept: Annotated[Count, "Packets of each connection that first_packets leaves."] = 10


class KafkaConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For `packetclip route`, `judge` and `alert`, the sensor on several machines (docs/scale.md); `run` reads none of it."""

    brokers: Annotated[tuple[str, ...], "Brokers to begin with, host:port."] = ()
    prefix: Annotated[
        str, "First part of the topics' names, PREFIX.packet and so on, and of the consumer groups'; letters, digits, _ and -."
    ] = "packetclip"
    format: Annotated[
        Literal["line", "tagged", "message"],
        "What a shipper sends. line: the log line as it is. tagged: with a tag, time or host before it, as syslog has them. "
        "message: a JSON object with the line in its field `message`, as Filebeat and Vector write.",
    ] = "line"
    lateness_s: Annotated[
        float, Meta(ge=0, le=30), "How far behind its neighbours a line of one shipper may come, in seconds."
    ] = 1.0
    ahead_s: Annotated[
        float, Meta(ge=1, le=60), "Seconds of event time that no partition of lines is routed ahead of the slowest."
    ] = 5.0
    client: Annotated[
        dict[str, str],
        "Options of librdkafka for every client, for example {security.protocol: SASL_SSL, sasl.mechanism: SCRAM-SHA-512, "
        "sasl.username: packetclip, ssl.ca.location: /etc/packetclip/ca.pem}.",
    ] = {}
    secrets: Annotated[
        dict[str, Path], "Options whose value stands in a file of its own, for example {sasl.password: /etc/packetclip/kafka}."
    ] = {}


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set. A window's size comes with the model and is no setting."""

    logs: Annotated[
        tuple[Path, ...],
        "Folders in which Zeek writes packetclip_packet.log and packetclip_flow.log, for example /opt/zeek/logs/current.",
    ] = ()
    archives: Annotated[
        tuple[Path, ...],
        "Folders into which rotated logs are moved; searched, with their subfolders named by date, for what was written while "
        "the sensor was stopped or waiting. By default zeekctl's LogDir, which holds `current`, a link to the log folder.",
    ] = ()
    lateness_s: Annotated[
        float,
        Meta(ge=0, le=30),
        "How far the time of a log line may be behind the newest before it, in seconds: 0 where one Zeek writes the log, 2 "
        "for a cluster, whose workers reach it by turns. Packets are held back so long and put in order; `packetclip check` "
        "measures it.",
    ] = 0.0
    state_dir: Annotated[Path, "Folder for what the sensor must remember over a restart; one sensor each."] = Path("state")
    model: Annotated[Path | None, "Folder of a model bundle; null for the one that comes with the sensor."] = None
    namespace: Annotated[str, "Last part of the data stream's name, logs-packetclip.alert-NAMESPACE; lower case."] = "default"
    sensor_name: Annotated[
        str, "Name of this sensor in every alert (`observer.name`); part of the alerts' ids, so keep it stable."
    ] = field(default_factory=lambda: socket.gethostname() or "sensor")
    sink: Annotated[SinkConfig, "Where alerts go: one of these, or several at once."] = SinkConfig(ndjson=NdjsonConfig())
    evidence_bytes: Annotated[
        Literal["masked", "headers", "none", "all"],
        "Which bytes of evidence packets alerts hold. masked: headers, and of the payload what holds no secret (TLS, DNS, verbs, "
        "codes, paths); all else is zeros, passwords and cookies with it. headers: no payload. none: no bytes. all: the packets "
        "as they were, passwords too.",
    ] = "masked"
    other_alerts: Annotated[
        tuple[Path, ...],
        "Zeek's notice.log (JSON) and Suricata's eve.json, or folders with them: alerts name what these raised on the same hosts "
        "at the same time (docs/other_alerts.md). None by default; verdicts do not depend on them.",
    ] = ()
    zeek_feedback: Annotated[
        ZeekFeedbackConfig,
        "Back into Zeek: what opens or grows more severe becomes a notice there as well (notice.log, mail, the site's policy).",
    ] = ZeekFeedbackConfig()
    hunt: Annotated[
        HuntConfig, "Judged windows for `packetclip hunt`, in a data stream of their own beside the alerts (docs/hunt.md)."
    ] = HuntConfig()
    policy: Annotated[Policy, "When a verdict counts, and when an episode opens, is updated and closes."] = Policy()
    health: Annotated[HealthConfig, "How to see from outside how the sensor is."] = HealthConfig()
    limits: Annotated[Limits, "What may be held at most, and what is dropped when there is too much."] = Limits()
    kafka: Annotated[KafkaConfig, "Kafka, where one sensor is not enough."] = KafkaConfig()
    rejects_path: Annotated[
        Path | None, "File for log lines that could not be read, with the reason; null for rejects.jsonl in state_dir."
    ] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        "What the sensor says of itself on standard error: debug, info, warning or error.",
    ] = "info"

    @property
    def model_path(self) -> Path:
        """Folder of the bundle to open.

        Raises:
            ConfigError: none is named and the installation carries none.
        """
        return self.model or resource("model/shipped")

    @property
    def suppressed_path(self) -> Path:
        """File in which what each rule of `policy.suppress` suppressed is counted."""
        return self.state_dir / "suppressed.json"

    @property
    def rejects(self) -> Path:
        """File for bad lines."""
        return self.rejects_path or self.state_dir / "rejects.jsonl"


def check_hosts(hosts: Sequence[str], key: str = "sink.elasticsearch.hosts") -> None:
    """Refuse secrets in addresses, which end up in logs and messages.

    Raises:
        ConfigError: a host holds a user, a password or a query; the message does not show it.
    """
    if any(mark in host for host in hosts for mark in "@?"):
        raise ConfigError(
            f"{key}: holds more than scheme, host, port and path (not shown, it may be a secret); name user and password by "
            "sink.elasticsearch.username and password_env, or take an API key"
        )


def check_namespace(namespace: str) -> None:
    """Refuse what ECS refuses in `data_stream.namespace`.

    Raises:
        ConfigError: empty, longer than 100 bytes, upper case, or with a character that Elasticsearch or ECS forbids.
    """
    bad = sorted(set(namespace) & set('-\\/*?"<>| ,#:')) or ([] if namespace == namespace.lower() else ["upper case"])
    if bad or not 0 < len(namespace.encode()) <= 100:
        found = ", ".join(repr(part) for part in bad) or f"{len(namespace)} characters"
        raise ConfigError(f"namespace {namespace!r} holds {found}; use 1 to 100 lower-case letters, digits, dots or underscores")
