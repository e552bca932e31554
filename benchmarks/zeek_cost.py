"""What the two logs cost Zeek: its processor time with our scripts over that without, on the same packets, by turns in one run.

    python -m benchmarks.zeek_cost [--runs 3] [NAME_PART ...]

Default input: all captures of tests/data, one after the other in one pcap; name parts choose some. Start-up counts in both.
"""

from __future__ import annotations

import argparse
import gzip
import os
import statistics
import sys
import tempfile
from pathlib import Path

from packetclip_sensor.resources import resource
from packetclip_sensor.sources.pcap import find_zeek

DATA = Path(__file__).parents[1] / "tests" / "data"
HEADER_BYTES = 24
"""A classic pcap's file header; behind it one packet record follows the other."""


def processor_s(command: list[str], folder: str) -> float:
    """User and system seconds of a command, run in `folder`."""
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)
        os.execv(command[0], command)
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"error: {' '.join(command)} ended with status {status}")
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print each run's seconds and ratio, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="*", metavar="NAME_PART")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    zeek = find_zeek()
    if zeek is None:
        sys.exit("error: zeek is neither on PATH nor in /opt/zeek/bin; this benchmark needs it")
    chosen = [
        p for p in sorted(DATA.glob("*/capture.pcap.gz")) if not args.captures or any(n in p.parent.name for n in args.captures)
    ]
    parts = [gzip.decompress(path.read_bytes()) for path in chosen]
    kinds = {
        "plain": [],
        "both logs": [str(resource("zeek_scripts"))],
        "packet log": [str(resource("zeek_scripts")), "PacketCLIP::log_flows=F"],
    }
    with tempfile.TemporaryDirectory() as work:
        pcap = Path(work, "all.pcap")
        pcap.write_bytes(parts[0][:HEADER_BYTES] + b"".join(part[HEADER_BYTES:] for part in parts))
        seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(args.runs):
            for kind, scripts in kinds.items():
                seconds[kind].append(processor_s([str(zeek), "-C", "-r", str(pcap), *scripts], work))
    print(f"{len(chosen)} captures, {args.runs} runs each")
    for kind, found in seconds.items():
        ratios = [a / b for a, b in zip(found, seconds["plain"], strict=True)]
        print(f"{kind:12} {statistics.median(found):7.2f} s   {statistics.median(ratios):5.2f} times plain")


if __name__ == "__main__":
    main()
