"""Scans as they look behind a router, scans of one service, floods and guesses on one socket: what the other modes leave out.

On one bridge a packet to an address that nobody has never leaves: the scanner asks for a link address and waits. Behind a router it
does leave, and nobody answers. So these sweeps send to a device that does not forward, for every address that is nobody's, or go
to a network beyond such a device. They are the profile `breadth`, for training.
"""

# ruff: noqa: E501 - a command stands on one line, as one types it

from __future__ import annotations

from training.lab.attacks import Field, Run, mode
from training.lab.guessing import LABEL, own
from training.lab.more_scans import SWEEP
from training.lab.plan import Capture


def _held(capture: Capture) -> set[str]:
    return {address for host in capture.hosts for address in host.plain()}


def _router(f: Field, least: int = 1, most: int = 254) -> tuple[str, str]:
    """(command that gives every free address of the inner network a router's link address, those addresses in nmap's form)."""
    base = f.at("web").rsplit(".", 1)[0]
    free = [f"{base}.{i}" for i in range(least, most + 1) if f"{base}.{i}" not in _held(f.capture)]
    lines = f.list("routes", [f"neigh replace {a} lladdr {f.mac('iot')} dev eth0 nud permanent" for a in free])
    return f"ip -force -batch {lines}", f"{base}.{least}-{most}"


def _beyond(f: Field) -> tuple[str, str]:
    """(command that routes a network nobody has through a server that does not forward, its first three numbers)."""
    base = f"{f.rng.choice([45, 77, 91, 141, 203])}.{f.rng.randrange(1, 250)}.{f.rng.randrange(1, 250)}"
    return f"ip route replace {base}.0/24 via {f.at(f.server)} dev eth0 onlink", base


def _port(f: Field) -> str:
    return str(
        f.rng.choice([21, 22, 23, 25, 80, 81, 445, 554, 1433, 2323, 3306, 3389, 5060, 5555, 6379, 7547, 8000, 8443, 9200, 37215])
    )


# Reconnaissance: sweeps of one port


@mode("Port Scan", "breadth", varied=True)
def port_gate_masscan(f: Field) -> Run:
    command = f"masscan {f.range()} -p{_port(f)} --rate {f.rng.choice([20, 50, 90, 250])} --wait 1 --adapter eth0 --router-mac {f.mac('iot')} --adapter-ip {f.at('att')}"
    return "masscan, one port of a network", command, [f.range()], 14


@mode("Port Scan", "breadth", varied=True)
def port_gate_nmap(f: Field) -> Run:
    gate, hosts = _router(f, most=f.rng.choice([120, 254]))
    return (
        "nmap -sS, one port of a network",
        f"{gate}; nmap -n -Pn -sS --disable-arp-ping -p {_port(f)} --max-retries {f.rng.choice([0, 1])} --max-rate {f.rng.choice([25, 60, 150])} {hosts}",
        [f.range()],
        15,
    )


@mode("Port Scan", "breadth", varied=True)
def port_gate_connect(f: Field) -> Run:
    gate, _ = _router(f)
    base = f.at("web").rsplit(".", 1)[0]
    hosts = ",".join(f"{base}.{i}" for i in f.rng.sample(range(1, 255), f.rng.choice([60, 150])))
    return (
        "sweep.py, one port of a network",
        f"{gate}; {SWEEP} {hosts} {_port(f)} --parallel {f.rng.choice([5, 60])} --gap {f.rng.choice([0, 0.02, 0.06])} --wait {f.rng.choice([0.5, 2])}",
        [f.range()],
        15,
    )


@mode("Port Scan", "breadth", varied=True)
def port_gate_udp(f: Field) -> Run:
    gate, hosts = _router(f, most=f.rng.choice([100, 254]))
    return (
        "nmap -sU, one port of a network",
        f"{gate}; nmap -n -Pn -sU --disable-arp-ping -p {f.rng.choice(['53', '123', '161', '1900', '5060', '5683'])} --max-retries {f.rng.choice([0, 1])} --max-rate {f.rng.choice([25, 80, 200])} {hosts}",
        [f.range()],
        15,
    )


@mode("Port Scan", "breadth", varied=True)
def port_gate_nping(f: Field) -> Run:
    gate, hosts = _router(f, least=f.rng.choice([1, 100]))
    return (
        "nping --tcp, one port of a network",
        f"{gate}; nping -q --tcp --flags {f.rng.choice(['syn', 'syn', 'ack'])} -p {_port(f)} -c 1 --rate {f.rng.choice([25, 60, 120])} {hosts}",
        [f.range()],
        14,
    )


@mode("Port Scan", "breadth", varied=True)
def port_gate_ping(f: Field) -> Run:
    """Which hosts are there: echo requests, or a SYN and an ACK, to all of a network."""
    gate, hosts = _router(f)
    return (
        "nmap -sn, a network",
        f"{gate}; nmap -n -sn --disable-arp-ping {f.rng.choice(['-PE', '-PS443 -PA80', '-PE -PP -PS22', '-PU40125'])} --max-retries 0 --max-rate {f.rng.choice([40, 120])} {hosts}",
        [f.range()],
        14,
    )


@mode("Port Scan", "breadth", varied=True)
def port_beyond_nmap(f: Field) -> Run:
    route, base = _beyond(f)
    return (
        "nmap -sS, a network that is not there",
        f"{route}; nmap -n -Pn -sS -p {_port(f)} --max-retries {f.rng.choice([0, 1])} --max-rate {f.rng.choice([25, 60, 150, 400])} {base}.0/24",
        [f"{base}.0/24"],
        14,
    )


@mode("Port Scan", "breadth", varied=True)
def port_beyond_few(f: Field) -> Run:
    """Three ports each of a few dozen hosts, by whole connections that nobody answers."""
    route, base = _beyond(f)
    hosts = ",".join(f"{base}.{i}" for i in f.rng.sample(range(1, 255), 60))
    return (
        "sweep.py, a network that is not there",
        f"{route}; {SWEEP} {hosts} {f.rng.choice(['22,2222,222', '80,443,8080', '23,2323,5555', '139,445,3389'])} --shuffle --parallel {f.rng.choice([10, 80])} --gap {f.rng.choice([0, 0.02])} --wait 0.8",
        [f"{base}.0/24"],
        15,
    )


# Reconnaissance: one service


def _one(f: Field) -> tuple[str, int]:
    host = f.rng.choice(["web", "web", "web", "files", "files", "infra"])
    tcp = {
        "web": [f.web_port, f.web_port, 443],
        "files": [f.login("ssh")[1], f.login("ftp")[1], f.login("telnet")[1]],
        "infra": [1883, 53],
    }
    return f.at(host), f.rng.choice(tcp[host])


@mode("Vulnerability Scan", "breadth", varied=True)
def vuln_one_all(f: Field) -> Run:
    v, number = _one(f)
    return "nmap -A, one port", f"nmap -n -Pn -A -T{f.rng.choice([3, 4])} -p {number} {v}", [v], 22


@mode("Vulnerability Scan", "breadth", varied=True)
def vuln_one_version(f: Field) -> Run:
    v, number = _one(f)
    again = f.rng.choice([1, 2, 3])
    return (
        "nmap -sV, one port",
        f"for i in $(seq {again}); do nmap -n -Pn -sV --version-{f.rng.choice(['light', 'intensity 5', 'all'])} -p {number} {v}; sleep {f.rng.choice([0, 2])}; done",
        [v],
        22,
    )


@mode("Vulnerability Scan", "breadth", varied=True)
def vuln_one_default(f: Field) -> Run:
    v, number = _one(f)
    return (
        "nmap -sC, one port",
        f"nmap -n -Pn -sC {f.rng.choice(['', '-sV', '-sT'])} --script-timeout 10s -p {number} {v}",
        [v],
        20,
    )


@mode("Vulnerability Scan", "breadth", varied=True)
def vuln_one_safe(f: Field) -> Run:
    return (
        "nmap --script safe, web",
        f"nmap -n -Pn --script '(safe or discovery or version) and http*' --script-timeout 10s --max-parallelism {f.rng.choice([1, 4, 20])} -p {f.rng.choice([f.web_port, 443])} {f.at('web')}",
        [f.at("web")],
        20,
    )


@mode("Vulnerability Scan", "breadth", varied=True)
def vuln_one_slow(f: Field) -> Run:
    v, number = _one(f)
    return (
        "nmap -sV -sC -T2, one port",
        f"nmap -n -Pn -sV -sC -T2 --max-parallelism 1 --script-timeout 10s -p {number} {v}",
        [v],
        24,
    )


@mode("Vulnerability Scan", "breadth", varied=True)
def vuln_one_hosts(f: Field) -> Run:
    hosts = [f.at("web"), *f.rng.sample(f.devices(), 3)]
    return (
        "nmap -sV -sC, one port each",
        f"nmap -n -Pn -sV -sC --script-timeout 8s -p {f.rng.choice([f.web_port, 80, 443])} {' '.join(hosts)}",
        hosts,
        22,
    )


@mode("Vulnerability Scan", "breadth", varied=True)
def vuln_one_tls(f: Field) -> Run:
    scripts = f.rng.choice(["ssl-cert,ssl-enum-ciphers", "ssl-dh-params,ssl-poodle,ssl-ccs-injection,tls-alpn", "'ssl*'"])
    return "nmap --script ssl", f"nmap -n -Pn --script {scripts} --script-timeout 15s -p 443 {f.at('web')}", [f.at("web")], 20


@mode("Vulnerability Scan", "breadth", varied=True)
def vuln_one_login(f: Field) -> Run:
    v, number = f.login(f.rng.choice(["ssh", "ftp", "telnet"]))
    return (
        "nmap --script, one login service",
        f"nmap -n -Pn --script '(safe or discovery) and (ssh* or ftp* or telnet* or banner)' --script-timeout 8s -p {number} {v}",
        [v],
        20,
    )


# One socket


@mode("UDP Flood", "breadth", varied=True)
def udp_one_hping(f: Field) -> Run:
    v, pause = f.at(f.server), f.rng.choice([800, 3000, 9000])
    return (
        "hping3 -2 --keep",
        f"hping3 -q -2 --keep -s {f.rng.randint(1024, 65000)} -p {f.rng.randint(1024, 65000)} -i u{pause} -c {f.count(7, 1e6 / pause)} -d {f.rng.choice([16, 200, 1100])} {v}",
        [v],
        10,
    )


@mode("UDP Flood", "breadth", varied=True)
def udp_one_nping(f: Field) -> Run:
    v, rate = f.at(f.server), f.rng.choice([80, 300, 900])
    return (
        "nping --udp -g",
        f"nping -q -N --udp -g {f.rng.randint(1024, 65000)} -p {f.rng.randint(1, 65000)} --rate {rate} -c {f.count(7, rate)} --data-length {f.rng.choice([0, 30, 1000])} {v}",
        [v],
        10,
    )


@mode(LABEL, "breadth", varied=True)
def dict_own_snmp(f: Field) -> Run:
    """Communities from one socket; only the right one would be answered."""
    words, pace = f.passwords(600), f"--pause {f.rng.choice([0.01, 0.03, 0.1])} --jitter 0.3"
    return (
        "guess.py snmp",
        f"python3 -E {{here}}/tools/guess.py snmp {f.at('infra')} 161 --users {f.list('nobody', ['-'])} --passwords {words} {pace} --seconds 12",
        [f.at("infra")],
        14,
    )


@mode(LABEL, "breadth", varied=True)
def dict_own_basic_fast(f: Field) -> Run:
    """Basic authentication asked for again and again on open connections, many at once."""
    command, victims = own(
        f, "basic", "http", f"--kept --parallel {f.rng.choice([3, 8, 16])} --pause {f.rng.choice([0, 0.02, 0.1])} --seconds 11"
    )
    return "guess.py basic, kept connections", command, victims, 13
