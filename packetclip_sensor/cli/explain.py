"""The commands about one alert: explain shows it and what to do next, mark says what it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packetclip_sensor.cli.common import set_up_logs, write_file
from packetclip_sensor.common.text import counted, printable, say
from packetclip_sensor.errors import ConfigError

if TYPE_CHECKING:
    from packetclip_sensor.config.settings import Config
    from packetclip_sensor.view.document_access import Document
    from packetclip_sensor.view.next_steps.history import Seen

AlertsFile = Annotated[
    Path | None,
    typer.Option("--from", metavar="FILE", help="NDJSON file to look in. [default: alerts.ndjson, if it is here]"),
]
SinkOf = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Look in the sink of this configuration: file or cluster."),
]
USUAL = Path("alerts.ndjson")
"""What `packetclip replay` writes where nothing else is said."""


def explain(
    alert: Annotated[
        str,
        typer.Argument(
            metavar="ID|FILE",
            help="Id of a document or an episode, or its beginning; or a file with one alert, - for standard input.",
        ),
    ],
    file: AlertsFile = None,
    config: SinkOf = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the document as it is.")] = False,
    pcap: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the evidence packets as a capture (pcapng), for Wireshark.")
    ] = None,
) -> None:
    """Show one alert, why, and what to do next.

    Concepts and graphs with their weights, the paths through the graph drawn as a tree, the packets that weigh most byte by
    byte, and the measured facts. Of an episode the newest document is shown. Then how often its source, pair and class were
    alerted before, and what to paste into Wireshark, Kibana, a shell beside Zeek's logs, or the file of suppression rules.
    docs/explanations.md says what the figures mean.

    \b
    Exit codes:
      0  printed
      2  no such alert or more than one (near ones are named), no such file, or the cluster refuses; no bytes for --pcap

    \b
    Examples:
      packetclip explain 4f1c2a --from alerts.ndjson
      packetclip explain 4f1c2a --pcap evidence.pcapng
      packetclip explain 4f1c2a9b0d3e5f60a1b2 --config /etc/packetclip/sensor.yaml
      packetclip explain alert-from-kibana.json --json
    """
    from packetclip_sensor.config import config_file as configs
    from packetclip_sensor.config.settings import Config
    from packetclip_sensor.model.bundle import manifest_of
    from packetclip_sensor.view import alert_view
    from packetclip_sensor.view.alert_reader import shown
    from packetclip_sensor.view.next_steps.capture import capture

    set_up_logs("warning")  # which go to standard error
    if file is not None and config is not None:
        raise ConfigError(f"--from {file} and --config {config} exclude each other; give one")
    settings = configs.load(config) if config else Config()
    document, seen, where = _found(alert, file, settings if config else None, as_json)
    if pcap is not None:
        made = capture(document)
        if not made:
            raise ConfigError(f"{shown(alert)} holds no bytes of packets; `evidence_bytes: masked` keeps them in later alerts")
        write_file(pcap, made)
    if as_json:
        # ASCII alone: what an attacker wrote must not become a command of the terminal here either.
        print(json.dumps(document, indent=2, ensure_ascii=True))
    else:
        alert_view.show(document, sys.stdout, manifest_of(settings.model_path).missions, seen, where)
    if pcap is not None:
        say(f"\nevidence packets -> {pcap}", file=sys.stderr if as_json else None)


def _found(alert: str, file: Path | None, settings: Config | None, alone: bool) -> tuple[Document, list[Seen], str]:
    """The one alert, from the file or the sink of the settings; what was seen before it, unless it is wanted alone; where."""
    from packetclip_sensor.elastic.streams import stream_name
    from packetclip_sensor.view import alert_reader
    from packetclip_sensor.view.next_steps import history

    if file is None and settings is None and (alert == "-" or Path(alert).is_file()):
        path = Path("/dev/stdin" if alert == "-" else alert)
        documents = alert_reader.read(path)
        document = alert_reader.only(documents, str(path))
        return document, history.before(document, documents), str(path)
    if file is None and ("/" in alert or alert.endswith((".json", ".ndjson"))):
        raise ConfigError(f"{alert_reader.shown(alert)}: no such file; give one that replay or run wrote, or an alert's id")
    if settings is not None:
        sink = settings.sink
        if (cluster := sink.cluster) is not None:
            document = alert_reader.stored_by_id(cluster, alert)
            return document, [] if alone else alert_reader.stored_before(cluster, document), stream_name(cluster.namespace)
        file = sink.ndjson.path if sink.ndjson else None
    if file is None and USUAL.is_file():
        file = USUAL
    if file is None:
        raise ConfigError(f"{alert_reader.shown(alert)} is no file, and to look for that id give --from FILE or --config FILE")
    documents = alert_reader.read(file)
    document = alert_reader.by_id(documents, alert, str(file))
    return document, history.before(document, documents), str(file)


def mark(
    alert: Annotated[str, typer.Argument(metavar="ID", help="Id of a document or an episode, or its beginning.")],
    true: Annotated[bool, typer.Option("--true/--false", help="It was an attack, or it was none.")],
    comment: Annotated[str, typer.Option(metavar="TEXT", help="Why; it becomes the comment of the rule.")] = "",
    file: AlertsFile = None,
    config: SinkOf = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Log in to the cluster as this user.")] = None,
    password_env: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="Environment variable with that user's password; asked for without it.")
    ] = None,
) -> None:
    """Say of an alert whether it was an attack.

    The verdict goes into the documents of its episode (packetclip.analyst), or for a file into FILE.marks.ndjson beside it.
    `packetclip calibrate` takes it up, `explain` shows it. For --false a rule is printed that would suppress the like of it.
    In a cluster the login needs `read` and `index` on the alerts, which neither the sensor's nor the reader's key has.

    \b
    Exit codes:
      0  marked
      2  no such alert or more than one, no such file, or the cluster refuses

    \b
    Examples:
      packetclip mark 4f1c2a --false --comment "backup of the file server, ticket 4711"
      packetclip mark 4f1c2a9b0d3e5f60a1b2 --true --config /etc/packetclip/sensor.yaml --user analyst
    """
    import getpass
    from datetime import UTC, datetime

    from packetclip_sensor.calibrate.marks import VERDICTS
    from packetclip_sensor.cli.setup import login
    from packetclip_sensor.config import config_file as configs
    from packetclip_sensor.elastic.client import connect
    from packetclip_sensor.view import alert_reader
    from packetclip_sensor.view.document_access import text

    set_up_logs("warning")
    if file is not None and config is not None:
        raise ConfigError(f"--from {file} and --config {config} exclude each other; give one")
    settings = configs.load(config) if config else None
    cluster, made = settings.sink.cluster if settings else None, datetime.now(UTC)
    analyst = {"verdict": VERDICTS[true], "marked": f"{made:%Y-%m-%dT%H:%M:%SZ}", "by": user or getpass.getuser()}
    analyst |= {"comment": printable(comment, 1000)} if comment else {}
    if cluster is not None:
        target, password = login(cluster, user, password_env)
        with connect(target) as plain:
            client = plain.options(basic_auth=(user, password)) if user else plain
            document = alert_reader.stored_by_id(target, alert, client)
            count = alert_reader.mark_stored(client, target, text(document, "packetclip.episode.id"), analyst)
        where = counted(count, "document")
    else:
        document, _, _ = _found(alert, file, settings, True)
        named = settings.sink.ndjson.path if settings and settings.sink.ndjson else Path(alert) if Path(alert).is_file() else None
        path = alert_reader.marks_beside(named or file or USUAL)
        where = str(path)
    document["packetclip"]["analyst"] = analyst
    if cluster is None:
        alert_reader.mark_in_file(path, document)
    say(f"{printable(text(document, 'message'), 200)}")
    say(f"marked as {analyst['verdict'].replace('_', ' ')} in {where}, episode {text(document, 'packetclip.episode.id')}")
    if not true:
        say("\nA rule for the file that policy.suppress names, if the like of it stays harmless:")
        for line in alert_reader.mark_of(document).rule(made.timestamp()).splitlines():
            say(f"  {printable(line, 200)}")
