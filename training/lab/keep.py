"""`python -m training.lab.keep runs/demo tests/data`: turns the recorded demo set into the repository's test data.

For each capture a folder with the pcap, the two PacketCLIP logs that Zeek makes of it and its labels, gzipped without time
stamps; and a README that says how each was made.
"""

from __future__ import annotations

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

from training.data import replay

PACKAGES = ("nmap", "hping3", "fping", "t50", "netsniff-ng", "zmap", "pnscan", "gobuster", "dnsperf", "slowhttptest", "patator")
SERVERS = ("nginx-light", "openssh-server", "vsftpd", "inetutils-telnetd", "mosquitto", "dnsmasq", "snmpd", "chrony", "tcpdump")
README = """# Recorded traffic for tests and the demo

Every folder is one capture of our own lab (`training/lab`): servers, clients and attacker are network namespaces on one bridge,
the services and the tools are real, nothing left the machine. Licence: Apache-2.0, as the project. None of these captures, nor
any network, seed or parameter of them, is part of the training set.

| file | content |
| --- | --- |
| `capture.pcap.gz` | the packets on the bridge, whole |
| `packetclip_packet.log.gz`, `packetclip_flow.log.gz` | what `zeek -C -r capture.pcap zeek_scripts` writes, {zeek} |
| `labels.json` | attacks with tool, command, attacker, victim, start and end (epoch seconds), and the plan of hosts and habits |

`stopped` in the labels is the end of the tool plus a second, `end` the time until which late packets between the two still belong
to the attack. An attacker `spoofed` stands for forged sources. Traffic outside the intervals is benign: browsing, TLS, DNS, ssh,
sftp, FTP, telnet, MQTT, SNMP, NTP, pings, steady streams and the bursts in the capture's name.

Made with (as root, on Debian 12, seed 1):

```
apt-get install $(grep -v '^#' training/lab/packages.txt)
python -m training.lab --out runs/demo --profile demo --seed 1
python -m training.lab.keep runs/demo tests/data
```

The plan is the same each time, packets and times are not: a new recording is new data.

| capture | class | packets | tool and command |
| --- | --- | --- | --- |
{rows}

Tools: {tools}.
Servers: {servers}.
"""


def _versions(names: Sequence[str]) -> str:
    ask = ["dpkg-query", "-W", "-f", "${Package} ${Version}\n", *names]
    shown = subprocess.run(ask, check=False, capture_output=True, text=True)
    return ", ".join(shown.stdout.split("\n")[:-1])


def _pack(source: Path, target: Path) -> None:
    target.write_bytes(gzip.compress(source.read_bytes(), 9, mtime=0))


def keep(pcap: Path, folder: Path) -> dict[str, Any]:
    """Write one capture's folder anew; returns its labels.

    Raises:
        training.data.replay.ReplayError: Zeek refused the pcap.
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


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 Zeek failed, 2 cannot start."""
    parser = argparse.ArgumentParser(prog="python -m training.lab.keep", description="Keep recorded captures as test data.")
    parser.add_argument("recorded", type=Path)
    parser.add_argument("data", type=Path)
    options = parser.parse_args(argv)
    found = [pcap for pcap in replay.pcaps(options.recorded) if pcap.with_suffix(".labels.json").exists()]
    if not found:
        remedy = f"run python -m training.lab --out {options.recorded}"
        print(f"error: {options.recorded} has no recorded capture; {remedy}", file=sys.stderr)
        return 2
    try:
        kept = [keep(pcap, options.data / pcap.stem) for pcap in track(found, "keeping")]
        zeek = subprocess.run([replay.find_zeek(), "--version"], check=True, capture_output=True, text=True).stdout.strip()
    except replay.ReplayError as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    rows = "\n".join(_row(labels) for labels in kept)
    version = zeek.replace(replay.find_zeek(), "zeek")
    text = README.format(zeek=version, rows=rows, tools=_versions(PACKAGES), servers=_versions(SERVERS))
    (options.data / "README.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
