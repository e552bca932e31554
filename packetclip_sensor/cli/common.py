"""What several commands share: exit codes, argument types, finding and opening what a path holds."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from packetclip_sensor.common import time_parsing
from packetclip_sensor.common.resources import resource
from packetclip_sensor.errors import ConfigError

if TYPE_CHECKING:
    from packetclip_sensor.config.settings import ElasticsearchConfig
    from packetclip_sensor.pairs.labels import Labels
    from packetclip_sensor.sources.discovery import Unit

DONE, FAILED, BAD_START = 0, 1, 2
API_KEY_ENV = "PACKETCLIP_API_KEY"

ConfigPath = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The sensor's YAML file.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="FILE", help="The sensor's YAML file: cluster, names, policy and model.")
]
ClusterUrl = Annotated[
    str | None,
    typer.Option("--elasticsearch", metavar="URL", help=f"This cluster; an API key is taken from the variable {API_KEY_ENV}."),
]
Since = Annotated[str | None, typer.Option(metavar="TIME", help=f"Only from this time on: {time_parsing.HELP}")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Only before this time, written the same way.")]
Units = Annotated[list[Path], typer.Argument(metavar="PATH", help="Log folders, folders of them, log files or captures.")]


def set_up_logs(level: str) -> None:
    """Send every structlog event of `level` ("debug" to "error") and above to standard error, one line each."""
    import logging

    import structlog

    terminal = sys.stderr.isatty()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if terminal:
        shared.append(structlog.dev.ConsoleRenderer())
    else:
        shared += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # Not structlog's default standard output: that belongs to alerts.
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Libraries that log the ordinary way (elastic_transport) say every retry; the sinks already do.
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, format="%(message)s")


def missions_of_the_sensor() -> str:
    """The missions of the model that comes with the sensor, for the help of an option; a `--config` may name another model."""
    try:
        manifest = json.loads((resource("model/shipped") / "manifest.json").read_bytes())
        names = [mission["name"] for mission in manifest["missions"]]
    except (ConfigError, OSError, ValueError, LookupError, TypeError):
        return "as the model names it"  # who asks for help gets help; the command tells what is wrong
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]


def cluster_at(url: str) -> ElasticsearchConfig:
    """Settings for a cluster named on the command line."""
    from packetclip_sensor.config.settings import ElasticsearchConfig

    return ElasticsearchConfig(hosts=[url], api_key_env=API_KEY_ENV if os.environ.get(API_KEY_ENV) else None)


def discover(paths: Sequence[Path]) -> list[Unit]:
    """The units in `paths`. Where there are captures among them, standard error is told what reads them."""
    from packetclip_sensor.sources import discovery

    units = [unit for path in paths for unit in discovery.discover(path)]
    if any(unit.kind == "pcap" for unit in units):
        from packetclip_sensor.sources import pcap

        if (reader := pcap.reader()) is not None:
            print(f"captures are read by {reader}", file=sys.stderr)
    return units


def opened(units: Sequence[Unit], begin: Callable[[str], None]) -> Iterator[Sequence[Path]]:
    """The log paths of each unit, one after another; a capture goes through Zeek, or else Suricata, when its turn comes."""
    for unit in units:
        begin(unit.name)
        if unit.kind == "logs":
            yield unit.paths
            continue
        from packetclip_sensor.sources import pcap

        with tempfile.TemporaryDirectory(prefix="packetclip-") as folder:
            yield (pcap.logs_of(unit.paths[0], Path(folder)),)


def labels_beside(unit: Unit, classes: Collection[str] = ()) -> Labels | None:
    """The labels file beside a unit's logs, whose labels must be of `classes` where any are named."""
    from packetclip_sensor.pairs.labels import Labels

    folder = unit.paths[0] if unit.paths[0].is_dir() else unit.paths[0].parent
    file = folder / "labels.json"
    return Labels.load(file, classes) if file.is_file() else None


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends a finite command as Ctrl-C does, so that files are closed and temporary folders go."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
