"""The corpus of former fuzzing and a few thousand new inputs by the plain mutator; a million each is `make fuzz`."""

from __future__ import annotations

import pytest

from . import engine
from .targets import TARGETS

INPUTS = {"config": 200, "suppression": 500}


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_raises_what_is_not_ours(name: str) -> None:
    run = engine.plain(name, TARGETS[name], INPUTS.get(name, 1500), seed=11)
    assert run.finds == {}
    assert run.done >= INPUTS.get(name, 1500)
