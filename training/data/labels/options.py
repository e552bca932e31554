"""Arguments of `python -m training.data.labels`."""

import argparse
from pathlib import Path

from training.common import parser

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


def options(description: str | None) -> argparse.ArgumentParser:
    """One parser for the three sources."""
    top = parser("training.data.labels", description)
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
