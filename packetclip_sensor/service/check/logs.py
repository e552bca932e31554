"""Zeek's logs: are they there, of our form and growing, does the link show all, and what cannot be read?"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.common.text import counted
from packetclip_sensor.config.settings import Config
from packetclip_sensor.errors import SensorError
from packetclip_sensor.normalize import quality
from packetclip_sensor.records import Flow, Packet, log_of
from packetclip_sensor.service import checkpoint
from packetclip_sensor.service.check.finding import LOOK, OK, WRONG, Found, room
from packetclip_sensor.service.health import REJECTED_SHARE
from packetclip_sensor.sources import discovery, zeek
from packetclip_sensor.sources.discovery import archives_of
from packetclip_sensor.sources.file_registry import FileRegistry
from packetclip_sensor.sources.file_registry import Found as Listed

QUIET_S = 900.0
"""Age of the newest packet log after which a running Zeek is doubted."""
AHEAD_S = 5.0
"""Log times so far ahead of this machine's clock mean that one of the clocks is wrong."""
BEHIND_S, WRITTEN_S = 120.0, 60.0
"""A log written within WRITTEN_S whose last packet is BEHIND_S older than that: a clock, or a sniffer far behind."""
ARCHIVED_S, REJECTED_S = 86400.0, 86400.0
"""How far back rotated logs are looked at where there is no state, and rejected lines."""
LATE_S = 0.05
"""So much later than others are lines of one Zeek, too."""
NO_LOGGING = "Zeek cannot go on logging"
"""What a full disk of the logs leads to."""

Record = TypeVar("Record", Packet, Flow)


def folder(path: Path | None, config: Config) -> Found:
    """Are our logs there, are they JSON of our form, do they grow, do the clocks agree?"""
    if path is None:
        yield WRONG, "none named; set `logs` to Zeek's log folder, for example [/opt/zeek/logs/current]"
        return
    if remark := discovery.nothing_since(path, config.logs, archives_of(config.logs, config.archives)):
        yield LOOK, remark
        yield from room(path, False, NO_LOGGING)
        return
    files = discovery.check_log(path)
    packets = [file for file, log in files if log == "packet"]
    packets.sort(key=lambda file: file.stat().st_mtime)
    newest = next((file for file in reversed(packets) if _readable(file)), packets[-1])
    head = discovery.first_bytes(newest)
    discovery.refuse_tsv(newest, head)
    line, newline, _ = head.partition(b"\n")
    if not newline:
        yield LOOK, f"{newest}: no whole line yet; is there traffic on Zeek's interface?"
        return
    try:
        zeek.packet(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        yield WRONG, f"{newest}: its first line is not of our form ({err}); take the Zeek package of the sensor's own version"
        return
    yield OK, f"{path}: {counted(len(packets), 'packet log')}, the newest {newest.name}"
    now, written = time.time(), newest.stat().st_mtime
    records, bad, reason = _last_lines(newest, zeek.packet)
    if bad >= max(1, REJECTED_SHARE * (bad + len(records))):
        what = f"{bad} of its last {bad + len(records)} lines are not of our form ({reason})"
        yield WRONG, f"{newest}: {what} and are rejected; see what else writes into it"
    last = records[-1].ts if records else None
    if now - written > QUIET_S:
        yield LOOK, f"{newest}: last written {_ago(now - written)} ago; is Zeek running, and is this its current log folder?"
    if last is not None and last > now + AHEAD_S:
        yield WRONG, f"{newest}: its last packet is {_ago(last - now)} in the future; set the clocks by NTP"
    if last is not None and now - written <= WRITTEN_S and written - last > BEHIND_S:
        lag = _ago(written - last)
        yield LOOK, f"{newest}: written now, but its last packet is {lag} old; set the clocks by NTP, or see why Zeek lags"
    yield from _link(newest, records, [file for file, log in files if log == "flow"], config.lateness_s)
    yield from room(newest.parent, False, NO_LOGGING)


def _link(newest: Path, packets: list[Packet], flow_logs: list[Path], lateness_s: float) -> Found:
    """Does the link show all, once, and in order? `packets` are the last of the newest log."""
    if packets:
        late = quality.lateness_s(packets)
        words = f"{newest}: lines come up to {late:.1f} s later than others"
        if late > lateness_s + LATE_S:
            yield LOOK, f"{words}; set lateness_s: {math.ceil(2 * late) / 2:g}"
        elif lateness_s:
            yield OK, f"{words}, lateness_s is {lateness_s:g}"
    if len(packets) >= quality.FEW_PACKETS and (share := quality.copies_share(packets)) >= quality.MANY_COPIES:
        yield (
            LOOK,
            f"{newest}: {share:.0%} of the last packets are copies, which count once; let the mirror send one direction of each "
            "port, or one VLAN",
        )
    counters = Counters()
    for file in sorted(flow_logs, key=lambda file: file.stat().st_mtime)[-1:]:
        quality.count_connections(_last_lines(file, zeek.flow)[0], counters)
        if (seen := counters.connections) < quality.FEW_CONNECTIONS:
            continue
        if (share := counters.connections_one_way / seen) >= quality.MANY_ONE_WAY:
            words = f"of {share:.0%} of the last TCP connections one side is not seen"
            yield LOOK, f"{file}: {words}; give Zeek both directions of the link"
        if (share := counters.connections_with_gaps / seen) >= quality.MANY_GAPS:
            words = f"of {share:.0%} of the last TCP connections bytes are missing"
            yield LOOK, f"{file}: {words}; see Zeek's capture_loss.log, and give it more processors or less traffic"


def _readable(path: Path) -> bool:
    try:
        discovery.first_bytes(path)
    except SensorError:  # `unread` reports it
        return False
    return True


def archives(config: Config) -> Found:
    """Where rotated logs are looked for; one that is named and not there is worth a look."""
    for folder in archives_of(config.logs, config.archives):
        if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK):
            yield OK, f"rotated logs are looked for in {folder}"
        elif config.archives:
            yield LOOK, f"{folder} cannot be listed; mend `archives`, or let the sensor's user read it"


def unread(config: Config) -> Found:
    """What of the logs cannot be read, and what the state knows of and is nowhere."""
    with contextlib.suppress(SensorError):  # the state has a line of its own
        state = checkpoint.load(config.state_dir / "state.json")
        folders = archives_of(config.logs, config.archives)
        asked = [Listed(*found, True, "") for path in config.logs if path.is_dir() for found in discovery.logs_in(path)]
        with contextlib.closing(
            FileRegistry(state.positions, Rejects(None), block_bytes=1 << 20, max_line_bytes=1 << 20)
        ) as logs:
            for since in (state.judged or time.time() - ARCHIVED_S, 0.0):
                if since or logs.missing():
                    logs.scan(
                        [*asked, *(Listed(*found, False, "") for found in discovery.archived(folders, since))], finished=True
                    )
            for unread in logs.unread.values():
                yield WRONG if discovery.no_rights(unread.error) else LOOK, str(unread.error)
            for position in logs.missing():
                words = (
                    f"{position.path} was read up to byte {position.offset:,}, and is neither there nor among rotated logs: what"
                )
                yield LOOK, f"{words} came after that is not judged; keep rotated logs, and name their folder in `archives`"


def rejected(config: Config) -> Found:
    """Lines that a running sensor rejected of late."""
    path = config.rejects
    with contextlib.suppress(OSError, IndexError, msgspec.DecodeError):
        ago_s = time.time() - path.stat().st_mtime
        if ago_s < REJECTED_S:
            last = msgspec.json.decode(_end_of(path)[-2], type=dict[str, object])
            yield LOOK, f"{path}: lines were rejected, the last {_ago(ago_s)} ago, of {last.get('path')}: {last.get('reason')}"


def _last_lines(path: Path, decode: Callable[[bytes], Record]) -> tuple[list[Record], int, str]:
    """Records of a log's last lines, how many of these are none, and why the last of them is; nothing of a packed log."""
    if not log_of(path.name) or not path.name.endswith(".log"):
        return [], 0, ""
    records, bad, reason = [], 0, ""
    for line in _end_of(path, 8 << 20)[1:-1]:
        try:
            records.append(decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
            bad, reason = bad + 1, str(err)
    return records, bad, reason


def _end_of(path: Path, size_bytes: int = 65536) -> list[bytes]:
    """The last bytes of a file as lines, with whatever part of a line stands first and last."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size_bytes))
        return (b"\n" * (file.tell() == 0) + file.read()).split(b"\n")


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
