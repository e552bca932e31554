"""Predictions of one test set: what is kept of them, and what is measured.

Scores are kept before calibration. The temperature and the thresholds come from the validation captures of the same task, for
every predictor alike, and never from a test set.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from packetclip_sensor.model.bundle import softmax
from training.data.windows import GROUP_OF_CLASS, GROUPS, Examples
from training.evaluate import metrics
from training.missions import MISSIONS
from training.ship.calibration import fit_temperature

RATE = 0.001
"""False positives of the operating point: the share of benign windows, as in the issue's Table II."""
OPENING_PACKETS = 20
"""An episode opens only with so many packets behind a verdict (packetclip_sensor/alerts/episodes.py)."""
VALIDATION = "validation"
OURS = "ours"
"""Name of a task's own predictor; predictors beside it have names of their own."""
CIRCUMSTANCES = ("label", "packets", "view", "capture", "source", "benign_packets", "classes", "sentences")

Floats = npt.NDArray[np.float64]


def to_arrays(test: str, examples: Examples) -> dict[str, npt.NDArray[Any]]:
    """Labels and circumstances of a test set's windows."""
    return {
        f"{test}/label": examples.label.numpy().astype(np.int8),
        f"{test}/packets": examples.packets.numpy().astype(np.int16),
        f"{test}/view": examples.view.astype(str),
        f"{test}/capture": examples.capture.astype(str),
        f"{test}/source": examples.source.astype(str),
    }


@dataclass(frozen=True)
class Predictions:
    """N windows and the verdicts of one predictor on them."""

    label: npt.NDArray[np.int64]
    packets: npt.NDArray[np.int64]
    view: npt.NDArray[np.str_]
    capture: npt.NDArray[np.str_]
    probabilities: Floats
    """(N, M+1), calibrated."""
    thresholds: dict[str, float]
    """For each mission: passed by RATE of the validation's benign windows that may open an episode."""
    classes: Floats | None
    """(N, C) cosine with each class's prompts (no training text), where the predictor has words."""
    sentences: Floats | None = None
    """The same with held-out prompts and sentences, in words that training never used of a class."""
    source: npt.NDArray[np.str_] | None = None
    """(N,) where the capture is from; None in results of before."""
    benign_packets: int = 0
    """Of the whole test set's benign captures."""

    @cached_property
    def group(self) -> npt.NDArray[np.int64]:
        """(N,) index into GROUPS."""
        return np.array(GROUP_OF_CLASS)[self.label]

    def __len__(self) -> int:
        return len(self.label)

    def where(self, held: npt.NDArray[np.bool_]) -> "Predictions":
        """Only these windows."""
        rows = ("label", "packets", "view", "capture", "probabilities", "classes", "sentences", "source")
        return replace(self, **{name: None if (x := getattr(self, name)) is None else x[held] for name in rows})

    @property
    def opening(self) -> "Predictions":
        """Only windows that may open an episode."""
        return self.where(self.packets >= OPENING_PACKETS)

    def auc(self, *, by_capture: bool = False) -> list[float]:
        """One-against-rest AUC of each group; NaN for a group without windows."""
        weight = metrics.equal_weight(self.capture) if by_capture else None
        return [metrics.auc(self.probabilities[:, i], self.group == i, weight) for i in range(len(GROUPS))]

    @property
    def aucs(self) -> list[float]:
        """AUC of each group, and their mean."""
        found = self.auc()
        return [*found, metrics.mean(found)]

    @property
    def mean_auc(self) -> float:
        """Mean of the groups' AUCs."""
        return self.aucs[-1]

    def average_precision(self) -> list[float]:
        """One-against-rest average precision of each group."""
        return [metrics.average_precision(self.probabilities[:, i], self.group == i) for i in range(len(GROUPS))]

    def at_rate(self, rate: float = RATE) -> list[metrics.OperatingPoint]:
        """Recall at `rate` of this set's own benign windows: of any attack in place of Benign, then of each mission."""
        scores = [1 - self.probabilities[:, 0], *self.probabilities[:, 1:].T]
        benign = self.group == 0
        return [metrics.recall_at_fpr(s, ~benign if i == 0 else self.group == i, benign, rate) for i, s in enumerate(scores)]

    def _units(self) -> npt.NDArray[np.str_]:
        """(N,) what the bootstrap draws: sources, or captures where all are of one source."""
        return self.capture if self.source is None or len(set(self.source.tolist())) < 2 else self.source

    def class_recall(self, rate: float = RATE) -> tuple[dict[int, float], metrics.Range]:
        """Recall of each class's windows, of its mission, at `rate` of the benign ones; and the mean over the classes."""
        limits = np.array([-np.inf, *(point.threshold for point in self.at_rate(rate)[1:])])
        at = np.nonzero(self.group > 0)[0]
        hits, label = self.probabilities[at, self.group[at]] > limits[self.group[at]], self.label[at]
        mean = metrics.over_sources(self._units()[at], lambda rows: metrics.class_mean(hits[rows], label[rows]))
        return {int(k): float(hits[label == k].mean()) for k in np.unique(label)}, mean

    def named(self, per: int = metrics.PER_PACKETS) -> tuple[metrics.Range, metrics.Range]:
        """At one false alert in `per` benign packets, a benign capture counting as one: the share of attack captures of which a
        window that may open an episode exceeds the threshold, with its own mission; and the mean over the classes."""
        opening, units = self.opening, self._units()
        own, benign, label, unit = [], [], [], []
        for name in np.unique(self.capture):
            whole = self.capture == name
            mine = opening.probabilities[opening.capture == name]
            attacks = self.label[whole & (self.label > 0)]
            if not len(attacks):
                benign.append(mine[:, 1:].max(initial=0.0))
                continue
            label.append(int(np.bincount(attacks).argmax()))
            own.append(mine[:, GROUP_OF_CLASS[label[-1]]].max(initial=0.0))
            unit.append(units[whole][0])
        found, labels = metrics.named(np.array(own), np.array(benign), self.benign_packets // per), np.array(label)
        return (
            metrics.over_sources(np.array(unit), lambda rows: float(found[rows].mean())),
            metrics.over_sources(np.array(unit), lambda rows: metrics.class_mean(found[rows], labels[rows])),
        )

    @property
    def macro_f1(self) -> float:
        """Of the most probable group."""
        return metrics.macro_f1(self.group, self.probabilities.argmax(1))

    def alarms(self) -> npt.NDArray[np.int64]:
        """(N,) group that passes its threshold, the most probable of several; 0 where none does."""
        limit = np.array([self.thresholds[m] for m in MISSIONS])
        passed = np.where(self.probabilities[:, 1:] > limit, self.probabilities[:, 1:], -1.0)
        return np.where(passed.max(1) > 0, passed.argmax(1) + 1, 0)

    def recall(self) -> float:
        """Share of attack windows that raise an alarm of their mission at the operating thresholds."""
        attack = self.group > 0
        return float((self.alarms()[attack] == self.group[attack]).mean()) if attack.any() else float("nan")

    def captures_found(self) -> tuple[int, int]:
        """(found, all) captures with attacks: found is one window that may open an episode, alarmed, of a right mission."""
        right = (self.alarms() == self.group) & (self.group > 0) & (self.packets >= OPENING_PACKETS)
        return len(set(self.capture[right])), len(set(self.capture[self.group > 0]))


def of(arrays: Mapping[str, npt.NDArray[Any]], test: str, predictor: str = OURS) -> Predictions | None:
    """A test set of one predictor; None where it has none."""
    name = f"{test}/{predictor}"
    if name not in arrays:
        return None
    fitted = f"{VALIDATION}/{predictor}"  # a model with hidden fields keeps the calibration that it had
    calibration = torch.from_numpy(arrays.get(fitted, arrays[f"{VALIDATION}/{OURS}"]).astype(np.float32))
    label = arrays[f"{VALIDATION}/label"].astype(np.int64)
    group = np.array(GROUP_OF_CLASS)[label]
    temperature = fit_temperature(calibration, torch.from_numpy(group))
    held = softmax(calibration.numpy(), temperature)
    benign = (group == 0) & (arrays[f"{VALIDATION}/packets"] >= OPENING_PACKETS)
    limits = {m: metrics.recall_at_fpr(held[:, 1 + i], group == 1 + i, benign, RATE).threshold for i, m in enumerate(MISSIONS)}
    cosines = [arrays.get(f"{test}/{x}") if predictor == OURS else None for x in ("classes", "sentences")]
    own = [arrays[f"{test}/{x}"] for x in ("label", "packets", "view", "capture")]
    return Predictions(
        *(x.astype(np.int64) for x in own[:2]),
        *own[2:],
        softmax(arrays[name], temperature),
        limits,
        *(None if x is None else x.astype(np.float64) for x in cosines),
        source=arrays.get(f"{test}/source"),
        benign_packets=int(arrays.get(f"{test}/benign_packets", 0)),
    )
