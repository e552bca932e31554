"""One experiment, one YAML file: read, changed by `key.key=value`, printed.

    python -m training.fit.experiment --show small reason.steps=800    # the settings that a run would use
    python -m training.fit.experiment --table                          # the tables of docs/training.md

A file names only what differs from the defaults (`settings.py`). An unknown key, a value of the wrong kind or out of range is an
error that names the key.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import yaml
from msgspec import Meta, Struct

from packetclip_sensor.errors import ConfigError
from training.common import argument, command
from training.fit.settings import Experiment

FOLDER = Path(__file__).parent / "experiments"
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+\Z")


def identity(experiment: Experiment) -> dict[str, Any]:
    """The settings by which an experiment's results are known: without its name and without those that are empty, so that a new
    setting which is empty by default leaves known results as they were."""

    def full(settings: dict[str, Any]) -> dict[str, Any]:
        found = {name: full(value) if isinstance(value, dict) else value for name, value in settings.items()}
        return {name: value for name, value in found.items() if value not in ((), [], None)}

    return full(msgspec.to_builtins(experiment) | {"name": None})


def read(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment in a YAML file, changed by `key.key=value` in order; values are YAML.

    A path that does not exist and has no folder names a file beside the shipped ones: `small` is experiments/small.yaml.

    Raises:
        ConfigError: no such file, no YAML, unknown key, wrong kind, out of range; the message names file and key.
    """
    path = Path(path)
    if not path.exists() and path.parent == Path():
        path = FOLDER / f"{path.name.removesuffix('.yaml')}.yaml"
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as err:
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        raise ConfigError(f"experiment {path}: {err.strerror}; name a file, or one of {known}") from err
    except (yaml.YAMLError, UnicodeDecodeError) as err:
        raise ConfigError(f"experiment {path}: not YAML: {err}; mend the file") from err
    if not isinstance(raw, dict):
        raise ConfigError(
            f"experiment {path}: holds {type(raw).__name__}, not settings; see training/fit/experiments/default.yaml"
        )
    for override in overrides:
        _override(raw, override)
    return from_dict(raw, str(path))


def from_dict(raw: dict[str, Any], name: str = "experiment") -> Experiment:
    """The experiment of a plain mapping. Raises ConfigError, whose message begins with `name`."""
    try:
        return msgspec.convert(_numbers(raw), Experiment)
    except msgspec.ValidationError as err:
        raise ConfigError(f"experiment {name}: {err}; docs/training.md lists the settings") from err


def changed(experiment: Experiment, *overrides: str) -> Experiment:
    """The experiment with `key.key=value` applied. Raises ConfigError."""
    raw = msgspec.to_builtins(experiment)
    for override in overrides:
        _override(raw, override)
    return from_dict(raw)


def _override(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise ConfigError(f"setting {override!r}: write key=value, for example reason.steps=800")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as err:
        raise ConfigError(f"setting {override!r}: the value is not YAML; quote it") from err
    at = raw
    for name in names[:-1]:
        at = at.setdefault(name, {})
        if not isinstance(at, dict):
            raise ConfigError(f"setting {override!r}: {name} holds no settings; docs/training.md lists the settings")
    at[names[-1]] = parsed


def _numbers(raw: Any) -> Any:
    """YAML 1.1 reads 1e-3 as a word; here it is a number."""
    if isinstance(raw, dict):
        return {k: _numbers(v) for k, v in raw.items()}
    if isinstance(raw, list | tuple):
        return [_numbers(v) for v in raw]
    return float(raw) if isinstance(raw, str) and _NUMBER.match(raw) else raw


def settings(section: type[Struct] = Experiment, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Every setting as (key, default, what it does and its range)."""
    hints = get_type_hints(section, include_extras=True)
    for info in msgspec.structs.fields(section):
        kind = hints[info.name]
        if isinstance(kind, type) and issubclass(kind, Struct):
            yield from settings(kind, f"{prefix}{info.name}.")
            continue
        yield prefix + info.name, info.default, _meaning(kind)


def _meaning(kind: Any) -> str:
    metas = [m for m in get_args(kind)[1:] if isinstance(m, Meta)]
    words = [m.description for m in metas if m.description][-1:]
    base = get_args(kind)[0] if metas else kind
    choices = [str(c) for c in get_args(base) if isinstance(c, str)]
    for m in metas:
        words += [
            f"{sign} {value:g}" for sign, value in ((">=", m.ge), (">", m.gt), ("<=", m.le), ("<", m.lt)) if value is not None
        ]
    return "; ".join([*words, *([" or ".join(choices)] if choices else [])])


def table() -> str:
    """The settings as Markdown, a table a section."""
    out, last = [], None
    for key, default, meaning in settings():
        section, _, _ = key.rpartition(".")
        if section != last:
            out += ["", f"### {section or 'experiment'}", "", "| setting | default | meaning |", "| --- | --- | --- |"]
            last = section
        shown = yaml.safe_dump(default, default_flow_style=True).removesuffix("...\n").strip() if default != () else "[]"
        out.append(f"| `{key}` | {shown} | {meaning} |")
    return "\n".join(out).strip() + "\n"


@command(
    argument("--table", action="store_true", help="print all settings as Markdown, which is done without --show"),
    argument("--show", type=Path, metavar="FILE", help="print the settings that a run of this experiment would use"),
    argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings to change, as in reason.steps=800"),
)
def main(args: argparse.Namespace) -> None:
    """Print settings. Exit codes: 0 done, 2 the experiment is not valid."""
    shown = yaml.safe_dump(msgspec.to_builtins(read(args.show, args.overrides)), sort_keys=False) if args.show else table()
    print(shown, end="")


if __name__ == "__main__":
    sys.exit(main())
