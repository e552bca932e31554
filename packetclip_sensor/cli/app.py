"""The program `packetclip`: every command, and how each of them ends.

Heavy modules are imported inside the commands, so that `packetclip --help` answers at once.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from packetclip_sensor import __version__
from packetclip_sensor.cli import explain, finished, hunt, live, setup, tuning
from packetclip_sensor.cli.common import BAD_START, DONE, FAILED, HELP_COLUMNS, Command, Group
from packetclip_sensor.common.text import printable, say
from packetclip_sensor.errors import SensorError

app = typer.Typer(
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": HELP_COLUMNS},
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 1 failed, 2 bad start."""
    try:
        code = app(args=argv, prog_name="packetclip", standalone_mode=False)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else FAILED if end.code else DONE
    except (Exception, KeyboardInterrupt) as err:
        code, words = _ended(err)
        if words:
            say(words, file=sys.stderr, hang=0 if code == BAD_START and sys.stderr.isatty() else None)
    return code if isinstance(code, int) else DONE


def _ended(err: BaseException) -> tuple[int, str]:
    """The exit code of what ended a command, and what is said of it."""
    match err:
        case SensorError():
            return BAD_START, f"packetclip: {printable(str(err))}"
        case KeyboardInterrupt():
            return FAILED, "packetclip: stopped"
        case typer.Abort():
            return FAILED, "Aborted!"
        case BrokenPipeError():
            # What reads our output has gone, as in `packetclip replay ... | head`. Python would complain once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED, ""
    if callable(show := getattr(err, "show", None)):  # wrong arguments: an exception of click's, or of typer's copy of it
        shown = io.StringIO()
        show(file=shown)
        return BAD_START, shown.getvalue().rstrip()
    # A fault of ours: the traceback is for whoever mends it, but what it quotes may come from outside.
    return FAILED, "".join(traceback.format_exception(err)).rstrip()


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
      packetclip setup elasticsearch -c FILE      put templates, pipeline, role and key into Elasticsearch
      packetclip run --config sensor.yaml         follow the logs until stopped
      packetclip calibrate --logs /opt/zeek/logs  fit the thresholds to this site's own traffic
      packetclip explain ID --config sensor.yaml  show one alert and why the model says so
      packetclip mark ID --false                  say of an alert what it was; prints a rule that suppresses it
      packetclip report alerts.ndjson             make one HTML page of alerts
      packetclip hunt "SENTENCE" -c sensor.yaml   find the traffic that a sentence describes
      packetclip suppressions -c sensor.yaml      list what is suppressed, until when, and how often
    """


for command in (
    live.run,
    live.route,
    live.judge,
    live.alert,
    finished.replay,
    tuning.calibrate,
    tuning.suppressions,
    finished.pairs,
    live.check,
    live.redeliver,
    live.init,
    live.systemd_unit,
    live.zeek_scripts,
    live.suricata_scripts,
    finished.report,
    explain.explain,
    explain.mark,
    hunt.hunt,
    hunt.similar,
):
    app.command(cls=Command)(command)
app.add_typer(setup.app, name="setup")
