"""The modes of the three reconnaissance classes: operating system, vulnerability and port scans."""

# ruff: noqa: E501 - a command stands on one line, as one types it

from __future__ import annotations

from training.lab.attacks import Field, Run, mode
from training.lab.habits import port

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
    hosts = [*f.rng.sample(f.devices(), 4), f.at("web"), f.at("files")]
    return (
        "nmap -O sweep",
        f"nmap -n -O --osscan-limit -p 22,80,443,1883,{f.rng.randint(2000, 9000)} -T4 {' '.join(hosts)}",
        hosts,
        25,
    )


@mode("OS Scan", six=True)
def os_nmap_six(f: Field) -> Run:
    host = f.server
    v = f.at(host, True)
    return "nmap -6 -O", f"nmap -6 -n -Pn -O -p {_few_ports(f, host)} {v}", [v], 20


@mode("OS Scan")
def os_nmap_two(f: Field) -> Run:
    hosts = [f.at("web"), f.at("infra"), f.at("files")]
    return (
        "nmap -O --top-ports",
        f"nmap -n -O --top-ports {f.rng.choice([10, 30])} --max-rate {f.rng.choice([60, 200])} {' '.join(hosts)}",
        hosts,
        25,
    )


@mode("OS Scan")
def os_hping(f: Field) -> Run:
    """The probes by which a stack is told from others, sent by hand: odd flags, ICMP timestamp and mask, a closed UDP port."""
    v, opened, closed = f.at("web"), port(f.capture, "web", "http"), f.rng.randint(30000, 60000)
    probes = [f"-S -p {opened} --tcp-timestamp", f"-p {opened}", f"-S -F -U -P -p {opened}", f"-A -p {opened}", f"-S -p {closed}"]
    probes += [
        f"-A -p {closed}",
        f"-F -P -U -p {closed}",
        f"-2 -p {closed} -d 300",
        "-1 -C 13",
        "-1 -C 17",
        "-1 -C 8 -d 120",
        f"-S -X -Y -p {opened}",
    ]
    runs = "; ".join(
        f"timeout 2 hping3 -q -c {f.rng.randint(2, 4)} -i u{f.rng.choice([50000, 100000])} {probe} {v}" for probe in probes
    )
    return "hping3 stack probes", runs, [v], 25


@mode("OS Scan")
def os_nmap_slow(f: Field) -> Run:
    host = f.server
    return (
        "nmap -O -sT",
        f"nmap -n -Pn -sT -O --scan-delay {f.rng.choice([20, 60])}ms -p {_few_ports(f, host)} {f.at(host)}",
        [f.at(host)],
        22,
    )


@mode("OS Scan", "demo")
def os_nping(f: Field) -> Run:
    v, opened, closed = f.at("files"), f.ports("files")[0], f.rng.randint(30000, 60000)
    flags = ["syn,ece,cwr", "none", "syn,fin,urg,psh", "ack", "fin,psh,urg"]
    runs = [
        f"nping -q -c 3 --rate 8 --tcp -p {opened},{closed} --flags {flag} --win {f.rng.choice([1, 63, 4, 512])} {v}"
        for flag in flags
    ]
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
    v = f.at("web")
    return "nmap -A", f"nmap -n -Pn -A -p {port(f.capture, 'web', 'http')},443,{f.rng.randint(2000, 9000)} {v}", [v], 25


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
    return (
        "gobuster dir",
        f"gobuster dir -q -z -t {f.rng.choice([3, 6])} --delay 20ms -u {f.web()}/ -w {f.paths(350)}",
        [f.at("web")],
        9,
    )


@mode("Vulnerability Scan", "demo")
def vuln_nmap_safe(f: Field) -> Run:
    hosts = [f.at("files"), f.at("web")]
    scripts = (
        "ssh2-enum-algos,ssh-auth-methods,ssl-enum-ciphers,ssl-heartbleed,ftp-anon,ftp-syst,http-title,http-vuln-cve2017-5638"
    )
    return (
        "nmap --script ssl,ssh,ftp",
        f"nmap -n -Pn --script {scripts} -p {','.join(map(str, {*f.ports('files'), *f.ports('web'), 443}))} {' '.join(hosts)}",
        hosts,
        22,
    )


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
    return (
        "nmap -sU",
        f"nmap -n -Pn -sU --top-ports {f.rng.randint(60, 200)} --max-retries 1 --min-rate {f.rng.choice([20, 60])} {v}",
        [v],
        14,
    )


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
    return (
        "nmap -sS sweep",
        f"nmap -n -sS -p {f.rng.choice(['22', '23,80', '443,8080,1883'])} --max-retries 1 -T4 {f.range()}",
        [f.range()],
        16,
    )


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
