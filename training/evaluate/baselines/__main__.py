"""AUC of every baseline on captures that were held out.

    python -m training.evaluate.baselines --pairs runs/pairs/*.parquet --seed 1
    python -m training.evaluate.baselines --pairs runs/pairs/*.parquet --only majority "XGBoost, flow"

The split is the model's own (`training.data.windows.split`). Embeddings are those of a bundle's encoder; it must have been
trained on the same split, and the command warns where the bundle names a held-out capture as training data.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from packetclip_sensor.common.resources import resource
from packetclip_sensor.model.bundle import MANIFEST, Bundle
from training.common import DataError, argument, command
from training.data.windows import GROUPS, Examples, load, split
from training.evaluate import metrics
from training.evaluate.baselines import REGISTRY, Fit, on_embeddings
from training.evaluate.baselines.features import Floats, packet_mean
from training.evaluate.baselines.packets import etbert_full

NO_EMBEDDINGS = "none"


def known_baselines(bundle_path: str | None, held: Examples) -> dict[str, Fit]:
    """All baselines, with those on embeddings unless the bundle is "none"."""
    if bundle_path == NO_EMBEDDINGS:
        return REGISTRY
    path = Path(bundle_path) if bundle_path else resource("model/shipped")
    bundle = Bundle.open(path)
    trained_on = json.loads((path / MANIFEST).read_bytes()).get("data", {}).get("train", ())
    if both := set(trained_on) & set(held.capture):
        print(
            f"warning: the encoder was trained on {len(both)} of the captures held out here ({', '.join(sorted(both)[:3])} ...); "
            "its rows are too good; name a bundle of this split by --bundle",
            file=sys.stderr,
        )

    def encode_rows(tokens: npt.NDArray[np.uint16]) -> Floats:
        parts = np.split(tokens.astype(np.int32), range(1024, len(tokens), 1024))
        return np.concatenate([bundle.encoder.run(["embedding"], {"tokens": part})[0] for part in parts])

    return {**REGISTRY, **on_embeddings(packet_mean(encode_rows))}


@command(
    argument("--pairs", type=Path, nargs="+", required=True, help="Parquet files of `packetclip pairs`, with labels"),
    argument("--seed", type=int, default=1, help="of the split and of every baseline"),
    argument("--only", nargs="+", metavar="NAME", help="some of the baselines, by name"),
    argument("--bundle", help=f"folder of the bundle that embeds packets; default the shipped one, {NO_EMBEDDINGS!r} for none"),
    argument("--full-size", action="store_true", help="also train ET-BERT at full size, on a GPU"),
)
def main(args: argparse.Namespace) -> None:
    """Train and measure one baseline after the other. Exit codes: 0 done, 2 the data, the bundle or a name is wrong."""
    torch.set_num_threads(1)
    examples = load(args.pairs)
    at_train, at_held = split(examples, seed=args.seed)
    if not len(at_held):
        raise DataError("no class has two captures, so none can be held out; give the pairs of more captures")
    train, held = examples.take(at_train), examples.take(at_held)
    known = known_baselines(args.bundle, held)
    if args.full_size:
        if not torch.cuda.is_available():
            raise DataError("--full-size: ET-BERT at full size needs a GPU, and torch finds none; leave the flag out on a CPU")
        known = {**known, "etbert": etbert_full("cuda")}
    wanted = args.only or list(known)
    if unknown := [name for name in wanted if name not in known]:
        raise DataError(f"{unknown[0]!r} is no baseline; known are {'; '.join(known)}")
    print(f"AUC, {len(held):,} windows of {len(set(held.capture))} captures held out")
    print(f"{'baseline':30}" + "".join(f"{name:>16}" for name in (*GROUPS, "mean", "s")))
    for name in wanted:
        started = time.monotonic()
        p, group = known[name](train, args.seed)(held), held.group.numpy()
        aucs = [metrics.auc(p[:, i], group == i) for i in range(len(GROUPS))]
        cells = ["-" if np.isnan(v) else f"{v:.3f}" for v in (*aucs, metrics.mean(aucs))]
        print(f"{name:30}" + "".join(f"{cell:>16}" for cell in (*cells, f"{time.monotonic() - started:.0f}")), flush=True)


if __name__ == "__main__":
    sys.exit(main())
