"""What a path given by the user holds: our logs, captures, folders of either, or none of them, with the remedy."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packetclip_sensor.errors import LogFormatError
from packetclip_sensor.records import is_eve, log_of
from packetclip_sensor.sources.plaintext import GZIP_MAGIC

_PCAP_MAGIC = (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x0a\x0d\x0d\x0a")

DATED = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
SLACK_S = 120.0
"""A log's last write may carry an earlier time than the packets in it, where clocks differ."""

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


def discover(path: Path) -> list[Unit]:
    """The units in `path`, sorted by name: a log file, a capture, a folder of logs or captures, or folders of them.

    A capture beside a folder or unit of logs with the same name is taken to be their origin, and left out.

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
    units = _units_in(path, path.resolve().name)
    logs = {Path(unit.name).name for unit in units if unit.kind == "logs"}
    units = [unit for unit in units if unit.kind == "logs" or Path(unit.name).name not in logs]
    if not units:
        check_folder(path)
    return sorted(units, key=lambda unit: unit.name)


def _units_in(folder: Path, name: str) -> list[Unit]:
    if logs_in(folder):
        return [Unit(name, "logs", (folder,))]
    units = []
    with readable(folder):
        children = sorted(folder.iterdir())
    for child in children:
        if child.is_dir():
            units += _units_in(child, f"{name}/{child.name}")
        elif child.is_file() and _is_pcap(child):
            units.append(Unit(f"{name}/{_stem(child)}", "pcap", (child,)))
    return units


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
    with readable(folder):
        names = sorted(path.name for path in folder.iterdir())
    found = logs_in(folder)
    if any(log == "packet" for _, log in found):
        return found
    if found:
        raise LogFormatError(f"{folder} has packetclip_flow.log but no packetclip_packet.log; is that log switched off in Zeek?")
    if any(map(is_eve, names)):
        raise LogFormatError(f"{folder} holds Suricata's eve.json, but no packetclip_packet.log; {SURICATA_REMEDY}")
    if any(name.startswith("conn.") and ".log" in name for name in names):
        raise LogFormatError(f"{folder} holds Zeek logs, but no packetclip_packet.log: the package is not loaded; {LOAD_REMEDY}")
    raise LogFormatError(f"{folder} holds no packetclip_packet.log; give Zeek's log folder, and {LOAD_REMEDY}")


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


def unreadable(path: Path, err: OSError) -> LogFormatError:
    """The error for a file or folder that the operating system does not give out."""
    if isinstance(err, FileNotFoundError):
        return LogFormatError(f"{path} does not exist; give a Zeek log folder, a log file or a pcap")
    return LogFormatError(f"{path} cannot be read ({err.strerror}); let the sensor's user read it, for example by the group zeek")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises LogFormatError, with the remedy, where a file or folder cannot be read or is a damaged .gz."""
    try:
        yield
    except (gzip.BadGzipFile, zlib.error, EOFError) as err:
        raise LogFormatError(f"{path} is a damaged gzip file ({err}); copy it again") from err
    except OSError as err:
        raise unreadable(path, err) from err


def all_empty(paths: Sequence[Path]) -> LogFormatError:
    """The error for finished logs in which there is nothing."""
    names = ", ".join(str(path) for path in paths)
    return LogFormatError(f"{names}: the log is empty; did Zeek see any packets, and has it ended or flushed its logs?")


def archives_of(logs: Sequence[Path], named: Sequence[Path]) -> list[Path]:
    """The folders to search: those named, else the one above each log folder called `current` (zeekctl's layout)."""
    return list(named) or [path.parent for path in logs if path.name == "current"]


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
    try:
        return path.stat().st_mtime >= since
    except OSError:
        return False


def first_bytes(path: Path) -> bytes:
    """The first bytes of a file, unpacked if it is a .gz.

    Raises:
        LogFormatError: it cannot be read, or begins like a .gz and is none.
    """
    with readable(path):
        with path.open("rb") as file:
            head = file.read(1024)
        if not head.startswith(GZIP_MAGIC):
            return head
        with gzip.open(path) as unpacked:
            return unpacked.read1(1024)


def _is_pcap(path: Path) -> bool:
    try:
        return first_bytes(path)[:4] in _PCAP_MAGIC
    except LogFormatError:
        return False


def _stem(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    for suffix in (".pcapng", ".pcap", ".cap", ".log"):
        name = name.removesuffix(suffix)
    return name
