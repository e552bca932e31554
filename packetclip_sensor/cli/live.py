"""The commands of a running sensor: run, check, redeliver, init, systemd-unit, zeek-scripts and suricata-scripts."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType, ModuleType
from typing import Annotated, Literal

import typer

from packetclip_sensor.cli.common import DONE, FAILED, ConfigPath, set_up_logs
from packetclip_sensor.common.text import printable, say
from packetclip_sensor.errors import ConfigError

STOP_S = 4.5
"""Time that `run` gets to stop by itself: what is judged is delivered and remembered. A request that hangs longer is given up,
and what it carried is read again at the next start."""


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
    stop = _stoppable()  # before the heavy modules: a start may be stopped as well
    from packetclip_sensor import pipeline
    from packetclip_sensor.config import config_file as configs

    settings = configs.load(config)
    set_up_logs(settings.log_level)
    if not settings.logs:
        raise ConfigError(f"{config}: logs is empty; name Zeek's log folder, for example `logs: [/opt/zeek/logs/current]`")
    pipeline.run(settings, stop)


def _stoppable() -> threading.Event:
    """An event that SIGINT and SIGTERM set."""
    stop = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        # A request under way does not look at `stop`. What is not acknowledged will be read again.
        last = threading.Timer(STOP_S, os._exit, (DONE,))
        last.daemon = True
        last.start()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    return stop


def _role(name: str, config: Path) -> None:
    stop = _stoppable()
    from packetclip_sensor.config import config_file as configs

    settings = configs.load(config)
    set_up_logs(settings.log_level)
    _kafka(name).run(settings, stop)


def _kafka(name: str) -> ModuleType:
    """A module of the roles, which need the extra `kafka`."""
    try:
        return importlib.import_module(f"packetclip_sensor.kafka.{name}")
    except ModuleNotFoundError as err:
        raise ConfigError("confluent-kafka is not installed: pip install '.[kafka]' in a clone") from err


def route(config: ConfigPath) -> None:
    """Copy packet lines in Kafka to hosts' partitions.

    One of the three roles of a sensor on several machines; start as many as the lines need (docs/scale.md).

    \b
    Exit codes:
      0  stopped as asked
      2  bad start: configuration, brokers, topics

    \b
    Examples:
      packetclip route --config /etc/packetclip/sensor.yaml
    """
    _role("route", config)


def judge(config: ConfigPath) -> None:
    """Judge the partitions that Kafka assigns.

    One of the three roles of a sensor on several machines; start as many as the packets need (docs/scale.md).

    \b
    Exit codes:
      0  stopped as asked
      2  bad start: configuration, model, brokers, topics

    \b
    Examples:
      packetclip judge --config /etc/packetclip/sensor.yaml
    """
    _role("judge", config)


def alert(config: ConfigPath) -> None:
    """Write alerts of what the judges find, until stopped.

    One of the three roles of a sensor on several machines. One is active; a second one waits to take over (docs/scale.md).

    \b
    Exit codes:
      0  stopped as asked
      2  bad start: configuration, model, sink, brokers, topics

    \b
    Examples:
      packetclip alert --config /etc/packetclip/sensor.yaml
    """
    _role("alert", config)


def check(
    config: ConfigPath,
    source: Annotated[
        Literal["zeek", "suricata"], typer.Option(help="Look at the Suricata of this machine as well, if it is the source.")
    ] = "zeek",
    suricata_config: Annotated[Path, typer.Option(metavar="FILE", help="Suricata's configuration.")] = Path(
        "/etc/suricata/suricata.yaml"
    ),
) -> None:
    """Say what is wrong with the set-up.

    Configuration, logs, Zeek package or Suricata, model and sink: a line each, with the remedy.

    \b
    Exit codes:
      0  all well
      1  something is wrong, as printed
      2  the configuration cannot be read

    \b
    Examples:
      packetclip check --config /etc/packetclip/sensor.yaml
      packetclip check --config /etc/packetclip/sensor.yaml --source suricata
    """
    from packetclip_sensor.config import config_file as configs
    from packetclip_sensor.service.check.report import report

    settings = configs.load(config)
    set_up_logs("error")
    suricata = suricata_config if source == "suricata" else None
    well = report(settings, config, sys.stdout, suricata)
    if settings.kafka.brokers:
        found = list(_kafka("setup").check(settings))
        for words in found or ["brokers answer, topics are there"]:
            say(f"{'WRONG' if found else 'ok':<5} kafka    {printable(words)}")
        well = well and not found
    raise typer.Exit(DONE if well else FAILED)


def redeliver(config: ConfigPath) -> None:
    """Send refused documents again.

    Takes what Elasticsearch (`dead_letter_path`) or a webhook refused, say after a mapping, the rights or a template were mended.
    What is refused again is kept again. The sensor may run meanwhile.

    \b
    Exit codes:
      0  all sent, or nothing to send
      1  some were refused again
      2  bad start: configuration, credentials

    \b
    Examples:
      packetclip redeliver --config /etc/packetclip/sensor.yaml
    """
    from packetclip_sensor.common.metrics import Counters
    from packetclip_sensor.config import config_file as configs
    from packetclip_sensor.model.bundle import manifest_of
    from packetclip_sensor.sinks import elasticsearch as sink
    from packetclip_sensor.sinks.forward import forwarding
    from packetclip_sensor.sinks.forward.targets import targets

    settings = configs.load(config)
    set_up_logs(settings.log_level)
    cluster, receivers, counters = settings.sink.cluster, targets(settings), Counters()
    if cluster is None and not receivers:
        raise ConfigError(f"{config}: sink is a file alone, which refuses nothing; name the configuration of another sensor")
    read = sink.redeliver(cluster, counters, manifest_of(settings.model_path).missions) if cluster else 0
    read += sum(forwarding.redeliver(target, settings.state_dir, counters) for target in receivers)
    say(f"{read:,} documents read, {counters.dead_letters:,} refused again")
    raise typer.Exit(FAILED if counters.dead_letters else DONE)


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
    from packetclip_sensor.config import example

    text = example.commented(example.first_settings())
    if str(out) == "-":
        print(text, end="")
        return
    try:
        with out.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as err:
        raise ConfigError(f"{out} exists; name another file, or replace it with --force") from err
    except OSError as err:
        folder = out.absolute().parent
        remedy = "name a file that you may write" if folder.is_dir() else f"make its folder first: install -d {folder}"
        raise ConfigError(f"{out}: cannot be written: {err.strerror}; {remedy}") from err
    say(f"{out} written; look at `logs` and `sink` in it, then: packetclip check --config {out}")


def systemd_unit(
    config: ConfigPath,
    user: Annotated[str, typer.Option(metavar="NAME", help="User that runs the sensor.")] = "packetclip",
    role: Annotated[
        Literal["run", "route", "judge", "alert"], typer.Option(help="The command that it starts: run, or a role on Kafka.")
    ] = "run",
) -> None:
    """Print a hardened systemd unit.

    \b
    Exit codes:
      0  printed
      2  the configuration cannot be read, the installation is incomplete, or the user is in group root

    \b
    Examples:
      packetclip systemd-unit --config /etc/packetclip/sensor.yaml > /etc/systemd/system/packetclip.service
      systemctl daemon-reload && systemctl enable --now packetclip
    """
    from packetclip_sensor.config import config_file as configs
    from packetclip_sensor.service import systemd
    from packetclip_sensor.service.check import account

    if trouble := account.trouble(user):
        raise ConfigError(f"--user {user}: {trouble}")
    print(systemd.unit(configs.load(config), config, user, role), end="")


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
      cp -r "$(packetclip zeek-scripts)/." "$(zeek-config --site_dir)/packetclip"
    """
    from packetclip_sensor.common.resources import resource

    say(str(resource("zeek_scripts")))


def suricata_scripts() -> None:
    """Print the folder of the files for Suricata.

    The README.md in it says which of them go where, for Suricata 7.0 and 8.0.

    \b
    Exit codes:
      0  printed
      2  the installation is incomplete

    \b
    Examples:
      packetclip suricata-scripts
      cp "$(packetclip suricata-scripts)"/packetclip.{lua,rules} /var/lib/suricata/rules/
    """
    from packetclip_sensor.common.resources import resource

    say(str(resource("suricata_scripts")))
