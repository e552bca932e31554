"""What a Zeek would write: recorded attacks over and over, with shifted times and renamed hosts, in bursts of a second's flush.

A burst holds whole seconds of event time, so that no packet comes behind a second which a quiet log has closed: what the sensor
says then depends on the lines alone, and not on when a busy machine let the writer write them.
"""

from __future__ import annotations

import gzip
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from packetclip_sensor.alerts.open_episodes import EVIDENCE_CLOSE_S

DATA = Path(__file__).parents[1] / "data"
CAPTURES = ("demo-dict-patator-ftp", "demo-os-nping", "demo-vuln-gobuster", "demo-udp-hping", "demo-os-nmap-ports")
LOGS = ("packet", "flow")
NAME = "packetclip_{}.log"
BASE_S = 1_795_000_000
"""Event time at which every workload begins."""
ROUND_S = 20
"""Event time of one capture with the quiet behind it."""
BURST_S = 4
"""Event time of one burst."""
BURSTS = ROUND_S // BURST_S
"""Bursts in a round."""
TAIL_S = EVIDENCE_CLOSE_S + 180
"""Event time between the last round and the two packets that let every episode close."""

Burst = list[tuple[str, float, bytes]]
"""Log, seconds of event time since the round's start, and line, in the order of writing."""


def burst(number: int) -> Burst:
    """The lines of burst `number`, counted from 0. What a capture logs behind its round comes with the next one."""
    round_, place = divmod(number, BURSTS)
    made = [item for item in _round(round_) if item[1] // BURST_S == place]
    return late(round_ - 1) + made if place == 0 and round_ else made


def last_burst(rounds: int) -> Burst:
    """What is left after `rounds`, and two packets of much later: too few to be judged, but they move the clock on."""
    row = _recorded(CAPTURES[0], "packet")[0]
    end = [row | {"ts": last_second(rounds) + 0.1 * n, "uid": "Clast", "n": n, "data": "AA=="} for n in (1, 2)]
    return late(rounds - 1) + [("packet", float(TAIL_S), msgspec.json.encode(packet) + b"\n") for packet in end]


def late(round_: int) -> Burst:
    """What a round's connections log behind its end."""
    return [item for item in _round(round_) if item[1] >= ROUND_S]


def turns(burst: Burst) -> list[int]:
    """Where a second of event time ends in a burst: a log may be rotated there. Within a second, the time that it takes might let
    a busy machine's sensor take the second for over."""
    seconds = [int(at_s) for _, at_s, _ in burst]
    return [i for i in range(len(burst)) if i + 1 == len(burst) or seconds[i] != seconds[i + 1]]


def last_second(rounds: int) -> int:
    """The second of the last packet: once it is judged, all is said."""
    return BASE_S + rounds * ROUND_S + TAIL_S


@lru_cache(maxsize=2)
def _round(number: int) -> Burst:
    capture = CAPTURES[number % len(CAPTURES)]
    start = int(_recorded(capture, "packet")[0]["ts"])
    shift = BASE_S + number * ROUND_S - start
    lines = []
    for log in LOGS:
        for row in _recorded(capture, log):
            written = row["ts"] + (row.get("duration", 0.0) if log == "flow" else 0.0)
            renamed = row | {
                "ts": round(row["ts"] + shift, 6),
                "uid": f"{row['uid']}{number}",
                "id.orig_h": _renamed(row["id.orig_h"], number),
                "id.resp_h": _renamed(row["id.resp_h"], number),
            }
            lines.append((log, max(0.0, written - start), msgspec.json.encode(renamed) + b"\n"))
    return sorted(lines, key=lambda line: line[1])


@lru_cache
def _recorded(capture: str, log: str) -> list[dict[str, Any]]:
    text = gzip.decompress((DATA / capture / (NAME.format(log) + ".gz")).read_bytes())
    return [msgspec.json.decode(line) for line in text.splitlines()]


def _renamed(host: str, number: int) -> str:
    """Another host of the same network size; groups and IPv6 stay."""
    parts = host.split(".")
    if len(parts) != 4 or int(parts[0]) >= 224:
        return host
    return f"{parts[0]}.{(int(parts[1]) + number) % 256}.{parts[2]}.{parts[3]}"
