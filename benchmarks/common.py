"""What the benchmarks share: where and when a figure was measured, processor seconds of a command, captures joined into one."""

from __future__ import annotations

import argparse
import datetime
import gzip
import os
import platform
import re
import struct
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

DATA = Path(__file__).parents[1] / "tests" / "data"
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


def processor_s(command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> float:
    """User and system seconds of a command with all its threads, run in `folder`; its output is thrown away.

    Ends the benchmark where the command fails.
    """
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.execvpe(command[0], list(command), dict(env or os.environ))
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
