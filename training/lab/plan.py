"""The plan of a capture: hosts, addresses, services, habits and attacks, all drawn from the seed before anything runs.

`tables/networks.yaml` holds what the address plans do not share. The captures that were recorded before links came keep their
plan to the byte: everything newer is drawn afterwards, each from a random source of its own.
"""

import random
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from training.lab.link import Link, draw
from training.lab.table import networks

SIX_SHARE = 0.35
DEVICE_PORTS = [80, 554, 1883, 8080, 8008, 9100, 49152, 5683, 6668, 8883]
HTTP_DEVICE_PORTS = [80, 8080, 8008, 9100, 49152]


@dataclass(frozen=True)
class Service:
    """A server on a host; `name` is a key of tables/services.yaml, or http."""

    name: str
    port: int
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Habit:
    """A benign thing a host does: at `at` seconds, then again about every `every` seconds (0: once). Acted out by `clients`."""

    host: str
    name: str
    at: float
    every: float
    params: dict[str, Any]


@dataclass(frozen=True)
class Attack:
    """A tool's run: a shell command, started at `at` seconds, ended after `limit_s`. `{work}` is the capture's folder."""

    label: str
    tool: str
    command: str
    attacker: list[str]
    victim: list[str]
    at: float
    limit_s: float
    host: str = "att"


@dataclass(frozen=True)
class Host:
    """A namespace: its addresses with prefix length, routes in `ip route add` form, and its TCP/IP stack's settings."""

    name: str
    mac: str
    addresses: list[str]
    routes: list[str]
    ttl: int
    sysctls: dict[str, int | str]
    services: list[Service] = field(default_factory=list)
    rate_mbit: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    link: Link | None = None

    @property
    def address(self) -> str:
        """The first IPv4 address, without its prefix length."""
        return next(a for a in self.addresses if ":" not in a).split("/")[0]

    @property
    def address6(self) -> str:
        """The first IPv6 address; "" where the host has none."""
        return next((a.split("/")[0] for a in self.addresses if ":" in a), "")

    def plain(self) -> list[str]:
        """Every address without its prefix length."""
        return [a.split("/")[0] for a in self.addresses]


@dataclass(frozen=True)
class Capture:
    """One recording: `duration_s` of wall time unless the attacks take longer, at most `max_packets`."""

    name: str
    profile: str
    seed: int
    duration_s: float
    max_packets: int
    mtu: int
    user: str
    password: str
    zones: list[str]
    hosts: list[Host]
    habits: list[Habit] = field(default_factory=list)
    attacks: list[Attack] = field(default_factory=list)
    words: dict[str, list[str]] = field(default_factory=dict)
    """Word lists that tools read: file name to lines, written to `{work}`."""
    six_share: float = SIX_SHARE
    """Share of the benign habits that go over IPv6, where both ends have it."""

    @property
    def seconds(self) -> float:
        """About how long the recording takes, at most."""
        return max([self.duration_s, *[attack.at + attack.limit_s for attack in self.attacks]]) + 5

    @property
    def varied(self) -> bool:
        """True where `varied` made it: with links, more services and more habits than the first captures have."""
        return self.six_share != SIX_SHARE

    def host(self, name: str) -> Host:
        """The host of that name; KeyError where there is none."""
        return {host.name: host for host in self.hosts}[name]

    def port(self, host: str, service: str) -> int:
        """The port of a service of a host; KeyError where it has none."""
        for found in self.host(host).services:
            if found.name == service:
                return found.port
        raise KeyError(service)

    def described(self) -> dict[str, Any]:
        """The plan as plain data for the labels file, without word lists and without the test password."""
        plan = asdict(self)
        del plan["words"], plan["password"]
        if not self.varied:
            del plan["six_share"]
        for host in plan["hosts"]:
            if host["link"] is None:
                del host["link"]
        return plan


def _subnet(rng: random.Random, profile: str) -> tuple[str, str]:
    tables = networks()[profile]
    first, low, high = rng.choice(tables.nets)
    second = rng.randint(low, high)
    third = rng.randint(*tables.thirds)
    six = f"{tables.six}{rng.randrange(16):x}:{rng.randrange(1, 65536):x}:{rng.randrange(1, 65536):x}:1"
    return f"{first}.{second}.{third}", six


def _stack(rng: random.Random) -> dict[str, int | str]:
    return {
        "net.ipv4.tcp_timestamps": rng.choice([0, 1, 1]),
        "net.ipv4.tcp_sack": rng.choice([0, 1, 1, 1]),
        "net.ipv4.tcp_window_scaling": rng.choice([0, 1, 1, 1]),
        "net.ipv4.tcp_syncookies": rng.choice([0, 1]),
        "net.ipv4.tcp_synack_retries": rng.choice([1, 2, 5]),
        "net.ipv4.tcp_ecn": rng.choice([0, 0, 2]),
    }


def varied(capture: Capture) -> Capture:
    """The capture with more kinds of networks: links (none for half of the captures), MTUs, TTLs, TCP settings, IPv6; and with
    ssh on every server and CoAP on the devices.

    Drawn from the capture's seed and name, not from the source that the rest of the plan uses.
    """
    rng = random.Random(f"{capture.seed}/{capture.profile}/{capture.name}/varied")
    tables = networks()[capture.profile]
    shaped = rng.random() < 0.5
    who = rng.choice([("att",), ("c1", "c2", "c3", "iot"), ("att", "c1", "c2", "c3", "iot"), ("att", "c2"), ("web", "att")])
    hosts = []
    for host in capture.hosts:
        if host.name == "gw":
            hosts.append(host)
            continue
        away = bool(host.addresses) and host.addresses[0].endswith("/32")
        kind = rng.choice(["wan", "wan", "mobile"] if away else ["lan", "wifi", "wan", "mobile"])
        link = draw(rng, kind) if shaped and (host.name in who or away) else None
        ttl = rng.choice(tables.varied_ttls or tables.ttls) - (rng.randint(4, 19) if away else 0)
        rate = 0 if link else host.rate_mbit
        services = [*host.services]
        if host.name in ("web", "infra"):
            services.append(Service("ssh", rng.choice(tables.ports["ssh"]), {"pam": "no", "tries": 6}))
        if host.name == "iot":
            # The CoAP server answers on 5683 by TCP too (RFC 8323).
            open_ports = [number for number in host.services[0].options["ports"] if number != 5683]
            services = [Service("devices", 0, {"ports": open_ports}), Service("coap", 5683)]
        sysctls = host.sysctls | _more_stack(rng)
        hosts.append(replace(host, ttl=ttl, sysctls=sysctls, link=link, rate_mbit=rate, services=services))
    # Six captures in ten have IPv6 at all, so that over half of these make a third of all.
    share = 0.8 if rng.random() < 0.56 else 0.2
    return replace(capture, hosts=hosts, mtu=rng.choice(tables.varied_mtus or tables.mtus), six_share=share)


def _more_stack(rng: random.Random) -> dict[str, int | str]:
    return {
        "net.ipv4.tcp_ecn": rng.choice([0, 1, 2, 2]),
        "net.ipv4.tcp_timestamps": rng.choice([0, 1, 1]),
        "net.ipv4.tcp_window_scaling": rng.choice([0, 1, 1]),
        "net.ipv4.tcp_syn_retries": rng.choice([2, 3, 6]),
        # The middle number is the receive buffer a connection starts with, and with it the window in its SYN.
        "net.ipv4.tcp_rmem": f"4096 {rng.choice([8192, 16384, 65536, 131072, 131072])} {rng.choice([262144, 6291456])}",
    }


def with_web_server(capture: Capture, options: dict[str, list[Any]]) -> Capture:
    """The capture with another web server: each option of its service drawn from these values."""
    rng = random.Random(f"{capture.seed}/{capture.profile}/{capture.name}/servers")
    drawn = {name: rng.choice(values) for name, values in options.items()}
    return replace(capture, hosts=[_with_options(host, "http", drawn) for host in capture.hosts])


def _with_options(host: Host, service: str, options: dict[str, Any]) -> Host:
    return replace(host, services=[replace(s, options=s.options | options) if s.name == service else s for s in host.services])


def with_busy_resolver(capture: Capture) -> Capture:
    """The capture with a resolver that knows chains of names and serves boot files, in half of them beyond a link."""
    rng = random.Random(f"{capture.seed}/{capture.profile}/{capture.name}/chatter")
    infra = capture.host("infra")
    link = draw(rng, rng.choice(["lan", "wan", "wan"])) if rng.random() < 0.5 else None
    hosts = [
        replace(_with_options(infra, "dns", {"chains": True}), link=link) if host is infra else host for host in capture.hosts
    ]
    return replace(capture, hosts=hosts)


def with_unlimited_errors(capture: Capture) -> Capture:
    """The capture with hosts that send every ICMP error: Linux sends one a second to a host (net.ipv4.icmp_ratelimit)."""
    limits: dict[str, int | str] = {
        "net.ipv4.icmp_ratelimit": 0,
        "net.ipv4.icmp_msgs_per_sec": 1_000_000,
        "net.ipv6.icmp.ratelimit": 0,
    }
    return replace(capture, hosts=[replace(host, sysctls=host.sysctls | limits) for host in capture.hosts])


def network(
    name: str, profile: str, seed: int, duration_s: float, vary: bool, attackers: int = 1
) -> tuple[Capture, random.Random]:
    """A capture's hosts without habits and attacks, and the random source from which the rest is drawn.

    `profile`: a name of networks.yaml. `vary` adds links and more kinds of networks, see `varied`.

    Hosts: `gw` (a router behind which nothing answers), `web`, `files`, `infra` (servers), `c1`..`c3` (clients), `iot` (many
    devices in one namespace), `att` (with `attackers` addresses; in or outside the network).
    """
    rng = random.Random(f"{seed}/{profile}/{name}")
    net, net6 = _subnet(rng, profile)
    dual = rng.random() < 0.6
    tables = networks()[profile]
    used = rng.sample(range(5, 250), 60)
    mtu = rng.choice(tables.mtus)
    outside = rng.random() < 0.4
    gateway = f"{net}.{rng.choice([1, 1, 254, 2])}"
    macs = (f"02:{rng.randrange(256):02x}:{rng.randrange(256):02x}:00:00:{i:02x}" for i in range(1, 40))

    def host(label: str, count: int = 1, services: list[Service] | None = None, away: bool = False, **options: Any) -> Host:
        tails = [used.pop() for _ in range(count)]
        if away:
            # %: each address of an outside host has a different third byte as well, as strangers have.
            form = rng.choice(tables.outside)
            addresses = [form.format(rng.randrange(256), tail) + "/32" for tail in tails]
            routes = ["default dev eth0 scope link"]
        else:
            addresses = [f"{net}.{tail}/24" for tail in tails]
            routes = [*([f"default via {gateway}"] if label != "gw" else []), *[f"{r} dev eth0" for r in tables.routes]]
        if dual:
            addresses += [f"{net6}::{tail:x}/64" for tail in tails]
        ttl = rng.choice(tables.ttls) - (rng.randint(4, 19) if away else 0)
        rate = int(options.pop("rate_mbit", 0))
        return Host(label, next(macs), addresses, routes, ttl, _stack(rng), services or [], rate, options)

    def port(service: str) -> int:
        return rng.choice(tables.ports[service])

    number, keepalive, tokens = port("http"), rng.choice([5, 15, 65]), rng.choice(["on", "off"])
    http = Service("http", number, {"keepalive": keepalive, "tokens": tokens, "connections": 1024})
    files = [
        Service("ssh", port("ssh"), {"pam": rng.choice(["yes", "no"]), "tries": rng.choice([3, 6])}),
        Service("ftp", port("ftp"), {"delay": rng.choice([0, 1])}),
        Service("telnet", port("telnet")),
    ]
    infra = [Service("dns", 53), Service("mqtt", 1883), Service("snmp", 161), Service("ntp", 123)]
    dhcp = f"{net}.251,{net}.253" if not gateway.endswith((".251", ".253")) else f"{net}.3,{net}.4"
    hosts = [
        Host("gw", next(macs), [f"{gateway}/24"], [], 64, {"net.ipv4.ip_forward": 0}),
        host("web", services=[Service("app", 5000), http], rate_mbit=rng.choice([0, 20, 100])),
        host("files", services=files),
        host("infra", services=infra, dhcp=dhcp),
        *[host(f"c{i}", away=i == 3 and rng.random() < 0.5) for i in (1, 2, 3)],
        host("iot", rng.randint(8, 20), [Service("devices", 0, {"ports": sorted(rng.sample(DEVICE_PORTS, rng.randint(3, 6)))})]),
        host("att", attackers, away=outside),
    ]
    words = ["harbor", "maple", "orbit", "velvet", "cobalt", "lantern", "quartz", "meadow"]
    zones = [f"{rng.choice(words)}{rng.randrange(99)}.{tld}" for tld in ("example.net", "example.org", "example.com", "test")]
    user = rng.choice(tables.users)
    password = f"{rng.choice(words)}-{rng.randrange(10**6)}"
    made = Capture(name, profile, seed, duration_s, 30000, mtu, user, password, zones, hosts)
    return varied(made) if vary else made, rng
