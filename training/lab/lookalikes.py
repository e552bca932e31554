"""Benign bursts that look most like attacks: programs that log in all day, people who mistype, monitoring, backups, downloaders.

For captures with links (`plan.varied`); the older bursts are in `habits.py`.
"""

from __future__ import annotations

import random
from typing import Any

from training.lab.ends import CLIENTS, Ends, port
from training.lab.habits import Burst
from training.lab.plan import Capture, Habit


def _at(rng: random.Random) -> float:
    return rng.uniform(1, 6)


def logins(capture: Capture, rng: random.Random) -> list[Habit]:
    """Scripts that log in many times with the right password, by ssh and FTP; now and then an old one is tried."""
    ends, (a, b) = Ends(capture, rng), rng.sample(CLIENTS, 2)
    many = {"count": rng.randint(6, 25), "pause": rng.choice([0.2, 0.7, 1.5])}
    return [
        *[
            Habit(a, "ssh_script", _at(rng), 4, ends.file(a, "ssh") | many | {"wrong": rng.choice([0, 0.05])})
            for _ in range(rng.randint(1, 3))
        ],
        *[Habit(b, "ftp_script", _at(rng), 3, ends.file(b, "ftp") | many) for _ in range(rng.randint(1, 3))],
    ]


def mistypes(capture: Capture, rng: random.Random) -> list[Habit]:
    """People who mistype a few times: at a shell, at a web form, at FTP."""
    ends = Ends(capture, rng)
    made = []
    for client in CLIENTS:
        made += [
            Habit(client, "ssh_mistyped", _at(rng), 15, ends.file(client, "ssh") | {"wrong": rng.randint(1, 4)}),
            Habit(client, "form_login", _at(rng), 10, ends.http(client) | ends.account() | {"wrong": rng.randint(1, 4)}),
            Habit(client, "ftp", _at(rng), 10, ends.file(client, "ftp") | {"wrong": True, "files": 3}),
        ]
    return made


def ports(capture: Capture, rng: random.Random) -> list[Habit]:
    """A monitoring system: ten hosts, three ports each, every few seconds, all at once or in turn; some are always closed."""
    ends, client = Ends(capture, rng), rng.choice(("c1", "c2"))
    known = [*ends.device_ports()[:2], rng.choice([22, 80, 443, 9100, 161, 5432])]
    checks = [(host, number) for host in ends.devices()[:10] for number in known]
    for host in ("web", "files", "infra"):
        where = ends.pair(client, host)["host"]
        checks += [(where, service.port) for service in capture.host(host).services if service.name in ("http", "ssh", "mqtt")]
    way: dict[str, Any] = {"together": rng.random() < 0.5, "pause": rng.choice([0.02, 0.1]), "banner": rng.random() < 0.3}
    return [Habit(client, "check_ports", _at(rng), rng.uniform(2, 5), {"src": "", "checks": checks} | way)]


def routes(capture: Capture, rng: random.Random) -> list[Habit]:
    """Traces to servers and far away, from two hosts."""
    ends, made = Ends(capture, rng), []
    for client in rng.sample(CLIENTS, 2):
        near = [ends.pair(client, host)["host"] for host in ("web", "files", "infra")]
        far = f"{rng.randint(11, 90)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randint(1, 250)}"
        for host in (rng.choice(near), far):
            params = {"host": host, "hops": rng.randint(4, 20), "each": rng.randint(1, 3)}
            made.append(Habit(client, "trace_route", _at(rng), rng.uniform(3, 9), params))
    return made


def backups(capture: Capture, rng: random.Random) -> list[Habit]:
    """A backup over many connections, and a configuration tool that visits every server side by side."""
    ends, (a, b) = Ends(capture, rng), rng.sample(CLIENTS, 2)
    size = {"parallel": rng.randint(4, 8), "files": rng.randint(20, 60), "rate_kb": rng.choice([50, 150])}
    hosts = [(ends.pair(b, host)["host"], port(capture, host, "ssh")) for host in ("web", "files", "infra")]
    src = {"src": "", "hosts": hosts, "forks": rng.randint(1, 3), "steps": rng.randint(2, 4)}
    return [
        Habit(a, "backup", _at(rng), 8, ends.file(a, "ssh") | size),
        Habit(b, "fan_out", _at(rng), rng.uniform(5, 9), ends.account() | src),
    ]


def downloader(capture: Capture, rng: random.Random) -> list[Habit]:
    """A download manager with many connections, and films."""
    ends, (a, b) = Ends(capture, rng), rng.sample(CLIENTS, 2)
    parts = {"file": rng.choice(["update.bin", "big.bin"]), "size": rng.randint(400_000, 2_500_000), "parallel": 16}
    film = {"segments": 12, "size": rng.randint(60_000, 300_000), "pause": rng.uniform(1.5, 4)}
    return [
        Habit(a, "download_parts", _at(rng), rng.uniform(4, 8), ends.http(a) | parts),
        *[Habit(b, "watch_film", _at(rng), 0, ends.http(b) | film) for _ in range(2)],
    ]


def small_objects(capture: Capture, rng: random.Random) -> list[Habit]:
    """Pages of sixty small objects, plain and with TLS, each on up to thirty connections."""
    ends, made = Ends(capture, rng), []
    for client in rng.sample(CLIENTS, 2):
        page = {"small": True, "least": 60, "objects": 70, "parallel": rng.randint(6, 30), "think": 0.005}
        where = ends.http(client)
        if rng.random() < 0.5:
            where |= {"port": 443, "tls": True}
        made.append(Habit(client, "browse", _at(rng), rng.uniform(1, 4), where | page | {"linger": rng.choice([0.1, 3])}))
    return made


def resolver(capture: Capture, rng: random.Random) -> list[Habit]:
    """A resolver or mail server that asks a hundred names at once."""
    ends, client = Ends(capture, rng), rng.choice(CLIENTS)
    asked = {"zones": [*capture.zones, "lab.test"], "least": 80, "parallel": rng.randint(100, 160), "rounds": rng.randint(1, 3)}
    return [Habit(client, "dns", _at(rng), rng.uniform(2, 6), ends.pair(client, "infra") | asked)]


def stub(capture: Capture, rng: random.Random) -> list[Habit]:
    """Computers whose look-ups all come from one socket: some dozens at once for each page that is opened."""
    ends, made = Ends(capture, rng), []
    for client in rng.sample(CLIENTS, rng.randint(1, 3)):
        few = rng.randint(3, 20)
        burst = {"zones": [*capture.zones, "lab.test"], "least": few, "most": few + rng.randint(2, 40)}
        pace = {"gap": rng.choice([0.0005, 0.004, 0.02]), "pause": rng.choice([0.5, 2, 4]), "rounds": rng.randint(4, 15)}
        made.append(Habit(client, "dns_stub", _at(rng), rng.uniform(1, 6), ends.pair(client, "infra") | burst | pace))
    return made


def phones(capture: Capture, rng: random.Random) -> list[Habit]:
    """Slow lines: phones that upload, sensors that post little by little, readers with a small window, all to the end."""
    ends, made = Ends(capture, rng), []
    for client in CLIENTS:
        made.append(
            Habit(
                client,
                "upload",
                _at(rng),
                5,
                ends.http(client) | {"size": 120_000, "rate": rng.choice(["8k", "20k", "60k"]), "parallel": rng.randint(1, 4)},
            )
        )
        slow = {
            "buffer": rng.choice([2048, 4096, 16384]),
            "piece": rng.choice([300, 1000, 4000]),
            "pause": rng.uniform(0.05, 0.4),
        }
        made += [Habit(client, "read_slowly", _at(rng), 4, ends.http(client) | slow) for _ in range(rng.randint(2, 8))]
        thin = {"size": rng.randint(2000, 9000), "chunk": rng.choice([100, 300, 700]), "pause": rng.choice([0.2, 0.5, 1.0])}
        made.append(Habit(client, "upload_slowly", _at(rng), 3, ends.http(client) | thin))
    return made


def broker(capture: Capture, rng: random.Random) -> list[Habit]:
    """A busy MQTT broker: many publishers and subscribers on open connections, and devices that come and go."""
    ends, (a, b) = Ends(capture, rng), rng.sample(CLIENTS, 2)
    load = {"publishers": rng.randint(6, 15), "listeners": rng.randint(2, 6), "rate": rng.choice([3, 10, 20]), "seconds": 25}
    return [
        Habit(a, "mqtt_busy", _at(rng), 0, ends.broker(a) | load),
        *[
            Habit("iot", "mqtt", _at(rng), 1.5, {"src": src, "host": capture.host("infra").address, "port": 1883})
            for src in ends.devices()[:5]
        ],
        Habit(b, "idle", _at(rng), 0, ends.broker(b) | {"count": rng.randint(5, 30), "beat": rng.randint(1, 5), "seconds": 60}),
    ]


def builds(capture: Capture, rng: random.Random) -> list[Habit]:
    """Build servers that ask a git server for news in many short logins."""
    ends, made = Ends(capture, rng), []
    for client in rng.sample(CLIENTS, 2):
        asks = {"count": rng.randint(6, 20), "pause": rng.choice([0.1, 0.6])}
        made.append(Habit(client, "git", _at(rng), 6, ends.file(client, "ssh") | asks))
    return made


def checks(capture: Capture, rng: random.Random) -> list[Habit]:
    """Load balancers that ask for a server's health on new connections, several a second."""
    ends, made = Ends(capture, rng), []
    for client in CLIENTS:
        pace = {"count": 400, "pause": rng.choice([0.1, 0.3, 1.0]), "path": rng.choice(["s0.txt", "app/metrics", "none"])}
        made.append(Habit(client, "health", _at(rng), 0, ends.http(client) | pace))
    return made


def silence(capture: Capture, rng: random.Random) -> list[Habit]:
    """Servers that are gone: SYNs sent again to addresses beyond a silent router, refused ports, datagrams nobody answers."""
    ends, (a, b) = Ends(capture, rng), rng.sample(CLIENTS, 2)
    far = f"{rng.randint(11, 90)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randint(1, 250)}"
    closed = ends.pair(b, rng.choice(["files", "infra"])) | {"port": rng.choice([3306, 5432, 8443, 9200])}
    lost = {"src": "", "host": far, "port": rng.choice([443, 8883, 123]), "wait": rng.choice([1, 4, 8])}
    return [
        *[Habit(a, "retry", _at(rng), 1, lost | {"count": 8, "pause": rng.uniform(0.2, 1)}) for _ in range(rng.randint(2, 8))],
        Habit(b, "retry", _at(rng), 2, closed | {"count": rng.randint(10, 60), "pause": rng.choice([0.02, 0.1, 0.5])}),
        Habit(b, "retry", _at(rng), 3, lost | {"count": 20, "pause": rng.uniform(0.05, 0.3), "udp": True}),
    ]


def things(capture: Capture, rng: random.Random) -> list[Habit]:
    """A hub that asks all devices over CoAP while they announce themselves."""
    ends, client = Ends(capture, rng), rng.choice(("c1", "c2"))
    return [
        *[Habit(client, "coap", _at(rng), rng.uniform(0.5, 2), ends.things(client) | {"count": 20}) for _ in range(2)],
        Habit("iot", "announce", _at(rng), 3, {"sources": ends.devices(), "spread": 0.2}),
    ]


LOOKALIKES: dict[str, Burst] = {
    "logins": logins,
    "mistypes": mistypes,
    "ports": ports,
    "routes": routes,
    "backups": backups,
    "downloader": downloader,
    "objects": small_objects,
    "resolver": resolver,
    "stub": stub,
    "phones": phones,
    "broker": broker,
    "builds": builds,
    "checks": checks,
    "silence": silence,
    "things": things,
}
