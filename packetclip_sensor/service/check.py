"""Says what is wrong with a set-up: a line for each part, and the remedy behind what is wrong.

Every part is looked at, even when one before it fails, and nothing is changed: no file is left, no template put. WRONG stops the
sensor or its documents and makes the exit code 1; `look` stops nothing.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

import msgspec

from packetclip_sensor.alerts import suppression_rules
from packetclip_sensor.common.missions import NO_MISSIONS
from packetclip_sensor.config.config_file import Config
from packetclip_sensor.config.policy import for_missions
from packetclip_sensor.elastic import inspection
from packetclip_sensor.elastic.templates import DATASETS
from packetclip_sensor.errors import SensorError
from packetclip_sensor.model import calibration_file
from packetclip_sensor.model.bundle import Bundle, manifest_of
from packetclip_sensor.records import Packet
from packetclip_sensor.service import checkpoint
from packetclip_sensor.sinks.documents import DATASET, printable
from packetclip_sensor.sources import discovery
from packetclip_sensor.sources.archive import archives_of

QUIET_S = 900.0
"""Age of the newest packet log after which a running Zeek is doubted."""
AHEAD_S = 5.0
"""Log times so far ahead of this machine's clock mean that one of the clocks is wrong."""
BEHIND_S, WRITTEN_S = 120.0, 60.0
"""A log written within WRITTEN_S whose last packet is BEHIND_S older than that: a clock, or a sniffer far behind."""
MIN_FREE_BYTES = 256 << 20
"""Less room than this and the sensor cannot go on for long."""
LOW_FREE_BYTES, LOW_FREE_SHARE = 2 << 30, 0.05
"""Less than either is worth a look."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `ok` is True, False, or None for a thing worth a look that stops nothing."""

    ok: bool | None
    part: str
    words: str


def report(config: Config, path: Path, file: TextIO) -> bool:
    """Print every finding; True where nothing is wrong.

    Args:
        config: as in the file, without its calibration's thresholds (`config.load(path, calibrated=False)`).
        path: the file.
    """
    well = True
    print(f"ok    config   {path}", file=file)
    for finding in findings(config, path):
        mark = {True: "ok", False: "WRONG", None: "look"}[finding.ok]
        print(f"{mark:<5} {finding.part:<8} {printable(finding.words, 1000)}", file=file, flush=True)
        well = well and finding.ok is not False
    return well


def findings(config: Config, path: Path) -> Iterator[Finding]:
    """Look at logs, state, model and sink, one after another."""
    if not config.logs:
        yield Finding(False, "logs", "none named; set `logs` to Zeek's log folder, for example [/opt/zeek/logs/current]")
    for folder in config.logs:
        yield from _guarded("logs", partial(_logs, folder))
    yield from _guarded("logs", partial(_archives, config))
    yield from _guarded("state", partial(_state, config, path))
    yield from _guarded("model", partial(_model, config))
    if config.policy.calibration is not None:
        yield from _guarded("model", partial(_calibration, config, config.policy.calibration))
    if config.policy.suppress is not None:
        yield from _guarded("suppress", partial(_suppress, config.policy.suppress, config.model_path))
    if config.sink.elasticsearch is not None:
        yield from _guarded("sink", partial(_elasticsearch, config))
    elif config.sink.ndjson is not None:
        file = config.sink.ndjson.path
        yield from _guarded("sink", partial(_writable, file.parent, f"alerts go to {file}"))
    if config.zeek_feedback.path is not None:
        file = config.zeek_feedback.path
        yield from _guarded("feedback", partial(_writable, file.parent, f"verdicts for Zeek go to {file}"))


def _guarded(part: str, look: Callable[[], Iterator[tuple[bool | None, str]]]) -> Iterator[Finding]:
    try:
        for ok, words in look():
            yield Finding(ok, part, words)
    except SensorError as err:
        yield Finding(False, part, str(err))


def _logs(path: Path) -> Iterator[tuple[bool | None, str]]:
    """Are our logs there, are they JSON of our form, do they grow, do the clocks agree?"""
    files = discovery.check_folder(path) if path.is_dir() or not path.exists() else [(path, "packet")]
    packets = [file for file, log in files if log == "packet"]
    newest = max(packets, key=lambda file: file.stat().st_mtime)
    head = discovery.first_bytes(newest)
    discovery.refuse_tsv(newest, head)
    line, newline, _ = head.partition(b"\n")
    if not newline:
        yield None, f"{newest}: no whole line yet; is there traffic on Zeek's interface?"
        return
    try:
        msgspec.json.decode(line, type=Packet)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        yield False, f"{newest}: its first line is not of our form ({err}); take the Zeek package of the sensor's own version"
        return
    yield True, f"{path}: {_number(len(packets), 'packet log')}, the newest {newest.name}"
    age_s = time.time() - newest.stat().st_mtime
    if age_s > QUIET_S:
        yield None, f"{newest}: last written {_ago(age_s)} ago; is Zeek running, and is this its current log folder?"
    last = _last_packet(newest)
    if last is not None and last.ts > time.time() + AHEAD_S:
        yield False, f"{newest}: its last packet is {_ago(last.ts - time.time())} in the future; set the clocks by NTP"
    behind_s = newest.stat().st_mtime - last.ts if last is not None else 0.0
    if age_s <= WRITTEN_S and behind_s > BEHIND_S:
        yield (
            None,
            f"{newest}: written now, but its last packet is {_ago(behind_s)} old; set the clocks by NTP, or see why Zeek lags",
        )
    yield from _room(newest.parent, False, "Zeek cannot go on logging")


def _archives(config: Config) -> Iterator[tuple[bool | None, str]]:
    """Where rotated logs are looked for; one that is named and not there is worth a look."""
    for folder in archives_of(config.logs, config.archives):
        if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK):
            yield True, f"rotated logs are looked for in {folder}"
        elif config.archives:
            yield None, f"{folder} cannot be listed; mend `archives`, or let the sensor's user read it"


def _last_packet(path: Path) -> Packet | None:
    """The packet of the last whole line; None for a .gz or where it is not of our form."""
    if path.suffix == ".gz":
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        lines = file.read().split(b"\n")
    try:
        return msgspec.json.decode(lines[-2], type=Packet)
    except (IndexError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _state(config: Config, path: Path) -> Iterator[tuple[bool | None, str]]:
    folder = config.state_dir
    yield from _writable(folder, f"remembered in {folder}")
    if (holder := checkpoint.holder(folder)) is not None:
        if _runs(holder, path):
            yield True, f"{folder}: the sensor of this configuration is running (process {holder})"
        else:
            yield (
                False,
                f"{folder} is in use by another sensor (process {holder or 'unknown'}); stop that one or name another state_dir",
            )
    state = checkpoint.load(folder / "state.json")
    if state.positions:
        yield (
            True,
            f"a restart goes on in {_number(len(state.positions), 'file')}, {_number(len(state.episodes), 'episode')} open",
        )


def _runs(process: str, path: Path) -> bool:
    """Whether a process is a sensor with this configuration file (Linux; elsewhere nobody can tell)."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return False
    folder = Path("/")
    with contextlib.suppress(OSError):  # another user's process keeps its folder to itself
        folder = Path(f"/proc/{process}/cwd").readlink()
    files = [word.removeprefix("--config=") for word in words]
    return "run" in words and any((folder / word).resolve() == path.resolve() for word in files if word)


def _model(config: Config) -> Iterator[tuple[bool | None, str]]:
    """Is the bundle whole, and does the configuration fit it?"""
    bundle = Bundle.open(config.model_path)
    manifest = bundle.manifest
    policy = for_missions(config.policy, manifest.missions)
    own = policy.thresholds
    thresholds = manifest.thresholds | own
    words = ", ".join(f"{mission} {value:.3f}" for mission, value in thresholds.items())
    wide = {mission: value for mission, value in (manifest.leeways | policy.leeways).items() if value}
    if wide:
        words += f", and together with others down to {', '.join(f'{m} {v:g}' for m, v in wide.items())} logits below"
    yield True, f"version {manifest.version} from {bundle.path}; a verdict counts from probability {words}"
    for mission, value in own.items():
        if value > (ceiling := manifest.ceilings.get(mission, 1.0)):
            yield (
                None,
                f"policy.thresholds: {mission} {value} is above {ceiling:.3f}, from where most attacks go untold; lower it",
            )
    remembered = manifest.window.connections
    packets = {f"policy.least.{mission}.packets": least.packets or 0 for mission, least in policy.least.items()}
    for key, most in ({"policy.open_packets": policy.open_packets} | packets).items():
        if most > remembered:
            yield (
                None,
                f"{key} is {most}, a window of the model remembers {remembered} connections: what sends one packet in each opens "
                "no episode; lower it",
            )
    for mission, least in policy.least.items():
        if (least.connections or 0) > remembered:
            yield (
                False,
                f"policy.least.{mission}.connections is {least.connections}, a window of the model remembers {remembered}: no "
                f"{mission} over TCP would ever be told; lower it",
            )
    with contextlib.suppress(SensorError):  # _state tells what is wrong with it
        before = checkpoint.load(config.state_dir / "state.json").model_version
        if before not in ("", manifest.version):
            yield (
                None,
                f"the state is of model {before}, this one is {manifest.version}: the same traffic gets other document ids",
            )


def _calibration(config: Config, file: Path) -> Iterator[tuple[bool | None, str]]:
    """Is the site's calibration there, and for this model?"""
    fitted = calibration_file.read(file, config.model_path).thresholds
    yield True, f"calibrated by {file}: {', '.join(f'{mission} {value:.3f}' for mission, value in fitted.items())}"


def _suppress(path: Path, model: Path) -> Iterator[tuple[bool | None, str]]:
    rules = suppression_rules.load(path, manifest_of(model).missions)
    ended = [rule for rule in rules if not rule.live(time.time())]
    yield True, f"{_number(len(rules) - len(ended), 'rule')} of {path} in force"
    for rule in ended:
        yield None, f"{path}:{rule.line} has expired and silences nothing; prolong it or take it out ({rule.comment})"


def _elasticsearch(config: Config) -> Iterator[tuple[bool | None, str]]:
    """Is it there, does it let us in, would it take our documents?"""
    cluster = config.sink.elasticsearch
    assert cluster is not None
    yield from _writable(Path(cluster.dead_letter_path).parent, f"refused documents go to {cluster.dead_letter_path}")
    _, flows, health = DATASETS
    try:
        missions = manifest_of(config.model_path).missions
    except SensorError:  # _model tells what is wrong with it; without missions nothing is said of their fields
        missions = NO_MISSIONS
    yield from inspection.findings(
        cluster, missions, [DATASET, *[flows] * config.hunt.enabled, *[health] * bool(config.health.documents_s)]
    )


def _writable(folder: Path, words: str) -> Iterator[tuple[bool | None, str]]:
    """The folder, or the nearest one above it that exists, must let us write; and there must be room."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir():
        yield False, f"{there} is no folder; name another place than {folder}"
        return
    if not os.access(there, os.W_OK | os.X_OK):
        yield False, f"{there} does not let this user write; make it writable for the sensor's user or set another place"
        return
    yield from _room(there, True, "the sensor cannot go on")
    yield True, words


def _room(folder: Path, ours: bool, stops: str) -> Iterator[tuple[bool | None, str]]:
    """Bytes and inodes that are left on a disk.

    Args:
        ours: whether a full disk stops the sensor, or somebody else.
        stops: what ends when there is none left.
    """
    disk = os.statvfs(folder)
    free, share = disk.f_bavail * disk.f_frsize, disk.f_bavail / max(1, disk.f_blocks)
    left = f"{free >> 20:,} MiB ({share:.1%}) free"
    if free < MIN_FREE_BYTES or (disk.f_files and not disk.f_favail):
        left = left if free < MIN_FREE_BYTES else "no inode free"
        yield (False if ours else None), f"{folder}: {left}: {stops}; make room, or put it on another disk"
    elif free < LOW_FREE_BYTES or share < LOW_FREE_SHARE:
        yield None, f"{folder}: only {left}; make room soon"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
