"""The way of a batch through `pipeline.alerts`: each package in its order, and hardly one entered again once it was left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import packetclip_sensor
from packetclip_sensor import pipeline
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.config.settings import Config, Policy
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.records import Batch
from packetclip_sensor.service.checkpoint import State
from packetclip_sensor.sources import tail, zeek

DATA = Path(__file__).parent / "data"
ROOT = Path(packetclip_sensor.__file__).parent
WAY = ("sources", "normalize", "windows", "model", "evidence", "alerts", "masking")
BELOW_ALL = ("errors", "records", "common", "config")
AGAIN = 4
"""`model` asks `windows` what the verdicts rest on. `alerts` asks `model` what a verdict would be without the packets that a rule
names, then what each one that is explained rests on, and `windows` for words of what is in its packets."""


@cache
def package(file: str) -> str | None:
    """The package of the sensor that a source file belongs to; None for what every package may call, for the pipeline, and for
    others' code."""
    if not Path(file).is_relative_to(ROOT):
        return None
    name = Path(file).relative_to(ROOT).parts[0].removesuffix(".py")
    return None if name in (*BELOW_ALL, "pipeline") else name


class Walk:
    """Notes the packages that are entered, at every Python function called.

    An entry is a call of a function of another package than the one in which the walk is. A call within the package is none, and
    neither is a return: from a function of `windows` that `model` called one is in `model` again without having entered it. After
    a return into `pipeline` one is where one was, so that two calls of one package, one behind the other, are one entry.
    """

    def __init__(self) -> None:
        self.entered: list[str] = []
        self._here: str | None = None

    def __enter__(self) -> Walk:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        if event not in ("call", "return") or (name := package(frame.f_code.co_filename)) is None:
            return
        if event == "call":
            if name != self._here:
                self.entered.append(name)
            self._here = name
            return
        above = frame.f_back
        while above is not None and package(above.f_code.co_filename) is None:
            above = above.f_back
        if above is not None:
            self._here = package(above.f_code.co_filename)


def batches(capture: str) -> Iterator[Batch]:
    """An empty batch, so that all stages are there before the first of the capture comes, and those of the capture."""
    yield Batch([], [])
    with Rejects(None) as rejects:
        yield from zeek.together(zeek.batches(tail.finite([DATA / capture], rejects=rejects), rejects, Counters()))


@pytest.mark.parametrize(
    ("capture", "rules"),
    [
        ("demo-syn-trafgen", ""),
        ("demo-vuln-gobuster", ""),
        ("demo-port-pnscan", ""),
        ("demo-icmp-fping", "- {comment: c, expires: never, source: 192.0.2.1}"),
        ("demo-syn-trafgen", "- {comment: c, expires: never, class: OS Scan}"),
    ],
)
def test_a_batch_enters_each_package_in_order_and_hardly_one_again(
    capture: str, rules: str, bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "suppress.yaml").write_text(rules)
    policy = Policy(suppress=tmp_path / "suppress.yaml") if rules else Policy()
    stages = pipeline.alerts(batches(capture), bundle, Config(policy=policy), Counters(), State())
    next(stages)
    states = []
    while True:
        with Walk() as walk:
            explained = next(stages, None)
        if explained is None:
            break
        states += [alert.state for alert in explained.alerts]
        assert tuple(dict.fromkeys(walk.entered)) in (WAY, WAY[:-1])
        assert len(walk.entered) - len({*walk.entered}) <= AGAIN, walk.entered
    assert states == ["open", "close"]


def test_the_walk_counts_entries_and_no_returns() -> None:
    def called(name: str, *inner: Any) -> Any:
        """A function as if it stood in that package, which calls others."""
        code = compile("def function(*inner):\n for each in inner: each()", str(ROOT / name / "x.py"), "exec")
        space: dict[str, Any] = {}
        exec(code, space)
        return lambda: space["function"](*inner)

    windows, common = called("windows"), called("common")
    model = called("model", windows, common, called("model"), windows)
    with Walk() as walk:
        windows()
        windows()
        model()
        windows()
    assert walk.entered == ["windows", "model", "windows", "windows", "windows"]
