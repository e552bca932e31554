"""What the sensor asks of a small device: bytes of log on its disk, and the most memory of a replay.

python -m benchmarks.small_device        the captures of tests/data; Zeek 7 or newer for the comparison with conn.log
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
from pathlib import Path

from packetclip_sensor.common.resources import resource
from packetclip_sensor.sources.pcap import find_zeek

DATA = Path(__file__).parents[1] / "tests" / "data"
SENSOR = """
import resource, sys
from packetclip_sensor.cli.app import main
code = main(["replay", sys.argv[1], "--out", "alerts.ndjson"])
print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def logs(zeek: Path, capture: Path) -> dict[str, bytes]:
    """What Zeek with the package writes of a capture: our two logs and conn.log."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(zeek), "-C", "-D", "-r", "-", str(resource("zeek_scripts").absolute()), "LogAscii::use_json=T"]
        subprocess.run(command, input=gzip.decompress(capture.read_bytes()), cwd=folder, check=True, stderr=subprocess.DEVNULL)
        names = ("packetclip_packet.log", "packetclip_flow.log", "conn.log")
        return {name: (Path(folder) / name).read_bytes() for name in names}


def main() -> None:
    zeek, sizes = find_zeek(), dict[str, list[int]]()
    for capture in sorted(DATA.glob("*/capture.pcap.gz")) if zeek else []:
        assert zeek is not None
        for name, log in logs(zeek, capture).items():
            lines, plain, packed = sizes.setdefault(name, [0, 0, 0])
            sizes[name] = [lines + log.count(b"\n"), plain + len(log), packed + len(gzip.compress(log, 6))]
    print(f"{'log':<24}{'lines':>10}{'MB':>8}{'bytes a line':>14}{'MB packed':>11}{'times conn.log':>16}")
    for name, (lines, plain, packed) in sizes.items():
        times = plain / sizes["conn.log"][1]
        print(f"{name:<24}{lines:>10,}{plain / 1e6:>8.1f}{plain / lines:>14.0f}{packed / 1e6:>11.1f}{times:>16.1f}")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", SENSOR, str(DATA)]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    code, peak_kib = ended.stderr.split()[-2:]
    print(f"replay of tests/data: exit code {code}, most memory {int(peak_kib) * 1024 / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
