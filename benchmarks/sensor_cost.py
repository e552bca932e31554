"""The sensor's processor seconds over those of the Zeek that wrote the logs, start-up counted in both.

    python -m benchmarks.sensor_cost [--runs 3] [CAPTURES]

CAPTURES is a pcap or a folder, several joined by commas; default all of tests/data, taken three times.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.common import DATA, banner, join, processor_s, verdict, zeek_program
from benchmarks.zeek_cost import captures
from packetclip_sensor.common.resources import resource

BOUND = 1.0


def main() -> None:
    """Print each run's seconds and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", nargs="?")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    zeek = zeek_program()
    banner("sensor processor seconds over Zeek's")
    ratios = []
    with tempfile.TemporaryDirectory() as work:
        pcap, logs = Path(work, "all.pcap"), Path(work, "logs")
        logs.mkdir()
        paths = captures(args.captures) if args.captures else sorted(DATA.glob("*/capture.pcap.gz"))
        packets = join(paths, pcap, repeat=1 if args.captures else 3)
        for _ in range(args.runs):
            for log in logs.iterdir():
                log.unlink()
            of_zeek = processor_s([zeek, "-C", "-r", str(pcap), str(resource("zeek_scripts"))], logs)
            sensor = [sys.executable, "-m", "packetclip_sensor", "replay", str(logs), "--out", f"{work}/alerts.ndjson"]
            of_sensor = processor_s(sensor, Path(work))
            Path(work, "alerts.ndjson").unlink()
            ratios.append(of_sensor / of_zeek)
            print(f"{packets:,} packets: Zeek {of_zeek:.2f} s, sensor {of_sensor:.2f} s, ratio {ratios[-1]:.2f}", flush=True)
    verdict("sensor over Zeek", statistics.median(ratios), BOUND)


if __name__ == "__main__":
    main()
