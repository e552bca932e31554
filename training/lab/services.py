"""The servers' configuration: real daemons in the foreground, everything they need in one work folder, nothing in /etc."""

from __future__ import annotations

import functools
import random
import subprocess
import sys
from pathlib import Path

from training.lab.clients.background import BOOT_FILES
from training.lab.plan import HTTP_DEVICE_PORTS, Capture, Host, Service
from training.lab.web_servers import SOFTWARE

HERE = Path(__file__).parent


def accounts(work: Path, capture: Capture) -> dict[str, str]:
    """Files laid over /etc in the namespaces: the lab's user beside the machine's own, and the lab's DNS server."""
    home = work / "home"
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o777)
    # git serves a repository that belongs to another user only where it is told to.
    (home / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
    digest = _crypt(capture.password)
    user, dns = capture.user, capture.host("infra").address
    passwd = Path("/etc/passwd").read_text() + f"{user}:x:4242:4242:lab:{home}:/bin/sh\n"
    return {
        "passwd": passwd,
        "group": Path("/etc/group").read_text() + f"{user}:x:4242:\n",
        "shadow": Path("/etc/shadow").read_text() + f"{user}:{digest}:19000:0:99999:7:::\n",
        "resolv.conf": f"nameserver {dns}\noptions timeout:1 attempts:1\n",
    }


@functools.cache
def _crypt(password: str) -> str:
    return subprocess.run(["openssl", "passwd", "-6", password], check=True, capture_output=True, text=True).stdout.strip()


def keys(shared: Path) -> None:
    """Make the SSH keys, the TLS certificate and a git repository once for all captures."""
    shared.mkdir(parents=True, exist_ok=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    Path("/run/vsftpd/empty").mkdir(parents=True, exist_ok=True)
    for name in ("host", "client"):
        if not (shared / name).exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(shared / name)], check=True)
    if not (shared / "tls.pem").exists():
        out = ["-keyout", str(shared / "tls.key"), "-out", str(shared / "tls.pem")]
        new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=lab.test", *out]
        subprocess.run(new, check=True, capture_output=True)
    if not (shared / "repo.git").exists():
        tree = "".join(f"M 644 inline f{i}.txt\ndata 600\n{'lab data ' * 66}{i:05d}\n\n" for i in range(40))
        subprocess.run(["git", "init", "-q", "--bare", str(shared / "repo.git")], check=True, capture_output=True)
        commit = f"commit refs/heads/main\ncommitter lab <lab@lab.test> 1700000000 +0000\ndata 5\nfirst\n{tree}"
        subprocess.run(
            ["git", "--git-dir", str(shared / "repo.git"), "fast-import", "--quiet"], input=commit, text=True, check=True
        )


WORDS = "the of lab device sensor page item price stock order name value status house garden light water north south open".split()


def _content(name: str, size: int, rng: random.Random, small: bool) -> bytes:
    if small:
        return ((" ".join(rng.choices(WORDS, k=30)) + "\n").encode() * (size // 100 + 1))[:size]
    if name.endswith((".html", ".txt")):
        return " ".join(rng.choices(WORDS, k=size // 5 + 1)).encode()[:size]
    return rng.randbytes(size)


def documents(root: Path, rng: random.Random, small: bool) -> None:
    """The web server's and file server's files: text pages, pictures and updates of random bytes.

    `small`: little and compressible, for the demo set, whose pcaps are kept in the repository.
    """
    scale = 0.15 if small else 1.0
    sizes = {f"p{i}.html": 40 + int(rng.lognormvariate(9, 1.2) * scale) for i in range(20)}
    sizes |= {f"i{i}.jpg": 40 + int(rng.lognormvariate(9.5, 1.4) * scale) for i in range(40)}
    sizes |= {f"s{i}.txt": rng.randint(20, 900) for i in range(30)}
    sizes |= {"update.bin": 90_000 if small else 3_000_000, "big.bin": 6_000_000, "index.html": rng.randint(600, 9000)}
    for folder in (root, root / "admin", root / "files"):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
    for name, size in sizes.items():
        (root / name).write_bytes(_content(name, min(size, 6_000_000), rng, small))
    for name in ("index.html", "status.html", "s0.txt"):
        (root / "admin" / name).write_bytes(rng.randbytes(700))


def commands(host: Host, capture: Capture, work: Path, shared: Path) -> dict[str, list[str]]:
    """Write the configuration of the host's services; returns the command of each, by name."""
    made = {}
    for service in host.services:
        folder = work / f"{host.name}-{service.name}"
        folder.mkdir(parents=True, exist_ok=True)
        made[service.name] = MAKERS[service.name](host, service, capture, folder, shared)
    return made


def _write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def _http(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    root = work / "www"
    documents(root, random.Random(f"{capture.name}/www"), capture.profile == "demo")
    _write(work / "htpasswd", f"{capture.user}:{_crypt(capture.password)}\n")
    software = SOFTWARE[service.options.get("software", "nginx")]
    return software(work, root, shared, service.port, service.options)


def _app(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    return [sys.executable, "-E", str(HERE / "devices.py"), "127.0.0.1", str(service.port), ""]


def _coap(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    return ["coap-server-notls", "-d", "100"]


def _devices(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    ports: list[int] = service.options["ports"]
    pages = ",".join(str(port) for port in ports if port in HTTP_DEVICE_PORTS)
    others = ",".join(str(port) for port in ports if port not in HTTP_DEVICE_PORTS)
    return [sys.executable, "-E", str(HERE / "devices.py"), "", pages, others]


def _ssh(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    text = f"""Port {service.port}
HostKey {shared}/host
AuthorizedKeysFile {shared}/client.pub
StrictModes no
UsePAM {service.options.get("pam", "no")}
PasswordAuthentication yes
MaxAuthTries {service.options.get("tries", 6)}
MaxStartups 60:30:100
PidFile {work}/pid
Subsystem sftp internal-sftp
"""
    return ["/usr/sbin/sshd", "-D", "-f", _write(work / "sshd_config", text)]


def _ftp(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    documents(work / "pub", random.Random(f"{capture.name}/ftp"), capture.profile == "demo")
    text = f"""listen=NO
listen_ipv6=YES
listen_port={service.port}
background=NO
anonymous_enable=YES
anon_root={work}/pub
local_enable=YES
local_root={work}/pub
write_enable=YES
seccomp_sandbox=NO
secure_chroot_dir=/run/vsftpd/empty
pam_service_name=vsftpd
delay_failed_login={service.options.get("delay", 1)}
"""
    return ["vsftpd", _write(work / "vsftpd.conf", text)]


def _telnet(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    text = f"{service.port} stream tcp nowait root /usr/sbin/telnetd telnetd\n"
    return ["inetutils-inetd", "-d", "-R", "6000", _write(work / "inetd.conf", text)]


def _mqtt(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    text = f"user root\nlistener {service.port}\nallow_anonymous true\nlog_dest none\n"
    return ["mosquitto", "-c", _write(work / "mosquitto.conf", text)]


def _dns(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    web = capture.host("web").address
    zones = "".join(f"address=/{zone}/{web}\n" for zone in capture.zones)
    if service.options.get("chains"):
        rng = random.Random(f"{capture.name}/dns")
        zones += dns_lines(capture, rng) + f"enable-tftp\ntftp-root={_boot_files(work / 'tftp', rng)}\n"
    text = f"""user=root
group=root
no-resolv
no-hosts
{zones}local=/lab.test/
txt-record=lab.test,"{"v=lab " * 20}"
dhcp-range={host.options["dhcp"]},10m
dhcp-leasefile={work}/leases
pid-file={work}/pid
dns-forward-max=1000
"""
    return ["dnsmasq", "-k", "-C", _write(work / "dnsmasq.conf", text)]


def dns_lines(capture: Capture, rng: random.Random) -> str:
    """Lines for dnsmasq: sixty names in each zone that are other names of fifteen hosts with up to five addresses, as at a CDN."""
    lines = []
    for zone in capture.zones:
        cdn = f"cdn{len(zone)}.{zone}"
        for host in range(15):
            for _ in range(rng.randint(1, 5)):
                six = f"{rng.randint(1, 250)},2001:db8::{rng.randrange(1, 65536):x}"
                lines.append(f"host-record=e{host}.{cdn},198.51.100.{six}")
        lines += [f"cname=w{name}.{zone},e{rng.randrange(15)}.{cdn}" for name in range(60)]
    return "".join(f"{line}\n" for line in lines)


def _boot_files(root: Path, rng: random.Random) -> Path:
    root.mkdir(exist_ok=True)
    root.chmod(0o755)
    for name, size in BOOT_FILES.items():
        (root / name).write_bytes(rng.randbytes(int(size * rng.uniform(0.4, 1.6))))
    return root


def _snmp(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    conf = _write(work / "snmpd.conf", "rocommunity public\nrocommunity6 public\nsysLocation lab\nsysContact lab@lab.test\n")
    return ["snmpd", "-f", "-Lf", "/dev/null", "-C", "-c", conf, "-p", f"{work}/pid", "udp:161,udp6:161"]


def _ntp(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    text = f"local stratum 8\nallow\ncmdport 0\npidfile {work}/pid\nbindcmdaddress /\n"
    return ["chronyd", "-d", "-x", "-u", "root", "-f", _write(work / "chrony.conf", text)]


def _server(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    account = [capture.user, capture.password, str(service.options.get("delay", 0) * 0.3)]
    return [sys.executable, "-E", str(HERE / "forms.py"), service.name, str(service.port), *account]


def _dovecot(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    (work / "users").write_text(f"{capture.user}:{{PLAIN}}{capture.password}\n")
    text = f"""base_dir = {work}/run
log_path = {work}/log
protocols = {service.name}
listen = *, ::
ssl = no
disable_plaintext_auth = no
auth_failure_delay = {service.options.get("delay", 2)} s
passdb {{
  driver = passwd-file
  args = {work}/users
}}
userdb {{
  driver = static
  args = uid=4242 gid=4242 home={work}/home/%u
}}
mail_location = maildir:{work}/home/%u
service {service.name}-login {{
  inet_listener {service.name} {{
    port = {service.port}
  }}
  inet_listener {service.name}s {{
    port = 0
  }}
}}
"""
    (work / "home").mkdir(exist_ok=True)
    (work / "home").chmod(0o777)
    (work / "dovecot.conf").write_text(text)
    return ["dovecot", "-F", "-c", str(work / "dovecot.conf")]


def _redis(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    listen = ["--bind", "*", "-::*", "--port", str(service.port), "--requirepass", capture.password]
    return ["redis-server", *listen, "--save", "", "--dir", str(work)]


def _dropbear(host: Host, service: Service, capture: Capture, work: Path, shared: Path) -> list[str]:
    key = work / "key"
    subprocess.run(["dropbearkey", "-t", "ed25519", "-f", str(key)], check=True, capture_output=True)
    return ["dropbear", "-F", "-E", "-p", str(service.port), "-r", str(key), "-P", str(work / "pid")]


MAKERS = {
    "http": _http,
    "app": _app,
    "devices": _devices,
    "coap": _coap,
    "ssh": _ssh,
    "ftp": _ftp,
    "telnet": _telnet,
    "mqtt": _mqtt,
    "dns": _dns,
    "snmp": _snmp,
    "ntp": _ntp,
    "forms": _server,
    "smtp": _server,
    "imap": _dovecot,
    "pop3": _dovecot,
    "redis": _redis,
    "dropbear": _dropbear,
}
