"""Runs stages one after the other: steps, checkpoints, resuming, progress, TensorBoard, several processes.

The engine knows nothing of what a stage learns. It checks each step's loss, averages gradients over processes, and writes what a
resumed run needs.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from packetclip_sensor.errors import ConfigError
from training.fit import checkpoints, distributed
from training.fit.settings import Experiment
from training.fit.stages import Stage
from training.model.packetclip import PacketClip

LOGS = "tensorboard"

Planned = tuple[int, Callable[[], Stage]]
"""Steps of a stage and what makes it."""


class TrainingError(RuntimeError):
    """Training cannot go on; the message names stage and step."""


class Scalars:
    """TensorBoard's event file, or nothing: a disk that is full must not stop training."""

    def __init__(self, folder: Path | None, experiment: Experiment) -> None:
        self._writer: Any = None
        if folder is not None and not distributed.rank():
            self._writer = folder
            self._do(self._open)
            settings = json.dumps(msgspec.to_builtins(experiment), indent=1)
            self._do(lambda writer: writer.add_text("experiment", f"```\n{settings}\n```", 0))

    def add(self, name: str, value: float, step: int) -> None:
        """One point of a curve."""
        self._do(lambda writer: writer.add_scalar(name, value, step))

    def close(self) -> None:
        """Write what is left."""
        self._do(lambda writer: writer.close())

    def _open(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  (a second that only this needs)

        self._writer = SummaryWriter(str(folder / LOGS))

    def _do(self, act: Callable[[Any], None]) -> None:
        try:
            if self._writer is not None:
                act(self._writer)
        except (ImportError, OSError) as err:
            self._writer = None
            print(f"warning: TensorBoard: {err}; training goes on without curves", file=sys.stderr)


class Engine:
    """Trains a model through its stages, or from the newest checkpoint on."""

    def __init__(
        self,
        model: PacketClip,
        experiment: Experiment,
        *,
        work: Path | None = None,
        fingerprint: str = "",
        validate: Callable[[Stage], dict[str, float]] | None = None,
        left_out: Sequence[str] = (),
    ) -> None:
        """Prepare.

        Args:
            work: folder of checkpoints and curves; None keeps nothing.
            fingerprint: of the data; a checkpoint of other data is refused.
            validate: figures of the model as it is, called every `run.validate_steps` steps and at a stage's end.
            left_out: prefixes of weights that no checkpoint holds, since a frozen encoder is read again.
        """
        self.model, self.experiment, self.work = model, experiment, work
        self.fingerprint, self.validate, self.left_out = fingerprint, validate, tuple(left_out)
        self.history: list[dict[str, Any]] = []
        self._scalars: Scalars | None = None

    def run(self, stages: Sequence[Planned], *, resume: bool = True) -> None:
        """Train; a stage is made once the ones before it are done, and one that was done before is not made again.

        Raises:
            TrainingError: a loss is no number. ConfigError: the checkpoint is of another experiment or of other data.
        """
        state = self._newest(resume)
        first = state["stage"] if state else 0
        if state:
            self.model.load_state_dict(state["model"], strict=not self.left_out)
            self.history = json.loads(state["history"])
        self._scalars = Scalars(self.work, self.experiment)
        try:
            for number, (steps, make) in enumerate(stages):
                if number < first:
                    continue
                if state and number == first and state["step"] >= steps:
                    self._set_random(state)
                    continue
                stage = make()
                stage.own.train()
                distributed.from_first([*self.model.parameters(), *self.model.buffers(), *stage.own.parameters()])
                if state and number == first:
                    stage.load(state["state"], state["step"])
                    self._set_random(state)
                elif number == 0 and distributed.rank():
                    torch.manual_seed(self.experiment.seed + 7919 * distributed.rank())  # dropout differs between processes
                self._train(stage, number)
        finally:
            self._scalars.close()

    def _newest(self, resume: bool) -> dict[str, Any] | None:
        if self.work is None:
            return None
        if not resume and checkpoints.found(self.work):
            raise ConfigError(f"{self.work}: holds checkpoints of an earlier run; resume it, or name another folder")
        state = checkpoints.load(self.work)
        if state is None:
            return None
        there, here = json.loads(state["experiment"]), msgspec.to_builtins(self.experiment)
        # What is not learned may differ: where it runs, how often it is saved.
        differing = sorted(
            key for key in here if key not in ("run", "name") and there.get(key) != json.loads(json.dumps(here[key]))
        )
        if differing:
            raise ConfigError(
                f"{self.work}: checkpoints of another experiment, {', '.join(differing)} differ; name another folder"
            )
        if state["data"] != self.fingerprint:
            raise ConfigError(f"{self.work}: checkpoints of other training windows; name another folder")
        if len(state["random"]) != distributed.world():
            raise ConfigError(
                f"{self.work}: checkpoints of {len(state['random'])} processes, now {distributed.world()}; resume with as many"
            )
        return state

    def _train(self, stage: Stage, number: int) -> None:
        run = self.experiment.run
        self.model.train()
        saved = time.monotonic()
        columns = (TextColumn("{task.description:9}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[status]}"))
        with Progress(*columns, TimeRemainingColumn(), disable=bool(distributed.rank())) as progress:
            task = progress.add_task(stage.name, total=stage.steps, completed=stage.step, status="")
            began, before = time.monotonic(), stage.step
            while stage.step < stage.steps:
                value = self._step(stage)
                stage.step += 1
                if stage.step % run.log_steps == 0 or stage.step == stage.steps:
                    rate = (stage.step - before) * stage.batch / max(time.monotonic() - began, 1e-9)
                    self._log(stage, value, rate, progress, task)
                progress.update(task, completed=stage.step)
                due = stage.step % run.checkpoint_steps == 0 or stage.step == stage.steps
                # The clock of one process must not decide for all, or they would wait for each other in different places.
                if due or (distributed.world() == 1 and time.monotonic() - saved >= run.checkpoint_seconds):
                    self._save(stage, number)
                    saved = time.monotonic()

    def _step(self, stage: Stage) -> float:
        loss = stage.loss()
        stage.optimiser.zero_grad()
        loss.backward()
        mean = loss.detach().clone()
        distributed.average([*(p.grad for p in stage.parameters if p.grad is not None), mean])
        value = mean.item()
        if not abs(value) < float("inf"):  # also true of NaN
            raise TrainingError(
                f"stage {stage.name}, step {stage.step + 1}: the loss is {value}; lower {stage.name}.learning_rate, "
                "or look for windows whose relations are no numbers"
            )
        if stage.clip is not None:
            torch.nn.utils.clip_grad_norm_(stage.parameters, stage.clip)
        stage.optimiser.step()
        if stage.schedule:
            stage.schedule.step()
        return value

    def _log(self, stage: Stage, value: float, rate: float, progress: Progress, task: TaskID) -> None:
        entry: dict[str, Any] = {"stage": stage.name, "step": stage.step, "loss": value}
        every = self.experiment.run.validate_steps
        if self.validate and every and not distributed.rank() and (stage.step % every == 0 or stage.step == stage.steps):
            self.model.eval()
            entry |= self.validate(stage)
            self.model.train()
        self.history.append(entry)
        for key, number in entry.items():
            if isinstance(number, float):
                self._scalars.add(f"{stage.name}/{key}", number, stage.step)
        self._scalars.add(f"{stage.name}/rows a second", rate, stage.step)
        top = f" zero-shot top-1 {entry['zero_shot_top1']:.3f}" if "zero_shot_top1" in entry else ""
        progress.update(task, status=f"loss {value:.4f}, {rate:.0f}/s{top}")

    def _save(self, stage: Stage, number: int) -> None:
        if self.work is None:
            return
        random = distributed.of_all(torch.get_rng_state())
        cuda = distributed.of_all(torch.cuda.get_rng_state()) if stage.device.type == "cuda" else torch.empty(0)
        if distributed.rank():
            return
        weights = {k: v for k, v in self.model.state_dict().items() if not k.startswith(self.left_out or ("\0",))}
        checkpoints.save(
            self.work,
            number,
            stage.step,
            {
                "experiment": json.dumps(msgspec.to_builtins(self.experiment)),
                "data": self.fingerprint,
                "stage": number,
                "step": stage.step,
                "model": weights,
                "state": stage.state(),
                "random": random,
                "cuda": cuda,
                "history": json.dumps(self.history),
            },
        )

    @staticmethod
    def _set_random(state: dict[str, Any]) -> None:
        torch.set_rng_state(state["random"][distributed.rank()])
        if len(state["cuda"]) and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"][distributed.rank()])
