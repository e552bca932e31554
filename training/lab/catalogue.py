"""All captures of a profile, by name: which modes, which benign mix and which bursts; everything drawn from the seed."""

import random
from dataclasses import replace

from training.lab.attacks import attack, modes
from training.lab.benign import burst, everyday, life, lighter, with_login_services
from training.lab.plan import Capture, network, with_busy_resolver, with_unlimited_errors, with_web_server
from training.lab.table import Mode, Profile, profiles

LONG_S = 1500
"""Seconds of a long benign capture."""


def captures(profile: str, seed: int) -> list[Capture]:
    """Every capture of the profile, in the order in which they are recorded: classes take turns, so that few are soon of all.

    Raises:
        TableError: the tables have a mistake.
    """
    table, every = profiles()[profile], modes()
    plain = [_benign(profile, seed, index, bursts) for index, bursts in enumerate(table.benign)]
    mine = [mode for mode in every.values() if profile in mode.profiles]
    turns = [(mode, turn) for turn in range(table.turns) for mode in mine] + [(every[name], 1) for name in table.again]
    piles = {"Benign": plain, **{label: [] for label in table.classes}}
    for mode, turn in turns:
        piles[mode.label].append(_attacked(profile, seed, mode, turn))
    most = max(map(len, piles.values()))
    ordered = [pile[turn] for turn in range(most) for pile in piles.values() if turn < len(pile)]
    long = [_mixed(profile, seed, index, bursts, long=True) for index, bursts in enumerate(table.long)]
    return ordered + [_mixed(profile, seed, index, bursts) for index, bursts in enumerate(table.mixed)] + long


def _named(profile: str, name: str) -> str:
    return name if profile == "first" else f"{profile}-{name}"


def _benign(profile: str, seed: int, index: int, bursts: list[str]) -> Capture:
    table, name = profiles()[profile], _named(profile, f"b{index:02d}-{'-'.join(bursts[:2]) or 'everyday'}")
    seconds = 16 if table.small else random.Random(f"{seed}{name}").uniform(28, 38)
    capture, rng = network(name, table.network, seed, seconds, vary=table.links)
    habits = everyday(capture, rng, 0.4 if table.small else rng.uniform(0.6, 1.6))
    for which in bursts:
        habits += burst(which, capture, rng)
    return replace(capture, habits=lighter(habits) if table.small else habits, max_packets=6000 if table.small else 30000)


def _served(capture: Capture, table: Profile) -> Capture:
    """The capture with what the profile says of its servers and hosts."""
    if table.web_server:
        capture = with_web_server(capture, table.web_server)
    return with_unlimited_errors(capture) if table.unlimited_errors else capture


def _mixed(profile: str, seed: int, index: int, bursts: list[str], long: bool = False) -> Capture:
    """A benign capture with links, recorded after all others; a long one has the everyday traffic of a short one."""
    table, name = profiles()[profile], _named(profile, f"{'l' if long else 'm'}{index:02d}-{'-'.join(bursts[:2]) or 'everyday'}")
    capture, rng = network(name, table.network, seed, 0, vary=True)
    capture = _served(capture, table)
    if table.busy_resolver:
        capture = with_busy_resolver(capture)
    needs = dict.fromkeys(need for which in bursts for need in life().bursts[which].needs)
    thin = 45 / LONG_S if long else 1.0
    capture = with_login_services(capture, list(needs), thin, table.stale_s)
    habits = [*capture.habits, *everyday(capture, rng, thin * rng.uniform(0.5, 1.4))]
    for which in bursts:
        habits += burst(which, capture, rng)
    capture = replace(capture, profile=table.mixed_profile or profile, habits=habits)
    return replace(capture, duration_s=LONG_S, max_packets=60000) if long else replace(capture, duration_s=rng.uniform(28, 42))


def _attacked(profile: str, seed: int, mode: Mode, turn: int) -> Capture:
    table, small = profiles()[profile], profiles()[profile].small
    name = _named(profile, mode.name + (f"-{turn + 1}" if turn else ""))
    # The network is drawn anew under another seed until it has what the mode needs.
    for attempt in range(50):
        capture, rng = network(
            name, table.network, seed + 1000 * attempt, 14 if small else 20, table.links or mode.varied, mode.attackers
        )
        if not mode.six or capture.host("att").address6:
            break
    # A capture of minutes has the everyday traffic of a short one, spread over its time.
    thin = min(1.0, 45 / mode.limit)
    capture = with_login_services(replace(capture, profile=profile), mode.needs, thin, table.stale_s)
    capture = _served(capture, table)
    first, words = attack(mode, capture, rng, rng.uniform(2, 4) if small else rng.uniform(4, 9))
    runs = [first]
    if mode.then and not turn:
        after, more = attack(modes()[mode.then], capture, rng, first.at + first.limit_s + rng.uniform(1, 3))
        command = after.command
        for key in more:
            command = command.replace(f"{{work}}/{key}", f"{{work}}/b-{key}")
        runs.append(replace(after, command=command))
        words |= {f"b-{key}": lines for key, lines in more.items()}
    habits = everyday(capture, rng, thin * (0.3 if small else rng.uniform(0.5, 1.5)))
    if thin == 1 and rng.random() < (0.2 if small else 0.5):
        habits += burst(rng.choice(life().everyday.beside_attacks), capture, rng)
    return replace(
        capture,
        habits=[*capture.habits, *(lighter(habits) if small else habits)],
        attacks=runs,
        words=words,
        max_packets=8000 if small else 30000 if thin == 1 else 60000,
    )
