"""Flow tables as CICFlowMeter writes them, with a label for each flow: ACI-IoT-2023, CIC-IDS and their like.

Facts about the files: version 4 writes `Src IP`, `Timestamp` as local time `dd/MM/yyyy hh:mm:ss a` and `Flow Duration` in
microseconds (its FlowFeature.java, BasicFlow.java, DateFormatter.java); it knows ports for TCP and UDP alone and gives everything
else protocol 0. Version 3's tables have `Source IP` with a space in front, and a clock of twelve hours without AM and PM.
"""

import csv
import gzip
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from math import isfinite
from pathlib import Path

from packetclip_sensor.errors import ConfigError
from packetclip_sensor.records.addresses import host
from training.data.labels.captures import Key, key
from training.data.labels.mapping import Mapping
from training.data.labels.match import Flow, Matcher, read_flow
from training.data.labels.report import Report, csv_rows
from training.data.labels.times import Local, TimeError, epoch, local

HEADERS = {
    "src": ("srcip", "sourceip", "srcaddr"),
    "sport": ("srcport", "sourceport"),
    "dst": ("dstip", "destinationip", "destip", "dstaddr"),
    "dport": ("dstport", "destinationport", "destport"),
    "proto": ("protocol", "proto"),
    "time": ("timestamp",),
    "duration": ("flowduration", "duration"),
}
_PROTOCOLS = {"6": "tcp", "17": "udp", "tcp": "tcp", "udp": "udp"}


@dataclass(frozen=True)
class Clock:
    """How the times of a table are to be read; all of it the user's word."""

    zone: tzinfo = UTC
    month_first: bool = False
    hours: int | None = None
    """24, or 12 with `afternoon_before`; None refuses a table that may be either."""
    afternoon_before: int = 0
    """On a clock of twelve hours without AM and PM, hours below this are afternoon."""
    duration_unit_s: float = 1e-6


def tables(paths: Sequence[Path]) -> list[Path]:
    """The CSV files of the paths, folders searched to their depth.

    Raises:
        ConfigError: there is none.
    """
    out: list[Path] = []
    for path in paths:
        found = sorted(p for p in path.rglob("*") if re.search(r"(?i)\.csv(\.gz)?$", p.name)) if path.is_dir() else [path]
        if not found or not found[0].exists():
            raise ConfigError(f"{path}: {'no CSV file in it' if path.exists() else 'no such file'}; name the flow tables")
        out += found
    return out


def _rows(path: Path, wanted: dict[str, tuple[str, ...]], report: Report) -> Iterator[tuple[str, dict[str, str]]]:
    """(file:line, our name: cell) of every row; the first call of next reads the header.

    Raises:
        ConfigError: the file cannot be read, or a column is missing.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", errors="backslashreplace", newline="") as file:
            reader = csv.reader(file)
            header = [re.sub(r"[^0-9a-z]", "", name.casefold()) for name in next(reader, [])]
            at = {}
            for name, spellings in wanted.items():
                found = next((header.index(s) for s in spellings if s in header), None)
                if found is None:
                    raise ConfigError(
                        f"{path}: no column {' or '.join(spellings)} among {len(header)}; give a table of CICFlowMeter with its "
                        "addresses and times (tables made for machine learning lack them), or --label-column"
                    )
                at[name] = found
            most = max(at.values())
            for cells in csv_rows(reader, path, report):
                if not cells or cells[at["time"] if len(cells) > at["time"] else 0].strip().casefold() == "timestamp":
                    continue  # joined tables repeat their header
                if len(cells) <= most:
                    report.add("row", f"{path}:{reader.line_num}", f"{len(cells)} cells, at least {most + 1} are needed")
                    continue
                yield f"{path}:{reader.line_num}", {name: cells[i].strip() for name, i in at.items()}
    except (OSError, EOFError) as err:
        raise ConfigError(f"{path} cannot be read ({err}); copy it again") from err


def halves_are_lost(path: Path, clock: Clock) -> bool:
    """Whether a table's clock may be one of twelve hours without AM and PM: no time says otherwise, none is 0 or past 12."""
    quiet, any_unmarked = Report("survey"), False
    for _, cells in _rows(path, {"time": HEADERS["time"]}, quiet):
        try:
            time = local(cells["time"], month_first=clock.month_first)
        except TimeError:
            continue
        if isinstance(time, Local) and not time.marked:
            any_unmarked = True
            if not 1 <= time.clock.hour <= 12:
                return False
    return any_unmarked


def read(
    path: Path,
    matcher: Matcher,
    report: Report,
    mapping: Mapping,
    clock: Clock,
    label_column: str | None = None,
) -> None:
    """Give the flows of one table to the matcher.

    Raises:
        ConfigError: it cannot be read, or is no such table.
    """
    column = re.sub(r"[^0-9a-z]", "", (label_column or mapping.label_column).casefold())
    lost = clock.hours is None and halves_are_lost(path, clock)
    before = matcher.flows
    left_out = 0
    for where, cells in _rows(path, {**HEADERS, "label": (column,)}, report):
        flow = _flow(cells, where, mapping, clock, matcher, report)
        if flow is None:
            continue
        if lost:
            left_out += 1
            matcher.try_later(flow)
            matcher.doubt(flow.key, flow.claim, where)
        else:
            matcher.give(flow, report)
    if left_out:
        report.add(
            "time",
            str(path),
            f"no hour is 0 or past 12, and none has AM or PM: half of the day may be lost, so {left_out:,} flows are left out; "
            "give --clock 24 if the hours are right, or --clock 12 --afternoon-before 8 if those before 8 are of the afternoon",
        )
    elif matcher.flows == before:
        report.add("row", str(path), "no flow in it can be used")


def _flow(cells: dict[str, str], where: str, mapping: Mapping, clock: Clock, matcher: Matcher, report: Report) -> Flow | None:
    def ends() -> Key:
        proto = _PROTOCOLS.get(cells["proto"].casefold().removesuffix(".0"), "other")
        return key(proto, *((host(cells[a]), _port(cells[p])) for a, p in (("src", "sport"), ("dst", "dport"))))

    def times() -> tuple[float, float, float]:
        start, resolution = _start(cells["time"], clock)
        duration = float(cells["duration"] or 0) * clock.duration_unit_s
        if not isfinite(duration):
            raise ValueError(f"flow duration {cells['duration']!r} is not a number")
        return start, duration, resolution

    return read_flow("flow", ends, cells["label"], times, where, mapping, matcher, report)


def _port(text: str) -> int:
    port = int(float(text or 0))
    if not 0 <= port < 65536:
        raise ValueError(f"{text!r} is no port")
    return port


@lru_cache(maxsize=4096)
def _start(text: str, clock: Clock) -> tuple[float, float]:
    """(epoch seconds, resolution); a second's worth of flows has one text."""
    time = local(text, month_first=clock.month_first)
    if not isinstance(time, Local):
        return time, 1e-6
    wall: datetime = time.clock
    if clock.hours == 12 and not time.marked:
        if not 1 <= wall.hour <= 12:
            raise TimeError(f"{text!r} is not on a clock of twelve hours")
        wall = wall.replace(hour=wall.hour % 12)
        if wall.hour < clock.afternoon_before % 12 or time.clock.hour == 12:
            wall += timedelta(hours=12)
    return epoch(wall, clock.zone), time.resolution_s


def report_offset(matcher: Matcher, clock: Clock | None, report: Report, where: str) -> None:
    """Say which offset between the clocks would let most flows meet a connection, where it is not the one set."""
    met, tried = matcher.offsets()
    if not tried:
        return
    best = min(met, key=lambda s: (-met[s], abs(s)), default=0)
    report.settings["offset_s"] = {"tried_flows": tried, "as_set": met[0], "best": best, "best_flows": met[best]}
    if best == 0 or met[best] < 2 * met[0] or met[best] < 3:
        return
    text = f"as the times are read now, {met[0]:,} of {tried:,} flows between known ends meet a connection; "
    text += f"{abs(best) / 3600:g} h {'later' if best > 0 else 'earlier'} {met[best]:,} would"
    if clock is not None:
        sample = matcher.sample_time()
        there = clock.zone.utcoffset(datetime.fromtimestamp(sample, clock.zone).replace(tzinfo=None)) or timedelta(0)
        minutes = round((there.total_seconds() - best) / 60)
        sign, minutes = ("-" if minutes < 0 else "+"), abs(minutes)
        text += f": is it --timezone={sign}{minutes // 60:02}:{minutes % 60:02} (or the zone's name)?"
        if abs(best) == 12 * 3600:
            text += " Or a clock of twelve hours without AM and PM: --clock 12 --afternoon-before HOUR?"
    else:
        text += "; are the log and the captures of the same time?"
    report.add("offset", where, text)
