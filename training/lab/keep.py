"""`python -m training.lab.keep runs/demo tests/data`: turns the recorded demo set into the repository's test data.

For each capture a folder with the pcap, the two PacketCLIP logs that Zeek makes of it and its labels, gzipped without time
stamps; and a README that says how each was made.
"""

import argparse
import gzip
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import track

from training.common import DataError, argument, command
from training.data import replay

PACKAGES = ("nmap", "hping3", "fping", "t50", "netsniff-ng", "zmap", "pnscan", "gobuster", "dnsperf", "slowhttptest", "patator")
SERVERS = ("nginx-light", "openssh-server", "vsftpd", "inetutils-telnetd", "mosquitto", "dnsmasq", "snmpd", "chrony", "tcpdump")
README = Path(__file__).with_name("kept.md")


def _versions(names: Sequence[str]) -> str:
    ask = ["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *names]
    shown = subprocess.run(ask, check=False, capture_output=True, text=True)
    return ", ".join(shown.stdout.split("\n")[:-1])


def _pack(source: Path, target: Path) -> None:
    target.write_bytes(gzip.compress(source.read_bytes(), 9, mtime=0))


def keep(pcap: Path, folder: Path) -> dict[str, Any]:
    """Write one capture's folder anew; returns its labels.

    Raises:
        SensorError: Zeek refused the pcap.
    """
    labels: dict[str, Any] = json.loads(pcap.with_suffix(".labels.json").read_text())
    for interval in labels["intervals"]:
        # What the tools printed names paths of the machine that recorded.
        interval.pop("said", None)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="keep-") as work:
        replay.replay(pcap, Path(work))
        for log in replay.LOGS:
            _pack(Path(work) / log, folder / f"{log}.gz")
    _pack(pcap, folder / "capture.pcap.gz")
    (folder / "labels.json").write_text(json.dumps(labels, indent=1) + "\n")
    return labels


def _row(labels: dict[str, Any]) -> str:
    runs = labels["intervals"]
    classes = ", ".join(run["label"] for run in runs) or "Benign"
    commands = "; ".join(f"{run['tool']}: `{run['command']}`".replace("|", "\\|") for run in runs) or "benign clients only"
    return f"| {labels['capture']} | {classes} | {labels['packets']} | {commands} |"


@command(argument("recorded", type=Path), argument("data", type=Path))
def main(args: argparse.Namespace) -> None:
    """Exit codes: 0 done, 2 nothing is recorded, or Zeek failed."""
    found = [pcap for pcap in replay.pcaps(args.recorded) if pcap.with_suffix(".labels.json").exists()]
    if not found:
        raise DataError(f"{args.recorded} has no recorded capture; run python -m training.lab --out {args.recorded}")
    kept = [keep(pcap, args.data / pcap.stem) for pcap in track(found, "keeping")]
    zeek = subprocess.run([replay.find_zeek(), "--version"], check=True, capture_output=True, text=True).stdout.strip()
    rows, version = "\n".join(_row(labels) for labels in kept), zeek.replace(replay.find_zeek(), "zeek")
    text = README.read_text().format(zeek=version, rows=rows, tools=_versions(PACKAGES), servers=_versions(SERVERS))
    (args.data / "README.md").write_text(text)


if __name__ == "__main__":
    sys.exit(main())
