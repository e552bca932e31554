"""What the packet log costs Suricata: its processor time with our script over that without, by turns on the same packets.

    python -m benchmarks.suricata_cost [--suricata PROGRAM] [--config FILE] [--rules FOLDER] [--runs 5] [NAME=CAPTURES ...]

FILE is the site's suricata.yaml; default: the one that the distribution installed. FOLDER holds the site's rules; default: the
folder `rules` beside FILE, where the distribution has those for events of decoder, stream and protocols. The small Suricata
beside it (packetclip.yaml) is measured too, and Zeek with and without its package where there is one. CAPTURES as for
benchmarks.zeek_cost. Start-up counts in the first ratio, to which the bounds apply, and not in the second: each kind is run on
one packet too.
"""

from __future__ import annotations

import argparse
import statistics
import struct
import tempfile
from pathlib import Path

from benchmarks.common import banner, join, processor_s, verdict
from benchmarks.suricata_records import suricata_at
from benchmarks.zeek_cost import groups
from packetclip_sensor.common.resources import resource
from packetclip_sensor.sources.pcap import find_zeek
from packetclip_sensor.sources.suricata import capture

BOUNDS = {7: {"benign": 1.6, "floods": 1.8}, 8: {"benign": 2.0, "floods": 2.0}}
"""Most that the site's own Suricata may cost with the script, over without."""
OFF = ("dnp3", "enip", "modbus")
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
    if zeek := find_zeek():
        made["Zeek"] = [str(zeek), "-C", "-r", str(pcap)]
        made["Zeek with the package"] = [*made["Zeek"], str(resource("zeek_scripts"))]
    return made


def first_packet(pcap: Path) -> bytes:
    """A capture of the first packet of this one, as `join` wrote it."""
    data = pcap.read_bytes()
    return data[: 40 + struct.unpack_from("<I", data, 32)[0]]


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
            (work / "one.pcap").write_bytes(first_packet(work / "all.pcap"))
            rules = args.rules or args.config.parent / "rules"
            kinds, starts = (commands(suricata, args.config, rules, work / name, work) for name in ("all.pcap", "one.pcap"))
            seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
            start_s: dict[str, list[float]] = {kind: [] for kind in kinds}
            logged = 0
            for _ in range(args.runs):
                for kind, command in kinds.items():
                    start_s[kind].append(processor_s(starts[kind], work))
                    (work / "packetclip_packet.log").unlink(missing_ok=True)
                    seconds[kind].append(processor_s(command, work))
                    if kind == "site with the script":
                        logged = (work / "packetclip_packet.log").read_bytes().count(b"\n")
            print(f"{group}: {packets:,} packets of {len(paths)} captures, {logged:,} logged, {args.runs} runs")
            for kind, found in seconds.items():
                base = "Zeek" if kind.startswith("Zeek") else "site"
                ratio = statistics.median(a / b for a, b in zip(found, seconds[base], strict=True))
                start, base_start = statistics.median(start_s[kind]), statistics.median(start_s[base])
                alone = (statistics.median(found) - start) / (statistics.median(seconds[base]) - base_start)
                print(
                    f"  {kind:24} {statistics.median(found):7.2f} s   {ratio:5.2f} times, {alone:5.2f} without start-up",
                    flush=True,
                )
                if kind == "site with the script" and group in BOUNDS.get(suricata.major, {}):
                    verdict(f"  {group}", ratio, BOUNDS[suricata.major][group])


if __name__ == "__main__":
    main()
