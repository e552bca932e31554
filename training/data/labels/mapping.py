"""Label names of a source to the classes, by the YAML files in mappings/labels; a name that is not there is never guessed."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from packetclip_sensor.common.resources import resource
from packetclip_sensor.errors import ConfigError
from training.data.labels.report import Report
from training.missions import CLASS_MISSION


def normalised(name: str) -> str:
    """A label name as it is compared: without case, spaces, underscores and hyphens."""
    return re.sub(r"[\s_\-]+", "", name).casefold()


@dataclass(frozen=True)
class Mapping:
    """What the labels of one data set mean here."""

    name: str
    label_column: str
    classes: dict[str, str]
    """Normalised label: class."""
    unused: dict[str, str]
    """Normalised label: the label, of those that are none of the classes."""

    def of(self, label: str, where: str, report: Report) -> str:
        """The class of a label; "" where there is none, which is reported or, for a label left out on purpose, counted."""
        key = normalised(label)
        if found := self.classes.get(key):
            report.named[found] += 1
            return found
        if name := self.unused.get(key):
            report.unused[name] += 1
        else:
            report.unknown_label(label, where)
        return ""


def load(name: str) -> Mapping:
    """Read mappings/labels/NAME.yaml, or a file by its path.

    Raises:
        ConfigError: no such mapping, or not of the form that those in mappings/labels have.
    """
    folder = resource("mappings") / "labels"
    path = Path(name) if name.endswith((".yaml", ".yml")) else folder / f"{name}.yaml"
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        classes: dict[str, str] = {}
        for klass, entry in raw["classes"].items():
            if klass not in CLASS_MISSION:
                raise ConfigError(f"{path}: class {klass!r} is none of {', '.join(CLASS_MISSION)}; mend the mapping")
            if entry["mission"] != CLASS_MISSION[klass]:
                raise ConfigError(f"{path}: {klass} has mission {entry['mission']!r}, it is {CLASS_MISSION[klass]}")
            for spelling in (klass, *entry["aliases"]):
                if classes.setdefault(normalised(spelling), klass) != klass:
                    raise ConfigError(f"{path}: {spelling!r} stands for two classes; leave it in one")
        unused = {normalised(spelling): spelling for spelling in raw.get("unused", {})}
        if both := unused.keys() & classes.keys():
            raise ConfigError(f"{path}: {unused[min(both)]!r} is both a class and unused; leave it in one")
        return Mapping(path.stem, str(raw.get("label_column", "Label")), classes, unused)
    except OSError as err:
        there = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ConfigError(f"mapping {name!r}: {path} cannot be read ({err.strerror}); there are {there}, or give a file") from err
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path} is no label mapping ({err!r}); mappings/labels/aci_iot_2023.yaml shows the form") from err


def ten_classes() -> Mapping:
    """The classes by their own names, for labels that a user writes by hand."""
    return Mapping("the classes", "label", {normalised(name): name for name in CLASS_MISSION}, {})
