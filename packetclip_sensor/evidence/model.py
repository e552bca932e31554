"""The evidence model of a bundle: a small network in plain numbers, `evidence.json`.

It gives each row the log-odds of each mission, as calibrated on labelled streams; at the threshold of one the row's window is a
verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from packetclip_sensor.evidence.streams import input_names
from packetclip_sensor.windows.packet_features import Floats

FILE = "evidence.json"


class Layer(msgspec.Struct, frozen=True):
    """A linear map: `weight` is (in, out), `bias` (out,)."""

    weight: list[list[float]]
    bias: list[float]


class EvidenceModel(msgspec.Struct, frozen=True):
    """evidence.json. The columns are scaled; the logits are what `direct` makes of them plus what the `layers` do, with tanh
    between."""

    inputs: list[str]
    mean: list[float]
    scale: list[float]
    direct: Layer
    layers: list[Layer]
    missions: list[str]
    """Of which it decides; of others single windows do."""

    @staticmethod
    def of(content: bytes, missions: Sequence[str]) -> EvidenceModel:
        """Read and check the file's content. Raises ValueError where it is of another version or does not hold together."""
        found = msgspec.json.decode(content, type=EvidenceModel)
        if found.inputs != input_names(len(missions)):
            raise ValueError("has other inputs than this sensor's evidence")
        if unknown := [name for name in found.missions if name not in missions]:
            raise ValueError(f"decides of {unknown[0]}, the missions are {', '.join(missions)}")
        width = len(found.inputs)
        for values in (found.mean, found.scale):
            if len(values) != width or not np.isfinite(values).all() or (values is found.scale and min(values) <= 0):
                raise ValueError("has means or scales that do not fit its inputs")
        for layer in (found.direct, *found.layers):
            width = len(found.inputs) if layer in (found.direct, found.layers[0]) else width
            weight = np.array(layer.weight, np.float64)
            if weight.shape != (width, len(layer.bias)) or not (np.isfinite(weight).all() and np.isfinite(layer.bias).all()):
                raise ValueError("has layers that do not fit each other")
            width = len(layer.bias)
        if width != len(missions):
            raise ValueError(f"gives {width} numbers for {len(missions)} missions")
        return found


class Scorer:
    """An `EvidenceModel` as arrays."""

    def __init__(self, model: EvidenceModel) -> None:
        self._mean, self._scale = np.array(model.mean), np.array(model.scale)
        self._direct, *self._layers = [(np.array(layer.weight), np.array(layer.bias)) for layer in (model.direct, *model.layers)]

    def __call__(self, inputs: Floats) -> Floats:
        """(W, inputs) to (W, missions) log-odds, rounded: the last bits of a product depend on how many rows it has."""
        x = ((inputs - self._mean) / self._scale).clip(-5.0, 5.0)
        z = x @ self._direct[0] + self._direct[1]
        for i, (weight, bias) in enumerate(self._layers):
            x = (np.tanh(x) if i else x) @ weight + bias
        out: Floats = (z + x).round(4)
        return out
