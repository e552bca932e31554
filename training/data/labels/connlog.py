"""Zeek's conn.log with labels (`conn.log.labeled`), as IoT-23 has it: TSV or JSON lines.

IoT-23's files glue the last three columns, in header and rows, by three spaces where tabs belong; `label` is Benign or Malicious
(also in lower case) and `detailed-label` says what kind, or `-`.
"""

import gzip
import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from math import isfinite
from pathlib import Path

from packetclip_sensor.errors import ConfigError
from packetclip_sensor.records.addresses import host
from training.data.labels.captures import Key, key
from training.data.labels.mapping import Mapping, normalised
from training.data.labels.match import Flow, Matcher, read_flow
from training.data.labels.report import Report
from training.data.labels.times import TimeError, instant

NEEDED = ("ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto")
DETAILS = ("detailed-label", "detailed_label", "det_label", "detailedlabel")
UNSET = ("", "-", "(empty)")
_GLUE = re.compile(r" {2,}")


def logs(folder: Path, pattern: str) -> list[Path]:
    """The labelled logs below a folder.

    Raises:
        ConfigError: there is none.
    """
    found = [folder] if folder.is_file() else sorted(p for p in folder.rglob(pattern) if p.is_file())
    if not found:
        raise ConfigError(f"{folder}: no file {pattern} in it or below; name the labelled logs with --log or --pattern")
    return found


def read(path: Path, matcher: Matcher, report: Report, mapping: Mapping) -> None:
    """Give the connections of one log to the matcher.

    Raises:
        ConfigError: it cannot be read, or is no conn.log with labels.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8", errors="backslashreplace") as file:
            first = file.readline()
            rows = _json_rows if first.startswith("{") else _tsv_rows
            for where, row in rows(chain([first], file), path, report):
                if flow := _flow(row, where, mapping, matcher, report):
                    matcher.give(flow, report)
    except (OSError, EOFError) as err:
        raise ConfigError(f"{path} cannot be read ({err}); copy it again") from err


def _tsv_rows(lines: Iterable[str], path: Path, report: Report) -> Iterator[tuple[str, dict[str, str]]]:
    names: list[str] = []
    for number, text in enumerate(lines, 1):
        values = text.rstrip("\r\n").split("\t")
        if values[0] == "#fields":
            names = [name for part in values[1:] for name in _GLUE.split(part.strip())]
            _need(set(names), path)
        if values[0].startswith("#"):
            continue
        if not names:
            break
        if len(values) < len(names):
            values = [*values[:-1], *_GLUE.split(values[-1].strip())]
        if len(values) == len(names):
            yield f"{path}:{number}", dict(zip(names, values, strict=True))
        elif values != [""]:
            report.add("row", f"{path}:{number}", f"{len(values)} values under {len(names)} columns; the row is left out")
    if not names:
        raise ConfigError(f"{path} is neither a TSV log of Zeek (no #fields before its rows) nor JSON lines")


def _need(names: set[str], path: Path) -> None:
    if missing := [name for name in (*NEEDED, "label") if name not in names]:
        raise ConfigError(f"{path}: no column {', '.join(missing)}; give a conn.log with labels, as IoT-23's conn.log.labeled")


def _json_rows(lines: Iterable[str], path: Path, report: Report) -> Iterator[tuple[str, dict[str, str]]]:
    checked = False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = {str(k): "" if v is None else str(v) for k, v in json.loads(line).items()}
        except (ValueError, AttributeError, RecursionError) as err:
            report.add("row", where, f"not a JSON object ({err}); the row is left out")
            continue
        if not checked:
            _need(set(row), path)
            checked = True
        yield where, row


def _flow(row: dict[str, str], where: str, mapping: Mapping, matcher: Matcher, report: Report) -> Flow | None:
    def ends() -> Key:
        sides = ((host(row[f"id.{end}_h"].strip()), int(row[f"id.{end}_p"])) for end in ("orig", "resp"))
        return key(row.get("proto", ""), *sides)

    def times() -> tuple[float, float, float]:
        duration = 0.0 if row.get("duration", "-") in UNSET else float(row["duration"])
        if not isfinite(duration):
            raise TimeError(f"duration {row['duration']!r} is not a number")
        return instant(row["ts"], 0.0), duration, 0.0

    return read_flow("connection", ends, _name(row), times, where, mapping, matcher, report, row.get("uid", ""))


def _name(row: dict[str, str]) -> str:
    """The label's name: the detail where there is one. Benign with an attack's detail is two labels, which no mapping has."""
    label = row.get("label", "")
    detail = next((row[name] for name in DETAILS if row.get(name, "-") not in UNSET), "")
    if not detail or normalised(detail) == normalised(label):
        return label
    return f"{label}, but {detail}" if normalised(label) == "benign" else detail
