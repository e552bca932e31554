"""The stages chained on one screen: `run` follows the logs for ever, `replay` reads finished ones.

Position and open episodes are saved only after the sink has acknowledged what came before them. A replay saves nothing: it starts
anew each time, and its documents have the ids that they had before.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import structlog
from msgspec.structs import replace

from packetclip_sensor import __version__
from packetclip_sensor.alerts.episodes import EpisodeTracker
from packetclip_sensor.alerts.explain import explain
from packetclip_sensor.alerts.severity import over_budget, severity_and_risk
from packetclip_sensor.alerts.suppressor import Rules, Suppressor
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import Missions
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.config.settings import Config, SinkConfig
from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.evidence.stage import Evidence, Found
from packetclip_sensor.hunt.sampler import Sampler
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.model.encoder import Encoder
from packetclip_sensor.model.judge import Judge
from packetclip_sensor.model.thresholds import in_force
from packetclip_sensor.normalize.normalizer import Normalizer
from packetclip_sensor.records import Alert, AlertBatch, Batch, VerdictBatch
from packetclip_sensor.service import checkpoint, systemd
from packetclip_sensor.service.health import Health
from packetclip_sensor.service.load_limits import Shedding
from packetclip_sensor.service.monitor import watched
from packetclip_sensor.sinks import dead_letters, ndjson, zeek_notices
from packetclip_sensor.sinks.documents import SensorInfo
from packetclip_sensor.sinks.forward import forwarding
from packetclip_sensor.sinks.forward.targets import targets
from packetclip_sensor.sinks.hunt_documents import check_embedding
from packetclip_sensor.sources import tail, zeek
from packetclip_sensor.sources.backlog import Backlog
from packetclip_sensor.sources.discovery import archives_of, source_of
from packetclip_sensor.sources.other_alerts import recent
from packetclip_sensor.windows.cutter import WindowCutters
from packetclip_sensor.windows.packet_features import model_input
from packetclip_sensor.windows.windows import Owns

log = structlog.get_logger()


class StoppedError(Exception):
    """The sensor was asked to stop while its sink waited; what is not acknowledged will be read again."""


def run(config: Config, stop: threading.Event, counters: Counters | None = None) -> Counters:
    """Follow the logs, judge every stream once a second, write alerts, remember where a restart is safe."""
    counters = counters or Counters()
    health = Health(config.health, counters, sensor=config.sensor_name, state_dir=config.state_dir, stopping=stop.is_set)
    limits = config.limits
    with contextlib.ExitStack() as open_till_end:
        enter = open_till_end.enter_context
        enter(checkpoint.lock(config.state_dir))
        rejects = health.rejects = enter(Rejects(config.rejects, max_bytes=limits.rejects_bytes))
        saver = checkpoint.Saver(config.state_dir / "state.json", health)
        bundle = Bundle.open(config.model_path)
        state = saver.load(bundle.manifest.version)
        health.model_version = bundle.manifest.version
        health.backlog = Backlog()
        enter(watched(config, health))
        health.judged, health.read_since = state.judged, state.read_since
        lines = tail.follow(
            config.logs,
            since=state.positions,
            block_bytes=limits.block_bytes,
            max_line_bytes=limits.line_bytes,
            open_files=limits.open_files,
            stop=stop,
            rejects=rejects,
            backlog=health.backlog,
            archives=archives_of(config.logs, config.archives),
            archived_since=lambda: health.read_since or state.began,
            quiet_s=tail.QUIET_S + config.lateness_s,
        )
        shedding = health.shedding = Shedding(limits, counters)
        batches = shedding.packets(zeek.batches(shedding.lines(lines), rejects, counters))
        others = enter(recent.followed(config.other_alerts, counters))
        explained = alerts(batches, bundle, config, counters, state, health, rejects, others)
        systemd.notify("READY=1")
        say_start(config, bundle)
        with contextlib.suppress(StoppedError):
            for batch in sink(explained, config, counters, bundle.manifest.missions, stop=stop, health=health):
                saver.save(batch, bundle.manifest.version)
                say_alerts(batch, bundle.manifest.missions)
            saver.flush()
        systemd.notify("STOPPING=1")
    return counters


def say_start(config: Config, bundle: Bundle) -> None:
    """What is read, by which model, and where alerts go, in one line of the log; addresses of webhooks may be secret."""
    places = [name for name in config.sink.__struct_fields__ if getattr(config.sink, name) is not None]
    log.info(
        "started",
        version=__version__,
        logs=[str(path) for path in config.logs],
        model=bundle.manifest.version,
        thresholds={
            mission: round(p, 3)
            for mission, p in in_force(bundle, for_missions(config.policy, bundle.manifest.missions))[0].items()
        },
        sinks=places or ["standard output"],
        to=str(config.sink.ndjson.path) if config.sink.ndjson else config.sink.cluster.hosts if config.sink.cluster else None,
        shadow=config.policy.shadow,
    )


def say_alerts(batch: AlertBatch, missions: Missions) -> None:
    """A line of the log for each episode that opened, once its document is acknowledged."""
    for alert in batch.alerts:
        if alert.state == "open":
            severity, _ = severity_and_risk(alert, missions[alert.episode.mission])
            over = over_budget(alert.episode, severity)
            name = "alert_over_budget" if over else "alert"
            log.info(
                name, title=alert.title, severity=severity, probability=round(alert.why.probability, 3), episode=alert.episode.id
            )


def replay(
    units: Iterable[Sequence[Path]],
    config: Config,
    *,
    on_alert: Callable[[Alert], None] | None = None,
    on_packets: Callable[[int], None] | None = None,
    on_unread: Callable[[LogFormatError], None] | None = None,
    counters: Counters | None = None,
    rejects: Rejects | None = None,
    found: Callable[[Sequence[Path]], Found | None] = lambda paths: None,
) -> Counters:
    """Read finished logs, each unit (the logs of one deployment or capture) for itself, through the same stages into the same
    sink.

    Args:
        found: of a unit's paths, what others have judged of it; None for nothing.
    Raises:
        LogFormatError: a unit cannot be read, and there is no `on_unread` to be told of it.
    """
    counters = counters or Counters()
    bundle, limits = Bundle.open(config.model_path), config.limits
    rejects = rejects or Rejects(config.rejects_path, max_bytes=limits.rejects_bytes)

    others = recent.finished(config.other_alerts, counters)

    def explained() -> Iterator[AlertBatch]:
        for paths in units:
            try:
                lines = tail.finite(paths, block_bytes=limits.block_bytes, max_line_bytes=limits.line_bytes, rejects=rejects)
            except LogFormatError as err:
                if on_unread is None:
                    raise
                on_unread(err)
                continue
            batches = zeek.together(zeek.batches(lines, rejects, counters))
            state = checkpoint.State()
            yield from alerts(batches, bundle, config, counters, state, rejects=rejects, others=others, found=found(paths))

    with rejects:
        read = 0
        for batch in sink(explained(), config, counters, bundle.manifest.missions):
            if on_packets:
                on_packets(counters.packets - read)
                read = counters.packets
            if on_alert:
                for alert in batch.alerts:
                    on_alert(alert)
    return counters


class Judging:
    """From records to verdicts: each batch is put in order, cut into windows and judged. What is kept of a stream between two
    batches is here; `kafka.judge` has one of these for each partition."""

    def __init__(
        self,
        bundle: Bundle,
        config: Config,
        counters: Counters,
        state: checkpoint.State,
        rejects: Rejects | None = None,
        owns: Owns | None = None,
        found: Found | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        """Args:
        state: where a restart goes on. rejects: where packets with a wrong time go. encoder: as of `Judge`.
        owns: which streams are judged here; None for all. found: what others have judged; None for nothing.
        """
        manifest = bundle.manifest
        thresholds, margins = in_force(bundle, for_missions(config.policy, manifest.missions))
        sampler = None
        if config.hunt.enabled:
            check_embedding(bundle)
            sampler = Sampler(bundle, config.hunt, thresholds, counters, sensor=config.sensor_name)
        most, seconds = config.limits.packets_held, manifest.window.seconds
        self._normalize = Normalizer(counters, rejects or Rejects(None), lateness_s=config.lateness_s, far_s=seconds, most=most)
        self._cut = WindowCutters(
            manifest.window,
            counters,
            judged=state.judged,
            judged_by=state.judged_by,
            max_rows=most,
            before_s=seconds,
            windows_per_second=config.limits.windows_per_second,
            owns=owns,
        )
        self.evidence = Evidence.of(bundle, counters, thresholds)
        if self.evidence is not None and state.model_version == manifest.version:
            self.evidence.restore(state.evidence_streams)
        self._found, self._counters = found, counters
        decide = found.instead(self.evidence) if found else self.evidence
        self._judge = Judge(bundle, thresholds, counters, margins, tap=sampler, evidence=decide, encoder=encoder)

    @property
    def held(self) -> int:
        """Packets held now."""
        return self._cut.held

    def __call__(self, read: Batch) -> Iterator[VerdictBatch]:
        """The verdicts of the seconds that a batch ends."""
        for batch in self._normalize(read):
            found = self._found
            yield found(batch, self._judge, self._counters) if found else self._judge(model_input(self._cut(batch)))


class Alerting:
    """From verdicts to explained alerts: what the site's rules name is taken out, the rest gathered into episodes."""

    def __init__(
        self,
        bundle: Bundle,
        config: Config,
        counters: Counters,
        state: checkpoint.State,
        *,
        counts_kept: bool = False,
        others: recent.RecentAlerts | None = None,
    ) -> None:
        """Args:
        state: where a restart goes on. others: alerts of other engines.
        counts_kept: count for `packetclip suppressions`; a replay, which only looks at something, does not.
        """
        manifest, self._others = bundle.manifest, others
        policy = for_missions(config.policy, manifest.missions)
        self._bundle, self._sensor, self._suppress = bundle, config.sensor_name, None
        self._shown = config.evidence_bytes
        if policy.suppress is not None:
            rules, kept_in = Rules(policy.suppress, manifest.missions), config.suppressed_path if counts_kept else None
            self._suppress = Suppressor(rules, bundle, *in_force(bundle, policy), counters, kept_in)
        restored = [episode for episode in state.episodes if episode.mission in manifest.missions]
        if lost := len(state.episodes) - len(restored):
            log.warning("episodes_of_unknown_missions", episodes=lost, state_of_model=state.model_version, model=manifest.version)
        sources = {source_of(path) for path in config.logs}
        for episode in restored:
            if episode.source not in sources:
                episode.source = ""  # its folder is no longer read: any clock may close it
        self._track = EpisodeTracker(
            policy, counters, sensor=self._sensor, model_version=manifest.version, restored=restored, spent=state.spent
        )

    def __call__(self, verdicts: VerdictBatch) -> AlertBatch:
        """What a batch of verdicts opens, updates and closes."""
        left = self._suppress(verdicts) if self._suppress is not None else verdicts
        explained = explain(self._track(left), self._bundle, sensor=self._sensor, policy=self._shown)
        if (others := self._others) is not None:
            explained.alerts = [replace(alert, others=others.of(alert.episode)) for alert in explained.alerts]
        return explained

    @property
    def budget_used(self) -> float:
        """Share of `policy.alerts_per_day` that is used."""
        return self._track.budget.used

    def close(self) -> None:
        """Keep what was counted."""
        if self._suppress is not None:
            self._suppress.keep()


def alerts(
    batches: Iterable[Batch],
    bundle: Bundle,
    config: Config,
    counters: Counters,
    state: checkpoint.State,
    health: Health | None = None,
    rejects: Rejects | None = None,
    others: recent.RecentAlerts | None = None,
    found: Found | None = None,
) -> Iterator[AlertBatch]:
    """Records to explained alerts: each batch goes through `Judging` and `Alerting` in turn.

    Args:
        state: where a restart goes on. health: of the running sensor; None for a replay. rejects: where packets with a wrong
            time go. others: alerts of other engines. found: as of `Judging`.
    """
    judging = Judging(bundle, config, counters, state, rejects, found=found)
    alerting = Alerting(bundle, config, counters, state, counts_kept=health is not None, others=others)

    def stages() -> Iterator[AlertBatch]:
        try:
            for read in batches:
                for verdicts in judging(read):
                    explained = alerting(verdicts)
                    explained.evidence = verdicts.evidence
                    if health is not None:
                        health.read(verdicts.batch, held=judging.held)
                        health.budget_used = alerting.budget_used
                    yield explained
        finally:
            alerting.close()

    return stages()


def sink(
    batches: Iterable[AlertBatch],
    config: Config,
    counters: Counters,
    missions: Missions,
    *,
    stop: threading.Event | None = None,
    health: Health | None = None,
) -> Iterator[AlertBatch]:
    """Write alerts where the configuration says; each `AlertBatch` comes back once every place has acknowledged it.

    The places stand one behind the other, so that the one position in the logs is right for all, and one that is away holds the
    others at most by the batch that it has not: nothing is queued here, the log files are the queue.

    Args:
        missions: those of the model.
        stop: set by who wants the sensor to stop: then waiting ends with StoppedError. None for a replay: it waits for servers,
            but a file that cannot be written ends it.
        health: is told how long a sink waits.
    """

    def pause(seconds: float) -> None:
        if stop is None:
            time.sleep(seconds)
        elif stop.wait(seconds):
            raise StoppedError

    shadow = config.policy.shadow
    sensor = SensorInfo(config.sensor_name, __version__, config.namespace, missions, shadow, config.evidence_bytes)
    waiting = health.waiting if health else lambda why: None
    acknowledged = iter(batches)
    if (cluster := config.sink.cluster) is not None:
        from packetclip_sensor.sinks import elasticsearch  # noqa: PLC0415  (its client is large)

        accepted = (lambda: health.accepted) if health else (lambda: False)
        acknowledged = elasticsearch.write(
            acknowledged, cluster, sensor, counters, hunt=config.hunt.enabled, sleep=pause, waiting=waiting, accepted=accepted
        )
    if config.sink.ndjson is not None or config.sink == SinkConfig():
        file = config.sink.ndjson.path if config.sink.ndjson else None
        sleep = pause if stop else None
        acknowledged = ndjson.write(acknowledged, file, sensor, counters, sleep=sleep, waiting=waiting)
    letters = [cluster.dead_letter_path] if cluster else []
    for target in targets(config):
        acknowledged = forwarding.write(acknowledged, target, config.state_dir, sensor, counters, sleep=pause, waiting=waiting)
        letters.append(forwarding.refused(config.state_dir, target.name))
    if health is not None:
        health.dead_letter_paths = tuple(path for file in letters for path in (file, dead_letters.rotated(file)))
    feedback = config.zeek_feedback
    if feedback.path is None or shadow:
        return acknowledged
    return zeek_notices.write(
        acknowledged, feedback.path, counters, missions, max_bytes=feedback.max_bytes, sleep=pause, waiting=waiting
    )
