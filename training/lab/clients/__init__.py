"""Benign clients: what the habits of a plan do. HABITS holds every habit by its name.

Where a real client exists (ssh, scp, rsync, git, curl, dig, mosquitto, snmpwalk, coap-client, ntpdate, ping, traceroute) it is
used; the rest are plain sockets. `python -m training.lab.clients FILE` acts them out inside a namespace.
"""

from training.lab.clients import (
    background,
    loads,
    logins,
    names,
    neighbours,
    programs,
    scripts,
    streams,
    things,
    transfers,
    watch,
    web,
)
from training.lab.clients.base import HABITS

__all__ = [
    "HABITS",
    "background",
    "loads",
    "logins",
    "names",
    "neighbours",
    "programs",
    "scripts",
    "streams",
    "things",
    "transfers",
    "watch",
    "web",
]
