"""What several commands share: exit codes, argument types, finding and opening what a path holds."""

from __future__ import annotations

import json
import os
import re
import shutil
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
import typer.core

from packetclip_sensor.common import text, time_parsing
from packetclip_sensor.common.resources import resource
from packetclip_sensor.errors import ConfigError, LogFormatError

if TYPE_CHECKING:
    from packetclip_sensor.common.rejects import Rejects
    from packetclip_sensor.config.settings import ElasticsearchConfig
    from packetclip_sensor.pairs.labels import Labels
    from packetclip_sensor.scale.cuts import Cut
    from packetclip_sensor.scale.judged import FoundWindows, How
    from packetclip_sensor.sources.discovery import PassedOver, Unit

DONE, FAILED, BAD_START = 0, 1, 2
LISTED = 50
"""Things named one by one that could not be read."""
HELP_COLUMNS = 110
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
Workers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", min=1, help="Read by N processes of this machine; needs the extra [scale]."),
]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="ADDRESS", help="Read by the workers of this Dask scheduler, which see the same files."),
]
Cuts = Annotated[
    Path,
    typer.Option("--cuts", metavar="DIR", help="Folder of what workers found in each cut; a rerun goes on."),
]
CUTS = Path("packetclip.cuts")
Units = Annotated[list[Path], typer.Argument(metavar="PATH", help="Log folders, folders of them, log files or captures.")]


class _Narrow:
    """Help whose lines fit the terminal: what stands as it is (exit codes, examples) is broken between words too."""

    def get_help(self, ctx: Any) -> str:
        """As click's."""
        found: str = super().get_help(ctx)  # type: ignore[misc]
        return "\n".join(_fitted(line, min(shutil.get_terminal_size().columns, HELP_COLUMNS)) for line in found.split("\n"))


class Command(_Narrow, typer.core.TyperCommand):
    """A command of ours."""


class Group(_Narrow, typer.core.TyperGroup):
    """The program, or a command with commands of its own."""


def _fitted(line: str, width: int) -> str:
    """A line of help: words behind a gap go on below themselves, a command goes on behind a backslash, as a shell takes it."""
    before = re.match(r" *\S.*?  +(?=\S)", line)
    if len(line) <= width:
        return line
    if before and len(before[0]) + text.LEAST_COLUMNS <= width:
        return text.filled(line, width, len(before[0]))
    if before:
        return f"{before[0].rstrip()}\n{text.filled(' ' * 8 + line[len(before[0]) :], width, 8)}"
    whole = re.sub('"[^"]*"', lambda quoted: quoted[0].replace(" ", "\xa0"), line)  # no shell joins what is broken in quotes
    return text.filled(whole, width - 2, 8).replace("\n", " \\\n").replace("\xa0", " ")


def set_up_logs(level: str) -> None:
    """Send every structlog event of `level` ("debug" to "error") and above to standard error, one line each."""
    import logging

    import structlog

    class Clean(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return text.printable_lines(super().format(record))

    def clean(_: object, __: str, event: Any) -> Any:
        trace = event.pop("exception", None)
        return text.clean(event) | ({} if trace is None else {"exception": text.printable_lines(trace)})

    # Plain tracebacks on a terminal too: rich's would show the values of local variables, secrets among them.
    renderer: Any = structlog.processors.JSONRenderer()
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        clean,
        renderer,
    ]
    structlog.configure(
        processors=shared,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # Not structlog's default standard output: that belongs to alerts.
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Libraries that log the ordinary way (elastic_transport) say every retry; the sinks already do.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Clean("%(message)s"))
    logging.basicConfig(level=logging.ERROR, handlers=[handler])


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
    from packetclip_sensor.config.settings import ElasticsearchConfig, check_hosts

    check_hosts([url], "--elasticsearch")
    return ElasticsearchConfig(hosts=[url], api_key_env=API_KEY_ENV if os.environ.get(API_KEY_ENV) else None)


def discover(paths: Sequence[Path]) -> tuple[list[Unit], PassedOver]:
    """What the paths hold, and what of it is left out. Where there are captures, standard error is told what reads them."""
    from packetclip_sensor.sources import discovery

    units, passed = discovery.discover_all(paths)
    if any(unit.kind == "pcap" for unit in units):
        from packetclip_sensor.sources import pcap

        if (reader := pcap.reader()) is not None:
            text.say(f"captures are read by {reader}", file=sys.stderr)
    return units, passed


def opened(units: Sequence[Unit], begin: Callable[[str], None], passed: PassedOver) -> Iterator[tuple[Unit, Sequence[Path]]]:
    """Each unit and its log paths, one after another; a capture goes through Zeek, or else Suricata, when its turn comes.

    One that cannot be read, or not to its end, ends nothing: `passed` is told.

    Raises:
        ConfigError: there are captures alone, and neither Zeek nor Suricata.
    """
    for unit in units:
        begin(unit.name)
        if unit.kind == "logs":
            yield unit, unit.paths
            continue
        from packetclip_sensor.sources import pcap

        with tempfile.TemporaryDirectory(prefix="packetclip-") as folder:
            try:
                made = pcap.logs_of(unit.paths, Path(folder))
            except LogFormatError as err:
                passed.unread.append(err)
                continue
            except ConfigError as err:
                if all(unit.kind == "pcap" for unit in units):
                    raise
                passed.unread.append(err)
                continue
            if made.problem:
                passed.unread.append(LogFormatError(f"{made.problem}; what could be read is judged"))
            yield unit, (made.folder,)


def in_cuts(
    units: Sequence[Unit], passed: PassedOver, memory_s: float, lateness_s: float = 0.0
) -> Iterator[tuple[Unit, list[Cut]]]:
    """Each unit with its cuts, for workers; of one that cannot be read `passed` is told."""
    from packetclip_sensor.scale.cuts import cuts_of
    from packetclip_sensor.view.terminal import progress

    with progress(len(units)) as shown:
        for unit in units:
            shown.unit(unit.name)
            try:
                yield unit, cuts_of(unit, memory_s=memory_s, lateness_s=lateness_s)
            except LogFormatError as err:
                passed.unread.append(err)


@contextmanager
def judged_by_workers(
    units: Sequence[Unit],
    how: Callable[[Unit], How],
    model: Path,
    lateness_s: float,
    cuts: Path,
    to: tuple[int | None, str | None],
) -> Iterator[Callable[[Sequence[Path]], FoundWindows | None]]:
    """Have the logs of units judged in cuts, and say of a unit's paths what was found: None of captures, and of units whose clock
    was set back, which one process judges, and of all where `to` names neither a number of workers nor a scheduler."""
    if to == (None, None):
        yield lambda paths: None
        return
    from packetclip_sensor.model.bundle import manifest_of
    from packetclip_sensor.scale import cluster, judged
    from packetclip_sensor.scale.cuts import folder_of_cuts
    from packetclip_sensor.sources.discovery import PassedOver

    folder_of_cuts(cuts, "--cuts")
    logs = [unit for unit in units if unit.kind == "logs"]
    with cluster.workers(*to) as client:
        planned = in_cuts(logs, PassedOver(), manifest_of(model).window.seconds, lateness_s)
        found = {unit.paths: judged.found_in(client, some, cuts, how(unit)) for unit, some in planned}
        yield lambda paths: found.get(tuple(paths))


def tell_unread(passed: PassedOver, rejects: Rejects) -> int:
    """Say on standard error what was left out and what could not be read; returns the exit code."""
    from packetclip_sensor.common.text import counted, printable

    def say(words: str) -> None:
        print(f"packetclip: {printable(words, 1000)}", file=sys.stderr)

    if origins := passed.origins:
        names = f"{origins[0]}{f' and {len(origins) - 1:,} more captures' * (len(origins) > 1)}"
        say(f"left out since the logs beside were made from it: {names}; give a capture by its own path to judge it again")
    for err in passed.unread[:LISTED]:
        say(str(err))
    if len(passed.unread) > LISTED:
        say(f"and {len(passed.unread) - LISTED:,} more could not be read")
    if rejects.count:
        file = f"{rejects.path} has them" if rejects.path else "`rejects_path` in a --config names a file that gets them"
        say(f"{counted(rejects.count, 'line')} could not be read, the first in {rejects.first}; {file}")
    return FAILED if passed.unread or rejects.count else DONE


def labels_file(unit: Unit) -> Path | None:
    """The labels file beside a unit's logs."""
    folder = unit.paths[0] if unit.paths[0].is_dir() else unit.paths[0].parent
    file = folder / "labels.json"
    return file if file.is_file() else None


def labels_beside(unit: Unit, classes: Collection[str] = ()) -> Labels | None:
    """The labels beside a unit's logs, which must be of `classes` where any are named."""
    from packetclip_sensor.pairs.labels import Labels

    file = labels_file(unit)
    return Labels.load(file, classes) if file else None


def write_file(path: Path, made: bytes) -> None:
    """Write a file that the user named, for its owner and group alone; what is there is replaced.

    Raises:
        ConfigError: it cannot be written.
    """
    from packetclip_sensor.common import durable

    try:
        with os.fdopen(durable.opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as opened_:
            opened_.write(made)
    except OSError as err:
        raise ConfigError(f"{path}: cannot be written: {err.strerror}; name a file that you may write") from err


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
