"""Which host does which benign thing in a capture: an everyday mix under every attack, and bursts that look like attacks."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from training.lab.ends import CLIENTS, Ends, port
from training.lab.plan import Capture, Habit

Burst = Callable[[Capture, random.Random], list[Habit]]


def everyday(capture: Capture, rng: random.Random, intensity: float = 1.0) -> list[Habit]:
    """The mix that runs all the time: about a dozen habits spread over the clients, drawn for this capture."""
    ends = Ends(capture, rng)

    def often(seconds: float) -> float:
        return rng.uniform(0.6, 1.6) * seconds / intensity

    made: list[Habit] = []

    def add(client: str, name: str, every: float, params: dict[str, Any]) -> None:
        made.append(Habit(client, name, rng.uniform(0, 3), every, params))

    for client in CLIENTS:
        add(client, "browse", often(2), ends.http(client) | {"objects": rng.randint(4, 25), "parallel": rng.randint(1, 6)})
        add(client, "dns", often(2), ends.pair(client, "infra") | {"zones": capture.zones, "parallel": rng.randint(1, 5)})
    c = [rng.choice(CLIENTS) for _ in range(12)]
    pictures = [f"i{i}.jpg" for i in range(20)]
    basic = base64.b64encode(f"{capture.user}:{capture.password}".encode()).decode()
    iot = ends.devices()
    choices: list[tuple[str, str, float, dict[str, Any]]] = [
        (c[0], "ssh", often(5), ends.file(c[0], "ssh") | {"parallel": rng.randint(1, 2)}),
        (c[1], "scp", often(6), ends.file(c[1], "ssh") | {"size": rng.randint(20_000, 400_000)}),
        (c[2], "ssh_typing", often(6), ends.file(c[2], "ssh")),
        (c[3], "ftp", often(5), ends.file(c[3], "ftp")),
        (c[4], "telnet", often(8), ends.file(c[4], "telnet")),
        ("iot", "mqtt", often(3), {"src": rng.choice(iot), "host": capture.host("infra").address, "port": 1883}),
        (c[5], "mqtt_listen", often(2), {"host": capture.host("infra").address, "port": 1883, "seconds": 40}),
        (c[6], "snmp", often(4), {"hosts": [ends.pair(c[6], "infra")["host"]]}),
        (c[7], "ntp", often(5), ends.pair(c[7], "infra")),
        (c[8], "ping", often(4), {"hosts": [ends.pair(c[8], server)["host"] for server in ("web", "infra", "files")], "src": ""}),
        (c[9], "curl", often(3), {"urls": ends.urls(pictures, tls=True), "count": rng.randint(1, 6)}),
        (c[10], "api", often(4), ends.http(c[10]) | {"basic": basic}),
        (c[11], "dig", often(4), {"host": ends.pair(c[11], "infra")["host"], "zones": capture.zones}),
    ]
    if capture.varied:
        choices += _newer(ends, rng, [rng.choice(CLIENTS) for _ in range(16)], often)
    for client, name, every, params in rng.sample(choices, rng.randint(6, 10) + (4 if capture.varied else 0)):
        add(client, name, every, params)
    if rng.random() < 0.5:
        made += video(capture, rng, rate=rng.uniform(15, 50), seconds=capture.duration_s)
    if rng.random() < 0.3:
        made += update(capture, rng)
    return made


def _newer(
    ends: Ends, rng: random.Random, c: list[str], often: Callable[[float], float]
) -> list[tuple[str, str, float, dict[str, Any]]]:
    """What came with the varied captures: the acts of `lookalikes.py` at the pace of every day."""
    gentle = {"pause": rng.uniform(1, 3)}
    tls = ends.pair(c[0], "web") | {"port": 443, "tls": True}
    checks = [(host, number) for host in ends.devices()[:4] for number in ends.device_ports()[:2]]
    return [
        (c[0], "browse", often(3), tls | {"objects": rng.randint(4, 25), "parallel": rng.randint(1, 6)}),
        ("iot", "announce", often(6), {"sources": ends.devices(), "spread": 0.5}),
        (c[1], "coap", often(4), ends.things(c[1])),
        (c[2], "health", 0, ends.http(c[2]) | {"count": 40, "pause": 1.0}),
        (c[3], "idle", 0, ends.pair(c[3], "infra") | {"port": 1883, "count": 2, "beat": rng.randint(2, 8), "seconds": 60}),
        (c[4], "watch_film", 0, ends.http(c[4]) | {"segments": 15, "size": rng.randint(30_000, 200_000), "pause": 2.5}),
        (c[5], "upload", often(6), ends.http(c[5]) | {"size": rng.randint(20_000, 200_000)}),
        (c[6], "form_login", often(8), ends.http(c[6]) | ends.account() | {"wrong": 1}),
        (c[7], "git", often(10), ends.file(c[7], "ssh") | {"count": 2} | gentle),
        (c[8], "ssh_script", often(8), ends.file(c[8], "ssh") | {"count": 2} | gentle),
        (c[9], "ftp_script", often(8), ends.file(c[9], "ftp") | {"count": 2} | gentle),
        (c[10], "backup", often(12), ends.file(c[10], "ssh") | {"parallel": 1, "files": 12, "rate_kb": 200}),
        (c[11], "trace_route", often(9), ends.pair(c[11], "files") | {"hops": 4, "each": 2}),
        (c[12], "check_ports", often(6), {"src": "", "checks": checks, "together": rng.random() < 0.5, "pause": 0.2}),
        (c[13], "download_parts", often(9), ends.http(c[13]) | {"file": "update.bin", "size": 400_000, "parallel": 4}),
        (c[14], "mqtt_busy", 0, ends.broker(c[14]) | {"publishers": 2, "listeners": 1, "rate": 4, "seconds": 30}),
    ]


def lighter(capture: Capture, habits: list[Habit]) -> list[Habit]:
    """The demo's habits: the same acts with less on them, since its captures are kept in the repository."""
    if capture.profile != "demo":
        return habits
    most = {"size": 300, "rate": 25, "burst": 1, "seconds": 8, "objects": 25, "count": 60, "files": 8, "parallel": 20}
    keep = {"scp": {"size": 15_000}, "upload_slowly": {"size": 3000}}
    made = []
    for habit in habits:
        limits = most | keep.get(habit.name, {}) if habit.name != "listen" else {}
        params = {k: min(v, limits[k]) if k in limits and isinstance(v, int | float) else v for k, v in habit.params.items()}
        if "urls" in params:
            params["urls"] = [url.replace("big.bin", "i3.jpg") for url in params["urls"]]
        made.append(replace(habit, params=params))
    return made


def video(capture: Capture, rng: random.Random, rate: float = 120, seconds: float = 15) -> list[Habit]:
    """A camera's stream, a call or a game: steady datagrams, some with answers, some to a multicast group."""
    src, dst = rng.sample(CLIENTS, 2)
    where, at = capture.host(dst).address, rng.uniform(1, 5)
    number = rng.choice([5004, 16384 + rng.randrange(9000), 443, 3074, 2055, 514])
    size = rng.choice([160, 300, 900, 1200])
    echo = rng.choice([1, 2, 25, 10**9])
    listen = Habit(
        dst, "listen", 0, 0, {"src": where, "port": number, "echo": echo, "seconds": capture.duration_s + 5, "size": 400}
    )
    params = {
        "src": capture.host(src).address,
        "port": number,
        "rate": rate,
        "size": size,
        "burst": rng.randint(1, 4),
        "seconds": seconds,
    }
    if rng.random() < 0.25:
        return [Habit(src, "stream", at, 0, params | {"host": f"239.{rng.randrange(1, 250)}.1.{rng.randrange(1, 250)}"})]
    return [listen, Habit(src, "stream", at, 0, params | {"host": where})]


def update(capture: Capture, rng: random.Random) -> list[Habit]:
    """A software update: one large download, at full speed or held down."""
    ends, client = Ends(capture, rng), rng.choice(CLIENTS)
    options = rng.choice([[], ["--limit-rate", "300k"], ["--limit-rate", "900k"]])
    urls = ends.urls(["update.bin"], tls=rng.random() < 0.5)
    return [Habit(client, "curl", rng.uniform(1, 8), 0, {"urls": urls, "options": options})]


def startup(capture: Capture, rng: random.Random) -> list[Habit]:
    """All devices start within seconds."""
    web, dns, ends = capture.host("web").address, capture.host("infra").address, Ends(capture, rng)
    params = {"sources": ends.devices(), "dns": dns, "web": web, "zones": capture.zones, "web_port": port(capture, "web", "http")}
    return [Habit("iot", "startup", rng.uniform(2, 8), rng.choice([0, 9]), params | {"spread": rng.uniform(0.5, 4)})]


def discovery(capture: Capture, rng: random.Random) -> list[Habit]:
    """A hub looks for devices: multicast, then known ports of every neighbour."""
    ends, client = Ends(capture, rng), rng.choice(("c1", "c2"))
    ports = sorted({*ends.device_ports()[:2], 80, 554, 1883, 8008})
    params = {"src": capture.host(client).address, "hosts": ends.devices(), "ports": ports, "each": rng.randint(1, 3)}
    return [Habit(client, "discover", rng.uniform(2, 6), rng.choice([0, 8]), params | {"gap": rng.choice([0.02, 0.1, 0.4])})]


def monitoring(capture: Capture, rng: random.Random) -> list[Habit]:
    """A station checks the fleet: pings, known ports, metrics, SNMP of hosts that mostly do not answer it."""
    ends, client = Ends(capture, rng), rng.choice(("c1", "c2"))
    src, hosts = capture.host(client).address, ends.devices()
    checks = [(host, number) for host in hosts[:12] for number in ends.device_ports()[:2]]
    checks += [
        (capture.host("web").address, port(capture, "web", "http")),
        (capture.host("files").address, port(capture, "files", "ssh")),
    ]
    scraped = next((number for number in ends.device_ports() if number in (80, 8080, 8008, 9100, 49152)), 80)
    gaps = {"gap_ms": rng.choice([1, 10, 40]), "gap_s": rng.choice([0.0, 0.05])}
    return [
        Habit(client, "watchdog", rng.uniform(1, 4), rng.uniform(4, 9), {"src": src, "hosts": hosts, "checks": checks} | gaps),
        Habit(client, "scrape", rng.uniform(1, 4), rng.uniform(2, 6), {"src": src, "hosts": hosts, "port": scraped}),
        Habit(client, "snmp", rng.uniform(2, 6), 10, {"hosts": [*hosts[:6], capture.host("infra").address]}),
    ]


def many_names(capture: Capture, rng: random.Random) -> list[Habit]:
    """Browser prefetch, a mail server or a crawler: tens of look-ups at once, again and again."""
    ends, client = Ends(capture, rng), rng.choice(CLIENTS)
    params = ends.pair(client, "infra") | {
        "zones": [*capture.zones, "lab.test"],
        "parallel": rng.randint(15, 60),
        "rounds": rng.randint(1, 6),
    }
    return [Habit(client, "dns", rng.uniform(1, 6), rng.uniform(3, 8), params)]


def rollout(capture: Capture, rng: random.Random) -> list[Habit]:
    """A configuration tool opens many ssh sessions with the right key, a user mistypes, files go over by sftp."""
    ends, (a, b) = Ends(capture, rng), rng.sample(CLIENTS, 2)
    return [
        Habit(a, "ssh", rng.uniform(1, 5), rng.uniform(3, 7), ends.file(a, "ssh") | {"parallel": rng.randint(4, 10)}),
        Habit(b, "ssh_mistyped", rng.uniform(2, 6), 12, ends.file(b, "ssh") | {"wrong": rng.randint(1, 2)}),
        Habit(b, "scp", rng.uniform(2, 6), 3, ends.file(b, "ssh") | {"size": rng.randint(1000, 80_000)}),
    ]


def mirror(capture: Capture, rng: random.Random) -> list[Habit]:
    """FTP of many small files, with a wrong password once; telnet sessions beside it."""
    ends, (a, b) = Ends(capture, rng), rng.sample(CLIENTS, 2)
    return [
        Habit(
            a,
            "ftp",
            rng.uniform(1, 4),
            rng.uniform(1, 3),
            ends.file(a, "ftp") | {"files": rng.randint(10, 40), "wrong": rng.random() < 0.5},
        ),
        Habit(b, "telnet", rng.uniform(1, 4), 3, ends.file(b, "telnet")),
    ]


def flash_crowd(capture: Capture, rng: random.Random) -> list[Habit]:
    """Very many whole web requests from many devices within a second or three."""
    ends = Ends(capture, rng)
    params = {"sources": ends.devices(), "host": capture.host("web").address, "port": port(capture, "web", "http")}
    size = {"count": rng.randint(80, 250), "spread": rng.uniform(0.3, 3)}
    return [Habit("iot", "crowd", rng.uniform(2, 8), rng.choice([0, 6]), params | size)]


def slow_lines(capture: Capture, rng: random.Random) -> list[Habit]:
    """Slow uploads, slow downloads and idle connections that look like Slowloris, but ask whole questions and end."""
    ends, (a, b) = Ends(capture, rng), rng.sample(CLIENTS, 2)
    thin = {"size": rng.randint(2000, 9000), "chunk": rng.choice([100, 300, 700]), "pause": rng.choice([0.2, 0.5, 1.0])}
    rate = rng.choice(["8k", "20k", "60k"])
    return [
        *[Habit(a, "upload_slowly", rng.uniform(1, 5), 3, ends.http(a) | thin) for _ in range(rng.randint(2, 6))],
        Habit(
            b,
            "hold",
            rng.uniform(1, 4),
            0,
            ends.http(b) | {"count": rng.randint(5, 30), "beats": rng.randint(3, 8), "pause": rng.uniform(1, 3)},
        ),
        Habit(
            b,
            "curl",
            rng.uniform(1, 4),
            5,
            {"urls": ends.urls(["i1.jpg", "i2.jpg", "big.bin"], tls=False), "options": ["--limit-rate", rate], "count": 3},
        ),
    ]


def outage(capture: Capture, rng: random.Random) -> list[Habit]:
    """Programs whose server is down: refused and unanswered connections, datagrams to closed ports, a trace, a knock."""
    ends, (a, b) = Ends(capture, rng), rng.sample(CLIENTS, 2)
    web, dead = capture.host("web").address, capture.host("web").address.rsplit(".", 1)[0] + ".4"
    knocked = [rng.randrange(2000, 60000) for _ in range(3)]
    six = ends.pair(b, "web")
    return [
        Habit(
            a,
            "retry",
            rng.uniform(1, 3),
            2,
            {"src": capture.host(a).address, "host": web, "port": 8443, "count": 10, "pause": rng.uniform(0.05, 0.6)},
        ),
        Habit(b, "retry", rng.uniform(1, 3), 3, {"src": "", "host": dead, "port": 5432, "count": 5, "pause": 0.5}),
        Habit(b, "retry", rng.uniform(1, 3), 3, six | {"port": 4789, "count": 12, "pause": rng.uniform(0.02, 0.3), "udp": True}),
        Habit(
            a, "knock", rng.uniform(2, 5), 8, ends.file(a, "ssh") | {"ssh_port": port(capture, "files", "ssh"), "ports": knocked}
        ),
        Habit(b, "trace", rng.uniform(2, 5), 9, six | {"hops": rng.randint(3, 10)}),
    ]


def pings(capture: Capture, rng: random.Random) -> list[Habit]:
    """Several people and watchdogs ping at once, with large packets too."""
    hosts = [capture.host(name).address for name in ("web", "files", "infra")]
    return [
        Habit(client, "ping", rng.uniform(0, 3), rng.uniform(0.5, 2), {"hosts": hosts, "count": 12, "src": ""})
        for client in CLIENTS * 2
    ]


def pages(capture: Capture, rng: random.Random) -> list[Habit]:
    """Heavy pages: tens of objects over up to 30 connections, plain and with TLS."""
    ends, (a, b) = Ends(capture, rng), rng.sample(CLIENTS, 2)
    heavy = {"objects": rng.randint(40, 90), "parallel": rng.randint(6, 30), "think": rng.choice([0.005, 0.02])}
    names = [f"i{i}.jpg" for i in range(40)]
    return [
        Habit(a, "browse", rng.uniform(1, 4), rng.uniform(2, 5), ends.http(a) | heavy),
        Habit(
            b, "curl", rng.uniform(1, 4), rng.uniform(2, 5), {"urls": ends.urls(names, tls=True), "count": rng.randint(10, 30)}
        ),
    ]


BURSTS: dict[str, Burst] = {
    "startup": startup,
    "discovery": discovery,
    "monitoring": monitoring,
    "names": many_names,
    "rollout": rollout,
    "mirror": mirror,
    "flash": flash_crowd,
    "slow": slow_lines,
    "outage": outage,
    "pings": pings,
    "pages": pages,
    "video": video,
    "update": update,
}
