"""What the benchmarks share: where and when a figure was measured, processor seconds of a command, captures joined into one."""

from __future__ import annotations

import argparse
import datetime
import gzip
import os
import platform
import re
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
CAPTURES = sorted(log.parent for log in DATA.glob("*/packetclip_packet.log.gz"))
"""Folders of the recorded traffic."""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
"""Of a sensor in a process of its own."""
MAGICS = {b"\xd4\xc3\xb2\xa1": ("<", 10**6), b"\xa1\xb2\xc3\xd4": (">", 10**6), b"\x4d\x3c\xb2\xa1": ("<", 10**9)}
"""Classic pcap: byte order and parts of a second, by the first four bytes."""
ETHERNET = 1
PAUSE_S = 1.0
"""Between two joined captures."""


def machine() -> str:
    """Processor and cores, in words."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)", info.read_text() if info.is_file() else "", re.MULTILINE)
    return f"{os.cpu_count()} x {names[0] if names else platform.machine()}"


def banner(what: str) -> None:
    """Print what is measured, on what, when, and how busy the machine is with other things."""
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"# {what}")
    when = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"
    print(f"# {when}, {machine()}, Python {platform.python_version()}, load {load}", flush=True)


def verdict(name: str, value: float, bound: float, *, most: bool = True, unit: str = "") -> None:
    """Print a figure beside its bound: at most `bound`, or at least."""
    met = value <= bound if most else value >= bound
    print(
        f"{name}: {value:,.2f}{unit}, wanted {'<=' if most else '>='} {bound:,g}{unit}: {'met' if met else 'MISSED'}", flush=True
    )


def ask_for_cluster(parser: argparse.ArgumentParser) -> None:
    """Add --elasticsearch, a URL at which something answers; where nothing does the benchmark ends with one line."""

    def answering(url: str) -> str:
        try:
            urllib.request.urlopen(url, timeout=10).close()
        except urllib.error.HTTPError:
            pass  # an answer all the same
        except (OSError, ValueError) as err:
            raise argparse.ArgumentTypeError(
                f"{url}: no Elasticsearch answers ({err}); start one, or name another with --elasticsearch URL"
            ) from err
        return url

    default = os.environ.get("PACKETCLIP_TEST_ELASTICSEARCH", "http://127.0.0.1:9200")
    parser.add_argument("--elasticsearch", type=answering, default=default, help=f"URL of a real one; default {default}")


def zeek_program() -> str:
    """Zeek's path; ends the benchmark where there is none."""
    from packetclip_sensor.sources.pcap import find_zeek

    zeek = find_zeek()
    if zeek is None:
        sys.exit("error: zeek is neither on PATH nor in /opt/zeek/bin; this benchmark needs it")
    return str(zeek)


@dataclass(frozen=True)
class Following:
    """A sensor that follows the logs in a folder and writes into a data stream of its own."""

    logs: Path
    client: Elasticsearch
    index: str
    said: Path
    """What it logs."""


@contextmanager
def following(url: str) -> Iterator[Following]:
    """Start one, and end it with its data stream."""
    from elasticsearch import Elasticsearch  # not above: benchmarks that measure memory need none

    from packetclip_sensor.service import checkpoint

    namespace = "bench" + uuid.uuid4().hex[:8]
    index = f"logs-packetclip.alert-{namespace}"
    with tempfile.TemporaryDirectory() as work, Elasticsearch(url) as client:
        place = Following(Path(work, "logs"), client, index, Path(work, "sensor.log"))
        place.logs.mkdir()
        sink = f"{{elasticsearch: {{hosts: ['{url}']}}}}"
        Path(work, "sensor.yaml").write_text(f"logs: [logs]\nnamespace: {namespace}\nsink: {sink}\n")
        command = [sys.executable, "-m", "packetclip_sensor", "run", "--config", f"{work}/sensor.yaml"]
        with place.said.open("wb") as said:
            sensor = subprocess.Popen(command, stderr=said, env=ENVIRONMENT)
        try:
            # The sensor is there before the traffic, as in real life: it has put its templates and saved a first state.
            while not ((state := Path(work, "state", "state.json")).exists() and checkpoint.load(state).saved):
                if sensor.poll() is not None:
                    sys.exit(f"error: the sensor ended; it said: {place.said.read_text()[-500:]}")
                time.sleep(0.1)
            yield place
        finally:
            sensor.terminate()
            sensor.wait()
            client.options(ignore_status=[400, 404]).indices.delete_data_stream(name=index)  # 400: the test node cannot


def tcp_line(
    ts: float,
    uid: str,
    source: int,
    target: int,
    port: int,
    *,
    flags: int = 2,
    size: int = 40,
    n: int = 1,
    ident: int = 1,
    seq: int = 7,
    checksums: tuple[int, int] = (0, 0),
    window: int = 1024,
) -> bytes:
    """A line of the packet log: a TCP packet from `port` of one address to port 443 of another, of one connection."""
    data = struct.pack("!BBHHHBBHII", 0x45, 0, size, ident, 0, 64, 6, checksums[0], source, target)
    data += struct.pack("!HHIIBBHHH", port, 443, seq, 0, 0x50, flags, window, checksums[1], 0)
    return (
        b'{"ts":%.6f,"uid":"%s","id.orig_h":"%d.%d.%d.%d","id.orig_p":%d,"id.resp_h":"%d.%d.%d.%d","id.resp_p":443,'
        b'"proto":"tcp","is_orig":true,"n":%d,"len":%d,"data":"%s"}\n'
        % (ts, uid.encode(), *source.to_bytes(4), port, *target.to_bytes(4), n, size, b64encode(data))
    )


def processor_s(command: Sequence[str], folder: Path) -> float:
    """User and system seconds of a command with all its threads, run in `folder`; its output is thrown away.

    Ends the benchmark where the command fails.
    """
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.execvpe(command[0], list(command), ENVIRONMENT)
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"error: {' '.join(command)} ended with status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime


def packets(path: Path) -> Iterator[tuple[float, int, bytes]]:
    """Time, length on the wire and captured bytes of each packet of a classic Ethernet pcap, gzipped or not.

    Raises:
        ValueError: of another format or link type.
    """
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    if raw[:4] not in MAGICS:
        raise ValueError(f"{path}: not a classic pcap")
    order, parts = MAGICS[raw[:4]]
    if struct.unpack_from(order + "I", raw, 20)[0] & 0xFFFF != ETHERNET:
        raise ValueError(f"{path}: not Ethernet")
    head, at = struct.Struct(order + "IIII"), 24
    while at + head.size <= len(raw):
        seconds, part, captured, length = head.unpack_from(raw, at)
        at += head.size
        yield seconds + part / parts, length, raw[at : at + captured]
        at += captured


def join(captures: Sequence[Path], out: Path, *, repeat: int = 1) -> int:
    """Write the captures one after the other into `out`, their times moved so that each begins when the one before it has ended.

    Left as they are, times would jump, and every connection would seem as old as the jump. What cannot be read is named and
    left out. Returns the number of packets.
    """
    count, now = 0, 1_700_000_000.0
    with out.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, ETHERNET))
        for path in list(captures) * repeat:
            try:
                first = None
                begins = latest = now
                for ts, length, data in packets(path):
                    first = ts if first is None else first
                    at = begins + max(ts - first, 0.0)
                    latest = max(latest, at)
                    micros = round(at * 1e6)
                    file.write(struct.pack("<IIII", micros // 10**6, micros % 10**6, len(data), length) + data)
                    count += 1
                now = latest + PAUSE_S
            except ValueError as err:
                print(f"# left out: {err}")
    return count
