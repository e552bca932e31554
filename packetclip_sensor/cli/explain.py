"""The command that shows one alert."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from packetclip_sensor.cli.common import set_up_logs
from packetclip_sensor.errors import ConfigError

if TYPE_CHECKING:
    from packetclip_sensor.config.settings import Config

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
    file: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="NDJSON file to look in. [default: alerts.ndjson, if it is here]"),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Look in the sink of this configuration: file or cluster."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the document as it is.")] = False,
) -> None:
    """Print one alert and why the model says so.

    Concepts and graphs with their weights, the paths through the graph drawn as a tree, the packets that weigh most byte by
    byte, and the measured facts. Of an episode the newest document is shown. docs/explanations.md says what the figures mean.

    \b
    Exit codes:
      0  printed
      2  no such alert or more than one (near ones are named), no such file, or the cluster refuses

    \b
    Examples:
      packetclip explain 4f1c2a --from alerts.ndjson
      packetclip explain 4f1c2a9b0d3e5f60a1b2 --config /etc/packetclip/sensor.yaml
      packetclip explain alert-from-kibana.json --json
    """
    from packetclip_sensor.config import config_file as configs
    from packetclip_sensor.config.settings import Config
    from packetclip_sensor.model.bundle import manifest_of
    from packetclip_sensor.view import alert_view

    set_up_logs("warning")  # which go to standard error
    if file is not None and config is not None:
        raise ConfigError(f"--from {file} and --config {config} exclude each other; give one")
    settings = configs.load(config) if config else Config()
    document = _document(alert, file, settings if config else None)
    if as_json:
        # ASCII alone: what an attacker wrote must not become a command of the terminal here either.
        print(json.dumps(document, indent=2, ensure_ascii=True))
    else:
        alert_view.show(document, sys.stdout, manifest_of(settings.model_path).missions)


def _document(alert: str, file: Path | None, settings: Config | None) -> dict[str, Any]:
    """The one alert, from the file or from the sink of the settings."""
    from packetclip_sensor.view import alert_reader

    if file is None and settings is None and (alert == "-" or Path(alert).is_file()):
        path = Path("/dev/stdin" if alert == "-" else alert)
        return alert_reader.only(alert_reader.read(path), str(path))
    if file is None and ("/" in alert or alert.endswith((".json", ".ndjson"))):
        raise ConfigError(f"{alert_reader.shown(alert)}: no such file; give one that replay or run wrote, or an alert's id")
    if settings is not None:
        sink = settings.sink
        if sink.cluster is not None:
            return alert_reader.stored_by_id(sink.cluster, alert)
        file = sink.ndjson.path if sink.ndjson else None
    if file is None and USUAL.is_file():
        file = USUAL
    if file is None:
        raise ConfigError(f"{alert_reader.shown(alert)} is no file, and to look for that id give --from FILE or --config FILE")
    return alert_reader.by_id(alert_reader.read(file), alert, str(file))
