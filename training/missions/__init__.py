"""The missions that a model learns, one YAML file each: what the mission is, its graph, its classes and their texts.

A mission is added by a file and labelled captures (docs/missions.md). Its order is its place among the model's outputs; labels of
classes count on through all files. What the sensor needs goes into the bundle's manifest (`training/ship/missions.py`).
"""

import os
import sys
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
import yaml

from packetclip_sensor.common.missions import Colour, Fast, Least, Mission, Missions
from packetclip_sensor.errors import SensorError

FOLDER = Path(os.environ.get("PACKETCLIP_MISSIONS") or Path(__file__).parent)
"""Where the files are; the environment variable names another folder, for who keeps missions outside the checkout."""
EXAMPLE = "see training/missions/dos.yaml"
Kind = TypeVar("Kind", bound=msgspec.Struct)


class MissionError(SensorError):
    """A mission's file, or a file of sentences, cannot be used; the message says what to mend."""


class HeldOut(msgspec.Struct, forbid_unknown_fields=True):
    """Texts for tests only: other words and other templates than all that training sees."""

    prompts: list[str]
    sentences: dict[str, list[str]]


class Texts(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The texts of a class. Sentences stand by what the facts must show, tags of `texts.tags`; braces hold alternatives."""

    author: str
    date: Any
    cores: dict[str, list[str]]
    prompts: list[str]
    held_out: HeldOut
    words: list[str] = []


class ClassFile(Texts, forbid_unknown_fields=True, kw_only=True):
    """A class of a mission's file. Its title and technique are by default its name and the mission's technique; without
    `transport` it may use any."""

    name: str
    label: int
    id: str = ""
    title: str = ""
    technique: str = ""
    transport: list[str] = []


class MissionFile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A mission's file. Id, note and title are by default made from its name."""

    name: str
    order: int
    description: str
    severity: Literal["low", "medium", "high", "critical"]
    technique: str
    colour: Colour
    graph: dict[str, Any]
    """As `training.text.knowledge` reads it: the event that the paper's two prompts ask about, key concepts, associated words."""
    classes: list[ClassFile]
    id: str = ""
    note: str = ""
    title: str = ""
    one_target: str = "against"
    least: Least = Least()
    fast: Fast | None = None


def read(path: Path, kind: type[Kind]) -> Kind:
    """A YAML file as the given struct.

    Raises:
        MissionError: with the file, the place and what is wrong.
    """
    try:
        return msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), kind)
    except OSError as err:
        raise MissionError(f"{path}: cannot be read ({err.strerror}); it belongs to the checkout") from err
    except (yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError) as err:
        raise MissionError(f"{path}: {err}; mend the file, {EXAMPLE}") from err


def files(folder: Path) -> list[tuple[Path, MissionFile]]:
    """The missions' files in their order, each with its content.

    Raises:
        MissionError: there is none, one is not of the form, or their orders are not 1, 2, 3, ...
    """
    found = sorted(((path, read(path, MissionFile)) for path in folder.glob("*.yaml")), key=lambda each: each[1].order)
    orders = [file.order for _, file in found]
    if not found or orders != list(range(1, len(found) + 1)):
        names = ", ".join(f"{path.name} {file.order}" for path, file in found) or "no file"
        raise MissionError(f"{folder}: the missions' orders must be 1, 2, 3, ...: {names}; mend `order`")
    return found


def missions(folder: Path) -> Missions:
    """What a sensor needs to know of the missions in a folder.

    Raises:
        MissionError: as `files`; a value is not of the form; a name or id stands twice; labels do not count 1, 2, 3, ...
    """
    try:
        return Missions(msgspec.convert([_described(file) for _, file in files(folder)], tuple[Mission, ...]))
    except (msgspec.ValidationError, ValueError) as err:
        raise MissionError(f"{folder}: {err}; mend the missions' files, {EXAMPLE}") from err


def _described(file: MissionFile) -> dict[str, Any]:
    """A mission as the manifest has it."""
    classes: list[dict[str, Any]] = [
        {"name": each.name, "id": each.id or _id(each.name), "label": each.label, "title": each.title or each.name}
        | {"technique": each.technique or file.technique, "transport": each.transport}
        for each in file.classes
    ]
    shared = {name: getattr(file, name) for name in ("name", "description", "one_target", "severity", "technique")}
    own = {"id": file.id or _id(file.name), "note": file.note or file.name.replace(" ", "_"), "title": file.title or file.name}
    of_rate = {"fast": msgspec.to_builtins(file.fast)} if file.fast else {}
    return shared | own | of_rate | {"classes": classes} | msgspec.to_builtins({"least": file.least, "colour": file.colour})


def _id(name: str) -> str:
    return name.lower().replace(" ", "_").replace("-", "_")


try:
    FILES = {file.name: (path, file) for path, file in files(FOLDER)}
    """Path and content of each mission's file, in the order of the model's outputs."""
    ALL = missions(FOLDER)
except SensorError as err:  # read where it is imported, before a command can catch its errors
    print(f"error: {err}", file=sys.stderr)
    raise SystemExit(2) from None
MISSIONS = ALL.names
CLASS_MISSION = ALL.of_class
"""Mission of each class, in the order of their labels; Benign's is Benign."""
