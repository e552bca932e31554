"""The stage: every window of a batch as a row, its stream's counters, and what these say of each mission."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.errors import ModelBundleError
from packetclip_sensor.evidence.flow_counts import FlowCounts
from packetclip_sensor.evidence.model import FILE, EvidenceModel, Scorer
from packetclip_sensor.evidence.rows import Rows, rows_of
from packetclip_sensor.evidence.streams import Streams
from packetclip_sensor.model.bundle import REMEDY, Bundle, optional
from packetclip_sensor.model.judge import Decide, Judge
from packetclip_sensor.model.thresholds import logit
from packetclip_sensor.records import Batch, Decided, FloatArray, Flow, Trail, VerdictBatch
from packetclip_sensor.windows.packet_features import ModelInput

WAITING = "\tflows"
"""Behind a source's name, the key of the flow rows that wait for their time."""


class Evidence:
    """Decides by a stream's last hour which windows are verdicts; called with a batch's windows in their order."""

    def __init__(self, model: EvidenceModel, thresholds: Mapping[str, float], counters: Counters) -> None:
        """Args:
        thresholds: probability from which a window is a verdict, by mission, in the order of the model's outputs.
        """
        self.missions = frozenset(model.missions)
        """Those of which it decides."""
        self.hands_on = True
        """Whether what changed comes with each batch; where not, who saves it asks for `changes`."""
        self._at = np.array([p if m in self.missions else np.inf for m, p in thresholds.items()], np.float32)
        self._score = Scorer(model)
        self._streams, self._counters = Streams(len(thresholds), counters), counters
        self._flows: dict[str, FlowCounts] = {}

    @staticmethod
    def of(bundle: Bundle, counters: Counters, thresholds: Mapping[str, float] | None = None) -> Evidence | None:
        """The evidence of a bundle; None where it has none, and single windows decide.

        Args:
            thresholds: those in force; by default the bundle's own.
        Raises:
            ModelBundleError: its file is altered, or of another version of the sensor.
        """
        if (content := optional(bundle.path, FILE)) is None:
            return None
        try:
            model = EvidenceModel.of(content, bundle.manifest.missions.names)
            return Evidence(model, thresholds or bundle.manifest.thresholds, counters)
        except (ValueError, RecursionError) as err:
            raise ModelBundleError(f"model bundle {bundle.path}: {FILE}: {err}; {REMEDY}") from err

    def __call__(self, given: ModelInput, probabilities: FloatArray) -> Decided:
        """Which windows are verdicts, and what changed of the streams.

        Args:
            probabilities: (W, missions + 1), Benign first.
        """
        source = given.windows.batch.source
        self.take_flows(source, given.windows.batch.flows)
        return self.of_rows(source, rows_of(given, probabilities))

    def take_flows(self, source: str, flows: Sequence[Flow], newest: float | None = None) -> None:
        """Have the flow rows of a batch before its windows. `newest`: as in `FlowCounts.take`."""
        self._flows.setdefault(source, FlowCounts(self._counters)).take(flows, newest)

    def of_rows(self, source: str, rows: Rows) -> Decided:
        """As a call, of a batch's rows, made here or by another process."""
        flows = self._flows.get(source)
        due = flows.until(float(rows.second[-1])) if flows is not None and len(rows.second) else []
        inputs, trails = self._streams(source, rows, due)
        log_odds = self._score(inputs)
        probabilities = 1 / (1 + np.exp(-log_odds))
        reached = probabilities.astype(np.float32) >= self._at
        out = {}
        for i in np.nonzero(reached.any(1))[0].tolist():
            mission = int(np.where(reached[i], log_odds[i], -np.inf).argmax())
            windows, total, first, last = trails[i, mission].tolist()
            mean = 1 / (1 + np.exp(-total / max(windows, 1.0)))
            above = max(float(log_odds[i, mission]) - logit(float(self._at[mission])), 0.0)
            own = float(probabilities[i, mission])
            out[i] = mission, Trail(own, above, int(windows), int(last - first) + 1, float(mean))
        return Decided(out, self.changes() if self.hands_on else {})

    def state(self) -> dict[str, bytes]:
        """All streams and what waits to be counted in them, to be saved. A stream's part is its own, so that another sensor may
        go on with it."""
        return self._streams.state() | {source + WAITING: flows.state() for source, flows in self._flows.items()}

    def changes(self) -> dict[str, bytes]:
        """What changed of these since the last call, or the last batch."""
        waiting = {source + WAITING: flows.state() for source, flows in self._flows.items() if flows.changed}
        return self._streams.changes() | waiting

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Go on from what was saved."""
        self._streams.restore({key: content for key, content in state.items() if not key.endswith(WAITING)})
        for key, content in state.items():
            if key.endswith(WAITING):
                flows = self._flows[key.removesuffix(WAITING)] = FlowCounts(self._counters)
                flows.restore(content)


class Found(Protocol):
    """`scale.judged`'s: what others found in the windows of a unit, of which hardly any is judged here then."""

    def instead(self, evidence: Evidence | None) -> Decide | None:
        """What decides in place of evidence."""

    def __call__(self, batch: Batch, judge: Judge, counters: Counters, /) -> VerdictBatch: ...
