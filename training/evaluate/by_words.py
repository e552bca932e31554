"""A mission by its words alone: how many captures of it a model names that was never shown one.

    export PACKETCLIP_MISSIONS=my-missions     # the files of the bundle's missions, and one more
    python -m training.evaluate.by_words --out runs/words --logs lab/logs lab-tunnels/logs lab-tunnels-unseen/logs

Each class of a mission that the bundle lacks gets a node beside the windows, the mean of its sentences and prompts. A window's
score is how much nearer the nearest of these is than the nearest class that the bundle knows. The table says how many captures
are named at thresholds that give so many false alerts of this mission alone in the benign captures. Captures that the bundle was
trained on are left out.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from packetclip_sensor.hunt.text_encoder import TextEncoder
from packetclip_sensor.model.bundle import MANIFEST, Bundle
from packetclip_sensor.model.encoder import Encoder
from packetclip_sensor.model.judge import embed
from packetclip_sensor.records import FloatArray
from packetclip_sensor.windows.packet_features import ModelInput
from training.common import DataError, exit_code
from training.evidence import collect
from training.evidence.fit import of_windows
from training.evidence.score import Curve, peaks
from training.evidence.table import load
from training.missions import ALL, CLASS_MISSION, MISSIONS
from training.text import texts

SHARPNESS = 10.0
"""Log-odds that a row keeps for a difference of 1 between two cosines; the rank of windows does not depend on it."""
BUDGETS = (1.9, 5.0, 10.0, 20.0, 50.0, 100.0)
"""False alerts in 100,000 benign packets. The first is that of all missions together, `evidence.fit.FALSE_ALERTS`."""
BATCH = 256


@dataclass(frozen=True)
class Words:
    """A mission's nodes: (classes, D) unit norm."""

    bundle: Bundle
    nodes: FloatArray

    def __call__(self, given: ModelInput, encoder: Encoder) -> FloatArray:
        """(W, 1) probabilities that stand for the margins of a batch's windows."""
        margins = [np.empty(0)]
        for start in range(0, len(given.rows), BATCH):  # a batch may have no window
            windows = embed(self.bundle, encoder, given, np.arange(start, min(start + BATCH, len(given.rows))))
            own, others = (windows @ nodes.T for nodes in (self.nodes, self.bundle.class_embeddings))
            margins.append(own.max(1) - others.max(1))
        return np.asarray(1 / (1 + np.exp(-SHARPNESS * np.concatenate(margins)[given.distinct, None])), np.float32)


def node(encode: TextEncoder, klass: str) -> FloatArray:
    """(D,) unit norm: the mean of a class's sentences and prompts, as `class_embeddings` of a bundle has them."""
    mean = np.mean([encode(text).embedding for text in (*texts.TEXTS[klass], *texts.class_prompts(klass))], axis=0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 the table is printed, 2 there is no mission more, no capture or no text encoder."""
    args = collect.options("training.evaluate.by_words", __doc__).parse_args(argv)
    return exit_code(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    bundle = Bundle.open(args.model)
    known = bundle.manifest.missions.names
    new = [mission for mission in ALL if mission.name not in known]
    if [*MISSIONS] != [*known, *(m.name for m in new)] or len(new) != 1:
        raise DataError(
            f"{args.model} knows {', '.join(known)}, the files have {', '.join(MISSIONS)}; let PACKETCLIP_MISSIONS name a folder "
            "with the files of its missions and one more"
        )
    classes = [klass for klass, mission in CLASS_MISSION.items() if mission == new[0].name]
    encode = TextEncoder(args.model)
    trained = json.loads((args.model / MANIFEST).read_bytes()).get("data", {}).get("train", ())
    words = Words(bundle, np.stack([node(encode, klass) for klass in classes]))
    collect.write(args, lambda name: name not in trained, words)
    captures = load(args.out)
    curve, m = Curve(captures, [of_windows(c) for c in captures]), len(known)
    found = {label: np.array([peaks(c, s)[m] for c, s in curve.attacks if c.label == label]) for label in classes}
    others = np.array([s[:, m].max(initial=-np.inf) for c, s in curve.attacks if c.label not in classes])
    tops = np.unique([s[:, m].max() for _, s in curve.benign if len(s)])[::-1]
    print(f"{new[0].name} by its words, {args.model}; {len(curve.benign)} benign captures, {curve.packets:,} packets")
    print("| false alerts in 100,000 | false |", " | ".join(f"{label}, of {len(p)}" for label, p in found.items()), end=" ")
    print(f"| other attacks called so, of {len(others)} | margin |\n|{' --- |' * (len(found) + 4)}")
    for budget in BUDGETS:
        allowed = budget * curve.packets / 1e5
        at = min((t for top in tops if curve.false(m, t := float(top) + 1e-3) <= allowed), default=float("inf"))
        named = " | ".join(str(int((peak >= at).sum())) for peak in found.values())
        print(f"| {budget:g} | {curve.false(m, at)} | {named} | {int((others >= at).sum())} | {at / SHARPNESS:.3f} |")


if __name__ == "__main__":
    sys.exit(main())
