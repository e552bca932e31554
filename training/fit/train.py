"""Pairs to a model bundle: masked bytes, contrast with text, reasoning over the graphs, calibration, export.

    python -m training.fit.train --pairs runs/pairs/*.parquet --out packetclip_sensor/model/shipped
    python -m training.fit.train --pairs runs/pairs/*.parquet --experiment small --set reason.steps=800 --work runs/small --resume
    torchrun --nproc-per-node 2 -m training.fit.train --pairs runs/pairs/*.parquet --work runs/two

Reads top to bottom. Every figure it prints goes into `metrics` of the bundle's manifest, with the captures that it was measured
on. Without --out nothing is exported: what is trained stays in --work.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from training.common import DataError, argument, command
from training.data.windows import CLASSES, GROUPS, load, split
from training.fit import distributed
from training.fit import experiment as experiments
from training.fit.engine import LOGS, TrainingError
from training.fit.fit import fit
from training.fit.predictor import class_embeddings, macro_recall
from training.ship.calibration import fit_temperature, thresholds
from training.ship.export import export
from training.text.text_encoder import TextEncoder


@command(
    argument("--pairs", type=Path, nargs="+", required=True, help="Parquet files of `packetclip pairs`, with labels"),
    argument("--out", type=Path, help="bundle folder to write; without it nothing is exported"),
    argument("--experiment", type=Path, default=Path("default"), help="YAML file, or the name of a shipped one"),
    argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting, as in reason.steps=800"),
    argument("--work", type=Path, help="folder of checkpoints and TensorBoard curves"),
    argument("--resume", action="store_true", help="go on from the newest checkpoint in --work"),
    argument("--seed", type=int, help="the same as --set seed=N"),
    argument("--budget", type=float, default=5e-5, help="share of benign windows that may pass a mission's threshold"),
    argument("--version", default="1", help="model version, part of every document id"),
    argument("--spill", type=Path, metavar="FOLDER", help="keep the windows in files there: for a data set larger than memory"),
    argument("--text-cache", type=Path, help="file (.npz) that keeps the features of texts between runs"),
)
def main(args: argparse.Namespace) -> int:
    """Train and export. Exit codes: 0 done, 1 training failed, 2 the data or a setting is unfit, 130 stopped by the user."""
    try:
        train_and_export(args)
        return 0
    except TrainingError as err:
        kept = f"; the last checkpoint stays in {args.work}" if args.work else ""
        print(f"error: {err}{kept}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped{f'; go on with --work {args.work} --resume' if args.work else ''}", file=sys.stderr)
        return 130
    finally:
        distributed.stop()


def train_and_export(args: argparse.Namespace) -> None:
    """The stages, one after the other."""
    started = time.monotonic()
    seed = [] if args.seed is None else [f"seed={args.seed}"]
    experiment = experiments.read(args.experiment, [*args.set, *seed])
    if args.resume and not args.work:
        raise DataError("--resume needs --work, the folder of the checkpoints")
    if args.out and (experiment.model.encoder != "patch" or experiment.model.graph == "none"):
        raise DataError("a bundle needs model.encoder patch and a graph, which the sensor explains; leave --out away")
    examples = load(args.pairs, args.spill)
    at_train, at_held = split(examples, experiment.data.held_out, experiment.seed)
    if not len(at_held):
        raise DataError("no class has two captures, so none can be held out to calibrate on; give the pairs of more captures")
    train, held = examples.take(at_train), examples.take(at_held)
    print(
        f"{len(train)} windows of {len(set(train.capture))} captures to train, {len(held)} of {len(set(held.capture))} held out; "
        f"{len(examples.tokens)} distinct packet rows"
    )
    del examples  # a second copy of all windows, gigabytes of a large lab
    for i, name in enumerate(CLASSES):
        print(f"  {name:20} {int((train.label == i).sum()):7} train {int((held.label == i).sum()):7} held out")
    if args.work:
        print(f"curves: tensorboard --logdir {args.work / LOGS}")

    encode = TextEncoder(experiment.text.encoder, args.text_cache)
    predictor = fit(experiment, train, encode, work=args.work, validation=held, resume=args.resume)
    if distributed.rank():
        return
    metrics: dict[str, float] = {}
    for entry in predictor.history:
        metrics[f"{entry['stage']} loss (nats)"] = entry["loss"]
    logits, embeddings = predictor.predict(held)
    temperature, group = fit_temperature(logits, held.group), held.group.numpy()
    probabilities = (logits / temperature).softmax(1).numpy()
    metrics |= measure(probabilities, group)
    nearest = (embeddings @ class_embeddings(predictor.model, encode).T).argmax(1)
    metrics["nearest class, held-out prompts: macro recall"] = macro_recall(nearest, held.label)
    metrics["minutes"] = round((time.monotonic() - started) / 60, 1)
    for name, value in metrics.items():
        print(f"  {name:48} {value:8.4f}")
    if args.out is None:
        return
    export(
        predictor.model.cpu(),
        predictor.graphs,
        encode,
        args.out,
        version=args.version,
        temperature=temperature,
        thresholds=thresholds(probabilities, group, args.budget),
        metrics=metrics,
        examples=held,
        data={
            "train": sorted(set(train.capture)),
            "held out": sorted(set(held.capture)),
            "seed": experiment.seed,
            "windows": {"train": len(train), "held out": len(held)},
        },
    )


def measure(probabilities: np.ndarray, group: np.ndarray) -> dict[str, float]:
    """One-against-rest AUC per group and their mean, and accuracy."""
    out = {}
    for i, name in enumerate(GROUPS):
        truth = group == i
        if truth.any() and not truth.all():
            out[f"auc {name}"] = float(roc_auc_score(truth, probabilities[:, i]))
    out["auc mean"] = float(np.mean(list(out.values())))
    out["accuracy"] = float((probabilities.argmax(1) == group).mean())
    return out


if __name__ == "__main__":
    sys.exit(main())
