"""Pairs to a model bundle: masked bytes, contrast with text, reasoning over the graphs, calibration, export.

    python -m training.fit.train --pairs runs/pairs/*.parquet --out packetclip_sensor/model/shipped
    python -m training.fit.train --pairs runs/pairs/*.parquet --experiment small --set reason.steps=800 --work runs/small --resume
    torchrun --nproc-per-node 2 -m training.fit.train --pairs runs/pairs/*.parquet --work runs/two

Reads top to bottom. Every figure it prints goes into `metrics` of the bundle's manifest, with the captures that it was measured
on. Without --out nothing is exported: what is trained stays in --work.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from packetclip_sensor.errors import SensorError
from training.data.windows import CLASSES, GROUPS, DataError, TextTower, load, split
from training.fit import distributed
from training.fit import experiment as experiments
from training.fit.engine import LOGS, TrainingError
from training.fit.experiment import Experiment
from training.fit.fit import fit
from training.fit.predictor import class_embeddings, macro_recall
from training.missions import MISSIONS
from training.ship.export import export

__all__ = ["fit_temperature", "main", "measure", "thresholds"]


def fit_temperature(logits: Tensor, group: Tensor) -> float:
    """The divisor of the logits with the least cross-entropy, from a fine grid. Source: Guo et al. 2017, arXiv:1706.04599."""
    grid = torch.logspace(-0.5, 1.0, 61)
    return float(min(grid, key=lambda t: float(F.cross_entropy(logits / t, group))))


def thresholds(probabilities: np.ndarray, group: np.ndarray, budget: float) -> dict[str, float]:
    """For each mission the probability that at most `budget` of the benign windows exceed, never below 0.5 or above 0.995."""
    benign = probabilities[group == 0]
    return {m: float(np.clip(np.quantile(benign[:, 1 + i], 1 - budget), 0.5, 0.995)) for i, m in enumerate(MISSIONS)}


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


def main(argv: list[str] | None = None) -> int:
    """Train and export. Exit codes: 0 done, 1 training failed, 2 the data or a setting is unfit, 130 stopped by the user."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, nargs="+", required=True, help="Parquet files of `packetclip pairs`, with labels")
    parser.add_argument("--out", type=Path, help="bundle folder to write; without it nothing is exported")
    parser.add_argument("--experiment", type=Path, default=Path("default"), help="YAML file, or the name of a shipped one")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting, as in reason.steps=800"
    )
    parser.add_argument("--work", type=Path, help="folder of checkpoints and TensorBoard curves")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --work")
    parser.add_argument("--seed", type=int, help="the same as --set seed=N")
    parser.add_argument("--byte-steps", type=int, help="the same as --set bytes.steps=N")
    parser.add_argument("--contrast-steps", type=int, help="the same as --set contrast.steps=N")
    parser.add_argument("--reason-steps", type=int, help="the same as --set reason.steps=N")
    parser.add_argument("--budget", type=float, default=5e-5, help="share of benign windows that may pass a mission's threshold")
    parser.add_argument("--version", default="1", help="model version, part of every document id")
    parser.add_argument("--text-cache", type=Path, help="file that keeps the features of texts between runs")
    parser.add_argument("--text-encoder", help="the same as --set text.encoder=FOLDER")
    args = parser.parse_args(argv)
    short = {
        "seed": args.seed,
        "bytes.steps": args.byte_steps,
        "contrast.steps": args.contrast_steps,
        "reason.steps": args.reason_steps,
        "text.encoder": args.text_encoder,
    }
    try:
        given = [f"{key}={value}" for key, value in short.items() if value is not None]
        experiment = experiments.read(args.experiment, [*args.set, *given])
        if args.resume and not args.work:
            raise DataError("--resume needs --work, the folder of the checkpoints")
        if args.out and (experiment.model.encoder != "patch" or experiment.model.graph == "none"):
            raise DataError("a bundle needs model.encoder patch and a graph, which the sensor explains; leave --out away")
        train_and_export(args, experiment)
    except (DataError, SensorError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    except TrainingError as err:
        kept = f"; the last checkpoint stays in {args.work}" if args.work else ""
        print(f"error: {err}{kept}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped{f'; go on with --work {args.work} --resume' if args.work else ''}", file=sys.stderr)
        return 130
    finally:
        distributed.stop()
    return 0


def train_and_export(args: argparse.Namespace, experiment: Experiment) -> None:
    """The stages, one after the other."""
    started = time.monotonic()
    examples = load(args.pairs)
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

    tower = TextTower(experiment.text.encoder, args.text_cache)
    fitted = fit(experiment, train, tower, work=args.work, validation=held, resume=args.resume)
    if distributed.rank():
        return
    metrics: dict[str, float] = {}
    for entry in fitted.history:
        metrics[f"{entry['stage']} loss (nats)"] = entry["loss"]
    logits, embeddings = fitted.predict(held)
    temperature = fit_temperature(logits, held.group)
    probabilities = (logits / temperature).softmax(1).numpy()
    metrics |= measure(probabilities, held.group.numpy())
    nearest = (embeddings @ class_embeddings(fitted.model, tower).T).argmax(1)
    metrics["nearest class, held-out prompts: macro recall"] = macro_recall(nearest, held.label)
    metrics["minutes"] = round((time.monotonic() - started) / 60, 1)
    for name, value in metrics.items():
        print(f"  {name:48} {value:8.4f}")
    if args.out is None:
        return
    data: dict[str, Any] = {
        "train": sorted(set(train.capture)),
        "held out": sorted(set(held.capture)),
        "seed": experiment.seed,
        "windows": {"train": len(train), "held out": len(held)},
    }
    export(
        fitted.model.cpu(),
        fitted.graphs,
        tower,
        args.out,
        version=args.version,
        temperature=temperature,
        thresholds=thresholds(probabilities, held.group.numpy(), args.budget),
        metrics=metrics,
        examples=held,
        data=data,
    )


if __name__ == "__main__":
    sys.exit(main())
