"""Eight plain rate rules on our own logs: what a sensor names that counts ports, hosts, packets and connections, and no more.

    python -m training.evaluate.baselines.rules --logs tests/data
    python -m training.evaluate.baselines.rules --logs runs/captures --manifest CAPTURES/MANIFEST.csv --use "test only"

Prints what `training.evaluate.captures` prints, so that the two can be compared. The thresholds are fixed, the second set that
was tried: 15 ports of a host or 15 hosts on a port in a minute; 100 SYN, UDP or ICMP packets a second to one host; 6 connections
a minute from one host to one login service; 60 of them to one web port; 15 held open there for 10 s with few bytes.
"""

import argparse
import sys
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from packetclip_sensor.records import Flow, Packet
from training.common import command
from training.data.ground_truth import Truth, matches, records
from training.evaluate.captures import CAPTURES, truths_of

RECONNAISSANCE, DOS, BRUTE_FORCE = "Reconnaissance", "DoS", "Brute Force"
LOGIN_SERVICES = frozenset(
    ("ssh", "ftp", "smtp", "imap", "pop3", "smb", "ntlm", "rdp", "rfb", "mysql", "postgresql", "mqtt", "ldap_tcp", "redis")
)
LOGIN_PORTS = frozenset((21, 22, 23, 25, 110, 143, 389, 445, 465, 587, 993, 995, 1433, 1883, 2121, 2222, 2323, 3306, 3389, 5432))
LOGIN_PORTS |= {5900, 5901, 6379, 8883}
WEB_PORTS = frozenset((80, 443, 8000, 8080, 8081, 8443))
QUIET_S = 600
"""A rule says the same of the same hosts once in this time, as an episode does."""
HELD_S, HELD_BYTES, HELD = 10.0, 2000, 15
"""A connection is held where it lasted this long and its client sent fewer bytes; as many at once are Slowloris."""


@dataclass
class Rule:
    """`least` different items of a key within `within_s` seconds of event time are an alert."""

    name: str
    mission: str
    least: int
    within_s: float
    seen: dict[Hashable, tuple[deque[tuple[float, Hashable]], Counter[Hashable]]] = field(default_factory=dict)

    def crossed(self, ts: float, key: Hashable, item: Hashable) -> bool:
        """Count an item at epoch second `ts`, which never falls; True where the key has `least` different ones."""
        held, times = self.seen.setdefault(key, (deque(), Counter()))
        held.append((ts, item))
        times[item] += 1
        while held[0][0] <= ts - self.within_s:
            _, old = held.popleft()
            times[old] -= 1
            if not times[old]:
                del times[old]
        return len(times) >= self.least


class RuleAlert(NamedTuple):
    """An alert of a rule."""

    ts: float
    rule: str
    mission: str
    hosts: tuple[str, ...]


class Rules:
    """The eight rules and what they have alerted on; fed with packets and flow rows in the order of time."""

    def __init__(self) -> None:
        minute, second = 60.0, 1.0
        self.ports = Rule("ports", RECONNAISSANCE, 15, minute)
        self.hosts = Rule("hosts", RECONNAISSANCE, 15, minute)
        self.logins = Rule("logins", BRUTE_FORCE, 6, minute)
        self.requests = Rule("requests", RECONNAISSANCE, 60, minute)
        self.floods = {kind: Rule(kind, DOS, 100, second) for kind in ("SYN", "UDP", "ICMP")}
        self.held = Rule("held", DOS, HELD, minute)
        self.last: dict[tuple[str, tuple[str, ...]], float] = {}

    def packet(self, p: Packet) -> Iterator[RuleAlert]:
        """What the packet makes the rules say."""
        if p.n == 1 and p.proto in ("tcp", "udp"):
            yield from self._says(self.ports, p.ts, (p.orig_h, p.resp_h), p.resp_p)
            yield from self._says(self.hosts, p.ts, (p.orig_h,), p.resp_h, (p.orig_h, p.resp_p, p.proto))
            if p.proto == "tcp" and p.resp_p in WEB_PORTS:
                yield from self._says(self.requests, p.ts, (p.orig_h, p.resp_h), p.uid, (p.orig_h, p.resp_h, p.resp_p))
        if p.is_orig and (kind := _kind(p)):
            yield from self._says(self.floods[kind], p.ts, (p.resp_h,), (p.uid, p.n), source=p.orig_h)

    def flow(self, f: Flow) -> Iterator[RuleAlert]:
        """What a connection's row makes them say: one that had packets faster than the limit on average, or that was held."""
        duration = f.duration or 0.0
        if f.proto == "tcp" and (f.resp_p in LOGIN_PORTS or LOGIN_SERVICES & {*(f.service or "").split(",")}):
            yield from self._says(self.logins, f.ts, (f.orig_h, f.resp_h), f.uid, (f.orig_h, f.resp_h, f.resp_p))
        kind = {"udp": "UDP", "icmp": "ICMP"}.get(f.proto)
        if kind and duration >= 1.0 and (f.orig_pkts or 0) >= self.floods[kind].least * duration:
            yield from self._once(self.floods[kind], f.ts, (f.resp_h,), f.orig_h)
        if f.proto == "tcp" and f.resp_p in WEB_PORTS and duration >= HELD_S and (f.orig_bytes or 0) < HELD_BYTES:
            yield from self._says(self.held, f.ts, (f.orig_h, f.resp_h), f.uid)

    def _says(
        self, rule: Rule, ts: float, hosts: tuple[str, ...], item: Hashable, key: Hashable = None, source: str = ""
    ) -> Iterator[RuleAlert]:
        if rule.crossed(ts, key or hosts, item):
            yield from self._once(rule, ts, hosts, source)

    def _once(self, rule: Rule, ts: float, hosts: tuple[str, ...], source: str = "") -> Iterator[RuleAlert]:
        last = self.last.get((rule.name, hosts))
        self.last[rule.name, hosts] = ts
        if last is None or ts > last + QUIET_S:
            yield RuleAlert(ts, rule.name, rule.mission, (*hosts, source) if source else hosts)


def _kind(p: Packet) -> str:
    """The flood that a packet of a connection's originator could be part of; "" for all others."""
    if p.proto == "tcp":
        # The flags are byte 13 of the TCP header, which begins behind an IPv4 header's own length or IPv6's 40 bytes.
        start = 4 * (p.data[0] & 15) if p.data and p.data[0] >> 4 == 4 else 40
        return "SYN" if len(p.data) > start + 13 and p.data[start + 13] & 0x12 == 2 else ""
    return {"udp": "UDP", "icmp": "ICMP"}.get(p.proto, "")


def alerts(logs: Iterable[Path]) -> tuple[list[RuleAlert], int]:
    """What the rules say about finished logs, in the order of time, and how many packets there were."""
    packets: list[Packet] = []
    flows: list[Flow] = []
    for batch in records([*logs]):
        packets += batch.packets
        flows += batch.flows
    packets.sort(key=lambda p: p.ts)
    flows.sort(key=lambda f: f.ts)
    rules = Rules()
    found = [one for p in packets for one in rules.packet(p)] + [one for f in flows for one in rules.flow(f)]
    return sorted(found), len(packets)


def evaluate(truth: Truth) -> dict[str, Any]:
    """One capture as plain values, in the form of `training.evaluate.captures.evaluate`; `classes` are names of rules."""
    found, packets = alerts([truth.folder])
    right = [a for a in found if any(matches(a.mission, a.ts, a.ts, {*a.hosts}, i) for i in truth.intervals)]
    other = [a for a in found if a not in right]
    return {
        "capture": truth.folder.name,
        "label": truth.label,
        "packets": packets,
        "right": len(right),
        "probability": float(bool(right)),
        "classes": ", ".join(sorted({a.rule for a in right})),
        "other": len(other),
        "titles": "; ".join(f"{a.mission} {a.rule} {' '.join(a.hosts)}" for a in other[:3]),
    }


def rows(logs: Path, manifest: Path | None, use: str) -> list[dict[str, Any]]:
    """What the rules say of each capture."""
    return [evaluate(truth) for truth in truths_of(logs, manifest, use)]


@command(*CAPTURES)
def main(args: argparse.Namespace) -> None:
    """Print a line a capture and the totals. Exit codes: 0 done, 2 there is no capture."""
    found = rows(args.logs, args.manifest, args.use)
    for r in found:
        if r["label"] != "Benign" or r["other"] or not args.quiet:
            print(f"{r['capture'][:58]:58} {r['label']:18} {r['right']:3} right {r['classes']:30} ", end="")
            print(f"{r['other']:3} other {r['titles']}")
    attacks, benign = ([r for r in found if (r["label"] == "Benign") is calm] for calm in (False, True))
    named = {label: [bool(r["right"]) for r in attacks if r["label"] == label] for label in sorted({r["label"] for r in attacks})}
    for label, found in named.items():
        print(f"{label:18} {sum(found)} of {len(found)}")
    false, packets = (sum(r[key] for r in benign) for key in ("other", "packets"))
    mean = sum(sum(found) / len(found) for found in named.values()) / max(1, len(named))
    print(
        f"{sum(bool(r['right']) for r in attacks)} of {len(attacks)} attack captures named right, mean over classes {mean:.2f}; ",
        end="",
    )
    print(f"{false} false alerts in {packets:,} benign packets")


if __name__ == "__main__":
    sys.exit(main())
