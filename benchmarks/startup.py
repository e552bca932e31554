"""Seconds from the command to the help text, and to the first judged packet.

    python -m benchmarks.startup [--runs 5]

The second is taken from inside: a fresh Python runs a replay and notes when the first windows come back judged.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common import DATA, ENVIRONMENT, banner, processor_s, verdict

HELP_S, FIRST_S = 0.3, 1.0
FIRST = """
import sys, time
from pathlib import Path
from packetclip_sensor.model.bundle import Bundle
from packetclip_sensor.config.settings import Config
from packetclip_sensor.model.judge import judge
from packetclip_sensor.common.metrics import Counters
from packetclip_sensor.common.rejects import Rejects
from packetclip_sensor.sources import tail, zeek
from packetclip_sensor.windows.cutter import windows
import packetclip_sensor.cli.app, packetclip_sensor.pipeline
bundle, counters, rejects = Bundle.open(Config().model_path), Counters(), Rejects(None)
batches = zeek.batches(tail.finite([Path(sys.argv[1])], rejects=rejects, block_bytes=1 << 16), rejects, counters)
for judged in judge(windows(batches, bundle.manifest.window, counters), bundle, bundle.manifest.thresholds, counters):
    if counters.windows:
        print(time.time() - float(sys.argv[2]), time.process_time())
        break
"""


def main() -> None:
    """Print the median and the least of each; the bounds are held against processor time, for a busy machine spoils the clock."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    banner("start-up")
    helps, help_processor, firsts, processor = [], [], [], []
    for _ in range(args.runs):
        began = time.perf_counter()
        help_processor.append(processor_s([sys.executable, "-m", "packetclip_sensor", "--help"], Path.cwd()))
        helps.append(time.perf_counter() - began)
        said = subprocess.run(
            [sys.executable, "-c", FIRST, str(DATA / "demo-port-zmap"), str(time.time())],
            env=ENVIRONMENT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        firsts.append(float(said[0]))
        processor.append(float(said[1]))
    print(f"--help: median {statistics.median(helps):.2f} s, least {min(helps):.2f} s; ", end="")
    print(f"processor time, least {min(help_processor):.2f} s")
    print(f"first judged packet: median {statistics.median(firsts):.2f} s, least {min(firsts):.2f} s; ", end="")
    print(f"processor time, least {min(processor):.2f} s")
    verdict("--help, least processor time", min(help_processor), HELP_S, unit=" s")
    verdict("first judged packet, least processor time", min(processor), FIRST_S, unit=" s")


if __name__ == "__main__":
    main()
