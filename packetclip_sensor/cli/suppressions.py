"""The command suppressions: which rules are in force, until when, and what each has silenced."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from packetclip_sensor.cli.common import DONE, FAILED, ConfigPath

if TYPE_CHECKING:
    from packetclip_sensor.alerts.suppression_rules import Rule

SOON_S = 14 * 86400.0
"""A rule that ends sooner is marked."""


def suppressions(config: ConfigPath) -> None:
    """List what is silenced, and until when.

    Counts are windows, as the running sensor writes them each minute. A rule that silences nothing for weeks can be taken out;
    one that has expired silences nothing. The file may be edited while the sensor runs: it is read again within a second.

    \b
    Exit codes:
      0  all rules are in force, or there is none
      1  a rule has expired
      2  bad start: the configuration or the file of rules has a mistake, as printed

    \b
    Examples:
      packetclip suppressions --config /etc/packetclip/sensor.yaml
    """
    import sys
    import time

    from rich import box
    from rich.table import Table

    from packetclip_sensor.alerts import suppression_rules
    from packetclip_sensor.alerts.suppressor import Count, read_counts
    from packetclip_sensor.common.text import counted, printable
    from packetclip_sensor.config import config_file as configs
    from packetclip_sensor.model.bundle import manifest_of
    from packetclip_sensor.view.terminal import console_for

    settings = configs.load(config)
    path = settings.policy.suppress
    if path is None:
        print(f"{config} names no file of rules; to have some: policy: {{suppress: suppress.yaml}}")
        raise typer.Exit(DONE)
    missions = manifest_of(settings.model_path).missions
    rules, counts, now = suppression_rules.load(path, missions), read_counts(settings.suppressed_path), time.time()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in ("Line", "Rule", "Expires (UTC)", "Silenced", "Last (UTC)", "What", "Why"):
        words = name in ("What", "Why")  # what is narrow enough stays on one line, so that it can be read and found
        table.add_column(name, justify="right" if name in ("Line", "Silenced") else "left", no_wrap=not words)
    for rule in rules:
        count = counts.get(rule.id, Count())
        last = _time(count.last) if count.verdicts else ""
        what, why = printable(rule.words, 200), printable(rule.comment, 200)
        table.add_row(str(rule.line), rule.id, _expiry(rule, now), f"{count.verdicts:,}", last, what, why)
    console_for(sys.stdout).print(table)
    ended = [rule for rule in rules if not rule.live(now)]
    print(f"{path}: {counted(len(rules) - len(ended), 'rule')} in force, {len(ended)} expired")
    raise typer.Exit(FAILED if ended else DONE)


def _expiry(rule: Rule, now: float) -> str:
    if rule.expires == float("inf"):
        return "never"
    mark = "" if rule.live(now + SOON_S) else " soon" if rule.live(now) else " EXPIRED"
    whole_day = rule.expires % 86400 == 0
    return (_time(rule.expires - 1)[:10] if whole_day else _time(rule.expires)) + mark


def _time(second: float) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(min(second, 253402300799.0), UTC):%Y-%m-%d %H:%M}"
