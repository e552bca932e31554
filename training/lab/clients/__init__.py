"""Benign clients: what the habits of a plan do. HABITS holds every habit by its name.

Where a real client exists (ssh, scp, rsync, git, curl, dig, mosquitto, snmpwalk, coap-client, ntpdate, ping, traceroute) it is
used; the rest are plain sockets. `python -m training.lab.clients FILE` acts them out inside a namespace.
"""

from importlib import import_module
from pkgutil import iter_modules

from training.lab.clients.base import HABITS

__all__ = ["HABITS"]

for _module in iter_modules(__path__):  # each enters its habits
    if _module.name != "__main__":
        import_module(f"{__name__}.{_module.name}")
