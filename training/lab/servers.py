"""Other web servers, attacked and scanned as people's guides say: the profile `servers`, for training.

In `first` and `breadth` every web server is nginx, which waits a minute for a request; slow attacks open some dozens of connections
a second, and scans are told not to look whether the host is there (`-Pn`). Here servers give up sooner, and say so or not; slow attacks
open hundreds of connections at once and send every few seconds, as the tools' own examples do; and nmap begins as it does by default:
echo, SYN, ACK and timestamp request, and the victim's name.
"""

# ruff: noqa: E501 - a command stands on one line, as one types it

from __future__ import annotations

import random
from dataclasses import replace

from training.lab.attacks import Field, Run, mode
from training.lab.plan import Capture


def another(capture: Capture) -> Capture:
    """The capture with a web server drawn from its seed and name: any of three programs, more or less patient."""
    rng = random.Random(f"{capture.seed}/{capture.profile}/{capture.name}/servers")
    software = rng.choice(["apache", "apache", "lighttpd", "nginx"])
    drawn = {"software": software, "patience": rng.choice([3, 5, 8, 12, 20]), "connections": rng.choice([128, 256, 512, 1024])}
    hosts = []
    for host in capture.hosts:
        services = [replace(s, options=s.options | drawn) if s.name == "http" else s for s in host.services]
        hosts.append(replace(host, services=services))
    return replace(capture, hosts=hosts)


# Denial of service: slow HTTP


def _slow(f: Field, way: str, path: str) -> str:
    pace = f"-r {f.rng.choice([50, 100, 200, 400])} -i {f.rng.choice([2, 5, 10])} -x {f.rng.choice([10, 24, 32])}"
    verb = f.rng.choice(["", "-t GET ", "-t HEAD ", "-t POST ", "-t FAKE "])
    return f"slowhttptest {way} -c {f.rng.choice([200, 500, 1000])} {pace} {verb}-l 20 -u {f.web()}{path} -p {f.rng.choice([2, 3, 5])}"


@mode("Slowloris", "servers", varied=True)
def slow_burst_headers(f: Field) -> Run:
    return "slowhttptest -H, all at once", _slow(f, "-H", "/"), [f.at("web")], 24


@mode("Slowloris", "servers", varied=True)
def slow_burst_page(f: Field) -> Run:
    return (
        "slowhttptest -H, a page",
        _slow(f, "-H", f"/{f.rng.choice(['index.html', 'p1.html', 'app/', 'none?q=1'])}"),
        [f.at("web")],
        24,
    )


@mode("Slowloris", "servers", varied=True)
def slow_burst_body(f: Field) -> Run:
    return "slowhttptest -B, all at once", f"{_slow(f, '-B', '/app/upload')} -s {f.rng.choice([4096, 8192])}", [f.at("web")], 24


@mode("Slowloris", "servers", varied=True)
def slow_burst_plain(f: Field) -> Run:
    command = f"python3 -E {{here}}/slowloris.py {f.at('web')} {f.web_port} --sockets {f.rng.randint(150, 700)} --pause {f.rng.choice([3, 5, 8])} --seconds 20"
    return "slowloris.py, all at once", command, [f.at("web")], 24


@mode("Slowloris", "servers", varied=True)
def slow_burst_few(f: Field) -> Run:
    command = f"slowhttptest -H -c {f.rng.choice([50, 80, 120])} -r {f.rng.choice([10, 50])} -i {f.rng.choice([3, 6])} -l 20 -u {f.web()}/ -p 3"
    return "slowhttptest -H, few", command, [f.at("web")], 24


# Reconnaissance: one service, and first whether the host is there


def _found(f: Field) -> str:
    # Without --disable-arp-ping a host on the same network is found by ARP alone. The name server refuses, so a name takes 13 s.
    names = f"--dns-servers {f.at('infra')}" if f.rng.random() < 0.7 else "-n"
    return f"nmap --disable-arp-ping {names} -T{f.rng.choice([3, 3, 4])}"


@mode("Vulnerability Scan", "servers", varied=True)
def vuln_found_all(f: Field) -> Run:
    return "nmap -A, found first", f"{_found(f)} -A --script-timeout 12s -p {f.web_port} {f.at('web')}", [f.at("web")], 34


@mode("Vulnerability Scan", "servers", varied=True)
def vuln_found_version(f: Field) -> Run:
    intensity = f.rng.choice(["", "", "--version-light", "--version-all"])
    return "nmap -sV, found first", f"{_found(f)} -sV {intensity} -p {f.web_port} {f.at('web')}", [f.at("web")], 34


@mode("Vulnerability Scan", "servers", varied=True)
def vuln_found_scripts(f: Field) -> Run:
    return (
        "nmap -sC, found first",
        f"{_found(f)} {f.rng.choice(['-sC', '-sC -sV', '--script http-title,http-headers,http-methods,http-server-header'])} --script-timeout 10s -p {f.rng.choice([f.web_port, 443])} {f.at('web')}",
        [f.at("web")],
        34,
    )


@mode("Vulnerability Scan", "servers", varied=True)
def vuln_found_both(f: Field) -> Run:
    return (
        "nmap -sV -sC, web ports",
        f"{_found(f)} -sV {f.rng.choice(['', '-sC', '-O'])} --script-timeout 10s -p {f.web_port},443{f.rng.choice(['', ',8443', ',22'])} {f.at('web')}",
        [f.at("web")],
        34,
    )


@mode("Vulnerability Scan", "servers", varied=True)
def vuln_found_login(f: Field) -> Run:
    v, number = f.login(f.rng.choice(["ssh", "ftp", "telnet"]))
    return (
        "nmap -A, a login service",
        f"{_found(f)} {f.rng.choice(['-A', '-sV', '-sV -sC'])} --script-timeout 8s -p {number} {v}",
        [v],
        34,
    )
