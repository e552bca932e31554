"""Packet to searchable alert: Zeek reads a flood at its own pace, the sensor follows its log, Elasticsearch is asked until it
answers.

    python -m benchmarks.latency --elasticsearch http://127.0.0.1:9200 [--runs 3] [CAPTURE_FOLDER ...]

Zeek runs with --pseudo-realtime on the recorded floods of tests/data, which moves the packets' times to now. It prints the time
of its first packet; the flood's first one comes as much later as the capture says, and from then on the clock runs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.common import DATA, ask_for_cluster, following, zeek_program
from packetclip_sensor.common.resources import resource
from packetclip_sensor.pairs.labels import Labels
from packetclip_sensor.records import Packet

FLOODS = ("SYN Flood", "UDP Flood", "ICMP Flood", "DNS Flood")
TIMES = """
global begun = F;
event new_connection(c: connection)
    {
    if ( begun ) return;
    begun = T;
    print fmt("%.6f", network_time());
    flush_all();
    }
"""


def floods() -> list[Path]:
    """Folders of the recorded floods."""
    found = []
    for path in sorted(DATA.glob("*/labels.json")):
        intervals = json.loads(path.read_text())["intervals"]
        if intervals and intervals[0]["label"] in FLOODS:
            found.append(path.parent)
    return found


def flood_begins(folder: Path) -> float:
    """Seconds from the capture's first logged packet to the flood's first one."""
    labels = Labels.load(folder / "labels.json")
    packets = msgspec.json.Decoder(Packet).decode_lines(gzip.decompress((folder / "packetclip_packet.log.gz").read_bytes()))
    return min(p.ts for p in packets if labels.of(p)) - min(p.ts for p in packets)


def measure(folder: Path, url: str, zeek: str) -> float | None:
    """Seconds from the flood's first packet to the first alert that a search finds; None if none came in 30 s after Zeek's
    end."""
    with following(url) as sensor, tempfile.TemporaryDirectory() as work:
        pcap = Path(work, "capture.pcap")
        pcap.write_bytes(gzip.decompress((folder / "capture.pcap.gz").read_bytes()))
        command = [zeek, "-C", "--pseudo-realtime=1", "-r", str(pcap), str(resource("zeek_scripts")), "-e", TIMES]
        reader = subprocess.Popen(command, cwd=sensor.logs, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert reader.stdout is not None
            flood_at = float(reader.stdout.readline()) + flood_begins(folder)
            ended = None
            while ended is None or time.time() - ended < 30:
                # A data stream that is just being made answers 503 for a moment.
                answer = sensor.client.options(ignore_status=[404, 503]).search(index=sensor.index, size=1)
                if answer.get("hits", {}).get("hits") and time.time() >= flood_at:
                    return time.time() - flood_at
                if ended is None and reader.poll() is not None:
                    ended = time.time()
                time.sleep(0.05)
        finally:
            reader.kill()
            reader.wait()
    return None


def main() -> None:
    """Measure each flood `--runs` times and print every figure and the median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captures", type=Path, nargs="*")
    ask_for_cluster(parser)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    zeek = zeek_program()
    found: list[float] = []
    for folder in args.captures or floods():
        times = [measure(folder, args.elasticsearch, zeek) for _ in range(args.runs)]
        found += [t for t in times if t is not None]
        print(f"{folder.name:32} " + "  ".join("none" if t is None else f"{t:5.2f} s" for t in times), flush=True)
    if found:
        print(f"median of {len(found)}: {statistics.median(found):.2f} s, longest {max(found):.2f} s")
        print(json.dumps({"median_s": round(statistics.median(found), 2), "max_s": round(max(found), 2), "runs": len(found)}))


if __name__ == "__main__":
    main()
