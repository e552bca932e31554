"""What makes alerts fewer: calibrate fits the thresholds to a site's own logs, suppressions lists the rules in force."""

from __future__ import annotations

import sys
import textwrap
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packetclip_sensor.cli.common import (
    CUTS,
    DONE,
    FAILED,
    ConfigFile,
    ConfigPath,
    Cuts,
    Scheduler,
    Since,
    Until,
    Workers,
    discover,
    judged_by_workers,
    labels_beside,
    opened,
    set_up_logs,
    sigterm_as_interrupt,
    tell_unread,
)
from packetclip_sensor.common.text import counted, printable, say
from packetclip_sensor.errors import ConfigError, SensorError

if TYPE_CHECKING:
    from rich.table import Table

    from packetclip_sensor.alerts.suppression_rules import Rule
    from packetclip_sensor.calibrate.marks import Mark
    from packetclip_sensor.calibrate.site_logs import AlarmingHost, Fit, SiteLogs
    from packetclip_sensor.config.settings import Config
    from packetclip_sensor.model.calibration_file import Calibration
    from packetclip_sensor.scale.judged import How
    from packetclip_sensor.sources.discovery import Unit

LISTED = 5
"""Hosts shown of each list."""
FEW_DAYS = 3.0
"""Logs that cover less are called few."""
SOON_S = 14 * 86400.0
"""A rule that ends sooner is marked."""


def calibrate(
    logs: Annotated[
        list[Path], typer.Option("--logs", metavar="DIR", help="Log folder (or folder of them, log file, capture); repeatable.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to write; name it by policy.calibration.")] = Path(
        "calibration.yaml"
    ),
    alerts_per_day: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            min=0.0,
            help="Budget: alerts (opened episodes) a day, all missions together. [default: policy.alerts_per_day, or else 1]",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="Host or network (CIDR) to leave out; repeatable.")
    ] = None,
    since: Since = None,
    until: Until = None,
    config: ConfigFile = None,
    marks: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Alerts marked by `packetclip mark`. [default: those in the sink of --config]",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="labels.json of attacks in the logs. [default: the one beside each folder's logs]"),
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    cuts: Cuts = CUTS,
) -> None:
    """Fit the thresholds to this site's own logs.

    The logs are taken as benign traffic. Thresholds rise above the model's own until no more alerts open than the budget
    allows; they never fall below them. Prints what changes, and which hosts pushed a threshold up: look at these before you
    use the file, for an attack in the logs would raise the threshold until it no longer alerts. Alerts that are marked as true
    (`packetclip mark`) are kept out of the benign traffic; each marked one is listed if it would no longer, or still, alert.

    \b
    Exit codes:
      0  written, the budget holds
      1  written, but the budget does not hold: some hosts look like attacks whatever the threshold; or stopped
      2  bad start: nothing to read, a wrong time or host, the file cannot be written

    \b
    Examples:
      packetclip calibrate --logs /opt/zeek/logs --since 2025-10-01 --out calibration.yaml
      packetclip calibrate --logs /opt/zeek/logs --config sensor.yaml     with the model and the rules of a sensor
      packetclip calibrate --logs logs/ --alerts-per-day 0.5 --exclude 192.0.2.10 --exclude 10.9.0.0/16
    """
    from packetclip_sensor.alerts.suppressor import Rules, Suppressor
    from packetclip_sensor.calibrate import site_logs
    from packetclip_sensor.common.metrics import Counters
    from packetclip_sensor.common.rejects import Rejects
    from packetclip_sensor.config import config_file as configs
    from packetclip_sensor.config.policy import for_missions
    from packetclip_sensor.config.settings import Config
    from packetclip_sensor.model import calibration_file as file
    from packetclip_sensor.model.bundle import Bundle
    from packetclip_sensor.pairs.labels import LabelFile, Labels
    from packetclip_sensor.view.terminal import progress

    settings = configs.load(config) if config else Config()
    packets = site_logs.PacketFilter.parse(exclude or [], since, until)
    set_up_logs("warning")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"{out}: its folder does not exist; make it, or name another file by --out")
    units, passed = discover(logs)
    bundle = Bundle.open(settings.model_path)
    missions = bundle.manifest.missions
    given = Labels.load(labels, missions.classes) if labels else None
    marked = _marks(marks, settings if config else None)
    attacks = [mark.interval() for mark in marked if mark.true]

    def known(unit: Unit) -> Labels | None:
        """What is known of a unit's packets: its labels, and what analysts marked."""
        found = given or labels_beside(unit, missions.classes)
        return found.also(attacks) if found else Labels(LabelFile("", attacks)) if attacks else None

    policy = for_missions(settings.policy, missions)
    margins = bundle.manifest.margins | policy.margins
    suppresses = None
    if policy.suppress is not None:
        rules = Rules(policy.suppress, missions)
        suppresses = Suppressor(rules, bundle, bundle.manifest.thresholds, margins, Counters()).suppresses

    def how(unit: Unit) -> How:
        from packetclip_sensor.scale.judged import How

        floor = bundle.manifest.thresholds
        at = dict.fromkeys(floor, 0.0) if known(unit) else floor
        return How.at(bundle, at, margins, settings.lateness_s, packets=packets)

    with (
        sigterm_as_interrupt(),
        judged_by_workers(units, how, settings.model_path, settings.lateness_s, cuts, (workers, scheduler)) as judged,
        progress(len(units)) as shown,
    ):
        paths = opened(units, shown.unit, passed)
        found = site_logs.gather(
            ((unit.name, paths_, known(unit)) for unit, paths_ in paths),
            bundle,
            packets,
            on_packets=shown.packets,
            margins=margins,
            lateness_s=settings.lateness_s,
            suppresses=suppresses,
            others=judged,
        )
    budget = next(each for each in (alerts_per_day, policy.alerts_per_day, 1.0) if each is not None)
    fit = site_logs.fit(found, bundle, policy, budget, paths=logs, excluded=exclude or [])
    file.save(fit.calibration, out)
    _show(fit, found, len(units))
    _show_marks(marked, fit, found)
    say(f"\n{out} written. To use it, in the sensor's configuration:\n  policy:\n    calibration: {out.absolute()}")
    if policy.thresholds:
        say(f"{config} sets thresholds of its own for {', '.join(policy.thresholds)}; they go before this file")
    code = tell_unread(passed, Rejects(None))
    raise typer.Exit(FAILED if fit.above_ceiling else code)


def _show(fit: Fit, found: SiteLogs, units: int) -> None:
    from packetclip_sensor.calibrate.threshold_fit import per_day
    from packetclip_sensor.view.terminal import console_for

    where = f"{units:,} folders or captures" if units > 1 else "1 folder or capture"
    made, days = fit.calibration, max(fit.calibration.logs.hours / 24, 1 / 86400)
    console = console_for(sys.stdout)
    line = partial(say, hang=0)
    line(
        f"{made.logs.packets:,} packets and {made.logs.windows:,} windows in {where}, "
        f"{_time(days)} of traffic, {made.logs.first} to {made.logs.last}"
    )
    console.print(_table(made, found))
    before, after = sum(made.alerts_before.values()), sum(made.alerts.values())
    _, low, high = per_day(after, days)
    line(f"Alerts a day: {_rate(before / days)} before, {_rate(after / days)} after; the budget is {made.alerts_per_day:g}.")
    if made.margins != made.margins_before:
        kept = ", ".join(f"{mission} {value:g} of {made.margins_before[mission]:g}" for mission, value in made.margins.items())
        line(f"Windows near a threshold that count together, in logits below it: {kept}; more would break the budget.")
    if days < FEW_DAYS:
        line(
            f"These logs cover only {_time(days)}: what was counted is compatible with {_rate(low)} to {_rate(high)} alerts "
            "a day (95 % confidence). Calibrate again when you have the logs of a week."
        )
    if made.suppressed:
        line(f"{made.suppressed:,} windows are suppressed by the rules of policy.suppress and were left out.")
    if fit.no_longer:
        line("\nThese pushed a threshold up and will no longer alert. If one is an attack, leave it out by --exclude or --until:")
        _hosts(fit.no_longer)
    for mission, (host, limit) in fit.with_rule.items():
        words = f"a rule for {printable(host.host, 60)} would leave the threshold at {limit:.4f}"
        line(f"{mission}: {words}; if that is a known duty, prefer the rule.")
    for mission in dict.fromkeys(host.mission for host in fit.above_ceiling):
        line(
            f"\n{mission}: the budget does not hold. A threshold above these would miss attacks of {mission} too, so it stays at "
            f"{made.thresholds[mission]:g}.\nLook at what they do. If it is their duty, suppress them by a rule and calibrate "
            "again with --config, so that the thresholds need not rise for them:"
        )
        _hosts([host for host in fit.above_ceiling if host.mission == mission])
    if duties := [host.rule for host in (*fit.above_ceiling[:LISTED], *(host for host, _ in fit.with_rule.values()))]:
        say("")
        _say_rules(duties)


def _table(made: Calibration, found: SiteLogs) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("Mission", no_wrap=True)
    detected = _detected(found, made)
    names = ["threshold before", "after", "alerts in these logs before", "after"]
    for name in [*names, *(["labelled attacks detected before", "after"] if detected else [])]:
        table.add_column(name, justify="right", min_width=max(6, *map(len, name.split())))
    for mission, after in made.thresholds.items():
        row = [mission, f"{made.thresholds_before[mission]:.4f}", f"{after:.4f}"]
        row += [f"{made.alerts_before[mission]:,}", f"{made.alerts[mission]:,}"]
        table.add_row(*row, *detected.get(mission, ["", ""] if detected else []))
    return table


def _detected(found: SiteLogs, made: Calibration) -> dict[str, list[str]]:
    """Of each mission with labelled attacks: how many reach the thresholds before and after."""
    out = {}
    for mission in made.thresholds:
        peaks = [peak for name, peak in found.attacks.values() if name == mission]
        if peaks:
            limits = (made.thresholds_before[mission], made.thresholds[mission])
            out[mission] = [f"{sum(p >= limit for p in peaks)} of {len(peaks)}" for limit in limits]
    return out


def _hosts(hosts: list[AlarmingHost]) -> None:
    from datetime import UTC, datetime

    for host in hosts[:LISTED]:
        when = f"{datetime.fromtimestamp(host.packets[-1].ts, UTC):%Y-%m-%d %H:%M:%S}"
        extent = f"{host.mission} {host.probability:.4f}, {host.windows:,} windows, the most certain at {when} UTC"
        say(f"  {printable(host.host, 60)}: {extent}, in {printable(host.unit, 60)}", hang=4)
        say(f"    {printable(host.sentence, 400)}", hang=4)
    if len(hosts) > LISTED:
        say(f"  and {len(hosts) - LISTED:,} less certain ones")


def _marks(path: Path | None, settings: Config | None) -> list[Mark]:
    """The marks of the file, or else of the sink; a sensor's key may not read, and then a line says so and they are left out."""
    from packetclip_sensor.view import alert_reader
    from packetclip_sensor.view.document_access import text

    sink = settings.sink if settings else None
    if path is None and sink and sink.cluster is None and sink.ndjson and alert_reader.marks_beside(sink.ndjson.path).is_file():
        path = alert_reader.marks_beside(sink.ndjson.path)
    if path is not None:
        found = list({text(one, "packetclip.episode.id"): one for one in alert_reader.read(path)}.values())
    elif sink and sink.cluster is not None:
        try:
            found = alert_reader.stored(sink.cluster, marked=True)
        except SensorError as err:
            say(f"alerts that are marked were not read: {err}", file=sys.stderr)
            return []
    else:
        return []
    return [alert_reader.mark_of(one) for one in found if text(one, alert_reader.MARKED)]


def _show_marks(marks: list[Mark], fit: Fit, found: SiteLogs) -> None:
    """Of each marked alert whether it would still alert, and for false ones that would, the rule."""
    true, false = ([mark for mark in marks if mark.true is which] for which in (True, False))
    limits = fit.calibration.thresholds
    peaks = {(label, start): (mission, peak) for (_, label, start), (mission, peak) in found.attacks.items()}
    seen = [(mark, *peaks[mark.klass, mark.first]) for mark in true if (mark.klass, mark.first) in peaks]
    if true:
        say(
            f"\nMarked as true: {len(true):,}, of which {len(seen):,} are in these logs and were taken for no benign traffic.",
            hang=0,
        )
    for mark, mission, peak in seen:
        if peak < limits[mission]:
            say(
                f"  {mark.episode} would no longer alert: {mission} {peak:.4f}; a rule for what pushed the threshold up keeps it",
                hang=4,
            )
    still = [mark for mark in false if mark.among(fit.alerts)]
    if false:
        say(f"\nMarked as false: {len(false):,}, of which {len(still):,} would alert again in these logs.", hang=0)
    _say_rules([mark.rule(time.time()) for mark in still[:LISTED]])


def _say_rules(rules: list[str]) -> None:
    if rules:
        say("Rules for the file that policy.suppress names, where it is a duty; say in each why, and for how long:", hang=0)
    for rule in rules:
        say(textwrap.indent("\n".join(printable(line, 200) for line in rule.splitlines()), "  "))


def _rate(alerts: float) -> str:
    return f"{alerts:,.0f}" if alerts >= 10 else f"{alerts:.2g}"


def _time(days: float) -> str:
    hours = days * 24
    seconds = days * 86400
    steps = (f"{days:.1f} days", days), (f"{hours:.1f} hours", hours), (f"{hours * 60:.0f} minutes", hours * 60)
    return next((words for words, count in steps if count >= 2), f"{seconds:.0f} seconds")


def suppressions(config: ConfigPath) -> None:
    """List what is suppressed, and until when.

    Counts are windows, as the running sensor writes them each minute. A rule that suppresses nothing for weeks can be removed;
    one that has expired suppresses nothing. The file may be edited while the sensor runs: it is read again within a second.

    \b
    Exit codes:
      0  all rules are in force, or there is none
      1  a rule has expired
      2  bad start: the configuration or the file of rules has a mistake, as printed

    \b
    Examples:
      packetclip suppressions --config /etc/packetclip/sensor.yaml
    """
    from rich import box
    from rich.table import Table

    from packetclip_sensor.alerts import suppression_rules
    from packetclip_sensor.alerts.suppressor import Count, read_counts
    from packetclip_sensor.config import config_file as configs
    from packetclip_sensor.model.bundle import manifest_of
    from packetclip_sensor.view.terminal import WIDE_COLUMNS, console_for

    settings = configs.load(config)
    path = settings.policy.suppress
    if path is None:
        say(f"{config} names no file of rules; to have some: policy: {{suppress: suppress.yaml}}")
        raise typer.Exit(DONE)
    missions = manifest_of(settings.model_path).missions
    rules, counts, now = suppression_rules.load(path, missions), read_counts(settings.suppressed_path), time.time()
    console = console_for(sys.stdout)
    wide = console.width >= WIDE_COLUMNS
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in ("Line", "Rule", "Expires (UTC)", "Suppressed", "Last (UTC)", *(("What", "Why") if wide else ("What, why",))):
        words = name.startswith("Wh")  # what is narrow enough stays on one line, so that it can be read and found
        shown = name if wide else name.replace(" (UTC)", "")
        table.add_column(shown, justify="right" if name in ("Line", "Suppressed") else "left", no_wrap=not words)
    for rule in rules:
        count = counts.get(rule.id, Count())
        last = _minute(count.last) if count.verdicts else ""
        what, why = printable(rule.words, 200), printable(rule.comment, 200)
        cells = [str(rule.line), rule.id, _expiry(rule, now), f"{count.verdicts:,}", last]
        if not wide:
            cells[2:5] = [cells[2].replace(" ", "\n"), cells[3], last.replace(" ", "\n")]
        table.add_row(*cells, *((what, why) if wide else (f"{what}\n{why}",)))
    console.print(table)
    ended = [rule for rule in rules if not rule.live(now)]
    say(f"{path.name}: {counted(len(rules) - len(ended), 'rule')} in force, {len(ended)} expired")
    raise typer.Exit(FAILED if ended else DONE)


def _expiry(rule: Rule, now: float) -> str:
    if rule.expires == float("inf"):
        return "never"
    mark = "" if rule.live(now + SOON_S) else " soon" if rule.live(now) else " EXPIRED"
    whole_day = rule.expires % 86400 == 0
    return (_minute(rule.expires - 1)[:10] if whole_day else _minute(rule.expires)) + mark


def _minute(second: float) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(min(second, 253402300799.0), UTC):%Y-%m-%d %H:%M}"
