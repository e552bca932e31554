"""Captures without an attack that are recorded beside those of `catalogue.py`: habits of all kinds over links of all kinds."""

from __future__ import annotations

from dataclasses import replace

from training.lab import chatter, servers
from training.lab.chatter import CHATTER
from training.lab.habits import BURSTS, everyday
from training.lab.lookalikes import LOOKALIKES
from training.lab.plan import Capture, network
from training.lab.profiles import IN_FIRST

MIXES = {
    "first": [
        ["logins", "names"],
        ["mistypes", "pages"],
        ["ports", "monitoring"],
        ["routes", "pings"],
        ["backups", "update"],
        ["downloader", "video"],
        ["objects", "flash"],
        ["resolver", "startup"],
        ["phones", "slow"],
        ["broker", "discovery"],
        ["builds", "rollout"],
        ["checks", "mirror"],
        ["silence", "outage"],
        ["things", "video"],
        ["logins", "mistypes", "builds"],
        ["ports", "routes", "checks"],
        ["phones", "downloader"],
        ["resolver", "objects", "broker"],
        ["silence", "things", "backups"],
        ["mistypes", "rollout"],
        ["ports", "discovery", "startup"],
        ["checks", "objects"],
        ["builds", "backups", "logins"],
        ["phones", "broker", "slow"],
        ["routes", "silence", "resolver"],
        ["downloader", "pages", "flash"],
        ["mistypes", "logins"],
        ["ports", "things"],
        [],
        [],
    ],
    "breadth": [
        ["stub"],
        ["stub", "pages"],
        ["stub", "names"],
        ["stub", "logins", "mistypes"],
        ["stub", "downloader"],
        ["stub", "ports", "checks"],
        ["logins", "mistypes", "stub"],
        ["stub", "silence", "monitoring"],
        ["logins", "mistypes", "builds"],
        ["stub", "video", "pages"],
        # The rest is here since thresholds stand on the few benign windows that look worst, and need more of them.
        ["logins", "outage"],
        ["mistypes", "slow"],
        ["ports", "outage", "names"],
        ["checks", "discovery"],
        ["silence", "logins"],
        ["rollout", "flash"],
        ["resolver", "mistypes"],
        ["builds", "mirror", "logins"],
        ["routes", "silence"],
        ["phones", "outage", "pages"],
        ["monitoring", "ports", "checks"],
        ["backups", "mistypes"],
        ["discovery", "resolver", "startup"],
        ["objects", "logins", "update"],
        ["broker", "silence", "pings"],
        ["downloader", "flash", "slow"],
        ["things", "mistypes", "monitoring"],
        ["checks", "builds", "names"],
        [],
        [],
    ],
    # Under other web servers.
    "servers": [
        ["phones", "slow"],
        ["objects", "checks"],
        ["pages", "mistypes"],
        ["downloader", "flash"],
        ["checks", "silence"],
        ["logins", "mistypes", "pages"],
        ["slow", "phones", "objects"],
        ["monitoring", "ports", "discovery"],
        ["outage", "builds"],
        ["mirror", "checks", "video"],
        ["update", "stub", "objects"],
        ["rollout", "resolver", "pages"],
        ["phones", "logins"],
        ["slow", "ports"],
        ["flash", "things"],
        ["checks", "mistypes", "slow"],
        ["broker", "objects"],
        ["backups", "phones"],
        [],
        [],
    ],
    # Talk of protocols that the others have little of.
    "chatter": [
        ["lookups"],
        ["tables"],
        ["datagrams"],
        ["programs"],
        ["collector"],
        ["mail"],
        ["boot", "admin"],
        ["lookups", "pages"],
        ["tables", "monitoring"],
        ["datagrams", "video"],
        ["programs", "logins"],
        ["collector", "lookups"],
        ["mail", "mistypes"],
        ["admin", "lookups", "tables"],
        ["boot", "datagrams"],
        ["lookups", "stub"],
        ["lookups", "datagrams", "pages"],
        ["tables", "collector"],
        ["mail", "programs"],
        ["lookups", "mail"],
        ["programs", "mistypes"],
        ["datagrams", "lookups"],
        ["admin", "outage"],
        ["tables", "lookups", "programs"],
    ],
    "unseen": [
        ["logins", "checks"],
        ["mistypes", "backups"],
        ["ports", "resolver"],
        ["routes", "broker"],
        ["downloader", "objects"],
        ["phones", "silence"],
        ["builds", "things"],
        ["checks", "ports", "logins"],
    ],
}
"""Profile to the bursts of each capture; an empty list is everyday traffic alone."""


def mixed(profile: str, seed: int) -> list[Capture]:
    """The profile's mixed benign captures, in the order of MIXES; none where the profile has no list."""
    return [_mixed(profile, seed, index, bursts) for index, bursts in enumerate(MIXES.get(profile, []))]


def _mixed(profile: str, seed: int, index: int, bursts: list[str]) -> Capture:
    start = "m" if profile == "first" else f"{profile}-m"
    name = f"{start}{index:02d}-{'-'.join(bursts[:2]) or 'everyday'}"
    capture, rng = network(name, "first" if profile in IN_FIRST else profile, seed, 0, vary=True)
    if profile == "servers":
        capture = servers.another(capture)
    elif profile == "chatter":
        capture = chatter.prepared(capture, bursts)
    habits = [*capture.habits, *everyday(capture, rng, rng.uniform(0.5, 1.4))]
    for burst in bursts:
        habits += (LOOKALIKES | BURSTS | CHATTER)[burst](capture, rng)
    if profile == "chatter":  # drawn like the others, but counted by itself
        capture = replace(capture, profile=profile)
    return replace(capture, habits=habits, duration_s=rng.uniform(28, 42))
