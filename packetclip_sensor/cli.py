"""The command line: arguments, exit codes and what the user sees; the work is done by the modules that each command imports.

Heavy modules are imported inside the commands, so that `packetclip --help` answers at once.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from packetclip_sensor import __version__
from packetclip_sensor.errors import ConfigError, SensorError

if TYPE_CHECKING:
    from packetclip_sensor.config import Config
    from packetclip_sensor.pairs import Labels
    from packetclip_sensor.sources.units import Unit

DONE, FAILED, BAD_START = 0, 1, 2
API_KEY_ENV = "PACKETCLIP_API_KEY"
STOP_S = 10.0
"""Time that `run` gets to stop by itself."""

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

ConfigPath = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The sensor's YAML file.")]
Units = Annotated[list[Path], typer.Argument(metavar="PATH", help="Log folders, folders of them, log files or captures.")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 1 failed, 2 bad start."""
    try:
        app(args=argv, prog_name="packetclip")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED if end.code else DONE
    except SensorError as err:
        print(f"packetclip: {err}", file=sys.stderr)
        return BAD_START
    except KeyboardInterrupt:
        print("packetclip: stopped", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # What reads our output has gone, as in `packetclip replay ... | head`. Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return DONE


def _version(asked: bool) -> None:
    if asked:
        print(f"packetclip {__version__}")
        raise typer.Exit(DONE)


@app.callback()
def packetclip(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Few and explained alerts from the packet logs of a running Zeek.

    Exit codes of every command: 0 done, 1 failed on the way, 2 bad start (arguments, configuration, logs, model, rights).

    \b
    Examples:
      packetclip replay /opt/zeek/logs/current    judge finished logs and print the alerts
      packetclip init --out sensor.yaml           write a configuration with comments
      packetclip check --config sensor.yaml       say what is wrong with the set-up, and the remedy
      packetclip run --config sensor.yaml         follow the logs until stopped
    """


@app.command()
def run(config: ConfigPath) -> None:
    """Follow the logs and write alerts, until stopped.

    Ctrl-C and SIGTERM stop it cleanly. A restart goes on where the last acknowledged alert stands. What the sensor does is
    logged on standard error, one `interval` line a minute.

    \b
    Exit codes:
      0  stopped as asked
      1  failed on the way
      2  bad start: configuration, model, mapping, credentials, or another sensor has the same state folder

    \b
    Examples:
      packetclip run --config /etc/packetclip/sensor.yaml
    """
    from packetclip_sensor import config as configs
    from packetclip_sensor import logs, pipeline

    settings = configs.load(config)
    logs.set_up(settings.log_level)
    if not settings.logs:
        raise ConfigError(f"{config}: logs is empty; name Zeek's log folder, for example `logs: [/opt/zeek/logs/current]`")
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        # A sink that waits for its server does not look at `stop`. What is not acknowledged will be read again.
        last = threading.Timer(STOP_S, os._exit, (DONE,))
        last.daemon = True
        last.start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    pipeline.run(settings, stop)


@app.command()
def replay(
    paths: Units,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="NDJSON file for the alerts, - for standard output. [default: alerts.ndjson]"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Take model, policy, names and sink from here.")
    ] = None,
    elasticsearch: Annotated[
        str | None,
        typer.Option(metavar="URL", help=f"Write into this cluster; an API key is taken from the variable {API_KEY_ENV}."),
    ] = None,
) -> None:
    """Judge finished logs or captures.

    Writes the alerts and prints them as a table. Takes folders of logs, folders of such folders, log files (plain or
    .gz), and captures where Zeek is installed. Each capture
    or log folder is judged for itself. Alerts that the file or the cluster has already are not written twice.

    \b
    Exit codes:
      0  all read, whether there were alerts or not
      1  stopped or failed before the end
      2  bad start: nothing to read, configuration, model, sink

    \b
    Examples:
      packetclip replay /opt/zeek/logs/2025-10-09 --out alerts.ndjson
      packetclip replay office.pcap
      packetclip replay logs/ --elasticsearch http://127.0.0.1:9200
      packetclip replay logs/ --out - | jq .event.reason
    """
    from packetclip_sensor import logs, pipeline
    from packetclip_sensor.terminal import Episodes, progress, summary

    settings = _replay_settings(out, config, elasticsearch)
    logs.set_up("warning" if config is None else settings.log_level)
    units = _discover(paths)
    episodes = Episodes()
    to_stdout = settings.sink.ndjson is None and settings.sink.elasticsearch is None
    with _sigterm_as_interrupt(), progress(len(units)) as shown:

        def begin(name: str) -> None:
            shown.unit(name)
            episodes.begin(name)

        counters = pipeline.replay(_opened(units, begin), settings, on_alert=episodes.add, on_packets=shown.packets)
    where = elasticsearch or (os.path.relpath(settings.sink.ndjson.path) if settings.sink.ndjson else "")
    summary(episodes, counters, where=where, file=sys.stderr if to_stdout else sys.stdout)


@app.command()
def pairs(
    paths: Units,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Parquet file to write.")] = Path("pairs.parquet"),
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="labels.json of all paths. [default: the one beside each unit's logs]"),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Label of every window of a unit without labels, for example Benign.")
    ] = None,
) -> None:
    """Write text/packet pairs for training.

    One row per packet window with text, label and tokens; docs/pairs.md names every column with its unit. Windows that
    mix attack and other packets have no label.

    \b
    Exit codes:
      0  written
      1  stopped or failed before the end
      2  bad start: nothing to read, a labels file that is not one

    \b
    Examples:
      packetclip pairs tests/data --out pairs.parquet
      packetclip pairs office.pcap --label Benign --out benign.parquet
    """
    from packetclip_sensor import logs
    from packetclip_sensor import pairs as module
    from packetclip_sensor.metrics import Counters
    from packetclip_sensor.records import CLASS_MISSION
    from packetclip_sensor.rejects import Rejects
    from packetclip_sensor.schema import suggestion
    from packetclip_sensor.sources import tail, zeek
    from packetclip_sensor.terminal import progress
    from packetclip_sensor.windows import Window

    if label is not None and label not in CLASS_MISSION:
        raise ConfigError(
            f"--label {label!r}: no such class{suggestion(label, CLASS_MISSION)}; classes: {', '.join(CLASS_MISSION)}"
        )
    logs.set_up("warning")
    units = _discover(paths)
    given = module.Labels.load(labels) if labels else None
    counters = Counters()
    with _sigterm_as_interrupt(), progress(len(units)) as shown, Rejects(None) as rejects:
        opened = zip(units, _opened(units, shown.unit), strict=True)
        rows = module.write(
            (
                (unit.name, zeek.batches(tail.finite(logs_), rejects, counters), given or _labels_beside(unit))
                for unit, logs_ in opened
            ),
            out,
            Window(),
            label=label,
            counters=counters,
        )
    print(f"{rows:,} pairs of {counters.packets:,} packets in {len(units)} captures -> {out}")
    if counters.rejects:
        print(f"{counters.rejects:,} lines could not be read", file=sys.stderr)


@app.command()
def check(config: ConfigPath) -> None:
    """Say what is wrong with the set-up.

    Configuration, logs, Zeek package, model and sink: a line each, with the remedy.

    \b
    Exit codes:
      0  all well
      1  something is wrong, as printed
      2  the configuration cannot be read

    \b
    Examples:
      packetclip check --config /etc/packetclip/sensor.yaml
    """
    from packetclip_sensor import check as checks
    from packetclip_sensor import config as configs
    from packetclip_sensor import logs

    settings = configs.load(config)
    logs.set_up("error")
    raise typer.Exit(DONE if checks.report(settings, config, sys.stdout) else FAILED)


@app.command()
def resend(config: ConfigPath) -> None:
    """Send refused documents to Elasticsearch again.

    Takes what Elasticsearch refused (`dead_letter_path`), say after a mapping or the rights were mended. What is refused again
    is kept again.

    \b
    Exit codes:
      0  all sent, or nothing to send
      1  some were refused again
      2  bad start: configuration, credentials

    \b
    Examples:
      packetclip resend --config /etc/packetclip/sensor.yaml
    """
    from packetclip_sensor import config as configs
    from packetclip_sensor import logs
    from packetclip_sensor.metrics import Counters
    from packetclip_sensor.sinks import elasticsearch as sink

    settings = configs.load(config)
    logs.set_up(settings.log_level)
    if settings.sink.elasticsearch is None:
        raise ConfigError(f"{config}: sink is no Elasticsearch, so nothing was refused; name the configuration of that sensor")
    counters = Counters()
    read = sink.resend(settings.sink.elasticsearch, counters)
    print(f"{read:,} documents read, {counters.dead_letters:,} refused again")
    raise typer.Exit(FAILED if counters.dead_letters else DONE)


@app.command()
def init(
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to write, - for standard output.")] = Path("sensor.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a configuration with comments.

    \b
    Exit codes:
      0  written
      2  the file is there already, or cannot be written

    \b
    Examples:
      packetclip init --out /etc/packetclip/sensor.yaml
    """
    from packetclip_sensor import config as configs

    text = configs.commented(configs.first_settings())
    if str(out) == "-":
        print(text, end="")
        return
    try:
        with out.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as err:
        raise ConfigError(f"{out} exists; name another file, or replace it with --force") from err
    except OSError as err:
        raise ConfigError(f"{out}: cannot be written: {err.strerror}; name a file that you may write") from err
    print(f"{out} written; look at `logs` and `sink` in it, then: packetclip check --config {out}")


@app.command()
def zeek_scripts() -> None:
    """Print the folder of the Zeek package.

    For copying it into Zeek's site folder where there is no zkg.

    \b
    Exit codes:
      0  printed
      2  the installation is incomplete

    \b
    Examples:
      packetclip zeek-scripts
      cp -r "$(packetclip zeek-scripts)" "$(zeek-config --site_dir)/packetclip"
    """
    from packetclip_sensor.resources import resource

    print(resource("zeek_scripts"))


@app.command()
def report(
    alerts: Annotated[Path, typer.Argument(metavar="ALERTS", help="NDJSON file that replay or run wrote.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("report.html"),
    title: Annotated[str, typer.Option(metavar="TEXT", help="Headline of the page.")] = "Network alerts",
) -> None:
    """Make one HTML page from alerts.

    Timeline, table, and for each alert why the model says so. The page loads nothing, sends nothing and runs no script;
    it can be mailed and archived.

    \b
    Exit codes:
      0  written
      2  no such file, no alert documents in it, or the page cannot be written

    \b
    Examples:
      packetclip report alerts.ndjson --out report.html
    """
    from packetclip_sensor import report as reports

    page = reports.page(reports.read(alerts), title=title)
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as err:
        raise ConfigError(f"{out}: cannot be written: {err.strerror}; name a file that you may write") from err
    print(f"{out} written ({len(page.encode()) / 1e6:.1f} MB)")


def _replay_settings(out: Path | None, config: Path | None, url: str | None) -> Config:
    from packetclip_sensor import config as configs

    if out is not None and url is not None:
        raise ConfigError(f"--out {out} and --elasticsearch {url} exclude each other; give one")
    settings = configs.load(config) if config else configs.Config()
    here = Path.cwd()
    if url is not None:
        from packetclip_sensor.sinks.cluster import ElasticsearchConfig

        key = API_KEY_ENV if os.environ.get(API_KEY_ENV) else None
        sink = configs.SinkConfig(elasticsearch=ElasticsearchConfig(hosts=[url], api_key_env=key))
    elif out is not None or config is None:
        file = out or Path("alerts.ndjson")
        sink = configs.SinkConfig(ndjson=None if str(file) == "-" else configs.NdjsonConfig(path=file))
    else:
        return settings
    return configs.with_sink(settings, sink, here)


def _discover(paths: Sequence[Path]) -> list[Unit]:
    from packetclip_sensor.sources import units

    return [unit for path in paths for unit in units.discover(path)]


def _opened(units: Sequence[Unit], begin: Callable[[str], None]) -> Iterator[Sequence[Path]]:
    """The log paths of each unit, one after another; a capture goes through Zeek when its turn comes."""
    for unit in units:
        begin(unit.name)
        if unit.kind == "logs":
            yield unit.paths
            continue
        from packetclip_sensor.sources import pcap

        with tempfile.TemporaryDirectory(prefix="packetclip-") as folder:
            yield (pcap.logs_of(unit.paths[0], Path(folder)),)


def _labels_beside(unit: Unit) -> Labels | None:
    from packetclip_sensor.pairs import Labels

    folder = unit.paths[0] if unit.paths[0].is_dir() else unit.paths[0].parent
    file = folder / "labels.json"
    return Labels.load(file) if file.is_file() else None


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
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
