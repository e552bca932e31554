"""What the packet log costs Suricata: its processor time with our script over that without, by turns on the same packets.

    python -m benchmarks.suricata_cost [--suricata PROGRAM] [--config FILE] [--rules FOLDER] [--runs 5] [NAME=CAPTURES ...]

FILE is the site's suricata.yaml; default: the one that the distribution installed. The distribution's rules for events of
decoder, stream and protocols are loaded, from the folder `rules` beside FILE, and with them the small Suricata beside the site's
(packetclip.yaml) is measured too, and Zeek with and without its package where there is one. Or FOLDER holds the site's own rules.
CAPTURES as for benchmarks.zeek_cost. Start-up counts in the first ratio, to which the bounds apply; the second is of the thread
that reads the packets alone, for many rules take longer to load than these captures to read.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import ENVIRONMENT, banner, join, processor_s, verdict
from benchmarks.suricata_records import suricata_at
from benchmarks.zeek_cost import groups
from packetclip_sensor.common.resources import resource
from packetclip_sensor.sources.pcap import find_zeek
from packetclip_sensor.sources.suricata import capture

BOUNDS = {7: {"benign": 1.6, "floods": 1.8}, 8: {"benign": 2.0, "floods": 2.0}}
"""Most that the site's own Suricata may cost with the script, over without."""
OFF = ("dnp3", "enip", "modbus", "pgsql")
"""Protocols that the distribution's configuration leaves off; a rule for one is an error."""


def commands(suricata: capture.Suricata, config: Path, rules: Path, pcap: Path, work: Path) -> dict[str, list[str]]:
    """Commands by what they measure; the rules of the site's Suricata are written into `work`."""
    scripts = resource("suricata_scripts")
    files = [path for path in sorted(rules.glob("*.rules")) if not path.name.startswith(OFF)]
    events = "".join(path.read_text(encoding="utf-8") for path in files)
    (work / "site.rules").write_text(events, encoding="utf-8")
    ours = (scripts / "packetclip.rules").read_text(encoding="utf-8") if suricata.major == capture.OLDEST else ""
    (work / "both.rules").write_text(events + ours, encoding="utf-8")
    site = [str(suricata.program), "-c", str(config), "-r", str(pcap), "-l", str(work), "-k", "none", "--runmode", "single"]
    loading = capture.loading(suricata.major, scripts, output=50)[2:]  # without the argument for the rules
    made = {
        "site": [*site, "-S", str(work / "site.rules")],
        "site with the script": [*site, "-S", str(work / "both.rules"), *loading],
        "small one beside it": capture.command(suricata, pcap, work),
    }
    if rules.parent != config.parent:
        made.pop("small one beside it")
    elif zeek := find_zeek():
        made["Zeek"] = [str(zeek), "-C", "-r", str(pcap)]
        made["Zeek with the package"] = [*made["Zeek"], str(resource("zeek_scripts"))]
    return made


def seconds_of(command: list[str], work: Path) -> tuple[float, float]:
    """User and system seconds of a command, and those of its thread that reads packets; 0 where it is no Suricata.

    Ends the benchmark where the command fails.
    """
    if "--runmode" not in command:
        return processor_s(command, work), 0.0
    reading = 0
    with subprocess.Popen(command, cwd=work, env=ENVIRONMENT, stdout=subprocess.DEVNULL) as process:
        while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            for task in Path("/proc", str(process.pid), "task").glob("*"):
                with contextlib.suppress(OSError):  # it has just ended
                    if (task / "comm").read_text().startswith("W#"):
                        reading = int((task / "schedstat").read_text().split()[0])
            time.sleep(0.01)
        process.returncode = os.waitstatus_to_exitcode(ended[1])
    if process.returncode:
        sys.exit(f"error: {' '.join(command)} ended with status {process.returncode}")
    return ended[2].ru_utime + ended[2].ru_stime, reading / 1e9


def main() -> None:
    """Print the median seconds and ratio of each kind of run, for each group of captures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", metavar="NAME=CAPTURES")
    parser.add_argument("--suricata", default="suricata", metavar="PROGRAM")
    parser.add_argument("--config", type=Path, default=Path("/etc/suricata/suricata.yaml"), metavar="FILE")
    parser.add_argument("--rules", type=Path, metavar="FOLDER")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    suricata = suricata_at(args.suricata)
    banner(f"Suricata {suricata.version} with the packet log over Suricata without")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for group, paths in groups(args.groups).items():
            packets = join(paths, work / "all.pcap")
            rules = args.rules or args.config.parent / "rules"
            kinds = commands(suricata, args.config, rules, work / "all.pcap", work)
            seconds: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
            logged = 0
            for _ in range(args.runs):
                for kind, command in kinds.items():
                    (work / "packetclip_packet.log").unlink(missing_ok=True)
                    seconds[kind].append(seconds_of(command, work))
                    if kind == "site with the script":
                        logged = (work / "packetclip_packet.log").read_bytes().count(b"\n")
            print(f"{group}: {packets:,} packets of {len(paths)} captures, {logged:,} logged, {args.runs} runs")
            for kind, found in seconds.items():
                pairs = list(zip(found, seconds["Zeek" if kind.startswith("Zeek") else "site"], strict=True))
                ratios = sorted(a[0] / b[0] for a, b in pairs)
                ratio, reading = statistics.median(ratios), [a[1] / b[1] for a, b in pairs if b[1]]
                print(
                    f"  {kind:24} {statistics.median(f[0] for f in found):7.2f} s {ratio:6.2f} times"
                    f" ({ratios[0]:.2f} to {ratios[-1]:.2f})"
                    + (f", thread that reads {statistics.median(reading):5.2f}" if reading else ""),
                    flush=True,
                )
                if kind == "site with the script" and group in BOUNDS.get(suricata.major, {}):
                    verdict(f"  {group}", ratio, BOUNDS[suricata.major][group])


if __name__ == "__main__":
    main()
