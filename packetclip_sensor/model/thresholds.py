"""From which probability a window counts as a mission: the model's own thresholds, those that a site fitted, those that it set.

Below its threshold a window may count together with others, as far down as the mission's margin reaches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from packetclip_sensor.common.missions import NO_MISSIONS, Missions
from packetclip_sensor.config.settings import Policy
from packetclip_sensor.model import calibration_file
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.records import FloatArray, Verdict
from packetclip_sensor.windows.packet_features import Floats

NO_MARGIN: Mapping[str, float] = {}


def in_force(bundle: Bundle, policy: Policy) -> tuple[dict[str, float], dict[str, float]]:
    """Thresholds and margins by mission: the model's own, under those of `policy.calibration`, under those of the policy itself.
    Of two margins the narrower counts, for a calibration fits them up to those of the policy.

    Raises:
        ConfigError: the calibration file is unfit, or was made for another model.
    """
    thresholds, margins = bundle.manifest.thresholds, policy.margins
    if policy.calibration is not None:
        fitted = calibration_file.load(policy.calibration, bundle.path)
        thresholds = thresholds | fitted.thresholds
        margins = {m: min(fitted.margins.get(m, 0.0), margins.get(m, math.inf)) for m in bundle.manifest.missions.names}
    return thresholds | policy.thresholds, bundle.manifest.margins | margins


def logit(p: float) -> float:
    """Log-odds of a probability, kept finite."""
    p = min(max(p, 1e-9), 1 - 1e-9)
    return math.log(p / (1 - p))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Thresholds and margins as windows are compared with them, in the order of the model's outputs."""

    at: FloatArray
    """(missions,) probability from which a window is a verdict, in single precision as probabilities are."""
    near: FloatArray
    """(missions,) probability from which it counts towards one; where there is no margin it is the threshold."""
    fast: Floats
    """(missions,) packets a second from which on a stream is fast; infinite where that adds nothing."""
    lift: Floats
    """(missions,) logits that a fast stream adds before a window is compared."""

    @staticmethod
    def of(thresholds: Mapping[str, float], margins: Mapping[str, float], missions: Missions = NO_MISSIONS) -> Thresholds:
        """Thresholds by mission, in the order of the model's outputs, and margins in logits, none where a mission has none;
        `missions` say from when on a stream is fast."""
        at = np.array(list(thresholds.values()), np.float32)
        margin = np.array([margins.get(m, 0.0) for m in thresholds])
        below = 1 / (1 + np.exp(margin - [logit(p) for p in at.tolist()]))
        fast = [missions[m].fast if m in missions else None for m in thresholds]
        per_s, lift = ([getattr(f, name) if f else none for f in fast] for name, none in (("per_s", np.inf), ("margin", 0.0)))
        return Thresholds(at, np.where(margin > 0, below, at).astype(np.float32), np.array(per_s), np.array(lift))

    def lifted(self, probabilities: FloatArray, per_second: Floats) -> FloatArray:
        """(W, missions) probabilities as they are compared: higher where the windows' streams, of (W,) packets a second, are
        fast."""
        odds = np.exp(np.where(per_second[:, None] >= self.fast, self.lift, 0.0))
        compared = (probabilities * odds / (probabilities * odds + 1 - probabilities)).astype(np.float32)
        return np.where(odds > 1, compared, probabilities)

    def log_odds(self, mission: int, verdict: Verdict) -> float:
        """The least log-odds of the mission with which the window would have become such a verdict."""
        limit = (self.at if verdict.weight >= 1 else self.near)[mission]
        return logit(float(limit)) - (self.lift[mission] if verdict.per_second >= self.fast[mission] else 0.0)

    def decide(self, probabilities: FloatArray, fresh: float) -> tuple[int, float]:
        """(mission, weight) of a window with these (missions,) probabilities, `lifted`, of which one reaches `near`.

        The weight is 1 at the threshold. Below, it falls evenly in logits to 0 at `near`, and is multiplied by `fresh`, the share
        of a whole window that is new: packets that counted a second ago do not count again. Sums of log-odds above a limit are
        the cumulative sum test of Page 1954 (Biometrika 41, 100-115).
        """
        at_threshold = probabilities >= self.at
        reached = at_threshold if at_threshold.any() else probabilities >= self.near
        mission = int(np.argmax(np.where(reached, probabilities, -1.0)))
        if at_threshold.any():
            return mission, 1.0
        p, low, high = (logit(float(x[mission])) for x in (probabilities, self.near, self.at))
        return mission, min((p - low) / (high - low), 0.999) * fresh
