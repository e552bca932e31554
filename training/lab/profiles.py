"""What sets the profiles apart: addresses, ports, TTLs, MTUs and accounts, so that a score on one says something about networks
that training never saw.

`first` trains. `demo` (tests and demonstration), `unseen` (tools that training never saw) and `evade` (attacks that hide) share
no network and no account with it nor with each other; `unseen` and `evade` share no port of a movable service and no TTL either.
MTUs of 1500 and the well-known ports of DNS, MQTT, NTP, SNMP and HTTPS are everybody's.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """One profile's tables.

    `nets`: first byte, least and greatest second byte of an IPv4 network; `thirds`: its third byte's bounds; `six`: the start of
    its IPv6 prefix; `outside`: forms of addresses beyond the network. `ttls` of old captures, `all_ttls` of varied ones.
    """

    nets: list[tuple[int, int, int]]
    thirds: tuple[int, int]
    six: str
    outside: list[str]
    ports: dict[str, list[int]]
    ttls: list[int]
    all_ttls: list[int]
    mtus: list[int]
    all_mtus: list[int]
    users: list[str]


PROFILES = {
    "first": Profile(
        nets=[(10, 0, 127), (172, 16, 23), (192, 168, 168)],
        thirds=(0, 127),
        six="fd1",
        outside=["198.18.{}.{}", "192.0.2.{1}"],
        ports={"http": [80, 80, 8080, 8000], "ssh": [22, 22, 2222], "ftp": [21, 21, 2121], "telnet": [23, 23, 2323]},
        ttls=[64, 64, 128, 255, 60, 127],
        all_ttls=[64, 64, 128, 255, 32],
        mtus=[1500, 1500, 1500, 1492, 1400, 1280],
        all_mtus=[1500, 1500, 1492, 1400, 1280, 9000],
        users=["maria", "jonas", "operator7", "svcuser", "lena"],
    ),
    "demo": Profile(
        nets=[(10, 128, 254), (172, 24, 31), (192, 168, 168)],
        thirds=(128, 254),
        six="fd9",
        outside=["203.0.113.{1}", "198.51.100.{1}"],
        ports={"http": [80, 8081, 3000], "ssh": [22, 2022], "ftp": [21, 2021], "telnet": [23, 2423]},
        ttls=[64, 64, 128, 254, 62, 125],
        all_ttls=[64, 64, 128, 254, 62, 125],
        mtus=[1500, 1500, 1460, 1420],
        all_mtus=[1500, 1500, 1460, 1420],
        users=["tomas", "ines", "ops2"],
    ),
    "unseen": Profile(
        nets=[(100, 64, 95), (10, 0, 127), (172, 16, 23)],
        thirds=(128, 254),
        six="fd5",
        outside=["198.19.{}.{}", "192.88.99.{1}"],
        ports={"http": [8888, 9080, 5080], "ssh": [2200, 22022], "ftp": [2100, 8021], "telnet": [2300, 5023]},
        ttls=[61, 63, 123, 250, 31],
        all_ttls=[61, 63, 123, 250, 31],
        mtus=[1500, 1480, 1452, 1300],
        all_mtus=[1500, 1480, 1452, 1300],
        users=["agnes", "backup3", "piotr"],
    ),
    "evade": Profile(
        nets=[(100, 96, 127), (10, 128, 254), (172, 24, 31)],
        thirds=(0, 127),
        six="fd7",
        outside=["192.31.196.{1}", "192.175.48.{1}"],
        ports={"http": [8008, 9000, 7080], "ssh": [2244, 10022], "ftp": [2131, 6021], "telnet": [2332, 6023]},
        ttls=[57, 59, 126, 247, 30],
        all_ttls=[57, 59, 126, 247, 30],
        mtus=[1500, 1440, 1360, 1320],
        all_mtus=[1500, 1440, 1360, 1320],
        users=["viktor", "deploy5", "sofia"],
    ),
}
IN_FIRST = ("harden", "breadth", "servers", "chatter")
"""Profiles without tables of their own: in the address plan of `first`, to train on as well, or to try it (`chatter`)."""

OUTSIDE_ROUTES = ["198.18.0.0/15", "192.0.2.0/24", "203.0.113.0/24", "198.51.100.0/24"]
MORE_ROUTES = ["192.88.99.0/24", "192.31.196.0/24", "192.175.48.0/24"]
"""Routes to the outside addresses of `unseen` and `evade`; hosts of the older profiles do not have them."""
