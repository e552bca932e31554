"""Takes out of the stream of verdicts what a rule of `policy.suppress` silences, and counts it by rule.

Verdicts are silenced, not episodes: what is silenced opens nothing, extends nothing and explains nothing, and an episode that is
open when a rule comes closes by itself once it is quiet. A rule takes its packets out of the window, and silences the verdict if
what is left would not have been one: so it never hides an attack that shares a window with a scanner on duty.

The file is read again when it has changed, without a restart. Rules expire by event time, so a replay silences what was silenced.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import structlog

from packetclip_sensor.alerts import suppression_rules
from packetclip_sensor.alerts.explain import nearest_class
from packetclip_sensor.alerts.suppression_rules import Rule
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import Missions
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.model.judge import VerdictBatch
from packetclip_sensor.model.occlusion import Occlusion
from packetclip_sensor.records import Verdict

LOOK_S = 1.0
"""The file is looked at, not read, so often."""
KEEP_S = 60.0
"""Counts are written so often."""

log = structlog.get_logger()


class Count(msgspec.Struct):
    """What a rule has silenced."""

    verdicts: int = 0
    last: int = 0
    """Second of event time of the last one."""


class Rules:
    """The rules of a file, read again when it changes; a new one with a mistake is refused in the log, and the old rules stay."""

    def __init__(self, path: Path, missions: Missions, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises ConfigError where the file is not there or has a mistake: at the start somebody is there to mend it."""
        self._path, self._missions, self._clock = path, missions, clock
        self._seen = self._stat()
        self._looked = clock()
        self._ended: set[str] = set()
        self.rules = suppression_rules.load(path, missions)
        self._tell()

    def current(self, second: int) -> tuple[Rule, ...]:
        """The rules that silence at this second of event time."""
        if self._clock() - self._looked >= LOOK_S:
            self._looked = self._clock()
            if (found := self._stat()) != self._seen:
                self._seen = found
                self._read()
        for rule in self.rules:
            if not rule.live(second) and rule.id not in self._ended:
                self._ended.add(rule.id)
                log.warning("suppression_expired", rule=rule.id, line=rule.line, comment=rule.comment, file=str(self._path))
        return tuple(rule for rule in self.rules if rule.live(second))

    def _read(self) -> None:
        try:
            self.rules = suppression_rules.load(self._path, self._missions)
        except ConfigError as err:
            log.error("suppressions_refused", reason=str(err), rules_kept=len(self.rules))
        else:
            self._ended.clear()
            self._tell()

    def _tell(self) -> None:
        log.info("suppressions", file=str(self._path), rules=len(self.rules))

    def _stat(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return found.st_ino, found.st_size, found.st_mtime_ns


class Suppressor:
    """Takes out of a batch of verdicts those that a rule suppresses, and counts them by rule."""

    def __init__(
        self,
        rules: Rules,
        bundle: Bundle,
        thresholds: Mapping[str, float],
        counters: Counters,
        counts_path: Path | None = None,
    ) -> None:
        """Args:
        counts_path: file to keep the counts in, over restarts; None for a replay.
        """
        self._rules, self._bundle, self._thresholds, self._counters = rules, bundle, thresholds, counters
        self._counts_path, self._kept_at = counts_path, time.monotonic()
        self._before = read_counts(counts_path) if counts_path else {}
        self.counts: dict[str, Count] = {}

    def __call__(self, batch: VerdictBatch) -> VerdictBatch:
        """The batch without what is suppressed; the rules' file is read again if it has changed, also while nothing alarms."""
        self._rules.current(batch.judged)
        left = replace(batch, verdicts=[v for v in batch.verdicts if not self.suppresses(v)])
        if time.monotonic() - self._kept_at >= KEEP_S:
            self.keep()
        return left

    def keep(self) -> None:
        """Write the counts."""
        self._kept_at = time.monotonic()
        if self._counts_path:
            _keep(self._counts_path, self._before, self.counts)

    def suppresses(self, verdict: Verdict) -> bool:
        """Whether a rule suppresses the verdict; the rule that takes most packets of it is counted, the first one of several."""
        taken: dict[int, Rule] = {}
        klass: str | None = None
        between = {(packet.orig_h, packet.resp_h) for packet in verdict.packets}
        for rule in self._rules.current(verdict.second):
            if rule.mission not in (None, verdict.mission):
                continue
            if hosts := {ends for ends in between if rule.between(*ends)}:
                mine = [
                    i
                    for i, packet in enumerate(verdict.packets)
                    if i not in taken and (packet.orig_h, packet.resp_h) in hosts and rule.serves(packet)
                ]
                if mine and rule.klass:
                    klass = klass or nearest_class(verdict, self._bundle)
                if mine and rule.klass in (None, klass):
                    taken |= dict.fromkeys(mine, rule)
        if not taken or not self._silent_without(verdict, taken):
            return False
        if verdict.weight < 1:
            return True  # it reached no threshold, so there is nothing to tell
        rules = list(taken.values())
        rule = max(dict.fromkeys(rules), key=rules.count)
        count = self.counts.setdefault(rule.id, Count())
        count.verdicts += 1
        count.last = verdict.second
        label = f"{rule.id} {rule.comment[:60]}"
        self._counters.suppressed += 1
        self._counters.suppressed_by_rule[label] = self._counters.suppressed_by_rule.get(label, 0) + 1
        return True

    def _silent_without(self, verdict: Verdict, taken: Iterable[int]) -> bool:
        """Whether the window without these packets would be no verdict of its mission."""
        places = list(taken)
        if len(verdict.packets) - len(places) < self._bundle.manifest.window.min_packets:
            return True
        limit = min(max(self._thresholds[verdict.mission], 1e-9), 1 - 1e-9)
        return float(Occlusion(verdict, self._bundle).leave_out([places])[0]) < math.log(limit / (1 - limit))


def read_counts(path: Path) -> dict[str, Count]:
    """What rules have silenced, by their ids; a file that is missing or damaged counts nothing, for it is only information."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Count])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _keep(path: Path, before: Mapping[str, Count], since: Mapping[str, Count]) -> None:
    total = dict(before)
    for name, count in since.items():
        old = before.get(name, Count())
        total[name] = Count(old.verdicts + count.verdicts, max(old.last, count.last))
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(msgspec.json.encode(total))
        fresh.replace(path)
    except OSError as err:
        log.warning("suppression_counts_unsaved", reason=str(err))
