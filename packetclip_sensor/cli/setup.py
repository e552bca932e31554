"""The commands that an administrator runs once: setup elasticsearch."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packetclip_sensor.cli.common import FAILED, Command, ConfigPath, Group, set_up_logs
from packetclip_sensor.common.text import counted, keep_secret, say
from packetclip_sensor.errors import ConfigError, SinkError

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from packetclip_sensor.common.missions import Missions
    from packetclip_sensor.config.settings import ElasticsearchConfig
    from packetclip_sensor.elastic.plan import Step

app = typer.Typer(cls=Group, rich_markup_mode=None)


@app.callback()
def setup() -> None:
    """Prepare what the sensor writes to.

    \b
    Examples:
      packetclip setup elasticsearch --config sensor.yaml --dry-run
      packetclip setup kafka --config sensor.yaml
    """


@app.command("opensearch", cls=Command)
@app.command("elasticsearch", cls=Command)
def cluster(
    config: ConfigPath,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Log in as this user and not as the sensor does.")] = None,
    password_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="Environment variable with that user's password; asked for without it.")
    ] = None,
    retention: Annotated[
        str | None, typer.Option(metavar="TIME", help="Delete documents after this time, for example 365d; kept without it.")
    ] = None,
    api_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Make role and API key for the sensor, and write the key to FILE.")
    ] = None,
    reader_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Make role and API key that may only read: explain, report, hunt, similar."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print every request, send none that changes anything.")] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take away what is this sensor's alone: its API key; documents stay.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="With --remove: also what all sensors share, and the keys and data of all of them.")
    ] = False,
    delete_data: Annotated[
        bool, typer.Option("--delete-data", help="With --remove: delete the documents of its namespace too, with --all of all.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --remove: do not ask.")] = False,
) -> None:
    """Put templates, pipeline, lifecycle, role and key into the cluster.

    Reads `sink.elasticsearch` or `sink.opensearch`. Can be run again at any time: what is missing is made, what is older is
    brought up to date, what is newer is left, and what is not ours is refused before anything is changed. The user needs the
    cluster privileges manage_index_templates, manage_ingest_pipelines, monitor and, for --api-key and --reader-key,
    manage_security, and `manage` on logs-packetclip.*; `elastic` has them all.

    \b
    Exit codes:
      0  all is as it should be
      1  the removal was not confirmed; --api-key or --reader-key, and the server makes no keys
      2  configuration, credentials, or something in the way, with the remedy

    \b
    Examples:
      packetclip setup elasticsearch --config sensor.yaml --user elastic --dry-run
      packetclip setup elasticsearch --config sensor.yaml --user elastic --api-key /etc/packetclip/api-key --retention 365d
      packetclip setup elasticsearch --config sensor.yaml --user elastic --reader-key ~/packetclip-key
      packetclip setup elasticsearch --config sensor.yaml --user elastic --remove
      packetclip setup elasticsearch --config sensor.yaml --user elastic --remove --all --dry-run
    """
    from elasticsearch import ApiError, TransportError, UnsupportedProductError

    from packetclip_sensor.config import config_file as configs
    from packetclip_sensor.elastic.client import PatientNode, connect, trouble
    from packetclip_sensor.elastic.setup import READER, ROLE, Server, plan_removal
    from packetclip_sensor.model.bundle import manifest_of

    settings = configs.load(config)
    set_up_logs("warning")
    if settings.sink.cluster is None:
        raise ConfigError(
            f"{config}: names no sink.elasticsearch or sink.opensearch; put `sink: {{elasticsearch: {{hosts: [...]}}}}` there"
        )
    if retention is not None and not re.fullmatch(r"[1-9][0-9]*[dhms]", retention):
        raise ConfigError(f"--retention {retention}: not a time; write for example 365d")
    for option, given in (("--delete-data", delete_data), ("--all", everything), ("--yes", yes)):
        if given and not remove:
            raise ConfigError(f"{option}: goes with --remove only; leave it out, or add --remove")
    target, password = login(settings.sink.cluster, user, password_env)
    with connect(target, PatientNode) as plain:
        client = plain if user is None else plain.options(basic_auth=(user, password))
        try:
            if remove:
                server, key_id = Server(client), _own_key_id(settings.sink.cluster, api_key)
                steps = plan_removal(server, target.namespace, key_id, everything=everything, delete_data=delete_data)
                _remove(client, steps, dry_run=dry_run, yes=yes)
            else:
                missions = manifest_of(settings.model_path).missions
                keys = {name: file for name, file in ((ROLE, api_key), (READER, reader_key)) if file is not None}
                _put(client, target, missions, retention, keys, dry_run=dry_run)
        except (ApiError, TransportError, UnsupportedProductError) as err:
            raise SinkError(trouble(err, target)) from err


@app.command(cls=Command)
def kafka(
    config: ConfigPath,
    partitions: Annotated[
        int, typer.Option(min=1, help="Partitions of the host topic: two to four times the judges. They cannot be changed later.")
    ] = 8,
    raw: Annotated[int, typer.Option(min=1, help="Partitions of the topics with log lines: at least the routers.")] = 4,
    replication: Annotated[int, typer.Option(min=1, help="Copies of each partition.")] = 3,
) -> None:
    """Make the topics, and print the commands that give each role its rights.

    \b
    Exit codes:
      0  made, or there already
      2  bad start: configuration, brokers, rights

    \b
    Examples:
      packetclip setup kafka --config sensor.yaml --partitions 16
      packetclip setup kafka --config sensor.yaml --replication 1    on a single broker
    """
    from packetclip_sensor.config import config_file as configs

    settings = configs.load(config)
    try:
        from packetclip_sensor.kafka import setup as topics
    except ModuleNotFoundError as err:
        raise ConfigError("confluent-kafka is not installed: pip install '.[kafka]' in a clone") from err
    for line in topics.make(settings, partitions, raw, replication):
        say(line)
    say("\nWhere Kafka has ACLs, its administrator runs these, with the roles' users in place of ROUTE, JUDGE and ALERT:")
    for line in topics.acls(settings):
        say(line)


def login(target: ElasticsearchConfig, user: str | None, password_env: str | None) -> tuple[ElasticsearchConfig, str]:
    """Where to connect to, without the sensor's own secret where a user is named, and that user's password."""
    from msgspec.structs import replace

    if user is None:
        return target, ""
    password = (
        typer.prompt(f"Password of {user}", hide_input=True, err=True) if password_env is None else os.environ.get(password_env)
    )
    if not password:
        raise ConfigError(
            f"--password-env {password_env}: the environment variable is not set; export it, or leave the option out"
        )
    keep_secret(password, base64.b64encode(f"{user}:{password}".encode()).decode())
    return replace(target, api_key_env=None, api_key_file=None, username=None, password_env=None), str(password)


def _put(
    client: Elasticsearch,
    target: ElasticsearchConfig,
    missions: Missions,
    retention: str | None,
    keys: dict[str, Path],
    *,
    dry_run: bool,
) -> None:
    """Put everything, and make keys: the file that each goes to, by name."""
    from packetclip_sensor.elastic import setup, streams, templates

    server = setup.Server(client)
    if keys and not server.security:
        say("packetclip: this server has no security and makes no keys; leave --api-key and --reader-key out", file=sys.stderr)
        raise typer.Exit(FAILED)
    steps = setup.plan(server, target.namespace, missions, retention)
    steps += [step for name, file in keys.items() for step in setup.plan_login(client, file, name)]
    if dry_run:
        _show(steps)
    else:
        with ExitStack() as files:
            new = [step.name for step in steps if step.kind == "API key" and step.method]
            out = {name: files.enter_context(setup.key_file(keys[name])) for name in new}
            for step in steps:
                answer = step.take(client)
                _say(step)
                if step.kind == "API key" and step.name in out:
                    out[step.name].write(answer["encoded"] + "\n")
        for dataset in streams.DATASETS:
            templates.check_outcome(client, dataset, target.namespace, missions)
    if (file := keys.get(setup.ROLE)) is not None:
        say(f"\nIn the configuration, below {target.key}:\n  api_key_file: {file}\n  manage_templates: false")
        say(f"The sensor's user must be able to read the key: chown packetclip {file}")
    if (file := keys.get(setup.READER)) is not None:
        say(f"\nIn a configuration of whoever asks (packetclip explain, report, hunt, similar), below {target.key}:")
        say(f"  api_key_file: {file}")
    if not keys and target.product == "Elasticsearch":
        say("\nRole and API key, where the server has security (--api-key FILE makes them):")
        say(setup.by_hand(target.hosts[0]).rstrip())


def _own_key_id(own: ElasticsearchConfig, api_key: Path | None) -> str:
    """Id of this sensor's API key: of the file that is named, or of what the configuration names."""
    from packetclip_sensor.elastic.setup import key_id_of

    return key_id_of(api_key or own.api_key_file or os.environ.get(own.api_key_env or "", ""))


def _remove(client: Elasticsearch, steps: Sequence[Step], *, dry_run: bool, yes: bool) -> None:
    if dry_run:
        _show(steps)
        return
    going = [step for step in steps if step.method]
    if going and not yes:
        for step in going:
            count = client.count(index=step.name)["count"] if step.kind == "data stream" else None
            words = step.words if count is None else counted(count, "document")
            say(f"{step.kind} {step.name}{': ' if words else ''}{words}", file=sys.stderr)
        typer.confirm("Remove them for good?", abort=True, err=True)
    for step in steps:
        step.take(client)
        _say(step)
    if not going:
        say("nothing was removed")


def _say(step: Step) -> None:
    say(f"{step.mark:<8} {step.kind:<19} {step.name:<42} {step.words}".rstrip(), flush=True)


def _show(steps: Sequence[Step]) -> None:
    """Every step, and its request as Kibana's console writes it."""
    for step in steps:
        _say(step)
        if step.method:
            say(f"{step.method} {step.path}")
            if step.body is not None:
                say(json.dumps(step.body, indent=2, ensure_ascii=False))
    changes = sum(bool(step.method) for step in steps)
    say(f"\ndry run: {changes} requests would be sent, none was")
