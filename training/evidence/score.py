"""Scored rows to alerts, counted as episodes are, and the operating point at a budget of false alerts."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from packetclip_sensor.common.missions import Fast, Least
from packetclip_sensor.config.settings import Policy
from packetclip_sensor.model.thresholds import logit
from training.evidence.table import Capture
from training.missions import CLASS_MISSION, MISSIONS

QUIET_S = 60
Floats = npt.NDArray[np.float64]


def alerts(capture: Capture, rows: npt.NDArray[np.int64]) -> int:
    """Episodes that the rows make: those that share a host and stand at most QUIET_S apart are one."""
    open_: list[tuple[set[str], int]] = []
    count = 0
    for i in rows.tolist():
        hosts, second = capture.hosts[capture.stream[i]], int(capture.second[i])
        open_ = [e for e in open_ if second - e[1] <= QUIET_S]
        mine = [e for e in open_ if e[0] & hosts]
        count += not mine
        merged = set(hosts).union(*(e[0] for e in mine))
        open_ = [e for e in open_ if not e[0] & hosts] + [(merged, second)]
    return count


@dataclass(frozen=True)
class Named:
    """What is named at some thresholds."""

    named: dict[str, list[bool]]
    """By class, of each capture."""
    false: int
    packets: int

    @property
    def mean(self) -> float:
        """Mean over classes of the share of captures named."""
        return float(np.mean([np.mean(found) for found in self.named.values()])) if self.named else 0.0

    @property
    def total(self) -> int:
        """Captures named."""
        return sum(map(sum, self.named.values()))

    def __str__(self) -> str:
        of = sum(map(len, self.named.values()))
        each = ", ".join(f"{label} {sum(found)}/{len(found)}" for label, found in sorted(self.named.items()))
        rate = 1e5 * self.false / max(self.packets, 1)
        return f"{self.total} of {of}, mean over classes {self.mean:.3f}, {self.false} false ({rate:.2f} in 100,000): {each}"


def peaks(capture: Capture, scores: Floats) -> Floats:
    """(missions,) the highest score of each mission in rows of its attacks; minus infinity where there is none."""
    return np.where((capture.right == 1), scores, -np.inf).max(0, initial=-np.inf)


class Curve:
    """False alerts and captures named at any thresholds, from scores of each capture's rows."""

    def __init__(self, captures: Sequence[Capture], scores: Sequence[Floats]) -> None:
        self.captures, self.scores = captures, scores
        self.benign = [(c, s) for c, s in zip(captures, scores, strict=True) if c.label == "Benign"]
        self.attacks = [(c, s) for c, s in zip(captures, scores, strict=True) if c.label != "Benign"]
        self.packets = sum(c.packets for c, _ in self.benign)
        number = {mission: m for m, mission in enumerate(MISSIONS)}
        self._peaks = [(c.label, m, float(peaks(c, s)[m])) for c, s in self.attacks for m in [number[CLASS_MISSION[c.label]]]]
        self._cache: dict[tuple[int, float], int] = {}

    def false(self, m: int, at: float) -> int:
        """Alerts of mission number m in benign captures."""
        if (m, at) not in self._cache:
            self._cache[m, at] = sum(
                alerts(c, np.nonzero(s[:, m] >= at)[0]) for c, s in self.benign if len(s) and s[:, m].max() >= at
            )
        return self._cache[m, at]

    def at(self, thresholds: Sequence[float]) -> Named:
        """What is named: a capture is, where a row of its attack reaches its mission's threshold."""
        named: dict[str, list[bool]] = {}
        for label, m, peak in self._peaks:
            named.setdefault(label, []).append(peak >= thresholds[m])
        return Named(named, sum(self.false(m, t) for m, t in enumerate(thresholds)), self.packets)

    def choose(self, budget: float = 1.0, points: int = 14) -> tuple[list[float], Named]:
        """Thresholds by mission that name most, as the mean over classes, at `budget` false alerts in 100,000 benign packets."""
        allowed = budget * self.packets / 1e5
        options = []
        for m in range(len(MISSIONS)):
            tops = np.concatenate([s[:, m].max(keepdims=True) for _, s in self.benign if len(s)])
            tries = np.unique(np.sort(tops)[::-1][:points]) + 1e-3
            options.append([float(t) for t in tries if self.false(m, float(t)) <= allowed])
        best: tuple[tuple[float, float, float], list[float]] | None = None
        for thresholds in product(*options):
            if sum(self.false(m, t) for m, t in enumerate(thresholds)) <= allowed:
                got = self.at(thresholds)
                key = (got.mean, float(got.total), sum(thresholds))
                if best is None or key > best[0]:
                    best = key, list(thresholds)
        assert best is not None
        return best[1], self.at(best[1])


def by_least(capture: Capture, scores: Floats, least: Sequence[Least]) -> Floats:
    """Log-odds without those that have less behind them than a verdict of their mission must have, see `episodes.enough`."""
    packets, connections, per_second, tcp = capture.behind.T
    out = scores.copy()
    for m, one in enumerate(least):
        slow = (tcp == 0) & (per_second < (one.datagrams_per_s or 0)) & (scores[:, m] < logit(one.slow_probability or 1.0))
        few = (packets < (one.packets or Policy().open_packets)) | (connections < (one.connections or 0))
        out[slow | few, m] = -np.inf
    return out


def lifted(capture: Capture, scores: Floats, fast: Sequence[Fast | None]) -> Floats:
    """Log-odds with what a fast stream adds to each mission's, see `Thresholds.lifted`."""
    added = [np.where(capture.behind[:, 2] >= one.per_s, one.margin, 0.0) if one else np.zeros(len(scores)) for one in fast]
    return scores + np.stack(added, axis=1)
