"""The stages chained on one screen: `run` follows the logs for ever, `replay` reads finished ones.

Position and open episodes are saved only after the sink has acknowledged what came before them. A replay saves nothing: it starts
anew each time, and its documents have the ids that they had before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import structlog

from packetclip_sensor import __version__, checkpoint
from packetclip_sensor.bundle import Bundle
from packetclip_sensor.config import Config
from packetclip_sensor.documents import SensorInfo
from packetclip_sensor.episodes import episodes
from packetclip_sensor.explain import explain
from packetclip_sensor.judge import judge
from packetclip_sensor.metrics import Counters
from packetclip_sensor.records import Alert, Batch, Safe
from packetclip_sensor.rejects import Rejects
from packetclip_sensor.sinks import elasticsearch, ndjson
from packetclip_sensor.sinks import zeek as zeek_feedback
from packetclip_sensor.sources import tail, zeek
from packetclip_sensor.windows import windows

SAVE_S = 1.0
"""A state without new alerts is saved at most this often: each save waits for the disk."""
INTERVAL_S = 60.0

log = structlog.get_logger()


def run(config: Config, stop: threading.Event, counters: Counters | None = None) -> Counters:
    """Follow the logs, judge every stream once a second, write alerts, remember where a restart is safe."""
    counters = counters or Counters()
    state_path = config.state_dir / "state.json"
    with checkpoint.lock(config.state_dir), Rejects(config.rejects) as rejects:
        state = checkpoint.load(state_path)
        bundle = Bundle.open(config.model_path)
        lines = tail.follow(config.logs, since=state.positions, stop=stop, rejects=rejects)
        batches = _reporting(zeek.batches(lines, rejects, counters), counters)
        safes = sink(alerts(batches, bundle, config, counters, state), config, counters)
        saved_at = 0.0
        for safe in safes:
            if safe.alerts or time.monotonic() - saved_at >= SAVE_S:
                checkpoint.save(
                    state_path,
                    checkpoint.State(
                        positions=safe.positions,
                        judged=safe.judged,
                        episodes=safe.episodes,
                        model_version=bundle.manifest.version,
                    ),
                )
                saved_at = time.monotonic()
    return counters


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

    def safes() -> Iterator[Safe]:
        for paths in units:
            batches = zeek.batches(tail.finite(paths, rejects=rejects), rejects, counters)
            yield from alerts(_watched(batches, on_packets), bundle, config, counters, checkpoint.State())

    with rejects:
        for safe in sink(safes(), config, counters):
            if on_alert:
                for alert in safe.alerts:
                    on_alert(alert)
    return counters


def alerts(
    batches: Iterable[Batch], bundle: Bundle, config: Config, counters: Counters, state: checkpoint.State
) -> Iterator[Safe]:
    """Records to explained alerts: windows, judge, episodes, explanation."""
    thresholds = bundle.manifest.thresholds | config.policy.thresholds
    streams = windows(batches, bundle.manifest.window, counters, judged=state.judged)
    verdicts = judge(streams, bundle, thresholds, counters)
    stories = episodes(
        verdicts,
        config.policy,
        counters,
        sensor=config.sensor_name,
        model_version=bundle.manifest.version,
        restored=state.episodes,
    )
    return explain(stories, bundle, sensor=config.sensor_name)


def sink(safes: Iterable[Safe], config: Config, counters: Counters) -> Iterator[Safe]:
    """Write alerts where the configuration says; each `Safe` comes back once every place has acknowledged it."""
    sensor = SensorInfo(name=config.sensor_name, version=__version__, namespace=config.namespace)
    if config.sink.elasticsearch is not None:
        acknowledged = elasticsearch.write(safes, config.sink.elasticsearch, sensor, counters)
    else:
        path = config.sink.ndjson.path if config.sink.ndjson else None
        acknowledged = ndjson.write(safes, path, sensor, counters)
    feedback = config.zeek_feedback
    if feedback.path is None:
        return acknowledged
    return zeek_feedback.write(acknowledged, feedback.path, counters, max_bytes=feedback.max_bytes)


def _watched(batches: Iterable[Batch], on_packets: Callable[[int], None] | None) -> Iterator[Batch]:
    for batch in batches:
        yield batch
        if on_packets and batch.packets:
            on_packets(len(batch.packets))


def _reporting(batches: Iterable[Batch], counters: Counters) -> Iterator[Batch]:
    """Pass batches on; once a minute say how the sensor is."""
    told_at = time.monotonic()
    for batch in batches:
        yield batch
        if time.monotonic() - told_at >= INTERVAL_S:
            told_at = time.monotonic()
            lag_s = round(time.time() - batch.packets[-1].ts, 1) if batch.packets else None
            log.info("interval", lag_s=lag_s, **counters.as_dict())
