"""What `config.py` needs to talk about its own structs: keys and meanings read from them, places in a YAML file, suggestions.

A struct's field and the string literal below it are the only place where a key is documented, as everywhere in this project; the
literals are read from the source, which every installation carries.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import json
import re
import textwrap
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import yaml

from packetclip_sensor.errors import ConfigError

PROSE_CHARS = 100


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a struct: its meaning, its default (a struct where `group` is set) and the struct that is its value."""

    name: str
    meaning: str
    default: Any
    group: type[msgspec.Struct] | None


def keys(kind: type[msgspec.Struct]) -> Iterator[Key]:
    """Every key of a struct, inherited ones first, in the order of their definition."""
    hints = get_type_hints(kind)
    meanings = _meanings(kind)
    for info in msgspec.structs.fields(kind):
        default = info.default if info.default is not msgspec.NODEFAULT else None
        if info.default_factory is not msgspec.NODEFAULT:
            default = info.default_factory()
        kind_ = hints[info.name]
        kinds = () if get_origin(kind_) is dict else (kind_, *get_args(kind_))
        group = next((t for t in kinds if inspect.isclass(t) and issubclass(t, msgspec.Struct)), None)
        yield Key(info.encode_name, meanings.get(info.name, ""), default, group)


def _meanings(kind: type) -> dict[str, str]:
    """Meanings of the fields of the struct and its bases."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base not in (object, msgspec.Struct) and issubclass(base, msgspec.Struct):
            found |= meanings(base)
    return found


@lru_cache
def meanings(kind: type) -> dict[str, str]:
    """The string literal below each field of a class, on one line; nothing where the installation carries no sources."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    except (OSError, SyntaxError):
        return {}
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: " ".join(str(below.value.value).split())
        for field, below in zip(body.body, body.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
    }


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """ "; did you mean X?" where one of `known` is near, else nothing."""
    folded = {name.lower(): name for name in known}
    near = difflib.get_close_matches(wrong.lower().replace("-", "_"), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[near[0]]}?" if near else ""


def shown(value: Any) -> str:
    """A value as the user wrote it, cut to what fits a message."""
    try:
        text = json.dumps(value, default=str)
    except (ValueError, TypeError):  # YAML can make a list that holds itself, and a mapping whose keys are dates
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


YAML_ERRORS = (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError, TypeError)
"""What PyYAML raises. The last four come of a tag, or of a form that implies one, whose value does not fit: `!!bool maybe`,
`!!int ""`, `!!timestamp soon`, a date that no calendar has."""


class Places:
    """Where each key stands in a YAML text: "sensor.yaml:12: policy.update_s"."""

    def __init__(self, text: str, name: str) -> None:
        """Raises ConfigError where a key stands twice, of which YAML would silently keep the last."""
        self.name = name
        self._lines: dict[tuple[str, ...], int] = {}
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except YAML_ERRORS:
            return  # the caller parses the text again and tells what is wrong with it
        self._walk(root, ())

    def at(self, *path: str) -> str:
        """File, line where known, and key."""
        line = next((self._lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self._lines), None)
        return f"{self.name}{'' if line is None else f':{line}'}: {'.'.join(path)}"

    def wrong_value(self, err: msgspec.ValidationError, raw: Any) -> ConfigError:
        """msgspec's words as ours: the place, the value and what is expected."""
        what, _, where = str(err).partition(" - at `")
        path = re.findall(r"\.([^.\[\]`]+)|\[(\d+|\.\.\.)\]", where)
        names = tuple(name or index for name, index in path)
        value = raw
        for name in names:
            try:
                value = value[int(name)] if isinstance(value, list) else value[name]
            except (KeyError, IndexError, ValueError, TypeError):
                break
        expected = re.sub(r", got .*", "", what.replace("`", "")).replace("Expected", "expected")
        expected = expected.replace("object", "key: value lines").replace("array", "a list").replace(" | null", "")
        expected = re.sub(
            r"\b(float|int|str|bool)\b",
            lambda m: {"float": "a number", "int": "a whole number", "str": "a text", "bool": "true or false"}[m[1]],
            expected,
        )
        keys_ = tuple(n for n in names if not n.isdigit() and n != "...")
        if "Object missing" in what:
            return ConfigError(f"{self.at(*keys_)}: {what.replace('Object missing required field', 'lacks the key')}; add it")
        return ConfigError(f"{self.at(*keys_)} is {shown(value)}; {expected}")

    def _walk(self, node: yaml.Node | None, path: tuple[str, ...]) -> None:
        if not isinstance(node, yaml.MappingNode) or len(path) > 8:
            return
        for key, value in node.value:
            here = (*path, str(key.value))
            line = key.start_mark.line + 1
            if here in self._lines:
                raise ConfigError(f"{self.name}:{line}: {'.'.join(here)} stands here and in line {self._lines[here]}; keep one")
            self._lines[here] = line
            self._walk(value, here)


def refuse_unknown(raw: dict[Any, Any], kind: type[msgspec.Struct], places: Places, path: tuple[str, ...] = ()) -> None:
    """Refuse the first key that `kind` does not have.

    Raises:
        ConfigError: with the nearest known key, or all of them.
    """
    known = {key.name: key for key in keys(kind)}
    for name, value in raw.items():
        if name not in known:
            hint = suggestion(str(name), known) or f"; known here: {', '.join(known)}"
            raise ConfigError(f"{places.at(*path, str(name))}: no such key{hint}")
        group = known[name].group
        if group is not None and isinstance(value, dict):
            refuse_unknown(value, group, places, (*path, name))


def commented(kind: type[msgspec.Struct], settings: dict[str, Any], hidden: Container[str] = ()) -> str:
    """A YAML file of all keys with their meanings (`##`).

    Keys in `settings` are live, the others stand behind `# ` at their default, so that a later version's better defaults reach a
    file written today.

    Args:
        settings: values by key; a dict of them for a key that is a group.
        hidden: keys, dotted, that are left out.
    """
    return "\n".join(_lines(kind, settings, hidden, "", live=True)) + "\n"


def _lines(kind: type[msgspec.Struct], settings: dict[str, Any], hidden: Container[str], path: str, *, live: bool) -> list[str]:
    """Lines of one struct without indentation. In a group that is not live nothing is marked: its whole text gets the mark."""
    out: list[str] = []
    for key in keys(kind):
        here = f"{path}{key.name}"
        if here in hidden:
            continue
        alive = key.name in settings
        lines = [f"## {line}" for line in textwrap.wrap(key.meaning, PROSE_CHARS)]
        if key.group is None:
            body = [f"{key.name}: {_yaml(settings.get(key.name, key.default))}"]
        else:
            inner = _lines(key.group, settings.get(key.name, {}), hidden, f"{here}.", live=live and alive)
            body = [f"{key.name}:", *("  " + line for line in inner)]
        out += lines + (["# " + line for line in body] if live and not alive else body)
        if not path:
            out.append("")
    return out[:-1] if not path else out


def _yaml(value: Any) -> str:
    """One value in YAML's flow style, on one line."""
    if isinstance(value, tuple | list):
        value = [str(v) for v in value]
    elif not isinstance(value, bool | int | float | dict | None):
        value = str(value)
    return yaml.safe_dump(value, default_flow_style=True, width=1000).replace("\n...", "").strip()
