"""Zeek's conn.log with labels (`conn.log.labeled`), as IoT-23 has it: TSV by zat, or JSON lines.

IoT-23's files glue the last three columns, in header and rows, by three spaces where tabs belong; `label` is Benign or Malicious
(also in lower case) and `detailed-label` says what kind, or `-`.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from math import isfinite
from pathlib import Path

from zat.zeek_log_reader import ZeekLogReader

from packetclip_sensor.errors import ConfigError
from training.data.labels.captures import Key, address, key
from training.data.labels.mapping import Mapping, folded
from training.data.labels.match import Flow, Matcher, read_flow
from training.data.labels.report import Report
from training.data.labels.times import TimeError, instant

NEEDED = ("ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto")
DETAILS = ("detailed-label", "detailed_label", "det_label", "detailedlabel")
UNSET = ("", "-", "(empty)")
_GLUE = re.compile(r" {2,}")
_HEADER_LINES = 50


def logs(folder: Path, pattern: str) -> list[Path]:
    """The labelled logs below a folder.

    Raises:
        ConfigError: there is none.
    """
    found = [folder] if folder.is_file() else sorted(p for p in folder.rglob(pattern) if p.is_file())
    if not found:
        raise ConfigError(f"{folder}: no file {pattern} in it or below; name the labelled logs with --log or --pattern")
    return found


def read(
    path: Path, matcher: Matcher, report: Report, mapping: Mapping, progress: Callable[[int], None] = lambda _rows: None
) -> None:
    """Give the connections of one log to the matcher.

    Raises:
        ConfigError: it cannot be read, or is no conn.log with labels.
    """
    with tempfile.TemporaryDirectory(prefix="labels-") as work, _reasons(path):
        plain = path
        if path.suffix == ".gz":
            plain = Path(work, "conn.log")
            with gzip.open(path) as packed, plain.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
        with plain.open("rb") as file:
            first = file.read(1)
        rows = _json_rows(plain, path, report) if first == b"{" else _tsv_rows(plain, path, report)
        for n, (where, row) in enumerate(rows):
            if n % 10_000 == 0:
                progress(n)
            flow = _flow(row, where, mapping, matcher, report)
            if flow is not None:
                matcher.give(flow, report)


@contextlib.contextmanager
def _reasons(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError) as err:
        raise ConfigError(f"{path} cannot be read ({err}); copy it again") from err


def _tsv_rows(path: Path, shown: Path, report: Report) -> Iterator[tuple[str, dict[str, str]]]:
    names, line = _header(path, shown)
    reader = ZeekLogReader(str(path))
    # As strings: zat turns an unset duration into zero and times into the local clock of this machine.
    reader.type_mapper, reader.dash_mapper = {"unknown": str}, {}
    rows = reader.readrows()
    while True:
        line += 1
        try:
            with contextlib.redirect_stdout(io.StringIO()) if line < _HEADER_LINES + 2 else contextlib.nullcontext():
                raw = next(rows, None)  # zat says on standard output that it has begun
        except UnicodeDecodeError as err:
            report.add("row", f"{shown}:{line}", f"not UTF-8 near here ({err.reason}); the rest of the file is left out")
            return
        if raw is None:
            return
        values = [str(v) for v in raw.values()]
        if len(values) < len(names) and values:
            values = [*values[:-1], *_GLUE.split(values[-1].strip())]
        if len(values) != len(names):
            if values and values[0] and not values[0].startswith("#"):
                report.add("row", f"{shown}:{line}", f"{len(values)} values under {len(names)} columns; the row is left out")
            continue
        yield f"{shown}:{line}", dict(zip(names, values, strict=True))


def _header(path: Path, shown: Path) -> tuple[list[str], int]:
    """(names, unglued; lines of the header). zat looks for the header to the end of time, so it is looked for here first."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number in range(1, _HEADER_LINES):
            text = file.readline().rstrip("\r\n")
            if text.startswith("#fields"):
                names = [name for part in text.split("\t")[1:] for name in _GLUE.split(part.strip())]
                if not file.readline().startswith("#types"):
                    raise ConfigError(f"{shown}:{number + 1}: no #types after #fields; is this a whole log of Zeek?")
                _need(set(names), shown)
                return names, number + 1
    raise ConfigError(f"{shown} is neither a TSV log of Zeek (no #fields in its first lines) nor JSON lines")


def _need(names: set[str], shown: Path) -> None:
    missing = [name for name in (*NEEDED, "label") if name not in names]
    if missing:
        raise ConfigError(f"{shown}: no column {', '.join(missing)}; give a conn.log with labels, as IoT-23's conn.log.labeled")


def _json_rows(path: Path, shown: Path, report: Report) -> Iterator[tuple[str, dict[str, str]]]:
    any_row = False
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{shown}:{number}"
            try:
                raw = json.loads(line)
                row = {str(k): "" if v is None else str(v) for k, v in raw.items()}
            except (ValueError, AttributeError, RecursionError) as err:
                report.add("row", where, f"not a JSON object ({err}); the row is left out")
                continue
            if not any_row:
                _need(set(row), shown)
                any_row = True
            yield where, row


def _flow(row: dict[str, str], where: str, mapping: Mapping, matcher: Matcher, report: Report) -> Flow | None:
    def ends() -> Key:
        return key(row.get("proto", ""), *((address(row[f"id.{end}_h"]), int(row[f"id.{end}_p"])) for end in ("orig", "resp")))

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
    if not detail or folded(detail) == folded(label):
        return label
    return f"{label}, but {detail}" if folded(label) == "benign" else detail
