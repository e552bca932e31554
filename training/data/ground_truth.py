"""What is in each labelled capture: by the labels.json beside its logs, or by the rows of a manifest of captures by others."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.errors import ConfigError
from packetclip_sensor.normalize.normalizer import normalized
from packetclip_sensor.pairs.labels import Interval, LabelFile
from packetclip_sensor.records import Batch
from packetclip_sensor.sources import tail, zeek
from training.missions import CLASS_MISSION

PACKET_LOG = "packetclip_packet.log"
ANY = "any"
"""Every use of a manifest."""
TRAINABLE, CHOOSING = "train or test", "validate"
"""Uses: what may be trained on, and that by which thresholds and recipes may be chosen."""


@dataclass(frozen=True)
class Listed:
    """One row of a manifest."""

    file: str
    label: str
    """One of the ten classes, or the manifest's own word for something else."""
    use: str
    source: str


@dataclass(frozen=True)
class Truth:
    """A capture's logs and what is in them; no interval means benign."""

    folder: Path
    intervals: list[Interval]

    @property
    def label(self) -> str:
        """The class of the first attack, or Benign."""
        return self.intervals[0].label if self.intervals else "Benign"


def read_manifest(path: Path) -> Iterator[Listed]:
    """The rows of a MANIFEST.csv with the columns file, label, use and, where it is known, source.

    Raises:
        ConfigError: there is no such file; nothing is trained on by guess.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; it must say which captures may be trained on (file, label, use)")
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            label = row["label"].replace("_", " ").removesuffix(" protocols")
            yield Listed(row["file"], label, row["use"], row.get("source") or "unknown")


def records(
    logs: Sequence[Path],
    counters: Counters | None = None,
    alter: Callable[[Iterator[Batch]], Iterable[Batch]] = lambda batches: batches,
) -> Iterator[Batch]:
    """The batches of finished logs, or of folders of them, in order and with sides as a sensor has them.

    Args:
        alter: what happens to the records between Zeek and sensor, see `training.data.altered`.
    """
    rejects, counters = Rejects(None), counters or Counters()
    return normalized(alter(zeek.batches(tail.finite(logs, rejects=rejects), rejects, counters)), counters, rejects)


def from_labels(logs: Path) -> list[Truth]:
    """Every folder below `logs` with a labels.json."""
    return [Truth(path.parent, LabelFile.read(path).intervals) for path in sorted(logs.glob("*/labels.json"))]


def from_manifest(logs: Path, manifest: Path, use: str) -> list[Truth]:
    """Folders of logs named like the manifest's captures of a use, or of ANY; labels outside the ten classes are left out."""
    out = []
    for row in read_manifest(manifest):
        folder = logs / Path(row.file).name
        if use in (row.use, ANY) and row.label in CLASS_MISSION and any(folder.glob(f"{PACKET_LOG}*")):
            attack = [] if row.label == "Benign" else [Interval(row.label, [], [], 0.0, float("inf"))]
            out.append(Truth(folder, attack))
    return out


def matches(mission: str, first: float, last: float, hosts: set[str], interval: Interval) -> bool:
    """Whether a detection on these hosts, from epoch second `first` to `last`, is of the attack; forged sources are anybody."""
    if mission != CLASS_MISSION[interval.label] or last < interval.start or first > interval.end:
        return False
    named = interval.hosts
    return not named or bool(hosts & named) or any("/" in n for n in named)
