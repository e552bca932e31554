"""Harmless talk that looks like floods and guesses: the profile `chatter`, benign captures alone.

The other profiles' benign hosts look names up and read tables in few packets. Elsewhere a page asks for sixty names through one
socket and gets chains of CNAMEs after tens of milliseconds, a station reads a thousand values, log lines go to a collector that
never answers, downloads come in datagrams, and programs at mail, redis and guarded pages log in all day.
"""

from __future__ import annotations

import random
from dataclasses import replace

from training.lab import logins
from training.lab.ends import CLIENTS, Ends
from training.lab.habits import Burst
from training.lab.link import draw
from training.lab.plan import Capture, Habit

ALWAYS_S = 60
"""Longer than any capture."""
NEEDS = {"mail": ("imap", "pop3"), "programs": ("redis", "imap")}
"""Burst to the services that it needs beside those that every capture has."""


def prepared(capture: Capture, bursts: list[str]) -> Capture:
    """The capture with a resolver that knows chains of names and serves boot files, in half of them beyond a link, and with the
    services that `bursts` need; drawn from its seed and name."""
    rng = random.Random(f"{capture.seed}/{capture.profile}/{capture.name}/chatter")
    infra = capture.host("infra")
    services = [replace(s, options=s.options | {"chains": True}) if s.name == "dns" else s for s in infra.services]
    link = draw(rng, rng.choice(["lan", "wan", "wan"])) if rng.random() < 0.5 else None
    knows = replace(infra, services=services, link=link)
    hosts = [knows if host is infra else host for host in capture.hosts]
    needs = dict.fromkeys(name for burst in bursts for name in NEEDS.get(burst, ()))
    return logins.added(replace(capture, hosts=hosts), tuple(needs))


def dns_lines(capture: Capture, rng: random.Random) -> str:
    """Lines for dnsmasq: sixty names in each zone that are other names of fifteen hosts with up to five addresses, as at a CDN."""
    lines = []
    for zone in capture.zones:
        for host in range(15):
            for _ in range(rng.randint(1, 5)):
                lines.append(
                    f"host-record=e{host}.cdn{len(zone)}.{zone},198.51.100.{rng.randint(1, 250)},2001:db8::{rng.randrange(1, 65536):x}"
                )
        lines += [f"cname=w{name}.{zone},e{rng.randrange(15)}.cdn{len(zone)}.{zone}" for name in range(60)]
    return "".join(f"{line}\n" for line in lines)


def _at(rng: random.Random) -> float:
    return rng.uniform(1, 6)


def names(capture: Capture, rng: random.Random) -> list[Habit]:
    """People who open pages with advertisements, on computers with a stub resolver and without."""
    ends, made = Ends(capture, rng), []
    for client in rng.sample(CLIENTS, rng.randint(2, 3)):
        size = {"clusters": [2, rng.randint(4, 14)], "names": [1, rng.randint(3, 16)], "one_socket": rng.random() < 0.6}
        pace = {"gap": rng.choice([0.0, 0.0005, 0.003, 0.01]), "pause": rng.choice([0.05, 0.15, 0.4, 1.0])}
        where = ends.pair(client, "infra") | {"zones": capture.zones}
        made.append(Habit(client, "page_names", _at(rng), rng.uniform(1, 6), where | size | pace))
    return made


def admin(capture: Capture, rng: random.Random) -> list[Habit]:
    """Addresses turned into names, and an administrator's questions."""
    ends, (a, b) = Ends(capture, rng), rng.sample(CLIENTS, 2)
    pace = {"rounds": rng.randint(5, 60), "together": rng.choice([1, 1, 4, 20]), "pause": rng.choice([0.005, 0.05, 0.3])}
    return [
        Habit(a, "names_back", _at(rng), rng.uniform(2, 8), ends.pair(a, "infra") | pace),
        Habit(b, "dig_many", _at(rng), rng.uniform(1, 4), ends.pair(b, "infra") | {"zones": capture.zones}),
    ]


def tables(capture: Capture, rng: random.Random) -> list[Habit]:
    """Stations that read a host's whole table, and others that ask for a few values all the time."""
    ends, made = Ends(capture, rng), []
    for client, way in zip(rng.sample(CLIENTS, 3), rng.sample(["walk", "bulk", "poll", "walk"], 3), strict=True):
        pace = {"way": way, "pause": rng.choice([0.0, 0.05, 0.3])}
        made.append(Habit(client, "snmp_walk", _at(rng), rng.uniform(3, 12), ends.pair(client, "infra") | pace))
    return made


def collector(capture: Capture, rng: random.Random) -> list[Habit]:
    """Log lines and counters of clients and devices to a collector; in a third of the captures nothing listens there."""
    ends, where, made = Ends(capture, rng), capture.host(rng.choice(["infra", "files"])), []
    number, lines = rng.choice([(514, True), (514, True), (5140, True), (8125, False), (2003, False)])
    if rng.random() < 0.67:
        served = {"src": where.address, "port": number, "echo": 10**9, "seconds": ALWAYS_S}
        made.append(Habit(where.name, "listen", 0, 0, served))
    sources = [("iot", address) for address in ends.devices()[: rng.randint(2, 8)]]
    sources += [(client, capture.host(client).address) for client in rng.sample(CLIENTS, 2)]
    for host, src in sources:
        size = {"bursts": rng.randint(4, 12), "most": rng.choice([10, 40, 150]), "lines": lines}
        pace = {"gap": rng.choice([0.0, 0.001, 0.01, 0.05]), "pause": rng.choice([0.3, 1, 3])}
        made.append(
            Habit(
                host, "messages", _at(rng), rng.uniform(4, 12), {"src": src, "host": where.address, "port": number} | size | pace
            )
        )
    return made


def boot(capture: Capture, rng: random.Random) -> list[Habit]:
    """Devices and clients that fetch what they boot from, one or all at once."""
    ends, infra = Ends(capture, rng), capture.host("infra").address
    together = rng.random() < 0.5
    at = _at(rng)
    made = [
        Habit("iot", "tftp", at if together else _at(rng), rng.uniform(5, 15), {"src": src, "host": infra})
        for src in ends.devices()[: rng.randint(2, 6)]
    ]
    client = rng.choice(CLIENTS)
    return [*made, Habit(client, "tftp", _at(rng), rng.uniform(3, 9), ends.pair(client, "infra"))]


def datagrams(capture: Capture, rng: random.Random) -> list[Habit]:
    """Downloads in datagrams: web pages over QUIC, or a VPN to the file server."""
    ends, server, made = Ends(capture, rng), rng.choice(["web", "files"]), []
    number = rng.choice([443, 443, 1194, 51820, 4500])
    load = {"datagrams": rng.choice([20, 80, 300]), "burst": rng.choice([2, 5, 10]), "size": rng.choice([1200, 1252, 1330])}
    served = {"src": capture.host(server).address, "port": number, "seconds": ALWAYS_S}
    made.append(Habit(server, "bulk_serve", 0, 0, served | load))
    for client in rng.sample(CLIENTS, rng.randint(1, 3)):
        here = {"src": capture.host(client).address, "host": capture.host(server).address, "port": number}
        made.append(Habit(client, "bulk_fetch", _at(rng), rng.uniform(0.5, 5), here | {"think": rng.choice([0.0, 0.002, 0.01])}))
    return made


def mail(capture: Capture, rng: random.Random) -> list[Habit]:
    """Mail programs that look for news all day, several for each person."""
    ends, made = Ends(capture, rng), []
    for client in CLIENTS:
        kind = rng.choice(["imap", "imap", "pop3"])
        pace = {"kind": kind, "count": rng.randint(2, 20), "looks": rng.randint(1, 12), "pause": rng.choice([0.2, 1, 3])}
        made.append(
            Habit(client, "mail_check", _at(rng), rng.uniform(2, 8), ends.file(client, kind) | pace)
        )
    return made


def programs(capture: Capture, rng: random.Random) -> list[Habit]:
    """Programs that log in with the right password all day: at redis, at guarded pages that say 401 first, at a mailbox."""
    ends, (a, b, c) = Ends(capture, rng), rng.sample(CLIENTS, 3)
    redis = {"rounds": rng.randint(2, 15), "most": rng.choice([3, 30, 200]), "pause": rng.choice([0.1, 0.5, 2])}
    guarded = ends.account() | {"count": rng.randint(3, 20), "pause": rng.choice([0.05, 0.3, 1])}
    box = {"kind": "imap", "count": rng.randint(3, 12), "looks": 2, "pause": rng.choice([0.3, 1])}
    return [
        Habit(a, "cache_work", _at(rng), rng.uniform(1, 5), ends.file(a, "redis") | redis),
        Habit(b, "challenged", _at(rng), rng.uniform(1, 5), ends.http(b) | guarded),
        Habit(c, "mail_check", _at(rng), rng.uniform(3, 8), ends.file(c, "imap") | box),
    ]


CHATTER: dict[str, Burst] = {
    "lookups": names,
    "admin": admin,
    "tables": tables,
    "collector": collector,
    "boot": boot,
    "datagrams": datagrams,
    "mail": mail,
    "programs": programs,
}
