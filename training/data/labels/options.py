"""Arguments of `python -m training.data.labels`."""

from __future__ import annotations

import argparse
from pathlib import Path


def parser(description: str) -> argparse.ArgumentParser:
    """One parser for the three sources."""
    raw = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(prog="python -m training.data.labels", description=description, formatter_class=raw)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("folder", type=Path, metavar="DIR", help="captures, or logs of the PacketCLIP package, at any depth")
    common.add_argument(
        "--out", type=Path, required=True, help="Parquet file to write; its report goes beside it as .report.json"
    )
    common.add_argument("--logs", type=Path, help="folder for Zeek's logs, kept for the next run; default: OUT's name and -logs")
    common.add_argument("--jobs", type=int, default=2, help="Zeek processes at once (default: %(default)s)")
    common.add_argument("--most", type=int, default=400, help="most windows of one label in one capture (default: %(default)s)")
    common.add_argument("--few", type=int, default=50, help="say it of classes with fewer windows (default: %(default)s)")
    common.add_argument("--period", type=float, default=0.1, help="cut windows so often, seconds (default: %(default)s)")
    sources = top.add_subparsers(dest="source", required=True, metavar="pcaps | cicflowmeter | zeek")

    one = sources.add_parser(
        "pcaps",
        parents=[common],
        formatter_class=raw,
        help="labels by time interval and address",
        description="Labels by time interval and address: a labels.json beside each capture, or one table for the folder.\n\n"
        "    python -m training.data.labels pcaps captures --labels labels.csv --rest Benign --out runs/pairs/mine.parquet\n\n"
        "labels.csv:\n\n"
        "    file,label,start,end,attacker,victim,tool\n"
        "    monday.pcap,SYN Flood,2026-05-04T10:00:00+02:00,2026-05-04T10:05:00+02:00,10.0.0.66,10.0.0.0/24,hping3\n"
        "    monday.pcap,Port Scan,+12.5,+40,10.0.0.66 10.0.0.67,*,nmap\n"
        "    tuesday.pcap,Benign,,,,,",
    )
    one.add_argument("--labels", type=Path, help="CSV or YAML table: file,label,start,end,attacker,victim[,tool]")
    one.add_argument(
        "--rest", choices=["unknown", "Benign"], default="unknown", help="what is in no row of the table (default: %(default)s)"
    )
    one.add_argument("--mapping", help="label names of a data set, in mappings/labels or by path; default: the classes")

    two = sources.add_parser(
        "cicflowmeter",
        parents=[common],
        formatter_class=raw,
        help="a label for each flow, in CSV tables of CICFlowMeter",
        description="A label for each flow, in CSV tables of CICFlowMeter.\n\n"
        "    python -m training.data.labels cicflowmeter ACI/pcaps --csv ACI-IoT-2023.csv --timezone America/New_York \\\n"
        "        --out runs/pairs/aci.parquet",
    )
    two.add_argument("--csv", type=Path, nargs="+", required=True, help="tables, or folders of them")
    two.add_argument(
        "--mapping", default="aci_iot_2023", help="label names, in mappings/labels or by path (default: %(default)s)"
    )
    two.add_argument("--label-column", help="default: the mapping's")
    two.add_argument("--timezone", default="UTC", help="of the machine that CICFlowMeter ran on: a name, or --timezone=-04:00")
    two.add_argument("--date-order", choices=["dmy", "mdy"], default="dmy", help="of dates with slashes (default: %(default)s)")
    two.add_argument("--clock", type=int, choices=[12, 24], help="of times without AM and PM, where hours do not tell")
    two.add_argument(
        "--afternoon-before", type=int, default=0, metavar="HOUR", help="with --clock 12: hours before it are afternoon"
    )
    two.add_argument("--duration-unit", choices=["us", "ms", "s"], default="us", help="of Flow Duration (default: %(default)s)")
    two.add_argument("--slack", type=float, default=0.0, help="seconds that the clocks may differ (default: %(default)s)")

    three = sources.add_parser(
        "zeek",
        parents=[common],
        formatter_class=raw,
        help="a label for each connection, in conn.log.labeled",
        description="A label for each connection, in Zeek's conn.log.labeled as IoT-23 has it.\n\n"
        "    python -m training.data.labels zeek IoTScenarios/CTU-IoT-Malware-Capture-34-1 --out runs/pairs/iot23-34.parquet",
    )
    three.add_argument("--log", type=Path, nargs="+", help="labelled logs, or folders of them; default: those below DIR")
    three.add_argument("--pattern", default="conn*.log.labeled*", help="names of labelled logs (default: %(default)s)")
    three.add_argument("--mapping", default="iot_23", help="in mappings/labels, by path, or `classes` (default: %(default)s)")
    three.add_argument("--slack", type=float, default=0.0, help="seconds that the clocks may differ (default: %(default)s)")
    return top
