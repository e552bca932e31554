"""AUC of every baseline on captures that were held out.

    python -m training.evaluate.baselines --pairs runs/pairs/*.parquet --seed 1
    python -m training.evaluate.baselines --pairs runs/pairs/*.parquet --only majority "XGBoost, flow"

The split is the model's own (`training.data.windows.split`). Embeddings are those of a bundle's encoder; it must have been
trained on the same split, and the command says so where the bundle names a held-out capture as training data.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from packetclip_sensor.common.resources import resource
from packetclip_sensor.errors import SensorError
from packetclip_sensor.model.bundle import MANIFEST, Bundle
from training.data.windows import GROUPS, DataError, Examples, load, split
from training.evaluate.baselines import REGISTRY, Fit, on_embeddings
from training.evaluate.baselines.etbert import etbert_full
from training.evaluate.baselines.features import packet_mean
from training.evaluate.baselines.types import Encode, Floats

NO_EMBEDDINGS = "none"


def bundle_encoder(bundle: Bundle) -> Encode:
    """Mean packet embedding of a window, by a bundle's encoder."""

    def encode_rows(tokens: npt.NDArray[np.uint16]) -> Floats:
        parts = np.split(tokens.astype(np.int32), range(1024, len(tokens), 1024))
        return np.concatenate([bundle.encoder.run(["embedding"], {"tokens": part})[0] for part in parts])

    return packet_mean(encode_rows)


def auc(probabilities: Floats, group: npt.NDArray[np.int64]) -> list[float | None]:
    """One-against-rest AUC of each group; None for a group that all or no windows belong to."""
    out: list[float | None] = []
    for i in range(len(GROUPS)):
        truth = group == i
        out.append(float(roc_auc_score(truth, probabilities[:, i])) if truth.any() and not truth.all() else None)
    return out


def baselines(bundle_path: str | None, held: Examples, console: Console) -> dict[str, Fit]:
    """All baselines, with those on embeddings unless the bundle is "none"."""
    if bundle_path == NO_EMBEDDINGS:
        return REGISTRY
    path = Path(bundle_path) if bundle_path else resource("model/shipped")
    bundle = Bundle.open(path)
    trained_on = json.loads((path / MANIFEST).read_bytes()).get("data", {}).get("train", ())
    both = set(trained_on) & set(held.capture)
    if both:
        console.print(
            f"[yellow]the encoder was trained on {len(both)} of the captures held out here ({', '.join(sorted(both)[:3])} ...); "
            "its rows are too good; name a bundle of this split by --bundle[/yellow]"
        )
    return {**REGISTRY, **on_embeddings(bundle_encoder(bundle))}


def run(args: argparse.Namespace, console: Console) -> None:
    """Train and measure one baseline after the other."""
    torch.set_num_threads(1)
    examples = load(args.pairs)
    at_train, at_held = split(examples, seed=args.seed)
    if not len(at_held):
        raise DataError("no class has two captures, so none can be held out; give the pairs of more captures")
    train, held = examples.take(at_train), examples.take(at_held)
    known = baselines(args.bundle, held, console)
    if args.full_size:
        if not torch.cuda.is_available():
            raise DataError("--full-size: ET-BERT at full size needs a GPU, and torch finds none; leave the flag out on a CPU")
        known = {**known, "etbert": etbert_full("cuda")}
    wanted = args.only or list(known)
    for name in wanted:
        if name not in known:
            raise DataError(f"{name!r} is no baseline; known are {'; '.join(known)}")
    table = Table(
        "baseline", *GROUPS, "mean AUC", "s", title=f"AUC, {len(held):,} windows of {len(set(held.capture))} captures held out"
    )
    for name in wanted:
        started = time.monotonic()
        with console.status(name):
            values = auc(known[name](train, args.seed)(held), held.group.numpy())
        measured = [v for v in values if v is not None]
        cells = ["-" if v is None else f"{v:.3f}" for v in [*values, float(np.mean(measured)) if measured else None]]
        table.add_row(name, *cells, f"{time.monotonic() - started:.0f}")
        console.print(f"{name:28} {'  '.join(cells)}")
    console.print(table)


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 2 the data, the bundle or a name is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, nargs="+", required=True, help="Parquet files of `packetclip pairs`, with labels")
    parser.add_argument("--seed", type=int, default=1, help="of the split and of every baseline")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="some of the baselines, by name")
    parser.add_argument(
        "--bundle", help=f"folder of the bundle that embeds packets; default the shipped one, {NO_EMBEDDINGS!r} for none"
    )
    parser.add_argument("--full-size", action="store_true", help="also train ET-BERT at full size, on a GPU")
    args = parser.parse_args(argv)
    try:
        run(args, Console(width=130))
    except (DataError, SensorError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
