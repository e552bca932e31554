"""All captures of a profile, by name: which modes, which benign mix and which bursts; everything drawn from the seed."""

from __future__ import annotations

import random
from dataclasses import replace

from training.lab import breadth, disguise, exhaustion, floods, guessing, logins, more_floods, more_scans, pace, scans, servers, unseen_floods, unseen_scans
from training.lab.attacks import MODES, attack
from training.lab.habits import BURSTS, everyday, lighter
from training.lab.plan import Capture, network
from training.lab.profiles import IN_FIRST

MODES_FROM = (
    scans,
    floods,
    exhaustion,
    guessing,
    more_floods,
    more_scans,
    unseen_floods,
    unseen_scans,
    pace,
    disguise,
    breadth,
    servers,
)
"""Modules whose import enters their modes into MODES."""

BENIGN = {
    "first": [
        ["startup", "names"],
        ["discovery", "pings"],
        ["monitoring", "update"],
        ["names", "pages"],
        ["rollout", "outage"],
        ["mirror", "video"],
        ["flash", "slow"],
        ["slow", "startup"],
        ["outage", "discovery"],
        ["pings", "video", "monitoring"],
        ["pages", "flash", "update"],
        ["video", "video", "rollout"],
        ["startup", "monitoring", "discovery", "names"],
        [],
        ["flash", "names"],
        ["monitoring", "rollout"],
        ["discovery", "outage", "startup"],
        ["slow", "pages"],
    ],
    "demo": [["startup", "discovery", "names"], ["monitoring", "rollout", "pings"], ["flash", "slow", "outage", "video"]],
    "unseen": [
        [],
        ["update", "video"],
        ["names", "rollout"],
        ["discovery", "monitoring", "pings"],
        ["flash", "outage"],
        ["slow", "mirror"],
        ["pages", "startup"],
        ["video", "names", "monitoring"],
        ["outage", "rollout", "discovery"],
        ["mirror", "flash", "pings"],
        ["startup", "slow", "update"],
        ["pages", "video", "outage", "names"],
    ],
    "evade": [],
    "harden": [],
    "breadth": [],
    "servers": [],
    "chatter": [],
}

TWICE = (
    *(
        "os_nmap_ports",
        "os_nmap_sweep",
        "vuln_nmap",
        "vuln_dirb",
        "vuln_nmap_http",
        "vuln_sqlmap",
        "icmp_hping",
        "icmp_hping_spoofed",
    ),
    *("syn_hping", "syn_hping_spoofed", "udp_hping", "dns_perf", "dns_dig", "slow_headers", "slow_plain"),
    *("dict_hydra_ssh", "dict_hydra_ftp", "dict_hydra_http", "dict_ncrack_ssh", "dict_medusa_ftp", "dict_hydra_telnet"),
    *("dict_hydra_fast", "os_nmap_two", "os_hping", "os_nmap_guess", "vuln_nmap_all", "vuln_whatweb"),
)
"""Modes that the training profile records a second time, with other parameters; so it does all newer ones of guessing."""

SECOND = {
    "port_syn": "dict_hydra_ssh",
    "port_sweep": "syn_hping",
    "os_nmap_guess": "vuln_whatweb",
    "vuln_dirb": "slow_body",
    "icmp_nping": "udp_nping",
    "dns_dig": "port_connect",
    "dict_medusa_ftp": "port_slow",
    "udp_hping_ports": "os_nmap_ports",
}
"""Second attack of a training capture, after the first."""

DEMO = [
    *("os_nmap_ports", "os_nping", "vuln_gobuster", "vuln_nmap_safe", "port_pnscan", "port_zmap", "icmp_fping", "icmp_t50"),
    *("syn_hping", "syn_trafgen", "udp_hping", "udp_t50", "dns_resperf", "dns_perf_any", "slow_read", "slow_headers_tls"),
    *("dict_patator_ftp", "dict_nmap_ssh"),
]

TURNS = {"breadth": 2, "servers": 3}
"""How often a profile records each of its modes, each time with other parameters."""

TEST_ONLY = ("decoys_neighbours",)
"""Evasions that `harden` leaves out: forged packets of hosts that also send benign ones would be trained on as benign."""


def captures(profile: str, seed: int) -> list[Capture]:
    """Every capture of the profile, in the order in which they are recorded: classes take turns, so that few are soon of all."""
    benign = [_benign(profile, seed, index, bursts) for index, bursts in enumerate(BENIGN[profile])]
    if profile == "demo":
        attacks = [_attacked(profile, seed, name, "", 0) for name in DEMO]
    elif profile == "first":
        twice = [
            *TWICE,
            *(name for name, mode in MODES.items() if mode.of("first") and mode.varied and mode.label == guessing.LABEL),
        ]
        names = [(name, 0) for name, mode in MODES.items() if mode.of("first")] + [(name, 1) for name in twice]
        attacks = [_attacked(profile, seed, name, SECOND.get(name, "") if not again else "", again) for name, again in names]
    else:
        drawn_from = "evade" if profile == "harden" else profile
        names_once = [name for name, mode in MODES.items() if mode.of(drawn_from)]
        left_out = TEST_ONLY if profile == "harden" else ()
        turns = range(TURNS.get(profile, 1))
        attacks = [_attacked(profile, seed, name, "", again) for again in turns for name in names_once if name not in left_out]
    return _take_turns([*benign, *attacks])


def _take_turns(found: list[Capture]) -> list[Capture]:
    """One of every class, then the next of every class, and so on."""
    piles: dict[str, list[Capture]] = {}
    for capture in found:
        piles.setdefault(capture.attacks[0].label if capture.attacks else "Benign", []).append(capture)
    turns = max((len(pile) for pile in piles.values()), default=0)
    return [pile[turn] for turn in range(turns) for pile in piles.values() if turn < len(pile)]


def _benign(profile: str, seed: int, index: int, bursts: list[str]) -> Capture:
    name = f"{'b' if profile == 'first' else f'{profile}-b'}{index:02d}-{'-'.join(bursts[:2]) or 'everyday'}"
    capture, rng = network(name, profile, seed, 16 if profile == "demo" else random.Random(f"{seed}{name}").uniform(28, 38))
    habits = everyday(capture, rng, 0.4 if profile == "demo" else rng.uniform(0.6, 1.6))
    for burst in bursts:
        habits += BURSTS[burst](capture, rng)
    return replace(capture, habits=lighter(capture, habits), max_packets=6000 if profile == "demo" else 30000)


def _name(profile: str, mode: str, again: int) -> str:
    """Name of an attack capture; that of an evasion tells its kind and its number within the kind."""
    if profile in ("evade", "harden"):
        kind = mode.split("_", maxsplit=1)[0]
        return f"{profile}-{kind}-{[name for name in MODES if name.startswith(f'{kind}_')].index(mode) + 1}"
    return f"{'' if profile == 'first' else f'{profile}-'}{mode.replace('_', '-')}{f'-{again + 1}' if again else ''}"


def _attacked(profile: str, seed: int, mode: str, second: str, again: int) -> Capture:
    name, plan = _name(profile, mode, again), "first" if profile in IN_FIRST else profile
    demo, needs_six = profile == "demo", MODES[mode].six
    attackers = 4 if mode.endswith("_many") else 1
    vary = True if MODES[mode].varied or profile in IN_FIRST else None
    # The network is drawn anew under another seed until it has what the mode needs.
    for attempt in range(50):
        capture, rng = network(name, plan, seed + 1000 * attempt, 14 if demo else 20, attackers, vary)
        if not needs_six or capture.host("att").address6:
            break
    capture = logins.added(replace(capture, profile=profile), MODES[mode].needs)
    if profile == "servers":
        capture = servers.another(capture)
    first, words = attack(mode, capture, rng, rng.uniform(2, 4) if demo else rng.uniform(4, 9))
    runs = [first]
    if second:
        after, more = attack(second, capture, rng, first.at + first.limit_s + rng.uniform(1, 3))
        runs.append(after)
        words |= {f"b-{key}": lines for key, lines in more.items()}
        runs[-1] = replace(after, command=_renamed(after.command, more))
    habits = everyday(capture, rng, 0.3 if demo else rng.uniform(0.5, 1.5))
    if rng.random() < (0.2 if demo else 0.5):
        habits += BURSTS[rng.choice(sorted(BURSTS))](capture, rng)
    return replace(
        capture,
        habits=[*capture.habits, *lighter(capture, habits)],
        attacks=runs,
        words=words,
        max_packets=8000 if demo else 30000,
    )


def _renamed(command: str, words: dict[str, list[str]]) -> str:
    for key in words:
        command = command.replace(f"{{work}}/{key}", f"{{work}}/b-{key}")
    return command
