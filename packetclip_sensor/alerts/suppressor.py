"""Takes out of the stream of verdicts what a rule of `policy.suppress` suppresses, and counts it by rule.

Verdicts are suppressed, not episodes: what is suppressed opens nothing, extends nothing and explains nothing, and an episode
that is open when a rule comes closes by itself once it is quiet. A rule takes its packets out of the window, and suppresses the
verdict if what is left would not have been one, or where it only came near its threshold would not even have come near: so it
never hides an attack that shares a window with a scanner on duty.

The file is read again when it has changed, without a restart. Rules expire by event time, so a replay suppresses the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import structlog

from packetclip_sensor.alerts import suppression_rules
from packetclip_sensor.alerts.suppression_rules import Rule
from packetclip_sensor.common import durable
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import Missions
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.model.attribution import log_odds_without
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.model.thresholds import Thresholds, logit
from packetclip_sensor.records import Verdict, VerdictBatch

LOOK_S = 1.0
"""The file is looked at, not read, so often."""
KEEP_S = 60.0
"""Counts are written so often."""

log = structlog.get_logger()


class Count(msgspec.Struct):
    """What a rule has suppressed."""

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
        self._log()

    def current(self, second: int) -> tuple[Rule, ...]:
        """The rules in force at this second of event time."""
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
            self._log()

    def _log(self) -> None:
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
        margins: Mapping[str, float],
        counters: Counters,
        counts_path: Path | None = None,
    ) -> None:
        """Args:
        thresholds, margins: by mission, as `in_force` gives them.
        counts_path: file to keep the counts in, over restarts; None for a replay.
        """
        self._rules, self._bundle, self._counters = rules, bundle, counters
        self._limits, self._missions = Thresholds.of(thresholds, margins, bundle.manifest.missions), list(thresholds)
        self._counts_path, self._kept_at = counts_path, time.monotonic()
        self.counts = read_counts(counts_path) if counts_path else {}

    def __call__(self, batch: VerdictBatch) -> VerdictBatch:
        """The batch without what is suppressed; the rules' file is read again if it has changed, also while nothing alarms."""
        self._rules.current(batch.judged)
        by = self._suppressed(batch.verdicts)
        left = replace(batch, verdicts=[v for v, rule in zip(batch.verdicts, by, strict=True) if rule is None])
        if time.monotonic() - self._kept_at >= KEEP_S:
            self.keep()
        return left

    def keep(self) -> None:
        """Write the counts, where there is a file for them."""
        self._kept_at = time.monotonic()
        if (path := self._counts_path) is None:
            return
        try:
            durable.replace(path, msgspec.json.encode(self.counts))
        except OSError as err:
            log.warning("suppression_counts_unsaved", reason=str(err))

    def suppresses(self, verdict: Verdict) -> bool:
        """Whether a rule suppresses the verdict, which is counted then."""
        return self._suppressed([verdict]) != [None]

    def _suppressed(self, verdicts: Sequence[Verdict]) -> list[Rule | None]:
        """The rule that suppresses each verdict, None where none does; the model is asked once for all of them.

        The rule that takes most packets of a verdict is counted, the first one of several.
        """
        out: list[Rule | None] = [None] * len(verdicts)
        matched = {i: found for i, v in enumerate(verdicts) if (found := self._matches(v))}
        asked = [(verdicts[i], [(rule.klass, places) for rule, places in found]) for i, found in matched.items()]
        answers = log_odds_without(asked, self._bundle) if asked else ()
        for (i, found), (klass, odds) in zip(matched.items(), answers, strict=True):
            verdict = verdicts[i]
            limit = self._limits.log_odds(self._missions.index(verdict.mission), verdict)
            if verdict.trail is not None:  # what the window loses, the evidence loses
                limit = logit(verdict.missions[verdict.mission]) - verdict.trail.above
            if odds < limit:
                taken: dict[int, Rule] = {}
                for rule, places in found:
                    if rule.klass in (None, klass):
                        taken = dict.fromkeys(places, rule) | taken
                out[i] = rule = max((rule for rule, _ in found), key=list(taken.values()).count)
                self._count(rule, verdict)
        return out

    def _matches(self, verdict: Verdict) -> list[tuple[Rule, list[int]]]:
        """The rules in force that hold for packets of a verdict, whatever its class, and the numbers of these packets."""
        between = {(packet.orig_h, packet.resp_h) for packet in verdict.packets}
        found = []
        for rule in self._rules.current(verdict.second):
            if rule.mission in (None, verdict.mission) and (hosts := {ends for ends in between if rule.between(*ends)}):
                numbered = enumerate(verdict.packets)
                places = [i for i, p in numbered if (p.orig_h, p.resp_h) in hosts and rule.serves(p)]
                if places:
                    found.append((rule, places))
        return found

    def _count(self, rule: Rule, verdict: Verdict) -> None:
        if verdict.weight < 1:
            return  # it reached no threshold, so there is nothing to report
        count = self.counts.setdefault(rule.id, Count())
        count.verdicts += 1
        count.last = max(count.last, verdict.second)
        label = f"{rule.id} {rule.comment[:60]}"
        self._counters.suppressed += 1
        self._counters.suppressed_by_rule[label] = self._counters.suppressed_by_rule.get(label, 0) + 1


def read_counts(path: Path) -> dict[str, Count]:
    """What rules have suppressed, by their ids; a file that is missing or damaged counts nothing, for it is only information."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Count])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
