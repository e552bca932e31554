"""The servers: accounts, keys, content, and the settings and commands of tables/services.yaml, all in one work folder."""

import functools
import random
import subprocess
import sys
from pathlib import Path

from training.lab.clients.background import BOOT_FILES
from training.lab.expressions import render
from training.lab.plan import HTTP_DEVICE_PORTS, Capture, Host, Service
from training.lab.table import profiles, services

HERE = Path(__file__).parent


def accounts(work: Path, capture: Capture) -> dict[str, str]:
    """Files laid over /etc in the namespaces: the lab's user beside the machine's own, and the lab's DNS server."""
    home = work / "home"
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o777)
    # git serves a repository that belongs to another user only where its configuration allows it.
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
    return _run("openssl", "passwd", "-6", password).decode().strip()


def keys(shared: Path) -> None:
    """Make the SSH keys, the TLS certificate and a git repository once for all captures."""
    shared.mkdir(parents=True, exist_ok=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    Path("/run/vsftpd/empty").mkdir(parents=True, exist_ok=True)
    for name in ("host", "client"):
        if not (shared / name).exists():
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", shared / name)
    if not (shared / "tls.pem").exists():
        out = ("-keyout", shared / "tls.key", "-out", shared / "tls.pem")
        _run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=lab.test", *out)
    if not (shared / "repo.git").exists():
        tree = "".join(f"M 644 inline f{i}.txt\ndata 600\n{'lab data ' * 66}{i:05d}\n\n" for i in range(40))
        _run("git", "init", "-q", "--bare", shared / "repo.git")
        commit = f"commit refs/heads/main\ncommitter lab <lab@lab.test> 1700000000 +0000\ndata 5\nfirst\n{tree}"
        _run("git", "--git-dir", shared / "repo.git", "fast-import", "--quiet", said=commit)


WORDS = [
    *("the", "of", "lab", "device", "sensor", "page", "item", "price", "stock", "order"),
    *("name", "value", "status", "house", "garden", "light", "water", "north", "south", "open"),
]


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
    """Write the settings of the host's services (tables/services.yaml); returns the command of each, by name."""
    made = {}
    for service in host.services:
        folder = work / f"{host.name}-{service.name}"
        folder.mkdir(parents=True, exist_ok=True)
        kind = service.options.get("software", "nginx") if service.name == "http" else service.name
        program, settings = services()[kind], folder / f"{kind}.conf"
        names = {"service": service, "host": host, "capture": capture, "folder": folder, "root": folder / "www"}
        names |= {"shared": shared, "here": HERE, "python": sys.executable, "settings": settings}
        names |= _prepared(service, capture, folder)
        if program.config:
            settings.write_text(render(program.config, names) + "\n")
        made[service.name] = [render(word, names) for word in program.command.split()]
    return made


def _prepared(service: Service, capture: Capture, folder: Path) -> dict[str, str]:
    """What has to be in a service's folder before it starts; returns more names for its texts."""
    if service.name in ("http", "ftp", "ftps", "smb"):
        documents(folder / "www", random.Random(f"{capture.name}/{service.name}"), profiles()[capture.profile].small)
        (folder / "htpasswd").write_text(f"{capture.user}:{_crypt(capture.password)}\n")
        if service.name == "smb":
            line = f"{capture.user}:4242:{'X' * 32}:{_nt_hash(capture.password)}:[U          ]:LCT-65000000:\n"
            (folder / "smbpasswd").write_text(line)
    elif service.name in ("imap", "imaps", "pop3", "ldap"):
        (folder / "users").write_text(f"{capture.user}:{{PLAIN}}{capture.password}\n")
        (folder / "home").mkdir(exist_ok=True)
        (folder / "home").chmod(0o777)
    elif service.name == "mysql":
        made = ("--skip-test-db", "--auth-root-authentication-method=normal")
        _run("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={folder}/data", *made)
    elif service.name == "pgsql":
        return _postgres(service, capture, folder)
    elif service.name == "broker":
        _run("mosquitto_passwd", "-b", "-c", folder / "users", capture.user, capture.password)
    elif service.name == "vnc":
        (folder / "users").write_bytes(_run("tigervncpasswd", "-f", said=capture.password))
    elif service.name == "rdp":
        (folder / "sam").write_text(f"{capture.user}:::{_nt_hash(capture.password)}:::\n")
    elif service.name == "dropbear":
        _run("dropbearkey", "-t", "ed25519", "-f", folder / "key")
    elif service.name == "devices":
        ports: list[int] = service.options["ports"]
        pages = ",".join(str(port) for port in ports if port in HTTP_DEVICE_PORTS)
        return {"pages": pages, "others": ",".join(str(port) for port in ports if port not in HTTP_DEVICE_PORTS)}
    elif service.name == "dns":
        rng = random.Random(f"{capture.name}/dns")
        return {"chains": dns_lines(capture, folder / "tftp", rng) if service.options.get("chains") else ""}
    return {}


def _run(*argv: object, said: str = "", coding: str = "utf-8") -> bytes:
    return subprocess.run([str(word) for word in argv], input=said.encode(coding), check=True, capture_output=True).stdout


def _nt_hash(password: str) -> str:
    """MD4 of the password in UTF-16, as SMB and RDP keep it; Python's hashlib has no MD4 any more."""
    asked = ("openssl", "dgst", "-md4", "-provider", "legacy", "-provider", "default", "-r")
    return _run(*asked, said=password, coding="utf-16-le").split()[0].decode().upper()


def _postgres(service: Service, capture: Capture, folder: Path) -> dict[str, str]:
    """A new cluster with the lab's account; the server refuses to run as root."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"))
    nobody = ("setpriv", "--reuid=nobody", "--clear-groups")
    folder.chmod(0o777)
    _run(*nobody, binaries / "initdb", "--no-sync", "-A", "trust", "-U", "postgres", "-D", folder / "data")
    kind = "md5" if service.options.get("delay") else "scram-sha-256"
    role = f"SET password_encryption = '{kind}'\nCREATE ROLE {capture.user} LOGIN PASSWORD '{capture.password}'\n"
    _run(*nobody, binaries / "postgres", "--single", "-D", folder / "data", "postgres", said=role)
    (folder / "hba").write_text(f"host all all all {kind}\n")
    return {"postgres": str(binaries)}


def dns_lines(capture: Capture, root: Path, rng: random.Random) -> str:
    """Lines for dnsmasq: boot files in `root`, which are made, and sixty names in each zone that are other names of fifteen hosts
    with up to five addresses, as at a CDN."""
    lines = []
    for zone in capture.zones:
        cdn = f"cdn{len(zone)}.{zone}"
        for host in range(15):
            for _ in range(rng.randint(1, 5)):
                lines.append(f"host-record=e{host}.{cdn},198.51.100.{rng.randint(1, 250)},2001:db8::{rng.randrange(1, 65536):x}")
        lines += [f"cname=w{name}.{zone},e{rng.randrange(15)}.{cdn}" for name in range(60)]
    root.mkdir(exist_ok=True)
    root.chmod(0o755)
    for name, size in BOOT_FILES.items():
        (root / name).write_bytes(rng.randbytes(int(size * rng.uniform(0.4, 1.6))))
    return "\n".join([*lines, "enable-tftp", f"tftp-root={root}"])
