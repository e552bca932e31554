"""The commands for finished logs and what comes of them: replay, pairs and report."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from packetclip_sensor.cli.common import (
    CUTS,
    ClusterUrl,
    ConfigFile,
    Cuts,
    Scheduler,
    Since,
    Units,
    Until,
    Workers,
    cluster_at,
    discover,
    in_cuts,
    judged_by_workers,
    labels_beside,
    labels_file,
    missions_of_the_sensor,
    opened,
    set_up_logs,
    sigterm_as_interrupt,
    tell_unread,
    write_file,
)
from packetclip_sensor.common.text import say
from packetclip_sensor.errors import ConfigError, LogFormatError, SensorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from packetclip_sensor.config.settings import Config
    from packetclip_sensor.pairs.labels import Labels
    from packetclip_sensor.records import Batch
    from packetclip_sensor.scale.judged import How
    from packetclip_sensor.sources.discovery import Unit


def replay(
    paths: Units,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="NDJSON file for the alerts, - for standard output. [default: alerts.ndjson]"),
    ] = None,
    config: ConfigFile = None,
    elasticsearch: ClusterUrl = None,
    other_alerts: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Zeek's notice.log or Suricata's eve.json, whose alerts ours shall name; repeatable. [default: as in --config]",
            show_default=False,
        ),
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    cuts: Cuts = CUTS,
) -> None:
    """Judge finished logs or captures.

    Writes the alerts and prints them as a table. Takes folders of logs, folders of such folders, log files, and captures where
    Zeek or Suricata is installed, all plain or packed (.gz, .xz, .bz2, .zst). Each capture or log folder is judged for itself;
    captures of one folder that follow each other in time and differ in name by their numbers alone (tcpdump -G and -C) are one.
    What cannot be read is named at the end. Alerts that the file or the cluster has already are not written twice.

    \b
    Exit codes:
      0  all read, whether there were alerts or not
      1  something could not be read, as printed; or stopped or failed before the end
      2  bad start: nothing to read, configuration, model, sink

    \b
    Examples:
      packetclip replay /opt/zeek/logs/2025-10-09 --out alerts.ndjson
      packetclip replay office.pcap
      packetclip replay logs/ --elasticsearch http://127.0.0.1:9200
      packetclip replay logs/ --out - | jq .event.reason
      packetclip replay /opt/zeek/logs --workers 16
    """
    from msgspec.structs import replace

    from packetclip_sensor import pipeline
    from packetclip_sensor.common.rejects import Rejects
    from packetclip_sensor.config.settings import SinkConfig
    from packetclip_sensor.model.bundle import Bundle, manifest_of
    from packetclip_sensor.view.terminal import Episodes, progress, summary

    settings = _replay_settings(out, config, elasticsearch)
    if other_alerts:
        settings = replace(settings, other_alerts=tuple(other_alerts))
    set_up_logs("warning" if config is None else settings.log_level)
    units, passed = discover(paths)
    episodes = Episodes(manifest_of(settings.model_path).missions)
    to_stdout = settings.sink == SinkConfig()
    rejects = Rejects(settings.rejects_path)

    if (workers or scheduler) and settings.hunt.enabled:
        raise ConfigError("hunt.enabled: workers keep no samples for hunting; switch it off, or replay without workers")

    def how(_: Unit) -> How:
        from packetclip_sensor.scale.judged import How

        return How.of(Bundle.open(settings.model_path), settings)

    to = (workers, scheduler)
    with (
        sigterm_as_interrupt(),
        judged_by_workers(units, how, settings.model_path, settings.lateness_s, cuts, to) as found,
        progress(len(units)) as shown,
    ):

        def logs() -> Iterator[Sequence[Path]]:
            for unit, logs_ in opened(units, shown.unit, passed):
                episodes.begin(unit.name)
                yield logs_

        def failed(err: SensorError) -> None:
            passed.unread.append(err)
            episodes.unread()

        counters = pipeline.replay(
            logs(), settings, rejects=rejects, on_alert=episodes.add, on_packets=shown.packets, on_unread=failed, found=found
        )
    where = elasticsearch or (os.path.relpath(settings.sink.ndjson.path) if settings.sink.ndjson else "")
    summary(episodes, counters, where=where, file=sys.stderr if to_stdout else sys.stdout)
    raise typer.Exit(tell_unread(passed, rejects))


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
    new_class: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS", help="Label that the model does not know yet (docs/missions.md); repeatable."),
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Write text/packet pairs for training.

    One row per packet window with text, label and tokens; docs/pairs.md names every column with its unit. Windows that
    mix attack and other packets have no label. Needs pip install '.[pairs]' in a clone.
    With --workers or --scheduler --out is a folder: one file for each half hour of a unit. What is there is not made again.

    \b
    Exit codes:
      0  written
      1  something could not be read, as printed; or stopped or failed before the end
      2  bad start: nothing to read, a labels file that is not one, pyarrow is not installed

    \b
    Examples:
      packetclip pairs tests/data --out pairs.parquet
      packetclip pairs office.pcap --label Benign --out benign.parquet
      packetclip pairs /opt/zeek/logs --label Benign --out benign --workers 16
    """
    from packetclip_sensor.common.metrics import Counters
    from packetclip_sensor.common.rejects import Rejects
    from packetclip_sensor.common.text import counted
    from packetclip_sensor.config.schema import suggestion
    from packetclip_sensor.config.settings import Config
    from packetclip_sensor.model.bundle import manifest_of
    from packetclip_sensor.normalize.normalizer import normalized
    from packetclip_sensor.pairs.labels import Labels
    from packetclip_sensor.pairs.parquet import write_pairs
    from packetclip_sensor.sources import tail, zeek
    from packetclip_sensor.view.terminal import progress
    from packetclip_sensor.windows.windows import TRAINED

    classes = (*manifest_of(Config().model_path).missions.classes, *(new_class or ()))
    if label is not None and label not in classes:
        raise ConfigError(f"--label {label!r}: no such class{suggestion(label, classes)}; classes: {', '.join(classes)}")
    set_up_logs("warning")
    units, passed = discover(paths)
    given = Labels.load(labels, classes) if labels else None
    counters, rejects, read = Counters(), Rejects(None), 0

    def labelled() -> Iterator[tuple[str, Iterable[Batch], Labels | None]]:
        nonlocal read
        for unit, logs in opened(units, shown.unit, passed):
            try:
                blocks = tail.finite(logs, rejects=rejects)
            except LogFormatError as err:
                passed.unread.append(err)
                continue
            read += 1
            batches = normalized(zeek.batches(blocks, rejects, counters), counters, rejects)
            yield unit.name, batches, given or labels_beside(unit, classes)

    if workers or scheduler:
        from packetclip_sensor.scale import cluster
        from packetclip_sensor.scale.pairs import write_cuts

        with sigterm_as_interrupt(), cluster.workers(workers, scheduler) as running:
            cut = [(one, labels or labels_file(unit)) for unit, some in in_cuts(units, passed, TRAINED.seconds) for one in some]
            with progress(len(cut)) as shown:
                made = write_cuts(running, cut, out, classes, label, on_done=shown.unit, on_unread=passed.unread.append)
        read = len({one.paths for one, _ in cut})
        counters.packets, rejects.count, rejects.first = made.packets, made.rejects, made.first
        rows = made.rows
    else:
        with sigterm_as_interrupt(), progress(len(units)) as shown:
            rows = write_pairs(labelled(), out, TRAINED, label=label, counters=counters)
    say("pairs hold packet bytes as they were, passwords too: the file is for its owner and group alone (mode 0640)")
    say(f"{rows:,} pairs of {counters.packets:,} packets in {counted(read, 'capture')} -> {out}")
    raise typer.Exit(tell_unread(passed, rejects))


def report(
    alerts: Annotated[
        Path | None,
        typer.Argument(metavar="ALERTS", help="NDJSON file that replay or run wrote; none with --from-elasticsearch."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = Path("report.html"),
    title: Annotated[str, typer.Option(metavar="TEXT", help="Headline of the page.")] = "Network alerts",
    from_elasticsearch: Annotated[
        bool, typer.Option("--from-elasticsearch", help="Take the alerts from the cluster of the configuration.")
    ] = False,
    config: ConfigFile = None,
    since: Since = None,
    until: Until = None,
    mission: Annotated[str | None, typer.Option(metavar="NAME", help=f"Only this mission: {missions_of_the_sensor()}.")] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="At most so many episodes, the newest.")] = 5000,
    uid_link: Annotated[
        str | None, typer.Option(metavar="URL", help="Address with {uid} in it, to link every Zeek uid, say into your Kibana.")
    ] = None,
    navigator: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the techniques as a layer of MITRE's ATT&CK Navigator.")
    ] = None,
    stix: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the episodes as a STIX 2.1 bundle.")] = None,
) -> None:
    """Make one HTML page from alerts.

    Timeline, table that sorts and filters, and for each alert why the model says so: concepts, paths through the knowledge
    graph, packets byte by byte, facts. The page loads nothing and sends nothing; it can be mailed and archived.

    \b
    Exit codes:
      0  written
      2  no such file or data stream, no alert in it, or the page cannot be written

    \b
    Examples:
      packetclip report alerts.ndjson --out report.html
      packetclip report --from-elasticsearch --config sensor.yaml --since 24h
      packetclip report alerts.ndjson --navigator layer.json --stix bundle.json
      packetclip report alerts.ndjson --mission DoS --uid-link "https://kibana.example.org/app/discover#/?_a=(query:(query:'{uid}'))"
    """
    import msgspec

    from packetclip_sensor.config import config_file as configs
    from packetclip_sensor.config.schema import suggestion
    from packetclip_sensor.config.settings import Config
    from packetclip_sensor.model.bundle import manifest_of
    from packetclip_sensor.view import report as reports
    from packetclip_sensor.view.exchange.navigator import layer
    from packetclip_sensor.view.exchange.stix import bundle

    set_up_logs("warning")
    settings = configs.load(config) if config else None
    model = (settings or Config()).model_path
    missions = manifest_of(model).missions
    if mission is not None and mission not in missions:
        raise ConfigError(
            f"--mission {mission!r}: no such mission{suggestion(mission, missions.names)}; missions: {', '.join(missions.names)}"
        )
    documents = _documents(alerts, from_elasticsearch, config, settings, since=since, until=until, mission=mission, limit=limit)
    page = reports.page(documents, title=title, model=model, uid_link=uid_link).encode()
    written = [(out, page)]
    written += [
        (file, msgspec.json.encode(form(documents, title))) for file, form in ((navigator, layer), (stix, bundle)) if file
    ]
    for path, made in written:
        write_file(path, made)
        size = len(made)
        say(f"{path} written ({size / 1e6:.1f} MB)" if size >= 1e6 else f"{path} written ({size / 1e3:.0f} kB)")


def _documents(
    file: Path | None,
    from_elasticsearch: bool,
    config: Path | None,
    settings: Config | None,
    *,
    since: str | None,
    until: str | None,
    mission: str | None,
    limit: int,
) -> list[dict[str, Any]]:
    """The documents that a report is made of."""
    from packetclip_sensor.view import alert_reader as stored

    if from_elasticsearch == (file is not None):
        raise ConfigError("give either a file of alerts or --from-elasticsearch")
    if file is not None:
        return stored.newest(stored.read(file), since=since, until=until, mission=mission, limit=limit, where=str(file))
    if settings is None:
        raise ConfigError("--from-elasticsearch needs --config FILE, which names the cluster and how to log in")
    sink = settings.sink.cluster
    if sink is None:
        raise ConfigError(f"{config}: sink is no Elasticsearch; give the NDJSON file as argument instead")
    return stored.stored(sink, since=since, until=until, mission=mission, limit=limit)


def _replay_settings(out: Path | None, config: Path | None, url: str | None) -> Config:
    from packetclip_sensor.config import config_file as configs
    from packetclip_sensor.config.settings import Config, NdjsonConfig, SinkConfig

    target = None if url is None else cluster_at(url)
    if out is not None and url is not None:
        raise ConfigError(f"--out {out} and --elasticsearch {url} exclude each other; give one")
    settings = configs.load(config) if config else Config()
    here = Path.cwd()
    if target is not None:
        sink = SinkConfig(elasticsearch=target)
    elif out is not None or config is None:
        file = out or Path("alerts.ndjson")
        sink = SinkConfig(ndjson=None if str(file) == "-" else NdjsonConfig(path=file))
    else:
        return settings
    return configs.with_sink(settings, sink, here)
