"""One step of each stage on made-up windows, by as many processes as torchrun starts: `one_step.py FILE` writes the weights."""

from __future__ import annotations

import sys

import torch
from tiny import Words, tiny, windows

from training.fit import distributed
from training.fit.fit import fit

STAGES = ("bytes", "words", "contrast", "reason")


def main(out: str) -> None:
    """Dropout is off, for what it hides is drawn by each process for itself."""
    torch.nn.Dropout.forward = lambda self, x: x
    torch.set_num_threads(1)
    made = {}
    for stage in STAGES:
        steps = [f"{name}.steps={int(name == stage)}" for name in STAGES] + [f"{name}.schedule=constant" for name in STAGES]
        made[stage] = fit(tiny(*steps), windows(), Words()).model.state_dict()
    made["none"] = fit(tiny(*(f"{name}.steps=0" for name in STAGES)), windows(), Words()).model.state_dict()
    if not distributed.rank():
        torch.save(made, out)
    distributed.stop()


if __name__ == "__main__":
    main(sys.argv[1])
