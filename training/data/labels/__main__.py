"""Captures that others labelled, to pairs for training: replay by Zeek, label, window, and say what was wrong.

    python -m training.data.labels pcaps DIR --labels labels.csv --out runs/pairs/mine.parquet
    python -m training.data.labels cicflowmeter DIR --csv LABELS.csv --mapping aci_iot_2023 --timezone America/New_York \\
        --out runs/pairs/aci.parquet
    python -m training.data.labels zeek DIR --out runs/pairs/iot23.parquet
    python -m training.fit.train --pairs runs/pairs/mine.parquet --out runs/model

DIR holds pcaps (plain or .gz, at any depth; Zeek is needed then) or folders of logs that Zeek wrote with the PacketCLIP package.
A wrong or ambiguous label is reported with its file and line, and its packets stay without a label; see docs/labels.md.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from packetclip_sensor.errors import ConfigError, SensorError
from packetclip_sensor.pairs.labels import NOT_KNOWN, Truth
from packetclip_sensor.pairs.parquet import write_pairs
from packetclip_sensor.scale.cuts import written
from packetclip_sensor.windows.windows import TRAINED
from training.common import exit_code, parser
from training.data.labels import cicflowmeter, connlog, intervals, mapping
from training.data.labels.captures import Capture, Connection, collect, scan
from training.data.labels.match import ByConnection, Matcher
from training.data.labels.report import Report
from training.data.labels.times import zone

PCAPS = """Labels by time interval and address: a labels.json beside each capture, or one table for the folder.

    python -m training.data.labels pcaps captures --labels labels.csv --rest Benign --out runs/pairs/mine.parquet

labels.csv:

    file,label,start,end,attacker,victim,tool
    monday.pcap,SYN Flood,2026-05-04T10:00:00+02:00,2026-05-04T10:05:00+02:00,10.0.0.66,10.0.0.0/24,hping3
    monday.pcap,Port Scan,+12.5,+40,10.0.0.66 10.0.0.67,*,nmap
    tuesday.pcap,Benign,,,,,"""
CICFLOWMETER = """A label for each flow, in CSV tables of CICFlowMeter.

    python -m training.data.labels cicflowmeter ACI/pcaps --csv ACI-IoT-2023.csv --timezone America/New_York \\
        --out runs/pairs/aci.parquet"""
ZEEK = """A label for each connection, in Zeek's conn.log.labeled as IoT-23 has it.

    python -m training.data.labels zeek IoTScenarios/CTU-IoT-Malware-Capture-34-1 --out runs/pairs/iot23-34.parquet"""
DEFAULT = " (default: %(default)s)"
Connections = dict[str, list[Connection]]
"""Of each capture by its name."""
Truths = dict[str, Truth]


def options() -> argparse.ArgumentParser:
    """One parser for the three sources."""
    top = parser("training.data.labels", __doc__)
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("folder", type=Path, metavar="DIR", help="captures, or logs of the PacketCLIP package, at any depth")
    add("--out", type=Path, required=True, help="Parquet file to write; its report goes beside it as .report.json")
    add("--logs", type=Path, help="folder for Zeek's logs, kept for the next run; default: OUT's name and -logs")
    add("--jobs", type=int, default=2, help="Zeek processes at once" + DEFAULT)
    add("--most", type=int, default=400, help="most windows of one label in one capture" + DEFAULT)
    add("--few", type=int, default=50, help="report classes with fewer windows" + DEFAULT)
    add("--period", type=float, default=0.1, help="cut windows so often, seconds" + DEFAULT)
    sources = top.add_subparsers(dest="source", required=True, metavar="pcaps | cicflowmeter | zeek")

    def source(name: str, about: str, text: str) -> argparse.ArgumentParser:
        raw = argparse.RawDescriptionHelpFormatter
        return sources.add_parser(name, parents=[common], formatter_class=raw, help=about, description=text)

    add = source("pcaps", "labels by time interval and address", PCAPS).add_argument
    add("--labels", type=Path, help="CSV or YAML table: file,label,start,end,attacker,victim[,tool]")
    add("--rest", choices=["unknown", "Benign"], default="unknown", help="what is in no row of the table" + DEFAULT)
    add("--mapping", help="label names of a data set, in mappings/labels or by path; default: the ten classes")

    add = source("cicflowmeter", "a label for each flow, in CSV tables of CICFlowMeter", CICFLOWMETER).add_argument
    add("--csv", type=Path, nargs="+", required=True, help="tables, or folders of them")
    add("--mapping", default="aci_iot_2023", help="label names, in mappings/labels or by path" + DEFAULT)
    add("--label-column", help="default: the mapping's")
    add("--timezone", default="UTC", help="of the machine that CICFlowMeter ran on: a name, or --timezone=-04:00")
    add("--date-order", choices=["dmy", "mdy"], default="dmy", help="of dates with slashes" + DEFAULT)
    add("--clock", type=int, choices=[12, 24], help="of times without AM and PM, where the hours do not say")
    add("--afternoon-before", type=int, default=0, metavar="HOUR", help="with --clock 12: hours before it are afternoon")
    add("--duration-unit", choices=["us", "ms", "s"], default="us", help="of Flow Duration" + DEFAULT)
    add("--slack", type=float, default=0.0, help="seconds that the clocks may differ" + DEFAULT)

    add = source("zeek", "a label for each connection, in conn.log.labeled", ZEEK).add_argument
    add("--log", type=Path, nargs="+", help="labelled logs, or folders of them; default: those below DIR")
    add("--pattern", default="conn*.log.labeled*", help="names of labelled logs" + DEFAULT)
    add("--mapping", default="iot_23", help="in mappings/labels, by path, or `classes`" + DEFAULT)
    add("--slack", type=float, default=0.0, help="seconds that the clocks may differ" + DEFAULT)
    return top


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 written, whatever was wrong with some labels; 1 stopped, or not one window got a label; 2 bad start."""
    args = options().parse_args(argv)
    report = Report(" ".join(["python -m training.data.labels", *(argv if argv is not None else sys.argv[1:])]))
    report.settings = {k: str(v) for k, v in vars(args).items()}
    try:
        return exit_code(lambda: _run(args, report))
    except KeyboardInterrupt:
        print(f"stopped; {args.out} is as it was, and Zeek's logs so far are kept for the next run", file=sys.stderr)
        return 1


def _run(args: argparse.Namespace, report: Report) -> int:
    kept = args.out.with_suffix(".report.json")
    try:
        make_pairs(args, report)
        report.write(kept)
    except OSError as err:
        raise ConfigError(f"{args.out}: {err.strerror or err}; free some space or name another --out") from err
    console = Console(width=None if sys.stdout.isatty() else 130)
    report.print(console)
    total = sum(report.windows.values())
    labelled = total - report.windows[""]
    console.print(
        f"{total:,} windows, {labelled:,} of them with a label, of {len(report.captures)} captures -> {args.out}\n"
        f"the whole report -> {kept}",
        highlight=False,
        soft_wrap=True,
    )
    if not labelled:
        print("error: not one window has a label; look at what is wrong above", file=sys.stderr)
    return 0 if labelled else 1


def make_pairs(args: argparse.Namespace, report: Report) -> None:
    """Replay, label, write."""
    if not args.folder.exists():
        raise ConfigError(f"{args.folder} does not exist; name the folder of the captures")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    prepare, label = SOURCES[args.source]
    prepared = prepare(args)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        captures = collect(args.folder, args.logs or args.out.parent / f"{args.out.stem}-logs", report, args.jobs, progress)
        connections: Connections = {}
        for capture in progress.track(captures, description="connections"):
            try:
                connections[capture.name] = scan(capture)
            except SensorError as err:
                report.add("capture", str(capture.path), f"{err}; left out")
                continue
            if capture.bad_lines:
                report.add("capture", str(capture.path), f"{capture.bad_lines:,} lines of its logs cannot be read")
        kept = [capture for capture in captures if capture.name in connections]
        truths = label(args, prepared, kept, connections, report, progress)
        task = progress.add_task("windows", total=len(kept))
        with written(args.out) as part:
            units = ((c.name, c.batches(), truths[c.name]) for c in kept)
            cutting = {"most_per_unit": args.most, "period_s": args.period}
            write_pairs(units, part, TRAINED, progress=lambda *_: progress.advance(task), **cutting)
    for capture in kept:
        truth = truths[capture.name]
        if isinstance(truth, intervals.ByInterval):
            intervals.without_packets(truth, capture, report)
    _count(args.out, kept, report)
    report.check_windows(args.few)


def _count(out: Path, captures: list[Capture], report: Report) -> None:
    by_capture: dict[str, Counter[str]] = {c.name: Counter() for c in captures}
    table = pq.read_table(out, columns=["capture", "label"])
    for name, label in zip(table["capture"].to_pylist(), table["label"].to_pylist(), strict=True):
        report.windows[label or ""] += 1
        report.windows_in.setdefault(label or "", set()).add(name)
        by_capture[name][label or ""] += 1
    for c in captures:
        entry = {"name": c.name, "path": str(c.path), "packets": c.packets, "first": c.first, "last": c.last, "note": c.note}
        report.captures.append(entry | {"windows": dict(by_capture[c.name])})


def _table(args: argparse.Namespace) -> Path | None:
    if args.labels and not args.labels.is_file():
        raise ConfigError(f"{args.labels} is no file; name the CSV or YAML table of the labels")
    return args.labels


def _by_interval(
    args: argparse.Namespace, table: Path | None, captures: list[Capture], _: Connections, report: Report, __: Progress
) -> Truths:
    names = mapping.load(args.mapping) if args.mapping else mapping.ten_classes()
    rest = None if args.rest == "Benign" else NOT_KNOWN
    rows = intervals.owners(intervals.read(table, report), captures, report) if table else {}
    truths: Truths = {}
    for capture in captures:
        file = None
        beside = _labels_beside(capture, captures)
        if table:
            found = intervals.rules(rows[capture.name], capture, names, report)
            if not found:
                report.add("capture", capture.name, f"{table} has no row for it; its windows get no label")
        elif beside:
            found, file = intervals.of_json(beside, capture, names, report)
        else:
            found, text = [], "no labels of its own beside it; write NAME.labels.json, or one table for all with --labels"
            report.add("capture", capture.name, text)
        found = intervals.check(found, capture, report)
        # In a labels.json what is not an attack is benign, by its definition; a table says so by --rest.
        unnamed = rest if table else None if file else NOT_KNOWN
        truths[capture.name] = intervals.ByInterval(found, unnamed if found or file else NOT_KNOWN, file)
    return truths


def _labels_beside(capture: Capture, captures: list[Capture]) -> Path | None:
    """NAME.labels.json, or labels.json where it can be about no other capture."""
    if capture.path.is_dir():
        places = [capture.path / "labels.json"]
    else:
        stem = capture.name.rsplit("/", 1)[-1]
        places = [capture.path.with_name(f"{stem}.labels.json")]
        if sum(other.path.parent == capture.path.parent for other in captures) == 1:
            places.append(capture.path.with_name("labels.json"))
    return next((p for p in places if p.is_file()), None)


@dataclass(frozen=True)
class _Flows:
    """Files of labelled flows and what reads one of them: (path, matcher, report)."""

    paths: list[Path]
    read: Callable[..., None]
    clock: cicflowmeter.Clock | None = None


def _flow_tables(args: argparse.Namespace) -> _Flows:
    if args.clock == 12 and not args.afternoon_before:
        raise ConfigError("--clock 12 needs --afternoon-before HOUR: the first hour of the morning that the captures have, say 8")
    if args.clock != 12 and args.afternoon_before:
        raise ConfigError("--afternoon-before goes with --clock 12 alone")
    unit_s = {"us": 1e-6, "ms": 1e-3, "s": 1.0}[args.duration_unit]
    clock = cicflowmeter.Clock(zone(args.timezone), args.date_order == "mdy", args.clock, args.afternoon_before, unit_s)
    paths, names = cicflowmeter.tables(args.csv), mapping.load(args.mapping)
    return _Flows(paths, partial(cicflowmeter.read, mapping=names, clock=clock, label_column=args.label_column), clock)


def _conn_logs(args: argparse.Namespace) -> _Flows:
    paths = [p for path in args.log or [args.folder] for p in connlog.logs(path, args.pattern)]
    names = mapping.ten_classes() if args.mapping == "classes" else mapping.load(args.mapping)
    return _Flows(paths, partial(connlog.read, mapping=names))


def _by_flow(
    args: argparse.Namespace, flows: _Flows, captures: list[Capture], connections: Connections, report: Report, progress: Progress
) -> Truths:
    matcher = Matcher((c for those in connections.values() for c in those), args.slack)
    for path in progress.track(flows.paths, description="flows"):
        flows.read(path, matcher, report)
    cicflowmeter.report_offset(matcher, flows.clock, report, ", ".join(map(str, flows.paths[:3])))
    matcher.settle(report)
    report.matching = matcher.summary()
    if not matcher.matched:
        text = "no flow of it meets a connection of the captures; are they of the same network and day?"
        report.add("nothing matched", str(flows.paths[0]), text)
    return {c.name: ByConnection(connections[c.name]) for c in captures}


SOURCES: dict[str, tuple[Callable[..., Any], Callable[..., Truths]]] = {
    "pcaps": (_table, _by_interval),
    "cicflowmeter": (_flow_tables, _by_flow),
    "zeek": (_conn_logs, _by_flow),
}
"""Source: what looks at its arguments before the long work begins, and what labels the captures then."""


if __name__ == "__main__":
    sys.exit(main())
