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

import msgspec
import structlog

from packetclip_sensor import __version__
from packetclip_sensor.alerts.episodes import EpisodeTracker
from packetclip_sensor.alerts.explain import explain
from packetclip_sensor.alerts.suppressor import Rules, Suppressor
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.missions import Missions
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.config_file import Config
from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.hunt.sampler import Sampler
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.model.judge import Judge
from packetclip_sensor.records import Alert, AlertBatch, Batch
from packetclip_sensor.service import checkpoint, systemd
from packetclip_sensor.service.health import Health
from packetclip_sensor.service.health_documents import HealthDocuments, HealthFile
from packetclip_sensor.service.load_limits import Shedding
from packetclip_sensor.service.monitor import Monitor
from packetclip_sensor.sinks import dead_letters, elasticsearch, ndjson
from packetclip_sensor.sinks import zeek_notices as zeek_feedback
from packetclip_sensor.sinks.documents import SensorInfo
from packetclip_sensor.sinks.hunt_documents import check_embedding
from packetclip_sensor.sources import tail, zeek
from packetclip_sensor.sources.archive import archives_of
from packetclip_sensor.sources.backlog import Backlog
from packetclip_sensor.windows.clock import one_clock
from packetclip_sensor.windows.windows import WindowCutter

SAVE_S = 1.0
"""A state without new alerts is saved at most this often: each save waits for the disk."""

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
        rejects = enter(Rejects(config.rejects, max_bytes=limits.rejects_bytes))
        saver = Saver(config.state_dir / "state.json", health)
        state = saver.load()
        bundle = Bundle.open(config.model_path)
        health.model_version = bundle.manifest.version
        health.backlog = Backlog()
        if config.health.port is not None:
            from packetclip_sensor.service.health_page import HealthPage  # noqa: PLC0415  (a replay starts sooner without)

            enter(HealthPage(health))
        enter(Monitor(health, send=enter(contextlib.closing(_health_documents(config, health))).send))
        health.judged = state.judged
        systemd.notify("READY=1")
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
            archived_since=lambda: min(float(health.judged or state.began), time.time()),
        )
        shedding = health.shedding = Shedding(limits, counters)
        batches = shedding.packets(zeek.batches(shedding.lines(lines), rejects, counters))
        safes = sink(
            alerts(batches, bundle, config, counters, state, health),
            config,
            counters,
            bundle.manifest.missions,
            stop=stop,
            health=health,
        )
        with contextlib.suppress(StoppedError):
            for safe in safes:
                saver.save(safe, bundle.manifest.version)
            saver.flush()
        systemd.notify("STOPPING=1")
    return counters


def _health_documents(config: Config, health: Health) -> HealthDocuments | HealthFile:
    """Where health documents go: beside the alerts, or into the state folder where those go to a file."""
    sensor = SensorInfo(name=config.sensor_name, version=__version__, namespace=config.namespace)
    if config.sink.elasticsearch is None:
        return HealthFile(config.state_dir / "health.json", health, sensor)
    return HealthDocuments(config.sink.elasticsearch, health, sensor)


class Saver:
    """Saves the state behind each acknowledged batch, at most once a second where there was no alert.

    A state that cannot be saved (full or read-only disk) stops nothing: the old one stands, and a restart repeats more, which the
    documents' ids make harmless. It is said in the log and on the health page, and tried again with the next batch.
    """

    def __init__(self, path: Path, health: Health) -> None:
        self._path, self._health = path, health
        self._saved_at = self._began = 0.0
        self._left: checkpoint.State | None = None

    def load(self) -> checkpoint.State:
        """The state to start from.

        Raises:
            ConfigError: it cannot be read, or the folder cannot be written now: at the start there is somebody to mend it.
        """
        state = checkpoint.recover(self._path)
        if not state.began:
            state = msgspec.structs.replace(state, began=time.time())
        self._began = state.began
        checkpoint.save(self._path, state)
        return state

    def save(self, safe: AlertBatch, model_version: str) -> None:
        self._health.moved()
        self._health.judged, self._health.episodes_open = safe.judged, len(safe.episodes)
        self._left = checkpoint.State(
            positions=safe.positions,
            judged=safe.judged,
            episodes=safe.episodes,
            model_version=model_version,
            began=self._began,
        )
        if safe.alerts or time.monotonic() - self._saved_at >= SAVE_S:
            self.flush()

    def flush(self) -> None:
        """Save what is left."""
        if self._left is None:
            return
        try:
            checkpoint.save(self._path, self._left)
        except ConfigError as err:
            if not self._health.unsaved:
                log.error("state_unsaved", reason=str(err))
            self._health.unsaved = str(err)
            self._health.counters.state_unsaved += 1
        else:
            self._health.unsaved, self._left = None, None
        self._saved_at = time.monotonic()


def replay(
    units: Iterable[Sequence[Path]],
    config: Config,
    *,
    on_alert: Callable[[Alert], None] | None = None,
    on_packets: Callable[[int], None] | None = None,
    counters: Counters | None = None,
) -> Counters:
    """Read finished logs, each unit (the logs of one deployment or capture) for itself, through the same stages into the same
    sink."""
    counters = counters or Counters()
    bundle = Bundle.open(config.model_path)
    rejects = Rejects(config.rejects_path)

    def explained() -> Iterator[AlertBatch]:
        for paths in units:
            batches = zeek.together(zeek.batches(tail.finite(paths, rejects=rejects), rejects, counters))
            yield from alerts(batches, bundle, config, counters, checkpoint.State())

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


def alerts(
    batches: Iterable[Batch],
    bundle: Bundle,
    config: Config,
    counters: Counters,
    state: checkpoint.State,
    health: Health | None = None,
) -> Iterator[AlertBatch]:
    """Records to explained alerts: each batch goes through windows, judge, suppression, episodes and explanation in turn.

    Args:
        state: where a restart goes on. health: of the running sensor; None for a replay, which looks at something and counts
            nothing for `packetclip suppressions`.
    """
    manifest, sensor = bundle.manifest, config.sensor_name
    policy = for_missions(config.policy, manifest.missions)
    thresholds, leeways = manifest.thresholds | policy.thresholds, manifest.leeways | policy.leeways
    sampler = None
    if config.hunt.enabled:
        check_embedding(bundle)
        sampler = Sampler(bundle, config.hunt, thresholds, counters, sensor=sensor)
    cut = WindowCutter(manifest.window, counters, judged=state.judged, max_rows=config.limits.packets_held)
    judge = Judge(bundle, thresholds, counters, leeways, tap=sampler)
    suppress = None
    if policy.suppress is not None:
        kept_in = config.suppressed_path if health else None
        suppress = Suppressor(Rules(policy.suppress, manifest.missions), bundle, thresholds, counters, kept_in)
    restored = [episode for episode in state.episodes if episode.mission in manifest.missions]
    if lost := len(state.episodes) - len(restored):
        log.warning("episodes_of_unknown_missions", episodes=lost, state_of_model=state.model_version, model=manifest.version)
    track = EpisodeTracker(policy, counters, sensor=sensor, model_version=manifest.version, restored=restored)
    try:
        for batch in one_clock(batches, behind_s=manifest.window.seconds):
            windows = cut(batch)
            if health is not None:
                health.read(batch, held=len(windows.table))
            verdicts = judge(windows)
            if suppress is not None:
                verdicts = suppress(verdicts)
            yield explain(track(verdicts), bundle, sensor=sensor)
    finally:
        if suppress is not None:
            suppress.keep()


def sink(
    safes: Iterable[AlertBatch],
    config: Config,
    counters: Counters,
    missions: Missions,
    *,
    stop: threading.Event | None = None,
    health: Health | None = None,
) -> Iterator[AlertBatch]:
    """Write alerts where the configuration says; each `AlertBatch` comes back once every place has acknowledged it.

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

    sensor = SensorInfo(name=config.sensor_name, version=__version__, namespace=config.namespace, missions=missions)
    waiting = health.waiting if health else lambda why: None
    acknowledged: Iterator[AlertBatch]
    if (cluster := config.sink.elasticsearch) is not None:
        if health is not None:
            path = Path(cluster.dead_letter_path)
            health.dead_letter_paths = (path, dead_letters.rotated(path))
        acknowledged = elasticsearch.write(
            safes, cluster, sensor, counters, hunt=config.hunt.enabled, sleep=pause, waiting=waiting
        )
    else:
        file = config.sink.ndjson.path if config.sink.ndjson else None
        sleep = pause if stop else None
        acknowledged = ndjson.write(safes, file, sensor, counters, sleep=sleep, waiting=waiting)
    feedback = config.zeek_feedback
    if feedback.path is None:
        return acknowledged
    return zeek_feedback.write(
        acknowledged, feedback.path, counters, missions, max_bytes=feedback.max_bytes, sleep=pause, waiting=waiting
    )
