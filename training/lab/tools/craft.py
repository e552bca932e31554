"""Packets by scapy, for the test set of tools that training never saw: scans, floods and stack probes in scapy's own way.

Started as a file inside a namespace of the lab with the system's Python, which has Debian's python3-scapy.
"""

import argparse
import logging
import random
import time
from collections.abc import Iterator

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)

from scapy.all import DNS, DNSQR, ICMP, IP, TCP, UDP, Ether, RandIP, Raw, conf, sr  # noqa: E402


def _stack(o: argparse.Namespace) -> list[IP]:
    """Probes whose answers tell stacks apart: ECN, odd flags, echo with a code, timestamp, mask, a closed UDP port."""
    opened, closed = o.ports[0], random.randint(40000, 60000)
    flags = [(opened, flag) for flag in ("S", "SEC", "", "SFUP", "A")] + [(closed, flag) for flag in ("S", "A", "FPU")]
    options = [("WScale", 10), ("NOP", None), ("MSS", 265), ("Timestamp", (1 << 20, 0)), ("SAckOK", b"")]
    probes = [
        IP(dst=o.host) / TCP(sport=random.randint(30000, 60000), dport=port, flags=flag, options=options) for port, flag in flags
    ]
    probes += [IP(dst=o.host, tos=4) / ICMP(code=9, id=7) / Raw(b"\0" * 120), IP(dst=o.host) / ICMP(type=13)]
    probes += [IP(dst=o.host) / ICMP(type=17), IP(dst=o.host, id=0x1042) / UDP(sport=5353, dport=closed) / Raw(b"C" * 300)]
    return probes * o.rounds


def _protocols(o: argparse.Namespace) -> list[IP]:
    """One packet of each IP protocol: which are answered, and which with `protocol unreachable`."""
    return [IP(dst=o.host, proto=number) / Raw(b"\0" * 16) for number in random.sample(o.ports, len(o.ports))]


def _icmps(o: argparse.Namespace) -> list[IP]:
    """ICMP questions in which stacks differ: echo with odd code and TOS, timestamp, information, mask; and a closed UDP port."""
    kinds = [(8, 123, 6), (8, 0, 0), (13, 0, 0), (13, 1, 4), (15, 0, 0), (17, 0, 0)]
    probes = [IP(dst=o.host, tos=tos, flags="DF") / ICMP(type=kind, code=code, id=21) for kind, code, tos in kinds]
    return [*probes, IP(dst=o.host) / UDP(sport=53, dport=65534) / Raw(b"\0" * 70)] * o.rounds


def _scan(o: argparse.Namespace) -> list[IP]:
    return [
        IP(dst=o.host) / TCP(sport=random.randint(1024, 65000), dport=port, flags=o.flags)
        for port in random.sample(o.ports, len(o.ports))
    ]


def _flood(o: argparse.Namespace) -> Iterator[IP]:
    for index in range(o.count):
        ip = IP(src=str(RandIP()) if o.spoof else None, dst=o.host, ttl=o.ttl)
        port = random.choice(o.ports)
        layer = {
            "icmp": lambda index=index: ICMP(id=o.ttl, seq=index & 0xFFFF) / Raw(b"z" * o.size),
            "udp": lambda port=port: UDP(sport=random.randint(1024, 65000), dport=port) / Raw(random.randbytes(o.size)),
            "dns": lambda: (
                UDP(sport=random.randint(1024, 65000), dport=53)
                / DNS(id=random.getrandbits(16), qd=DNSQR(qname=f"{random.getrandbits(40):x}.{o.zone}", qtype=o.qtype))
            ),
        }[o.kind]()
        yield ip / layer


def main() -> None:
    """The probes wait for answers; the floods are sent at `--rate` by an open socket."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["stack", "scan", "protocols", "icmps", "icmp", "udp", "dns"])
    parser.add_argument("host")
    parser.add_argument("--mac", required=True, help="link address of the host")
    defaults = {"ports": "80", "flags": "S", "zone": "lab.test", "qtype": "A"}
    defaults |= {"rounds": 2, "count": 1500, "rate": 300.0, "size": 32, "ttl": 64}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--spoof", action="store_true")
    o = parser.parse_args()
    low, _, high = o.ports.partition("-")
    o.ports = list(range(int(low), int(high) + 1)) if high else [int(port) for port in o.ports.split(",")]
    if probes := {"stack": _stack, "scan": _scan, "protocols": _protocols, "icmps": _icmps}.get(o.kind):
        sr(probes(o), timeout=2, inter=1 / o.rate, verbose=0)
        return
    link, due = conf.L2socket(iface="eth0"), time.monotonic()
    for packet in _flood(o):
        link.send(bytes(Ether(dst=o.mac) / packet))
        due += 1 / o.rate
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main()
