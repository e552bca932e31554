"""Measures int8 forms of a bundle's encoder and reasoner: size, speed on one thread, and what they cost in AUC.

    python -m training.quantise --bundle packetclip_sensor/model --pairs runs/pairs/*.parquet

Dynamic: weights in int8, activations quantised as they come, by the range of their batch. Static: the ranges are fixed beforehand
on training windows. Forms are timed in turns, so that a busy machine slows all of them alike. A form pays if it is faster, loses
less than 0.002 of the mean AUC on held-out captures, and gives a row the same output whatever else is in its batch: otherwise a
replay would give other verdicts than the sensor did. With --out a bundle with the forms that pay is written.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.metrics import roc_auc_score

from packetclip_sensor.bundle import MANIFEST, Bundle, sealed
from packetclip_sensor.errors import SensorError
from packetclip_sensor.judge import ENCODE_ROWS, REASON_WINDOWS
from training.data import GROUPS, DataError, Examples, load, split

Floats = npt.NDArray[np.float32]
Inputs = dict[str, npt.NDArray[np.generic]]

FILES = ("encoder.onnx", "reasoner.onnx")
FORMS = ("float", "dynamic", "static")
MOST_LOSS = 0.002
"""Mean AUC that a form may lose."""
MOST_DRIFT = 1e-4
CALIBRATION_WINDOWS = 512
QUANTISED = ["MatMul", "Gemm"]
"""Operators that int8 has faster kernels for; the rest stays in single precision."""
EVENTS = "/events/"
"""How the names of the event nodes' operators begin."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One form of one file."""

    file: str
    form: str
    size_bytes: int
    per_second: float
    """Packets of the encoder, windows of the reasoner; median over rounds."""
    faster: float
    """Median over rounds of this form's speed by the float form's in the same round."""
    auc: float
    """Mean one-against-rest AUC with only this file exchanged."""
    loss: float
    drift: float
    """Largest change of an output by what else is in the batch: of an embedding's element, or of a logit."""

    @property
    def pays(self) -> bool:
        """Whether it should be shipped."""
        return self.form != "float" and self.faster > 1.0 and self.loss < MOST_LOSS and self.drift <= MOST_DRIFT


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands the calibration batches to onnxruntime, one after the other."""

    def __init__(self, batches: Sequence[Inputs]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> Inputs | None:
        """The next batch; None at the end."""
        return next(self._batches, None)


def session(path: Path) -> onnxruntime.InferenceSession:
    """A session as the sensor has it: one thread on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def encode(encoder: onnxruntime.InferenceSession, tokens: npt.NDArray[np.uint16]) -> Floats:
    """(U, W) token rows to (U, D) embeddings."""
    parts = np.split(tokens.astype(np.int32), range(ENCODE_ROWS, len(tokens), ENCODE_ROWS))
    return np.concatenate([encoder.run(["embedding"], {"tokens": part})[0] for part in parts])


def windows_of(examples: Examples, table: Floats, used: npt.NDArray[np.int64], batch: int = REASON_WINDOWS) -> Iterator[Inputs]:
    """The reasoner's inputs; `table` holds the embeddings of the token rows `used`, ascending."""
    for start in range(0, len(examples), batch):
        rows = examples.rows[start : start + batch].numpy()
        padding = rows < 0
        embedding = np.zeros((*rows.shape, table.shape[1]), np.float32)
        embedding[~padding] = table[np.searchsorted(used, rows[~padding])]
        yield {"embedding": embedding, "relations": examples.relations[start : start + batch].numpy(), "padding": padding}


def rows_of(examples: Examples) -> npt.NDArray[np.int64]:
    """The distinct token rows of the windows, ascending."""
    rows = examples.rows.numpy()
    return np.unique(rows[rows >= 0])


def make(source: Path, work: Path, train: Examples) -> dict[tuple[str, str], Path]:
    """All forms of both files, by file and form; `train` gives the ranges of the static ones."""
    chosen = train.take(np.unique(np.linspace(0, len(train) - 1, CALIBRATION_WINDOWS).astype(np.int64)))
    used = rows_of(chosen)
    tokens = chosen.tokens[used]
    table = encode(session(source / "encoder.onnx"), tokens)
    parts = np.split(tokens.astype(np.int32), range(ENCODE_ROWS, len(tokens), ENCODE_ROWS))
    batches: dict[str, list[Inputs]] = {
        "encoder.onnx": [{"tokens": part} for part in parts],
        "reasoner.onnx": list(windows_of(chosen, table, used, 64)),
    }
    out: dict[tuple[str, str], Path] = {}
    with _quiet():
        for file in FILES:
            out[file, "float"] = source / file
            ready, dynamic, static = (work / f"{kind}-{file}" for kind in ("ready", "dynamic", "static"))
            quant_pre_process(str(source / file), str(ready), skip_symbolic_shape=True)
            alike = {"per_channel": True, "op_types_to_quantize": QUANTISED, "nodes_to_exclude": _exact(ready)}
            quantize_dynamic(ready, dynamic, weight_type=QuantType.QInt8, **alike)
            quantize_static(
                ready, static, Reader(batches[file]), weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8, **alike
            )
            out[file, "dynamic"], out[file, "static"] = dynamic, static
    return out


def _exact(path: Path) -> list[str]:
    """Nodes that stay in single precision: those of the events, where sums span twenty powers of e. Int8 would leave zeros of
    them, which have no logarithm."""
    return [node.name for node in onnx.load(path).graph.node if node.name.startswith(EVENTS)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime's quantiser writes advice about its own steps to the root logger."""
    before = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.root.setLevel(before)


def auc(logits: Floats, group: npt.NDArray[np.int64]) -> float:
    """Mean one-against-rest AUC of the groups that occur; NaN where a form gives what is no number."""
    if not np.isfinite(logits).all():
        return float("nan")
    truths = [(group == i, logits[:, i]) for i in range(len(GROUPS))]
    z = np.exp(logits - logits.max(1, keepdims=True))
    p = z / z.sum(1, keepdims=True)
    return float(
        np.mean([roc_auc_score(truth, p[:, i]) for i, (truth, _) in enumerate(truths) if truth.any() and not truth.all()])
    )


def speeds(paths: dict[str, Path], batch: Inputs, rounds: int = 30) -> dict[str, npt.NDArray[np.float64]]:
    """Rows a second of each form, (rounds,): in every round each form runs the same batch once, in turn."""
    sessions = {form: session(path) for form, path in paths.items()}
    rows = len(next(iter(batch.values())))
    taken: dict[str, list[float]] = {form: [] for form in paths}
    for number in range(rounds + 3):
        for form, opened in sessions.items():
            start = time.perf_counter()
            opened.run(None, batch)
            if number >= 3:
                taken[form].append(rows / (time.perf_counter() - start))
    return {form: np.array(values) for form, values in taken.items()}


def drift(path: Path, batch: Inputs, part: int = 7) -> float:
    """Largest change of the first output between the batch as a whole and in parts of `part` rows."""
    opened = session(path)
    whole = opened.run(None, batch)[0]
    parts = [opened.run(None, {k: v[i : i + part] for k, v in batch.items()})[0] for i in range(0, len(whole), part)]
    return float(np.abs(whole - np.concatenate(parts)).max())


def measure(forms: dict[tuple[str, str], Path], held: Examples) -> list[Measured]:
    """Size, speed and AUC of every form on the windows `held`."""
    used, group = rows_of(held), held.group.numpy()
    tokens = held.tokens[used]
    tables = {form: encode(session(forms["encoder.onnx", form]), tokens) for form in track(FORMS, "encode held-out packets")}

    def mean_auc(table: Floats, reasoner: Path) -> float:
        opened = session(reasoner)
        return auc(np.concatenate([opened.run(["logits"], part)[0] for part in windows_of(held, table, used)]), group)

    plain = mean_auc(tables["float"], forms["reasoner.onnx", "float"])
    batches: dict[str, Inputs] = {
        "encoder.onnx": {"tokens": tokens[np.linspace(0, len(tokens) - 1, ENCODE_ROWS).astype(int)].astype(np.int32)},
        "reasoner.onnx": next(windows_of(held, tables["float"], used)),
    }
    out = []
    for file in track(FILES, "measure"):
        rates = speeds({form: forms[file, form] for form in FORMS}, batches[file])
        for form in FORMS:
            table = tables[form if file == "encoder.onnx" else "float"]
            value = mean_auc(table, forms["reasoner.onnx", form if file == "reasoner.onnx" else "float"])
            faster = float(np.median(rates[form] / rates["float"]))
            size = forms[file, form].stat().st_size
            moved = drift(forms[file, form], batches[file])
            out.append(Measured(file, form, size, float(np.median(rates[form])), faster, value, plain - value, moved))
    return out


def chosen(measured: Sequence[Measured]) -> dict[str, str]:
    """The fastest form of each file that pays, if any; together they must not lose more than one may."""
    best: dict[str, Measured] = {}
    for m in sorted(measured, key=lambda m: m.faster):
        if m.pays:
            best[m.file] = m
    while sum(max(m.loss, 0.0) for m in best.values()) >= MOST_LOSS:
        del best[max(best.values(), key=lambda m: m.loss).file]
    return {file: m.form for file, m in best.items()}


def table(measured: Sequence[Measured]) -> Table:
    """What `measure` found, as it is printed."""
    made = Table(title="int8 on one thread", title_justify="left")
    for name in ("file", "form", "kB", "rows/s", "speed", "mean AUC", "loss", "drift", "pays"):
        made.add_column(name, justify="left" if name in ("file", "form", "pays") else "right")
    for m in measured:
        numbers = (f"{m.size_bytes / 1e3:,.0f}", f"{m.per_second:,.0f}", f"{m.faster:.2f}x", f"{m.auc:.4f}")
        made.add_row(
            m.file, m.form, *numbers, f"{m.loss:+.4f}", f"{m.drift:.0e}", "" if m.form == "float" else "yes" if m.pays else "no"
        )
    return made


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and write a bundle. Exit codes: 0 done, 2 the bundle or the data is missing or unfit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True, help="folder of a bundle in single precision")
    parser.add_argument("--pairs", type=Path, nargs="+", required=True, help="Parquet files of `packetclip pairs`, with labels")
    parser.add_argument("--seed", type=int, default=1, help="of the split into training and held-out captures")
    parser.add_argument("--out", type=Path, help="folder for a bundle with the forms that pay")
    args = parser.parse_args(argv)
    try:
        run(args.bundle, args.pairs, args.seed, args.out)
    except (DataError, SensorError, OSError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    return 0


def shrink(folder: Path, train: Examples, held: Examples) -> dict[str, str]:
    """Exchange the files of a bundle folder for the int8 forms that pay; returns the form of each file exchanged."""
    with tempfile.TemporaryDirectory() as work:
        forms = make(folder, Path(work), train)
        measured = measure(forms, held)
        Console(width=100).print(table(measured))
        use = chosen(measured)
        for file, form in use.items():
            shutil.copyfile(forms[file, form], folder / file)
    words = ", ".join(f"{file} {form}" for file, form in use.items())
    why = f"does not pay: no form is faster, steady, and loses less than {MOST_LOSS} of the mean AUC"
    print(f"int8 {'pays: ' + words if use else why}")
    return use


def run(bundle: Path, pairs: Sequence[Path], seed: int, out: Path | None) -> None:
    """Measure the bundle on the held-out pairs, and write the one with int8 if anything pays."""
    Bundle.open(bundle)
    examples = load(pairs)
    at_train, at_held = split(examples, seed=seed)
    if not len(at_held):
        raise DataError("no class has two captures, so none can be held out; give the pairs of more captures")
    train, held = examples.take(at_train), examples.take(at_held)
    print(f"{len(held):,} held-out windows of {len(set(held.capture))} captures, seed {seed}")
    with tempfile.TemporaryDirectory() as work:
        copy = Path(shutil.copytree(bundle, Path(work) / "bundle"))
        use = shrink(copy, train, held)
        if out is None or not use:
            return
        manifest = json.loads((copy / MANIFEST).read_text()) | {"int8": use}
        (copy / MANIFEST).write_text(json.dumps(sealed(manifest, copy), indent=1) + "\n")
        Bundle.open(copy)
        shutil.copytree(copy, out)
        print(f"{out} written")


if __name__ == "__main__":
    sys.exit(main())
