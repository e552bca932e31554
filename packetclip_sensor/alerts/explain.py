"""Events to alerts with their explanations: what the model's verdict rests on, and sentences made only of measured facts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import numpy as np

from packetclip_sensor.alerts import sentences
from packetclip_sensor.alerts.episodes import identifier
from packetclip_sensor.masking.evidence_bytes import masked
from packetclip_sensor.model.attribution import attribute
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.records import SURE_FROM, Alert, AlertBatch, EpisodeBatch, Event, Evidence, Explanation, Verdict
from packetclip_sensor.windows.window_statistics import describe

TOP_PACKETS = 5


def explain(batch: EpisodeBatch, bundle: Bundle, *, sensor: str, policy: str = "masked") -> AlertBatch:
    """Turn every event into an alert; the open episodes go on as they are then, so that a restart finds the same ones.

    Args:
        policy: `evidence_bytes` of the settings: what of a packet is kept to be shown.
    """
    verdicts = [event.verdict for event in batch.events if event.verdict is not None]
    explained = iter(explanations(verdicts, bundle, policy) if verdicts else ())
    alerts = []
    for event in batch.events:
        if event.verdict is not None:
            event.living.explanation = next(explained)
        alerts.append(_alert(event, bundle, sensor))
    return AlertBatch(
        alerts,
        batch.resume,
        batch.judged,
        batch.judged_by,
        tuple(episode.copy() for episode in batch.open),
        hunt_windows=batch.hunt_windows,
        spent=batch.spent,
    )


def _alert(event: Event, bundle: Bundle, sensor: str) -> Alert:
    episode, why = event.episode, event.living.explanation
    if why is None:
        raise AssertionError(f"episode {episode.id} closes but was never explained")
    event.living.documents += 1
    episode.documents = event.living.documents
    missions = bundle.manifest.missions
    return Alert(
        id=identifier(sensor, bundle.manifest.version, episode.id, episode.mission, event.state, event.second),
        state=event.state,
        ts=event.verdict.packets[-1].ts if event.verdict else float(event.second),
        episode=episode,
        why=why,
        title=sentences.title(episode, missions[episode.mission], why.klass),
        flow_text=sentences.flow_text(episode.flow) if episode.flow else None,
        technique=missions.technique(episode.mission, why.klass),
        model_version=bundle.manifest.version,
        sure_from=bundle.manifest.ceilings.get(episode.mission, SURE_FROM),
    )


def explanations(verdicts: Sequence[Verdict], bundle: Bundle, policy: str = "masked") -> list[Explanation]:
    """Explain verdicts; model and windows are asked once for all of them."""
    attributions = attribute(verdicts, bundle)
    heaviest = [np.argsort(-weights, kind="stable")[:TOP_PACKETS].tolist() for _, weights in attributions]
    described = describe([(v.packets, v.view, places) for v, places in zip(verdicts, heaviest, strict=True)])
    whole = [
        Evidence(verdict.packets[i], round(float(weights[i]), 4), sentences.packet_reason(verdict.packets, window, i))
        for verdict, (_, weights), places, window in zip(verdicts, attributions, heaviest, described, strict=True)
        for i in places
    ]
    read = [window.contents[i] for places, window in zip(heaviest, described, strict=True) for i in places]
    evidence = iter(masked(whole, policy, read))
    return [
        Explanation(
            **msgspec.structs.asdict(found),
            reason=sentences.sentence(window.facts, verdict.sources, verdict.destinations) + sentences.trail(verdict),
            evidence=tuple(itertools.islice(evidence, len(places))),
            facts=window.facts,
        )
        for verdict, (found, _), places, window in zip(verdicts, attributions, heaviest, described, strict=True)
    ]
