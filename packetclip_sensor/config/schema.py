"""What messages and the commented file need to know of a YAML file and of the settings: keys, places, suggestions."""

from __future__ import annotations

import difflib
import inspect
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import yaml

from packetclip_sensor.common.text import masked
from packetclip_sensor.errors import ConfigError

YAML_ERRORS = (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError, TypeError)
"""What PyYAML raises. The last four come of a tag, or of a form that implies one, whose value does not fit: `!!bool maybe`,
`!!int ""`, `!!timestamp soon`, a date that no calendar has."""
RENAMED = {"policy.leeways": "margins"}
"""Keys by an older name, which is still read, and their name of today."""
LOGIN = frozenset(
    {"api_key_env", "api_key_file", "username", "password_env", "url", "url_file"}
    | {f"{what}_{of}" for what in ("secret", "token") for of in ("env", "file")}
)
"""Keys in whose place people write the secret itself: their values stand in no message."""
REMOVED = {
    "sink.elasticsearch.namespace": "`namespace` stands at the top of the file; move it there",
    "wording": "alerts are no longer reworded by a language model; take the key out",
}
"""Keys that are no more, and what to do instead."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a struct: its meaning, its default, and what its value may be where that is a struct or one of a few words."""

    name: str
    meaning: str
    default: Any
    group: type[msgspec.Struct] | None
    choices: tuple[str, ...]


@cache
def keys(kind: type[msgspec.Struct]) -> dict[str, Key]:
    """Every key of a struct by name, in the order of definition: the fields whose annotation has a text."""
    hints, found = get_type_hints(kind, include_extras=True), {}
    for field in msgspec.structs.fields(kind):
        of, *notes = get_args(hints[field.name]) if get_origin(hints[field.name]) is Annotated else (None,)
        meaning = next((note for note in notes if isinstance(note, str)), "")
        if meaning:
            default = None if field.required else field.default
            if field.default_factory is not msgspec.NODEFAULT:
                default = field.default_factory()
            within = () if get_origin(of) is dict else (of, *get_args(of))
            group = next((t for t in within if inspect.isclass(t) and issubclass(t, msgspec.Struct)), None)
            choices = get_args(of) if get_origin(of) is Literal else ()
            found[field.name] = Key(field.name, meaning, default, group, choices)
    return found


def suggestion(wrong: str, known: Iterable[str]) -> str:
    """ "; did you mean X?" where one of `known` is near, else nothing."""
    folded = {name.lower(): name for name in known}
    near = difflib.get_close_matches(wrong.lower().replace("-", "_"), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[near[0]]}?" if near else ""


def shown(value: Any) -> str:
    """A value as the user wrote it, cut to what fits a message, without a login in a URL."""
    try:
        text = json.dumps(value, default=str)
    except (ValueError, TypeError):  # YAML can make a list that holds itself, and a mapping whose keys are dates
        text = repr(value)
    text = masked(text)
    return text if len(text) <= 60 else text[:57] + "..."


def yaml_fault(err: Exception) -> str:
    """What PyYAML says is wrong and where, without the lines that it quotes: a secret may stand there."""
    if isinstance(err, yaml.MarkedYAMLError) and err.problem and err.problem_mark:
        return f"{err.problem} in line {err.problem_mark.line + 1}, column {err.problem_mark.column + 1}"
    return masked(" ".join(str(err).split()))


def _today(*path: str) -> tuple[str, ...]:
    """A key's path by its name of today."""
    return (*path[:-1], RENAMED.get(".".join(path), path[-1]))


class Document:
    """A YAML text as Python values, with the line of each key: "sensor.yaml:12: policy.update_s"."""

    def __init__(self, text: str, name: str) -> None:
        """Read `text`; `name` stands in messages.

        Raises:
            ConfigError: it is no YAML mapping, or a key stands twice, of which YAML would silently keep the last.
        """
        self.name = name
        self._lines: dict[tuple[str, ...], int] = {}
        try:
            loader = yaml.SafeLoader(text)
            root = loader.get_single_node()
            self._walk(root, ())
            values = None if root is None else loader.construct_document(root)
        except YAML_ERRORS as err:
            raise ConfigError(f"{name}: not valid YAML: {yaml_fault(err)}; check indentation and quotes") from None
        if not isinstance(values, dict | None):
            raise ConfigError(f"{name}: holds {shown(values)} where `key: value` lines are expected; see `packetclip init`")
        self.values: dict[Any, Any] = values or {}

    def at(self, *path: str) -> str:
        """File, line where known, and key."""
        line = next((self._lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self._lines), None)
        return masked(f"{self.name}{'' if line is None else f':{line}'}: {'.'.join(path)}")

    def of(self, kind: type[msgspec.Struct]) -> dict[str, Any]:
        """The values as `kind` has them: by today's names, and without those that are null, which means the default.

        Raises:
            ConfigError: a key that `kind` does not have, with the nearest known one; a word that is none of a key's choices; a
                number that is not finite.
        """
        return self._group(self.values, kind, ())

    def _group(self, raw: Mapping[Any, Any], kind: type[msgspec.Struct], path: tuple[str, ...]) -> dict[str, Any]:
        known, found = keys(kind), dict[str, Any]()
        for name, value in raw.items():
            here = _today(*path, str(name))
            key = known.get(here[-1])
            if key is None:
                hint = suggestion(str(name), known) or f"; known here: {', '.join(known)}"
                raise ConfigError(f"{self.at(*here)}: {REMOVED.get('.'.join(here), f'no such key{hint}')}")
            if key.group is not None and isinstance(value, dict):
                found[key.name] = self._group(value, key.group, here)
            elif value is not None:
                found[key.name] = self._checked(value, key, here)
        return found

    def _checked(self, value: Any, key: Key, path: tuple[str, ...]) -> Any:
        """A value, in which a mapping has no null, after the checks that a type cannot make."""
        if key.choices and value not in key.choices:
            hint = suggestion(value, key.choices) if isinstance(value, str) else ""
            raise ConfigError(f"{self.at(*path)} is {shown(value)}{hint}; expected one of {', '.join(key.choices)}")
        for number in value.values() if isinstance(value, dict) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise ConfigError(f"{self.at(*path)} is {number}; expected a finite number")
        return {name: one for name, one in value.items() if one is not None} if isinstance(value, dict) else value

    def wrong_value(self, err: msgspec.ValidationError, value: Any) -> ConfigError:
        """msgspec's words of the whole `value` as ours: the place, the value there and what is expected."""
        what, _, where = str(err).partition(" - at `")
        names = [name or index for name, index in re.findall(r"\.([^.\[\]`]+)|\[(\d+|\.\.\.)\]", where)]
        for name in names:
            try:
                value = value[int(name)] if isinstance(value, list) else value[name]
            except (KeyError, IndexError, ValueError, TypeError):
                break
        expected = re.sub(r", got .*", "", what.replace("`", "")).replace("Expected", "expected")
        expected = expected.replace("object", "key: value lines").replace("array", "a list").replace(" | null", "")
        words = {"float": "a number", "int": "a whole number", "str": "a text", "bool": "true or false"}
        expected = re.sub(r"\b(float|int|str|bool)\b", lambda match: words[match[1]], expected)
        place = self.at(*(n for n in names if not n.isdigit() and n != "..."))
        if "Object missing" in what:
            return ConfigError(f"{place}: {what.replace('Object missing required field', 'lacks the key')}; add it")
        found = "a value that is not shown, it may be a secret" if names and names[-1] in LOGIN else shown(value)
        return ConfigError(f"{place} is {found}; {expected}")

    def _walk(self, node: yaml.Node | None, path: tuple[str, ...]) -> None:
        if not isinstance(node, yaml.MappingNode) or len(path) > 8:
            return
        for key, value in node.value:
            written = (*path, str(key.value))
            here, line = _today(*written), key.start_mark.line + 1
            if here in self._lines:
                raise ConfigError(
                    f"{self.name}:{line}: {'.'.join(written)} stands here and in line {self._lines[here]}; keep one"
                )
            self._lines[here] = line
            self._walk(value, here)
