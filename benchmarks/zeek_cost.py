"""What the two logs cost Zeek: its processor time with our scripts over that without, on the same packets, by turns in one run.

    python -m benchmarks.zeek_cost [--runs 3] [NAME=CAPTURES ...]

CAPTURES is a pcap or a folder, searched to its depth; several are joined by commas. Default: tests/data, benign, floods and scans
apart and all together. Start-up counts in both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from benchmarks.common import DATA, banner, join, processor_s, verdict, zeek_program
from packetclip_sensor.common.resources import resource

BOUND = 1.15
KINDS = {
    "plain": [],
    "defaults": ["@"],
    "packet log": ["@", "PacketCLIP::log_flows=F"],
    "50 packets": ["@", "PacketCLIP::max_packets=50"],
    "all rows and statistics": ["@", "PacketCLIP::flow_min_packets=0", "PacketCLIP::packet_statistics=T"],
}
"""Arguments for Zeek; @ stands for the package."""


def captures(place: str) -> list[Path]:
    """Pcaps named by a comma-separated list of files and folders."""
    found: list[Path] = []
    for part in place.split(","):
        path = Path(part)
        found += [path] if path.is_file() else sorted(p for p in path.rglob("*") if ".pcap" in p.name or p.suffix == ".trace")
    return found


def groups(named: list[str]) -> dict[str, list[Path]]:
    """Captures by group, in the order given."""
    if named:
        return {name: captures(place) for name, place in (n.split("=", 1) for n in named)}
    all_of = sorted(DATA.glob("*/capture.pcap.gz"))
    kinds = {"benign": ("b0",), "floods": ("syn", "udp", "icmp", "dns"), "scans": ("port", "os", "vuln")}
    chosen = {name: [p for p in all_of if p.parent.name.split("-")[1].startswith(k)] for name, k in kinds.items()}
    return chosen | {"mixed": all_of}


def main() -> None:
    """Print the median seconds and ratio of each kind of run, for each group of captures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="NAME=CAPTURES")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS)[1:], default=["defaults", "packet log"])
    args = parser.parse_args()
    zeek = zeek_program()
    banner("Zeek with the package over Zeek without")
    scripts = str(resource("zeek_scripts"))
    kinds = ["plain", *args.kinds]
    with tempfile.TemporaryDirectory() as work:
        pcap = Path(work, "all.pcap")
        for group, paths in groups(args.groups).items():
            packets = join(paths, pcap)
            seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
            for _ in range(args.runs):
                for kind in kinds:
                    arguments = [scripts if a == "@" else a for a in KINDS[kind]]
                    seconds[kind].append(processor_s([zeek, "-C", "-r", str(pcap), *arguments], Path(work)))
            logged = Path(work, "packetclip_packet.log").read_bytes().count(b"\n")
            print(f"{group}: {packets:,} packets of {len(paths)} captures, {logged:,} logged in the last run, {args.runs} runs")
            for kind, found in seconds.items():
                ratios = [a / b for a, b in zip(found, seconds["plain"], strict=True)]
                print(f"  {kind:24} {statistics.median(found):7.2f} s   {statistics.median(ratios):5.2f} times plain")
                if kind == "defaults":
                    verdict(f"  {group}", statistics.median(ratios), BOUND)


if __name__ == "__main__":
    main()
