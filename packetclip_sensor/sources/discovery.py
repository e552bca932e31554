"""What a path given by the user holds: our logs, captures, folders of either, or none of them, with the remedy."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from pathlib import Path

from packetclip_sensor.errors import LogFormatError, SensorError
from packetclip_sensor.records import is_eve, log_of
from packetclip_sensor.sources import pcap
from packetclip_sensor.sources.logfile import first_ts
from packetclip_sensor.sources.plaintext import readable, reading

_CAPTURE_NAME = re.compile(r"\.(?:pcapng|pcap|cap|dmp|snoop|erf)[0-9]*(?:\.[A-Za-z0-9]{1,5})?$", re.IGNORECASE)
FOLLOWS_S, OVERLAP_S = 2.0, 0.1
"""A capture goes on in the next one where this begins within so many seconds of its last packet, or, since packets may stand a
little out of order, before it."""

DATED = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
SLACK_S = 120.0
"""A log's last write may carry an earlier time than the packets in it, where clocks differ."""
LISTED_BYTES = 1 << 20
"""Most that is read of Zeek's list of its scripts, 33 kB as it stands."""

LOAD_REMEDY = (
    "load the PacketCLIP package in that Zeek: `zkg install` a clone of this project and `@load packetclip` in local.zeek, "
    "or by hand `@load` the folder that `packetclip zeek-scripts` prints, then `zeekctl deploy`"
)
SURICATA_REMEDY = "load packetclip.lua in that Suricata (README.md in the folder that `packetclip suricata-scripts` prints)"


@dataclass(frozen=True, slots=True)
class Unit:
    """Something that is replayed on its own: one log file, one folder of logs, or one capture."""

    name: str
    kind: str
    """logs or pcap."""
    paths: tuple[Path, ...]
    """Several where captures follow each other."""


@dataclass(slots=True)
class PassedOver:
    """What is no unit of its own."""

    unread: list[SensorError] = field(default_factory=list)
    """What looks like ours and cannot be read."""
    origins: list[Path] = field(default_factory=list)
    """Captures of which the logs beside them were made."""


def discover(path: Path, *, join: bool = False, passed: PassedOver | None = None) -> list[Unit]:
    """The units in `path`, sorted by name: a log file, a capture, a folder of logs or captures, or folders of them.

    A capture of which the logs beside it, or in a folder of its name, were made is left out.

    Args:
        join: captures of one folder whose names differ in their numbers alone, and which follow each other in time, are one unit:
            `tcpdump -G` and `-C`, `dumpcap -b`.
        passed: takes what in a folder is left out.
    Raises:
        LogFormatError: the path is missing or unreadable, or there is nothing in it to read.
    """
    with readable(path):
        path.stat()
    if not path.is_dir():
        if _is_pcap(path):
            return [Unit(_stem(path), "pcap", (path,))]
        content_log(path, first_bytes(path))
        return [Unit(_stem(path), "logs", (path,))]
    unread: list[SensorError] = []
    units = _units_in(path, path.resolve().name, join, unread)
    logs = [unit for unit in units if unit.kind == "logs"]
    origins = [unit for unit in units if unit.kind == "pcap" and any(_made_from(unit, one) for one in logs)]
    if not units and (passed is None or not unread):
        raise unread[0] if unread else nothing_in(path)
    if passed is not None:
        passed.unread += unread
        passed.origins += [capture for unit in origins for capture in unit.paths]
    return sorted((unit for unit in units if unit not in origins), key=lambda unit: unit.name)


def discover_all(paths: Sequence[Path]) -> tuple[list[Unit], PassedOver]:
    """The units of several paths, and what is left out. Captures that follow each other are joined, also those named one by one.

    Raises:
        LogFormatError: a path does not exist, or it is the only one and nothing in it can be read.
    """
    passed, units, captures = PassedOver(), list[Unit](), list[Path]()
    for path in paths:
        try:
            found = discover(path, join=True, passed=passed)
        except LogFormatError as err:
            if len(paths) == 1 or not path.exists():
                raise
            passed.unread.append(err)
            continue
        if found and found[0].paths == (path,) and found[0].kind == "pcap":
            captures.append(path)
        else:
            units += found
    return units + [_unit(run, "") for run in _runs(captures)], passed


def _unit(run: tuple[Path, ...], folder: str) -> Unit:
    more = f" +{len(run) - 1}" if len(run) > 1 else ""
    return Unit(f"{folder}{_stem(run[0])}{more}", "pcap", run)


def _units_in(folder: Path, name: str, join: bool, unread: list[SensorError]) -> list[Unit]:
    units, captures = list[Unit](), list[Path]()
    logs = logs_in(folder)
    try:
        with readable(folder):
            children = sorted(folder.iterdir())
    except LogFormatError as err:
        unread.append(err)
        return []
    if logs:
        units.append(Unit(name, "logs", (folder,)))
    for child in children:
        if child.is_dir():
            units += _units_in(child, f"{name}/{child.name}", join, unread)
        elif log_of(child.name) is None:
            try:
                if _is_pcap(child):
                    captures.append(child)
                elif _CAPTURE_NAME.search(child.name):
                    raise LogFormatError(
                        f"{child} is called a capture, but does not begin like a pcap or pcapng; convert it by editcap"
                    )
            except LogFormatError as err:
                if _CAPTURE_NAME.search(child.name):
                    unread.append(err)
    runs = _runs(captures) if join else [(capture,) for capture in captures]
    return units + [_unit(run, f"{name}/") for run in runs]


def _runs(captures: Sequence[Path]) -> Iterator[tuple[Path, ...]]:
    """Captures of one folder that differ in name by numbers alone and follow each other, put together."""
    alike: dict[Path, list[Path]] = {}
    for path in captures:
        alike.setdefault(path.with_name("-" + re.sub(r"[0-9]+", "", path.name)), []).append(path)
    for paths in alike.values():
        if len(paths) == 1:
            yield (paths[0],)
            continue
        files = []
        for path in paths:
            try:
                files.append(pcap.CaptureFile(path).extent())
            except LogFormatError:  # it is reported when its turn comes
                yield (path,)
        run: list[pcap.CaptureFile] = []
        for file in sorted(files, key=lambda file: file.first):
            if run and not (-OVERLAP_S <= file.first - run[-1].last <= FOLLOWS_S and run[-1].joins(file)):
                yield tuple(one.path for one in run)
                run = []
            run.append(file)
        if run:
            yield tuple(one.path for one in run)


def _made_from(capture: Unit, logs: Unit) -> bool:
    """Whether a packet log of `logs` begins with one of the first packets of the capture."""
    folder, path = logs.paths[0], capture.paths[0]
    if path.parent != folder and Path(logs.name).name != _stem(path):
        return False
    try:
        starts = [first_ts(first_bytes(log), 0, kind) for log, kind in logs_in(folder) if kind == "packet"]
        file = pcap.CaptureFile(path)
        first = next(file.blocks(), b"")
    except LogFormatError:
        return False
    # As near as the log's times are: microseconds, or milliseconds where a site has chosen these.
    return any(
        abs(ts - start) < (1e-3 if start == round(start, 3) else 2e-6) for ts in pcap.times(file, first) for start in starts
    )


def logs_in(folder: Path) -> list[tuple[Path, str]]:
    """Our log files in a folder (not below it), each with its log, sorted by name; none where it cannot be listed.

    Suricata's eve.json is one where a packet log lies beside it.
    """
    try:
        found = sorted((path, log) for path in folder.iterdir() if (log := log_of(path.name)) and path.is_file())
    except OSError:
        return []
    packets = any(log == "packet" for _, log in found)
    return [(path, log) for path, log in found if packets or not is_eve(path.name)]


def check_folder(folder: Path) -> list[tuple[Path, str]]:
    """Like `logs_in`, but a folder without our packet log is an error that says what to do.

    Raises:
        LogFormatError: there is none, or the folder cannot be read.
    """
    found = logs_in(folder)
    if any(log == "packet" for _, log in found):
        return found
    raise nothing_in(folder)


def nothing_in(folder: Path) -> LogFormatError:
    """The error for a folder in which there is no packet log of ours."""
    try:
        with readable(folder):
            names = sorted(path.name for path in folder.iterdir())
    except LogFormatError as err:
        return err
    if logs_in(folder):
        return LogFormatError(f"{folder} has packetclip_flow.log but no packetclip_packet.log; is that log switched off in Zeek?")
    if any(map(is_eve, names)):
        return LogFormatError(f"{folder} holds Suricata's eve.json, but no packetclip_packet.log; {SURICATA_REMEDY}")
    if _has_conn_log(names):
        return LogFormatError(f"{folder} holds Zeek logs, but no packetclip_packet.log: the package is not loaded; {LOAD_REMEDY}")
    if logs_in(folder / "current"):
        return LogFormatError(f"{folder} holds no packetclip_packet.log, but its `current` does: name {folder}/current")
    return LogFormatError(f"{folder} holds no packetclip_packet.log; give Zeek's log folder, and {LOAD_REMEDY}")


def nothing_since(folder: Path, paths: Sequence[Path], archives: Sequence[Path]) -> str | None:
    """A remark on a folder that has no packet log yet: its rotated ones are in the archives, or Zeek says that it has loaded the
    package; None for any other folder.

    Zeek makes a log with the first packet, so a quiet link has none after a start or a rotation. Where conn.log goes on without
    our flow log, the package is not loaded, or no longer, and that is no quiet link.

    Args:
        paths: all log folders of the site, `archives` the folders into which their rotated logs are moved.
    """
    found = logs_in(folder)
    if not os.access(folder, os.R_OK | os.X_OK) or any(log == "packet" for _, log in found):
        return None
    if not found and _has_conn_log(path.name for path in folder.iterdir()):
        return None
    rotated = [file for place in archives if nearest(place, paths) == source_of(folder) for file in _last_rotated(place)]
    written, last = max(((_written(file), file) for file in rotated), default=(-inf, None))
    if written < 0:
        if not _loaded(folder):
            return None
        return (
            f"{folder}: Zeek has loaded the PacketCLIP package and has logged no packet since its start; if there is traffic on "
            "Zeek's interface, see whether Zeek sees it"
        )
    when = datetime.fromtimestamp(written, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return (
        f"{folder}: the last packet log was rotated, and nothing was logged since {when} ({last}); if there is traffic on Zeek's "
        "interface, see whether Zeek runs"
    )


def _loaded(folder: Path) -> bool:
    """Whether Zeek's list of its scripts (policy/misc/loaded-scripts, which its local.zeek loads) has those of the package."""
    path = folder / "loaded_scripts.log"
    try:
        if not path.is_file():
            return False  # opening a pipe would hold up whoever asks
        with path.open("rb") as file:
            listed = file.read(LISTED_BYTES)
    except OSError:
        return False
    return all(re.search(rb"/%s\.zeek\b" % name, listed) for name in (b"packets", b"flows", b"protocols"))


def _has_conn_log(names: Iterable[str]) -> bool:
    return any(name.startswith("conn.") and ".log" in name for name in names)


def _last_rotated(archive: Path) -> list[Path]:
    """The packet logs in an archive, and those in the latest of its dated subfolders that has any."""
    places = ([path for path, log in logs_in(folder) if log == "packet"] for folder in (archive, *reversed(_dated(archive))))
    return [*next(places), *next(filter(None, places), [])]


def check_log(path: Path) -> list[tuple[Path, str]]:
    """Like `check_folder`, for a folder or a log file."""
    if path.is_dir() or not path.exists():
        return check_folder(path)
    with readable(path), path.open("rb"):
        return [(path, log_of(path.name) or "packet")]


def no_rights(err: LogFormatError) -> bool:
    """Whether this is about a file or folder that is there and may not be read."""
    return isinstance(err.__cause__, PermissionError)


def content_log(path: Path, head: bytes) -> str:
    """Which of our logs a file is, by its name or else by its first line.

    Raises:
        LogFormatError: it is neither, or TSV.
    """
    refuse_tsv(path, head)
    if log := log_of(path.name):
        return log
    if not head.strip():
        raise LogFormatError(f"{path} is empty; give a packetclip_packet.log, a folder that has one, or a pcap")
    line = head.split(b"\n", 1)[0]
    if b'"data":' in line and b'"n":' in line:
        return "packet"
    if b'"final":' in line:
        return "flow"
    raise LogFormatError(f"{path} is no log of ours and no pcap; give a packetclip_packet.log, a folder that has one, or a pcap")


def refuse_tsv(path: Path, head: bytes) -> None:
    """Raises LogFormatError where the file is one of Zeek's TSV logs."""
    if not head.startswith(b"#separator"):
        return
    if log_of(path.name):
        raise LogFormatError(
            f"{path} is a TSV log, JSON lines are needed; the PacketCLIP package writes JSON whatever the site's own logs are: "
            "remove the script that changes the filters of its log streams"
        )
    raise LogFormatError(f"{path} is a TSV log of the site's own, the sensor reads packetclip_packet.log; {LOAD_REMEDY}")


def all_empty(paths: Sequence[Path]) -> LogFormatError:
    """The error for finished logs in which there is nothing."""
    names = ", ".join(str(path) for path in paths)
    return LogFormatError(f"{names}: the log is empty; did Zeek see any packets, and has it ended or flushed its logs?")


def archives_of(logs: Sequence[Path], named: Sequence[Path]) -> list[Path]:
    """The folders to search: those named, else, in zeekctl's layout, the one in which `current` is or leads to the log folder."""
    return list(named) or list(dict.fromkeys(folder for path in logs if (folder := _archive_of(path))))


def _archive_of(path: Path) -> Path | None:
    """zeekctl's LogDir holds `current`, a link to the spool that Zeek writes: the same place by either name."""
    if path.name == "current":
        return path.parent
    spool = os.path.realpath(path)
    logs = (above / name for above in Path(spool).parents for name in ("logs", "log/zeek"))
    return next((folder for folder in logs if os.path.realpath(folder / "current") == spool), None)


def source_of(path: Path) -> str:
    """The source that a log folder, or a single log file, belongs to."""
    return str(path.parent if log_of(path.name) or path.is_file() else path)


def nearest(archive: Path, paths: Sequence[Path]) -> str:
    """The source whose rotated logs are moved into `archive`: that of the log folder with which it shares most of its path."""
    shared = [len(Path(os.path.commonpath([archive.absolute(), path.absolute()])).parts) for path in paths]
    return source_of(paths[shared.index(max(shared))]) if paths else str(archive)


def archived(folders: Sequence[Path], since: float) -> Iterator[tuple[Path, str]]:
    """Our logs in these folders and their dated subfolders that were last written after `since` (epoch seconds).

    A folder changes when a file is moved into it, so one that has not changed since then is not even listed.
    """
    for folder in folders:
        for place in (folder, *_dated(folder)):
            if _newer(place, since - SLACK_S):
                yield from ((path, log) for path, log in logs_in(place) if _newer(path, since - SLACK_S))


def _dated(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob(DATED))
    except OSError:
        return []


def _newer(path: Path, since: float) -> bool:
    return _written(path) >= since


def _written(path: Path) -> float:
    """When a file or folder was last written, epoch seconds; -inf where it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return -inf


def first_bytes(path: Path) -> bytes:
    """The first bytes of a file's plain text.

    Raises:
        LogFormatError: it cannot be read or unpacked, or nothing can be unpacked of it.
    """
    with readable(path), reading(path) as text:
        head = text.head()
        if not head and (damage := text.damage()):
            raise LogFormatError(f"{path}: {damage}; copy it again")
        return head


def _is_pcap(path: Path) -> bool:
    """Raises LogFormatError where the file cannot be read."""
    return first_bytes(path)[:4] in (*pcap.PCAP_ORDERS, pcap.PCAPNG_MAGIC)


def _stem(path: Path) -> str:
    name = path.name.removesuffix(path.suffix) if path.suffix in (".gz", ".xz", ".bz2", ".zst") else path.name
    for suffix in (".pcapng", ".pcap", ".cap", ".log"):
        name = name.removesuffix(suffix)
    return name
